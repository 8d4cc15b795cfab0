"""What the client gives back: plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wallaby.ddl.approval import DdlStatus
from wallaby.lifecycle import FlowState
from wallaby.schema import TableName
from wallaby.snapshot.progress import CopyState
from wallaby.v1 import snapshot_pb2, types_pb2

if TYPE_CHECKING:
    from wallaby.flow import FlowSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """How the run of a flow goes, as last reported."""

    phase: str
    """starting, snapshot, streaming, draining, backoff or idle."""
    epoch: int
    restarts: int
    """Since its driver started it."""
    error: str
    """Why it last restarted, with advice."""
    retry_at: datetime | None
    """In back-off: when it is tried next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A stored flow."""

    id: str
    name: str
    state: FlowState | None
    """None for a state of a newer server that this client does not know."""
    revision: int
    """Grows by one with every change of the definition."""
    reason: str
    """Why it is in its state, or why a run broke off."""
    run: FlowRun | None
    """Of a flow that runs or drains; None when nobody reported of it."""
    message: types_pb2.Flow = field(repr=False)
    """As it came, for what has no name here."""

    @property
    def definition(self) -> dict[str, Any]:
        """As a flow file would write it."""
        from wallaby.api.conversion import mapping_from_message

        return mapping_from_message(self.message)[0]

    @property
    def spec(self) -> FlowSpec:
        """The definition, checked except for its options, which only the server's packages know."""
        from wallaby.api.conversion import spec_from_message

        return spec_from_message(self.message, with_options=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvent:
    """A change of a flow, or with an empty command its present state."""

    cursor: int
    """Watch from here to go on after this event."""
    flow_id: str
    command: str
    before: FlowState | None
    after: FlowState | None
    reason: str
    at: datetime
    snapshot: Snapshot | None = None
    """Given, there was no event: it tells how far the copy is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSnapshot:
    """The copy of one table."""

    schema: str
    name: str
    """As PostgreSQL stores them, without quotes."""
    state: CopyState | None
    """None for a state of a newer server that this client does not know."""
    epoch: int
    snapshot_lsn: str
    estimated_rows: int
    """What the planner believes; 0 when it has no idea."""
    estimated_bytes: int
    """On the source's disk."""
    copied_rows: int
    copied_bytes: int
    """As Arrow."""
    started_at: datetime | None
    updated_at: datetime | None
    finished_at: datetime | None

    @property
    def expected_rows(self) -> int:
        """What it had once it is done, else what is believed, or what came if that is more."""
        return self.copied_rows if self.finished_at else max(self.copied_rows, self.estimated_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The copy of a flow, summed up over its tables."""

    flow_id: str
    state: CopyState | None
    """None for a state of a newer server that this client does not know."""
    is_wanted: bool
    """A new copy was asked for and has not begun; the figures are those of the present one."""
    epoch: int
    snapshot_lsn: str
    """The rows are those of this place in the stream."""
    tables: int
    tables_done: int
    expected_rows: int
    """Of the tables that are done what they had, of the others what is believed, or what came if that is more."""
    copied_rows: int
    copied_bytes: int
    started_at: datetime | None
    updated_at: datetime | None
    finished_at: datetime | None

    @property
    def share(self) -> float | None:
        """How much is copied, 0 to 1; None while nothing is known. Below 1 before the last table is done."""
        if self.tables and self.tables == self.tables_done:
            return 1.0
        return min(self.copied_rows / self.expected_rows, 0.99) if self.expected_rows else None

    @property
    def rows_per_s(self) -> float:
        """On average since it began; 0 before there is one."""
        if self.started_at is None or self.updated_at is None or self.updated_at <= self.started_at:
            return 0.0
        return self.copied_rows / (self.updated_at - self.started_at).total_seconds()

    @property
    def seconds_left(self) -> float | None:
        """Until every row is read, at that pace; None when nobody can tell. 0 once it is done."""
        if self.share == 1.0:
            return 0.0
        if self.state is not CopyState.COPYING or not self.rows_per_s:
            return None
        return (self.expected_rows - self.copied_rows) / self.rows_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is durable in every required destination of a flow."""

    flow_id: str
    lsn: str
    """As PostgreSQL prints it."""
    at: datetime
    metadata: Mapping[str, str]
    """``position``, ``epoch``, and ``lane.<flow>/<destination>/<index>`` per lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DdlEvent:
    """A schema change captured from a flow's source."""

    id: int
    flow_id: str
    status: DdlStatus | str
    """Text for a status of a newer server."""
    lsn: str
    ddl: str
    plan_json: str
    created_at: datetime | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Changes a destination refused, or that follow such a one, set aside."""

    id: int
    flow_id: str
    destination: str
    lane: int
    table: str
    """As ``schema.table``, quoted where it must be."""
    lsn: str
    position: str
    """Commit LSN and ordinal of the first change, in hexadecimal of fixed width."""
    rows: int
    """0 for a TRUNCATE or a new shape."""
    operation: str
    scope: str
    """``key`` or ``table``: what it sets aside."""
    error: str
    """Class of the error; empty when it only follows another letter."""
    message: str
    attempts: int
    state: str
    """``open``, ``replaying``, ``replayed`` or ``discarded``."""
    has_payload: bool
    payload_bytes: int
    created_at: datetime
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """What the server thinks of a definition."""

    valid: bool
    problems: tuple[Mapping[str, str], ...]
    """``field``, ``message``, ``advice`` of each."""
    findings: tuple[Mapping[str, str], ...]
    """``severity``, ``subject``, ``message``, ``advice``, ``code`` of each."""
    guarantees: Mapping[str, str]
    """Delivery guarantee per destination."""


def flow_from(message: types_pb2.Flow) -> Flow:
    """A stored flow from its message."""
    return Flow(
        id=message.id,
        name=message.name,
        state=state_from(message.state),
        revision=message.revision,
        reason=message.reason,
        run=run_from(message.run) if message.HasField("run") else None,
        message=message,
    )


def run_from(message: types_pb2.FlowRun) -> FlowRun:
    """How a run goes, from its message."""
    return FlowRun(
        phase=message.phase,
        epoch=message.epoch,
        restarts=message.restarts,
        error=message.error,
        retry_at=message.retry_at.ToDatetime(UTC) if message.HasField("retry_at") else None,
    )


def state_from(number: int) -> FlowState | None:
    """None for unspecified and unknown numbers."""
    value = types_pb2.FlowState.DESCRIPTOR.values_by_number.get(number)
    return None if value is None or number == 0 else FlowState(value.name.removeprefix("FLOW_STATE_").lower())


def event_from(message: Any) -> FlowEvent:
    """An event of a watch."""
    return FlowEvent(
        cursor=message.cursor,
        flow_id=message.flow_id,
        command=message.command,
        before=state_from(message.before),
        after=state_from(message.after),
        reason=message.reason,
        at=message.at.ToDatetime(tzinfo=UTC),
        snapshot=snapshot_from(message.snapshot) if message.HasField("snapshot") else None,
    )


def snapshot_from(message: Any) -> Snapshot:
    """The copy of a flow."""
    return Snapshot(
        flow_id=message.flow_id,
        state=_copy_state(message.state),
        is_wanted=message.wanted,
        epoch=message.epoch,
        snapshot_lsn=message.snapshot_lsn,
        tables=message.tables,
        tables_done=message.tables_done,
        expected_rows=message.expected_rows,
        copied_rows=message.copied_rows,
        copied_bytes=message.copied_bytes,
        **_moments(message),
    )


def table_snapshot_from(message: Any) -> TableSnapshot:
    """The copy of a table."""
    return TableSnapshot(
        schema=message.schema,
        name=message.name,
        state=_copy_state(message.state),
        epoch=message.epoch,
        snapshot_lsn=message.snapshot_lsn,
        estimated_rows=message.estimated_rows,
        estimated_bytes=message.estimated_bytes,
        copied_rows=message.copied_rows,
        copied_bytes=message.copied_bytes,
        **_moments(message),
    )


def _moments(message: Any) -> dict[str, datetime | None]:
    return {
        name: getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None
        for name in ("started_at", "updated_at", "finished_at")
    }


def _copy_state(number: int) -> CopyState | None:
    value = snapshot_pb2.SnapshotState.DESCRIPTOR.values_by_number.get(number)
    return None if value is None or number == 0 else CopyState(value.name.removeprefix("SNAPSHOT_STATE_").lower())


def checkpoint_from(message: Any) -> Checkpoint:
    """A flow's checkpoint."""
    return Checkpoint(
        flow_id=message.flow_id,
        lsn=message.checkpoint.lsn,
        at=datetime.fromtimestamp(message.checkpoint.timestamp_unix_millis / 1000, UTC),
        metadata=dict(message.checkpoint.metadata),
    )


def ddl_from(message: Any) -> DdlEvent:
    """A captured schema change."""
    return DdlEvent(
        id=message.id,
        flow_id=message.flow_id,
        status=DdlStatus(message.status) if message.status in list(DdlStatus) else message.status,
        lsn=message.lsn,
        ddl=message.ddl,
        plan_json=message.plan_json,
        created_at=message.created_at.ToDatetime(tzinfo=UTC) if message.HasField("created_at") else None,
        decided_at=message.decided_at.ToDatetime(tzinfo=UTC) if message.HasField("decided_at") else None,
    )


def letter_from(message: Any) -> DeadLetter:
    """A dead letter, without its rows."""
    return DeadLetter(
        id=message.id,
        flow_id=message.flow_id,
        destination=message.destination,
        lane=message.lane,
        table=str(TableName(message.table_schema, message.table_name)),
        lsn=message.lsn,
        position=message.position,
        rows=message.rows,
        operation=message.operation,
        scope=message.scope,
        error=message.error,
        message=message.message,
        attempts=message.attempts,
        state=message.state,
        has_payload=message.has_payload,
        payload_bytes=message.payload_bytes,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        decided_at=message.decided_at.ToDatetime(tzinfo=UTC) if message.HasField("decided_at") else None,
    )
