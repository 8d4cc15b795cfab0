"""Rows of one table to one record batch in the change layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import BinaryUnsupported, DecodeError
from wallaby.lsn import Lsn
from wallaby.pgoutput.kernel import UNCHANGED_LENGTH
from wallaby.pgtypes.gather import Bytes, Cells, Index, MalformedCell, NoBinaryForm, Outliers, Sweep, finish
from wallaby.pgtypes.layout import Family, Layout, layout_of
from wallaby.pgtypes.types import change_schema
from wallaby.schema import TableSchema
from wallaby.window import BEFORE_OUTLIER_BIT, OUTLIER_TYPE, UNCHANGED_TYPE

_UINT64: Final = 2**64 - 1
_TIME: Final = pa.timestamp("us", "UTC")
_STRING: Final = Layout(Family.STRING, pa.string())


@dataclass(frozen=True, slots=True)
class Rows:
    """The row arrays of one batch, all of one length, in stream order; the batch keeps the first five.

    LSNs and xids are the signed integers of the same bits; ``committed_at`` counts from 1970.
    """

    op: npt.NDArray[np.uint8]
    commit_lsn: npt.NDArray[np.int64]
    ordinal: npt.NDArray[np.int64]
    xid: npt.NDArray[np.int32]
    committed_at: npt.NDArray[np.int64]
    new: Index
    old: Index
    news: int
    """Rows with a new tuple."""
    olds: int
    has_unchanged: bool


class BatchBuilder:
    """Builds the batches of one table version, and keeps nothing of them.

    ``opaque_as_text``: the copier selected such columns as text, so their binary cells hold text.
    """

    __slots__ = ("_after", "_after_type", "_arrow", "_before", "_before_type", "_columns", "_key", "schema")

    def __init__(self, schema: TableSchema, *, opaque_as_text: bool = False) -> None:
        self.schema = schema
        self._arrow = change_schema(schema)
        self._before_type: pa.StructType = self._arrow.field("before").type
        self._after_type: pa.StructType = self._arrow.field("after").type
        self._key = schema.key
        layouts = [layout_of(column.type, column.typmod) for column in schema.columns]
        if opaque_as_text:
            layouts = [_STRING if layout.family is Family.OPAQUE else layout for layout in layouts]
        self._columns = range(len(layouts))
        self._after = Sweep(layouts, self._columns)
        self._before = Sweep(layouts, self._key)

    def build(self, data: Bytes, offset: Index, length: Index, rows: Rows) -> pa.RecordBatch:
        """One batch of all ``rows``. Everything is copied out of ``data``. DecodeError for a malformed cell."""
        count = len(rows.op)
        outliers: dict[int, Outliers] = {}
        after = self._struct(self._after_type, self._columns, data, offset, length, rows, outliers)
        before = self._struct(self._before_type, self._key, data, offset, length, rows, outliers, is_before=True)
        unchanged = _unchanged(length, rows.new, len(self._columns)) if rows.has_unchanged else None
        return pa.RecordBatch.from_arrays(
            [
                _values(pa.uint8(), rows.op),
                _values(pa.uint64(), rows.commit_lsn),
                _values(pa.uint64(), rows.ordinal),
                _values(pa.uint32(), rows.xid),
                _values(_TIME, rows.committed_at),
                pa.nulls(count, UNCHANGED_TYPE) if unchanged is None else unchanged,
                before,
                after,
                _outlier_lists(outliers, count),
            ],
            schema=self._arrow,
        )

    def _struct(
        self,
        arrow: pa.StructType,
        columns: range | tuple[int, ...],
        data: Bytes,
        offset: Index,
        length: Index,
        rows: Rows,
        outliers: dict[int, Outliers],
        *,
        is_before: bool = False,
    ) -> pa.StructArray:
        base, present = (rows.old, rows.olds) if is_before else (rows.new, rows.news)
        count = len(base)
        if present == 0:
            return pa.nulls(count, arrow)
        valid = None if present == count else pa.py_buffer(np.packbits(base != 0, bitorder="little"))
        children = []
        cells = Cells(data, offset, length, base)
        swept = (self._before if is_before else self._after).over(cells)
        for k, column in enumerate(columns):
            try:
                child, found = finish(swept, k, cells, column)
            except MalformedCell as error:
                raise self._error(error, column, rows) from error
            children.append(child)
            if found is not None:
                outliers[column | (BEFORE_OUTLIER_BIT if is_before else 0)] = found
        return pa.Array.from_buffers(arrow, count, [valid], count - present, children=children)

    def _error(self, error: MalformedCell, column: int, rows: Rows) -> DecodeError:
        kind: type[DecodeError] = DecodeError
        advice = "Set `binary: false` for the source, or report the type of the column."
        if isinstance(error, NoBinaryForm):
            kind, advice = BinaryUnsupported, "The stream is opened again as text."
        return kind(
            f"cannot decode a value: {error.reason}",
            advice=advice,
            table=self.schema.name,
            column=self.schema.columns[column].name,
            type=self.schema.columns[column].type.name,
            lsn=Lsn(int(rows.commit_lsn[error.row]) & _UINT64),
        )


@lru_cache(maxsize=512)
def builder_of(schema: TableSchema) -> BatchBuilder:
    """The builder of a table version, made once for all decoders: every connection has a new one of those."""
    return BatchBuilder(schema)


def _values(arrow: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(arrow, len(values), [None, pa.py_buffer(values)], 0)


def _unchanged(length: Index, new: Index, columns: int) -> pa.Array | None:
    """Per row the columns PostgreSQL did not send; None when there are none."""
    hits = [np.flatnonzero(length[new + column] == UNCHANGED_LENGTH) for column in range(columns)]
    if not any(len(rows) for rows in hits):
        return None
    row = np.concatenate(hits)
    column = np.repeat(np.arange(columns, dtype=np.uint16), [len(rows) for rows in hits])
    order = np.argsort(row, kind="stable")
    return _lists(UNCHANGED_TYPE, row[order], pa.array(column[order]), len(new))


def _outlier_lists(outliers: dict[int, Outliers], count: int) -> pa.Array:
    if not outliers:
        return pa.nulls(count, OUTLIER_TYPE)
    found = outliers.values()
    row = np.concatenate([one.rows for one in found])
    column = np.repeat(np.array(list(outliers), np.uint16), [len(one.rows) for one in found])
    order = np.lexsort((column, row))
    texts = pa.concat_arrays([one.texts for one in found]).take(pa.array(order))
    values = pa.StructArray.from_arrays([pa.array(column[order]), texts], fields=list(OUTLIER_TYPE.value_type))
    return _lists(OUTLIER_TYPE, row[order], values, count)


def _lists(arrow: pa.ListType, row: npt.NDArray[Any], values: pa.Array, rows: int) -> pa.Array:
    """List arrays from values and the (sorted) row each belongs to; null where a row has none."""
    counts = np.bincount(row, minlength=rows)
    starts = np.zeros(rows + 1, np.int32)
    np.cumsum(counts, out=starts[1:])
    valid = np.packbits(counts > 0, bitorder="little")
    return pa.Array.from_buffers(arrow, rows, [pa.py_buffer(valid), pa.py_buffer(starts)], children=[values])
