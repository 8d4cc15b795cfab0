"""Transforms from the slot to real destinations, compared with what PostgreSQL itself makes of the source's rows."""

from __future__ import annotations

import hashlib

import pytest

from tests.integration.world import Content, World

_LONG = "repeat('long ', 4000)"
_TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, size int, email text NOT NULL, secret text, body text)",
    "ALTER TABLE t ALTER COLUMN body SET STORAGE EXTERNAL",
    f"INSERT INTO t SELECT g, g % 50, 'user' || g || '@example.org', 'secret', {_LONG} || g"
    " FROM generate_series(1, 120) g",
    "CREATE PUBLICATION p FOR TABLE t",
)
_CHANGES = (
    "UPDATE t SET size = 49 WHERE id = 40",
    "UPDATE t SET size = 1, body = 'short' WHERE id = 30",
    "UPDATE t SET size = 45, body = 'short' WHERE id = 1",
    "UPDATE t SET size = 46, id = 1001 WHERE id = 41",
    "DELETE FROM t WHERE id IN (3, 42, 96)",
    "INSERT INTO t VALUES (300, 1, 'a', 's', 'out'), (301, 30, 'b', 's', 'in'), (302, NULL, 'c', 's', 'null')",
    "BEGIN; UPDATE t SET size = 1, body = 'x' WHERE id = 43; UPDATE t SET size = 49, body = 'y' WHERE id = 43; COMMIT",
    "UPDATE t SET email = 'new@example.org' WHERE id IN (44, 45)",
)


@pytest.fixture
def world(real_world: World) -> World:
    real_world.destinations = ("mirror", "postgres", "duckdb", "delta")
    return real_world


@pytest.mark.must_not_fail(5, 7, 23)
def test_chosen_computed_and_masked_rows_are_those_of_a_query_at_the_source(world: World) -> None:
    world.execute(*_TABLE)
    world.transforms = {
        "where": ["t: size > 25"],
        "computed_columns": ["t.twice = size * 2", "t.domain = split_part(email, '@', 2)"],
        "exclude_columns": ["t.secret"],
        "mask_columns": ["t.email = hash"],
    }
    world.start()
    world.execute(*_CHANGES)
    world.require_equal(
        Content(
            "t",
            columns=("id", "size", "email", "body", "twice", "domain"),
            query="SELECT id::text, size::text, encode(sha256(convert_to(email, 'UTF8')), 'hex') AS email, body,"
            " (size * 2)::text AS twice, split_part(email, '@', 2) AS domain FROM public.t WHERE size > 25",
        )
    )


@pytest.mark.must_not_fail(5, 7)
def test_softly_deleted_rows_keep_what_the_destination_had(world: World) -> None:
    world.execute(*_TABLE, "CREATE TABLE gone AS SELECT * FROM t WHERE id IN (3, 42)")
    world.transforms = {"soft_delete": True, "meta_deleted": "gone", "meta_op": "-", "meta_watermark": "-"}
    world.transforms |= {"meta_synced_at": "-"}
    world.start()
    world.execute(
        "DELETE FROM t WHERE id IN (3, 42, 50)",
        "INSERT INTO t VALUES (50, 7, 'again', 's', 'again')",
        "UPDATE t SET id = 1001 WHERE id = 41",
        "BEGIN; INSERT INTO t VALUES (400, 1, 'x', 's', 'b'); DELETE FROM t WHERE id = 400; COMMIT",
    )
    columns = ("id", "size", "email", "secret", "body", "gone")
    listed = "id::text, size::text, email, secret, body"
    world.require_equal(
        Content(
            "t",
            columns=columns,
            query=f"SELECT {listed}, 'f' AS gone FROM public.t UNION ALL SELECT {listed}, 't' FROM public.gone"
            " UNION ALL SELECT '400', '1', 'x', 's', 'b', 't'",
        )
    )


_RENAME = ("ALTER TABLE t RENAME email TO mail", "INSERT INTO t VALUES (500, 1, 'plain@example.org', 's', 'b')")


def _masked_by_a_star(world: World) -> None:
    world.destinations = ("mirror",)
    world.execute(*_TABLE)
    world.transforms = {"mask_columns": ["*.*.email = hash"]}
    world.start()


