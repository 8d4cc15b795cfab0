"""Every call once, as data: which method, what is sent, how the answer is read. The clients only differ in waiting."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from google.protobuf import descriptor_pool, json_format, message_factory

from wallaby.client.values import (
    Checkpoint,
    DdlEvent,
    DeadLetter,
    Flow,
    FlowEvent,
    Snapshot,
    TableSnapshot,
    Validity,
    checkpoint_from,
    ddl_from,
    event_from,
    flow_from,
    letter_from,
    snapshot_from,
    state_from,
    table_snapshot_from,
)
from wallaby.lifecycle import FlowState
from wallaby.v1 import checkpoint_pb2, ddl_pb2, dead_letter_pb2, flow_pb2, snapshot_pb2, types_pb2

if TYPE_CHECKING:
    from wallaby.flow import FlowSpec
    from wallaby.flow.plan import FlowPlan

_Answer = TypeVar("_Answer")
Definition: TypeAlias = "FlowSpec | Mapping[str, Any] | types_pb2.Flow"
"""A flow as it may be given: checked, as a flow file writes it, or as a message."""


@dataclass(frozen=True, slots=True)
class Call(Generic[_Answer]):
    """A call of one method. A stream's answers are read one by one."""

    service: str
    method: str
    request: Any
    answer: Any
    """The message class of the answer."""
    read: Callable[[Any], _Answer]

    @property
    def path(self) -> str:
        return f"/wallaby.v1.{self.service}/{self.method}"


