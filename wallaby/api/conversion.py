"""Between `wallaby.v1` messages and our own values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import timestamp_pb2

from wallaby import secret
from wallaby.errors import ConfigError
from wallaby.flow import EndpointSpec, FlowSpec, InvalidFlow, Problem
from wallaby.flow.plan import FlowPlan
from wallaby.lifecycle import FlowState
from wallaby.lsn import Lsn, Position
from wallaby.v1 import checkpoint_pb2, ddl_pb2, flow_pb2, types_pb2

if TYPE_CHECKING:
    # Clients convert flows, too, and need no store for it.
    from wallaby.store import Checkpoint, DdlEvent, FlowRecord, StateEvent

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
        }
    return mapping, problems


def message_from_record(record: FlowRecord) -> types_pb2.Flow:
    """A stored flow for a client; secrets are hidden even though none should be stored."""
    message = message_from_spec(record.spec)
    message.state = state_number(record.state)
    message.revision = record.revision
    message.reason = record.reason
    return message


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


def message_from_event(cursor: int, event: StateEvent | FlowRecord) -> flow_pb2.WatchFlowResponse:
    """An event, or for a record the flow's present state."""
    from wallaby.store import FlowRecord

    if isinstance(event, FlowRecord):
        return flow_pb2.WatchFlowResponse(
            cursor=cursor,
            flow_id=event.id,
            after=state_number(event.state),
            reason=event.reason,
            at=_timestamp(event.updated_at),
        )
    return flow_pb2.WatchFlowResponse(
        cursor=cursor,
        flow_id=event.flow_id,
        command=event.command.value if event.command else "create",
        before=state_number(event.before) if event.before else types_pb2.FLOW_STATE_UNSPECIFIED,
        after=state_number(event.after),
        reason=event.reason,
        at=_timestamp(event.at),
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
        created_at=_timestamp(event.created_at),
        flow_id=event.flow_id,
        decided_at=None if event.decided_at is None else _timestamp(event.decided_at),
    )


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


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
