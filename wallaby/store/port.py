"""The control store: everything durable that is neither in the slot nor in a destination.

It keeps flow definitions and their wanted state, and per flow one *checkpoint row* with the epoch (the fencing number
of the flow's current run) and the position that every required destination has made durable. The row exists from the
first `begin_epoch` on and is never deleted: epochs must not be given twice, because destinations remember them too.

All methods are synchronous, safe to call from several threads, and atomic. Any of them raises `StoreUnavailable` when
the store cannot be reached; every method can be called again then. `wallaby.testing.store_contract` is the executable
form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from wallaby.ddl.approval import DdlStatus, Decision
from wallaby.flow import FlowSpec
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import Lsn, Position
from wallaby.schema import KnownNames
from wallaby.store.access import AccessStore
from wallaby.store.letters import LetterStore
from wallaby.store.snapshots import SnapshotStore

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000
REASON_CHARACTERS_MAX: Final = 2_000
EVENTS_MAX: Final = 100_000
"""Moves and changes of flows that are kept, over all flows; the oldest are forgotten first."""
DDL_CHARACTERS_MAX: Final = 1 << 20
"""Of one captured statement, and of its plan; a longer one is refused, never cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRecord:
    """A flow as stored. ``revision`` grows by one per change of the definition."""

    id: str
    spec: FlowSpec
    state: FlowState = FlowState.CREATED
    run_once: bool = False
    """Running only up to the WAL position current when the run began."""
    revision: int = 1
    reason: str = ""
    """Why it is in this state; set by the last move."""
    created_at: datetime
    updated_at: datetime
    copies_wanted: int = 0
    """How often a new copy was asked for (`Command.RESNAPSHOT`)."""
    copies_begun: int = 0
    """... and the last of those that has begun, or was cancelled."""

    @property
    def is_copy_wanted(self) -> bool:
        """A copy that was asked for has not begun."""
        return self.copies_wanted > self.copies_begun


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveFlow:
    """A flow somebody should run or drain, without its definition."""

    id: str
    state: FlowState
    """Running or stopping."""
    updated_at: datetime
    copy_due: int = 0
    """As `Store.copy_due`."""
    letter_decision: int = 0
    """As `Store.newest_letter_decision`."""


