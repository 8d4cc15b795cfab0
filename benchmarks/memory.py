"""How much memory do source and sink take while one transaction of a million rows passes through?

Private resident memory (RssAnon) of both actor processes, sampled every 20 ms from the start of the walsender to its
end: before the first row, and the highest. Each destination is also given a transaction a quarter as large: memory that
is bounded does not grow with the transaction.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks.flows import SINK, SOURCE, Flows
from benchmarks.measure import Line, Run, main, summarise
from benchmarks.processes import Usage, Watch
from benchmarks.servers import DATABASE, Content, empty_tables, measuring_server, one_transaction
from wallaby.postgres.embedded import EmbeddedServer

_MIB = 1 << 20
_POINTS = 20
"""Points kept of each curve in JSON."""


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Every destination with the small and with the large transaction; ``--runs`` has no effect."""
    with measuring_server() as source, measuring_server() as target, Flows() as flows:
        for rows in (max(1, words.rows // 4), words.rows):
            content = one_transaction(source, rows, f"rows_{rows}")
            empty_tables(target, content)
            for kind in ("postgres", "duckdb", "files"):
                yield _flow(content, kind, target, flows)
            content.drop()


def _flow(content: Content, kind: str, target: EmbeddedServer, flows: Flows) -> Line:
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        flows.drain(content, slot, _destination(kind, slot, target, flows), watch)
        watch.wait()
        run = Run(rows=content.rows, wall_s=watch.wall_s, cpu_s=watch.cpu_s(SOURCE, SINK))
        extra: dict[str, Any] = {}
        notes = []
        for name in (SOURCE, SINK):
            memory = _curve(watch.usage(name), watch.began_at)
            before, peak = memory[0][1], max(mib for _, mib in memory)
            notes.append(f"{name} {before:.0f} → {peak:.0f} MiB")
            extra |= {f"{name}_before_mib": before, f"{name}_peak_mib": peak}
            extra[f"{name}_mib"] = memory[:: max(1, len(memory) // _POINTS)]
        name = f"memory, one transaction of {content.rows:,}"
        return summarise(name, kind, [run], note="; ".join(notes), extra=extra)


def _curve(usage: Usage, began_at: float) -> list[tuple[float, float]]:
    """Seconds since the start, and MiB."""
    return [(round(at - began_at, 2), round(resident / _MIB, 1)) for at, resident in usage.memory if at >= began_at]


def _destination(kind: str, run: str, target: EmbeddedServer, flows: Flows) -> dict[str, Any]:
    if kind == "postgres":
        return {"type": kind, "options": {"dsn": target.dsn(DATABASE)}}
    if kind == "duckdb":
        return {"type": kind, "options": {"dsn": str(flows.directory / f"{run}.duckdb")}}
    path = flows.directory / run
    path.mkdir()
    return {"type": kind, "options": {"path": str(path)}}


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
