"""Writes pgoutput: messages, XLogData and keepalives, and the frames a `wallaby.pgoutput.decoder.Decoder` is fed.

For tests and simulations that need a stream without a server::

    frames = b"".join([
        frame(xlog(begin(commit_lsn=0x100, xid=7), lsn=0x80)),
        frame(xlog(relation(16400, "public", "t", [("id", 23, -1, True)]), lsn=0x80)),
        frame(xlog(insert(16400, [b"\\0\\0\\0\\1"]), lsn=0x90)),
        frame(xlog(commit(commit_lsn=0x100, end_lsn=0x130), lsn=0x100)),
    ])

Cells: ``bytes`` travel in binary, ``str`` as text, ``None`` is NULL, `UNCHANGED` a TOASTed value not sent again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

MICROSECONDS_1970_TO_2000: Final = 946_684_800_000_000


class Unchanged(Enum):
    """The one value of a cell PostgreSQL did not send."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED

Cell = bytes | str | None | Literal[Unchanged.UNCHANGED]
ColumnSpec = tuple[str, int, int, bool]
"""(name, type oid, typmod, part of the replica identity)."""


def begin(commit_lsn: int, xid: int, committed_at_us: int = MICROSECONDS_1970_TO_2000) -> bytes:
    """A Begin message; times are microseconds since 1970 UTC."""
    return b"B" + struct.pack("!QqI", commit_lsn, committed_at_us - MICROSECONDS_1970_TO_2000, xid)


def commit(commit_lsn: int, end_lsn: int, committed_at_us: int = MICROSECONDS_1970_TO_2000) -> bytes:
    """A Commit message."""
    return b"C\0" + struct.pack("!QQq", commit_lsn, end_lsn, committed_at_us - MICROSECONDS_1970_TO_2000)


def relation(oid: int, schema: str, name: str, columns: Sequence[ColumnSpec], identity: str = "d") -> bytes:
    """A Relation message; ``identity`` as in ``pg_class.relreplident``."""
    described = b"".join(
        bytes([is_identity]) + column.encode() + b"\0" + struct.pack("!Ii", type_oid, typmod)
        for column, type_oid, typmod, is_identity in columns
    )
    names = schema.encode() + b"\0" + name.encode() + b"\0"
    return b"R" + struct.pack("!I", oid) + names + identity.encode() + struct.pack("!H", len(columns)) + described


def insert(oid: int, new: Sequence[Cell]) -> bytes:
    """An Insert message."""
    return b"I" + struct.pack("!I", oid) + b"N" + tuple_data(new)


def update(
    oid: int, new: Sequence[Cell], *, key: Sequence[Cell] | None = None, old: Sequence[Cell] | None = None
) -> bytes:
    """An Update message; ``key`` is a key-only old tuple (other columns None), ``old`` a full one."""
    return b"U" + struct.pack("!I", oid) + _old_tuple(key, old) + b"N" + tuple_data(new)


def delete(oid: int, *, key: Sequence[Cell] | None = None, old: Sequence[Cell] | None = None) -> bytes:
    """A Delete message with one of ``key`` and ``old``."""
    return b"D" + struct.pack("!I", oid) + _old_tuple(key, old)


def truncate(oids: Sequence[int], *, cascade: bool = False, restart_identity: bool = False) -> bytes:
    """A Truncate message."""
    return b"T" + struct.pack(f"!IB{len(oids)}I", len(oids), cascade | restart_identity << 1, *oids)


def message(prefix: str, content: bytes, lsn: int, *, transactional: bool = False) -> bytes:
    """A logical Message, as ``pg_logical_emit_message`` makes it."""
    return b"M" + struct.pack("!BQ", transactional, lsn) + prefix.encode() + b"\0" + _sized(content)


def type_message(oid: int, schema: str, name: str) -> bytes:
    """A Type message."""
    return b"Y" + struct.pack("!I", oid) + schema.encode() + b"\0" + name.encode() + b"\0"


def origin(commit_lsn: int, name: str) -> bytes:
    """An Origin message."""
    return b"O" + struct.pack("!Q", commit_lsn) + name.encode() + b"\0"


def tuple_data(cells: Sequence[Cell]) -> bytes:
    """One TupleData."""
    return struct.pack("!H", len(cells)) + b"".join(_cell(cell) for cell in cells)


def xlog(payload: bytes, lsn: int, sent_at_us: int = MICROSECONDS_1970_TO_2000) -> bytes:
    """XLogData around one message."""
    return b"w" + struct.pack("!QQq", lsn, lsn, sent_at_us - MICROSECONDS_1970_TO_2000) + payload


def keepalive(wal_end: int, *, reply_requested: bool = False, sent_at_us: int = MICROSECONDS_1970_TO_2000) -> bytes:
    """A primary keepalive."""
    return b"k" + struct.pack("!Qq?", wal_end, sent_at_us - MICROSECONDS_1970_TO_2000, reply_requested)


def frame(payload: bytes) -> bytes:
    """One CopyData payload as the decoder expects it."""
    return struct.pack("<I", len(payload)) + payload


def frames(payloads: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    """Many CopyData payloads, framed, as an array to feed."""
    return np.frombuffer(bytearray(b"".join(frame(payload) for payload in payloads)), np.uint8)


def copy_header(extension: bytes = b"") -> bytes:
    """The header of COPY BINARY."""
    return b"PGCOPY\n\xff\r\n\0" + struct.pack("!I", 0) + _sized(extension)


def copy_row(cells: Sequence[bytes | None]) -> bytes:
    """One row of COPY BINARY."""
    described = b"".join(b"\xff\xff\xff\xff" if cell is None else _sized(cell) for cell in cells)
    return struct.pack("!H", len(cells)) + described


COPY_TRAILER: Final = b"\xff\xff"
"""The end of COPY BINARY."""


def _old_tuple(key: Sequence[Cell] | None, old: Sequence[Cell] | None) -> bytes:
    if key is not None:
        return b"K" + tuple_data(key)
    return b"" if old is None else b"O" + tuple_data(old)


def _cell(cell: Cell) -> bytes:
    match cell:
        case None:
            return b"n"
        case Unchanged.UNCHANGED:
            return b"u"
        case bytes():
            return b"b" + _sized(cell)
        case str():
            return b"t" + _sized(cell.encode())


def _sized(content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + content
