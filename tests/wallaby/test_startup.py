"""Where a flow may start: every combination of slot, memory and destination that must not be guessed at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wallaby.errors import CheckFailed, Refused, SlotLost
from wallaby.lsn import START, Lsn, Position
from wallaby.startup import (
    RememberedFacts,
    SnapshotState,
    SourceFacts,
    StartMode,
    StartPlan,
    plan_start,
    shared_history,
)
from wallaby.window import LaneId

LANE = LaneId("f", "d")
SOURCE = SourceFacts(system_identifier="7", timeline=1, database="shop", confirmed=Lsn(100))
NEW = RememberedFacts(position=START, lanes={}, snapshot=SnapshotState.NONE)
KNOWN = RememberedFacts(
    position=Position(Lsn(100)),
    lanes={str(LANE): Position(Lsn(90))},
    snapshot=SnapshotState.DONE,
    system_identifier="7",
    timeline=1,
    database="shop",
)


def plan(
    source: SourceFacts = SOURCE,
    remembered: RememberedFacts = KNOWN,
    lane: Position = Position(Lsn(95)),  # noqa: B008
    copies_initially: bool = True,
    resnapshot: bool = False,
    start_lsn: Lsn | None = None,
) -> StartPlan:
    return plan_start(
        slot="s",
        source=source,
        remembered=remembered,
        lanes={LANE: lane},
        copies_initially=copies_initially,
        resnapshot=resnapshot,
        start_lsn=start_lsn,
    )


def test_a_new_flow_makes_a_slot_and_copies() -> None:
    fresh = replace(SOURCE, confirmed=None)
    assert plan(fresh, NEW, START) == StartPlan(StartMode.COPY, Lsn(0), drop_slot=False)
    assert plan(fresh, NEW, START, copies_initially=False).mode is StartMode.FRESH_STREAM


@pytest.mark.must_not_fail(4)
def test_an_existing_slot_resumes_where_it_confirmed_and_not_where_the_server_is_now() -> None:
    assert plan() == StartPlan(StartMode.RESUME, Lsn(100), drop_slot=False)
    assert plan(SOURCE, NEW, START, copies_initially=False).start == Lsn(100)


@pytest.mark.must_not_fail(2)
def test_a_slot_ahead_of_the_checkpoint_is_a_hard_stop_and_never_max_of_both() -> None:
    with pytest.raises(SlotLost, match="beyond our checkpoint"):
        plan(replace(SOURCE, confirmed=Lsn(101)))


@pytest.mark.must_not_fail(3)
@pytest.mark.parametrize(
    ("source", "says"),
    [
        (replace(SOURCE, confirmed=None), "slot is gone"),
        (replace(SOURCE, invalidation="wal_removed"), "wal_removed"),
        (replace(SOURCE, system_identifier="8"), "another PostgreSQL cluster"),
        (replace(SOURCE, database="other"), "database other"),
        (replace(SOURCE, timeline=0), "timeline"),
    ],
)
def test_a_lost_recreated_invalidated_or_foreign_slot_stops_with_a_way_out(source: SourceFacts, says: str) -> None:
    with pytest.raises(SlotLost, match=says) as caught:
        plan(source)
    assert caught.value.advice
    assert caught.value.where["slot"] == "s"


def test_a_promoted_standby_on_a_newer_timeline_continues() -> None:
    assert plan(replace(SOURCE, timeline=2)).mode is StartMode.RESUME


@pytest.mark.must_not_fail(18)
@pytest.mark.parametrize(("lane", "checkpoint"), [(101, 90), (90, 101)])
def test_a_server_that_lost_wal_we_have_read_is_not_streamed_from(lane: int, checkpoint: int) -> None:
    known = replace(KNOWN, position=Position(Lsn(checkpoint)), lanes={})
    promoted = replace(SOURCE, timeline=2, confirmed=Lsn(80), written=Lsn(100))
    with pytest.raises(SlotLost, match="lost WAL") as caught:
        plan(promoted, known, Position(Lsn(lane)))
    assert "--resnapshot" in caught.value.advice
    assert plan(replace(promoted, written=Lsn(101)), known, Position(Lsn(lane))).mode is StartMode.RESUME


@pytest.mark.must_not_fail(18)
def test_a_server_that_lost_the_commit_of_a_transaction_we_have_begun_is_not_streamed_from() -> None:
    inside = Position(Lsn(100), 7)
    promoted = replace(SOURCE, timeline=2, confirmed=Lsn(80), written=Lsn(100))
    with pytest.raises(SlotLost, match="lost WAL"):
        plan(promoted, KNOWN, inside)
    assert plan(replace(promoted, written=Lsn(108)), KNOWN, inside).mode is StartMode.RESUME


@pytest.mark.must_not_fail(18)
def test_a_failover_to_a_server_without_the_slot_is_called_so() -> None:
    with pytest.raises(SlotLost, match="failed over") as caught:
        plan(replace(SOURCE, timeline=2, confirmed=None))
    assert "--resnapshot" in caught.value.advice
    assert "sync_replication_slots" in caught.value.advice


_ANCESTRY = ((1, Lsn(100)), (2, Lsn(200)))
"""Of a server on timeline 3."""


@pytest.mark.must_not_fail(18)
@pytest.mark.parametrize(
    ("timeline", "begin", "ancestry", "shared"),
    [
        (1, 0, _ANCESTRY, 100),
        (2, 100, _ANCESTRY, 200),
        (2, 0, _ANCESTRY, 200),  # where it began was not stored
        (3, 200, _ANCESTRY, 300),
        (2, 90, _ANCESTRY, 90),  # another standby was promoted to this number
        (3, 250, _ANCESTRY, 200),
        (2, 100, ((1, Lsn(150)),), 0),  # from 1 to 3: what we read has never been part of it
        (1, 0, (), 300),  # the server does not keep the record
        (None, 0, _ANCESTRY, 300),
        (4, 200, _ANCESTRY, 300),  # an older server: refused for its timeline alone
    ],
)
def test_how_far_the_history_we_read_is_the_servers(
    timeline: int | None, begin: int, ancestry: tuple[tuple[int, Lsn], ...], shared: int
) -> None:
    known = replace(KNOWN, timeline=timeline, timeline_begin=Lsn(begin))
    assert shared_history(known, ancestry, timeline=3, written=Lsn(300)) == shared


def test_an_existing_slot_of_a_new_flow_cannot_be_copied_under() -> None:
    with pytest.raises(CheckFailed, match="exists already"):
        plan(SOURCE, NEW, START)


@pytest.mark.must_not_fail(5)
@pytest.mark.parametrize("lane", [START, Position(Lsn(0), 7), Position(Lsn(100))])
def test_a_copy_that_was_cut_off_is_repeated_from_a_new_slot(lane: Position) -> None:
    copying = replace(KNOWN, position=START, snapshot=SnapshotState.COPYING)
    assert plan(SOURCE, copying, lane) == StartPlan(StartMode.COPY, Lsn(0), drop_slot=True)
    assert plan(replace(SOURCE, confirmed=None), copying, lane).drop_slot is False


def test_a_destination_that_went_back_in_time_is_noticed() -> None:
    with pytest.raises(Refused, match="behind"):
        plan(lane=Position(Lsn(89)))


def test_a_lost_control_store_resumes_from_slot_and_destinations() -> None:
    assert plan(SOURCE, NEW, Position(Lsn(95))).mode is StartMode.RESUME
    with pytest.raises(SlotLost):
        plan(replace(SOURCE, confirmed=None), NEW, Position(Lsn(95)))


def test_resnapshot_overrides_every_hard_stop() -> None:
    lost = replace(SOURCE, confirmed=None, system_identifier="8")
    assert plan(lost, resnapshot=True) == StartPlan(StartMode.COPY, Lsn(0), drop_slot=False)
    assert plan(resnapshot=True).drop_slot is True


@pytest.mark.parametrize("lanes", [{LaneId("f", "d", i, 2): START for i in range(2)}, {LaneId("f", "new"): START}])
def test_another_number_of_lanes_or_a_new_destination_is_refused_while_the_flow_has_history(
    lanes: dict[LaneId, Position],
) -> None:
    with pytest.raises(Refused, match=r"lanes|new in a flow"):
        plan_start(slot="s", source=SOURCE, remembered=KNOWN, lanes=lanes, copies_initially=True, resnapshot=False)


def test_a_new_flow_begins_where_it_is_told_if_the_slot_still_holds_it() -> None:
    ahead = replace(SOURCE, written=Lsn(200))

    def start(lsn: int, source: SourceFacts = ahead) -> Lsn:
        return plan(source, NEW, START, copies_initially=False, start_lsn=Lsn(lsn)).start

    assert [start(100), start(150), start(200)] == [Lsn(100), Lsn(150), Lsn(200)]
    with pytest.raises(CheckFailed, match="no longer holds"):
        start(99)
    with pytest.raises(CheckFailed, match="beyond the source's present position"):
        start(201)
    with pytest.raises(CheckFailed, match="no slot that still holds"):
        start(150, replace(ahead, confirmed=None))


@pytest.mark.must_not_fail(2)
def test_a_flow_that_has_a_position_never_begins_elsewhere() -> None:
    assert plan(start_lsn=Lsn(150)).start == Lsn(100)
    assert plan(start_lsn=Lsn(50)).start == Lsn(100)
