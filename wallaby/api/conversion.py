"""Between `wallaby.v1` messages and our own values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import timestamp_pb2

from wallaby import secret
from wallaby.errors import ConfigError
from wallaby.flow import DeadLetters, EndpointSpec, FlowSpec, InvalidFlow, Problem
from wallaby.flow.plan import FlowPlan
from wallaby.lifecycle import FlowState
from wallaby.lsn import Lsn, Position
from wallaby.status import FlowStatus
from wallaby.v1 import checkpoint_pb2, ddl_pb2, dead_letter_pb2, flow_pb2, snapshot_pb2, types_pb2

if TYPE_CHECKING:
    # Clients convert flows, too, and need no store for it.
    from wallaby.snapshot.progress import CopyState, TableCopy
    from wallaby.store import Checkpoint, DdlEvent, FlowRecord, LetterRecord, Snapshot, StateEvent

_ENDPOINT: Final = "ENDPOINT_TYPE_"
_UNSPECIFIED: Final = "unspecified"


def spec_from_message(message: types_pb2.Flow, *, with_options: bool = True) -> FlowSpec:
    """The flow a client sent; `InvalidFlow` lists everything wrong with it."""
    mapping, problems = mapping_from_message(message)
    try:
        spec = FlowSpec.from_mapping(mapping, with_options=with_options)
    except InvalidFlow as error:
        raise InvalidFlow((*problems, *error.problems)) from None
    if problems:
        raise InvalidFlow(problems)
    return spec


def mapping_from_message(message: types_pb2.Flow) -> tuple[dict[str, Any], list[Problem]]:
    """The flow as a flow file would write it. What a newer client may have sent as unknown numbers are problems."""
    problems: list[Problem] = []

    def word(owner: Any, name: str, path: str) -> str:
        number = getattr(owner, name)
        value = owner.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(number)
        if value is None:
            problems.append(Problem(path, f"has the unknown number {number}"))
            return ""
        text = value.name.removeprefix(_prefix(value.type)).lower()
        return "" if text == _UNSPECIFIED else text

    def endpoint(value: types_pb2.Endpoint, path: str) -> dict[str, Any]:
        return {
            "name": value.name,
            "type": value.type_name or word(value, "type", f"{path}.type"),
            "options": dict(value.options),
        }

    mapping: dict[str, Any] = {
        "id": message.id,
        "name": message.name,
        "destinations": [endpoint(item, f"destinations[{i}]") for i, item in enumerate(message.destinations)],
        "wire_format": word(message, "wire_format", "wire_format"),
        "parallelism": message.parallelism or 1,
    }
    if message.HasField("source"):
        mapping["source"] = endpoint(message.source, "source")
    if message.HasField("config"):
        config = message.config
        mapping["config"] = {
            "ack_policy": word(config, "ack_policy", "config.ack_policy"),
            "primary_destination": config.primary_destination,
            "failure_mode": word(config, "failure_mode", "config.failure_mode"),
            "give_up_policy": word(config, "give_up_policy", "config.give_up_policy"),
            "ddl": {
                name: getattr(config.ddl, name)
                for name in ("gate", "auto_approve", "auto_apply")
                if config.ddl.HasField(name)
            },
            "dead_letters": {
                "policy": word(config.dead_letters, "policy", "config.dead_letters.policy"),
                "payload": word(config.dead_letters, "payload", "config.dead_letters.payload"),
                **({"attempts": config.dead_letters.attempts} if config.dead_letters.attempts else {}),
            },
        }
    return mapping, problems


def message_from_record(record: FlowRecord) -> types_pb2.Flow:
    """A stored flow for a client; secrets are hidden even though none should be stored."""
    return show_record(message_from_spec(record.spec), record)


def show_record(message: types_pb2.Flow, record: FlowRecord) -> types_pb2.Flow:
    """``message`` of the record's definition, with its state."""
    message.state = state_number(record.state)
    message.revision = record.revision
    message.reason = record.reason
    return message


def message_from_status(status: FlowStatus) -> types_pb2.FlowRun:
    """How the run of a flow goes."""
    return types_pb2.FlowRun(
        phase=status.phase,
        epoch=status.epoch,
        restarts=status.restarts,
        error=status.error,
        retry_at=timestamp_of(status.retry_at),
    )


