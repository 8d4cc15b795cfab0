"""A receiver that decodes and throws away: ``python -m benchmarks.receiver HOW DSN SLOT PUBLICATION TARGET WINDOW``.

``HOW`` is ``paced`` or ``eager`` (the replication stream, with and without rests) or ``peek`` (the slot's changes by
SQL, ``WINDOW`` bytes of WAL at a time; 0 for all at once). Prints one JSON object when everything up to TARGET was
decoded. One thread; nothing is confirmed on the way, except that ``peek`` advances the slot after each window.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any, Final

import numpy as np
import psycopg
from numba import int64, njit, uint8
from psycopg import sql

from benchmarks.measure import cpu_seconds
from wallaby.lsn import Lsn
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.postgres.arena import Arena
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.command import run_command
from wallaby.postgres.connect import connect
from wallaby.postgres.drain import Outcome, open_drain
from wallaby.postgres.replication import ReplicationStream
from wallaby.settings import Limits

_COPY_HEADER: Final = 19
_BEHIND_US: Final = 250_000
_STATUS_S: Final = 5.0
_PEEK: Final = """
COPY (SELECT lsn, data FROM pg_logical_slot_peek_binary_changes({slot}, {upto}, NULL, 'proto_version', '1',
'publication_names', {publication}, 'binary', 'true', 'messages', 'true')) TO STDOUT (FORMAT binary)
"""


class Receiver:
    """Decodes frames and counts rows."""

    def __init__(self, dsn: str, target: Lsn, limits: Limits) -> None:
        self._catalog = Catalog(dsn, application_name="benchmark")
        self._limits = limits
        self._target = target
        self.decoder = Decoder(self._catalog.resolve)
        self.rows = 0
        self.reached = Lsn(0)
        self.committed_at_us = 0
        self.decoded_at = time.monotonic()

    @property
    def is_complete(self) -> bool:
        return max(self.reached, self.decoder.keepalive) >= self._target

    def take(self, arena: Arena) -> None:
        """Decode what the arena holds."""
        consumed, events = self.decoder.feed(arena.data, arena.begin, arena.end)
        arena.consume(consumed)
        for event in events:
            if isinstance(event, Segment):
                self.rows += event.rows
                self.committed_at_us = event.committed_at_us
                if event.ends_transaction:
                    self.reached = max(self.reached, event.upto.lsn)
        self.decoded_at = time.monotonic()

    def is_due(self, arena: Arena) -> bool:
        """As the relay does in a flood."""
        age_ms = (time.monotonic() - self.decoded_at) * 1000
        return len(arena) >= self._limits.parse_bytes or age_ms >= self._limits.parse_age_max_ms


def stream(dsn: str, slot: str, publication: str, target: Lsn, *, paced: bool) -> dict[str, Any]:
    """By the replication protocol."""
    limits = Limits()
    receiver = Receiver(dsn, target, limits)
    with ReplicationStream.open(
        dsn, slot=slot, publications=[publication], start=Lsn(0), paced=paced, limits=limits
    ) as source:
        told = began = time.monotonic()
        cpu_s = time.process_time()
        drains = 0
        while not receiver.is_complete:
            if (rest_s := source.rest_s) > 0:
                time.sleep(rest_s)
            if not source.has_pending:
                select.select([source], [], [], 0.2)
            source.receive(0.0)
            drains += 1
            if source.has_pending or receiver.is_due(source.arena):
                sent_at_us = source.sent_at_us
                receiver.take(source.arena)
                source.is_behind = (sent_at_us or 0) - receiver.committed_at_us >= _BEHIND_US
            if time.monotonic() - told > _STATUS_S:
                source.send_status(received=receiver.decoder.wal_end, flushed=Lsn(0))
                told = time.monotonic()
        cpu_s = time.process_time() - cpu_s
        wall_s = time.monotonic() - began
    return {"rows": receiver.rows, "wall_s": wall_s, "cpu_s": cpu_s, "drains": drains}


def peek(dsn: str, slot: str, publication: str, target: Lsn, *, window: int) -> dict[str, Any]:
    """By SQL, window after window; the slot is advanced after each."""
    receiver = Receiver(dsn, target, Limits())
    with connect(dsn, application_name="benchmark") as connection, psycopg.connect(dsn, autocommit=True) as control:
        pid = connection.info.backend_pid
        connection.execute("SET work_mem = '64MB'")
        at = _confirmed(control, slot)
        began, cpu_s, first_byte_s, windows = time.monotonic(), time.process_time(), [], 0
        while at < target:
            upto = min(target, Lsn(at + window)) if window else target
            command = sql.SQL(_PEEK).format(slot=slot, upto=str(upto), publication=publication).as_string()
            first_byte_s.append(_copy(connection, command, receiver))
            windows += 1
            at = max(upto, receiver.reached)
            # On the same connection: what advancing costs the server is part of the price.
            connection.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [slot, str(min(at, target))])
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - began
        server_cpu_s = cpu_seconds(pid)
    return {
        "rows": receiver.rows,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "server_cpu_s": server_cpu_s,
        "windows": windows,
        "first_byte_s": max(first_byte_s),
    }


def _confirmed(connection: psycopg.Connection[Any], slot: str) -> Lsn:
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    [text] = connection.execute(query, [slot]).fetchone() or [""]
    return Lsn.parse(text)


def _copy(connection: Any, command: str, receiver: Receiver) -> float:
    """One COPY into the decoder; returns the seconds until its first bytes came."""
    pgconn = connection.pgconn
    asked = time.monotonic()
    first = 0.0
    run_command(connection, command, timeout_s=600)
    drain, arena, frames = open_drain(pgconn), Arena(4 << 20), Arena(16 << 20)
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    has_header = False
    outcome = Outcome.DRY
    while outcome is not Outcome.ENDED or len(arena):
        outcome = drain.fill(arena)
        if len(arena) and not first:
            first = time.monotonic() - asked
        if outcome is Outcome.DRY and len(arena) < 1 << 20:
            poll.poll(60_000)
            continue
        if not has_header and len(arena):
            _drop_header(arena)
            has_header = True
        while len(arena):
            used, frames.end = _rebuild(arena.data, arena.begin, arena.end, frames.data, frames.end)
            arena.consume(int(used))
            receiver.take(frames)
    drain.close()
    while pgconn.get_result() is not None:
        pass
    return first


def _drop_header(arena: Arena) -> None:
    """COPY's header comes alone or before the first row in one message."""
    size = int.from_bytes(arena.data[arena.begin : arena.begin + 4].tobytes(), "little")
    rest = size - _COPY_HEADER
    arena.consume(_COPY_HEADER if rest else _COPY_HEADER + 4)
    if rest:
        arena.data[arena.begin : arena.begin + 4] = np.frombuffer(rest.to_bytes(4, "little"), np.uint8)


