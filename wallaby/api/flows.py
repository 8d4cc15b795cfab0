"""FlowService and CheckpointService: wanted state in, stored and reported state out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf import struct_pb2

from wallaby import secret
from wallaby.api.control import FlowControl
from wallaby.api.conversion import (
    message_from_checkpoint,
    message_from_event,
    message_from_plan,
    message_from_record,
    message_from_status,
    position_from_message,
    spec_from_message,
    state_number,
)
from wallaby.api.definitions import Definitions
from wallaby.api.errors import answers_errors, answers_stream_errors
from wallaby.api.stores import StoreThread
from wallaby.api.watch import ChangeFeed, follow
from wallaby.errors import AlreadyExists, ConfigError, IllegalMove, NotFound
from wallaby.flow import FlowSpec, InvalidFlow
from wallaby.flow.plan import plan_flow
from wallaby.flow.storable import refuse_hidden_secrets, refuse_literal_secrets
from wallaby.lifecycle import Command, FlowState
from wallaby.status import FlowStatus
from wallaby.store import FlowRecord, Store
from wallaby.v1 import (
    checkpoint_pb2,
    checkpoint_pb2_grpc,
    flow_pb2,
    flow_pb2_grpc,
    types_pb2,
)


class FlowServicer(flow_pb2_grpc.FlowServiceServicer):
    """Create, change, move and show flows. Every method may be called again after a lost answer."""

    def __init__(self, store: StoreThread, control: FlowControl, feed: ChangeFeed) -> None:
        self._store = store
        self._control = control
        self._feed = feed
        self._definitions = Definitions()

    @answers_errors
    async def CreateFlow(self, request: flow_pb2.CreateFlowRequest, context: Any) -> types_pb2.Flow:
        def create(store: Store) -> types_pb2.Flow:
            spec = _storable_spec(store, request.flow)
            state = FlowState.RUNNING if request.start_immediately else FlowState.CREATED
            return message_from_record(store.create_flow(spec, state=state, reason="created"))

        flow = await self._store.change(types_pb2.Flow, create)
        await self._tell(flow.id)
        return flow

    @answers_errors
    async def UpdateFlow(self, request: flow_pb2.UpdateFlowRequest, context: Any) -> types_pb2.Flow:
        flow_id = _required(request.flow.id, "id")

        def update(store: Store) -> types_pb2.Flow:
            spec = _storable_spec(store, request.flow)
            record = store.update_flow(flow_id, spec, expected_revision=request.expected_revision or None)
            return message_from_record(record)

        flow = await self._store.change(types_pb2.Flow, update)
        await self._tell(flow_id)
        return flow

    @answers_errors
    async def StartFlow(self, request: flow_pb2.StartFlowRequest, context: Any) -> types_pb2.Flow:
        return await self._move(request.flow_id, Command.START)

    @answers_errors
    async def StopFlow(self, request: flow_pb2.StopFlowRequest, context: Any) -> types_pb2.Flow:
        return await self._move(request.flow_id, Command.STOP)

    @answers_errors
    async def PauseFlow(self, request: flow_pb2.PauseFlowRequest, context: Any) -> types_pb2.Flow:
        return await self._move(request.flow_id, Command.PAUSE)

    @answers_errors
    async def ResumeFlow(self, request: flow_pb2.ResumeFlowRequest, context: Any) -> types_pb2.Flow:
        return await self._move(request.flow_id, Command.RESUME)

    @answers_errors
    async def RunFlowOnce(self, request: flow_pb2.RunFlowOnceRequest, context: Any) -> flow_pb2.RunFlowOnceResponse:
        flow_id = _required(request.flow_id, "flow_id")

        def move(store: Store) -> flow_pb2.RunFlowOnceResponse:
            store.move_flow(flow_id, Command.RUN_ONCE, "run once by the API")
            return flow_pb2.RunFlowOnceResponse(dispatched=True)

        def move_back(store: Store) -> None:
            store.move_flow(flow_id, Command.STOP, "nobody to run it")
            store.move_flow(flow_id, Command.FINISH, "nobody to run it")

        answer = await self._store.change(flow_pb2.RunFlowOnceResponse, move)
        if not await self._control.run_once(flow_id):
            await self._store.undo(move_back)
            raise IllegalMove("there is nobody to run the flow", advice="Start `wallaby up`", flow=flow_id)
        return answer

    @answers_errors
    async def GetFlow(self, request: flow_pb2.GetFlowRequest, context: Any) -> types_pb2.Flow:
        flow_id = _required(request.flow_id, "flow_id")
        return await self._shown(await self._store.look(lambda store: store.get_flow(flow_id)))

    @answers_errors
    async def ListFlows(self, request: flow_pb2.ListFlowsRequest, context: Any) -> flow_pb2.ListFlowsResponse:
        page = await self._store.run(lambda store: store.list_flows(request.page_size, request.page_token))
        flows = [await self._shown(record) for record in page.flows]
        return flow_pb2.ListFlowsResponse(flows=flows, next_page_token=page.next_page_token)

    @answers_errors
    async def DeleteFlow(self, request: flow_pb2.DeleteFlowRequest, context: Any) -> flow_pb2.DeleteFlowResponse:
        flow_id = _required(request.flow_id, "flow_id")

        def delete(store: Store) -> flow_pb2.DeleteFlowResponse:
            store.delete_flow(flow_id)
            return flow_pb2.DeleteFlowResponse(deleted=True)

        answer = await self._store.change(flow_pb2.DeleteFlowResponse, delete)
        await self._tell(flow_id)
        return answer

    @answers_errors
    async def ValidateFlow(self, request: flow_pb2.ValidateFlowRequest, context: Any) -> flow_pb2.ValidateFlowResponse:
        return await self._store.run(lambda _: _validated(request.flow))

    @answers_errors
    async def GetFlowStatus(
        self, request: flow_pb2.GetFlowStatusRequest, context: Any
    ) -> flow_pb2.GetFlowStatusResponse:
        flow_id = _required(request.flow_id, "flow_id")
        record, copy = await self._store.look(lambda store: (store.get_flow(flow_id), _snapshot(store, flow_id)))
        known = await self._control.status(flow_id)
        status = FlowStatus(flow=flow_id, state=record.state, error=_reason(record)) if known is None else known
        answer = flow_pb2.GetFlowStatusResponse(flow_id=flow_id, state=state_number(record.state))
        answer.status.CopyFrom(_struct(replace(status, state=record.state.value).as_json() | {"snapshot": copy}))
        return answer

    @answers_errors
    async def PlanFlow(self, request: flow_pb2.PlanFlowRequest, context: Any) -> flow_pb2.PlanFlowResponse:
        def plan(store: Store) -> flow_pb2.PlanFlowResponse:
            spec = _storable_spec(store, request.flow, leaving=request.deleted_flow_ids)
            try:
                record = store.get_flow(spec.id)
            except NotFound:
                record = None
            return message_from_plan(plan_flow(spec, record.spec if record else None), record)

        return await self._store.run(plan)

    @answers_stream_errors
    async def WatchFlow(
        self, request: flow_pb2.WatchFlowRequest, context: Any
    ) -> AsyncGenerator[flow_pb2.WatchFlowResponse, None]:
        following = follow(self._feed, self._store, request.flow_id, request.cursor, with_snapshots=request.snapshots)
        async with aclosing(following) as events:
            async for cursor, event in events:
                yield message_from_event(cursor, event)

    async def _shown(self, record: FlowRecord) -> types_pb2.Flow:
        """A stored flow, and how its run goes."""
        message = self._definitions.message(record)
        if record.state in (FlowState.RUNNING, FlowState.STOPPING):
            status = await self._control.status(record.id)
            if status is not None:
                message.run.CopyFrom(message_from_status(status))
        return message

    async def _tell(self, flow_id: str) -> None:
        self._feed.nudge()
        await self._control.changed(flow_id)

    async def _move(self, flow_id: str, command: Command) -> types_pb2.Flow:
        _required(flow_id, "flow_id")

        def move(store: Store) -> types_pb2.Flow:
            return message_from_record(store.move_flow(flow_id, command, f"{command} by the API"))

        flow = await self._store.change(types_pb2.Flow, move)
        await self._tell(flow_id)
        return flow


class CheckpointServicer(checkpoint_pb2_grpc.CheckpointServiceServicer):
    """Shows checkpoints. They move with the data; by hand only back, by force."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store

    @answers_errors
    async def GetCheckpoint(
        self, request: checkpoint_pb2.GetCheckpointRequest, context: Any
    ) -> checkpoint_pb2.FlowCheckpoint:
        flow_id = _required(request.flow_id, "flow_id")
        checkpoint = await self._store.run(lambda store: store.get_checkpoint(flow_id))
        if checkpoint is None:
            raise NotFound("the flow has no checkpoint yet", flow=flow_id)
        return message_from_checkpoint(checkpoint)

    @answers_errors
    async def ListCheckpoints(
        self, request: checkpoint_pb2.ListCheckpointsRequest, context: Any
    ) -> checkpoint_pb2.ListCheckpointsResponse:
        checkpoints = await self._store.run(lambda store: store.list_checkpoints())
        return checkpoint_pb2.ListCheckpointsResponse(
            checkpoints=[message_from_checkpoint(checkpoint) for checkpoint in checkpoints]
        )

    @answers_errors
    async def PutCheckpoint(
        self, request: checkpoint_pb2.PutCheckpointRequest, context: Any
    ) -> checkpoint_pb2.FlowCheckpoint:
        flow_id = _required(request.flow_id, "flow_id")
        position = position_from_message(request.checkpoint)

        def put(store: Store) -> checkpoint_pb2.FlowCheckpoint:
            return message_from_checkpoint(store.put_checkpoint(flow_id, position, force=request.force))

        return await self._store.change(checkpoint_pb2.FlowCheckpoint, put)


