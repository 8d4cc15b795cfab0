"""The transforming stage: a destination's tables and changes as its options want them, before any sink sees them.

`Stage` knows the options; what they make of one version of one table is a `Shape`, worked out once: the source's table,
the target's, and what is done to columns in between. Rows then pass through in columns, `Rows` in and `Rows` out, in an
order that makes each step say one thing:

1. metadata columns and what becomes of a deletion (`wallaby.transform.metadata`).

Everything is a function of the change and the options, so that a change which comes again after a crash comes out the
same, and a table's target shape is the same in every life.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from wallaby.errors import Refused
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Finding, Severity, WriteMode
from wallaby.transform.metadata import Metadata
from wallaby.transform.rows import Rows


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a table cannot be had as the options want it."""

    message: str
    advice: str
    code: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What becomes of one version of one table."""

    source: TableSchema
    target: TableSchema
    metadata: Metadata | None


class Stage:
    """A destination's transforms. It remembers the shapes it has met, one per table, and which target each goes to."""

    def __init__(self, options: TransformOptions, mode: WriteMode) -> None:
        self._options = options
        self._mode = mode
        self._metadata = Metadata.of(options, mode)
        self._shapes: dict[TableName, Shape] = {}

    def shape(self, schema: TableSchema) -> Shape:
        """What becomes of the table; `Refused` with what does not fit."""
        known = self._shapes.get(schema.name)
        if known is not None and known.source == schema:
            return known
        shape, misfits = self._shaped(schema)
        if misfits:
            first = misfits[0]
            raise Refused(first.message, advice=first.advice, table=schema.name, column=first.column)
        self._shapes[schema.name] = shape
        return shape

    def findings(self, tables: tuple[TableSchema, ...]) -> list[Finding]:
        """Everything that does not fit, without a destination."""
        return [
            Finding(
                severity=Severity.ERROR,
                subject=f"table {schema.name}" if misfit.column is None else f"column {schema.name}.{misfit.column}",
                message=misfit.message,
                advice=misfit.advice,
                code=misfit.code,
            )
            for schema in tables
            for misfit in self._shaped(schema)[1]
        ]

    def changed(self, shape: Shape, changes: pa.Table) -> pa.RecordBatch:
        """The changes (change layout of ``shape.source``) as changes of ``shape.target``."""
        rows = Rows.of(shape.source, changes)
        if shape.metadata is not None:
            rows = shape.metadata.applied(rows, is_keyless=shape.source.is_keyless_full)
        return rows.batch(shape.target)

    def _shaped(self, schema: TableSchema) -> tuple[Shape, list[Misfit]]:
        metadata = self._metadata
        columns = schema.columns + (metadata.columns if metadata is not None else ())
        target = replace(schema, columns=columns)
        return Shape(schema, target, metadata), list(self._misfits(schema, target))

    def _misfits(self, schema: TableSchema, target: TableSchema) -> Iterator[Misfit]:
        if self._metadata is not None and self._mode is not WriteMode.APPEND and schema.is_keyless_full:
            yield Misfit(
                "a table whose rows are told apart by all their columns cannot have metadata columns in a mirror: "
                "equal rows would no longer be equal",
                "Give the table a primary key, write it with append_mode, or leave it to another destination",
                "transform-needs-key",
            )
        names = [column.name for column in target.columns]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Misfit(
                "two columns of the target would have this name",
                "Choose another name for the metadata column",
                "transform-collision",
                name,
            )


__all__ = ["Misfit", "Shape", "Stage"]
