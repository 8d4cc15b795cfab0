"""Rates, totals and units of the live view."""

from __future__ import annotations

import pytest

from cluster.tally import Tally, bytes_text, copied_share, duration_text, position_text
from wallaby.lsn import START, Lsn, Position
from wallaby.status import FlowStatus, LaneStatus, TableStatus


def status(rows: int, *, epoch: int = 1, lanes: int = 1, read: int = 0) -> FlowStatus:
    return FlowStatus(
        flow="shop",
        state="running",
        phase="streaming",
        epoch=epoch,
        rows=read,
        lanes=tuple(LaneStatus(destination="lake", index=index, rows=rows) for index in range(lanes)),
    )


def test_a_rate_is_rows_over_the_time_between_two_statuses() -> None:
    tally = Tally()
    assert tally.observe(status(1_000), 10.0)[0].rows_per_s == 0.0
    assert tally.observe(status(3_000), 10.5)[0].rows_per_s == 4_000.0


def test_a_rate_covers_the_last_seconds_only() -> None:
    """An hour at ten rows a second, then silence: the rate falls to zero after the averaging time."""
    tally = Tally()
    for second in range(100):
        line = tally.observe(status(second * 10), float(second))[0]
    assert line.rows_per_s == 10.0
    for second in range(100, 104):
        line = tally.observe(status(990), float(second))[0]
    assert line.rows_per_s == 0.0
    assert line.rows == 990


def test_a_new_epoch_counts_from_zero_and_the_total_goes_on() -> None:
    tally = Tally()
    tally.observe(status(5_000, read=6_000), 0.0)
    [line] = tally.observe(status(200, epoch=2, read=300), 1.0)
    assert line.rows == 5_200
    assert line.rows_per_s == 200.0
    assert (tally.source_rows, tally.source_rows_per_s) == (6_300, 300.0)


def test_two_statuses_at_the_same_instant_give_no_rate() -> None:
    tally = Tally()
    tally.observe(status(0), 1.0)
    assert tally.observe(status(10), 1.0)[0].rows_per_s == 0.0


def test_a_destination_shows_the_sum_of_its_lanes_and_the_lane_furthest_behind() -> None:
    lanes = (
        LaneStatus(destination="lake", index=0, state="streaming", rows=5, lag_bytes=7, position=Position(Lsn(9), 0)),
        LaneStatus(destination="lake", index=1, state="waiting", rows=6, lag_ms=8, position=Position(Lsn(3), 1)),
    )
    [line] = Tally().observe(FlowStatus(flow="shop", state="running", lanes=lanes), 0.0)
    assert (line.rows, line.lanes, line.state, line.lag_bytes, line.lag_ms) == (11, 2, "waiting", 7, 8)
    assert line.position == Position(Lsn(3), 1)


def test_the_snapshots_share_stays_below_one_until_the_phase_is_over() -> None:
    def share(*tables: TableStatus, phase: str = "snapshot") -> float | None:
        return copied_share(FlowStatus(flow="shop", state="running", phase=phase, tables=tables))

    def table(copy: str, copied: int, estimated: int) -> TableStatus:
        return TableStatus(table="a.b", copy=copy, copied=copied, estimated=estimated)

    assert share() is None
    assert share(table("pending", 0, 0)) is None
    assert share(table("copying", 150, 300)) == 0.5
    assert share(table("copying", 150, 100), table("pending", 0, 150)) == 0.5, "it had more than was believed"
    assert share(table("copied", 50, 5_000), table("pending", 0, 50)) == 0.5, "... and less"
    assert share(table("copied", 50, 50)) == 0.99
    assert share(table("copied", 50, 50), phase="streaming") == 1.0


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 KiB"), (1_536, "1.5 KiB"), (23 << 20, "23 MiB"), (5 << 50, "5120 TiB")],
)
def test_bytes_are_shown_in_units(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.5 s"),
        (59_990, "1 m 00 s"),
        (320_000, "5 m 20 s"),
        (7_500_000, "2 h 05 m"),
    ],
)
def test_durations_are_shown_in_units(milliseconds: int, text: str) -> None:
    assert duration_text(milliseconds) == text


def test_positions_are_shown_as_postgres_prints_them() -> None:
    assert position_text(Position(Lsn.parse("1/2F000028"), 0)) == "1/2F000028"
    assert position_text(Position(Lsn.parse("1/2F000028"), 1200)) == "1/2F000028 +1,200"
    assert position_text(Position(Lsn(0), 12)) == "snapshot 12"
    assert position_text(START) == "0/0"
