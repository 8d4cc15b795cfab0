"""One table's changes taken apart, to be put together again in another shape.

`Changes` is what a sink reads; `Rows` is what the stage works on between two tables in the change layout. Columns are
separate arrays, and what is known *about* cells (not sent, outside the type) is flat, by row and column, so that a step
which moves columns or rows has one thing to do for each.

A key column that was not sent is resolved when the changes are opened: its value is in ``before``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.pgtypes.types import change_schema
from wallaby.schema import TableSchema
from wallaby.transform.columns import Changes, lists_of, single, valid
from wallaby.transform.grouping import Ids
from wallaby.transform.outliers import Outliers
from wallaby.window import BEFORE_OUTLIER_BIT, OUTLIER_TYPE, UNCHANGED_TYPE

_PLACE = ("commit_lsn", "ordinal", "xid", "committed_at")
_NONE: Ids = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of ``after`` that were not sent, by row and column; ordered by row."""

    row: Ids
    column: Ids

    @classmethod
    def none(cls) -> Self:
        return cls(_NONE, _NONE)

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Rows:
    """Changes of one table, in stream order. Column indexes are places in ``after``."""

    op: npt.NDArray[np.uint8]
    place: Mapping[str, pa.Array]
    """``commit_lsn``, ``ordinal``, ``xid``, ``committed_at``."""
    after: tuple[pa.Array, ...]
    """Junk where `has_after` is false."""
    has_after: npt.NDArray[np.bool_]
    before: tuple[pa.Array, ...]
    """In the order of ``key``; junk where `has_before` is false."""
    has_before: npt.NDArray[np.bool_]
    key: tuple[int, ...]
    """The columns of ``before``."""
    unchanged: Cells
    outliers: Outliers
    """Of ``after``."""
    old_outliers: Outliers
    """Of ``before``."""

    @classmethod
    def of(cls, schema: TableSchema, changes: pa.Table) -> Self:
        """Open ``changes`` (change layout); zero-copy when it has one chunk and no key column is missing."""
        batch = Changes.of(schema, changes)
        unchanged = Cells.none()
        if batch.has_unchanged is not None:
            cells = Cells(*batch.unchanged_cells())
            unchanged = chosen_cells(cells, ~np.isin(cells.column, np.array(schema.key, np.int64)))
        outliers = old_outliers = Outliers(_NONE, _NONE, pa.array([], pa.string()))
        if batch.outliers.null_count < batch.rows:
            outliers = Outliers.of(batch.row_outliers(np.arange(batch.rows)))
            old_outliers = Outliers.of(batch.outliers, before=True)
        return cls(
            op=batch.op,
            place={name: single(changes[name]) for name in _PLACE},
            after=tuple(batch.after_columns()),
            has_after=valid(batch.after),
            before=tuple(batch.before_columns()),
            has_before=batch.has_before,
            key=schema.key,
            unchanged=unchanged,
            outliers=outliers,
            old_outliers=old_outliers,
        )

    def __len__(self) -> int:
        return len(self.op)

    def taken(self, at: Ids) -> Self:
        """The rows ``at``, which ascend; one may come twice."""
        if len(at) == len(self) and (len(at) == 0 or bool((np.diff(at) == 1).all())):
            return self
        index = pa.array(at)
        return replace(
            self,
            op=self.op[at],
            place={name: column.take(index) for name, column in self.place.items()},
            after=tuple(column.take(index) for column in self.after),
            has_after=self.has_after[at],
            before=tuple(column.take(index) for column in self.before),
            has_before=self.has_before[at],
            unchanged=_taken_cells(self.unchanged, at, len(self)),
            outliers=_taken_outliers(self.outliers, at, len(self)),
            old_outliers=_taken_outliers(self.old_outliers, at, len(self)),
        )

    def with_columns(self, kept: Sequence[int]) -> Self:
        """The columns ``kept``, in that order; what is known about others is gone."""
        if list(kept) == list(range(len(self.after))):
            return self
        place = np.full(len(self.after), -1, np.int64)
        place[list(kept)] = np.arange(len(kept))
        old_of = dict(zip(self.key, self.before, strict=True))
        key = tuple(number for number, i in enumerate(kept) if i in old_of)
        cells = chosen_cells(self.unchanged, place[self.unchanged.column] >= 0)
        return replace(
            self,
            after=tuple(self.after[i] for i in kept),
            before=tuple(old_of[kept[number]] for number in key),
            key=key,
            unchanged=Cells(cells.row, place[cells.column]),
            outliers=_placed(self.outliers, place),
            old_outliers=_placed(self.old_outliers, place),
        )

    def with_more(self, columns: Sequence[pa.Array]) -> Self:
        """These columns behind the others; no key."""
        return replace(self, after=(*self.after, *columns)) if columns else self

    def batch(self, schema: TableSchema) -> pa.RecordBatch:
        """In the change layout again, as the changes of a table of the shape ``schema``."""
        layout = change_schema(schema)
        assert schema.key == self.key, (schema.key, self.key)
        arrays = {
            "op": pa.array(self.op),
            **self.place,
            "unchanged": self._unchanged_lists(),
            "before": _struct(self.before, layout.field("before").type, self.has_before),
            "after": _struct(self.after, layout.field("after").type, self.has_after),
            "outliers": self._outlier_lists(),
        }
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in layout], schema=layout)

    def _unchanged_lists(self) -> pa.Array:
        cells = self.unchanged
        if not len(cells):
            return pa.nulls(len(self), UNCHANGED_TYPE)
        order = np.lexsort((cells.column, cells.row))
        columns = pa.array(cells.column[order].astype(np.uint16))
        return lists_of(cells.row[order], columns, len(self), UNCHANGED_TYPE)

    def _outlier_lists(self) -> pa.Array:
        new, old = self.outliers, self.old_outliers
        if not len(new) and not len(old):
            return pa.nulls(len(self), OUTLIER_TYPE)
        both = Outliers(
            np.concatenate([new.row, old.row]),
            np.concatenate([new.column, old.column | BEFORE_OUTLIER_BIT]),
            pa.concat_arrays([new.text, old.text]),
        )
        return both.moved(np.arange(len(both)), both.row, len(self))


