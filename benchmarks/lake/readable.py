"""How long after its commit can DuckDB read a row in the lake, at 5,000 rows a second?

The whole flow: PostgreSQL, source actor, sink actor, local files. A writer commits ten rows at a time; a reader opens
the newest state of the table again and again and notes when each row is first there. Latency is counted
from the acknowledgement of the commit to the return of the query, which itself takes longer the more files there are.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.flows import Flows
from benchmarks.lake.ours import place
from benchmarks.lake.readers import duckdb_reader, scan
from benchmarks.measure import Line
from benchmarks.servers import DATABASE, Content, measuring_server
from wallaby.lsn import Lsn

RATE: Final = 5_000
KINDS: Final = ("iceberg", "delta", "files")
_PER: Final = 10
_SECONDS: Final = 20
_WARM_UP: Final = 3 * RATE
_TIMEOUT_S: Final = 180.0
_TABLE: Final = "CREATE TABLE ticks (id int8 PRIMARY KEY, sent_at float8)"


def readable(runs: int) -> Iterator[Line]:
    """Every format, a log."""
    with measuring_server() as source, Flows() as flows:
        dsn = source.dsn(DATABASE)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(_TABLE)
            connection.execute("CREATE PUBLICATION ticks FOR TABLE ticks")
        for kind in KINDS:
            found = [_run(dsn, kind, flows) for _ in range(runs)]
            medians = [statistics.median(latencies) for latencies, _ in found]
            p50, p99 = statistics.median(medians), statistics.median(_p99(latencies) for latencies, _ in found)
            yield Line(
                name=f"commit → readable by DuckDB at {RATE:,} rows/s",
                subject=kind,
                rows_per_s=statistics.median(rate for _, rate in found),
                rows_per_cpu_s=0.0,
                ratio=None,
                spread=(max(medians) - min(medians)) / p50,
                runs=runs,
                note=f"p50 {p50:.2f} s, p99 {p99:.2f} s",
                extra={"p50_s": p50, "p99_s": p99},
            )


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def _run(dsn: str, kind: str, flows: Flows) -> tuple[list[float], float]:
    """Seconds of every row after the warm-up, and the rows a second that were really written."""
    target = Path(tempfile.mkdtemp(prefix=kind, dir=flows.directory))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE ticks")
        connection.execute("SELECT pg_create_logical_replication_slot('ticks', 'pgoutput')")
        content = Content(dsn, "ticks", "ticks", ("ticks",), 0, Lsn(0))
        options: dict[str, Any] = {**place(kind, target), "write_mode": "append"}
        try:
            work = asyncio.to_thread(_observe, dsn, kind, target)
            result: tuple[list[float], float] = flows.run_while(
                work, content, content.slot, {"type": kind, "options": options}
            )
            return result
        finally:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
                " WHERE slot_name = 'ticks' AND active_pid IS NOT NULL"
            )
            connection.execute("SELECT pg_drop_replication_slot('ticks')")


def _observe(dsn: str, kind: str, target: Path) -> tuple[list[float], float]:
    count = RATE * _SECONDS
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO ticks VALUES (0, 0)")
    with tempfile.TemporaryDirectory() as extensions, duckdb_reader(Path(extensions)) as reader:
        _wait_for(reader, kind, target, [], 0)
        command = [sys.executable, "-m", "benchmarks.ticks", dsn, str(RATE), str(count), str(_PER)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            try:
                seen: list[float] = [0.0]
                _wait_for(reader, kind, target, seen, count)
                said, _ = writer.communicate(timeout=_TIMEOUT_S)
            finally:
                writer.kill()
    acknowledged = json.loads(said)
    latencies = [seen[tick] - acknowledged[tick - 1] for tick in range(_WARM_UP + 1, count + 1)]
    return latencies, len(latencies) / (acknowledged[-1] - acknowledged[_WARM_UP])


def _wait_for(reader: Any, kind: str, target: Path, seen: list[float], last: int) -> None:
    """Note for every id in turn when it was first there; `TimeoutError` when one does not come."""
    deadline = time.monotonic() + _TIMEOUT_S
    arrived: set[int] = set()
    while len(seen) <= last:
        if time.monotonic() > deadline:
            raise TimeoutError(f"row {len(seen)} did not arrive in time")
        if (source := scan(kind, target, "ticks")) is None:
            time.sleep(0.02)
            continue
        rows = reader.execute(f"SELECT id FROM {source} WHERE id >= {len(seen)}").fetchnumpy()["id"]
        now = time.time()
        arrived.update(rows.tolist())
        while len(seen) in arrived:
            arrived.discard(len(seen))
            seen.append(now)
