"""Seeded random histories: transactions over several tables, and what the tables hold after each of them.

The model is plain Python dictionaries, one change at a time: slow, obvious, and independent of how sinks compact
changes.
"""

from __future__ import annotations

import datetime
import decimal
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from wallaby.pgtypes.types import arrow_field
from wallaby.schema import Column, ReplicaIdentity, TableName, TableSchema
from wallaby.testing.changes import Change, Outlier, Step, Stream, Truncate, delete, insert, table, update, values
from wallaby.window import OUTLIER_TYPE, Window

Row = tuple[Any, ...]

_EPOCH: Final = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)


def shop_tables() -> tuple[TableSchema, ...]:
    """One table per kind of identity: a single key, a composite key, full with a key, full without, and none."""
    return (
        table(
            "public.orders", {"id": "int8", "note": "text", "payload": "jsonb", "total": "numeric(12,2)"}, key=["id"]
        ),
        table(
            "public.order_lines",
            {
                "sku": "text",
                "tags": "text[]",
                "order_id": "int4",
                "at": "timestamptz",
                "blob": "bytea",
                "attributes": "hstore",
            },
            key=["sku", "order_id"],
        ),
        table(
            "public.customers",
            {"ref": "uuid", "name": "text", "active": "bool", "weight": "float8"},
            key=["ref"],
            identity=ReplicaIdentity.FULL,
        ),
        table(
            "public.events",
            {"kind": "text", "size": "int4", "day": "date", "labels": "hstore", "embedding": "vector"},
            identity=ReplicaIdentity.FULL,
        ),
        table("public.audit", {"id": "int4", "line": "text"}, identity=ReplicaIdentity.NOTHING),
    )


