"""How fast do changes become rows of Iceberg tables, and does a mirror's cost follow the changes or the table?

The sink alone, in this process, without PostgreSQL: windows are made beforehand; a SQLite catalog and local files.
First appends of narrow rows. Then, into a mirror of ``--rows`` rows, five commits of 1 % updates of random keys by each
strategy, beside pyiceberg's own ``upsert`` of as many rows (once: it is slow). Rates are of changed rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import load_catalog

from benchmarks.measure import Line, Run, main, summarise
from sinks.iceberg import FACTORY
from wallaby.lsn import START, Lsn, Position
from wallaby.sink import Sink, SinkWriter
from wallaby.testing.changes import bulk, part, table
from wallaby.window import OP_UPDATE, CommitToken, LaneId, Window

_SCHEMA = table("public.narrow", {"id": "int8", "a": "int4", "b": "float8", "note": "text"}, key=["id"])
_LANE = LaneId("benchmark", "lake")
_WINDOW_ROWS = 250_000
_COMMITS = 5
_SEED = 7


class _Lane:
    """One lane on a lake of its own."""

    def __init__(self, folder: str, **options: Any) -> None:
        self.options = {"catalog_uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}", **options}
        self.sink: Sink = FACTORY.create(self.options, destination="lake")
        self.sink.ensure_table(_SCHEMA)
        self._at = self.sink.recover(_LANE, 1)
        self._writer: SinkWriter = self.sink.writer(_LANE, 1)

    def apply(self, windows: list[Window]) -> None:
        """All in one commit."""
        for window in windows:
            self._writer.write(window)
        upto = windows[-1].upto
        self._writer.commit(CommitToken(_LANE, 1, self._at, upto, sum(window.rows for window in windows)))
        self._at = upto


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Appends, then updates."""
    rows = words.rows
    subjects: dict[str, list[Run]] = {"append": [], "mirror, copy": []}
    for _ in range(words.runs):
        for subject, runs in subjects.items():
            with tempfile.TemporaryDirectory() as folder:
                lane = _Lane(folder, write_mode=subject.partition(",")[0])
                windows = _inserts(rows)
                runs.append(_timed(rows, lambda lane=lane, windows=windows: lane.apply(windows)))  # type: ignore[misc]
                lane.sink.close()
    for subject, runs in subjects.items():
        yield summarise("narrow rows into iceberg", subject, runs)
    yield from _updates(rows)


def _updates(rows: int) -> Iterator[Line]:
    name, count = f"1 % updates into {rows:,} rows", max(rows // 100, 1)
    with tempfile.TemporaryDirectory() as folder:
        lane = _Lane(folder)
        lane.apply(_inserts(rows))
        catalog = load_catalog("wallaby", type="sql", uri=lane.options["catalog_uri"], warehouse=folder)
        copied = catalog.load_table(("public", "narrow"))
        changed = _update(rows, count, 0)[1]
        peer = summarise(
            name, "pyiceberg upsert", [_timed(count, lambda: copied.upsert(changed, join_cols=["id"]))], is_peer=True
        )
        lane.sink.close()
        catalog.close()
    yield peer
    for strategy in ("position-deletes", "copy-on-write"):
        with tempfile.TemporaryDirectory() as folder:
            lane = _Lane(folder, mirror_strategy=strategy)
            lane.apply(_inserts(rows))
            windows = [_update(rows, count, number)[0] for number in range(_COMMITS)]
            runs = [
                _timed(count, lambda lane=lane, window=window: lane.apply([window]))  # type: ignore[misc]
                for window in windows
            ]
            first = f"first {runs[0].wall_s:.2f} s, last {runs[-1].wall_s:.2f} s, last CPU {runs[-1].cpu_s:.2f} s"
            size = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))
            yield summarise(name, strategy, runs, peer=peer, note=f"{first}, files {size >> 20} MiB")
            lane.sink.close()


def _timed(rows: int, work: Callable[[], object]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def _columns(ids: np.ndarray[Any, Any], mark: int) -> list[pa.Array]:
    numbers = pa.array(ids.astype(np.int64))
    notes = pa.array(np.char.add("note ", (ids % 1000).astype(str)).tolist())
    return [numbers, pa.array((ids % 10_000).astype(np.int32) + mark), pa.array(ids * 0.5), notes]


def _inserts(rows: int) -> list[Window]:
    windows, at = [], START
    for first in range(0, rows, _WINDOW_ROWS):
        ids = np.arange(first, min(first + _WINDOW_ROWS, rows))
        upto = Position(Lsn(0x1000 + first))
        changes = bulk(_SCHEMA, _columns(ids, 0), commit_lsn=0x1000 + first)
        windows.append(Window(at, upto, (part(_SCHEMA, changes),)))
        at = upto
    return windows


def _update(rows: int, count: int, number: int) -> tuple[Window, pa.Table]:
    ids = np.random.default_rng(_SEED + number).choice(rows, count, replace=False)
    columns = _columns(ids, number + 1)
    lsn = 0x1000 + 2 * rows + number * 0x100
    window = Window(
        Position(Lsn(lsn)),
        Position(Lsn(lsn + 0x80)),
        (part(_SCHEMA, bulk(_SCHEMA, columns, op=OP_UPDATE, commit_lsn=lsn)),),
    )
    return window, pa.table(columns, names=[column.name for column in _SCHEMA.columns])


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
