"""Transactions that are streamed while they run, or prepared, as a server sends them; and the same ones unstreamed."""

from __future__ import annotations

import random

from tests.wallaby.pgoutput.streams import ORDERS, int4, orders
from tests.wallaby.pgoutput.streams import transaction as plain
from wallaby.testing import pgoutput_writer as w


def insert(key: int, *more: str) -> bytes:
    """A row of ``orders``; ``more`` columns beyond the ones it always has."""
    return w.insert(ORDERS, [int4(key), f"note {key}", "1.50", *more])


def run(top: int, *messages: tuple[int, bytes], is_first: bool = False) -> list[bytes]:
    """One run of a streamed transaction: (sub-transaction, message) each."""
    inside = [w.in_stream(message, xid) for xid, message in messages]
    return [w.xlog(message, 0x10) for message in (w.stream_start(top, is_first=is_first), *inside, w.stream_stop())]


def end(message: bytes) -> list[bytes]:
    """One message between transactions."""
    return [w.xlog(message, 0x10)]


class _Growing:
    """A transaction of the mixture: what it streamed, and what of it survives."""

    def __init__(self, xid: int, rng: random.Random) -> None:
        self.xid = xid
        self.runs = rng.randrange(1, 4)
        self.is_prepared = rng.random() < 0.3
        self.is_aborted = rng.random() < 0.2
        self.has_begun = False
        self.messages: list[tuple[int, bytes]] = []
        self.aborted: set[int] = set()


def mixture(rng: random.Random) -> tuple[list[bytes], list[bytes]]:
    """The same transactions twice: as a server with ``streaming`` and ``two_phase`` sends them, and without."""
    streamed: list[bytes] = []
    ordinary: list[bytes] = []
    growing = [_Growing(1000 * number, rng) for number in range(1, 6)]
    lsn, key = 0x1000, 0
    described = plain(lsn, orders(), xid=1)
    streamed += described
    ordinary += described
    while growing:
        one = rng.choice(growing)
        lsn += 0x100
        if one.runs:
            one.runs -= 1
            messages = []
            for _ in range(rng.randrange(6)):
                key += 1
                messages.append((one.xid + rng.randrange(4), insert(key)))
            if not one.has_begun:
                messages.insert(0, (one.xid, orders()))
            streamed += run(one.xid, *messages, is_first=not one.has_begun)
            one.has_begun = True
            one.messages += messages
            if rng.random() < 0.4:
                # What was rolled back gets a new id when it goes on: here simply another range.
                gone = one.xid + 1 + rng.randrange(3)
                if gone not in one.aborted and any(xid == gone for xid, _ in one.messages):
                    one.aborted.add(gone)
                    streamed += end(w.stream_abort(one.xid, gone))
                    one.messages = [(xid, message) for xid, message in one.messages if xid != gone]
                    one.runs = 0
            continue
        growing.remove(one)
        if one.is_aborted:
            streamed += end(w.stream_abort(one.xid, one.xid))
            continue
        if one.is_prepared:
            streamed += end(w.stream_prepare(lsn, lsn + 0x20, one.xid, "gid"))
            lsn += 0x100
            streamed += end(w.commit_prepared(lsn, lsn + 0x30, one.xid, "gid", lsn * 1_000_000))
        else:
            streamed += end(w.stream_commit(one.xid, lsn, lsn + 0x30, lsn * 1_000_000))
        ordinary += plain(lsn, *(message for _, message in one.messages), xid=one.xid)
    return streamed, ordinary
