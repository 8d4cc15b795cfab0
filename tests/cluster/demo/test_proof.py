"""The proof says equal for equal content in every kind of destination, and notices one changed, lost or doubled row."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from rich.console import Console

from cluster.demo import shop
from cluster.demo.proof import (
    DuckDBContents,
    PostgresContents,
    SourceContent,
    Verdict,
    compare,
    read_source,
    verdict_table,
    verdicts_json,
)
from cluster.demo.shop import TABLES
from wallaby.errors import SourceUnavailable
from wallaby.schema import TableName, quote_identifier
from wallaby.testing.postgres import ScratchDatabase

ROWS = 1_500
SEED = 5

ARROW = {
    "boolean": pa.bool_(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "integer": pa.int32(),
    "smallint": pa.int16(),
    "bigint": pa.int64(),
    "numeric(12,2)": pa.decimal128(12, 2),
    "numeric(14,4)": pa.decimal128(14, 4),
    "double precision": pa.float64(),
    "real": pa.float32(),
    "real[]": pa.list_(pa.float32()),
    "text[]": pa.list_(pa.string()),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "time without time zone": pa.time64("us"),
}


@pytest.fixture
def source(database: ScratchDatabase) -> SourceContent:
    """A seeded shop, read."""
    fill(database)
    return read_source(database.dsn, TABLES)


def fill(database: ScratchDatabase) -> None:
    with database.connect() as connection:
        shop.create(connection)
        shop.seed(connection, ROWS, SEED)


def duckdb_copy(database: ScratchDatabase, path: Path) -> None:
    """The shop in a DuckDB file with the types a DuckDB destination uses, by way of psycopg's Python values."""
    with duckdb.connect(str(path)) as target:
        target.execute("CREATE SCHEMA shop.shop")
        for table in TABLES:
            rows = arrow_rows(database, table)
            target.register("incoming", rows)
            selected = ", ".join(
                f'CAST("{name}" AS {kind}) AS "{name}"' if kind else f'"{name}"'
                for name, kind in zip(rows.column_names, map(duckdb_cast, rows.schema), strict=True)
            )
            target.execute(f'CREATE TABLE shop.shop."{table.name}" AS SELECT {selected} FROM incoming')
            target.unregister("incoming")


def duckdb_cast(field: pa.Field) -> str:
    return {b"uuid": "UUID", b"jsonb": "JSON"}.get((field.metadata or {}).get(b"pg", b""), "")


def arrow_rows(database: ScratchDatabase, table: TableName) -> pa.Table:
    columns = database.fetch(
        f"SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass"
        " AND attnum > 0 ORDER BY attnum"
    )
    arrays, fields = [], []
    for name, kind in columns:
        if kind == "interval":
            parts = f"extract(year FROM {name}) * 12 + extract(month FROM {name}), extract(day FROM {name})"
            clock = f"extract(hour FROM {name}) * 3600 + extract(minute FROM {name}) * 60 + extract(second FROM {name})"
            found = database.fetch(f"SELECT {name} IS NULL, {parts}, {clock} FROM {table} ORDER BY ctid")
            values: list[Any] = [
                None if is_null else (int(months), int(days), int(seconds * 10**6) * 1000)
                for is_null, months, days, seconds in found
            ]
            arrow = pa.month_day_nano_interval()
        else:
            arrow = ARROW.get(kind, pa.string())
            cast = "" if kind in ARROW else "::text"
            values = [value for (value,) in database.fetch(f"SELECT {name}{cast} FROM {table} ORDER BY ctid")]
        arrays.append(pa.array(values, arrow))
        fields.append(pa.field(name, arrow, metadata={"pg": kind}))
    return pa.table(arrays, schema=pa.schema(fields))


