"""Column lists and row filters: the copy, the stream, and what changes while streaming."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.world import Content, World
from wallaby.errors import Refused

pytestmark = pytest.mark.must_not_fail(23)

_TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, size int NOT NULL, secret text, note text)",
    "INSERT INTO t SELECT g, g % 50, 'secret', 'copied' FROM generate_series(1, 200) AS g",
)


@pytest.fixture
def world(world: World) -> Iterator[World]:
    """Only servers that have the features."""
    world.needs(15, "row filters and column lists")
    return world


def test_rows_enter_and_leave_the_filter_as_inserts_and_deletes(world: World) -> None:
    world.execute(
        *_TABLE,
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE PUBLICATION p FOR TABLE t WHERE (size > 25 AND id < 1000)",
    )
    content = Content("t", where="size > 25 AND id < 1000")
    world.start()
    world.require_equal(content)
    world.execute(
        "UPDATE t SET size = 40 WHERE id = 1",
        "UPDATE t SET size = 1 WHERE id = 30",
        "UPDATE t SET note = 'outside' WHERE id = 2",
        "UPDATE t SET note = 'inside' WHERE id = 40",
        "UPDATE t SET id = 1001 WHERE id = 41",
        "DELETE FROM t WHERE id IN (3, 42)",
        "INSERT INTO t VALUES (300, 1, 's', 'out'), (301, 30, 's', 'in')",
        "BEGIN; UPDATE t SET size = 1 WHERE id = 43; UPDATE t SET size = 49 WHERE id = 43; COMMIT",
    )
    world.require_equal(content)
    changes = [(row["__op"], row["id"]) for row in world.logged("t") if row["__op"] != "r"]
    assert changes[:2] == [("i", 1), ("d", 30)], "entering is an insert, leaving is a delete"


def test_filters_of_the_key_hold_without_full_identity(world: World) -> None:
    world.execute(*_TABLE, "CREATE PUBLICATION p FOR TABLE t WHERE (id % 2 = 0)")
    world.start()
    world.execute(
        "UPDATE t SET id = id + 1001 WHERE id < 20",
        "UPDATE t SET id = id + 2000 WHERE id BETWEEN 20 AND 40",
        "DELETE FROM t WHERE id BETWEEN 50 AND 60",
    )
    world.require_equal(Content("t", where="id % 2 = 0"))


def test_a_column_list_hides_columns_from_copy_and_stream_under_any_identity(world: World) -> None:
    world.execute(
        *_TABLE,
        "CREATE TABLE u (LIKE t)",
        "INSERT INTO u SELECT * FROM t",
        "ALTER TABLE u REPLICA IDENTITY FULL",
        "CREATE TABLE v (secret text, id int NOT NULL UNIQUE, note text)",
        "ALTER TABLE v REPLICA IDENTITY USING INDEX v_id_key",
        "INSERT INTO v SELECT secret, id, note FROM t",
        "CREATE PUBLICATION p FOR TABLE t (note, id), u, v (id, note)",
    )
    contents = (Content("t", ("id", "note")), Content("u"), Content("v", ("id", "note")))
    world.start()
    world.require_equal(*contents)
    for table in ("t", "u", "v"):
        world.execute(
            f"UPDATE {table} SET secret = 'other' WHERE id < 10",
            f"UPDATE {table} SET note = 'changed' WHERE id < 20",
            f"UPDATE {table} SET id = id + 1000 WHERE id < 30",
            f"DELETE FROM {table} WHERE id BETWEEN 30 AND 40",
        )
    world.require_equal(*contents)


def test_a_list_of_all_but_some_columns_with_full_identity_takes_inserts_only(world: World) -> None:
    """PostgreSQL refuses to update such a table; what is inserted is mirrored."""
    world.execute(
        *_TABLE,
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE PUBLICATION p FOR TABLE t (id, note)",
    )
    world.start()
    world.execute("INSERT INTO t VALUES (500, 1, 's', 'new')")
    world.require_equal(Content("t", ("id", "note")))


def test_filters_of_a_root_hold_for_every_leaf(world: World) -> None:
    root = (
        "CREATE TABLE root (id int PRIMARY KEY, size int, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE low (note text, size int, id int NOT NULL)",
        "ALTER TABLE root ATTACH PARTITION low FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE high PARTITION OF root FOR VALUES FROM (100) TO (1000)",
        "INSERT INTO root SELECT g, g, 'copied' FROM generate_series(1, 200) AS g",
    )
    world.execute(
        *root,
        "CREATE PUBLICATION p FOR TABLE root (id, note) WHERE (id % 3 = 0) WITH (publish_via_partition_root = true)",
    )
    world.start()
    world.execute(
        "UPDATE root SET id = id + 300 WHERE id < 10",
        "UPDATE root SET note = 'x' WHERE id > 150",
        "DELETE FROM root WHERE id BETWEEN 40 AND 50",
        "INSERT INTO root VALUES (600, 1, 'in'), (601, 1, 'out')",
    )
    world.require_equal(Content("root", ("id", "note"), where="id % 3 = 0"))


def test_a_filter_on_a_large_unchanged_key_column_holds(world: World) -> None:
    """The filter needs a value that lies outside the row: PostgreSQL fetches it from the old row."""
    world.execute(
        "CREATE TABLE t (id int, body text NOT NULL, n int, PRIMARY KEY (id))",
        "ALTER TABLE t ALTER body SET STORAGE EXTERNAL",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT g, repeat((g % 2)::text, 5000), 0 FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR TABLE t WHERE (body LIKE '1%')",
    )
    content = Content("t", where="body LIKE '1%'")
    world.start()
    world.execute(
        "UPDATE t SET n = 1",
        "UPDATE t SET body = repeat('0', 5000) WHERE id = 1",
        "UPDATE t SET body = repeat('1', 6000) WHERE id = 2",
        "UPDATE t SET id = id + 100 WHERE id BETWEEN 3 AND 6",
        "DELETE FROM t WHERE id IN (7, 8)",
    )
    world.require_equal(content)


def test_a_changed_filter_applies_to_what_is_changed_from_then_on(world: World) -> None:
    """ALTER PUBLICATION sends nothing by itself: rows that a wider filter would have sent come when they change."""
    world.execute(*_TABLE, "CREATE PUBLICATION p FOR TABLE t WHERE (id < 100)")
    world.start()
    world.caught_up()
    world.execute("ALTER PUBLICATION p SET TABLE t WHERE (id < 150)", "INSERT INTO t VALUES (-1, 1, 's', 'new')")
    world.execute("INSERT INTO t VALUES (-2, 1, 's', 'new')", "DELETE FROM t WHERE id = 50")
    world.require_equal(Content("t", where="id < 100"))
    world.execute("ALTER PUBLICATION p SET TABLE t", "INSERT INTO t VALUES (1000, 1, 's', 'new')")
    world.require_equal(Content("t", where="id < 100 OR id = 1000"))
    world.restart()
    world.execute("INSERT INTO t VALUES (1001, 1, 's', 'new')")
    world.require_equal(Content("t", where="id < 100 OR id >= 1000"))


def test_a_changed_column_list_is_a_new_shape_without_a_restart(world: World) -> None:
    world.execute(*_TABLE, "CREATE PUBLICATION p FOR TABLE t (id, note)")
    world.start()
    world.execute("INSERT INTO t VALUES (201, 1, 's', 'two columns')")
    world.require_equal(Content("t", ("id", "note")))
    world.execute(
        "ALTER PUBLICATION p SET TABLE t (id, size, note)",
        "UPDATE t SET note = 'three columns'",
        "INSERT INTO t VALUES (202, 7, 's', 'three columns')",
    )
    world.require_equal(Content("t", ("id", "size", "note")))
    world.execute("ALTER PUBLICATION p SET TABLE t (id, size)", "UPDATE t SET size = size + 1 WHERE id < 10")
    world.require_equal(Content("t", ("id", "size")))
    world.restart()
    world.execute("UPDATE t SET size = size + 1 WHERE id < 20")
    world.require_equal(Content("t", ("id", "size")))


def test_a_column_published_later_is_not_taken_for_a_new_one(world: World) -> None:
    """Its default says nothing about rows that were changed while it was not sent."""
    world.execute(
        *_TABLE,
        "ALTER TABLE t ADD grade int DEFAULT 7",
        "UPDATE t SET grade = 1 WHERE id = 1",
        "CREATE PUBLICATION p FOR TABLE t (id, note)",
    )
    world.start()
    world.execute("UPDATE t SET note = 'x' WHERE id = 3")
    world.caught_up()
    world.execute("ALTER PUBLICATION p SET TABLE t", "UPDATE t SET note = 'x' WHERE id = 2")
    world.caught_up()
    grades = {row["id"]: row["grade"] for row in world.mirror_rows("t")}
    assert (grades[1], grades[2], grades[3]) == (None, 7, None)


def test_a_table_withdrawn_and_published_again_goes_on(world: World) -> None:
    world.execute(*_TABLE, "CREATE TABLE u (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t, u")
    world.start()
    world.execute("INSERT INTO u VALUES (1)", "ALTER PUBLICATION p DROP TABLE t", "DELETE FROM t WHERE id = 1")
    world.execute("INSERT INTO u VALUES (2)", "ALTER PUBLICATION p ADD TABLE t", "DELETE FROM t WHERE id = 2")
    world.require_equal("u", Content("t", query="SELECT * FROM public.t UNION ALL SELECT 1, 1, 'secret', 'copied'"))


def test_a_publication_of_some_operations_sends_those_alone(world: World) -> None:
    world.execute(*_TABLE, "CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert, update')")
    world.start()
    world.execute("CREATE TABLE kept AS SELECT * FROM t WHERE id = 1", "DELETE FROM t WHERE id = 1", "TRUNCATE kept")
    world.execute("INSERT INTO t VALUES (500, 1, 's', 'new')", "UPDATE t SET note = 'x' WHERE id = 2")
    query = "SELECT * FROM public.t UNION ALL SELECT 1, 1, 'secret', 'copied'"
    world.require_equal(Content("t", query=query))


@pytest.mark.must_not_fail(7)
def test_a_row_that_enters_the_filter_without_a_value_is_filled_or_refused_and_never_null(world: World) -> None:
    """The server makes an insert of the update, without the TOASTed value the update left as it was."""
    world.execute(
        "CREATE TABLE t (id int, active bool, n int, big text, PRIMARY KEY (id, active))",
        "ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, g % 2 = 0, 0, repeat('long ' || g, 2000) FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR TABLE t WHERE (active)",
    )
    world.start()
    world.execute("UPDATE t SET active = true, n = 1 WHERE id = 1", "UPDATE t SET n = 2 WHERE id = 2")
    failure = world.failure()
    assert isinstance(failure, Refused)
    assert "toast_fetch" in failure.advice
    world.source_options["toast_fetch"] = "source"
    world.start()
    world.require_equal(Content("t", where="active"), only=["mirror"])
