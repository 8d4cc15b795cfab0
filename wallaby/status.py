"""What a running flow tells about itself: plain values for the terminal view, ``--json``, the API and the dashboard."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from wallaby.care import TableCare
from wallaby.lsn import START, Lsn, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """One lane as the source sees it. Rows and bytes count since this epoch began."""

    destination: str
    index: int = 0
    state: str = "starting"
    """starting | copying | streaming | waiting | stopped | failed"""
    position: Position = START
    """Last position durable in the destination."""
    rows: int = 0
    bytes: int = 0
    commits: int = 0
    inflight_bytes: int = 0
    lag_bytes: int = 0
    """WAL bytes between the source's current write position and what is durable here."""
    lag_ms: int = 0
    """Age of the oldest source transaction not yet durable here; 0 when caught up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """Changes read from the source for one table since this epoch began."""

    table: str
    rows: int = 0
    copied: int = 0
    estimated: int = 0
    """Rows the initial copy expects, from the planner's statistics; 0 when unknown or not copying."""
    copied_bytes: int = 0
    """As Arrow."""
    estimated_bytes: int = 0
    """On the source's disk."""
    copy: str = ""
    """pending | copying | copied; empty when this epoch does not copy the table."""
    filled: int = 0
    """Cells PostgreSQL did not send (unchanged TOAST) that ``toast_fetch`` filled."""
    unfilled: int = 0
    """... and that it could not fill: they stay marked. 0 when it is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedStatus:
    """Transactions the source has read and that have not ended."""

    streamed: int = 0
    """Large ones that still run (``streaming``)."""
    prepared: int = 0
    """Prepared ones that wait for their second phase (``two_phase``): they hold the slot."""
    bytes: int = 0
    """What they take, in memory and on disk."""

    def __str__(self) -> str:
        """For people; empty when there are none."""
        parts = [f"{self.streamed} streamed"] if self.streamed else []
        parts += [f"{self.prepared} prepared, which hold the slot"] if self.prepared else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatus:
    """One flow at a moment."""

    flow: str
    state: str
    """created | running | paused | stopping | stopped | failed"""
    phase: str = "idle"
    """idle | starting | snapshot | streaming | draining | backoff"""
    epoch: int = 0
    restarts: int = 0
    received: Lsn = START.lsn
    confirmed: Lsn = START.lsn
    """What the slot was last told it may forget."""
    server: Lsn = START.lsn
    """The source's WAL end, as last heard."""
    rows: int = 0
    bytes: int = 0
    lanes: tuple[LaneStatus, ...] = ()
    tables: tuple[TableStatus, ...] = field(default=())
    unfinished: UnfinishedStatus = UnfinishedStatus()
    care: tuple[TableCare, ...] = ()
    """What the destinations' tables were like at their last turn of care, and what was done."""
    error: str = ""
    """Why the flow is not running, or why it last restarted; one sentence with advice."""
    retry_at: datetime | None = None
    """In back-off: when it is tried next."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; LSNs as PostgreSQL prints them."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    match value:
        case Lsn():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds")
        case dict():
            if value.keys() == {"lsn", "ordinal"}:
                return str(Position(**value))
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
