"""Rows Iceberg has no place for: set aside beside their peers, and replayed when there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks.iceberg.reader import log_rows, mirror_rows
from sinks.iceberg.sink import IcebergSink
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lettered import Lettered, feed
from wallaby.content import canonical_hash
from wallaby.flow import DeadLetterPolicy
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.sink import WriteMode
from wallaby.testing.changes import Outlier, delete, insert, table, update
from wallaby.testing.history import row_table

ORDERS = table("public.orders", {"id": "int8", "note": "text", "total": "numeric(12,2)"}, key=["id"])
ITEMS = table("public.items", {"id": "int8"}, key=["id"])
DAYS = table("public.days", {"id": "int8", "day": "date"}, key=["id"])
RATES = table("public.rates", {"id": "int8", "rate": "float8"}, key=["id"])
KEYLESS = table("public.keyless", {"id": "int8", "note": "text"}, identity=ReplicaIdentity.FULL)
STRATEGIES = ("position-deletes", "copy-on-write")
FAR = 3_000_000
"""Days after 1970, in the year 10183."""


@pytest.fixture
def flow(tmp_path: Path, make_sink: Callable[..., IcebergSink]) -> Iterator[Lettered]:
    flow = Lettered(tmp_path / "state", make_sink)
    yield flow
    flow.close()


def assert_holds(lake: Lake, schema: TableSchema, rows: list[tuple[Any, ...]]) -> None:
    found = mirror_rows(lake.catalog.load_table((schema.name.schema, schema.name.name)), schema)
    expected = row_table(schema, rows).select(range(len(schema.columns)))
    assert canonical_hash(found) == canonical_hash(expected)


@pytest.mark.must_not_fail(12, 16)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("policy", [DeadLetterPolicy.SKIP, DeadLetterPolicy.PARK])
def test_a_value_without_a_place_waits_and_its_peers_flow(
    flow: Lettered, lake: Lake, policy: DeadLetterPolicy, strategy: str
) -> None:
    feed(
        flow.begin(policy, mirror_strategy=strategy),
        [(ORDERS, insert(1, "a", None)), (ITEMS, insert(1))],
        [(ORDERS, insert(2, "b", Outlier("NaN"))), (ORDERS, insert(3, "c", None)), (ITEMS, insert(2))],
        [(ORDERS, update(2, "d", None)), (ORDERS, delete(1)), (ITEMS, insert(3))],
    )
    assert_holds(lake, ORDERS, [(3, "c", None)] if policy is DeadLetterPolicy.SKIP else [(1, "a", None)])
    assert_holds(lake, ITEMS, [(1,), (2,), (3,)])
    assert {letter.table for letter in flow.letters()} == {ORDERS.name}
    flow.replay(flow.begin(policy, mirror_strategy=strategy, unrepresentable="null"))
    assert_holds(lake, ORDERS, [(2, "d", None), (3, "c", None)])


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("mode", list(WriteMode))
def test_of_a_thousand_keys_the_poisonous_one_is_found_and_taken_once_its_value_has_a_place(
    flow: Lettered, lake: Lake, mode: WriteMode
) -> None:
    """pyiceberg computes with dates as Python's, which end with the year 9999."""
    numbers = range(1000)
    story: list[Any] = [(DAYS, insert(n, FAR if n == 500 else n)) for n in numbers]
    feed(flow.begin(write_mode=mode.value), [(ITEMS, insert(1))], story, commit_every=2)
    [letter] = flow.letters()
    assert (letter.position.ordinal, letter.rows, letter.table) == (500, 1, DAYS.name)
    read = mirror_rows if mode is WriteMode.MIRROR else log_rows

    def ids() -> list[int]:
        return sorted(read(lake.catalog.load_table(("public", "days")), DAYS)["id"].to_pylist())

    assert ids() == [n for n in numbers if n != 500]
    flow.replay(flow.begin(write_mode=mode.value))
    assert ids() == [n for n in numbers if n != 500], "refused again, it stays set aside"
    [letter] = flow.letters()
    lane = flow.begin(write_mode=mode.value)
    feed(lane, [(ITEMS, insert(1))], story, [(DAYS, update(500, 5)), (DAYS, insert(1000, 5))])
    assert 500 not in ids()
    if mode is WriteMode.MIRROR:
        flow.replay(lane)
        assert ids() == [*numbers, 1000], "with the change that followed it, its value has a place"


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize(
    ("schema", "poison", "partition"), [(RATES, float("nan"), "rate"), (DAYS, FAR, "day:month"), (DAYS, -FAR, "")]
)
def test_a_value_no_partition_or_bound_can_have_is_set_aside(
    flow: Lettered, lake: Lake, schema: TableSchema, poison: Any, partition: str
) -> None:
    feed(flow.begin(partition_by=partition), [(schema, insert(n, poison if n == 3 else n)) for n in range(6)])
    assert_holds(lake, schema, [(n, n) for n in range(6) if n != 3])
    assert [(letter.position.ordinal, letter.rows) for letter in flow.letters()] == [(3, 1)]


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("change", ["patch", "move"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_row_somebody_removed_from_the_target_keeps_only_its_own_key(
    flow: Lettered, lake: Lake, change: str, strategy: str
) -> None:
    rows = [(ORDERS, insert(n, "long", None)) for n in range(1, 6)]
    feed(flow.begin(mirror_strategy=strategy), rows)
    target = lake.catalog.load_table(("public", "orders"))
    lost = target.scan("id = 2").to_arrow()
    target.delete("id = 2")
    steps: list[Any] = [(ORDERS, update(n, None, n, unchanged=["note"])) for n in (1, 3)]
    if change == "patch":
        steps.insert(1, (ORDERS, update(2, None, 2, unchanged=["note"])))
    else:
        steps.insert(1, (ORDERS, update(7, None, 2, old=[2], unchanged=["note"])))
    feed(flow.begin(mirror_strategy=strategy), rows, [*steps, (ITEMS, insert(1))])
    others = [(1, "long", 1), (3, "long", 3), (4, "long", None), (5, "long", None)]
    assert_holds(lake, ORDERS, others)
    assert_holds(lake, ITEMS, [(1,)])
    assert [letter.rows for letter in flow.letters()] == [1]
    target.refresh().append(lost)
    flow.replay(flow.begin(mirror_strategy=strategy))
    assert_holds(lake, ORDERS, [*others, (2 if change == "patch" else 7, "long", 2)])


@pytest.mark.must_not_fail(16)
def test_a_row_without_a_key_that_is_not_there_to_be_deleted_is_set_aside(flow: Lettered, lake: Lake) -> None:
    rows = [(KEYLESS, insert(n, "a")) for n in range(4)]
    feed(flow.begin(), rows)
    lake.catalog.load_table(("public", "keyless")).delete("id = 2")
    feed(flow.begin(), rows, [(KEYLESS, delete(n, "a")) for n in (1, 2)])
    assert_holds(lake, KEYLESS, [(0, "a"), (3, "a")])
    assert [letter.rows for letter in flow.letters()] == [1]


@pytest.mark.must_not_fail(16)
def test_files_of_rehearsals_that_came_to_nothing_are_removed(flow: Lettered, lake: Lake) -> None:
    feed(flow.begin(), [(DAYS, insert(n, FAR if n == 3 else n)) for n in range(8)])
    files = {
        Path(path).name for path in lake.catalog.load_table(("public", "days")).inspect.files()["file_path"].to_pylist()
    }
    assert {file.name for file in lake.folder.rglob("*.parquet") if "days" in str(file)} == files


@pytest.mark.must_not_fail(16)
def test_rows_that_went_to_files_before_the_commit_are_isolated_too(flow: Lettered, lake: Lake) -> None:
    story = [[(DAYS, insert(n, FAR if n == 3 else n)), (ITEMS, insert(n))] for n in range(8)]
    feed(flow.begin(write_buffer_size="1KiB"), *story, [(DAYS, update(3, 3)), (DAYS, delete(4))], commit_every=9)
    assert_holds(lake, DAYS, [(n, n) for n in range(8) if n not in (3, 4)])
    assert_holds(lake, ITEMS, [(n,) for n in range(8)])
    flow.replay(flow.begin())
    assert_holds(lake, DAYS, [(n, n) for n in range(8) if n != 4])
