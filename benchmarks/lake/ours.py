"""wallaby's sink alone: ``python -m benchmarks.lake.ours TASK KIND FOLDER TARGET OPTION``.

``append``: the rows into a log, windows as a flow makes them, one commit for all. ``mirror``: the rows first,
unmeasured; then each file of changes as one commit, each a step. One JSON object per step on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.lake.rows import GROUP_ROWS
from wallaby.lsn import Lsn, Position
from wallaby.testing.changes import bulk, part, table
from wallaby.window import OP_INSERT, OP_UPDATE, CommitToken, LaneId, Window

_SCHEMA: Final = table(
    "public.narrow", {"id": "int8", "customer": "int4", "amount": "float8", "note": "text"}, key=["id"]
)
_LANE: Final = LaneId("benchmark", "lake")


class Lane:
    """One lane into a target of its own."""

    def __init__(self, kind: str, target: Path, mode: str, option: str) -> None:
        factory = import_module(f"sinks.{kind}").FACTORY
        self._sink = factory.create(
            {**place(kind, target), "write_mode": mode, **_option(kind, option)}, destination="lake"
        )
        self._sink.ensure_table(_SCHEMA)
        self._at = self._sink.recover(_LANE, 1)
        self._writer = self._sink.writer(_LANE, 1)
        self._number = 0

    def window(self, rows: pa.Table, op: int) -> Window:
        """The next one."""
        self._number += 1
        lsn = 0x1000 * self._number
        columns = [column.combine_chunks() for column in rows.columns]
        changes = part(_SCHEMA, bulk(_SCHEMA, columns, op=op, commit_lsn=lsn))
        return Window(Position(Lsn(lsn - 0x1000 + 1 if self._number > 1 else 0)), Position(Lsn(lsn + 1)), (changes,))

    def commit(self, windows: list[Window]) -> None:
        """All of them at once."""
        for window in windows:
            self._writer.write(window)
        upto = windows[-1].upto
        self._writer.commit(CommitToken(_LANE, 1, self._at, upto, sum(window.rows for window in windows)))
        self._at = upto

    def close(self) -> None:
        self._writer.abort()
        self._sink.close()


def place(kind: str, target: Path) -> dict[str, Any]:
    """The options that put a destination of this kind into a folder."""
    match kind:
        case "iceberg":
            return {"catalog_uri": f"sqlite:///{target}/catalog.db", "warehouse": f"file://{target}"}
        case "duckdb":
            return {"dsn": str(target / "lake.duckdb")}
        case "ducklake":
            return {"catalog": f"sqlite:{target}/lake.sqlite", "data_path": f"{target}/data"}
        case _:
            return {"path": str(target)}


def _option(kind: str, option: str) -> dict[str, Any]:
    if not option:
        return {}
    return {option: True} if kind == "delta" else {"mirror_strategy": option}


def timed(rows: int, work: Callable[[], object]) -> None:
    """Say what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    figures = {"rows": rows, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps(figures), flush=True)


def main() -> None:
    """One task."""
    task, kind, source, place, option = sys.argv[1:6]
    folder, target = Path(source), Path(place)
    lane = Lane(kind, target, "append" if task == "append" else "mirror", option)
    rows = pq.ParquetFile(folder / "rows.parquet")
    groups = (rows.read_row_group(i) for i in range(rows.num_row_groups))
    if task == "append":
        windows = [lane.window(group, OP_INSERT) for group in groups]
        timed(rows.metadata.num_rows, lambda: lane.commit(windows))
    else:
        for group in groups:
            lane.commit([lane.window(group, OP_INSERT)])
        for path in sorted(folder.glob("changes-*.parquet")):
            changed = pq.read_table(path)
            slices = [changed.slice(first, GROUP_ROWS) for first in range(0, changed.num_rows, GROUP_ROWS)]
            windows = [lane.window(one, OP_UPDATE) for one in slices]
            timed(changed.num_rows, lambda windows=windows: lane.commit(windows))  # type: ignore[misc]
    lane.close()


if __name__ == "__main__":
    main()
