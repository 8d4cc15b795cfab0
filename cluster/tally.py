"""From successive statuses of a flow to what a person wants to see: totals over restarts, rates, units. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from wallaby.lsn import Position
from wallaby.status import FlowStatus, LaneStatus, TableStatus

RATE_SECONDS: Final = 3.0
"""Rates are averages over about this long: steady enough to read, quick enough to follow."""

_STATES: Final = ("failed", "waiting", "starting", "copying", "streaming", "stopped")
"""A destination with several lanes shows the first of these any lane is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationLine:
    """One destination at a moment, over all its lanes."""

    destination: str
    state: str
    rows: int
    """Since this tally began, over all epochs it saw."""
    rows_per_s: float
    lag_bytes: int
    """Of the lane furthest behind, as ``lag_ms`` and ``position``."""
    lag_ms: int
    position: Position
    lanes: int


@dataclass(slots=True)
class _Count:
    """A counter that starts anew with every epoch, and what it was lately."""

    epoch: int = -1
    earlier: int = 0
    present: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def observe(self, epoch: int, value: int, now: float) -> None:
        if epoch != self.epoch or value < self.present:
            self.earlier += self.present
            self.epoch = epoch
        self.present = value
        self.samples.append((now, self.total))
        while len(self.samples) > 2 and now - self.samples[1][0] >= RATE_SECONDS:
            self.samples.popleft()

    @property
    def total(self) -> int:
        return self.earlier + self.present

    @property
    def per_s(self) -> float:
        if len(self.samples) < 2:
            return 0.0
        (then, before), (now, after) = self.samples[0], self.samples[-1]
        return (after - before) / (now - then) if now > then else 0.0


class Tally:
    """Takes statuses of one flow in order, each with the monotonic time (seconds) it was taken at."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, int], _Count] = {}
        self._source = _Count()

    def observe(self, status: FlowStatus, now: float) -> tuple[DestinationLine, ...]:
        """One line per destination, in the order of the status. Times must not go backwards."""
        self._source.observe(status.epoch, status.rows, now)
        for lane in status.lanes:
            count = self._lanes.setdefault((lane.destination, lane.index), _Count())
            count.observe(status.epoch, lane.rows, now)
        names = dict.fromkeys(lane.destination for lane in status.lanes)
        return tuple(self._line([lane for lane in status.lanes if lane.destination == name]) for name in names)

    @property
    def source_rows(self) -> int:
        """Rows read from the source since this tally began."""
        return self._source.total

    @property
    def source_rows_per_s(self) -> float:
        return self._source.per_s

    def _line(self, lanes: list[LaneStatus]) -> DestinationLine:
        counts = [self._lanes[lane.destination, lane.index] for lane in lanes]
        return DestinationLine(
            destination=lanes[0].destination,
            state=min((lane.state for lane in lanes), key=_rank),
            rows=sum(count.total for count in counts),
            rows_per_s=sum(count.per_s for count in counts),
            lag_bytes=max(lane.lag_bytes for lane in lanes),
            lag_ms=max(lane.lag_ms for lane in lanes),
            position=min(lane.position for lane in lanes),
            lanes=len(lanes),
        )


def _rank(state: str) -> int:
    return _STATES.index(state) if state in _STATES else 0


def copied_share(status: FlowStatus) -> float | None:
    """How much of the snapshot is read, 0 to 1, by the estimates; None without any. Below 1 while it goes on.

    A table that is done counts what it had, so that wrong estimates matter less and less.
    """
    expected = sum(expected_rows(table) for table in status.tables)
    if not expected:
        return None
    share = sum(table.copied for table in status.tables) / expected
    return min(share, 0.99) if status.phase == "snapshot" else share


def expected_rows(table: TableStatus) -> int:
    """Rows the copy of a table is about to have; what it had, once it is done."""
    return table.copied if table.copy == "copied" else max(table.copied, table.estimated)


def bytes_text(count: int) -> str:
    """``0 B``, ``1.5 KiB``, ``23 MiB``: at most 8 characters."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 999.5 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 9.95 else f"{size:.1f} {unit}"


def duration_text(milliseconds: int) -> str:
    """``12 ms``, ``3.4 s``, ``5 m 20 s``, ``2 h 05 m``."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def position_text(position: Position) -> str:
    """As PostgreSQL prints LSNs, with the place inside a transaction or the snapshot where there is one."""
    if position.is_snapshot:
        return f"snapshot {position.ordinal:,}"
    return f"{position.lsn}" if position.is_whole else f"{position.lsn} +{position.ordinal:,}"
