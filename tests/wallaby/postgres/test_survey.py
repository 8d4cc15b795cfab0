"""The survey of a source: every table once, partitions with their root, keys in their order."""

from __future__ import annotations

from wallaby.postgres.survey import publications, survey
from wallaby.schema import ReplicaIdentity
from wallaby.testing.postgres import ScratchDatabase


def test_tables_come_with_size_key_and_identity(database: ScratchDatabase) -> None:
    database.execute(
        "CREATE TABLE keyed (b int, a int, note text, PRIMARY KEY (a, b))",
        "INSERT INTO keyed SELECT g, g, repeat('x', 100) FROM generate_series(1, 500) AS g",
        "ANALYZE keyed",
        "CREATE TABLE keyless (note text)",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE chosen (id int PRIMARY KEY, code text NOT NULL)",
        "CREATE UNIQUE INDEX by_code ON chosen (code)",
        "ALTER TABLE chosen REPLICA IDENTITY USING INDEX by_code",
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE branch PARTITION OF root FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF branch FOR VALUES FROM (0) TO (1000)",
        "INSERT INTO root SELECT generate_series(0, 99)",
        "ANALYZE root",
        "ANALYZE leaf",
        "CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)",
        "CREATE VIEW seen AS SELECT 1",
        "CREATE PUBLICATION pub FOR TABLE keyed",
    )
    with database.connect() as connection:
        tables = {str(item.name): item for item in survey(connection)}
        assert publications(connection) == ["pub"]
    assert list(tables) == [f"public.{name}" for name in ("chosen", "keyed", "keyless", "nothing", "root")]
    keyed = tables["public.keyed"]
    assert (keyed.key, keyed.rows, keyed.identity) == (("a", "b"), 500, ReplicaIdentity.DEFAULT)
    assert keyed.bytes > 50_000
    assert tables["public.chosen"].key == ("code",)
    root = tables["public.root"]
    assert (root.is_partitioned, root.rows, root.key) == (True, 100, ("id",))
    assert root.bytes > 0
    assert [name for name, item in tables.items() if not item.is_fit] == ["public.keyless", "public.nothing"]
    assert "REPLICA IDENTITY FULL" in tables["public.keyless"].remedy
    assert "REPLICA IDENTITY DEFAULT" in tables["public.nothing"].remedy


def test_the_remedy_makes_a_table_fit(database: ScratchDatabase) -> None:
    database.execute(
        'CREATE TABLE "Odd ""Name""" (note text)',
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    )
    with database.connect() as connection:
        for item in survey(connection):
            connection.execute(item.remedy.encode())
        assert all(item.is_fit for item in survey(connection))
