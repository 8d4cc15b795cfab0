"""New rows as data files of a Delta table, and what its log says of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sinks.delta.folder import TableFolder
from sinks.delta.live_rows import partition_texts
from wallaby.transform.columns import single
from wallaby.transform.grouping import dense, group_ids

_COMPRESSION: Final = "snappy"
_EXPANSION: Final = 4
"""Arrow bytes to one of a file, roughly."""
_BOUND_LENGTH_MAX: Final = 32
"""Longer texts are not worth being bounds."""


@dataclass(frozen=True, slots=True)
class Written:
    """A new data file."""

    add: dict[str, Any]
    rows: pa.Table
    """What is in it, in the order of the file, with the columns it is partitioned by."""


def write_rows(
    folder: TableFolder, rows: pa.Table, partitions: tuple[str, ...], *, file_bytes: int, now_ms: int
) -> Iterator[Written]:
    """Write ``rows`` into new files of about ``file_bytes``, those of a partition apart from the others'."""
    for values, part in _parted(rows, partitions):
        count = max(1, part.num_rows * file_bytes * _EXPANSION // max(part.nbytes, 1))
        for first in range(0, part.num_rows, count):
            piece = part.slice(first, count)
            yield Written(_write(folder, piece.drop_columns(list(partitions)), values, now_ms), piece)


def _parted(rows: pa.Table, partitions: tuple[str, ...]) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
    if not rows.num_rows:
        return
    if not partitions:
        yield {}, rows
        return
    columns = [single(rows.column(name)) for name in partitions]
    ids, count = dense(group_ids(columns, rows.num_rows))
    order = np.argsort(ids, kind="stable")
    starts = np.searchsorted(ids[order], np.arange(count))
    firsts = pa.array(order[starts])
    texts = [partition_texts(column.take(firsts)) for column in columns]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(order)], strict=True)):
        values = {name: text[number] for name, text in zip(partitions, texts, strict=True)}
        yield values, rows.take(pa.array(order[start:end]))


def _write(folder: TableFolder, rows: pa.Table, values: dict[str, str | None], now_ms: int) -> dict[str, Any]:
    path = f"part-00000-{uuid.uuid4()}-c000.{_COMPRESSION}.parquet"
    size = folder.write(path, partial(pq.write_table, rows, compression=_COMPRESSION))
    return {
        "path": path,
        "partitionValues": values,
        "size": size,
        "modificationTime": now_ms,
        "dataChange": True,
        "stats": json.dumps(_statistics(rows), separators=(",", ":")),
    }


def _statistics(rows: pa.Table) -> dict[str, Any]:
    """What readers leave files out by. Bounds of whole numbers, dates and short texts; others come by compaction."""
    lowest, highest, nulls = {}, {}, {}
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_nested(column.type):
            continue
        nulls[name] = column.null_count
        ends = _ends(column)
        if ends is not None:
            lowest[name], highest[name] = ends
    return {"numRecords": rows.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}


def _ends(column: pa.ChunkedArray) -> tuple[Any, Any] | None:
    kind = column.type
    if column.null_count == len(column) or not (
        pa.types.is_integer(kind) or pa.types.is_string(kind) or kind == pa.date32()
    ):
        return None
    ends = pc.min_max(column)
    if kind == pa.date32():
        texts = [ends[name].cast(pa.string()).as_py() for name in ("min", "max")]
        # Years beyond four digits are written in more ways than one.
        return (texts[0], texts[1]) if all(len(text) == len("2000-01-01") for text in texts) else None
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if isinstance(low, str) and max(len(low), len(high)) > _BOUND_LENGTH_MAX:
        return None
    return low, high


__all__ = ["Written", "write_rows"]
