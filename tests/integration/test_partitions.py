"""Partitioned tables, published as their root or as their leaves, whatever happens to the partitions meanwhile."""

from __future__ import annotations

import pytest

from tests.integration.world import Content, World

pytestmark = pytest.mark.must_not_fail(10)

_ROOT = """
CREATE TABLE root (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE north (note text, gone int, region text NOT NULL, id int NOT NULL);
ALTER TABLE north DROP gone;
ALTER TABLE root ATTACH PARTITION north FOR VALUES IN ('north');
CREATE TABLE south PARTITION OF root FOR VALUES IN ('south') PARTITION BY RANGE (id);
CREATE TABLE south_low (note text, id int NOT NULL, region text NOT NULL);
ALTER TABLE south ATTACH PARTITION south_low FOR VALUES FROM (0) TO (100);
CREATE TABLE south_high PARTITION OF south FOR VALUES FROM (100) TO (1000);
INSERT INTO root SELECT g, (ARRAY['north', 'south'])[1 + g % 2], 'copied' FROM generate_series(1, 200) AS g
"""
_LEAVES = ("north", "south_low", "south_high")
_CHANGES = (
    "INSERT INTO root VALUES (201, 'north', 'new'), (202, 'south', 'new'), (3, 'north', 'new')",
    "UPDATE root SET note = 'changed' WHERE id % 5 = 0",
    "UPDATE root SET region = 'north' WHERE region = 'south' AND id % 7 = 0",
    "UPDATE root SET id = id + 500 WHERE region = 'south' AND id BETWEEN 40 AND 60",
    "DELETE FROM root WHERE id % 11 = 0",
    "INSERT INTO south_low VALUES ('direct', 2, 'south')",
)


def _all_of(leaves: tuple[str, ...], *, columns: tuple[str, ...] = ("id", "region", "note")) -> Content:
    """What a root held when it had these leaves."""
    union = " UNION ALL ".join(f"SELECT {', '.join(columns)} FROM public.{leaf}" for leaf in leaves)
    return Content("root", columns, query=union)


@pytest.mark.parametrize("published", ["FOR TABLE root", "FOR ALL TABLES", "FOR TABLES IN SCHEMA public"])
def test_a_root_is_one_table_whose_rows_move_freely_between_unlike_leaves(world: World, published: str) -> None:
    if "SCHEMA" in published:
        world.needs(15, "publication of schemas")
    world.execute(_ROOT, f"CREATE PUBLICATION p {published} WITH (publish_via_partition_root = true)")
    world.start()
    world.require_equal("root")
    world.execute(*_CHANGES)
    world.require_equal("root")
    assert world.tables() == {"public.root"}
    world.restart()
    world.execute("UPDATE root SET note = 'later' WHERE id < 20")
    world.require_equal("root")


@pytest.mark.parametrize("published", ["FOR TABLE root", "FOR ALL TABLES", "FOR TABLES IN SCHEMA public"])
def test_leaves_are_tables_of_their_own_and_a_moving_row_leaves_one_for_the_other(world: World, published: str) -> None:
    if "SCHEMA" in published:
        world.needs(15, "publication of schemas")
    world.execute(_ROOT, f"CREATE PUBLICATION p {published} WITH (publish_via_partition_root = false)")
    world.start()
    world.require_equal(*_LEAVES)
    world.execute(*_CHANGES)
    world.require_equal(*_LEAVES)
    assert world.tables() == {f"public.{leaf}" for leaf in _LEAVES}
    world.restart()
    world.execute("UPDATE root SET note = 'later' WHERE id < 20")
    world.require_equal(*_LEAVES)


@pytest.mark.parametrize("via_root", ["true", "false"])
def test_publishing_one_leaf_sends_that_leaf_alone(world: World, via_root: str) -> None:
    world.execute(_ROOT, f"CREATE PUBLICATION p FOR TABLE south_low WITH (publish_via_partition_root = {via_root})")
    world.start()
    world.execute(*_CHANGES, "TRUNCATE north", "TRUNCATE south_high")
    world.require_equal("south_low")
    world.execute("TRUNCATE south_low", "INSERT INTO root VALUES (1, 'south', 'after')")
    world.require_equal("south_low")
    assert world.tables() == {"public.south_low"}


