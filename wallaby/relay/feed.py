"""The relay's book of one lane: what waits, what was sent, what came back, and when it should commit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from wallaby.lane import LaneReport
from wallaby.lsn import START, Lsn, Position
from wallaby.settings import Limits
from wallaby.status import LaneStatus
from wallaby.window import LaneId, Window


@dataclass(frozen=True, slots=True)
class _Outstanding:
    upto: Position
    committed_at_us: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A window for a lane that has enough to do. ``commit`` is None where the feed decides when it is sent."""

    window: Window
    parcel: Any
    commit: bool | None
    committed_at_us: int


class LaneFeed:
    """Decides nothing about windows, only about commits of its lane.

    A lane has a few calls under way at most; what comes meanwhile waits here, so that a slow lane does not stop the
    others before the budget of bytes is spent. ``handed`` says that a window is the lane's from now on, ``sent`` that
    it is on its way.

    Natural batching: an idle lane commits every window it gets; a busy one is given windows without a commit and
    commits when it falls idle, or at the limits of bytes and age. A lane with a commit interval waits that long.
    """

    def __init__(self, lane: LaneId, *, commit_interval_ms: int, limits: Limits) -> None:
        self.lane = lane
        self._commit_interval_ms = commit_interval_ms
        self._limits = limits
        self._inflight: deque[int] = deque()
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._outstanding: deque[_Outstanding] = deque()
        self._uncommitted_bytes = 0
        self._uncommitted_since_ms: int | None = None
        self._last_commit_ms = -(1 << 40)
        self._is_at_whole = True
        self._handed_upto = START
        self._sent_upto = START
        self._committed_at_us = 0
        self.durable = START
        self._rows = self._bytes = self._commits = 0

    @property
    def inflight_windows(self) -> int:
        return len(self._inflight)

    @property
    def held_bytes(self) -> int:
        """Bytes handed to the lane and not yet written: on their way or waiting."""
        return sum(self._inflight) + self._waiting_bytes

    @property
    def held_windows(self) -> int:
        return len(self._inflight) + len(self._waiting)

    @property
    def may_send(self) -> bool:
        """Another call may be sent to the lane."""
        return len(self._inflight) < self._limits.inflight_windows_max

    @property
    def has_uncommitted(self) -> bool:
        """Windows were sent after the last commit was asked for, or wait to be sent."""
        return self._uncommitted_since_ms is not None or bool(self._waiting)

    @property
    def is_settled(self) -> bool:
        """Everything sent is durable."""
        return not self._inflight and not self.has_uncommitted

    @property
    def is_at_whole(self) -> bool:
        """The last window handed over ended at a commit boundary."""
        return self._is_at_whole

    @property
    def is_left_open(self) -> bool:
        """Nothing is on its way, but the beginning of an unfinished transaction lies with the lane."""
        return not self._inflight and self.has_uncommitted and not self._is_at_whole

    @property
    def handed_upto(self) -> Position:
        """The end of the last window handed over."""
        return self._handed_upto

    def wants_commit_with(self, window: Window, now_ms: int) -> bool:
        """``window``, about to be sent, should carry a commit."""
        if not window.ends_transaction:
            return False
        if self._uncommitted_bytes + window.nbytes >= self._limits.uncommitted_bytes_max:
            return True
        if self._commit_interval_ms:
            return now_ms - self._last_commit_ms >= self._commit_interval_ms
        since = self._uncommitted_since_ms
        return not self._inflight or (since is not None and now_ms - since >= self._limits.uncommitted_age_max_ms)

    def wants_commit_alone(self, now_ms: int) -> bool:
        """The lane fell idle (or its interval passed) with something uncommitted: an empty commit is due."""
        if not self.has_uncommitted or not self._is_at_whole or self._waiting:
            return False
        if self._commit_interval_ms:
            return now_ms - self._last_commit_ms >= self._commit_interval_ms
        return not self._inflight

    def commit_due_in_ms(self, now_ms: int) -> int | None:
        """When ``wants_commit_alone`` may turn true by time alone; None when it cannot."""
        if not self.has_uncommitted or not self._commit_interval_ms or not self._is_at_whole or self._waiting:
            return None
        return max(0, self._commit_interval_ms - (now_ms - self._last_commit_ms))

    def handed(self, item: Waiting) -> None:
        """The window is the lane's; it waits until `next_to_send` gives it out."""
        self._waiting.append(item)
        self._waiting_bytes += item.window.nbytes
        self._handed_upto = max(self._handed_upto, item.window.upto)
        self._is_at_whole = item.window.ends_transaction

    def next_to_send(self) -> Waiting | None:
        """The oldest waiting window, if the lane may take another call. Send it, and say so with ``sent``."""
        if not self._waiting or not self.may_send:
            return None
        item = self._waiting.popleft()
        self._waiting_bytes -= item.window.nbytes
        return item

    def sent(self, window: Window, *, commit: bool, committed_at_us: int, now_ms: int) -> None:
        """Record a call to the lane."""
        self._inflight.append(window.nbytes)
        self._sent_upto = max(self._sent_upto, window.upto)
        self._committed_at_us = committed_at_us or self._committed_at_us
        if commit:
            self._outstanding.append(_Outstanding(self._sent_upto, self._committed_at_us))
            self._uncommitted_bytes = 0
            self._uncommitted_since_ms = None
            self._last_commit_ms = now_ms
        else:
            self._uncommitted_bytes += window.nbytes
            if self._uncommitted_since_ms is None:
                self._uncommitted_since_ms = now_ms

    def delivered(self, report: LaneReport) -> None:
        """Record the oldest call's return."""
        nbytes = self._inflight.popleft()
        self._rows += report.rows
        self._bytes += nbytes
        if report.receipt is not None:
            self._commits += 1
            self.durable = max(self.durable, report.receipt.upto)
            while self._outstanding and self._outstanding[0].upto <= self.durable:
                self._outstanding.popleft()

    def status(self, *, read_upto: Position, server: Lsn, wall_us: int, phase: str) -> LaneStatus:
        """The lane for people; a settled lane stands where reading stands."""
        position = max(read_upto, self.durable) if self.is_settled else self.durable
        behind = max(0, server - position.lsn) if position.lsn else int(server)
        oldest_us = self._outstanding[0].committed_at_us if self._outstanding else self._committed_at_us
        lag_ms = 0 if self.is_settled or not oldest_us else max(0, (wall_us - oldest_us) // 1000)
        return LaneStatus(
            destination=self.lane.destination,
            index=self.lane.index,
            state=phase,
            position=position,
            rows=self._rows,
            bytes=self._bytes,
            commits=self._commits,
            inflight_bytes=self.held_bytes,
            lag_bytes=behind,
            lag_ms=lag_ms,
        )
