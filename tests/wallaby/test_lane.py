"""A lane over the sink in memory: what it drops, what it prepares, and what it does at barriers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wallaby.errors import CheckFailed, Transient, WallabyError
from wallaby.lane import Lane
from wallaby.lsn import Lsn
from wallaby.schema import TableSchema
from wallaby.sink import Finding, Severity
from wallaby.testing.changes import NewShape, Stream, Truncate, insert, table
from wallaby.testing.memory_sink import MemoryDestination, MemorySink, MemoryWriter
from wallaby.window import LaneId, Window

LANE = LaneId("shop", "copy")
ITEMS = table("public.items", {"id": "int8"}, key=["id"])
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
WIDER = table("public.orders", {"id": "int8", "note": "text", "total": "int8"}, key=["id"], version=2)


def opened(destination: MemoryDestination, epoch: int = 1) -> Lane:
    lane = Lane(MemorySink(destination), LANE, epoch)
    lane.recover()
    return lane


def feed(lane: Lane, windows: list[Window]) -> None:
    for window in windows:
        lane.write(window, commit=True)


def rows(destination: MemoryDestination) -> list[dict[str, object]]:
    target = destination.targets[ORDERS.name]
    found: list[dict[str, object]] = target.rows.drop_columns(["__outliers"]).to_pylist()
    return found


@pytest.mark.must_not_fail(10, 11)
def test_rows_after_a_truncate_of_a_table_not_seen_before_find_their_target() -> None:
    destination = MemoryDestination()
    stream = Stream()
    stream.transaction([(ITEMS, insert(1))])
    stream.transaction([Truncate((ORDERS.name,)), (ORDERS, insert(1, "a"))])
    windows = stream.windows()
    windows = [
        replace(window, barrier=replace(window.barrier, schemas=(ORDERS,))) if window.barrier else window
        for window in windows
    ]
    feed(opened(destination), windows)
    assert [row["id"] for row in rows(destination)] == [1]


@pytest.mark.must_not_fail(11)
def test_a_new_shape_reaches_a_table_whose_earlier_rows_were_dropped_as_applied() -> None:
    destination = MemoryDestination()
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([NewShape(WIDER), (WIDER, insert(2, "b", 3))])
    before, *later = stream.windows()
    feed(opened(destination), [before])
    restarted = opened(destination, epoch=2)
    feed(restarted, [before, *later])
    assert [row["total"] for row in rows(destination)] == [None, 3]


@pytest.mark.must_not_fail(10)
def test_a_shape_announced_without_rows_makes_no_target_until_rows_come() -> None:
    destination = MemoryDestination()
    stream = Stream()
    stream.transaction([(ITEMS, insert(1))])
    stream.transaction([NewShape(WIDER), (ITEMS, insert(2))])
    lane = opened(destination)
    feed(lane, stream.windows())
    assert ORDERS.name not in destination.targets
    end = lane.position
    stream.transaction([(WIDER, insert(2, "b", 3))])
    feed(lane, [window for window in stream.windows() if window.after >= end])
    assert [row["total"] for row in rows(destination)] == [3]


@pytest.mark.must_not_fail(2, 5)
def test_a_lane_ahead_of_the_stream_takes_only_what_it_lacks() -> None:
    destination = MemoryDestination()
    stream = Stream()
    for number in range(6):
        stream.transaction([(ORDERS, insert(2 * number, "a")), (ORDERS, insert(2 * number + 1, "b"))])
    feed(opened(destination), stream.windows()[:3])
    # The same transactions in one window that straddles the lane's position.
    [whole] = stream.windows(cuts=[])
    lane = opened(destination, epoch=2)
    report = lane.write(whole, commit=True)
    assert report.rows == 6
    assert report.receipt is not None
    assert report.receipt.upto == whole.upto
    assert len(rows(destination)) == 12
    assert lane.position == whole.upto


class TimesOfReading(MemorySink):
    """Notes when the parts written say they were read."""

    def __init__(self, destination: MemoryDestination) -> None:
        super().__init__(destination)
        self.seen: list[Lsn | None] = []

    def writer(self, lane: LaneId, epoch: int) -> MemoryWriter:
        seen = self.seen

        class Writer(MemoryWriter):
            def write(self, window: Window) -> None:
                seen.extend(part.fetched_at for part in window.parts)
                super().write(window)

        return Writer(self, lane, epoch)


def test_what_is_left_of_a_part_still_says_when_its_cells_were_read() -> None:
    destination = MemoryDestination()
    stream = Stream()
    for number in range(3):
        stream.transaction([(ORDERS, insert(number, "a"))])
    feed(opened(destination), stream.windows()[:1])
    [whole] = stream.windows(cuts=[])
    read = replace(whole, parts=tuple(replace(part, fetched_at=Lsn(77)) for part in whole.parts))
    sink = TimesOfReading(destination)
    lane = Lane(sink, LANE, 2)
    lane.recover()
    assert lane.write(read, commit=True).rows == 2
    assert sink.seen == [Lsn(77)]


class FoundFault(MemorySink):
    """Finds what it is told to find."""

    codes: tuple[str, ...] = ()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        return [
            Finding(severity=Severity.ERROR, subject="destination", message="no", advice="wait", code=code)
            for code in self.codes
        ]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("destination-unreachable",), Transient),
        (("locked",), Transient),
        (("destination-read-only",), Transient),
        (("table-shape",), CheckFailed),
        (("locked", "table-shape"), CheckFailed),
    ],
)
@pytest.mark.must_not_fail(15)
def test_a_destination_that_is_away_is_tried_again_and_an_unfit_one_is_not(
    codes: tuple[str, ...], expected: type[WallabyError]
) -> None:
    sink = FoundFault(MemoryDestination())
    sink.codes = codes
    with pytest.raises(expected) as caught:
        Lane(sink, LANE, 1).recover()
    assert type(caught.value) is expected