@dataclass(frozen=True, slots=True)
class FlowPage:
    """Flows in order of their ids; ``next_page_token`` is empty on the last page."""

    flows: tuple[FlowRecord, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateEvent:
    """One move or change of a flow."""

    flow_id: str
    command: Command | None
    """None for the creation."""
    before: FlowState | None
    after: FlowState
    reason: str
    at: datetime
    cursor: int = 0
    """Grows from event to event over all flows, in the order in which they became visible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DdlEvent:
    """A schema change captured from a flow's source."""

    id: int
    flow_id: str
    position: Position
    """Its place in the stream; a flow has one event per position."""
    ddl: str
    plan_json: str = ""
    status: DdlStatus = DdlStatus.PENDING
    created_at: datetime
    decided_at: datetime | None = None
    """When the status last changed; None while nobody has decided."""


@dataclass(frozen=True, slots=True)
class DdlPage:
    """Schema changes in order of their ids; ``next_page_token`` is empty on the last page."""

    events: tuple[DdlEvent, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is durable in every required destination; the source may forget everything before ``position``."""

    flow_id: str
    epoch: int
    position: Position
    lanes: Mapping[str, Position] = field(default_factory=dict)
    """Position per lane, by ``str(LaneId)``, as of the last commit."""
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Epoch:
    """The right to run a flow: older epochs can no longer commit. ``checkpoint`` is None when none was ever made."""

    epoch: int
    checkpoint: Checkpoint | None


class SnapshotStatus(StrEnum):
    """How far the initial copy is."""

    PENDING = "pending"
    """Decided, nothing created yet."""
    COPYING = "copying"
    """The slot exists, its snapshot is being copied; found after a crash, the copy must begin anew."""
    DONE = "done"
    """Every destination has the whole copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotState:
    """The initial copy of a flow."""

    status: SnapshotStatus
    epoch: int
    slot: str = ""
    consistent_point: Lsn | None = None
    """Where the slot, and so the stream, begins."""


class Store(AccessStore, LetterStore, SnapshotStore, Protocol):
    """The control store; see the module for the rules that hold for every method."""

    @property
    def reads_at_once(self) -> bool:
        """Methods that read one thing take microseconds and wait for nobody: an event loop may call them."""
        ...

    def close(self) -> None:
        """Release connections; idempotent. The next call opens them again."""
        ...

    def version(self) -> int:
        """A number that grows with every change of any flow (definition, state, existence, progress of its copy) and
        every decision on a schema change: one cheap read to poll."""
        ...

    def create_flow(self, spec: FlowSpec, *, state: FlowState = FlowState.CREATED, reason: str = "") -> FlowRecord:
        """Store a new flow. `AlreadyExists` for a known id, `InvalidFlow` when it holds a secret in clear."""
        ...

    def get_flow(self, flow_id: str) -> FlowRecord:
        """`NotFound` when there is none."""
        ...

    def list_flows(self, page_size: int = 0, page_token: str = "") -> FlowPage:
        """A page in order of ids. ``page_size`` 0 means 100, at most 1,000; `ConfigError` for a foreign token."""
        ...

    def active_flows(self) -> tuple[ActiveFlow, ...]:
        """Every flow that is running or stopping, in order of ids: one statement however many flows there are."""
        ...

    def update_flow(self, flow_id: str, spec: FlowSpec, *, expected_revision: int | None = None) -> FlowRecord:
        """Replace the definition of a flow that is not running.

        An equal definition changes nothing. `IllegalMove` while it runs, `Superseded` when ``expected_revision`` is
        given and somebody else was faster, `InvalidFlow` when it holds a secret in clear.
        """
        ...

    def delete_flow(self, flow_id: str) -> None:
        """Remove a flow that is not running, with checkpoint, progress of its copy, schema changes and dead letters.

        Its epoch goes up and stays known. `NotFound`.
        """
        ...

    def move_flow(self, flow_id: str, command: Command, reason: str = "") -> FlowRecord:
        """Make a legal move and log it; a move to the present state changes and logs nothing. `IllegalMove`.

        A ``retry`` and a ``recover`` stay in the state: the reason is kept and logged. One that says what the flow's
        newest event says already changes nothing, and so does a ``recover`` that follows no ``retry``.
        """
        ...

    def cancel_copy(self, flow_id: str) -> FlowRecord:
        """Take back a new copy that was asked for and has not begun (`copy_due`); without one nothing changes.

        `IllegalMove` while the flow runs: the run may have been told already. `NotFound`.
        """
        ...

    def state_events(self, flow_id: str, limit: int = 100) -> tuple[StateEvent, ...]:
        """The newest moves first, of the `EVENTS_MAX` that are kept; also after the flow is deleted."""
        ...

    def newest_cursor(self) -> int:
        """The cursor of the newest event of any flow; 0 before the first."""
        ...

    def events_after(self, cursor: int, flow_id: str = "", limit: int = 100) -> tuple[StateEvent, ...]:
        """The events beyond ``cursor``, oldest first, of one flow or of all; none appears before one already seen.

        `ConfigError` when events beyond it may be forgotten already. From cursor 0 on: those that are kept.
        """
        ...

    def record_ddl(self, flow_id: str, *, position: Position, ddl: str, plan_json: str = "") -> DdlEvent:
        """Note a captured schema change, undecided; the event that is stored when its position was noted before.

        `ConfigError` for text PostgreSQL cannot hold and for more than `DDL_CHARACTERS_MAX`.
        """
        ...

    def get_ddl(self, event_id: int) -> DdlEvent:
        """`NotFound` when there is none."""
        ...

    def list_ddl(
        self, *, status: DdlStatus | None = None, flow_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> DdlPage:
        """A page in order of ids. ``page_size`` 0 means the most, 1,000; `ConfigError` for a foreign token."""
        ...

    def decide_ddl(self, event_id: int, decision: Decision) -> DdlEvent:
        """Make a legal decision; one that leads to the present status changes nothing. `NotFound`, `IllegalMove`."""
        ...

    def begin_epoch(self, flow_id: str, *, above: int = 0) -> Epoch:
        """Take the next epoch of a flow (known by `create_flow` or not) and fence all earlier ones.

        ``above``: an epoch some destination knows from a control store that is lost; the new one is higher than both.
        """
        ...

    def commit_checkpoint(
        self, flow_id: str, *, epoch: int, after: Position, upto: Position, lanes: Mapping[str, Position]
    ) -> None:
        """Move the checkpoint from ``after`` to ``upto``; idempotent for a repeat by the same epoch.

        `Fenced` when a newer epoch exists. `Superseded` when the stored position is beyond ``after`` and not ``upto``;
        `Refused` when it, or the stored epoch, is behind: the store was set back.
        """
        ...

    def get_checkpoint(self, flow_id: str) -> Checkpoint | None:
        """The last committed checkpoint; None when there is none."""
        ...

    def list_checkpoints(self) -> tuple[Checkpoint, ...]:
        """All flows' checkpoints in order of ids."""
        ...

    def put_checkpoint(self, flow_id: str, position: Position, *, force: bool = False) -> Checkpoint:
        """Set the checkpoint by hand, of a flow that is not running; the present position changes nothing.

        Beyond what the destinations are known to have it is `Refused`: changes would be lost. Back it goes only with
        ``force`` (`Refused` without), and the known positions of the lanes with it. The epoch goes up. `NotFound`
        without flow or checkpoint, `IllegalMove` while the flow runs.
        """
        ...

    def put_source_identity(self, flow_id: str, identity: Mapping[str, str | int], *, epoch: int | None = None) -> None:
        """Remember which server, timeline and slot the positions belong to. With ``epoch``: `Fenced` when outdated."""
        ...

    def get_source_identity(self, flow_id: str) -> dict[str, str | int] | None:
        """What `put_source_identity` stored last."""
        ...

    def put_source_names(self, flow_id: str, names: Sequence[KnownNames], *, epoch: int | None = None) -> None:
        """Remember how these tables of the source are called, beside others. With ``epoch``: `Fenced` when outdated.

        Names outlive a reset and a new copy: what a rename must not give away stays known until the flow is deleted.
        """
        ...

    def get_source_names(self, flow_id: str) -> tuple[KnownNames, ...]:
        """What `put_source_names` stored last of every table, in order of their oids."""
        ...

    def set_snapshot_state(
        self,
        flow_id: str,
        epoch: int,
        status: SnapshotStatus,
        consistent_point: Lsn | None = None,
        slot: str = "",
    ) -> None:
        """Record how far the initial copy is; `Fenced` when ``epoch`` is outdated."""
        ...

    def begin_copy(self, flow_id: str, epoch: int, *, slot: str, identity: Mapping[str, str | int]) -> None:
        """The initial copy begins (again): forget position, lanes and progress, remember the server, note ``copying``.

        One step, under the same epoch: from here on a restart repeats the copy until ``done`` is noted, and a copy that
        was asked for has begun. `Fenced`.
        """
        ...

    def get_snapshot_state(self, flow_id: str) -> SnapshotState | None:
        """None when no initial copy was ever begun (or it was reset)."""
        ...

    def reset_checkpoint(self, flow_id: str) -> None:
        """Forget position, lanes, identity and snapshot state; the epoch goes up, so that no old run can commit."""
        ...