@pytest.mark.parametrize("via_root", ["true", "false"])
def test_publishing_an_inner_root_sends_what_lies_below_it(world: World, via_root: str) -> None:
    world.execute(_ROOT, f"CREATE PUBLICATION p FOR TABLE south WITH (publish_via_partition_root = {via_root})")
    world.start()
    world.execute(*_CHANGES)
    names = ("south",) if via_root == "true" else ("south_low", "south_high")
    world.require_equal(*names)
    assert world.tables() == {f"public.{name}" for name in names}


def test_a_partition_made_while_streaming_belongs_to_its_root(world: World) -> None:
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)")
    world.start()
    world.execute(
        "CREATE TABLE east PARTITION OF root FOR VALUES IN ('east')",
        "INSERT INTO root VALUES (1, 'east', 'x'), (2, 'east', 'y')",
        "BEGIN; CREATE TABLE west (note text, region text NOT NULL, id int NOT NULL);"
        " ALTER TABLE root ATTACH PARTITION west FOR VALUES IN ('west');"
        " INSERT INTO root VALUES (1, 'west', 'z'); COMMIT",
        "UPDATE root SET region = 'west' WHERE region = 'east' AND id = 2",
        "DELETE FROM root WHERE region = 'east'",
    )
    world.require_equal("root")


def test_a_partition_made_while_streaming_is_a_new_table_where_leaves_are_sent(world: World) -> None:
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = false)")
    world.start()
    world.execute(
        "CREATE TABLE east PARTITION OF root FOR VALUES IN ('east')",
        "INSERT INTO root VALUES (1, 'east', 'x'), (3, 'east', 'y')",
        "UPDATE root SET region = 'north', note = 'moved' WHERE region = 'east' AND id = 3",
    )
    world.require_equal(*_LEAVES, "east")


def test_a_detached_partition_is_its_own_table_from_then_on(world: World) -> None:
    """PostgreSQL sends nothing for DETACH: the rows stay in the target of the root, and nothing else is disturbed."""
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)")
    world.start()
    world.caught_up()
    world.execute("CREATE TABLE kept AS SELECT * FROM north")
    world.execute("ALTER TABLE root DETACH PARTITION north", "DELETE FROM north", "UPDATE root SET note = 'still'")
    world.require_equal(_all_of(("kept", "south_low", "south_high")))
    world.execute("INSERT INTO north SELECT note, region, id FROM kept WHERE id < 10")
    world.execute("UPDATE south SET note = 'on'", "INSERT INTO root VALUES (500, 'south', 'new')")
    world.require_equal(_all_of(("kept", "south_low", "south_high")))
    assert world.tables() == {"public.root"}


def test_a_detached_leaf_that_is_published_itself_goes_on(world: World) -> None:
    world.execute(_ROOT, "CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root = false)")
    world.start()
    world.execute(
        "ALTER TABLE root DETACH PARTITION north",
        "UPDATE north SET note = 'alone' WHERE id < 50",
        "DELETE FROM north WHERE id BETWEEN 50 AND 60",
        "ALTER TABLE root ATTACH PARTITION north FOR VALUES IN ('north')",
        "UPDATE root SET note = 'back' WHERE id BETWEEN 60 AND 70",
    )
    world.require_equal(*_LEAVES)


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "new"])
def test_attaching_a_table_with_rows_sends_only_what_changes_later(world: World, is_copied: bool) -> None:
    """PostgreSQL sends nothing for ATTACH; changes of the rows it brought arrive under the root's name."""
    world.execute(_ROOT, "CREATE TABLE east (id int NOT NULL, region text NOT NULL, note text)")
    world.execute("INSERT INTO east SELECT g, 'east', 'before' FROM generate_series(1, 20) AS g")
    if is_copied:
        world.execute("ALTER TABLE root ATTACH PARTITION east FOR VALUES IN ('east')")
    world.execute("CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)")
    world.start()
    if not is_copied:
        world.execute("ALTER TABLE root ATTACH PARTITION east FOR VALUES IN ('east')")
    world.execute("UPDATE root SET note = 'after' WHERE region = 'east'", "DELETE FROM root WHERE id = 20")
    world.require_equal("root", only=MIRROR_ONLY if not is_copied else None)


