"""Transactions whose end is not known yet: streamed while they run, or prepared and waiting for the second phase.

::

    Stream Start … Stream Stop   a run of changes of one unfinished transaction (``streaming``); again and again, and
                                 between the runs other transactions, whole or streamed
    Stream Abort                 it, or one of its sub-transactions, was rolled back
    Stream Commit                it committed: now its changes may be read
    Stream Prepare               it was prepared: it waits on
    Begin Prepare … Prepare      a transaction that was prepared before it was large enough to be streamed
    Commit Prepared, Rollback Prepared

Changes wait as bytes (`wallaby.pgoutput.spool`) and come out, when the transaction commits, as the frames of an
ordinary transaction: Begin, what was not rolled back, Commit. The source is "Logical Streaming Replication Protocol" in
PostgreSQL's manual and ``pgoutput.c``.

A Stream Abort of a transaction we do not hold is passed over, since nothing can be lost by it, as is a Rollback
Prepared. A commit of one is an error: its changes would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from wallaby.errors import DecodeError
from wallaby.memory import unwritten
from wallaby.pgoutput import kernel, messages, spool_kernel
from wallaby.pgoutput.spool import Spool, WaitingBytes
from wallaby.status import UnfinishedStatus

Bytes = npt.NDArray[np.uint8]

RELEASE_BYTES: Final = 2 << 20
"""Released bytes come in pieces of about this size: the one that decodes fastest."""
_FRAME_HEADER: Final = 4
_RESTART: Final = "Restart the flow: the server resends from the last confirmed position."


@dataclass(slots=True)
class _Transaction:
    xid: int
    waiting: WaitingBytes
    has_owners: bool
    """Its messages carry the ids of their (sub-)transactions: it was streamed."""
    gid: str = ""
    """Set once it is prepared."""
    aborted: set[int] = field(default_factory=set)


class UnfinishedTransactions:
    """All of one stream. ``is_open`` says that the frames that come now belong to one of them."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._streamed: dict[int, _Transaction] = {}
        self._prepared: dict[int, _Transaction] = {}
        self._open: _Transaction | None = None
        self._is_preparing = False

    @property
    def is_open(self) -> bool:
        """Between Stream Start and Stream Stop, or Begin Prepare and Prepare."""
        return self._open is not None

    @property
    def is_preparing(self) -> bool:
        """Between Begin Prepare and Prepare."""
        return self._is_preparing

    @property
    def has_owners(self) -> bool:
        """The messages of the open transaction carry ids."""
        return self._open is not None and self._open.has_owners

    @property
    def open_xid(self) -> int:
        """The open transaction."""
        assert self._open is not None
        return self._open.xid

    @property
    def status(self) -> UnfinishedStatus:
        """How many wait, and what they take."""
        return UnfinishedStatus(
            streamed=len(self._streamed),
            prepared=len(self._prepared),
            bytes=self._spool.memory_bytes + self._spool.disk_bytes,
        )

    def append(self, data: Bytes, owner: int) -> None:
        """More frames of the open transaction; `StreamingUnfit` when they do not fit."""
        assert self._open is not None
        self._open.waiting.append(data, owner)

    def start_stream(self, start: messages.StreamStart) -> None:
        """A run of changes begins."""
        known = self._streamed.get(start.xid)
        if start.is_first is (known is not None):
            state = "began twice" if start.is_first else "goes on and never began"
            raise DecodeError(f"a streamed transaction {state}", advice=_RESTART, xid=start.xid)
        if known is None:
            known = _Transaction(start.xid, self._spool.open(), has_owners=True)
            self._streamed[start.xid] = known
        self._open = known

    def stop_stream(self) -> None:
        """The run ends."""
        self._open = None

    def abort(self, abort: messages.StreamAbort) -> None:
        """What was rolled back will not come out."""
        if abort.xid == abort.subxid:
            transaction = self._streamed.pop(abort.xid, None)
            if transaction is not None:
                transaction.waiting.close()
            return
        transaction = self._streamed.get(abort.xid)
        if transaction is not None:
            transaction.aborted.add(abort.subxid)
            transaction.waiting.drop(abort.subxid)

    def begin_prepare(self, prepared: messages.Prepared) -> None:
        """A transaction begins that will be prepared."""
        self._open = _Transaction(prepared.xid, self._spool.open(), has_owners=False)
        self._is_preparing = True

    def prepare(self, prepared: messages.Prepared) -> None:
        """The transaction that was begun is prepared."""
        transaction = self._open
        assert transaction is not None
        if transaction.xid != prepared.xid:
            raise DecodeError("another transaction is prepared than the one begun", advice=_RESTART, xid=prepared.xid)
        self._open, self._is_preparing = None, False
        self._put_prepared(transaction, prepared)

    def prepare_streamed(self, prepared: messages.Prepared) -> None:
        """A streamed transaction is prepared."""
        self._put_prepared(self._held(self._streamed, prepared.xid), prepared)

    def commit_streamed(self, committed: messages.Committed) -> Iterator[Bytes]:
        """A streamed transaction committed: its frames, see `_frames`."""
        return _frames(self._held(self._streamed, committed.xid), committed)

    def commit_prepared(self, committed: messages.Committed) -> Iterator[Bytes]:
        """A prepared transaction committed: its frames, see `_frames`."""
        transaction = self._held(self._prepared, committed.xid)
        if transaction.gid != committed.gid:
            raise DecodeError("a prepared transaction commits under another name", advice=_RESTART, xid=committed.xid)
        return _frames(transaction, committed)

    def roll_back(self, rolled_back: messages.RolledBack) -> None:
        """A prepared transaction will not come out."""
        transaction = self._prepared.pop(rolled_back.xid, None)
        if transaction is not None:
            transaction.waiting.close()

    def close(self) -> None:
        """Forget all. Idempotent."""
        self._streamed.clear()
        self._prepared.clear()
        self._open = None
        self._spool.close()

    def _put_prepared(self, transaction: _Transaction, prepared: messages.Prepared) -> None:
        if prepared.xid in self._prepared:
            raise DecodeError("a transaction is prepared twice", advice=_RESTART, xid=prepared.xid)
        transaction.gid = prepared.gid
        self._prepared[prepared.xid] = transaction

    @staticmethod
    def _held(transactions: dict[int, _Transaction], xid: int) -> _Transaction:
        transaction = transactions.pop(xid, None)
        if transaction is None:
            raise DecodeError(
                "a transaction ends whose changes were not sent before",
                advice=f"{_RESTART} If it persists, the slot was moved by somebody else: reset the flow to copy anew.",
                xid=xid,
            )
        return transaction


