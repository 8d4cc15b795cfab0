"""A sink behind a stage: in a lane, and by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.sinks.lettered import Lettered
from tests.sinks.lettered import feed as written
from wallaby.errors import ConfigError, Refused
from wallaby.flow import DeadLetterPolicy
from wallaby.flow.transforms import TransformOptions
from wallaby.lane import Lane
from wallaby.schema import TableName
from wallaby.sink import Rehearsing, WriteMode
from wallaby.testing.changes import NewShape, Stream, Truncate, delete, insert, table, update
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.transform.stage import Stage
from wallaby.transformed import TransformedSink, make_sink
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
WIDER = table("public.orders", {"id": "int8", "note": "text", "total": "int8"}, key=["id"], version=2)
SECRETS = table("public.secrets", {"id": "int8"}, key=["id"])
FACTS = TableName("lake", "orders")


def transformed(destination: MemoryDestination, **options: Any) -> TransformedSink:
    parsed = TransformOptions.of(options, mode=WriteMode.MIRROR)
    return TransformedSink(MemorySink(destination), Stage(parsed, WriteMode.MIRROR))


def rows(destination: MemoryDestination, name: TableName = FACTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = destination.targets[name].rows.drop_columns(["__outliers"]).to_pylist()
    return found


@pytest.fixture
def lane() -> Iterator[tuple[Lane, MemoryDestination]]:
    destination = MemoryDestination()
    lane = Lane(transformed(destination, rename_schema="lake", exclude_tables="secrets"), LANE, 1)
    lane.recover()
    yield lane, destination
    lane.close()


def test_a_lane_writes_what_the_stage_makes(lane: tuple[Lane, MemoryDestination]) -> None:
    feed, destination = lane
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a")), (SECRETS, insert(1)), (ORDERS, insert(2, "b"))])
    stream.transaction([NewShape(WIDER), NewShape(SECRETS), (WIDER, insert(3, "c", 7))])
    stream.transaction([(WIDER, delete(1))])
    for window in stream.windows():
        feed.write(window, commit=True)
    assert list(destination.targets) == [FACTS]
    assert sorted(row["id"] for row in rows(destination)) == [2, 3]
    assert feed.position == stream.windows()[-1].upto


def test_barriers_are_about_the_tables_that_go_there(lane: tuple[Lane, MemoryDestination]) -> None:
    feed, destination = lane
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([Truncate((SECRETS.name,))])
    stream.transaction([Truncate((SECRETS.name, ORDERS.name))])
    windows = stream.windows()
    for window in windows[:2]:
        feed.write(window, commit=True)
    assert len(rows(destination)) == 1
    for window in windows[2:]:
        feed.write(window, commit=True)
    assert rows(destination) == []
    assert feed.position == windows[-1].upto


def test_a_reset_empties_the_target(lane: tuple[Lane, MemoryDestination]) -> None:
    feed, destination = lane
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    [window] = stream.windows()
    feed.write(window, commit=True)
    feed.reset((ORDERS.name, SECRETS.name))
    assert rows(destination) == []


def test_rows_that_are_all_filtered_out_move_the_position_and_make_the_target() -> None:
    destination = MemoryDestination()
    lane = Lane(transformed(destination, where="orders: id > 10"), LANE, 1)
    lane.recover()
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([NewShape(WIDER), (WIDER, insert(2, "b", 3))])
    stream.transaction([(WIDER, insert(11, "b", 3))])
    windows = stream.windows()
    for window in windows[:-1]:
        lane.write(window, commit=True)
    assert rows(destination, ORDERS.name) == []
    assert lane.position == windows[-2].upto
    lane.write(windows[-1], commit=True)
    assert rows(destination, ORDERS.name) == [{"id": 11, "note": "b", "total": 3}]


@pytest.mark.must_not_fail(16)
def test_a_dead_letter_is_about_the_target_and_comes_back_there(tmp_path: Path) -> None:
    destination = MemoryDestination(not_null={FACTS: "remark"})
    with closing(Lettered(tmp_path, partial(transformed, destination))) as flow:
        lane = flow.begin(rename_schema="lake", rename_columns="note = remark", meta_position="place")
        written(lane, [(ORDERS, insert(1, "a")), (ORDERS, insert(2, None))], [(ORDERS, update(2, "b"))])
        assert [row["id"] for row in rows(destination)] == [1]
        first, second = flow.letters()
        assert (first.table, second.table) == (FACTS, FACTS)
        destination.not_null = {}
        flow.replay(lane)
    assert [(row["id"], row["remark"]) for row in rows(destination)] == [(1, "a"), (2, "b")]
    assert rows(destination)[1]["place"] > rows(destination)[0]["place"]


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("policy", [DeadLetterPolicy.SKIP, DeadLetterPolicy.PARK])
def test_a_dead_letter_holds_no_masked_value(tmp_path: Path, policy: DeadLetterPolicy) -> None:
    hidden = "the value nobody shall see"
    destination = MemoryDestination(not_null={ORDERS.name: "total"})
    with closing(Lettered(tmp_path, partial(transformed, destination))) as flow:
        lane = flow.begin(policy, mask_columns=["note = hmac"], mask_secret="a secret of sixteen")
        written(
            lane,
            [(WIDER, insert(1, hidden, 1)), (WIDER, insert(2, hidden, None))],
            [(WIDER, update(2, hidden, 5)), (WIDER, insert(3, hidden, 5))],
        )
        found = flow.letters()
        assert sum(letter.rows for letter in found) == (2 if policy is DeadLetterPolicy.SKIP else 4)
        for letter in found:
            assert hidden.encode() not in flow.content(letter)
            assert hidden not in repr(letter) + letter.message


@pytest.mark.must_not_fail(7, 23)
def test_a_row_that_comes_into_where_without_its_toasted_value_is_refused_with_that_advice() -> None:
    sink = transformed(MemoryDestination(), where="public.orders: total > 0")
    lane = Lane(sink, LANE, 1)
    lane.recover()
    stream = Stream()
    stream.transaction([(WIDER, insert(1, "long", -1))])
    stream.transaction([(WIDER, update(1, None, 5, unchanged=["note"]))])
    first, second = stream.windows()
    lane.write(first, commit=True)
    with pytest.raises(Refused, match="rows to be updated are not in the destination") as caught:
        lane.write(second, commit=True)
    assert caught.value.advice.startswith("If an update brought the rows into where")
    lane.close()


def test_the_decorator_rehearses_where_the_sink_does() -> None:
    writer = transformed(MemoryDestination(), meta_enabled=True).writer(LANE, 1)
    assert isinstance(writer, Rehearsing)


def test_without_transforms_there_is_no_decorator(tmp_path: Path) -> None:
    options = {"dsn": str(tmp_path / "x.duckdb")}
    plain = make_sink("duckdb", options, destination="d")
    assert not isinstance(plain, TransformedSink)
    assert isinstance(make_sink("duckdb", {**options, "soft_delete": "true"}, destination="d"), TransformedSink)
    with pytest.raises(ConfigError, match="belongs to a mirror"):
        make_sink("duckdb", {**options, "soft_delete": True, "write_mode": "append"}, destination="d")


def test_append_mode_is_the_write_mode_append(tmp_path: Path) -> None:
    sink = make_sink("duckdb", {"dsn": str(tmp_path / "x.duckdb"), "append_mode": True}, destination="d")
    assert isinstance(sink, TransformedSink)
    assert sink.inside._tables.options.write_mode is WriteMode.APPEND  # type: ignore[attr-defined]  # the sink's own
