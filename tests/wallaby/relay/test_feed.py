"""When a lane is asked to commit."""

from __future__ import annotations

from dataclasses import replace

from wallaby.lane import LaneReport
from wallaby.lsn import Lsn, Position
from wallaby.relay.feed import LaneFeed, Waiting
from wallaby.settings import Limits
from wallaby.window import LaneId, Receipt, Window

LANE = LaneId("f", "d")
LIMITS = Limits(uncommitted_age_max_ms=100)


def window(after: int, upto: int, *, whole: bool = True) -> Window:
    return Window(Position(Lsn(after)), Position(Lsn(upto)), ends_transaction=whole)


def send(feed: LaneFeed, item: Window, now_ms: int) -> bool:
    commit = feed.wants_commit_with(item, now_ms)
    feed.handed(Waiting(item, item, None, 5_000_000))
    assert feed.next_to_send() is not None
    feed.sent(item, commit=commit, committed_at_us=5_000_000, now_ms=now_ms)
    return commit


def answer(feed: LaneFeed, upto: int | None = None) -> None:
    receipt = None if upto is None else Receipt(LANE, Position(Lsn(upto)), 1)
    feed.delivered(LaneReport(receipt, 1))


def test_an_idle_lane_commits_at_once_and_a_busy_one_when_it_falls_idle() -> None:
    feed = LaneFeed(LANE, commit_interval_ms=0, limits=LIMITS)
    assert send(feed, window(0, 1), 0)
    assert not send(feed, window(1, 2), 1)
    answer(feed, 1)
    assert not feed.wants_commit_alone(2), "a window is still on its way"
    answer(feed)
    assert feed.wants_commit_alone(3)


def test_a_lane_that_never_falls_idle_commits_at_the_age_limit() -> None:
    feed = LaneFeed(LANE, commit_interval_ms=0, limits=LIMITS)
    commits = [send(feed, window(i, i + 1), now_ms) for i, now_ms in enumerate((0, 10, 50, 109, 110, 111))]
    assert commits == [True, False, False, False, True, False]


def test_a_commit_is_never_asked_inside_a_transaction() -> None:
    feed = LaneFeed(LANE, commit_interval_ms=0, limits=LIMITS)
    assert not send(feed, window(0, 1, whole=False), 0)
    answer(feed)
    assert not feed.wants_commit_alone(10_000)
    assert feed.is_left_open
    assert send(feed, window(1, 2), 10_001)


def test_a_commit_interval_is_kept_and_then_the_commit_comes_by_itself() -> None:
    feed = LaneFeed(LANE, commit_interval_ms=1_000, limits=LIMITS)
    assert send(feed, window(0, 1), 5_000)
    assert not send(feed, window(1, 2), 5_400)
    assert feed.commit_due_in_ms(5_400) == 600
    assert not feed.wants_commit_alone(5_999)
    assert feed.wants_commit_alone(6_000)


def test_lag_is_the_age_of_the_oldest_transaction_not_yet_durable() -> None:
    feed = LaneFeed(LANE, commit_interval_ms=0, limits=LIMITS)
    send(feed, window(0, 10), 0)
    status = feed.status(read_upto=Position(Lsn(10)), server=Lsn(25), wall_us=5_250_000, phase="streaming")
    assert (status.lag_ms, status.lag_bytes) == (250, 25)
    answer(feed, 10)
    status = feed.status(read_upto=Position(Lsn(20)), server=Lsn(25), wall_us=5_300_000, phase="streaming")
    assert (status.lag_ms, status.lag_bytes, status.position) == (0, 5, Position(Lsn(20)))


def test_what_a_busy_lane_cannot_take_waits_in_order_and_counts_as_held() -> None:
    feed = LaneFeed(LANE, commit_interval_ms=0, limits=replace(LIMITS, inflight_windows_max=1))
    assert send(feed, window(0, 1), 0)
    for i in (1, 2):
        feed.handed(Waiting(window(i, i + 1), i, None, 0))
    assert feed.next_to_send() is None, "one call at a time"
    assert (feed.held_windows, feed.inflight_windows, feed.handed_upto) == (3, 1, Position(Lsn(3)))
    assert feed.has_uncommitted
    answer(feed, 1)
    assert not feed.wants_commit_alone(1), "a window waits and will carry the commit"
    assert not feed.is_settled
    first = feed.next_to_send()
    assert first is not None
    assert first.parcel == 1
    assert feed.wants_commit_with(first.window, 2)
