"""A batch in the change layout, opened: plain arrays per column, old and new, without touching a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import RowRefused
from wallaby.schema import TableSchema
from wallaby.transform.grouping import Ids
from wallaby.transform.outliers import Outliers
from wallaby.window import OP_COPY, OP_DELETE, OP_INSERT, OP_UPDATE, OUTLIER_TYPE

_OUTLIERS_FIELD = pa.field("__outliers", OUTLIER_TYPE)


@dataclass(frozen=True, slots=True)
class Changes:
    """One table's changes, single-chunk. Row numbers everywhere are places in the batch."""

    schema: TableSchema
    rows: int
    op: npt.NDArray[np.uint8]
    after: pa.StructArray
    before: pa.StructArray | None
    has_before: npt.NDArray[np.bool_]
    unchanged: pa.ListArray
    has_unchanged: npt.NDArray[np.bool_] | None
    """Rows with unchanged columns; None when the batch has none at all."""
    outliers: pa.ListArray

    @classmethod
    def of(cls, schema: TableSchema, changes: pa.Table) -> Changes:
        """Open ``changes``; copies only when it has several chunks."""
        before = single(changes["before"]) if "before" in changes.column_names else None
        rows = len(changes)
        unchanged = single(changes["unchanged"])
        has_unchanged = None
        if unchanged.null_count < rows:
            has_unchanged = pc.fill_null(pc.list_value_length(unchanged), 0).to_numpy(zero_copy_only=False) > 0
            if not has_unchanged.any():
                has_unchanged = None
        op = single(changes["op"]).to_numpy(zero_copy_only=False)
        assert bool(np.isin(op, (OP_COPY, OP_INSERT, OP_UPDATE, OP_DELETE)).all()), np.unique(op)
        return cls(
            schema=schema,
            rows=rows,
            op=op,
            after=single(changes["after"]),
            before=before,
            has_before=np.zeros(rows, np.bool_) if before is None else valid(before),
            unchanged=unchanged,
            has_unchanged=has_unchanged,
            outliers=single(changes["outliers"]),
        )

    @property
    def row_schema(self) -> pa.Schema:
        """All columns with the layout's types and metadata, nullable, and ``__outliers``."""
        return pa.schema([*(field.with_nullable(True) for field in self.after.type), _OUTLIERS_FIELD])

    @property
    def key_schema(self) -> pa.Schema:
        return pa.schema([self.after.type.field(i).with_nullable(True) for i in self.schema.key])

    def after_columns(self) -> list[pa.Array]:
        """The new rows' columns; junk where there is no new row.

        A key column PostgreSQL did not send is taken from ``before`` (without a key: any column).
        """
        columns = [self.after.field(i) for i in range(self.after.type.num_fields)]
        if self.has_unchanged is not None:
            row, column = self.unchanged_cells()
            for i in np.intersect1d(np.unique(column), np.array(self.schema.key, np.int64)).tolist():
                columns[i] = self._from_before(columns[i], i, row[column == i])
        return columns

    def before_columns(self) -> list[pa.Array]:
        """The old rows' columns, in the order of the key; junk where no old row was sent."""
        if self.before is None:
            return [pa.nulls(self.rows, field.type) for field in self.key_schema]
        return [self.before.field(i) for i in range(self.before.type.num_fields)]

    def unchanged_cells(self) -> tuple[Ids, Ids]:
        """Row and column of every cell PostgreSQL did not send."""
        row = pc.list_parent_indices(self.unchanged).to_numpy(zero_copy_only=False).astype(np.int64)
        column = pc.list_flatten(self.unchanged).to_numpy(zero_copy_only=False).astype(np.int64)
        return row, column

    def row_outliers(self, rows: Ids, *, before: bool = False) -> pa.Array:
        """The outliers of the new (or old) versions of ``rows``, in the shape of ``__outliers``."""
        outliers = Outliers.of(self.outliers, before=before)
        entry, place = outliers.of_rows(rows, self.rows)
        if before or self.has_unchanged is None or not len(self.outliers):
            return outliers.moved(entry, place, len(rows))
        # A column taken from ``before`` brings its outlier along.
        old = Outliers.of(self.outliers, before=True)
        row, column = self.unchanged_cells()
        width = len(self.schema.columns)
        wanted = np.isin(old.row * width + old.column, row * width + column)
        kept = np.flatnonzero(wanted)
        both = Outliers(
            np.concatenate([outliers.row, old.row[kept]]),
            np.concatenate([outliers.column, old.column[kept]]),
            pa.concat_arrays([outliers.text, old.text.take(pa.array(kept))]),
        )
        entry, place = both.of_rows(rows, self.rows)
        return both.moved(entry, place, len(rows))

    def _from_before(self, column: pa.Array, index: int, rows: Ids) -> pa.Array:
        if self.before is None or not self.has_before[rows].all():
            raise RowRefused(
                "PostgreSQL sent neither the new nor the old value of a key column",
                advice="Copy the table again; if it happens again, set REPLICA IDENTITY FULL on it",
                table=self.schema.name,
                column=self.schema.columns[index].name,
            )
        at = np.arange(self.rows, dtype=np.int64)
        at[rows] += self.rows
        old = self.before.field(self.schema.key.index(index))
        return pa.concat_arrays([column, old.cast(column.type)]).take(pa.array(at))


def single(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; zero-copy when it has one chunk."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    """True where there is a value."""
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    if array.null_count == len(array):
        return np.zeros(len(array), np.bool_)
    return array.is_valid().to_numpy(zero_copy_only=False)


def lists_of(rows: Ids, cells: pa.Array, count: int, kind: pa.DataType) -> pa.Array:
    """A list column of ``count`` rows in which ``cells[i]`` belongs to row ``rows[i]`` (ascending); null where none."""
    counts = np.bincount(rows, minlength=count)
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), cells, type=kind, mask=pa.array(counts == 0))


def _pair_bytes(array: pa.MapArray) -> Ids:
    return value_bytes(array.keys) + value_bytes(array.items)


def value_bytes(array: pa.Array) -> Ids:
    """What each value takes in Arrow buffers, without validity and offsets; 0 for null text, bytes and lists."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return value_bytes(array.storage)
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        inside = value_bytes(array.values) if pa.types.is_list(kind) else _pair_bytes(array)
        ends = np.zeros(len(inside) + 1, np.int64)
        np.cumsum(inside, out=ends[1:])
        sizes = np.diff(ends[array.offsets.to_numpy()])
        return np.where(array.is_valid().to_numpy(zero_copy_only=False), sizes, 0) if array.null_count else sizes
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.full(len(array), max(kind.bit_width // 8, 1), np.int64)
