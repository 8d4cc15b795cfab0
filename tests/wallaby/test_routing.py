"""Tables to lanes."""

from __future__ import annotations

from wallaby.lsn import Lsn, Position
from wallaby.routing import lane_of, route
from wallaby.schema import TableName
from wallaby.window import Barrier, BarrierKind, Window

NAMES = tuple(TableName("public", f"t{i}") for i in range(40))


def test_a_table_always_goes_to_the_same_lane_and_all_lanes_are_used() -> None:
    lanes = [lane_of(name, 4) for name in NAMES]
    assert lanes == [lane_of(name, 4) for name in NAMES]
    assert set(lanes) == {0, 1, 2, 3}
    assert lane_of(TableName("public", "orders"), 4) == 3, "the hash is part of the format: a change reshuffles lanes"


def test_a_truncate_is_split_so_that_each_table_is_emptied_by_the_lane_that_writes_it() -> None:
    barrier = Barrier(BarrierKind.TRUNCATE, NAMES, (), Lsn(5), 0)
    shares = route(Window(Position(Lsn(1)), Position(Lsn(5), 1), barrier=barrier), 4)
    assert set(shares) == {0, 1, 2, 3}
    truncated = [table for share in shares.values() for table in share.barrier.tables]  # type: ignore[union-attr]
    assert sorted(truncated) == sorted(NAMES)
    assert all(lane_of(t, 4) == i for i, s in shares.items() for t in s.barrier.tables)  # type: ignore[union-attr]
