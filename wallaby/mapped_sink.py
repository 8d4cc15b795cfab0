"""A sink whose tables have mapped columns: between the stream and any sink, the one place where values are converted.

The sink inside sees tables of other column types, and windows to match. What a mapping cannot do is refused before any
row; a value that its target type does not hold is `RowRefused`, so that the row can be set aside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import Refused, RowRefused
from wallaby.pgtypes.types import change_schema
from wallaby.schema import TableSchema
from wallaby.sink import Finding, Rehearsing, Severity, Sink, SinkWriter
from wallaby.sink_around import RehearsingAround, SinkAround, WriterAround
from wallaby.transform.casts import Cast
from wallaby.type_map import MappedColumn, MappedTable, TypeMap
from wallaby.window import BEFORE_OUTLIER_BIT, OUTLIER_TYPE, Barrier, CommitToken, LaneId, Receipt, TablePart, Window

_FLOAT_WORDS: Final = ("NaN", "Infinity", "-Infinity")
_TABLES_MAX: Final = 1_024
"""Mapped shapes kept; beyond it they are worked out again."""


class MappedSink(SinkAround):
    """See `wallaby.sink.Sink`: the one inside, with the columns of ``types``."""

    def __init__(self, inside: Sink, types: TypeMap) -> None:
        super().__init__(inside)
        self._types = types

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        """Those of the sink, and ``type-mapping``, ``lossy-type`` where a mapping is not possible or needs consent."""
        fit: list[TableSchema] = []
        found: list[Finding] = []
        for schema in tables:
            subject = f"table {schema.name}"
            try:
                fit.append(self._types.table(schema).after)
            except Refused as error:
                code = "lossy-type" if "(lossy-type)" in error.message else "type-mapping"
                found.append(_finding(Severity.ERROR, subject, error.message, error.advice, code))
                continue
            found += [
                _finding(Severity.INFO, subject, f"as agreed, {loss}", "", "lossy-type")
                for loss in self._types.losses(schema)
            ]
        return [*self.inside.check(tuple(fit)), *found]

    def ensure_table(self, schema: TableSchema) -> None:
        self.inside.ensure_table(self._types.table(schema).after)

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        inside = self.inside.writer(lane, epoch)
        if isinstance(inside, Rehearsing):
            return _RehearsingWriter(inside, self._types)
        return _MappedWriter(inside, self._types)


class _MappedWriter(WriterAround):
    """See `wallaby.sink.SinkWriter`."""

    def __init__(self, inside: SinkWriter, types: TypeMap) -> None:
        super().__init__(inside)
        self._types = types
        self._tables: dict[tuple[object, ...], MappedTable] = {}

    def write(self, window: Window) -> None:
        parts = tuple(mapped_part(part, self._table(part.schema)) for part in window.parts)
        self.inside.write(replace(window, parts=parts))

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        schemas = tuple(self._types.table(schema).after for schema in barrier.schemas)
        return self.inside.apply_barrier(replace(barrier, schemas=schemas), token)

    def _table(self, schema: TableSchema) -> MappedTable:
        key = (schema.fingerprint, schema.version)
        found = self._tables.get(key)
        if found is None:
            if len(self._tables) >= _TABLES_MAX:
                self._tables.clear()
            found = self._tables[key] = self._types.table(schema)
        return found


class _RehearsingWriter(_MappedWriter, RehearsingAround):
    """... around one that is `Rehearsing`."""


def mapped_part(part: TablePart, table: MappedTable) -> TablePart:
    """The part in the types of ``table.after``. `RowRefused` for a value one of them does not hold, at its column."""
    if not table.columns or not part.rows:
        return replace(part, schema=table.after)
    batches = [_mapped_batch(batch, table) for batch in part.batches()]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, change_schema(table.after)) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return replace(part, schema=table.after, data=sink.getvalue())


def _mapped_batch(batch: pa.RecordBatch, table: MappedTable) -> pa.RecordBatch:
    wanted = change_schema(table.after)
    outliers = _Cells.of(batch.column("outliers"))
    sides: dict[str, pa.Array] = {}
    for side, numbers in (("after", range(len(table.before.columns))), ("before", table.before.key)):
        given = batch.column(side)
        children: list[pa.Array] = []
        for place, number in enumerate(numbers):
            child = given.field(place)
            one = table.columns.get(number)
            if one is None:
                children.append(child)
                continue
            marked = number | (BEFORE_OUTLIER_BIT if side == "before" else 0)
            cast = _converted(child, one, table.before)
            children.append(outliers.placed(cast, marked, one))
        fields = list(wanted.field(side).type)
        mask = given.is_null() if given.null_count else None
        sides[side] = pa.StructArray.from_arrays(children, fields=fields, mask=mask) if fields else given
    columns = [batch.column(i) for i in range(batch.num_columns)]
    names = batch.schema.names
    columns[names.index("before")], columns[names.index("after")] = sides["before"], sides["after"]
    columns[names.index("outliers")] = outliers.left()
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _converted(array: pa.Array, one: MappedColumn, schema: TableSchema) -> pa.Array:
    cast: Cast = one.conversion.cast
    try:
        return cast(array)
    except pa.ArrowException:
        # Without the cause, which may quote the value.
        raise RowRefused(
            f"a value does not fit {one.name}, the type that type_mappings gives the column",
            advice="Correct the row at the source, map the type to a wider one, or set the row aside",
            table=schema.name,
            column=one.before.name,
        ) from None


class _Cells:
    """The outliers of a batch; those a mapped type holds after all are taken out and placed."""

    def __init__(self, lists: pa.Array, row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], text: pa.Array):
        self._lists = lists
        self._row = row
        self._column = column
        self._text = text
        self._is_left = np.ones(len(row), np.bool_)

    @classmethod
    def of(cls, lists: pa.Array) -> _Cells:
        if lists.null_count == len(lists):
            none = np.zeros(0, np.int64)
            return cls(lists, none, none, pa.array([], pa.string()))
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = pc.list_flatten(lists)
        return cls(lists, rows, flat.field(0).to_numpy(zero_copy_only=False).astype(np.int64), flat.field(1))

    def placed(self, array: pa.Array, marked: int, one: MappedColumn) -> pa.Array:
        """``array`` with what its type holds of the outliers of the column that is marked so."""
        is_text, is_float = pa.types.is_string(array.type), pa.types.is_floating(array.type)
        chosen = self._column == marked
        if not chosen.any() or not (is_text or is_float):
            return array
        texts = self._text
        if is_float:
            words = pc.is_in(texts, value_set=pa.array(_FLOAT_WORDS)).to_numpy(zero_copy_only=False)
            chosen &= words
        self._is_left &= ~chosen
        entries = np.flatnonzero(chosen)
        values = texts.take(pa.array(entries)).cast(array.type)
        mask = np.zeros(len(array), np.bool_)
        mask[self._row[entries]] = True
        return pc.replace_with_mask(array, pa.array(mask), values)

    def left(self) -> pa.Array:
        """The ``outliers`` column without what was placed."""
        if self._is_left.all():
            return self._lists
        kept = np.flatnonzero(self._is_left)
        counts = np.bincount(self._row[kept], minlength=len(self._lists))
        offsets = np.zeros(len(self._lists) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        cells = pa.StructArray.from_arrays(
            [pa.array(self._column[kept].astype(np.uint16)), self._text.take(pa.array(kept))],
            fields=list(OUTLIER_TYPE.value_type),
        )
        return pa.ListArray.from_arrays(pa.array(offsets), cells, type=OUTLIER_TYPE, mask=pa.array(counts == 0))


def _finding(severity: Severity, subject: str, message: str, advice: str, code: str) -> Finding:
    return Finding(severity=severity, subject=subject, message=message, advice=advice, code=code)


__all__ = ["MappedSink", "mapped_part"]
