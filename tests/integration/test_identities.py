"""How rows are found again: every replica identity, changed and lost ones, and keys that change."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.world import World

pytestmark = pytest.mark.must_not_fail(8, 9)


def test_every_replica_identity_mirrors_exactly(world: World) -> None:
    world.execute(
        "CREATE TABLE by_key (c text, a int, b int, note text, PRIMARY KEY (b, a))",
        "CREATE TABLE by_index (a int PRIMARY KEY, note text, x int NOT NULL, y text NOT NULL)",
        "CREATE UNIQUE INDEX chosen ON by_index (y, x)",
        "ALTER TABLE by_index REPLICA IDENTITY USING INDEX chosen",
        "CREATE TABLE full_keyed (note text, id int PRIMARY KEY)",
        "ALTER TABLE full_keyed REPLICA IDENTITY FULL",
        "CREATE TABLE full_bare (id int, note text)",
        "ALTER TABLE full_bare REPLICA IDENTITY FULL",
        "CREATE TABLE grows (id int, note text)",
        "CREATE TABLE nothing (id int PRIMARY KEY, note text)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "INSERT INTO by_key SELECT g::text, g, g % 7, 'copied' FROM generate_series(1, 50) AS g",
        "INSERT INTO by_index SELECT g, 'copied', g, (g % 7)::text FROM generate_series(1, 50) AS g",
        "INSERT INTO full_keyed SELECT 'copied', g FROM generate_series(1, 50) AS g",
        "INSERT INTO full_bare SELECT g % 10, nullif('copied', 'copied') FROM generate_series(1, 50) AS g",
        "INSERT INTO grows SELECT g, 'copied' FROM generate_series(1, 50) AS g",
        "INSERT INTO nothing SELECT g, 'copied' FROM generate_series(1, 50) AS g",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    tables = ("by_key", "by_index", "full_keyed", "full_bare", "grows", "nothing")
    world.start()
    world.require_equal(*tables)
    changed = ("by_key", "by_index", "full_keyed")
    world.execute(
        *(f"UPDATE {table} SET note = 'changed' WHERE note = 'copied' AND ctid < '(0,10)'" for table in changed),
        *(f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} OFFSET 5 LIMIT 7)" for table in changed),
        "UPDATE by_key SET b = b + 100, c = 'moved' WHERE a % 3 = 0",
        "UPDATE by_index SET x = x + 100 WHERE a % 3 = 0",
        "UPDATE by_index SET a = a + 1000 WHERE a % 4 = 0",
        "UPDATE full_keyed SET id = id + 100 WHERE id % 3 = 0",
        "INSERT INTO grows VALUES (1, NULL), (1, NULL)",
        "INSERT INTO nothing VALUES (51, NULL)",
    )
    world.require_equal(*tables)
    for table in ("grows", "nothing"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            world.execute(f"UPDATE {table} SET note = 'x'")


def test_equal_rows_without_a_key_are_counted_and_null_equals_null(world: World) -> None:
    world.execute(
        "CREATE TABLE t (a int, b text, c numeric)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT NULL, 'x', 1.0 FROM generate_series(1, 5)",
        "INSERT INTO t SELECT 1, NULL, 1.00 FROM generate_series(1, 5)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute(
        "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE a IS NULL LIMIT 2)",
        "UPDATE t SET b = 'y' WHERE ctid IN (SELECT ctid FROM t WHERE a = 1 LIMIT 1)",
        "UPDATE t SET b = b WHERE a = 1",
        "BEGIN; INSERT INTO t VALUES (NULL, NULL, NULL), (NULL, NULL, NULL);"
        " DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE b IS NULL AND a IS NULL LIMIT 1); COMMIT",
        "UPDATE t SET c = 'NaN' WHERE a IS NULL AND b = 'x'",
        "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE c = 'NaN' LIMIT 1)",
    )
    world.require_equal("t")
    world.execute("DELETE FROM t")
    world.require_equal("t")


def test_keys_swapped_and_chained_in_one_transaction_end_right(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int, note text, CONSTRAINT k PRIMARY KEY (id))",
        "INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute(
        "BEGIN; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = -1;"
        " COMMIT",
        "BEGIN; DELETE FROM t WHERE id = 5; UPDATE t SET id = 5 WHERE id = 4; UPDATE t SET id = 4 WHERE id = 3;"
        " INSERT INTO t VALUES (3, 'new'); UPDATE t SET id = 30 WHERE id = 3; COMMIT",
        "BEGIN; UPDATE t SET id = 40 WHERE id = 6; DELETE FROM t WHERE id = 40;"
        " INSERT INTO t VALUES (6, 'again'); COMMIT",
        "BEGIN; UPDATE t SET id = id + 100 WHERE id > 6 AND id < 30; UPDATE t SET id = id - 99 WHERE id > 100; COMMIT",
    )
    world.require_equal("t")
    moved = [(row["__op"], row["id"]) for row in world.logged("t") if row["__op"] != "r"][:6]
    assert moved == [("d", 1), ("u", -1), ("d", 2), ("u", 1), ("d", -1), ("u", 2)]


def test_a_deferred_primary_key_that_repeats_inside_a_transaction_ends_right(world: World) -> None:
    """A deferrable key identifies nothing for PostgreSQL, so such a table needs full identity; keys may then repeat."""
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 9) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute(
        "UPDATE t SET id = 10 - id",
        "BEGIN; INSERT INTO t VALUES (1, 'second one'); DELETE FROM t WHERE id = 1 AND note <> 'second one'; COMMIT",
        "BEGIN; UPDATE t SET id = 2 WHERE id = 3; UPDATE t SET id = 3 WHERE id = 2 AND note = 'row 8'; COMMIT",
    )
    world.require_equal("t")


def test_an_identity_that_changes_while_streaming_is_followed(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL, note text)",
        "CREATE UNIQUE INDEX by_code ON t (code)",
        "INSERT INTO t SELECT g, g + 100, 'copied' FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute(
        "UPDATE t SET note = 'by key' WHERE id < 5",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "UPDATE t SET note = 'by row' WHERE id BETWEEN 5 AND 8",
        "DELETE FROM t WHERE id = 5",
        "BEGIN; UPDATE t SET note = 'x' WHERE id = 9; ALTER TABLE t REPLICA IDENTITY DEFAULT;"
        " UPDATE t SET id = 99 WHERE id = 9; COMMIT",
        "DELETE FROM t WHERE id = 8",
    )
    world.require_equal("t")
    world.restart()
    world.execute("UPDATE t SET note = 'later' WHERE id > 10", "DELETE FROM t WHERE id = 20")
    world.require_equal("t")


def test_a_dropped_identity_index_leaves_inserts_and_another_identity_the_rest(world: World) -> None:
    """Without an identity PostgreSQL refuses updates; with a new one, rows are found by other columns."""
    world.execute(
        "CREATE TABLE t (id int NOT NULL, note text, code int NOT NULL)",
        "CREATE UNIQUE INDEX chosen ON t (id)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX chosen",
        "INSERT INTO t SELECT g, 'copied', g * 10 FROM generate_series(1, 9) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.destinations = ("mirror",)  # a log cannot be read with a key its older rows do not have
    world.start()
    world.execute(
        "UPDATE t SET note = 'x' WHERE id = 1", "DROP INDEX chosen", "INSERT INTO t VALUES (1, 'while lost', 5)"
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        world.execute("DELETE FROM t WHERE id = 2")
    world.require_equal("t")
    world.execute("ALTER TABLE t ADD PRIMARY KEY (code)", "ALTER TABLE t REPLICA IDENTITY DEFAULT")
    world.execute("UPDATE t SET note = 'found again' WHERE id = 1", "DELETE FROM t WHERE code = 30")
    world.require_equal("t")
    world.restart()
    world.execute(
        "UPDATE t SET code = 7 WHERE code = 5", "ALTER TABLE t REPLICA IDENTITY FULL", "DELETE FROM t WHERE id > 6"
    )
    world.require_equal("t")


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_targets_follow_another_key_whether_seen_in_the_stream_or_after_a_restart(
    real_world: World, identity: str
) -> None:
    world = real_world
    world.destinations = ("postgres", "duckdb", "delta")
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text, code int NOT NULL)",
        "CREATE TABLE u (id int PRIMARY KEY, note text, code int NOT NULL)",
        "INSERT INTO t SELECT g, 'copied', g * 10 FROM generate_series(1, 9) AS g",
        "INSERT INTO u SELECT * FROM t",
        "CREATE PUBLICATION p FOR TABLE t, u",
    )
    world.start()
    world.execute("UPDATE t SET note = 'x' WHERE id = 1", "UPDATE u SET note = 'x' WHERE id = 1")
    other = (
        ("DROP CONSTRAINT {}_pkey", "ADD PRIMARY KEY (code, id)")
        if identity == "DEFAULT"
        else ("DROP CONSTRAINT {}_pkey",)
    )
    world.execute(*(f"ALTER TABLE t {change.format('t')}, REPLICA IDENTITY {identity}" for change in other))
    world.execute("UPDATE t SET note = 'y' WHERE id < 5", "INSERT INTO t VALUES (2, 'twice', 3)")
    if identity == "FULL":
        world.execute("INSERT INTO t VALUES (2, 'twice', 3), (2, 'twice', 3)")
    world.require_equal("t", "u")
    world.execute(*(f"ALTER TABLE u {change.format('u')}, REPLICA IDENTITY {identity}" for change in other))
    world.execute("UPDATE u SET note = 'y' WHERE id < 5", "INSERT INTO u VALUES (2, 'twice', 3)")
    world.start()
    world.require_equal("t", "u")