@njit(int64[::1](uint8[::1], int64, int64, uint8[::1], int64), cache=True, nogil=True)
def _rebuild(rows: Any, begin: int, end: int, frames: Any, at: int) -> Any:
    """COPY rows of (lsn, data) to frames of XLogData; (bytes used, new end). The trailer is swallowed."""
    start = begin
    capacity = frames.shape[0]
    while begin + 4 <= end:
        size = (
            np.int64(rows[begin])
            | np.int64(rows[begin + 1]) << 8
            | np.int64(rows[begin + 2]) << 16
            | np.int64(rows[begin + 3]) << 24
        )
        if size > 2:
            length = size - 18 + 25
            if at + 4 + length > capacity:
                break
            for i in range(4):
                frames[at + i] = (length >> (8 * i)) & 255
            frames[at + 4] = 119
            frames[at + 5 : at + 13] = rows[begin + 10 : begin + 18]
            frames[at + 13 : at + 21] = rows[begin + 10 : begin + 18]
            frames[at + 21 : at + 29] = 0
            frames[at + 29 : at + 4 + length] = rows[begin + 22 : begin + 4 + size]
            at += 4 + length
        begin += 4 + size
    out = np.empty(2, np.int64)
    out[0], out[1] = begin - start, at
    return out


def main() -> None:
    """One run."""
    how, dsn, slot, publication, target, window = sys.argv[1:7]
    if how == "peek":
        print(json.dumps(peek(dsn, slot, publication, Lsn.parse(target), window=int(window))))
    else:
        print(json.dumps(stream(dsn, slot, publication, Lsn.parse(target), paced=how == "paced")))


if __name__ == "__main__":
    main()
