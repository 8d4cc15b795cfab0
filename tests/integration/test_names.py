"""Names as PostgreSQL allows them, through copy, stream and every destination."""

from __future__ import annotations

import pytest

from tests.integration.world import Content, World
from wallaby.schema import TableName, quote_identifier

pytestmark = pytest.mark.must_not_fail(22)

_TABLES = (
    TableName("public", "orders"),
    TableName("Other. Schema", "orders"),
    TableName("Other. Schema", 'a "quoted" na.me'),
    TableName("public", "select"),
    TableName("public", "Ünï — 表 '%s' {0} \\n"),
    TableName("public", "ß" * 31 + "x"),
    TableName("public", "__op"),
    TableName("lake", "..'/../.."),
    TableName("public", "user"),
    TableName("pg catalog", " "),
)
_COLUMNS = ("Id", "from", 'a "b" c', "d.e", "ünï", "ß" * 31 + "y", "c%s", "x'y", " ")


def _statements(table: TableName) -> list[str]:
    name = f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}"
    key, *others = map(quote_identifier, _COLUMNS)
    columns = ", ".join(f"{column} text" for column in others)
    return [
        f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(table.schema)}",
        f"CREATE TABLE {name} ({columns}, {key} int PRIMARY KEY)",
        f"INSERT INTO {name} ({key}, {others[0]}) SELECT g, 'copied' FROM generate_series(1, 9) AS g",
    ]


def _changes(table: TableName) -> list[str]:
    name = f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}"
    key, *others = map(quote_identifier, _COLUMNS)
    added = quote_identifier("New '% column")
    return [
        f"UPDATE {name} SET {others[1]} = 'x', {others[3]} = {key} WHERE {key} < 5",
        f"UPDATE {name} SET {key} = {key} + 100 WHERE {key} = 6",
        f"DELETE FROM {name} WHERE {key} = 7",
        f"ALTER TABLE {name} ADD {added} int DEFAULT 7",
        f"INSERT INTO {name} ({key}) VALUES (200)",
    ]


def test_every_name_that_postgresql_takes_arrives_in_every_destination(real_world: World) -> None:
    world = real_world
    for table in _TABLES:
        world.execute(*_statements(table))
    world.execute("CREATE PUBLICATION p FOR ALL TABLES")
    world.start()
    for table in _TABLES:
        world.execute(*_changes(table))
    contents = [Content(table.name, schema=table.schema) for table in _TABLES]
    # A log keeps its rows as they came: those older than the column have no default in it.
    world.require_equal(*contents, only=("mirror", "postgres", "duckdb", "delta"))
    older = [Content(table.name, _COLUMNS, schema=table.schema) for table in _TABLES]
    world.require_equal(*older, only=("log", "files"))


def test_names_that_differ_by_case_only_are_two_tables_where_the_destination_can(real_world: World) -> None:
    world = real_world
    world.destinations = ("mirror", "log", "postgres", "files")
    world.execute(
        'CREATE TABLE t (id int PRIMARY KEY, note text, "Note" text)',
        'CREATE TABLE "T" (id int PRIMARY KEY, note text, "NOTE" text)',
        "INSERT INTO t VALUES (1, 'a', 'b')",
        "INSERT INTO \"T\" VALUES (1, 'c', 'd')",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    world.start()
    world.execute("UPDATE t SET \"Note\" = 'e'", "UPDATE \"T\" SET note = 'f'")
    world.require_equal("t", "T")


def test_duckdb_which_ignores_case_says_so_instead_of_mixing_them(real_world: World) -> None:
    world = real_world
    world.destinations = ("duckdb",)
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY)",
        'CREATE TABLE "T" (id int PRIMARY KEY)',
        "INSERT INTO t VALUES (1)",
        'INSERT INTO "T" VALUES (1)',
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    error = world.start_and_fail()
    assert "name-collision" in str(error)
