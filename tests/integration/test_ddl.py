"""Tables, columns and types that change under a running flow."""

from __future__ import annotations

import pytest

from tests.integration.world import World

pytestmark = pytest.mark.must_not_fail(11)

_TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, note text, n int)",
    "INSERT INTO t SELECT g, 'copied', g FROM generate_series(1, 20) AS g",
    "CREATE PUBLICATION p FOR ALL TABLES",
)
_PLACES = ("mirror", "log", "postgres", "duckdb", "files")


def test_columns_added_and_dropped_are_followed_also_inside_a_transaction(world: World) -> None:
    world.execute(*_TABLE)
    world.start()
    world.execute(
        "ALTER TABLE t ADD extra text",
        "UPDATE t SET extra = 'x' WHERE id < 5",
        "ALTER TABLE t DROP n",
        "INSERT INTO t VALUES (21, 'without n', 'y')",
        "BEGIN; UPDATE t SET note = 'before'; ALTER TABLE t ADD more int; UPDATE t SET more = 1 WHERE id < 3;"
        " ALTER TABLE t DROP extra; DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (22, 'new', 2); COMMIT",
        "BEGIN; ALTER TABLE t ADD undone int; UPDATE t SET undone = 1; ROLLBACK",
        "UPDATE t SET more = 3 WHERE id = 10",
    )
    world.require_equal("t")
    world.restart()
    world.execute("ALTER TABLE t ADD last date", "UPDATE t SET last = '2024-02-29' WHERE id = 1")
    world.require_equal("t")


def test_shapes_changed_while_nothing_reads_are_followed_after_the_restart(real_world: World) -> None:
    """The stream replays the old shape first, then the new one; the catalog knows the newest only."""
    world = real_world
    world.execute(*_TABLE, "CREATE TABLE quiet (id int PRIMARY KEY)")
    world.start()
    world.caught_up()
    world.stop()
    world.execute(
        "UPDATE t SET note = 'old shape' WHERE id = 1",
        "ALTER TABLE t ADD extra text",
        "UPDATE t SET extra = 'x' WHERE id = 2",
        "ALTER TABLE t DROP n",
        "UPDATE t SET extra = 'y' WHERE id = 3",
        "ALTER TABLE quiet ADD extra text",
    )
    world.start()
    world.require_equal("t")
    world.execute("INSERT INTO quiet VALUES (1, 'x')")
    world.start()
    world.require_equal("t", "quiet")


def test_a_change_of_shape_without_a_change_of_rows_is_met_with_the_next_row(world: World) -> None:
    world.execute(*_TABLE)
    world.start()
    world.execute("ALTER TABLE t ADD extra text", "CREATE TABLE other (id int PRIMARY KEY)")
    world.caught_up()
    world.restart()
    world.execute("ALTER TABLE t DROP note")
    world.caught_up()
    world.execute("UPDATE t SET extra = 'x' WHERE id = 1", "INSERT INTO other VALUES (1)")
    world.require_equal("t", "other")


@pytest.mark.parametrize("is_seen", [True, False], ids=["in the stream", "after a restart"])
def test_a_renamed_column_keeps_its_values_everywhere_but_in_logs(real_world: World, is_seen: bool) -> None:
    world = real_world
    world.execute(*_TABLE, "ALTER TABLE t ADD other text", "UPDATE t SET other = 'other'")
    world.start()
    world.execute("UPDATE t SET n = n + 1 WHERE id < 10")
    world.caught_up()
    if not is_seen:
        world.stop()
    world.execute(
        "ALTER TABLE t RENAME note TO remark",
        "UPDATE t SET n = 0 WHERE id = 1",
        "BEGIN; ALTER TABLE t RENAME remark TO swap; ALTER TABLE t RENAME other TO remark;"
        " ALTER TABLE t RENAME swap TO other; COMMIT",
        "INSERT INTO t VALUES (21, 'a', 1, 'b')",
    )
    if not is_seen:
        world.start()
    world.require_equal("t", only=("mirror", "postgres", "duckdb", "delta"))


@pytest.mark.parametrize("is_seen", [True, False], ids=["in the stream", "after a restart"])
def test_a_renamed_key_is_followed(real_world: World, is_seen: bool) -> None:
    world = real_world
    world.destinations = ("mirror", "postgres", "duckdb", "delta")
    world.execute(*_TABLE)
    world.start()
    world.execute("UPDATE t SET n = n + 1 WHERE id < 10")
    world.caught_up()
    if not is_seen:
        world.stop()
    world.execute(
        "ALTER TABLE t RENAME id TO number", "UPDATE t SET n = 0 WHERE number = 1", "DELETE FROM t WHERE number = 2"
    )
    if not is_seen:
        world.start()
    world.require_equal("t")


