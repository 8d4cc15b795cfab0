"""How fast do changes get from one PostgreSQL into another, compared with PostgreSQL's own logical replication?

A flow into the ``postgres`` destination (exactly once, mirror) against CREATE SUBSCRIPTION, between the same two
servers, from copies of one slot, into the same table, by turns. Timed from the start of the walsender until the client
has confirmed the target; the tables are compared after every run. ``synchronous_commit`` is off on both sides, which is
what a subscription does unless told otherwise, and on for wallaby in one more line, which is what wallaby does.
Wanted: at least the throughput of the subscription. CPU counts everything but the walsender: for wallaby both actors
and the destination's processes, for the subscription the destination's processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.flows import SINK, SOURCE, Flows
from benchmarks.measure import Line, Run, main, summarise, us_per_row
from benchmarks.processes import Watch
from benchmarks.servers import (
    DATABASE,
    Content,
    digest,
    empty_tables,
    inserts_and_updates,
    measuring_server,
    narrow_inserts,
)
from wallaby.postgres.embedded import EmbeddedServer

_BACKENDS = "backends"


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Inserts and updates half and half, then inserts alone."""
    with measuring_server() as source, measuring_server() as target, Flows() as flows:
        for name, fill in (("inserts and updates", inserts_and_updates), ("inserts", narrow_inserts)):
            content = fill(source, words.rows)
            yield from _compare(f"postgres → postgres, {name}", content, target, flows, words.runs)


def _compare(name: str, content: Content, target: EmbeddedServer, flows: Flows, count: int) -> Iterator[Line]:
    [table] = content.tables
    expected = digest(content.dsn, table)
    subjects: dict[str, list[tuple[Run, str]]] = {"subscription": [], "wallaby": [], "wallaby, synchronous": []}
    for _ in range(count):
        for subject, runs in subjects.items():
            empty_tables(target, content)
            if subject == "subscription":
                runs.append(_subscribe(content, target))
            else:
                runs.append(_flow(content, target, flows, synchronous=subject != "wallaby"))
            assert digest(target.dsn(DATABASE), table) == expected, f"{subject}: the tables differ"
    content.drop()
    peer: Line | None = None
    for subject, runs in subjects.items():
        measured = [run for run, _ in runs]
        extra = {
            "walsender_us_per_row": us_per_row(measured, lambda run: run.server_cpu_s),
            "cpu_us_per_row": us_per_row(measured, lambda run: run.cpu_s),
        }
        note = f"CPU µs/row: {runs[-1][1]}, walsender {extra['walsender_us_per_row']:.2f}"
        line = summarise(name, subject, measured, peer=peer, is_peer=peer is None, note=note, extra=extra)
        peer = peer or line
        yield line


def _subscribe(content: Content, target: EmbeddedServer) -> tuple[Run, str]:
    with (
        content.copied_slot() as slot,
        psycopg.connect(target.dsn(DATABASE), autocommit=True) as connection,
        Watch(content.dsn, slot, content.target, until_confirmed=True) as watch,
    ):
        watch.follow(_BACKENDS, target.pid, children=True)
        source = make_conninfo(content.dsn).replace("'", "''")
        # From PostgreSQL 18 on streaming is "parallel" by default; transactions here are too small for it to matter.
        connection.execute(
            f"CREATE SUBSCRIPTION bench CONNECTION '{source}' PUBLICATION {content.publication} WITH (enabled = true,"
            f" create_slot = false, slot_name = '{slot}', copy_data = false, binary = true)".encode()
        )
        try:
            watch.wait()
        finally:
            connection.execute("ALTER SUBSCRIPTION bench DISABLE")
            connection.execute("ALTER SUBSCRIPTION bench SET (slot_name = NONE)")
            connection.execute("DROP SUBSCRIPTION bench")
        cpu_s = watch.cpu_s(_BACKENDS)
        run = Run(rows=content.rows, wall_s=watch.wall_s, cpu_s=cpu_s, server_cpu_s=watch.walsender_cpu_s)
        return run, f"backend {cpu_s / content.rows * 1e6:.2f}"


def _flow(content: Content, target: EmbeddedServer, flows: Flows, *, synchronous: bool) -> tuple[Run, str]:
    options: dict[str, Any] = {"dsn": target.dsn(DATABASE), "synchronous_commit": "on" if synchronous else "off"}
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=True) as watch:
        watch.follow(_BACKENDS, target.pid, children=True)
        flows.drain(content, slot, {"type": "postgres", "options": options}, watch)
        watch.wait()
        run = Run(
            rows=content.rows,
            wall_s=watch.wall_s,
            cpu_s=watch.cpu_s(SOURCE, SINK, _BACKENDS),
            server_cpu_s=watch.walsender_cpu_s,
        )
        shares = (f"{name} {watch.cpu_s(name) / content.rows * 1e6:.2f}" for name in (SOURCE, SINK, _BACKENDS))
        return run, ", ".join(shares)


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