@dataclass(frozen=True, slots=True)
class Page(Generic[_Answer]):
    """A page of a list; the token is empty on the last one."""

    items: tuple[_Answer, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFlow:
    """What would change, and of which stored flow: its state and revision are None and 0 when there is none."""

    plan: FlowPlan
    state: FlowState | None
    revision: int


def message_of(flow: Definition) -> types_pb2.Flow:
    """The message of a definition. `InvalidFlow` for one that is none, or that holds a secret in clear."""
    if isinstance(flow, types_pb2.Flow):
        return flow
    from wallaby.api.conversion import message_from_spec
    from wallaby.flow import FlowSpec
    from wallaby.flow.storable import refuse_literal_secrets

    # Options are the server's to check: it has the destinations' packages.
    spec = flow if isinstance(flow, FlowSpec) else FlowSpec.from_mapping(flow, with_options=False)
    refuse_literal_secrets(spec)
    return message_from_spec(spec)


def create_flow(flow: types_pb2.Flow, *, start: bool) -> Call[Flow]:
    return _flow("CreateFlow", flow_pb2.CreateFlowRequest(flow=flow, start_immediately=start))


def update_flow(flow: types_pb2.Flow, *, expected_revision: int) -> Call[Flow]:
    return _flow("UpdateFlow", flow_pb2.UpdateFlowRequest(flow=flow, expected_revision=expected_revision))


def start_flow(flow_id: str) -> Call[Flow]:
    return _flow("StartFlow", flow_pb2.StartFlowRequest(flow_id=flow_id))


def stop_flow(flow_id: str) -> Call[Flow]:
    return _flow("StopFlow", flow_pb2.StopFlowRequest(flow_id=flow_id))


def pause_flow(flow_id: str) -> Call[Flow]:
    return _flow("PauseFlow", flow_pb2.PauseFlowRequest(flow_id=flow_id))


def resume_flow(flow_id: str) -> Call[Flow]:
    return _flow("ResumeFlow", flow_pb2.ResumeFlowRequest(flow_id=flow_id))


def get_flow(flow_id: str) -> Call[Flow]:
    return _flow("GetFlow", flow_pb2.GetFlowRequest(flow_id=flow_id))


def run_flow_once(flow_id: str) -> Call[bool]:
    request = flow_pb2.RunFlowOnceRequest(flow_id=flow_id)
    return Call("FlowService", "RunFlowOnce", request, flow_pb2.RunFlowOnceResponse, lambda answer: answer.dispatched)


def delete_flow(flow_id: str) -> Call[bool]:
    request = flow_pb2.DeleteFlowRequest(flow_id=flow_id)
    return Call("FlowService", "DeleteFlow", request, flow_pb2.DeleteFlowResponse, lambda answer: answer.deleted)


def list_flows(page_size: int, page_token: str) -> Call[Page[Flow]]:
    request = flow_pb2.ListFlowsRequest(page_size=page_size, page_token=page_token)
    return Call(
        "FlowService",
        "ListFlows",
        request,
        flow_pb2.ListFlowsResponse,
        lambda answer: Page(tuple(map(flow_from, answer.flows)), answer.next_page_token),
    )


def validate_flow(flow: types_pb2.Flow) -> Call[Validity]:
    request = flow_pb2.ValidateFlowRequest(flow=flow)
    return Call("FlowService", "ValidateFlow", request, flow_pb2.ValidateFlowResponse, _validity)


def plan_flow(flow: types_pb2.Flow, *, deleted: Collection[str]) -> Call[PlannedFlow]:
    request = flow_pb2.PlanFlowRequest(flow=flow, deleted_flow_ids=deleted)
    return Call("FlowService", "PlanFlow", request, flow_pb2.PlanFlowResponse, _planned)


def flow_status(flow_id: str) -> Call[dict[str, Any]]:
    request = flow_pb2.GetFlowStatusRequest(flow_id=flow_id)
    return Call("FlowService", "GetFlowStatus", request, flow_pb2.GetFlowStatusResponse, _status)


def watch(flow_id: str, cursor: int, *, snapshots: bool) -> Call[FlowEvent]:
    request = flow_pb2.WatchFlowRequest(flow_id=flow_id, cursor=cursor, snapshots=snapshots)
    return Call("FlowService", "WatchFlow", request, flow_pb2.WatchFlowResponse, event_from)


def get_snapshot(flow_id: str) -> Call[Snapshot]:
    request = snapshot_pb2.GetSnapshotRequest(flow_id=flow_id, page_size=1)
    answer = snapshot_pb2.GetSnapshotResponse
    return Call("SnapshotService", "GetSnapshot", request, answer, lambda message: snapshot_from(message.snapshot))


def list_table_snapshots(flow_id: str, page_token: str) -> Call[Page[TableSnapshot]]:
    return Call(
        "SnapshotService",
        "GetSnapshot",
        snapshot_pb2.GetSnapshotRequest(flow_id=flow_id, page_token=page_token),
        snapshot_pb2.GetSnapshotResponse,
        lambda answer: Page(tuple(map(table_snapshot_from, answer.tables)), answer.next_page_token),
    )


def list_snapshots(page_size: int, page_token: str) -> Call[Page[Snapshot]]:
    return Call(
        "SnapshotService",
        "ListSnapshots",
        snapshot_pb2.ListSnapshotsRequest(page_size=page_size, page_token=page_token),
        snapshot_pb2.ListSnapshotsResponse,
        lambda answer: Page(tuple(map(snapshot_from, answer.snapshots)), answer.next_page_token),
    )


def restart_snapshot(flow_id: str) -> Call[Flow]:
    request = snapshot_pb2.RestartSnapshotRequest(flow_id=flow_id)
    answer = snapshot_pb2.RestartSnapshotResponse
    return Call("SnapshotService", "RestartSnapshot", request, answer, lambda message: flow_from(message.flow))


def cancel_snapshot(flow_id: str) -> Call[Flow]:
    request = snapshot_pb2.CancelSnapshotRequest(flow_id=flow_id)
    answer = snapshot_pb2.CancelSnapshotResponse
    return Call("SnapshotService", "CancelSnapshot", request, answer, lambda message: flow_from(message.flow))


def get_checkpoint(flow_id: str) -> Call[Checkpoint]:
    request = checkpoint_pb2.GetCheckpointRequest(flow_id=flow_id)
    return Call("CheckpointService", "GetCheckpoint", request, checkpoint_pb2.FlowCheckpoint, checkpoint_from)


def list_checkpoints() -> Call[tuple[Checkpoint, ...]]:
    return Call(
        "CheckpointService",
        "ListCheckpoints",
        checkpoint_pb2.ListCheckpointsRequest(),
        checkpoint_pb2.ListCheckpointsResponse,
        lambda answer: tuple(map(checkpoint_from, answer.checkpoints)),
    )


def put_checkpoint(flow_id: str, lsn: str, *, force: bool) -> Call[Checkpoint]:
    request = checkpoint_pb2.PutCheckpointRequest(
        flow_id=flow_id, checkpoint=types_pb2.Checkpoint(lsn=lsn), force=force
    )
    return Call("CheckpointService", "PutCheckpoint", request, checkpoint_pb2.FlowCheckpoint, checkpoint_from)


def list_ddl(status: str, flow_id: str, page_token: str) -> Call[Page[DdlEvent]]:
    def read(answer: Any) -> Page[DdlEvent]:
        return Page(tuple(map(ddl_from, answer.events)), answer.next_page_token)

    if status == "pending":  # as the Go tool asks
        pending = ddl_pb2.ListPendingDDLRequest(flow_id=flow_id, page_token=page_token)
        return Call("DDLService", "ListPendingDDL", pending, ddl_pb2.ListPendingDDLResponse, read)
    request = ddl_pb2.ListDDLRequest(status=status, flow_id=flow_id, page_token=page_token)
    return Call("DDLService", "ListDDL", request, ddl_pb2.ListDDLResponse, read)


def approve_ddl(event_id: int) -> Call[DdlEvent]:
    return _decided("ApproveDDL", ddl_pb2.ApproveDDLRequest(id=event_id), ddl_pb2.ApproveDDLResponse)


def reject_ddl(event_id: int) -> Call[DdlEvent]:
    return _decided("RejectDDL", ddl_pb2.RejectDDLRequest(id=event_id), ddl_pb2.RejectDDLResponse)


def mark_ddl_applied(event_id: int) -> Call[DdlEvent]:
    return _decided("MarkDDLApplied", ddl_pb2.MarkDDLAppliedRequest(id=event_id), ddl_pb2.MarkDDLAppliedResponse)


def list_dead_letters(
    flow_id: str, destination: str, table: str, state: str, page_token: str
) -> Call[Page[DeadLetter]]:
    request = dead_letter_pb2.ListDeadLettersRequest(
        flow_id=flow_id, destination=destination, table=table, state=state, page_token=page_token
    )
    return Call(
        "DeadLetterService",
        "ListDeadLetters",
        request,
        dead_letter_pb2.ListDeadLettersResponse,
        lambda answer: Page(tuple(map(letter_from, answer.letters)), answer.next_page_token),
    )


def get_dead_letter(letter_id: int) -> Call[DeadLetter]:
    request = dead_letter_pb2.GetDeadLetterRequest(id=letter_id)
    answer = dead_letter_pb2.GetDeadLetterResponse
    return Call("DeadLetterService", "GetDeadLetter", request, answer, lambda message: letter_from(message.letter))


def dead_letter_payload(letter_id: int) -> Call[bytes]:
    request = dead_letter_pb2.GetDeadLetterPayloadRequest(id=letter_id)
    answer = dead_letter_pb2.GetDeadLetterPayloadResponse
    return Call("DeadLetterService", "GetDeadLetterPayload", request, answer, lambda message: message.arrow)


def replay_dead_letters(
    ids: Collection[int], flow_id: str, destination: str, table: str
) -> Call[tuple[DeadLetter, ...]]:
    request = dead_letter_pb2.ReplayDeadLettersRequest(selection=_selection(ids, flow_id, destination, table))
    return _letters("ReplayDeadLetters", request, dead_letter_pb2.ReplayDeadLettersResponse)


def discard_dead_letters(
    ids: Collection[int], flow_id: str, destination: str, table: str
) -> Call[tuple[DeadLetter, ...]]:
    request = dead_letter_pb2.DiscardDeadLettersRequest(selection=_selection(ids, flow_id, destination, table))
    return _letters("DiscardDeadLetters", request, dead_letter_pb2.DiscardDeadLettersResponse)


def raw(service: str, method: str, request: Any) -> Call[Any]:
    """A call of any method whose module of `wallaby.v1` is loaded; its answer as the message it is."""
    found = descriptor_pool.Default().FindServiceByName(f"wallaby.v1.{service}").methods_by_name[method]
    answer = message_factory.GetMessageClass(found.output_type)
    return Call(service, method, request, answer, lambda message: message)


def _flow(method: str, request: Any) -> Call[Flow]:
    return Call("FlowService", method, request, types_pb2.Flow, flow_from)


def _decided(method: str, request: Any, answer: Any) -> Call[DdlEvent]:
    return Call("DDLService", method, request, answer, lambda message: ddl_from(message.event))


def _letters(method: str, request: Any, answer: Any) -> Call[tuple[DeadLetter, ...]]:
    return Call("DeadLetterService", method, request, answer, lambda message: tuple(map(letter_from, message.letters)))


def _selection(ids: Collection[int], flow_id: str, destination: str, table: str) -> Any:
    return dead_letter_pb2.DeadLetterSelection(ids=ids, flow_id=flow_id, destination=destination, table=table)


def _validity(answer: Any) -> Validity:
    return Validity(
        valid=answer.valid,
        problems=tuple({name: getattr(p, name) for name in ("field", "message", "advice")} for p in answer.problems),
        findings=tuple(
            {name: getattr(f, name) for name in ("severity", "subject", "message", "advice", "code")}
            for f in answer.findings
        ),
        guarantees=dict(answer.guarantees),
    )


def _planned(answer: Any) -> PlannedFlow:
    from wallaby.flow.plan import FieldChange, FlowPlan, PlannedAction

    changes = tuple(
        FieldChange(
            path=change.field,
            before=json.loads(change.before) if change.HasField("before") else None,
            after=json.loads(change.after) if change.HasField("after") else None,
            destructive=change.destructive,
        )
        for change in answer.changes
    )
    action = flow_pb2.PlannedAction.Name(answer.action).removeprefix("PLANNED_ACTION_").lower()
    return PlannedFlow(
        plan=FlowPlan(flow=answer.flow_id, action=PlannedAction(action), changes=changes),
        state=state_from(answer.state),
        revision=answer.revision,
    )


def _status(answer: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json_format.MessageToJson(answer.status), parse_float=_whole)
    return value


def _whole(text: str) -> int | float:
    # A Struct holds every number as a double.
    number = float(text)
    return int(number) if number.is_integer() else number