def _storable_spec(store: Store, message: types_pb2.Flow, *, leaving: Collection[str] = ()) -> FlowSpec:
    """The definition when it may be stored; ``leaving`` are flows that will be gone by then."""
    spec = spec_from_message(message)
    refuse_literal_secrets(spec)
    refuse_hidden_secrets(spec)
    _refuse_shared_slot(store, spec, leaving)
    return spec


def _validated(message: types_pb2.Flow) -> flow_pb2.ValidateFlowResponse:
    try:
        spec = spec_from_message(message)
        refuse_literal_secrets(spec)
        refuse_hidden_secrets(spec)
    except InvalidFlow as error:
        problems = [flow_pb2.FieldProblem(field=p.path, message=p.message, advice=p.advice) for p in error.problems]
        return flow_pb2.ValidateFlowResponse(valid=False, problems=problems)
    return flow_pb2.ValidateFlowResponse(
        valid=True,
        findings=[
            flow_pb2.FlowFinding(
                severity=finding.severity,
                subject=finding.subject,
                message=finding.message,
                advice=finding.advice,
                code=finding.code,
            )
            for finding in spec.findings()
        ],
        guarantees={item.name: spec.capabilities(item.name).guarantee for item in spec.destinations},
    )


def _refuse_shared_slot(store: Store, spec: FlowSpec, leaving: Collection[str] = ()) -> None:
    """Two flows on one slot would take changes from each other."""
    mine = _slot(spec)
    token = ""
    while True:
        page = store.list_flows(0, token)
        for record in page.flows:
            if record.id not in (spec.id, *leaving) and _slot(record.spec) == mine:
                raise AlreadyExists(
                    f"flow {record.id} reads from this slot already",
                    advice="Give source.options.slot a name of its own",
                    slot=mine[1],
                )
        token = page.next_page_token
        if not token:
            return


def _slot(spec: FlowSpec) -> tuple[str, str]:
    try:
        options = spec.source_options()
    except ConfigError:
        return (spec.id, "")
    return (options.dsn, options.slot)


def _required(value: str, field: str) -> str:
    if not value:
        raise ConfigError("is required", field=field)
    return value


def _snapshot(store: Store, flow_id: str) -> dict[str, Any] | None:
    """None when nothing was copied."""
    try:
        return store.get_snapshot(flow_id).as_json()
    except NotFound:
        return None


def _reason(record: Any) -> str:
    return record.reason if record.state is FlowState.FAILED else ""


def _struct(value: dict[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(secret.redact(value))
    return message


def register(server: grpc.aio.Server, store: StoreThread, control: FlowControl, feed: ChangeFeed) -> None:
    """Add both services to a server."""
    flow_pb2_grpc.add_FlowServiceServicer_to_server(FlowServicer(store, control, feed), server)  # type: ignore[no-untyped-call]  # generated
    checkpoint_pb2_grpc.add_CheckpointServiceServicer_to_server(CheckpointServicer(store), server)  # type: ignore[no-untyped-call]  # generated