def unequal(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    return [(verdict.table.name, verdict.detail) for verdict in verdicts if not verdict.equal]


@pytest.mark.must_not_fail(25)
def test_a_faithful_postgres_copy_is_equal(source: SourceContent, target_database: ScratchDatabase) -> None:
    fill(target_database)
    target_database.execute("UPDATE shop.orders SET notes = notes", "VACUUM FULL shop.orders")
    verdicts = compare(source, [PostgresContents("copy", target_database.dsn)])
    assert unequal(verdicts) == []
    assert len(verdicts) == len(TABLES)
    assert all(verdict.source_rows == verdict.destination_rows > 0 for verdict in verdicts)


TAMPERING: list[tuple[str, str, str]] = [
    ("one digit of a numeric", "UPDATE shop.orders SET total = total + 0.0001 WHERE id = 3", "orders"),
    ("the scale of a numeric", "ALTER TABLE shop.products ALTER price TYPE numeric(12,3)", "products"),
    ("a microsecond", "UPDATE shop.customers SET created_at = created_at + interval '1 us' WHERE id = 3", "customers"),
    ("NULL for an empty text", "UPDATE shop.orders SET notes = NULL WHERE id = 1", "orders"),
    ("an unchanged document lost", "UPDATE shop.customers SET profile = NULL WHERE id = 4", "customers"),
    ("the sign of zero", "UPDATE shop.products SET weight = 0 WHERE weight = 0", "products"),
    ("a lost row", "DELETE FROM shop.order_lines WHERE order_id = 5 AND line = 1", "order_lines"),
    ("an added row", "INSERT INTO shop.inventory (warehouse, sku, stock) VALUES (99, 'x', 1)", "inventory"),
    (
        "two swapped keys",
        "WITH a AS (SELECT sku, title FROM shop.products WHERE sku IN ('SKU-000003', 'SKU-000004'))"
        " UPDATE shop.products p SET title = a.title FROM a"
        " WHERE p.sku <> a.sku AND p.sku IN ('SKU-000003', 'SKU-000004')",
        "products",
    ),
]


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(("statement", "table"), [pytest.param(*change, id=name) for name, *change in TAMPERING])
def test_the_smallest_difference_is_noticed(
    source: SourceContent, target_database: ScratchDatabase, statement: str, table: str
) -> None:
    fill(target_database)
    target_database.execute(statement)
    [(name, detail)] = unequal(compare(source, [PostgresContents("copy", target_database.dsn)]))
    assert name == table
    assert "only" in detail


@pytest.mark.must_not_fail(25)
def test_a_doubled_row_of_a_table_without_a_key_is_noticed(
    source: SourceContent, target_database: ScratchDatabase
) -> None:
    """The count is kept the same: one of two equal rows is missing, another row is there twice."""
    fill(target_database)
    target_database.execute(
        "INSERT INTO shop.audit_log SELECT * FROM shop.audit_log WHERE entry = 1 LIMIT 1",
        "DELETE FROM shop.audit_log WHERE ctid = (SELECT min(ctid) FROM shop.audit_log WHERE entry = 2)",
    )
    verdicts = compare(source, [PostgresContents("copy", target_database.dsn)])
    assert unequal(verdicts) == [("audit_log", "the same rows, but not the same number of times")]
    assert all(verdict.source_rows == verdict.destination_rows for verdict in verdicts)


def test_missing_tables_and_columns_are_said(source: SourceContent, target_database: ScratchDatabase) -> None:
    fill(target_database)
    target_database.execute(
        "DROP TABLE shop.audit_log", "ALTER TABLE shop.products DROP COLUMN dims, DROP COLUMN weight"
    )
    found = dict(unequal(compare(source, [PostgresContents("copy", target_database.dsn)])))
    assert found.keys() == {"audit_log", "products"}
    assert found["products"] == "columns are missing: dims, weight"


@pytest.mark.must_not_fail(25)
def test_a_faithful_duckdb_file_is_equal(source: SourceContent, database: ScratchDatabase, tmp_path: Path) -> None:
    duckdb_copy(database, tmp_path / "shop.duckdb")
    assert unequal(compare(source, [DuckDBContents("lake", tmp_path / "shop.duckdb")])) == []


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE shop.shop.orders SET eta = eta + INTERVAL 1 microsecond WHERE id = 3", "orders"),
        ("UPDATE shop.shop.products SET dims = list_append(dims, 1.5) WHERE sku = 'SKU-000005'", "products"),
        ("UPDATE shop.shop.customers SET tags = NULL WHERE id = 2", "customers"),
        ("DELETE FROM shop.shop.order_lines WHERE order_id = 5 AND line = 1", "order_lines"),
        ("INSERT INTO shop.shop.inventory SELECT * FROM shop.shop.inventory LIMIT 1", "inventory"),
    ],
)
def test_tampering_with_a_duckdb_file_is_noticed(
    source: SourceContent, database: ScratchDatabase, tmp_path: Path, statement: str, table: str
) -> None:
    duckdb_copy(database, tmp_path / "shop.duckdb")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as target:
        assert target.execute(statement).fetchall() != [(0,)]
    assert [name for name, _ in unequal(compare(source, [DuckDBContents("lake", tmp_path / "shop.duckdb")]))] == [table]