def _frames(transaction: _Transaction, committed: messages.Committed) -> Iterator[Bytes]:
    """Whole frames of an ordinary transaction; each array is valid until the next is asked for."""
    aborted = np.array(sorted(transaction.aborted), np.int64)
    out = unwritten(RELEASE_BYTES, np.uint8)
    end = _put(out, 0, messages.begin_body(committed), committed)
    for piece in transaction.waiting.pieces():
        at, status = 0, kernel.FULL
        while True:
            at, end, status = spool_kernel.release(piece, at, len(piece), transaction.has_owners, aborted, out, end)
            if status == kernel.DRAINED:
                break
            if end:
                yield out[:end]
                end = 0
            else:
                size = int.from_bytes(piece[at : at + _FRAME_HEADER].tobytes(), "little")
                out = unwritten(_FRAME_HEADER + size, np.uint8)
    last = messages.commit_body(committed)
    if end + _FRAME_HEADER + 25 + len(last) > len(out):
        yield out[:end]
        end = 0
    yield out[: _put(out, end, last, committed)]


def _put(out: Bytes, at: int, message: bytes, committed: messages.Committed) -> int:
    """Write a frame of XLogData with ``message``; returns where it ends."""
    lsn = int(committed.commit_lsn).to_bytes(8, "big")
    payload = b"w" + lsn + lsn + bytes(8) + message
    frame = len(payload).to_bytes(_FRAME_HEADER, "little") + payload
    out[at : at + len(frame)] = np.frombuffer(frame, np.uint8)
    return at + len(frame)
