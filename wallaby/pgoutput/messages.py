"""The rare pgoutput messages, read in Python: Truncate, Message, and those of streamed and prepared transactions.

Their layout is that of the section "Logical Replication Message Formats" of PostgreSQL's manual.
"""

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

STREAM_START: Final = ord("S")
STREAM_STOP: Final = ord("E")
STREAM_COMMIT: Final = ord("c")
STREAM_ABORT: Final = ord("A")
STREAM_PREPARE: Final = ord("p")
BEGIN_PREPARE: Final = ord("b")
PREPARE: Final = ord("P")
COMMIT_PREPARED: Final = ord("K")
ROLLBACK_PREPARED: Final = ord("r")

NAMES: Final[dict[int, str]] = {
    ord("B"): "Begin",
    ord("C"): "Commit",
    ord("I"): "Insert",
    ord("U"): "Update",
    ord("D"): "Delete",
    TRUNCATE: "Truncate",
    RELATION: "Relation",
    TYPE: "Type",
    ORIGIN: "Origin",
    LOGICAL_MESSAGE: "Message",
    STREAM_START: "Stream Start",
    STREAM_STOP: "Stream Stop",
    STREAM_COMMIT: "Stream Commit",
    STREAM_ABORT: "Stream Abort",
    STREAM_PREPARE: "Stream Prepare",
    BEGIN_PREPARE: "Begin Prepare",
    PREPARE: "Prepare",
    COMMIT_PREPARED: "Commit Prepared",
    ROLLBACK_PREPARED: "Rollback Prepared",
}
"""Every message of pgoutput, as PostgreSQL's manual calls it."""

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


@dataclass(frozen=True, slots=True)
class StreamStart:
    """A run of changes of the unfinished transaction ``xid`` begins."""

    xid: int
    is_first: bool


@dataclass(frozen=True, slots=True)
class StreamAbort:
    """The transaction ``xid``, or only its sub-transaction ``subxid``, was rolled back."""

    xid: int
    subxid: int


@dataclass(frozen=True, slots=True)
class Committed:
    """How a waiting transaction ended well: Stream Commit, or Commit Prepared with its ``gid``."""

    xid: int
    commit_lsn: Lsn
    """Where the commit record starts."""
    end_lsn: Lsn
    """Where it ends."""
    committed_at: int
    """Microseconds since 2000."""
    gid: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction was, or is about to be, prepared: Begin Prepare, Prepare, Stream Prepare."""

    xid: int
    prepare_lsn: Lsn
    """Where the record of PREPARE TRANSACTION starts."""
    end_lsn: Lsn
    gid: str


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A prepared transaction was rolled back."""

    xid: int
    gid: str


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


def parse_stream_start(body: bytes) -> StreamStart:
    """Read a Stream Start message after its tag byte; DecodeError when malformed."""
    xid, is_first = _unpack("!IB", body, "Stream Start")
    return StreamStart(xid, bool(is_first))


def parse_stream_stop(body: bytes) -> None:
    """Check a Stream Stop message after its tag byte; DecodeError when malformed."""
    _unpack("!", body, "Stream Stop")


def parse_stream_commit(body: bytes) -> Committed:
    """Read a Stream Commit message after its tag byte; DecodeError when malformed."""
    xid, _, commit_lsn, end_lsn, committed_at = _unpack("!IBQQq", body, "Stream Commit")
    return _committed(xid, commit_lsn, end_lsn, committed_at, "")


def parse_stream_abort(body: bytes) -> StreamAbort:
    """Read a Stream Abort message after its tag byte; DecodeError when malformed.

    With ``streaming: parallel`` it also carries where and when the transaction was rolled back.
    """
    form = "!IIQq" if len(body) == 24 else "!II"
    return StreamAbort(*_unpack(form, body, "Stream Abort")[:2])


def parse_begin_prepare(body: bytes) -> Prepared:
    """Read a Begin Prepare message after its tag byte; DecodeError when malformed."""
    fields, gid = _unpack_with_gid("!QQqI", body, "Begin Prepare")
    return _prepared(fields[3], fields[0], fields[1], gid)


def parse_prepare(body: bytes, name: str = "Prepare") -> Prepared:
    """Read a Prepare or Stream Prepare message after its tag byte; DecodeError when malformed."""
    fields, gid = _unpack_with_gid("!BQQqI", body, name)
    return _prepared(fields[4], fields[1], fields[2], gid)


def parse_commit_prepared(body: bytes) -> Committed:
    """Read a Commit Prepared message after its tag byte; DecodeError when malformed."""
    (_, commit_lsn, end_lsn, committed_at, xid), gid = _unpack_with_gid("!BQQqI", body, "Commit Prepared")
    return _committed(xid, commit_lsn, end_lsn, committed_at, gid)


def parse_rollback_prepared(body: bytes) -> RolledBack:
    """Read a Rollback Prepared message after its tag byte; DecodeError when malformed."""
    fields, gid = _unpack_with_gid("!BQQqqI", body, "Rollback Prepared")
    return RolledBack(fields[5], gid)


def begin_body(committed: Committed) -> bytes:
    """A Begin message of a transaction that ended so."""
    return b"B" + struct.pack("!QqI", committed.commit_lsn, committed.committed_at, committed.xid)


def commit_body(committed: Committed) -> bytes:
    """Its Commit message."""
    return b"C\0" + struct.pack("!QQq", committed.commit_lsn, committed.end_lsn, committed.committed_at)


def _committed(xid: int, commit_lsn: int, end_lsn: int, committed_at: int, gid: str) -> Committed:
    if end_lsn <= commit_lsn:
        raise DecodeError("a commit record ends before it starts")
    return Committed(xid, Lsn(commit_lsn), Lsn(end_lsn), committed_at, gid)


def _prepared(xid: int, prepare_lsn: int, end_lsn: int, gid: str) -> Prepared:
    if end_lsn <= prepare_lsn:
        raise DecodeError("the record of PREPARE TRANSACTION ends before it starts")
    return Prepared(xid, Lsn(prepare_lsn), Lsn(end_lsn), gid)


def _unpack(form: str, body: bytes, name: str) -> tuple[int, ...]:
    try:
        return struct.unpack(form, body)
    except struct.error as error:
        raise DecodeError(f"a {name} message is malformed") from error


def _unpack_with_gid(form: str, body: bytes, name: str) -> tuple[tuple[int, ...], str]:
    """Fixed fields, then the global transaction identifier: text up to a zero byte, which ends the message."""
    size = struct.calcsize(form)
    fields = _unpack(form, body[:size], name)
    gid = body[size:]
    if gid.find(0) != len(gid) - 1:
        raise DecodeError(f"a {name} message is malformed")
    try:
        return fields, gid[:-1].decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"a {name} message is malformed") from error
