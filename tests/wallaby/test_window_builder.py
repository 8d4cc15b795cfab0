"""Where windows are cut, and that nothing is lost at the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.decoder import Segment
from wallaby.settings import Limits
from wallaby.testing.changes import Stream, insert, table
from wallaby.window import Barrier, BarrierKind, Window
from wallaby.window_builder import UnsealedPart, WindowBuilder

ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
LIMITS = Limits(window_rows_max=10, window_age_max_ms=50)


def segment(rows: int, upto: Position, *, whole: bool = True) -> Segment:
    stream = Stream()
    stream.transaction([(ORDERS, insert(i, "x")) for i in range(rows)])
    windows = stream.windows() if rows else []
    parts = tuple((part.schema, batch) for window in windows for part in window.parts for batch in part.batches())
    return Segment(parts, upto, rows, whole, 1_000)


def rows_of(window: Window) -> int:
    rows = sum(batch.num_rows for part in window.parts for batch in part.batches())
    assert rows == window.rows
    return rows


def test_a_window_ends_at_a_commit_and_the_open_transaction_waits_for_the_next() -> None:
    builder = WindowBuilder(Position(Lsn(10)), LIMITS)
    builder.add(segment(3, Position(Lsn(20))), 0)
    builder.add(segment(2, Position(Lsn(25), 2), whole=False), 0)
    first = builder.seal()
    assert first is not None
    assert (first.window.after, first.window.upto, rows_of(first.window)) == (Position(Lsn(10)), Position(Lsn(20)), 3)
    assert first.window.ends_transaction
    assert builder.seal() is None, "the open transaction is small: it waits for its commit"
    builder.add(segment(1, Position(Lsn(30))), 1)
    second = builder.seal()
    assert second is not None
    assert (second.window.after, second.window.upto, rows_of(second.window)) == (
        Position(Lsn(20)),
        Position(Lsn(30)),
        3,
    )


@pytest.mark.must_not_fail(14)
def test_a_transaction_larger_than_the_limit_leaves_in_pieces_that_say_so() -> None:
    builder = WindowBuilder(Position(Lsn(10)), LIMITS)
    pieces = []
    for i in range(1, 5):
        builder.add(segment(10, Position(Lsn(15), 10 * i), whole=False), i)
        assert builder.is_due(i, is_lane_free=False)
        pieces.append(builder.seal())
    builder.add(segment(0, Position(Lsn(20))), 9)
    pieces.append(builder.seal())
    windows = [piece.window for piece in pieces if piece is not None]
    assert [window.ends_transaction for window in windows] == [False, False, False, False, True]
    assert [window.after for window in windows[1:]] == [window.upto for window in windows[:-1]]
    assert sum(rows_of(window) for window in windows) == 40


@pytest.mark.parametrize(("age_ms", "free", "due"), [(0, True, True), (49, False, False), (50, False, True)])
def test_a_window_is_due_when_somebody_is_free_or_it_is_old(age_ms: int, free: bool, due: bool) -> None:
    builder = WindowBuilder(Position(Lsn(10)), LIMITS)
    builder.add(segment(1, Position(Lsn(20))), 100)
    assert builder.is_due(100 + age_ms, is_lane_free=free) is due


def test_a_truncate_takes_a_place_in_its_transaction_and_a_new_shape_does_not() -> None:
    builder = WindowBuilder(Position(Lsn(10)), LIMITS)
    builder.add(segment(2, Position(Lsn(15), 2), whole=False), 0)
    before = builder.seal_before_barrier()
    assert before is not None
    assert not before.window.ends_transaction
    truncate = Barrier(BarrierKind.TRUNCATE, (ORDERS.name,), (), Lsn(15), 2)
    assert builder.barrier(truncate).window.upto == Position(Lsn(15), 3)
    shape = Barrier(BarrierKind.SCHEMA, (ORDERS.name,), (ORDERS,), Lsn(15), 3)
    window = builder.barrier(shape).window
    assert window.after == window.upto == Position(Lsn(15), 3)


def test_idle_movement_never_goes_back() -> None:
    builder = WindowBuilder(Position(Lsn(10)), LIMITS)
    builder.skip_to(Position(Lsn(30)))
    builder.skip_to(Position(Lsn(20)))
    assert builder.after == Position(Lsn(30))


def test_what_is_sealed_goes_through_the_filling_once_in_order_and_keeps_its_time_of_reading() -> None:
    asked: list[list[int]] = []

    def fill(parts: Sequence[UnsealedPart]) -> list[UnsealedPart]:
        asked.append([batch.num_rows for part in parts for batch in part.batches])
        return [replace(part, fetched_at=Lsn(len(asked))) for part in parts]

    builder = WindowBuilder(Position(Lsn(10)), LIMITS, fill=fill)
    builder.add(segment(3, Position(Lsn(20))), 0)
    builder.add(segment(2, Position(Lsn(30))), 0)
    builder.add(segment(1, Position(Lsn(35), 1), whole=False), 0)
    sealed = [builder.seal(), builder.seal_before_barrier()]
    builder.add(segment(0, Position(Lsn(50))), 1)
    assert builder.seal() is not None
    assert asked == [[3, 2], [1]]
    assert [part.fetched_at for one in sealed if one for part in one.window.parts] == [Lsn(1), Lsn(2)]
