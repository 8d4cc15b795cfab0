"""What filled changes must say: the stream played back one change at a time, in plain Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from wallaby.schema import TableName, TableSchema
from wallaby.testing.changes import Change, Outlier, change_table
from wallaby.window import OP_DELETE

Row = tuple[Any, ...]


class Playback:
    """Every row as it is now, by key. ``take`` returns the whole new row a change makes, None for a delete."""

    def __init__(self) -> None:
        self._rows: dict[TableName, dict[Row, Row]] = {}

    def take(self, schema: TableSchema, change: Change) -> Row | None:
        rows = self._rows.setdefault(schema.name, {})
        if change.op == OP_DELETE:
            assert change.before is not None
            del rows[change.before]
            return None
        row = change.after
        assert row is not None
        key = tuple(row[i] for i in schema.key)
        if change.before is not None:
            key = change.before[-len(schema.key) :] if len(change.before) == len(schema.key) else key
        if change.unchanged:
            old = rows[key]
            row = tuple(
                old[i] if column.name in change.unchanged else cell
                for i, (column, cell) in enumerate(zip(schema.columns, row, strict=True))
            )
        rows.pop(key, None)
        rows[tuple(row[i] for i in schema.key)] = row
        return row

    def truncate(self, table: TableName) -> None:
        self._rows.pop(table, None)


def whole_rows(schema: TableSchema, changes: Iterable[Change], playback: Playback) -> list[Row | None]:
    return [playback.take(schema, change) for change in changes]


def cells(schema: TableSchema, batch: pa.RecordBatch | pa.Table) -> list[Row | None]:
    """The new rows of ``batch``; outliers as `Outlier`, unsent cells as `UNSENT`."""
    found: list[Row | None] = []
    for row in batch.to_pylist():
        if row["after"] is None:
            found.append(None)
            continue
        texts = {cell["column"]: cell["text"] for cell in row["outliers"] or ()}
        unsent = set(row["unchanged"] or ())
        found.append(
            tuple(
                UNSENT if i in unsent else Outlier(texts[i]) if i in texts else row["after"][column.name]
                for i, column in enumerate(schema.columns)
            )
        )
    return found


def normal(schema: TableSchema, rows: Iterable[Row | None]) -> list[Row | None]:
    """Rows as they look after a way through Arrow."""
    made = [row for row in rows if row is not None]
    read = iter(cells(schema, change_table(schema, [Change(ord("i"), row) for row in made])))
    return [None if row is None else next(read) for row in rows]


class _Unsent:
    def __repr__(self) -> str:
        return "UNSENT"


UNSENT = _Unsent()