@pytest.mark.parametrize("is_seen", [True, False], ids=["in the stream", "after a restart"])
def test_a_column_dropped_and_made_again_under_its_name_forgets_its_values(real_world: World, is_seen: bool) -> None:
    world = real_world
    world.destinations = ("mirror", "postgres", "duckdb", "delta")
    world.execute(*_TABLE)
    world.start()
    world.execute("UPDATE t SET n = n + 1 WHERE id < 10")
    world.caught_up()
    if not is_seen:
        world.stop()
    world.execute(
        "BEGIN; ALTER TABLE t DROP n; ALTER TABLE t ADD n int; COMMIT",
        "UPDATE t SET n = 5 WHERE id = 1",
        "ALTER TABLE t DROP note, ADD note varchar(20)",
        "UPDATE t SET note = 'new' WHERE id = 2",
    )
    if not is_seen:
        world.start()
    world.require_equal("t")


@pytest.mark.parametrize("destination", ["mirror", "postgres", "duckdb", "delta"])
def test_a_change_nobody_can_tell_is_refused_and_a_new_copy_goes_on(real_world: World, destination: str) -> None:
    """Renamed twice while nothing read: the first of the new names is known to nobody any more."""
    world = real_world
    world.destinations = (destination,)
    world.execute("CREATE TABLE t (id int PRIMARY KEY, a text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    world.execute("CREATE PUBLICATION p FOR TABLE t")
    world.start()
    world.caught_up()
    world.stop()
    world.execute("ALTER TABLE t RENAME a TO b", "UPDATE t SET b = 'z' WHERE id = 1", "ALTER TABLE t RENAME b TO c")
    error = world.start_and_fail()
    assert "a went as b came" in str(error)
    world.start(resnapshot=True)
    world.execute("UPDATE t SET c = 'w' WHERE id = 1")
    world.require_equal("t")


def test_a_column_added_with_a_constant_default_has_it_in_older_rows(real_world: World) -> None:
    """PostgreSQL stores such a default once and sends no row for it."""
    world = real_world
    world.destinations = ("mirror", "postgres", "duckdb", "delta")
    world.execute(*_TABLE)
    world.start()
    world.execute(
        "ALTER TABLE t ADD extra text DEFAULT 'it''s', ADD price numeric(8, 2) NOT NULL DEFAULT 1.50",
        "ALTER TABLE t ALTER extra SET DEFAULT 'later'",
        "INSERT INTO t (id) VALUES (21)",
        "UPDATE t SET extra = NULL WHERE id = 3",
    )
    world.require_equal("t")


@pytest.mark.parametrize("is_seen", [True, False], ids=["in the stream", "after a restart"])
def test_widened_types_are_followed(real_world: World, is_seen: bool) -> None:
    world = real_world
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int2, b numeric(5, 2), c varchar(5), d float4, e int)",
        "INSERT INTO t SELECT g, g, g / 4.0, g, g / 4.0, g FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute("UPDATE t SET a = 1 WHERE id = 1")
    world.caught_up()
    if not is_seen:
        world.stop()
    world.execute(
        "ALTER TABLE t ALTER a TYPE int, ALTER b TYPE numeric(8, 2), ALTER c TYPE varchar(50), ALTER d TYPE float8",
        "ALTER TABLE t ALTER e TYPE bigint",
        "UPDATE t SET a = 100000, b = 99999.25, c = repeat('x', 30), d = 1e300, e = 1 << 40 WHERE id = 2".replace(
            "1 << 40", "10000000000"
        ),
        "INSERT INTO t VALUES (21, 5, 5, 5, 5, 5)",
    )
    if not is_seen:
        world.start()
    world.require_equal("t", only=("mirror", "postgres", "duckdb", "delta"))


