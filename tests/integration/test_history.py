"""A history of a real source: the table as it was at any LSN, through copies, restarts, TRUNCATE and new columns."""

from __future__ import annotations

import pytest

from tests.integration.world import World

_TABLE = (
    "CREATE TABLE items (id int PRIMARY KEY, note text, body text, price numeric(10,2), at timestamptz)",
    "ALTER TABLE items ALTER body SET STORAGE EXTERNAL",
    "INSERT INTO items SELECT g, 'note ' || g, repeat('b' || g, 2000), g, '2026-01-01 12:00Z'"
    " FROM generate_series(1, 20) AS g",
    "CREATE PUBLICATION p FOR TABLE items",
)


@pytest.mark.must_not_fail(7, 25)
def test_a_history_knows_the_table_as_it_was_at_every_lsn(world: World) -> None:
    world.destinations = ("mirror", "history")
    world.execute(*_TABLE)
    world.start()
    moments = [world.moment("items")]
    for step in (
        # Large values that do not change are not sent again.
        "UPDATE items SET price = price + 1 WHERE id % 3 = 0",
        "UPDATE items SET note = 'a' WHERE id = 1; UPDATE items SET note = 'b' WHERE id = 1;"
        " DELETE FROM items WHERE id = 2; INSERT INTO items VALUES (2, 'again', 'short', NULL, NULL);"
        " UPDATE items SET price = 5 WHERE id = 2",
        "UPDATE items SET id = id + 100 WHERE id < 6",
        "UPDATE items SET id = -1 WHERE id = 7; UPDATE items SET id = 7 WHERE id = 8;"
        " UPDATE items SET id = 8 WHERE id = -1",
        "DELETE FROM items WHERE id BETWEEN 10 AND 12",
        "INSERT INTO items SELECT g, 'back', repeat('c', 5000), 0, now() FROM generate_series(10, 11) AS g",
    ):
        world.execute(step)
        moments.append(world.moment("items"))
    world.require_equal("items")
    world.require_history(*moments)
    world.restart()
    for step in (
        "UPDATE items SET at = NULL",
        "TRUNCATE items",
        "INSERT INTO items (id, body) SELECT g, repeat('d', 4000) FROM generate_series(1, 5) AS g",
        "ALTER TABLE items ADD size int; UPDATE items SET size = id WHERE id > 2",
        "UPDATE items SET price = 1",
    ):
        world.execute(step)
        moments.append(world.moment("items"))
    world.require_equal("items")
    world.require_history(*moments)


@pytest.mark.must_not_fail(19)
def test_a_history_is_not_lost_to_a_new_copy(world: World) -> None:
    """What only the history knows is not emptied, and the flow can go on; out of the way, it stays, and another
    begins."""
    world.destinations = ("mirror", "history")
    world.execute(*_TABLE)
    world.start()
    world.execute("UPDATE items SET price = price + 1")
    before = world.moment("items")
    world.require_history(before)
    world.stop()
    error = world.start_and_fail(resnapshot=True)
    assert "holds history" in str(error)
    world.require_history(before)
    world.start()
    world.execute("UPDATE items SET price = price + 1")
    world.require_equal("items")
    world.require_history(before, world.moment("items"))
    world.stop()
    world.rename_history("items", "items_until_now")
    world.start(resnapshot=True)
    after = world.moment("items")
    world.execute("DELETE FROM items WHERE id < 5")
    world.require_history(after, world.moment("items"))
