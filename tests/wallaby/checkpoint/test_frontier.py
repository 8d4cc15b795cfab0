"""The frontier never passes what a required lane lacks, never moves back, and does get to the end."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby.checkpoint.frontier import Frontier
from wallaby.lsn import START, Lsn, Position
from wallaby.window import LaneId, Receipt

A, B = LaneId("shop", "a"), LaneId("shop", "b")


def at(lsn: int, ordinal: int = 0) -> Position:
    return Position(Lsn(lsn), ordinal)


def receipt(lane: LaneId, upto: Position) -> Receipt:
    return Receipt(lane, upto, 0)


def test_nothing_is_durable_before_anything_was_read() -> None:
    assert Frontier({A: START}, {"a"}).durable() == START


def test_all_required_lanes_must_have_it() -> None:
    frontier = Frontier({A: START, B: START}, {"a", "b"})
    for lane in (A, B):
        frontier.sent(lane, at(10))
    frontier.read_upto(at(10))
    frontier.received(receipt(A, at(10)))
    assert frontier.durable() == START
    frontier.received(receipt(B, at(10)))
    assert frontier.durable() == at(10)


def test_with_a_primary_the_others_hold_nothing_back() -> None:
    frontier = Frontier({A: START, B: START}, {"a"})
    for lane in (A, B):
        frontier.sent(lane, at(10))
    frontier.read_upto(at(10))
    frontier.received(receipt(A, at(10)))
    assert frontier.durable() == at(10)
    assert frontier.lane_positions() == {A: at(10), B: START}


@pytest.mark.must_not_fail(1)
def test_an_idle_lane_holds_nothing_back() -> None:
    frontier = Frontier({A: START, B: at(3)}, {"a", "b"})
    frontier.read_upto(at(500))
    assert frontier.durable() == at(500)
    frontier.sent(B, at(600))
    frontier.read_upto(at(700))
    assert frontier.durable() == at(500)
    frontier.received(receipt(B, at(600)))
    assert frontier.durable() == at(700)


def test_a_lane_that_becomes_busy_holds_back_only_from_there_on() -> None:
    frontier = Frontier({A: at(5)}, {"a"})
    frontier.read_upto(at(100))
    frontier.sent(A, at(200))
    frontier.read_upto(at(200))
    assert frontier.durable() == at(100)


def test_inside_a_transaction_only_what_ended_before_it_is_durable() -> None:
    frontier = Frontier({A: START}, {"a"})
    frontier.sent(A, at(10, 5))
    frontier.read_upto(at(10, 5))
    frontier.received(receipt(A, at(10, 5)))
    assert frontier.durable() == at(10)


def test_a_half_copied_snapshot_is_nothing_durable() -> None:
    frontier = Frontier({A: START}, {"a"})
    frontier.sent(A, at(0, 3))
    frontier.read_upto(at(0, 3))
    frontier.received(receipt(A, at(0, 3)))
    assert frontier.durable() == START


@pytest.mark.must_not_fail(2)
def test_a_lane_ahead_after_a_restart_does_not_move_the_source_ahead_of_what_was_read() -> None:
    frontier = Frontier({A: at(100), B: at(50)}, {"a", "b"})
    frontier.read_upto(at(50))
    frontier.sent(A, at(80))
    frontier.sent(B, at(80))
    frontier.read_upto(at(80))
    assert frontier.durable() == at(50)
    frontier.received(receipt(B, at(80)))
    assert frontier.durable() == at(80)


def test_an_old_or_repeated_receipt_changes_nothing() -> None:
    frontier = Frontier({A: START}, {"a"})
    frontier.sent(A, at(20))
    frontier.read_upto(at(20))
    frontier.received(receipt(A, at(20)))
    frontier.received(receipt(A, at(10)))
    assert (frontier.durable(), frontier.lane_positions()[A]) == (at(20), at(20))


def test_a_required_destination_without_a_lane_is_a_broken_invariant() -> None:
    for required in ((), {"c"}):
        with pytest.raises(AssertionError):
            Frontier({A: START}, required)


@dataclass(frozen=True)
class Step:
    """One window: how far it goes, whether it ends inside a transaction, whom it concerns, whose receipts arrive."""

    advance: int
    inside: bool
    concerns: tuple[int, ...]
    receipts: tuple[tuple[int, int], ...]
    """(lane, how many of its outstanding windows the receipt covers)"""


LANES = (LaneId("f", "a", 0, 2), LaneId("f", "a", 1, 2), LaneId("f", "b"))
STEPS = st.lists(
    st.builds(
        Step,
        advance=st.integers(1, 9),
        inside=st.booleans(),
        concerns=st.lists(st.sampled_from(range(3)), unique=True).map(tuple),
        receipts=st.lists(st.tuples(st.sampled_from(range(3)), st.integers(1, 3)), max_size=3).map(tuple),
    ),
    max_size=40,
)


@pytest.mark.must_not_fail(2)
@settings(deadline=None, derandomize=True)
@given(
    steps=STEPS,
    required=st.sampled_from(["a", "b", "ab"]),
    ahead=st.lists(st.integers(0, 60), min_size=3, max_size=3),
)
def test_the_frontier_is_safe_monotone_and_arrives(steps: list[Step], required: str, ahead: list[int]) -> None:
    """Model: per lane the windows (after, upto] that concern it and that its destination does not have yet."""
    start = at(20)
    has = {lane: at(ahead[i]) for i, lane in enumerate(LANES)}
    frontier = Frontier(dict(has), set(required))
    frontier.read_upto(start)
    missing: dict[LaneId, list[tuple[Position, Position]]] = {lane: [] for lane in LANES}
    read = last = start
    ordinal = 0

    def check() -> None:
        nonlocal last
        durable = frontier.durable()
        assert durable >= last, "moved back"
        assert durable.is_whole
        assert durable <= max(read, last)
        for lane in LANES:
            for after, upto in missing[lane] if lane.destination in required else ():
                # The source sends again every transaction whose commit record starts at or after the frontier: the
                # window, or what it continues, must be among them.
                assert durable.lsn <= after.lsn, (durable, after, upto)
        last = durable

    for step in steps:
        ordinal = ordinal + step.advance if step.inside else 0
        upto = at(read.lsn, ordinal) if step.inside else at(read.lsn + step.advance)
        for i in step.concerns:
            lane = LANES[i]
            if upto > has[lane]:
                missing[lane].append((max(read, has[lane]), upto))
            frontier.sent(lane, upto)
            check()
        read = upto
        frontier.read_upto(upto)
        check()
        for i, count in step.receipts:
            done, missing[LANES[i]] = missing[LANES[i]][:count], missing[LANES[i]][count:]
            if done:
                has[LANES[i]] = max(has[LANES[i]], done[-1][1])
                frontier.received(receipt(LANES[i], done[-1][1]))
                check()
    for lane in LANES:
        if missing[lane] and lane.destination in required:
            frontier.received(receipt(lane, missing[lane][-1][1]))
            missing[lane] = []
    check()
    assert frontier.durable() == at(read.lsn), "everything arrived, the frontier did not"


def _all_durable(frontier: Frontier, lsn: int) -> Position:
    frontier.sent(A, at(lsn))
    frontier.read_upto(at(lsn))
    frontier.received(receipt(A, at(lsn)))
    return frontier.durable()


@pytest.mark.must_not_fail(2, 14)
def test_a_prepared_transaction_holds_at_its_prepare_until_its_commit_is_durable() -> None:
    frontier = Frontier({A: START}, {"a"})
    assert _all_durable(frontier, 10) == at(10)
    frontier.hold(7, at(15))
    assert _all_durable(frontier, 20) == at(15)
    frontier.let_go(7, at(30))
    assert _all_durable(frontier, 25) == at(15)
    assert _all_durable(frontier, 30) == at(30)


@pytest.mark.must_not_fail(2, 14)
def test_a_rolled_back_one_holds_no_longer() -> None:
    frontier = Frontier({A: START}, {"a"})
    frontier.hold(7, at(15))
    assert _all_durable(frontier, 20) == at(15)
    frontier.let_go(7)
    frontier.let_go(8)
    assert frontier.durable() == at(20)


@pytest.mark.must_not_fail(2, 14)
def test_the_frontier_never_stands_between_a_prepare_and_its_commit() -> None:
    """Another transaction holds it inside: then it stands before both, or the first would come back without changes."""
    frontier = Frontier({A: START}, {"a"})
    frontier.hold(1, at(10))
    frontier.hold(2, at(20))
    frontier.let_go(1, at(30))
    assert _all_durable(frontier, 40) == at(10)
    frontier.let_go(2, at(50))
    assert _all_durable(frontier, 50) == at(50)


@given(st.data())
@settings(deadline=None)
def test_with_prepared_transactions_every_place_it_stands_is_safe(data: st.DataObject) -> None:
    """Against the definition: no prepared transaction has its PREPARE before, and its end beyond, what is durable."""
    frontier = Frontier({A: START}, {"a"})
    pending: dict[int, int] = {}
    spans: list[tuple[int, int]] = []
    for lsn in range(10, 400, 10):
        match data.draw(st.sampled_from(["prepare", "end", "other"])):
            case "prepare":
                pending[lsn] = lsn
                frontier.hold(lsn, at(lsn))
            case "end" if pending:
                xid = data.draw(st.sampled_from(sorted(pending)))
                spans.append((pending.pop(xid), lsn + 5))
                frontier.let_go(xid, at(lsn + 5))
        durable = _all_durable(frontier, lsn + 5)
        for begin, end in [*spans, *((begin, 10_000) for begin in pending.values())]:
            assert not begin < durable.lsn < end
        if not pending:
            assert durable == at(lsn + 5)
