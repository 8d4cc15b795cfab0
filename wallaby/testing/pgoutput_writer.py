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


def stream_start(xid: int, *, is_first: bool) -> bytes:
    """A Stream Start message; what follows up to `stream_stop` is made `in_stream`."""
    return b"S" + struct.pack("!I?", xid, is_first)


def in_stream(payload: bytes, xid: int) -> bytes:
    """The message as a streamed transaction carries it: with the id of the (sub-)transaction it belongs to."""
    return payload[:1] + struct.pack("!I", xid) + payload[1:]


def stream_stop() -> bytes:
    """A Stream Stop message."""
    return b"E"


def stream_commit(xid: int, commit_lsn: int, end_lsn: int, committed_at_us: int = MICROSECONDS_1970_TO_2000) -> bytes:
    """A Stream Commit message."""
    committed_at = committed_at_us - MICROSECONDS_1970_TO_2000
    return b"c" + struct.pack("!IBQQq", xid, 0, commit_lsn, end_lsn, committed_at)


def stream_abort(xid: int, subxid: int, *, abort_lsn: int | None = None) -> bytes:
    """A Stream Abort message; with ``abort_lsn`` as ``streaming: parallel`` has it."""
    place = b"" if abort_lsn is None else struct.pack("!Qq", abort_lsn, 0)
    return b"A" + struct.pack("!II", xid, subxid) + place


def begin_prepare(prepare_lsn: int, end_lsn: int, xid: int, gid: str) -> bytes:
    """A Begin Prepare message."""
    return b"b" + struct.pack("!QQqI", prepare_lsn, end_lsn, 0, xid) + gid.encode() + b"\0"


def prepare(prepare_lsn: int, end_lsn: int, xid: int, gid: str) -> bytes:
    """A Prepare message."""
    return b"P" + _prepared(prepare_lsn, end_lsn, xid, gid)


def stream_prepare(prepare_lsn: int, end_lsn: int, xid: int, gid: str) -> bytes:
    """A Stream Prepare message."""
    return b"p" + _prepared(prepare_lsn, end_lsn, xid, gid)


def commit_prepared(
    commit_lsn: int, end_lsn: int, xid: int, gid: str, committed_at_us: int = MICROSECONDS_1970_TO_2000
) -> bytes:
    """A Commit Prepared message."""
    committed_at = committed_at_us - MICROSECONDS_1970_TO_2000
    return b"K" + struct.pack("!BQQqI", 0, commit_lsn, end_lsn, committed_at, xid) + gid.encode() + b"\0"


def rollback_prepared(prepare_end_lsn: int, end_lsn: int, xid: int, gid: str) -> bytes:
    """A Rollback Prepared message."""
    return b"r" + struct.pack("!BQQqqI", 0, prepare_end_lsn, end_lsn, 0, 0, xid) + gid.encode() + b"\0"


def _prepared(prepare_lsn: int, end_lsn: int, xid: int, gid: str) -> bytes:
    return struct.pack("!BQQqI", 0, prepare_lsn, end_lsn, 0, xid) + gid.encode() + b"\0"


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
