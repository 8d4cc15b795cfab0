"""What a table holds after its changes, one dictionary per row: slow and obvious."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from tests.oracle.texts import texts
from wallaby.pgoutput.decoder import Event, LogicalMessage, Segment
from wallaby.schema import PgType, TableName, TableSchema
from wallaby.window import BEFORE_OUTLIER_BIT, Barrier, BarrierKind

Row = dict[str, str | None]


class Contents:
    """The rows of every table, as PostgreSQL's text, built from decoded events alone."""

    def __init__(self) -> None:
        self.tables: dict[TableName, list[Row]] = {}
        self._schemas: dict[TableName, TableSchema] = {}

    def apply(self, events: Iterable[Event]) -> None:
        """In order. AssertionError for a change that does not fit what is there."""
        for event in events:
            match event:
                case Segment():
                    for schema, batch in event.parts:
                        self._apply_batch(schema, batch)
                case Barrier(kind=BarrierKind.TRUNCATE):
                    for name in event.tables:
                        self.tables[name] = []
                case Barrier():
                    [schema] = event.schemas
                    self._reshape(schema)
                case LogicalMessage():
                    raise AssertionError("nobody wrote a logical message")
                case _:
                    raise AssertionError("nobody prepared a transaction")

    def content(self, name: TableName, columns: Iterable[str]) -> Counter[tuple[tuple[str, str | None], ...]]:
        """The rows of a table as a multiset, with the ``columns`` it has by now.

        The stream tells of added and dropped columns with the next change only; until then they are NULL, or ignored.
        """
        names = sorted(columns)
        return Counter(tuple((column, row.get(column)) for column in names) for row in self.tables.get(name, []))

    def _reshape(self, schema: TableSchema) -> None:
        names = [column.name for column in schema.columns]
        self.tables[schema.name] = [{name: row.get(name) for name in names} for row in self.tables[schema.name]]
        self._schemas[schema.name] = schema

    def _apply_batch(self, schema: TableSchema, batch: pa.RecordBatch) -> None:
        batch.validate(full=True)
        assert batch.num_rows > 0
        known = self._schemas.setdefault(schema.name, schema)
        assert known.version == schema.version, "a batch came in another version than the last barrier announced"
        rows = self.tables.setdefault(schema.name, [])
        outliers: list[Any] = batch.column("outliers").to_pylist()
        unchanged: list[Any] = batch.column("unchanged").to_pylist()
        after = _rows(schema, batch.column("after"), range(len(schema.columns)), outliers, 0)
        before = _rows(schema, batch.column("before"), schema.key, outliers, BEFORE_OUTLIER_BIT)
        for i, op in enumerate(batch.column("op").to_pylist()):
            new, old = after[i], before[i]
            match chr(op):
                case "i":
                    assert new is not None
                    assert unchanged[i] is None
                    rows.append(new)
                case "u":
                    assert new is not None
                    at = _find(schema, rows, old or new)
                    for number in unchanged[i] or ():
                        name = schema.columns[number].name
                        assert new[name] is None, "an unchanged cell has a value"
                        new[name] = rows[at][name]
                    rows[at] = new
                case "d":
                    assert new is None
                    assert old is not None
                    del rows[_find(schema, rows, old)]
                case other:
                    raise AssertionError(f"operation {other!r} in a stream")


def _find(schema: TableSchema, rows: list[Row], wanted: Row) -> int:
    """Where the row with the key of ``wanted`` is; without a key, some row equal to it."""
    names = [schema.columns[i].name for i in schema.key]
    assert names
    found = [i for i, row in enumerate(rows) if all(row[name] == wanted[name] for name in names)]
    assert found, f"a change of {schema.name} names a row that is not there"
    assert schema.is_keyless_full or len(found) == 1, "a key is there twice"
    return found[0]


def _rows(
    schema: TableSchema, struct: pa.StructArray, columns: Iterable[int], outliers: list[Any], bit: int
) -> list[Row | None]:
    rows: list[Row | None] = [{} if valid else None for valid in struct.is_valid().to_pylist()]
    for place, number in enumerate(columns):
        name = schema.columns[number].name
        for row, text in zip(rows, texts(struct.field(place), _kind(schema.columns[number].type)), strict=True):
            if row is not None:
                row[name] = text
    for row, listed in zip(rows, outliers, strict=True):
        for one in listed or ():
            if one["column"] & BEFORE_OUTLIER_BIT == bit:
                name = schema.columns[one["column"] & ~BEFORE_OUTLIER_BIT].name
                assert row is not None
                assert row[name] is None, "an outlier's cell has a value"
                row[name] = one["text"]
    return rows


def _kind(pg_type: PgType) -> str:
    """The name under which `texts` knows the type, or its elements'."""
    inner = pg_type.base or pg_type.element
    if inner is not None:
        return _kind(inner)
    if pg_type.extension == "vector":
        return "vector"
    return "geometry" if pg_type.extension == "postgis" else ""


def copied(schema: TableSchema, batch: pa.RecordBatch | None) -> Counter[tuple[tuple[str, str | None], ...]]:
    """The rows of one COPY as a multiset."""
    if batch is None:
        return Counter()
    batch.validate(full=True)
    rows = _rows(schema, batch.column("after"), range(len(schema.columns)), batch.column("outliers").to_pylist(), 0)
    return Counter(tuple(sorted(row.items())) for row in rows if row is not None)