def _require_stopped(world: World, error: BaseException, *, rows: int = 120) -> None:
    """By the rename, with everything from before it in the mirror, masked."""
    assert "a column hidden from the destination would arrive as it is" in str(error)
    found = world.mirror_rows("t")
    assert len(found) == rows
    assert all(len(row["email"]) == 64 for row in found)
    assert found[0]["email"] == hashlib.sha256(f"user{found[0]['id']}@example.org".encode()).hexdigest()


@pytest.mark.must_not_fail(11, 24)
def test_a_masked_column_that_is_renamed_at_the_source_stops_the_flow(world: World) -> None:
    """Inside a transaction: what it did before the rename is there, and does not come again by another rule."""
    _masked_by_a_star(world)
    world.execute(";".join(("UPDATE t SET size = 7 WHERE id = 5", *_RENAME)))
    _require_stopped(world, world.failure())
    assert [row["size"] for row in world.mirror_rows("t") if row["id"] == 5] == [7]
    world.transforms = {"mask_columns": ["*.*.mail = hash"]}
    world.start()
    world.caught_up()
    assert all(len(row["mail"]) == 64 for row in world.mirror_rows("t"))


@pytest.mark.must_not_fail(11, 24)
def test_a_masked_column_that_is_renamed_while_the_flow_is_stopped_does_not_arrive(world: World) -> None:
    _masked_by_a_star(world)
    world.stop()
    world.execute(*_RENAME)
    _require_stopped(world, world.start_and_fail())
    _require_stopped(world, world.start_and_fail())
    _require_stopped(world, world.start_and_fail(resnapshot=True))
    world.transforms |= {"reveal_columns": ["public.t.mail"]}
    world.start()
    world.caught_up()
    assert [row["mail"] for row in world.mirror_rows("t") if row["id"] == 500] == ["plain@example.org"]


@pytest.mark.must_not_fail(11, 24)
def test_a_column_masked_later_than_the_flow_began_is_known_before_its_first_change(world: World) -> None:
    world.destinations = ("mirror",)
    world.execute(*_TABLE)
    world.start()
    world.stop()
    world.transforms = {"mask_columns": ["*.*.email = hash"]}
    world.start()
    world.caught_up()
    world.execute(";".join(_RENAME))
    assert "a column hidden from the destination would arrive as it is" in str(world.failure())


@pytest.mark.must_not_fail(11, 24)
def test_a_masked_column_that_is_renamed_before_the_flow_has_read_so_far_does_not_arrive(world: World) -> None:
    """The catalog has only the new name by then: nothing tells the number of the column under its old one."""
    _masked_by_a_star(world)
    world.stop()
    world.execute(
        "CREATE TABLE u (id int PRIMARY KEY, email text)",
        "ALTER PUBLICATION p ADD TABLE u",
        "INSERT INTO t VALUES (400, 1, 'x', 's', 'b')",
        "INSERT INTO u VALUES (1, 'early')",
        "ALTER TABLE u RENAME email TO mail",
        "INSERT INTO u VALUES (2, 'late')",
    )
    error = world.start_and_fail()
    assert "nothing tells whether it is the same" in str(error)
    [row] = world.mirror_rows("u")
    assert row["email"] == hashlib.sha256(b"early").hexdigest()
    assert len(world.mirror_rows("t")) == 121


@pytest.mark.must_not_fail(11, 24)
def test_a_table_that_does_not_go_there_may_not_get_there_under_another_name(world: World) -> None:
    """It never had a row in the stream: the copy knew its name."""
    world.destinations = ("mirror",)
    world.execute(
        *_TABLE, "CREATE TABLE secrets (id int PRIMARY KEY, body text)", "ALTER PUBLICATION p ADD TABLE secrets"
    )
    world.transforms = {"exclude_tables": ["secrets"]}
    world.start()
    world.stop()
    world.execute("ALTER TABLE secrets RENAME TO open", "INSERT INTO open VALUES (1, 'x')")
    error = world.start_and_fail()
    assert "would arrive as it is" in str(error)
    assert world.tables() == {"public.t"}
    world.transforms = {"exclude_tables": ["secrets", "open"]}
    world.start()
    world.caught_up()
    assert world.tables() == {"public.t"}
