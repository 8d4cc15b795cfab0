"""How fast do changes get from PostgreSQL into DuckDB and into Parquet files?

Figures without a peer: rows per second and rows per CPU second (both actors), for a mirror and a log (append) in DuckDB
and a log in Parquet (files cannot mirror), from copies of one slot, by turns. Timed from the start of the walsender to
its end, when everything is durable and confirmed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks.flows import SINK, SOURCE, Flows
from benchmarks.measure import Line, Run, main, summarise, us_per_row
from benchmarks.processes import Watch
from benchmarks.servers import Content, inserts_and_updates, measuring_server, narrow_inserts


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Inserts and updates half and half, then inserts alone."""
    with measuring_server() as server, Flows() as flows:
        for name, fill in (("inserts and updates", inserts_and_updates), ("inserts", narrow_inserts)):
            content = fill(server, words.rows)
            subjects: dict[str, list[tuple[Run, float]]] = {
                "duckdb, mirror": [],
                "duckdb, append": [],
                "parquet, append": [],
            }
            for _ in range(words.runs):
                for subject, runs in subjects.items():
                    runs.append(_flow(content, subject, flows))
            content.drop()
            for subject, runs in subjects.items():
                measured = [run for run, _ in runs]
                source = us_per_row(measured, lambda run: run.cpu_s) - (sink := runs[-1][1])
                note = f"CPU µs/row: source {source:.2f}, sink {sink:.2f}"
                yield summarise(f"{name} into files", subject, measured, note=note, extra={"sink_us_per_row": sink})


def _flow(content: Content, subject: str, flows: Flows) -> tuple[Run, float]:
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        flows.drain(content, slot, _destination(subject, slot, flows), watch)
        watch.wait()
        run = Run(
            rows=content.rows,
            wall_s=watch.wall_s,
            cpu_s=watch.cpu_s(SOURCE, SINK),
            server_cpu_s=watch.walsender_cpu_s,
        )
        return run, watch.cpu_s(SINK) / content.rows * 1e6


def _destination(subject: str, run: str, flows: Flows) -> dict[str, Any]:
    """A new file or directory for each run; all are removed with the benchmark's directory."""
    kind, _, mode = subject.partition(", ")
    if kind == "duckdb":
        return {"type": "duckdb", "options": {"dsn": str(flows.directory / f"{run}.duckdb"), "write_mode": mode}}
    path = flows.directory / run
    path.mkdir()
    return {"type": "files", "options": {"path": str(path), "write_mode": mode}}


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