MIRROR_ONLY = ("mirror",)
"""A log whose rows were never inserted says so; a mirror takes an update for the row it brings."""


@pytest.mark.parametrize("via_root", ["true", "false"])
def test_truncating_the_root_empties_what_is_below_it(world: World, via_root: str) -> None:
    world.execute(_ROOT, f"CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = {via_root})")
    world.start()
    names = ("root",) if via_root == "true" else _LEAVES
    world.execute(
        "INSERT INTO root VALUES (300, 'south', 'x')",
        "TRUNCATE root",
        "BEGIN; INSERT INTO root VALUES (1, 'north', 'y'), (2, 'south', 'y'); TRUNCATE root;"
        " INSERT INTO root VALUES (1, 'north', 'z'); COMMIT",
    )
    world.require_equal(*names)


def test_truncating_a_leaf_or_an_inner_root_empties_the_leaves(world: World) -> None:
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = false)")
    world.start()
    world.execute(
        "BEGIN; UPDATE root SET note = 'w'; TRUNCATE south_low; INSERT INTO root VALUES (5, 'south', 'v'); COMMIT",
    )
    world.require_equal(*_LEAVES)
    world.execute("TRUNCATE south", "INSERT INTO root VALUES (6, 'south', 'u')")
    world.require_equal(*_LEAVES)


def test_truncating_a_leaf_of_a_root_that_is_sent_as_one_is_not_told(world: World) -> None:
    """PostgreSQL's rule (CREATE PUBLICATION, publish_via_partition_root): the rows stay, and nothing else suffers."""
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)")
    world.start()
    world.execute("CREATE TABLE kept AS SELECT * FROM south_low", "TRUNCATE south_low", "UPDATE root SET note = 'on'")
    world.require_equal(_all_of(("kept", "north", "south_high")))
    world.execute("INSERT INTO root SELECT id, region, note FROM kept")
    world.require_equal("root", only=MIRROR_ONLY)


def test_root_and_leaf_of_two_publications_in_one_are_sent_once(world: World) -> None:
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root, north WITH (publish_via_partition_root = true)")
    world.start()
    world.execute(*_CHANGES)
    world.require_equal("root")
    assert world.tables() == {"public.root"}


def test_publishing_as_leaves_from_some_moment_on_sends_leaves_from_then_on(world: World) -> None:
    """The root's target stays as it was; a leaf's begins with what changes in it."""
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)")
    world.start()
    world.caught_up()
    world.execute("CREATE TABLE kept AS SELECT id, region, note FROM root")
    world.execute("ALTER PUBLICATION p SET (publish_via_partition_root = false)", "UPDATE north SET note = 'leaf'")
    world.caught_up()
    world.require_equal("north", only=MIRROR_ONLY)
    world.require_equal(Content("root", ("id", "region", "note"), query="SELECT * FROM public.kept"), only=MIRROR_ONLY)
    world.execute("ALTER PUBLICATION p SET (publish_via_partition_root = true)", "UPDATE root SET note = 'root'")
    world.require_equal("root", only=MIRROR_ONLY)


def test_a_column_added_to_the_root_with_a_default_has_it_in_older_rows(world: World) -> None:
    world.destinations = ("mirror",)
    world.execute(_ROOT, "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)")
    world.start()
    world.execute("ALTER TABLE root ADD grade int NOT NULL DEFAULT 7", "UPDATE root SET grade = 1 WHERE id = 4")
    world.require_equal("root")


def test_unchanged_large_values_survive_in_leaves_of_another_column_order(world: World) -> None:
    world.execute(
        _ROOT,
        "ALTER TABLE root ALTER note SET STORAGE EXTERNAL",
        "UPDATE root SET note = repeat(id || 'x', 3000) WHERE id < 20",
        "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true)",
    )
    world.start()
    world.execute("ALTER TABLE root ADD touched int", "UPDATE root SET touched = id WHERE id < 30")
    world.execute("UPDATE root SET region = 'north' WHERE region = 'south' AND id < 10")
    world.require_equal("root")
