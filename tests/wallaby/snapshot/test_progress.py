"""Counting a copy, and what counts mean once they lie in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName
from wallaby.snapshot.progress import CopyProgress, CopyRun, CopyState, Estimate, TableCopy, planned, state_now

A, B, C, D = (TableName("public", name) for name in "abcd")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LSN = Lsn(100)


def at(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


def progress(interval_ms: int = 1_000) -> CopyProgress:
    return CopyProgress(
        planned((A, B, C, D), {A: Estimate(10, 8192), C: Estimate(20, 0)}, epoch=3, snapshot_lsn=LSN),
        interval_ms=interval_ms,
    )


def states(tables: tuple[TableCopy, ...]) -> list[tuple[str, str, int]]:
    return [(item.table.name, item.state, item.rows) for item in tables]


def test_a_plan_has_every_table_in_order_with_what_the_planner_believes() -> None:
    tables = progress().tables
    assert [(item.table, item.number, item.estimated_rows, item.estimated_bytes) for item in tables] == [
        (A, 0, 10, 8192),
        (B, 1, 0, 0),
        (C, 2, 20, 0),
        (D, 3, 0, 0),
    ]
    assert {(item.state, item.epoch, item.snapshot_lsn) for item in tables} == {(CopyState.PENDING, 3, LSN)}


def test_a_table_is_complete_when_a_later_one_begins_and_all_are_at_the_end() -> None:
    """``b`` is empty: it never has a batch before the end."""
    counted = progress()
    counted.copied(A, rows=5, nbytes=50, at=at(1))
    counted.copied(A, rows=6, nbytes=60, at=at(2))
    counted.copied(C, rows=1, nbytes=7, at=at(5))
    first, second, third, last = counted.tables
    assert (first.state, first.rows, first.bytes) == (CopyState.COPIED, 11, 110)
    assert (first.started_at, first.updated_at, first.finished_at) == (at(1), at(5), at(5))
    assert (second.state, second.rows, second.finished_at) == (CopyState.COPIED, 0, at(5))
    assert (third.state, third.started_at, third.finished_at) == (CopyState.COPYING, at(5), None)
    assert (last.state, last.started_at) == (CopyState.PENDING, None)
    counted.copied(B, rows=0, nbytes=3, at=at(6))
    assert counted.tables[1].state is CopyState.COPIED, "its empty batch does not open it again"
    assert counted.tables[2].state is CopyState.COPYING, "nor does it end a later one"
    counted.finish(at(7))
    assert states(counted.tables) == [("a", "copied", 11), ("b", "copied", 0), ("c", "copied", 1), ("d", "copied", 0)]


def test_the_store_hears_only_of_what_moved_and_not_too_often() -> None:
    counted = progress(interval_ms=1_000)
    assert counted.take(0) == ()
    counted.copied(A, rows=1, nbytes=1, at=at(0))
    assert states(counted.take(0)) == [("a", "copying", 1)]
    for second in range(5):
        counted.copied(A, rows=1, nbytes=1, at=at(second))
        assert counted.take(999) == ()
    assert states(counted.take(1_000)) == [("a", "copying", 6)]
    assert counted.take(5_000) == (), "nothing moved"
    counted.copied(B, rows=1, nbytes=1, at=at(6))
    assert states(counted.take(5_000)) == [("a", "copied", 6), ("b", "copying", 1)]


def test_what_the_store_did_not_take_comes_again_with_newer_figures() -> None:
    counted = progress()
    counted.copied(A, rows=1, nbytes=1, at=at(0))
    taken = counted.take(0)
    counted.give_back(taken)
    counted.copied(A, rows=1, nbytes=1, at=at(1))
    assert counted.take(500) == ()
    assert states(counted.take(1_000)) == [("a", "copying", 2)]


@pytest.mark.parametrize("noted", [CopyState.PENDING, CopyState.COPYING, CopyState.COPIED])
def test_what_was_written_means_something_else_once_the_run_is_over_or_the_stream_is_there(noted: CopyState) -> None:
    def now(*, is_done: bool, is_alive: bool, lsn: int) -> CopyState:
        return state_now(noted, LSN, CopyRun(is_done=is_done, is_alive=is_alive, checkpoint=Position(Lsn(lsn))))

    assert now(is_done=False, is_alive=True, lsn=0) is noted
    assert now(is_done=False, is_alive=False, lsn=0) is CopyState.FAILED
    for is_alive in (True, False):
        assert now(is_done=True, is_alive=is_alive, lsn=99) is CopyState.COPIED
        assert now(is_done=True, is_alive=is_alive, lsn=100) is CopyState.CONSISTENT
