"""The rows all subjects are given, as Parquet files: narrow ones to begin with, then changes of one in a hundred."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS: Final = 250_000
"""Rows of one group in the file, and of one window or one write."""
SHARE: Final = 100
SEED: Final = 7

Spread = Literal["together", "all over"]


def write_rows(path: Path, count: int) -> None:
    """``count`` narrow rows with the keys 0, 1, 2 …, a group at a time."""
    with pq.ParquetWriter(path, _rows(np.arange(0)).schema) as writer:
        for first in range(0, count, GROUP_ROWS):
            writer.write_table(_rows(np.arange(first, min(first + GROUP_ROWS, count))), row_group_size=GROUP_ROWS)


def write_changes(path: Path, count: int, spread: Spread, number: int) -> None:
    """New contents for one in a hundred of ``count`` rows: in a twentieth of the keys, or anywhere."""
    choice = np.random.default_rng(SEED + number)
    if spread == "all over":
        keys = choice.choice(count, count // SHARE, replace=False)
    else:
        first = (count // 20) * (number % 20)
        keys = first + choice.choice(count // 20, count // SHARE, replace=False)
    pq.write_table(_rows(np.sort(keys), mark=number + 1), path, row_group_size=GROUP_ROWS)


def expected(folder: Path) -> pa.Table:
    """What a table holds after all files of ``folder``: rows, then changes in the order of their names."""
    rows = pq.read_table(folder / "rows.parquet")
    ids = rows.column("id").to_numpy()
    assert len(ids) == 0 or (ids[0] == 0 and ids[-1] == len(ids) - 1)
    columns = {name: rows.column(name).to_numpy(zero_copy_only=False).copy() for name in rows.column_names}
    for path in sorted(folder.glob("changes-*.parquet")):
        changed = pq.read_table(path)
        at = changed.column("id").to_numpy()
        for name in rows.column_names:
            columns[name][at] = changed.column(name).to_numpy(zero_copy_only=False)
    return pa.table(columns, schema=rows.schema)


def _rows(keys: np.ndarray[Any, Any], mark: int = 0) -> pa.Table:
    notes = pa.array([f"note {mark} {number}" for number in range(1000)]).take(pa.array(keys % 1000))
    customers = pa.array(((keys + mark) % 10_000).astype(np.int32))
    return pa.table({"id": pa.array(keys.astype(np.int64)), "customer": customers, "amount": keys / 7.0, "note": notes})
