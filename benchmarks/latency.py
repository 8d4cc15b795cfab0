"""How long after its commit is a row visible in the PostgreSQL destination, at 1,000 rows per second?

A writer commits single rows at that pace, its clock in the row; a poller reads the destination without pause and notes
when each row is first seen. Latency is counted from the acknowledgement of the commit at the source to the return of
the query that saw the row, on one machine's clock; counted from the clock in the row (before the INSERT), it is in the
JSON as ``since_insert``. The same for PostgreSQL's own subscription, by turns. ``spread`` is that of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.flows import Flows
from benchmarks.measure import Line, main
from benchmarks.servers import DATABASE, Content, measuring_server
from wallaby.lsn import Lsn

_RATE: Final = 1_000
_SECONDS: Final = 12
_WARM_UP: Final = 2 * _RATE
"""Rows left out at the beginning."""
_TIMEOUT_S: Final = 90.0
_TABLE: Final = "CREATE TABLE ticks (id int8 PRIMARY KEY, sent_at float8)"


@dataclass(frozen=True, slots=True)
class _Latencies:
    since_commit_ms: list[float]
    since_insert_ms: list[float]
    rows_per_s: float


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Subscription and flow by turns; ``--rows`` has no effect."""
    with measuring_server() as source, measuring_server() as target, Flows() as flows:
        dsns = source.dsn(DATABASE), target.dsn(DATABASE)
        for dsn in dsns:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(_TABLE)
        with psycopg.connect(dsns[0], autocommit=True) as connection:
            connection.execute("CREATE PUBLICATION ticks FOR TABLE ticks")
        found: dict[str, list[_Latencies]] = {"subscription": [], "wallaby": []}
        for _ in range(words.runs):
            with _empty_slot(*dsns) as content:
                found["subscription"].append(_subscribe(content, dsns[1]))
            with _empty_slot(*dsns) as content:
                work = asyncio.to_thread(_observe, *dsns)
                destination = {"type": "postgres", "options": {"dsn": dsns[1]}}
                found["wallaby"].append(flows.run_while(work, content, content.slot, destination))
    for subject, runs in found.items():
        yield _line(subject, runs)


def _line(subject: str, runs: list[_Latencies]) -> Line:
    medians = [statistics.median(run.since_commit_ms) for run in runs]
    p50, p99 = statistics.median(medians), statistics.median(_p99(run.since_commit_ms) for run in runs)
    worst = max(max(run.since_commit_ms) for run in runs)
    return Line(
        name=f"commit → visible at {_RATE:,} rows/s",
        subject=subject,
        rows_per_s=statistics.median(run.rows_per_s for run in runs),
        rows_per_cpu_s=0.0,
        ratio=None,
        spread=(max(medians) - min(medians)) / p50,
        runs=len(runs),
        note=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.0f} ms",
        extra={
            "p50_ms": p50,
            "p99_ms": p99,
            "worst_ms": worst,
            "since_insert_p50_ms": statistics.median(statistics.median(run.since_insert_ms) for run in runs),
            "since_insert_p99_ms": statistics.median(_p99(run.since_insert_ms) for run in runs),
        },
    )


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


@contextmanager
def _empty_slot(source: str, target: str) -> Iterator[Content]:
    with psycopg.connect(source, autocommit=True) as connection:
        for dsn in (source, target):
            with psycopg.connect(dsn, autocommit=True) as cleaner:
                cleaner.execute("TRUNCATE ticks")
        connection.execute("SELECT pg_create_logical_replication_slot('ticks', 'pgoutput')")
        try:
            yield Content(source, "ticks", "ticks", ("ticks",), 0, Lsn(0))
        finally:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
                " WHERE slot_name = 'ticks' AND active_pid IS NOT NULL"
            )
            connection.execute("SELECT pg_drop_replication_slot('ticks')")


def _subscribe(content: Content, target: str) -> _Latencies:
    with psycopg.connect(target, autocommit=True) as connection:
        source = make_conninfo(content.dsn).replace("'", "''")
        connection.execute(
            f"CREATE SUBSCRIPTION bench CONNECTION '{source}' PUBLICATION {content.publication} WITH"
            f" (create_slot = false, slot_name = '{content.slot}', copy_data = false, binary = true)".encode()
        )
        try:
            return _observe(content.dsn, target)
        finally:
            connection.execute("ALTER SUBSCRIPTION bench DISABLE")
            connection.execute("ALTER SUBSCRIPTION bench SET (slot_name = NONE)")
            connection.execute("DROP SUBSCRIPTION bench")


def _observe(source: str, target: str) -> _Latencies:
    """Start the writer once a first row has passed; note when each of its rows is seen."""
    count = _RATE * _SECONDS
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("INSERT INTO ticks VALUES (0, 0)")
    with psycopg.connect(target, autocommit=True) as connection:
        _poll(connection, {}, 0)
        command = [sys.executable, "-m", "benchmarks.ticks", source, str(_RATE), str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            try:
                seen: dict[int, tuple[float, float]] = {0: (0.0, 0.0)}
                _poll(connection, seen, count)
                said, _ = writer.communicate(timeout=_TIMEOUT_S)
            finally:
                writer.kill()
    acknowledged = json.loads(said)
    ids = range(_WARM_UP + 1, count + 1)
    return _Latencies(
        [(seen[tick][0] - acknowledged[tick - 1]) * 1000 for tick in ids],
        [(seen[tick][0] - seen[tick][1]) * 1000 for tick in ids],
        len(ids) / (acknowledged[-1] - acknowledged[_WARM_UP]),
    )


def _poll(connection: psycopg.Connection[tuple[int, float]], seen: dict[int, tuple[float, float]], last: int) -> None:
    """Read on until every id up to ``last`` was seen."""
    deadline = time.monotonic() + _TIMEOUT_S
    complete = len(seen) - 1
    while complete < last:
        rows = connection.execute("SELECT id, sent_at FROM ticks WHERE id > %s", [complete], prepare=True).fetchall()
        now = time.time()
        for tick, sent_at in rows:
            seen.setdefault(tick, (now, sent_at))
        while complete + 1 in seen:
            complete += 1
        if time.monotonic() > deadline:
            raise TimeoutError("the rows did not arrive in time")


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
