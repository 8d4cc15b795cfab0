"""Rows a DuckDB target refuses: set aside beside their peers and replayed through the same connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sinks.duckdb import FACTORY
from wallaby.flow import DeadLetterPolicy, DeadLetters
from wallaby.lane import Lane
from wallaby.letter_box import LetterBox
from wallaby.set_aside import SetAside
from wallaby.settings import Limits
from wallaby.store import LetterDecision, LetterFilter, Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.changes import Outlier, Stream, delete, insert, table, update
from wallaby.vault import Vault
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text", "total": "numeric(12,2)"}, key=["id"])
ITEMS = table("public.items", {"id": "int8"}, key=["id"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_sqlite(tmp_path / "state")
    yield store
    store.close()


@pytest.fixture
def begin(path: Path, store: Store) -> Iterator[Callable[..., Lane]]:
    """Starts the lane anew, as a process after the last one."""
    lanes: list[Lane] = []

    def make(policy: DeadLetterPolicy = DeadLetterPolicy.SKIP, **options: Any) -> Lane:
        for lane in lanes:
            lane.close()
        sink = FACTORY.create({"dsn": str(path), **options}, destination="copy")
        epoch = store.begin_epoch(LANE.flow).epoch
        box = LetterBox(store, Vault([bytes(32)]), Limits())
        aside = SetAside(box, LANE, epoch, rules=DeadLetters(policy=policy), limits=Limits())
        lanes.append(Lane(sink, LANE, epoch, set_aside=aside))
        lanes[-1].recover()
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.close()


def feed(lane: Lane, *transactions: list[Any]) -> None:
    stream = Stream()
    for steps in transactions:
        stream.transaction(steps)
    for window in stream.windows():
        if window.after >= lane.position:
            lane.write(window, commit=True)


def rows(lane: Lane, path: Path, query: str) -> list[Any]:
    """What another process sees; the lane must be closed for it."""
    lane.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        found: list[Any] = connection.execute(query).fetchall()
        return found


@pytest.mark.must_not_fail(12, 16)
@pytest.mark.parametrize("policy", [DeadLetterPolicy.SKIP, DeadLetterPolicy.PARK])
def test_a_value_without_a_place_waits_and_its_peers_flow(
    path: Path, store: Store, begin: Callable[..., Lane], policy: DeadLetterPolicy
) -> None:
    lane = begin(policy)
    story: list[list[Any]] = [
        [(ORDERS, insert(1, "a", None)), (ITEMS, insert(1))],
        [(ORDERS, insert(2, "b", Outlier("NaN"))), (ORDERS, insert(3, "c", None)), (ITEMS, insert(2))],
        [(ORDERS, update(2, "d", None)), (ORDERS, delete(1))],
    ]
    feed(lane, *story)
    skips = policy is DeadLetterPolicy.SKIP
    assert rows(lane, path, "SELECT id FROM public.orders ORDER BY id") == ([(3,)] if skips else [(1,)])
    lane = begin(policy)
    assert len(store.list_letters(LetterFilter()).letters) == 2
    store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id="shop"))
    lane.replay()
    assert rows(lane, path, "SELECT id, note FROM public.orders ORDER BY id") == [(2, "d"), (3, "c")]
    assert rows(lane, path, "SELECT id FROM public.items ORDER BY id") == [(1,), (2,)]


@pytest.mark.must_not_fail(16)
def test_a_constraint_of_the_target_s_user_is_isolated(path: Path, store: Store, begin: Callable[..., Lane]) -> None:
    lane = begin()
    feed(lane, [(ITEMS, insert(0))])
    lane.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE public.items")
        connection.execute("CREATE TABLE public.items (id BIGINT CHECK (id <> 500))")
    lane = begin()
    feed(lane, [(ITEMS, insert(0))], [(ITEMS, insert(number)) for number in range(1, 1000)])
    [letter] = store.list_letters(LetterFilter()).letters
    assert (letter.position.ordinal, letter.rows) == (499, 1)
    assert rows(lane, path, "SELECT count(*) FROM public.items") == [(998,)]


@pytest.mark.must_not_fail(16)
def test_a_target_made_in_the_transaction_that_is_refused_is_made_again(
    path: Path, store: Store, begin: Callable[..., Lane]
) -> None:
    """A far-away value is applied at once, so the transaction is open when the next table comes."""
    days = table("public.days", {"id": "int8", "at": "date"}, key=["id"])
    stream = Stream()
    stream.transaction([(days, insert(1, Outlier("infinity")))])
    stream.transaction([(ITEMS, insert(1))])
    stream.transaction([(ORDERS, insert(1, "a", Outlier("NaN")))])
    lane = begin()
    for number, window in enumerate(windows := stream.windows(), 1):
        lane.write(window, commit=number == len(windows))
    assert [letter.table for letter in store.list_letters(LetterFilter()).letters] == [ORDERS.name]
    assert rows(lane, path, "SELECT id FROM public.items") == [(1,)]
    assert rows(lane, path, "SELECT id FROM public.days") == [(1,)]