def chosen_cells(cells: Cells, wanted: npt.NDArray[np.bool_]) -> Cells:
    """Those for which ``wanted`` is true."""
    return Cells(cells.row[wanted], cells.column[wanted])


def joined_cells(one: Cells, other: Cells) -> Cells:
    """Both, ordered by row."""
    row = np.concatenate([one.row, other.row])
    order = np.argsort(row, kind="stable")
    return Cells(row[order], np.concatenate([one.column, other.column])[order])


def chosen_outliers(outliers: Outliers, wanted: npt.NDArray[np.bool_]) -> Outliers:
    """Those entries for which ``wanted`` is true."""
    at = np.flatnonzero(wanted)
    return Outliers(outliers.row[at], outliers.column[at], outliers.text.take(pa.array(at)))


def joined_outliers(one: Outliers, other: Outliers) -> Outliers:
    """Both, ordered by row."""
    row = np.concatenate([one.row, other.row])
    order = np.argsort(row, kind="stable")
    return Outliers(
        row[order],
        np.concatenate([one.column, other.column])[order],
        pa.concat_arrays([one.text, other.text]).take(pa.array(order)),
    )


def _struct(columns: Sequence[pa.Array], kind: pa.StructType, present: npt.NDArray[np.bool_]) -> pa.Array:
    if not columns:
        return pa.nulls(len(present), kind)
    mask = None if present.all() else pa.array(~present)
    return pa.StructArray.from_arrays(list(columns), fields=list(kind), mask=mask)


def _placed(outliers: Outliers, place: Ids) -> Outliers:
    if not len(outliers):
        return outliers
    kept = chosen_outliers(outliers, place[outliers.column] >= 0)
    return Outliers(kept.row, place[kept.column], kept.text)


def _taken_cells(cells: Cells, at: Ids, rows: int) -> Cells:
    if not len(cells):
        return cells
    entry, row = _entries(cells.row, at, rows)
    return Cells(row, cells.column[entry])


def _taken_outliers(outliers: Outliers, at: Ids, rows: int) -> Outliers:
    if not len(outliers):
        return outliers
    entry, row = _entries(outliers.row, at, rows)
    return Outliers(row, outliers.column[entry], outliers.text.take(pa.array(entry)))


def _entries(row: Ids, at: Ids, rows: int) -> tuple[Ids, Ids]:
    """The entries of the rows ``at``, in their order, and the new row of each; ``row`` ascends."""
    count = np.bincount(row, minlength=rows)
    first = np.cumsum(count) - count
    times = count[at]
    new = np.repeat(np.arange(len(at)), times)
    within = np.arange(len(new)) - np.repeat(np.cumsum(times) - times, times)
    return first[at][new] + within, new
