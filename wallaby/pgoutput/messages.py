"""The rare pgoutput messages, read in Python: Truncate, Message, and those we do not negotiate."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from wallaby.errors import DecodeError
from wallaby.lsn import Lsn

TRUNCATE: Final = ord("T")
RELATION: Final = ord("R")
TYPE: Final = ord("Y")
ORIGIN: Final = ord("O")
LOGICAL_MESSAGE: Final = ord("M")

NOT_NEGOTIATED: Final[dict[int, str]] = {
    ord("S"): "Stream Start",
    ord("E"): "Stream Stop",
    ord("c"): "Stream Commit",
    ord("A"): "Stream Abort",
    ord("b"): "Begin Prepare",
    ord("P"): "Prepare",
    ord("K"): "Commit Prepared",
    ord("r"): "Rollback Prepared",
    ord("p"): "Stream Prepare",
}
"""Messages of the options ``streaming`` and ``two_phase``, which we do not ask for."""

_CASCADE: Final = 1
_RESTART_IDENTITY: Final = 2
_TRANSACTIONAL: Final = 1


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What ``pg_logical_emit_message`` wrote. ``lsn`` is where the message itself lies in the WAL."""

    prefix: str
    content: bytes
    lsn: Lsn
    transactional: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    """One TRUNCATE of several tables by relation oid."""

    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


def parse_truncate(body: bytes) -> Truncate:
    """Read a Truncate message after its tag byte; DecodeError when malformed."""
    if len(body) < 5:
        raise DecodeError("a Truncate message is malformed")
    count, options = struct.unpack_from("!IB", body)
    if len(body) != 5 + 4 * count:
        raise DecodeError("a Truncate message is malformed")
    oids = struct.unpack_from(f"!{count}I", body, 5)
    return Truncate(oids, bool(options & _CASCADE), bool(options & _RESTART_IDENTITY))


def parse_logical_message(body: bytes) -> LogicalMessage:
    """Read a Message message after its tag byte; DecodeError when malformed."""
    try:
        flags, lsn = struct.unpack_from("!BQ", body)
        end = body.index(0, 9)
        prefix = body[9:end].decode()
        (size,) = struct.unpack_from("!I", body, end + 1)
    except (struct.error, ValueError) as error:
        raise DecodeError("a logical Message is malformed") from error
    content = body[end + 5 :]
    if len(content) != size:
        raise DecodeError("a logical Message is malformed")
    return LogicalMessage(prefix, content, Lsn(lsn), bool(flags & _TRANSACTIONAL))
