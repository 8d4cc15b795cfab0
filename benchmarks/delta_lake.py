"""What does the Delta destination cost by itself: rows of a log, a first copy, and updates of a large mirror?

The sink is driven in this process with prepared windows of 100,000 narrow rows, one commit each, on the local disk.
Updates are of one row in a hundred in one commit: lying together (in a twentieth of the key range), and all over the
table. The peer is the library's MERGE as its manual shows it, on a table the library wrote with its defaults, with the
same rows. ``rows`` are the rows of the largest table; rates are of rows written or changed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks.measure import Line, Run, main, summarise
from sinks.delta import FACTORY
from wallaby.lsn import START, Lsn, Position
from wallaby.sink import Sink, SinkWriter
from wallaby.testing.changes import bulk, part, table
from wallaby.window import OP_INSERT, OP_UPDATE, CommitToken, LaneId, Window

WINDOW_ROWS: Final = 100_000
TABLE: Final = table(
    "public.narrow", {"id": "int8", "customer": "int4", "amount": "float8", "note": "text"}, key=["id"]
)
LANE: Final = LaneId("benchmark", "delta")


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Writes first, then updates of tables of a tenth, a half and all of the rows."""
    for mode in ("append", "mirror"):
        runs = [_in_directory(lambda path, mode=mode: _written(path, mode, words.rows)) for _ in range(words.runs)]
        yield summarise("rows into Delta", f"wallaby, {mode}", runs)
    for share in (10, 2, 1):
        count = words.rows // share
        for spread in ("together", "all over"):
            name = f"1 % of {count:,} rows updated, {spread}"
            peers, ours = [], []
            for _ in range(words.runs):
                peers.append(_in_directory(lambda path, n=count, s=spread: _peer_updated(path, n, s)))
                ours.append(_in_directory(lambda path, n=count, s=spread: _updated(path, n, s)))
            peer = summarise(name, "deltalake MERGE", peers, is_peer=True, note=_milliseconds(peers))
            yield peer
            yield summarise(name, "wallaby, mirror", ours, peer=peer, note=_milliseconds(ours))


def _milliseconds(runs: list[Run]) -> str:
    return f"{sorted(run.wall_s for run in runs)[len(runs) // 2] * 1e3:,.0f} ms per commit"


def _in_directory(work: Callable[[Path], Run]) -> Run:
    directory = Path(tempfile.mkdtemp(prefix="wallaby-benchmark-"))
    try:
        return work(directory)
    finally:
        shutil.rmtree(directory)


class _Driven:
    """A sink with one lane, and windows with places of their own."""

    def __init__(self, path: Path, mode: str) -> None:
        self.sink: Sink = FACTORY.create({"path": str(path), "write_mode": mode}, destination="delta")
        self.sink.ensure_table(TABLE)
        self.sink.recover(LANE, 1)
        self.writer: SinkWriter = self.sink.writer(LANE, 1)
        self.at = START

    def window(self, rows: pa.Table, op: int, number: int) -> Window:
        columns = [column.combine_chunks() for column in rows.columns]
        lsn = 0x1000 * (number + 1)
        changes = part(TABLE, bulk(TABLE, columns, op=op, commit_lsn=lsn))
        return Window(Position(Lsn(0x1000 * number)), Position(Lsn(lsn + 1)), (changes,))

    def apply(self, window: Window) -> None:
        self.writer.write(window)
        self.writer.commit(CommitToken(LANE, 1, self.at, window.upto, window.rows))
        self.at = window.upto


def _written(path: Path, mode: str, count: int) -> Run:
    driven = _Driven(path, mode)
    windows = [
        driven.window(_rows(np.arange(first, min(first + WINDOW_ROWS, count))), OP_INSERT, number)
        for number, first in enumerate(range(0, count, WINDOW_ROWS))
    ]
    run = _timed(count, lambda: [driven.apply(window) for window in windows])
    driven.sink.close()
    return run


def _updated(path: Path, count: int, spread: str) -> Run:
    driven = _Driven(path, "mirror")
    for number, first in enumerate(range(0, count, WINDOW_ROWS)):
        driven.apply(driven.window(_rows(np.arange(first, min(first + WINDOW_ROWS, count))), OP_INSERT, number))
    keys = _changed_keys(count, spread)
    window = driven.window(_rows(keys, note="changed"), OP_UPDATE, count)
    run = _timed(len(keys), lambda: driven.apply(window))
    driven.sink.close()
    return run


def _peer_updated(path: Path, count: int, spread: str) -> Run:
    where = str(path / "narrow")
    for first in range(0, count, WINDOW_ROWS):
        write_deltalake(where, _rows(np.arange(first, min(first + WINDOW_ROWS, count))), mode="append")
    keys = _changed_keys(count, spread)
    source = _rows(keys, note="changed")
    target = DeltaTable(where)

    def merge() -> None:
        merged = target.merge(source, "target.id = source.id", source_alias="source", target_alias="target")
        merged.when_matched_update_all().when_not_matched_insert_all().execute()

    return _timed(len(keys), merge)


def _changed_keys(count: int, spread: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    choice = np.random.default_rng(7)
    if spread == "all over":
        return np.sort(choice.choice(count, count // 100, replace=False))
    return count // 2 + np.sort(choice.choice(count // 20, count // 100, replace=False))


def _rows(keys: np.ndarray[tuple[int], np.dtype[np.int64]], note: str = "note") -> pa.Table:
    customers = pa.array((keys % 1000).astype(np.int32))
    notes = pa.array([f"{note} {number}" for number in range(1000)]).take(pa.array(keys % 1000))
    return pa.table({"id": keys, "customer": customers, "amount": pa.array(keys / 7.0), "note": notes})


def _timed(rows: int, work: Callable[[], object]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