def test_nullability_defaults_checks_and_indexes_come_and_go_unnoticed(real_world: World) -> None:
    world = real_world
    world.execute(*_TABLE)
    world.start()
    world.execute(
        "ALTER TABLE t ALTER note SET NOT NULL, ALTER n SET DEFAULT 7",
        "INSERT INTO t (id, note) VALUES (21, 'x')",
        "ALTER TABLE t ADD CHECK (n > 0), ALTER note DROP NOT NULL",
        "CREATE UNIQUE INDEX ON t (n, id)",
        "CREATE INDEX ON t (note)",
        "UPDATE t SET note = NULL WHERE id = 1",
        "ALTER TABLE t ALTER note SET STORAGE EXTERNAL",
        "ALTER TABLE t SET (fillfactor = 50)",
        "VACUUM FULL t",
        "CLUSTER t USING t_pkey",
        "UPDATE t SET n = 8 WHERE id = 2",
    )
    world.require_equal("t")


def test_types_that_grow_change_and_are_renamed_keep_values_exact(real_world: World) -> None:
    world = real_world
    world.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE > 0)",
        "CREATE TYPE pair AS (x int, y text)",
        "CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], c price, d pair)",
        "INSERT INTO t VALUES (1, 'sad', '{sad,ok}', 1.5, '(1,a)'), (2, 'ok', '{}', 2, '(2,b)')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute(
        "ALTER TYPE mood ADD VALUE 'great' AFTER 'ok'",
        "INSERT INTO t VALUES (3, 'great', '{great}', 3, '(3,c)')",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'low'",
        "UPDATE t SET m = 'low', ms = '{low}' WHERE id = 1",
        "ALTER TYPE mood RENAME TO humour",
        "INSERT INTO t VALUES (4, 'low', NULL, 4, '(4,d)')",
        "ALTER DOMAIN price DROP CONSTRAINT price_check",
        "INSERT INTO t VALUES (5, 'ok', NULL, -5, '(5,e)')",
        "ALTER TYPE pair RENAME ATTRIBUTE x TO z",
        "INSERT INTO t VALUES (6, 'ok', NULL, 6, '(6,f)')",
        "CREATE SCHEMA other",
        "ALTER TYPE pair SET SCHEMA other",
        "INSERT INTO t VALUES (7, 'ok', NULL, 6, '(7,g)')",
    )
    world.require_equal("t")


def test_a_type_dropped_and_made_again_and_an_identity_lost_and_found_do_not_stop_the_flow(real_world: World) -> None:
    world = real_world
    world.destinations = ("mirror", "postgres", "duckdb", "delta")
    world.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE t (id int PRIMARY KEY, m mood, n int)",
        "INSERT INTO t VALUES (1, 'sad', 1), (2, 'ok', 2)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    world.execute("UPDATE t SET n = 3 WHERE id = 1")
    world.caught_up()
    world.execute(
        "BEGIN; ALTER TABLE t ALTER m TYPE text; DROP TYPE mood; CREATE TYPE mood AS ENUM ('sad', 'ok', 'new');"
        " ALTER TABLE t ALTER m TYPE mood USING m::mood; COMMIT",
        "UPDATE t SET m = 'new' WHERE id = 2",
        "ALTER TABLE t REPLICA IDENTITY NOTHING",
        "INSERT INTO t VALUES (3, 'ok', 3)",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
        "UPDATE t SET n = 5 WHERE id = 3",
        "DELETE FROM t WHERE id = 1",
    )
    world.require_equal("t")


def test_a_renamed_or_moved_table_is_another_table_from_then_on(world: World) -> None:
    """The name decides where rows go; what the old name held stays there as it was."""
    world.execute(*_TABLE, "CREATE SCHEMA other")
    world.start()
    world.execute("UPDATE t SET n = 0 WHERE id = 1")
    world.caught_up()
    world.execute("CREATE TABLE kept AS SELECT * FROM t")
    world.execute(
        "ALTER TABLE t RENAME TO u", "INSERT INTO u VALUES (21, 'renamed', 1)", "UPDATE u SET n = 9 WHERE id = 1"
    )
    world.caught_up()
    world.execute("ALTER TABLE u SET SCHEMA other", "INSERT INTO other.u VALUES (22, 'moved', 1)")
    world.caught_up()
    assert world.tables() >= {"public.t", "public.u", "other.u"}
    assert [row["id"] for row in world.mirror_rows("u")] == [21, 1]


def test_a_table_dropped_and_made_again_streams_its_new_rows(world: World) -> None:
    world.execute(*_TABLE, "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    world.start()
    world.execute(
        "TRUNCATE t",
        "BEGIN; DROP TABLE t; CREATE TABLE t (n text, id int PRIMARY KEY); INSERT INTO t VALUES ('new', 1); COMMIT",
        "UPDATE t SET n = 'newer'",
        "INSERT INTO u VALUES (2)",
    )
    world.require_equal("u")