def message_from_spec(spec: FlowSpec) -> types_pb2.Flow:
    """A definition as a message; secrets in clear are hidden."""
    config = spec.config
    ddl = {name: value for name, value in config.ddl.model_dump().items() if value is not None}
    return types_pb2.Flow(
        id=spec.id,
        name=spec.name,
        source=_endpoint(spec.source),
        destinations=[_endpoint(destination) for destination in spec.destinations],
        wire_format=types_pb2.WireFormat.Value(f"WIRE_FORMAT_{spec.wire_format or _UNSPECIFIED}".upper()),
        parallelism=spec.parallelism,
        config=types_pb2.FlowConfig(
            ack_policy=types_pb2.AckPolicy.Value(f"ACK_POLICY_{config.ack_policy}".upper()),
            primary_destination=config.primary_destination or "",
            failure_mode=types_pb2.FailureMode.Value(f"FAILURE_MODE_{config.failure_mode}".upper()),
            give_up_policy=types_pb2.GiveUpPolicy.Value(f"GIVE_UP_POLICY_{config.give_up_policy}".upper()),
            ddl=types_pb2.DDLPolicy(**ddl) if ddl else None,
            dead_letters=_dead_letters(config.dead_letters),
        ),
    )


def state_number(state: FlowState) -> types_pb2.FlowState:
    return types_pb2.FlowState.Value(f"FLOW_STATE_{state.value}".upper())


def message_from_checkpoint(checkpoint: Checkpoint) -> checkpoint_pb2.FlowCheckpoint:
    """LSN as PostgreSQL prints it; exact positions, per lane as well, in the metadata."""
    lanes = {f"lane.{lane}": str(position) for lane, position in checkpoint.lanes.items()}
    return checkpoint_pb2.FlowCheckpoint(
        flow_id=checkpoint.flow_id,
        checkpoint=types_pb2.Checkpoint(
            lsn=str(checkpoint.position.lsn),
            timestamp_unix_millis=int(checkpoint.updated_at.timestamp() * 1000),
            metadata={"position": str(checkpoint.position), "epoch": str(checkpoint.epoch), **lanes},
        ),
    )


def position_from_message(message: types_pb2.Checkpoint) -> Position:
    """The position a client sent: the LSN, or what it got from us. `ConfigError` with the path of what is wrong."""
    for name in message.metadata:
        if name not in ("position", "epoch") and not name.startswith("lane."):
            raise ConfigError("is not a known key", field="checkpoint.metadata")
    try:
        lsn = Lsn.parse(message.lsn)
    except ValueError:
        raise ConfigError("is not an LSN such as 16/B374D848", field="checkpoint.lsn") from None
    if lsn == 0:
        raise ConfigError(
            "is no position", field="checkpoint.lsn", advice="To begin anew run the flow once with --resnapshot"
        )
    try:
        position = Position.parse(message.metadata.get("position", "") or str(Position(lsn)))
    except ValueError:
        raise ConfigError("is not a position", field="checkpoint.metadata.position") from None
    if position.lsn != lsn:
        raise ConfigError("is not the position of checkpoint.lsn", field="checkpoint.metadata.position")
    return position


def message_from_event(cursor: int, event: StateEvent | FlowRecord | Snapshot) -> flow_pb2.WatchFlowResponse:
    """An event, for a record the flow's present state, or how far its copy is."""
    from wallaby.store import FlowRecord, Snapshot

    if isinstance(event, Snapshot):
        return flow_pb2.WatchFlowResponse(
            cursor=cursor,
            flow_id=event.flow_id,
            at=timestamp_of(event.updated_at),
            snapshot=message_from_snapshot(event),
        )
    if isinstance(event, FlowRecord):
        return flow_pb2.WatchFlowResponse(
            cursor=cursor,
            flow_id=event.id,
            after=state_number(event.state),
            reason=event.reason,
            at=timestamp_of(event.updated_at),
        )
    return flow_pb2.WatchFlowResponse(
        cursor=cursor,
        flow_id=event.flow_id,
        command=event.command.value if event.command else "create",
        before=state_number(event.before) if event.before else types_pb2.FLOW_STATE_UNSPECIFIED,
        after=state_number(event.after),
        reason=event.reason,
        at=timestamp_of(event.at),
    )


def message_from_plan(plan: FlowPlan, present: FlowRecord | None) -> flow_pb2.PlanFlowResponse:
    """A plan with the state and revision it was made for."""
    return flow_pb2.PlanFlowResponse(
        flow_id=plan.flow,
        action=flow_pb2.PlannedAction.Value(f"PLANNED_ACTION_{plan.action}".upper()),
        changes=[
            flow_pb2.PlannedChange(
                field=change.path,
                before=None if change.before is None else json.dumps(change.before),
                after=None if change.after is None else json.dumps(change.after),
                destructive=change.destructive,
            )
            for change in plan.changes
        ],
        state=state_number(present.state) if present else types_pb2.FLOW_STATE_UNSPECIFIED,
        revision=present.revision if present else 0,
    )


