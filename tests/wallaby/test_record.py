"""The compare of the compare-and-set, in every cell of record against token."""

from __future__ import annotations

import pytest

from wallaby.errors import Refused, Superseded
from wallaby.lsn import START, Lsn, Position
from wallaby.record import LaneRecord, must_apply, require_epoch
from wallaby.window import CommitToken, LaneId

LANE = LaneId("flow", "destination")
PLACES = {name: Position(Lsn(lsn), 0) for name, lsn in (("earlier", 10), ("after", 20), ("between", 25), ("upto", 30))}
TOKEN = CommitToken(lane=LANE, epoch=2, after=PLACES["after"], upto=PLACES["upto"], rows=1)


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize(
    ("place", "epoch", "outcome"),
    [
        ("after", 2, True),
        ("upto", 2, False),
        ("between", 2, Superseded),
        ("earlier", 2, Refused),
        ("after", 1, Refused),
        ("upto", 1, Refused),
        ("earlier", 1, Refused),
        ("earlier", 3, Superseded),
        ("after", 3, Superseded),
        ("upto", 3, Superseded),
    ],
)
def test_a_commit_is_applied_only_by_the_epoch_that_owns_the_lane_where_it_left_off(
    place: str, epoch: int, outcome: bool | type[Exception]
) -> None:
    record = LaneRecord(PLACES[place], epoch)
    if isinstance(outcome, bool):
        assert must_apply(record, TOKEN, restored="the file was replaced") is outcome
        return
    with pytest.raises(outcome) as raised:
        must_apply(record, TOKEN, restored="the file was replaced")
    if outcome is Refused:
        assert "the file was replaced" in str(raised.value.advice)


def test_a_destination_without_a_record_went_back_in_time() -> None:
    with pytest.raises(Refused, match="back in time"):
        must_apply(LaneRecord(), TOKEN, restored="the table was dropped")


def test_a_first_commit_begins_at_the_start() -> None:
    first = CommitToken(lane=LANE, epoch=2, after=START, upto=PLACES["upto"], rows=1)
    assert must_apply(LaneRecord(START, 2), first, restored="")


@pytest.mark.parametrize(("epoch", "is_owned"), [(1, True), (2, True), (3, False)])
def test_a_record_of_a_newer_epoch_keeps_older_writers_out(epoch: int, is_owned: bool) -> None:
    if is_owned:
        require_epoch(LaneRecord(START, epoch), LANE, 2)
    else:
        with pytest.raises(Superseded):
            require_epoch(LaneRecord(START, epoch), LANE, 2)
