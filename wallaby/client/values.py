"""What the client gives back: plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wallaby.ddl.approval import DdlStatus
from wallaby.lifecycle import FlowState
from wallaby.v1 import types_pb2

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
    )


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