def message_from_ddl(event: DdlEvent) -> ddl_pb2.DDLEvent:
    """A captured schema change."""
    return ddl_pb2.DDLEvent(
        id=event.id,
        ddl=event.ddl,
        lsn=str(event.position.lsn),
        status=event.status.value,
        plan_json=event.plan_json,
        created_at=timestamp_of(event.created_at),
        flow_id=event.flow_id,
        decided_at=timestamp_of(event.decided_at),
    )


def message_from_letter(letter: LetterRecord) -> dead_letter_pb2.DeadLetter:
    """A dead letter without its rows."""
    return dead_letter_pb2.DeadLetter(
        id=letter.id,
        flow_id=letter.flow_id,
        destination=letter.destination,
        lane=letter.lane,
        table_schema=letter.table.schema,
        table_name=letter.table.name,
        lsn=str(letter.position.lsn),
        position=str(letter.position),
        rows=letter.rows,
        operation=letter.op,
        scope="table" if letter.keys is None else "key",
        error=letter.error,
        message=letter.message,
        attempts=letter.attempts,
        state=letter.state.value,
        has_payload=letter.is_kept,
        payload_bytes=letter.sealed_bytes,
        created_at=timestamp_of(letter.created_at),
        decided_at=timestamp_of(letter.decided_at),
    )


def _dead_letters(rules: DeadLetters) -> types_pb2.DeadLetterRules | None:
    """None for the defaults: clients of the Go contract know no such field."""
    if rules == DeadLetters():
        return None
    return types_pb2.DeadLetterRules(
        policy=types_pb2.DeadLetterPolicy.Value(f"DEAD_LETTER_POLICY_{rules.policy}".upper()),
        attempts=rules.attempts,
        payload=types_pb2.DeadLetterPayload.Value(f"DEAD_LETTER_PAYLOAD_{rules.payload}".upper()),
    )


def timestamp_of(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """None, which is an absent field, for a moment there was not."""
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def message_from_snapshot(snapshot: Snapshot) -> snapshot_pb2.Snapshot:
    """The copy of a flow."""
    return snapshot_pb2.Snapshot(
        flow_id=snapshot.flow_id,
        state=_copy_state(snapshot.state),
        wanted=snapshot.is_wanted,
        epoch=snapshot.epoch,
        snapshot_lsn="" if snapshot.snapshot_lsn is None else str(snapshot.snapshot_lsn),
        tables=snapshot.tables,
        tables_done=snapshot.tables_done,
        expected_rows=snapshot.expected_rows,
        copied_rows=snapshot.rows,
        copied_bytes=snapshot.bytes,
        started_at=timestamp_of(snapshot.started_at),
        updated_at=timestamp_of(snapshot.updated_at),
        finished_at=timestamp_of(snapshot.finished_at),
    )


def message_from_table_copy(copy: TableCopy) -> snapshot_pb2.TableSnapshot:
    """The copy of a table."""
    return snapshot_pb2.TableSnapshot(
        schema=copy.table.schema,
        name=copy.table.name,
        state=_copy_state(copy.state),
        epoch=copy.epoch,
        snapshot_lsn=str(copy.snapshot_lsn),
        estimated_rows=copy.estimated_rows,
        estimated_bytes=copy.estimated_bytes,
        copied_rows=copy.rows,
        copied_bytes=copy.bytes,
        started_at=timestamp_of(copy.started_at),
        updated_at=timestamp_of(copy.updated_at),
        finished_at=timestamp_of(copy.finished_at),
    )


def _copy_state(state: CopyState) -> snapshot_pb2.SnapshotState:
    return snapshot_pb2.SnapshotState.Value(f"SNAPSHOT_STATE_{state.value}".upper())


def _endpoint(endpoint: EndpointSpec) -> types_pb2.Endpoint:
    options: Mapping[str, Any] = secret.redact(endpoint.options)
    number = types_pb2.EndpointType.DESCRIPTOR.values_by_name.get(f"{_ENDPOINT}{endpoint.type.upper()}")
    return types_pb2.Endpoint(
        name=endpoint.name,
        type=number.number if number else types_pb2.ENDPOINT_TYPE_UNSPECIFIED,
        type_name="" if number else endpoint.type,
        options={name: _text(value) for name, value in options.items() if value is not None},
    )


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ",".join(_text(item) for item in value)
        case _:
            return str(value)


def _prefix(enum: Any) -> str:
    """``FLOW_STATE_`` for ``FlowState``: the name of its zero value without the last word."""
    return str(enum.values_by_number[0].name).removesuffix(_UNSPECIFIED.upper())
