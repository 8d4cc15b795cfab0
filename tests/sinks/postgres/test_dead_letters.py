"""Rows a PostgreSQL target refuses: by a constraint of its user, a type too narrow, a trigger; found among many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks.postgres import FACTORY
from wallaby.flow import DeadLetterPolicy, DeadLetters
from wallaby.lane import Lane
from wallaby.letter_box import LetterBox
from wallaby.set_aside import SetAside
from wallaby.settings import Limits
from wallaby.store import LetterDecision, LetterFilter, Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.changes import Stream, delete, insert, table, update
from wallaby.testing.postgres import ScratchDatabase
from wallaby.vault import Vault
from wallaby.window import LaneId, Window

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text", "total": "int8"}, key=["id"])
ITEMS = table("public.items", {"id": "int8"}, key=["id"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_sqlite(tmp_path)
    yield store
    store.close()


@pytest.fixture
def begin(target_database: ScratchDatabase, store: Store) -> Iterator[Callable[..., Lane]]:
    """Starts the lane anew, as a process after the last one."""
    lanes: list[Lane] = []

    def make(policy: DeadLetterPolicy = DeadLetterPolicy.SKIP, **options: Any) -> Lane:
        sink = FACTORY.create({"dsn": target_database.dsn, **options}, destination="copy")
        epoch = store.begin_epoch(LANE.flow).epoch
        box = LetterBox(store, Vault([bytes(32)]), Limits())
        aside = SetAside(box, LANE, epoch, rules=DeadLetters(policy=policy), limits=Limits())
        lanes.append(Lane(sink, LANE, epoch, set_aside=aside))
        lanes[-1].recover()
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.close()


def feed(lane: Lane, *transactions: list[Any]) -> list[Window]:
    stream = Stream()
    for steps in transactions:
        stream.transaction(steps)
    windows = [window for window in stream.windows() if window.after >= lane.position]
    for window in windows:
        lane.write(window, commit=True)
    return windows


def replay(store: Store, lane: Lane) -> None:
    store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id=LANE.flow))
    lane.replay()


BEFORE: list[Any] = [(ORDERS, insert(0, "first", 0)), (ITEMS, insert(0))]


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("rows", [20, 5000], ids=["pipeline", "copy"])
def test_a_row_a_check_constraint_refuses_is_found_among_many(
    target_database: ScratchDatabase, store: Store, begin: Callable[..., Lane], rows: int
) -> None:
    lane = begin()
    feed(lane, BEFORE)
    target_database.execute("ALTER TABLE orders ADD CHECK (total < 1000000)")
    poison = rows // 3
    bad = [(ORDERS, insert(number, "n", 2_000_000 if number == poison else number)) for number in range(1, rows)]
    feed(lane, BEFORE, bad, [(ITEMS, insert(1))], [(ORDERS, update(poison, "n", 7)), (ORDERS, delete(1))])
    assert target_database.fetch("SELECT count(*) FROM orders") == [(rows - 2,)]
    assert target_database.fetch("SELECT id FROM items ORDER BY 1") == [(0,), (1,)]
    first, second = store.list_letters(LetterFilter()).letters
    assert (first.rows, first.op, first.position.ordinal, first.error) == (1, "insert", poison - 1, "RowRefused")
    assert "orders_total_check" in first.message
    assert "2000000" not in first.message
    assert second.op == "update"
    replay(store, lane)
    assert target_database.fetch(f"SELECT total FROM orders WHERE id = {poison}") == [(7,)]
    feed(
        lane,
        BEFORE,
        bad,
        [(ITEMS, insert(1))],
        [(ORDERS, update(poison, "n", 7)), (ORDERS, delete(1))],
        [(ORDERS, update(poison, "again", 8))],
    )
    assert target_database.fetch(f"SELECT note, total FROM orders WHERE id = {poison}") == [("again", 8)]


@pytest.mark.must_not_fail(16)
def test_a_number_beyond_the_target_s_type_parks_the_table_only(
    target_database: ScratchDatabase, store: Store, begin: Callable[..., Lane]
) -> None:
    lane = begin(DeadLetterPolicy.PARK)
    feed(lane, BEFORE)
    target_database.execute("ALTER TABLE orders ALTER total TYPE smallint")
    story = [
        [(ORDERS, insert(1, "a", 5)), (ITEMS, insert(1))],
        [(ORDERS, insert(2, "b", 123_456)), (ITEMS, insert(2))],
        [(ORDERS, insert(3, "c", 6)), (ITEMS, insert(3))],
    ]
    feed(lane, BEFORE, *story)
    assert target_database.fetch("SELECT id FROM orders ORDER BY id") == [(0,), (1,)]
    assert target_database.fetch("SELECT count(*) FROM items") == [(4,)]
    target_database.execute("ALTER TABLE orders ALTER total TYPE bigint")
    replay(store, begin(DeadLetterPolicy.PARK))
    assert target_database.fetch("SELECT total FROM orders ORDER BY id") == [(0,), (5,), (123_456,), (6,)]


@pytest.mark.must_not_fail(16)
def test_a_deferred_constraint_is_found_before_the_commit(
    target_database: ScratchDatabase, store: Store, begin: Callable[..., Lane]
) -> None:
    lane = begin(fire_triggers=True)
    feed(lane, BEFORE)
    target_database.execute("ALTER TABLE orders ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    feed(lane, BEFORE, [(ORDERS, insert(1, "x", 1)), (ORDERS, insert(2, "first", 2)), (ORDERS, insert(3, "y", 3))])
    assert target_database.fetch("SELECT id FROM orders ORDER BY id") == [(0,), (1,), (3,)]
    [letter] = store.list_letters(LetterFilter()).letters
    assert letter.position.ordinal == 1


@pytest.mark.must_not_fail(16)
def test_a_parent_stays_before_its_child_while_a_row_is_looked_for(
    target_database: ScratchDatabase, store: Store, begin: Callable[..., Lane]
) -> None:
    lane = begin(fire_triggers=True)
    feed(lane, BEFORE)
    target_database.execute("ALTER TABLE orders ADD FOREIGN KEY (total) REFERENCES items")
    feed(
        lane,
        BEFORE,
        [(ITEMS, insert(1)), (ORDERS, insert(1, "a", 1))],
        [(ITEMS, insert(2)), (ORDERS, insert(2, "b", 2)), (ORDERS, insert(3, "lost", 99)), (ORDERS, insert(4, "c", 1))],
    )
    assert target_database.fetch("SELECT id FROM orders ORDER BY id") == [(0,), (1,), (2,), (4,)]
    [letter] = store.list_letters(LetterFilter()).letters
    assert letter.position.ordinal == 2


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("cut", [2, 3], ids=["in the transaction", "at its end"])
def test_a_row_looked_for_leaves_deferred_constraints_deferred(
    target_database: ScratchDatabase, store: Store, begin: Callable[..., Lane], cut: int
) -> None:
    """A child comes before its parent, in a transaction of which, or behind which, a row was looked for."""
    lane = begin(fire_triggers=True, apply_bytes_max=1 << 16)
    feed(lane, BEFORE)
    target_database.execute("ALTER TABLE orders ADD FOREIGN KEY (total) REFERENCES items DEFERRABLE INITIALLY DEFERRED")
    target_database.execute("ALTER TABLE orders ADD CHECK (note <> 'bad')")
    large = "x" * (1 << 17)
    stream = Stream()
    stream.transaction(BEFORE)
    stream.transaction(
        [(ORDERS, insert(1, "bad", 0)), (ORDERS, insert(2, large, 0 if cut == 3 else 7)), (ITEMS, insert(1))]
    )
    stream.transaction([(ORDERS, insert(3, large, 8)), (ITEMS, insert(7)), (ITEMS, insert(8))])
    cuts = [(1, cut), (1, 3), (2, 1), (2, 3)] if cut == 3 else [(1, 2), (1, 3), (2, 3)]
    windows = [window for window in stream.windows([(0, 2), *cuts]) if window.after >= lane.position]
    for number, window in enumerate(windows, 1):
        lane.write(window, commit=number == len(windows))
    assert [letter.position.ordinal for letter in store.list_letters(LetterFilter()).letters] == [0]
    assert target_database.fetch("SELECT id FROM orders ORDER BY id") == [(0,), (2,), (3,)]