class RandomHistory:
    """Random transactions from ``seed``, and the expected content after each.

    Keys are drawn from a small range, so that they are moved, swapped, deleted and inserted again within one window.
    Columns that may be TOASTed are sometimes left out of an update that does not change them, as PostgreSQL does.
    """

    def __init__(
        self,
        seed: int,
        tables: Sequence[TableSchema] | None = None,
        *,
        transactions: int = 20,
        keys: int = 12,
        copied_rows: int = 6,
        truncates: bool = True,
    ) -> None:
        self.seed = seed
        self.tables = tuple(tables) if tables is not None else shop_tables()
        self.stream = Stream()
        self._random = random.Random(seed)
        self._keys = keys
        self._truncates = truncates
        self._serial = 0
        self._keyed: dict[TableName, dict[Row, Row]] = {schema.name: {} for schema in self.tables}
        self._bags: dict[TableName, list[Row]] = {schema.name: [] for schema in self.tables}
        self._contents: list[dict[TableName, list[Row]]] = []
        for schema in self.tables:
            self._copy(schema, copied_rows)
        self._remember()
        for _ in range(transactions):
            self.stream.transaction(self._steps())
            self._remember()

    def expected(self, schema: TableSchema, transactions: int | None = None) -> pa.Table:
        """The table's rows after the copy and the first ``transactions`` (all by default), with ``__outliers``."""
        rows = self._contents[-1 if transactions is None else transactions][schema.name]
        return row_table(schema, rows)

    def windows(self, seed: int | None = None) -> list[Window]:
        """The stream cut at random places, inside transactions too; without ``seed`` after each transaction."""
        if seed is None:
            return self.stream.windows()
        choice = random.Random(seed)
        chance = choice.choice((0.02, 0.1, 0.4))
        places = [
            (number, done)
            for number, transaction in enumerate(self.stream.transactions)
            for done in range(1, len(transaction.steps) + 1)
        ]
        return self.stream.windows([place for place in places if choice.random() < chance])

    def _remember(self) -> None:
        self._contents.append(
            {schema.name: [*self._keyed[schema.name].values(), *self._bags[schema.name]] for schema in self.tables}
        )

    def _copy(self, schema: TableSchema, rows: int) -> None:
        written = []
        for _ in range(rows):
            row = self._row(schema)
            if schema.has_key:
                if self._key(schema, row) in self._keyed[schema.name]:
                    continue
                self._keyed[schema.name][self._key(schema, row)] = row
            else:
                self._bags[schema.name].append(row)
            written.append(row)
        if written:
            self.stream.copy(schema, written)

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        for _ in range(self._random.randint(1, 8)):
            schema = self._random.choice(self.tables)
            if self._truncates and self._random.random() < 0.02:
                self._keyed[schema.name].clear()
                self._bags[schema.name].clear()
                steps.append(Truncate((schema.name,)))
            elif schema.has_key:
                steps += [(schema, change) for change in self._keyed_changes(schema)]
            else:
                steps.append((schema, self._bag_change(schema)))
        return steps

    def _keyed_changes(self, schema: TableSchema) -> list[Change]:
        rows = self._keyed[schema.name]
        existing = list(rows)
        kind = self._random.random()
        if not existing or kind < 0.25:
            row = self._row(schema)
            if self._key(schema, row) in rows:
                return [self._update(schema, self._key(schema, row), self._key(schema, row))]
            rows[self._key(schema, row)] = row
            return [insert(*row)]
        key = self._random.choice(existing)
        if kind < 0.6:
            return [self._update(schema, key, key)]
        if kind < 0.75:
            target = self._key(schema, self._row(schema))
            return [self._update(schema, key, key if target in rows else target)]
        if kind < 0.85 and len(existing) > 1:
            other = self._random.choice([k for k in existing if k != key])
            spare = self._key(schema, self._row(schema, fresh=True))
            return [
                self._update(schema, key, spare),
                self._update(schema, other, key),
                self._update(schema, spare, other),
            ]
        old = rows.pop(key)
        return [delete(*self._old(schema, old))]

    def _update(self, schema: TableSchema, old_key: Row, new_key: Row) -> Change:
        rows = self._keyed[schema.name]
        old = rows.pop(old_key)
        new = list(old)
        unchanged = []
        for i, column in enumerate(schema.columns):
            if column.is_key:
                continue
            if self._random.random() < 0.4:
                new[i] = self._cell(column)
            elif column.type.name in _TOASTED and old[i] is not None and self._random.random() < 0.7:
                unchanged.append(column.name)
        for i, cell in zip(schema.key, new_key, strict=True):
            new[i] = cell
        rows[new_key] = tuple(new)
        sends_old = old_key != new_key or schema.identity is ReplicaIdentity.FULL
        sent = [None if column.name in unchanged else cell for column, cell in zip(schema.columns, new, strict=True)]
        return update(*sent, old=self._old(schema, old) if sends_old else None, unchanged=unchanged)

    def _bag_change(self, schema: TableSchema) -> Change:
        bag = self._bags[schema.name]
        kind = self._random.random()
        if not bag or kind < 0.5 or schema.identity is ReplicaIdentity.NOTHING:
            row = self._row(schema)
            if bag and kind < 0.2:
                row = self._random.choice(bag)
            bag.append(row)
            return insert(*row)
        old = bag.pop(self._random.randrange(len(bag)))
        if kind < 0.75:
            return delete(*old)
        new = tuple(
            self._cell(c) if self._random.random() < 0.5 else v for c, v in zip(schema.columns, old, strict=True)
        )
        bag.append(new)
        unchanged = [
            c.name
            for c, was, now in zip(schema.columns, old, new, strict=True)
            if c.type.name in _TOASTED and was is not None and was == now and self._random.random() < 0.5
        ]
        sent = [None if c.name in unchanged else cell for c, cell in zip(schema.columns, new, strict=True)]
        return update(*sent, old=old, unchanged=unchanged)

    def _key(self, schema: TableSchema, row: Row) -> Row:
        return tuple(row[i] for i in schema.key)

    def _old(self, schema: TableSchema, row: Row) -> Row:
        return self._key(schema, row) if schema.has_key else row

    def _row(self, schema: TableSchema, *, fresh: bool = False) -> Row:
        return tuple(
            self._key_cell(column, fresh=fresh) if column.is_key and schema.has_key else self._cell(column)
            for column in schema.columns
        )

    def _key_cell(self, column: Column, *, fresh: bool) -> Any:
        self._serial += fresh
        number = 1_000_000 + self._serial if fresh else self._random.randrange(self._keys)
        match column.type.name:
            case "text" | "varchar":
                return f"key {number}"
            case "uuid":
                return number.to_bytes(16, "big")
            case _:
                return number

    def _cell(self, column: Column) -> Any:
        choice = self._random
        if (choice.random() < 0.15 and column.nullable) or choice.random() < 0.05:
            return None
        number = choice.randrange(1000)
        word = choice.choice(("", "a", "'quoted' \"twice\"", "tab\there", "back\\slash", "ünïcode 表", "NULL", "{x,y}"))
        match column.type.name:
            case "bool":
                return number % 2 == 0
            case "int2" | "int4" | "int8":
                return number - 500
            case "float4" | "float8":
                return (number - 500) / 8
            case "numeric":
                return decimal.Decimal(number - 500).scaleb(-2)
            case "json" | "jsonb":
                return f'{{"n": {number}}}'
            case "bytea":
                return bytes([number % 256, 0, 255])
            case "uuid":
                return number.to_bytes(16, "big")
            case "date":
                return _EPOCH.date() + datetime.timedelta(days=number)
            case "timestamptz":
                return _EPOCH + datetime.timedelta(seconds=number, microseconds=number)
            case "timestamp":
                return _EPOCH.replace(tzinfo=None) + datetime.timedelta(seconds=number)
            case "_text":
                return [word, None, str(number)][: number % 4]
            case "hstore":
                return [("k", word), ("n", None), ("number", str(number % 3))][: number % 4]
            case "vector":
                return [0.5, -0.0, float(number % 3)][: 1 + number % 3]
            case _:
                return f"{word} {number}"


_TOASTED: Final = frozenset({"text", "jsonb", "json", "bytea", "_text", "hstore", "vector"})


def row_table(schema: TableSchema, rows: Sequence[Row]) -> pa.Table:
    """Rows as a table of the schema's columns and a last column ``__outliers``; cells may be `Outlier`."""
    fields = [arrow_field(column) for column in schema.columns]
    columns = [values([row[i] for row in rows], field.type) for i, field in enumerate(fields)]
    outliers = [
        [{"column": i, "text": cell.text} for i, cell in enumerate(row) if isinstance(cell, Outlier)] or None
        for row in rows
    ]
    return pa.Table.from_arrays(
        [*columns, pa.array(outliers, OUTLIER_TYPE)],
        schema=pa.schema([*fields, pa.field("__outliers", OUTLIER_TYPE)]),
    )


def multiset(rows: pa.Table) -> Counter[str]:
    """Rows as text and how often each occurs: for small tables in failure messages."""
    return Counter(str(row) for row in rows.to_pylist())