def test_an_unreadable_duckdb_file_is_unequal_and_shows_no_path(source: SourceContent, tmp_path: Path) -> None:
    verdicts = compare(source, [DuckDBContents("lake", tmp_path / "none.duckdb")])
    assert len(unequal(verdicts)) == len(TABLES)
    assert str(tmp_path) not in verdicts[0].detail


def test_a_source_that_is_not_there_is_an_error_without_the_dsn() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        read_source("host=127.0.0.1 port=1 dbname=secretname", TABLES)
    assert "secretname" not in str(caught.value)


def test_odd_text_survives_the_reading(database: ScratchDatabase, target_database: ScratchDatabase) -> None:
    """Quotes, line ends, a lone backslash-dot, empty text and NULL in a one-column table, names in mixed case."""
    name = TableName("public", 'Odd "name"')
    target, column = quote_identifier(name.name), quote_identifier('Ünï, " code')
    values = r"""(NULL), (''), ('"'), (E'a\r\nb'), (E'\\.'), (','), (NULL)"""
    for each in (database, target_database):
        each.execute(f"CREATE TABLE {target} ({column} text)", f"INSERT INTO {target} VALUES {values}")
    source = read_source(database.dsn, [name])
    assert source.tables[name].rows == 7
    assert unequal(compare(source, [PostgresContents("copy", target_database.dsn)])) == []
    target_database.execute(f"UPDATE {target} SET {column} = '' WHERE {column} IS NULL")
    assert unequal(compare(source, [PostgresContents("copy", target_database.dsn)])) != []


@pytest.fixture
def said() -> Callable[[list[Verdict]], str]:
    def render(verdicts: list[Verdict]) -> str:
        output = io.StringIO()
        Console(file=output, width=120).print(verdict_table(verdicts))
        return output.getvalue()

    return render


def test_the_verdicts_are_readable_by_people_and_machines(
    source: SourceContent, target_database: ScratchDatabase, said: Callable[[list[Verdict]], str]
) -> None:
    fill(target_database)
    verdicts = compare(source, [PostgresContents("copy", target_database.dsn)])
    assert "equal by content hash at" in said(verdicts)
    report = json.loads(json.dumps(verdicts_json(verdicts)))
    assert report["equal"] is True
    assert report["lsn"] == str(source.lsn)
    assert {verdict["table"] for verdict in report["verdicts"]} == {str(table) for table in TABLES}
    target_database.execute("DELETE FROM shop.inventory_staging")
    verdicts = compare(source, [PostgresContents("copy", target_database.dsn)])
    assert "DIFFERENT" in said(verdicts)
    assert verdicts_json(verdicts)["equal"] is False


def test_no_verdicts_are_not_a_proof() -> None:
    assert verdicts_json([])["equal"] is False
