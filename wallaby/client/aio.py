"""The client that is awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import grpc

from wallaby.client import calls
from wallaby.client.calls import Call, Definition, PlannedFlow
from wallaby.client.channel import CALL_SECONDS, OPTIONS, THIS_MACHINE, Address, address_of
from wallaby.client.errors import translate
from wallaby.client.values import (
    Checkpoint,
    DdlEvent,
    DeadLetter,
    Flow,
    FlowEvent,
    Snapshot,
    TableSnapshot,
    Validity,
)
from wallaby.settings import ClientSettings

_Answer = TypeVar("_Answer")


class AsyncClient:
    """Calls of one API over a channel, which is not closed here; `connect` makes one that is.

    ``timeout_s`` bounds every call but `watch`. A request id in the settings goes with every call but `watch`: the same
    change is then made once. One event loop.
    """

    def __init__(self, channel: grpc.aio.Channel, address: Address, *, timeout_s: float = CALL_SECONDS) -> None:
        self._channel = channel
        self._address = address
        self._timeout_s = timeout_s

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, server: str | ClientSettings = THIS_MACHINE, *, timeout_s: float = CALL_SECONDS
    ) -> AsyncIterator[Self]:
        """A client of the API at ``host:port``, or as the settings say. Nothing is sent before the first call.

        TLS is used unless the server is on this machine. `ConfigError` for settings that contradict each other, or name
        a file that cannot be read.
        """
        address = address_of(server)
        if address.credentials is None:
            channel = grpc.aio.insecure_channel(address.endpoint, options=OPTIONS)
        else:
            channel = grpc.aio.secure_channel(address.endpoint, address.credentials, options=OPTIONS)
        async with channel:
            yield cls(channel, address, timeout_s=timeout_s)

    # Flows

    async def create_flow(self, flow: Definition, *, start: bool = False) -> Flow:
        """Store a new flow, and with ``start`` run it. `AlreadyExists` for a known id or a slot another flow reads."""
        return await self._do(calls.create_flow(calls.message_of(flow), start=start))

    async def update_flow(self, flow: Definition, *, expected_revision: int = 0) -> Flow:
        """Replace the definition of a flow that does not run. `Superseded` when the revision is another one."""
        return await self._do(calls.update_flow(calls.message_of(flow), expected_revision=expected_revision))

    async def start_flow(self, flow_id: str) -> Flow:
        """Run it until told otherwise."""
        return await self._do(calls.start_flow(flow_id))

    async def stop_flow(self, flow_id: str) -> Flow:
        """Drain and pause it: the answer is ``stopping``, and ``paused`` follows when everything read is durable."""
        return await self._do(calls.stop_flow(flow_id))

    async def pause_flow(self, flow_id: str) -> Flow:
        """The same as `stop_flow`."""
        return await self._do(calls.pause_flow(flow_id))

    async def resume_flow(self, flow_id: str) -> Flow:
        """Continue a flow that ran before."""
        return await self._do(calls.resume_flow(flow_id))

    async def run_flow_once(self, flow_id: str) -> bool:
        """Run it up to the source's present position."""
        return await self._do(calls.run_flow_once(flow_id))

    async def get_flow(self, flow_id: str) -> Flow:
        """`NotFound` when there is none."""
        return await self._do(calls.get_flow(flow_id))

    async def delete_flow(self, flow_id: str) -> bool:
        """Forget a flow that does not run; slot, publication and targets stay."""
        return await self._do(calls.delete_flow(flow_id))

    async def validate_flow(self, flow: Definition) -> Validity:
        """What is wrong with a definition; stores nothing."""
        return await self._do(calls.validate_flow(calls.message_of(flow)))

    async def plan_flow(self, flow: Definition, *, deleted: Collection[str] = ()) -> PlannedFlow:
        """What creating or updating it would change; stores nothing. ``deleted`` flows are taken for gone."""
        return await self._do(calls.plan_flow(calls.message_of(flow), deleted=deleted))

    async def flow_status(self, flow_id: str) -> dict[str, Any]:
        """Positions, rows and lag; the keys of ``wallaby flow status -json``."""
        return await self._do(calls.flow_status(flow_id))

    async def list_flows(self, *, page_size: int = 0) -> AsyncIterator[Flow]:
        """Every flow in order of ids; ``page_size`` flows are asked for at once, 0: 100."""
        token = ""
        while True:
            page = await self._do(calls.list_flows(page_size, token))
            for flow in page.items:
                yield flow
            token = page.next_page_token
            if not token:
                return

    async def watch(self, flow_id: str = "", *, cursor: int = 0, snapshots: bool = False) -> AsyncIterator[FlowEvent]:
        """Every change of a flow, or of all, for ever: after ``cursor``, or from 0 on the present states first.

        With ``snapshots``, which is for one flow, also how far its copy is whenever that changes.

        `StoreUnavailable` when the connection is lost or the server stops: watch again from the last event's cursor.
        """
        call = calls.watch(flow_id, cursor, snapshots=snapshots)
        stream = self._channel.unary_stream(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )(call.request, metadata=self._address.headers)
        try:
            async for answer in stream:
                yield call.read(answer)
        except grpc.RpcError as error:
            raise translate(error, self._address.endpoint) from None
        finally:
            stream.cancel()

    # Copies

    async def get_snapshot(self, flow_id: str) -> Snapshot:
        """How far the flow's copy is. `NotFound` for a flow that neither copied nor was asked to."""
        return await self._do(calls.get_snapshot(flow_id))

    async def list_snapshots(self, *, page_size: int = 0) -> AsyncIterator[Snapshot]:
        """Of every flow that copied or was asked to, in order of ids; ``page_size`` as `list_flows` has it."""
        token = ""
        while True:
            page = await self._do(calls.list_snapshots(page_size, token))
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def list_table_snapshots(self, flow_id: str) -> AsyncIterator[TableSnapshot]:
        """How far every table of the flow's copy is, in the order of copying. `NotFound` as `get_snapshot`."""
        token = ""
        while True:
            page = await self._do(calls.list_table_snapshots(flow_id, token))
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def restart_snapshot(self, flow_id: str) -> Flow:
        """Want a new copy: a new slot, emptied targets, every table, then the stream. A flow that runs begins again.

        `IllegalMove` while it drains. Sent again before that copy begins it changes nothing.
        """
        return await self._do(calls.restart_snapshot(flow_id))

    async def cancel_snapshot(self, flow_id: str) -> Flow:
        """Take back a new copy that was asked for and has not begun. `IllegalMove` while the flow runs."""
        return await self._do(calls.cancel_snapshot(flow_id))

    # Checkpoints

    async def get_checkpoint(self, flow_id: str) -> Checkpoint:
        """`NotFound` before the first."""
        return await self._do(calls.get_checkpoint(flow_id))

    async def list_checkpoints(self) -> tuple[Checkpoint, ...]:
        """Every flow's checkpoint, in order of ids."""
        return await self._do(calls.list_checkpoints())

    async def put_checkpoint(self, flow_id: str, lsn: str, *, force: bool = False) -> Checkpoint:
        """Set the checkpoint of a flow that does not run; for an admin.

        `IllegalMove` beyond what every destination has. Back only with ``force``: what follows is delivered again.
        """
        return await self._do(calls.put_checkpoint(flow_id, lsn, force=force))

    # Schema changes

    async def list_ddl(self, status: str = "pending", *, flow_id: str = "") -> AsyncIterator[DdlEvent]:
        """Captured schema changes of a status (or ``all``), of one flow or of all, in order of ids."""
        token = ""
        while True:
            page = await self._do(calls.list_ddl(status, flow_id, token))
            for event in page.items:
                yield event
            token = page.next_page_token
            if not token:
                return

    async def approve_ddl(self, event_id: int) -> DdlEvent:
        """It may be applied. `IllegalMove` once it was."""
        return await self._do(calls.approve_ddl(event_id))

    async def reject_ddl(self, event_id: int) -> DdlEvent:
        """It must not be applied. `IllegalMove` once it was."""
        return await self._do(calls.reject_ddl(event_id))

    async def mark_ddl_applied(self, event_id: int) -> DdlEvent:
        """Somebody has applied it. `IllegalMove` before it was approved."""
        return await self._do(calls.mark_ddl_applied(event_id))

    # Dead letters

    async def list_dead_letters(
        self, *, flow_id: str = "", destination: str = "", table: str = "", state: str = "open"
    ) -> AsyncIterator[DeadLetter]:
        """Letters of a state (or ``all``) in order of ids; empty text stands for any."""
        token = ""
        while True:
            page = await self._do(calls.list_dead_letters(flow_id, destination, table, state, token))
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def get_dead_letter(self, letter_id: int) -> DeadLetter:
        """`NotFound` when there is none."""
        return await self._do(calls.get_dead_letter(letter_id))

    async def dead_letter_payload(self, letter_id: int) -> bytes:
        """Its rows as an Arrow IPC stream in the change layout; empty for a TRUNCATE or a new shape.

        For an operator. `IllegalMove` when they are not kept.
        """
        return await self._do(calls.dead_letter_payload(letter_id))

    async def replay_dead_letters(
        self, ids: Collection[int] = (), *, flow_id: str = "", destination: str = "", table: str = ""
    ) -> tuple[DeadLetter, ...]:
        """Ask for letters (by ids, or all open ones of a flow, destination or table) to be applied, in order.

        The flow does it at its next commit, or when it runs again. `IllegalMove` for one whose rows are not kept, and
        for one behind an open letter of its key or table that is not asked for.
        """
        return await self._do(calls.replay_dead_letters(ids, flow_id, destination, table))

    async def discard_dead_letters(
        self, ids: Collection[int] = (), *, flow_id: str = "", destination: str = "", table: str = ""
    ) -> tuple[DeadLetter, ...]:
        """Give letters up: their changes are missing in the destination from then on."""
        return await self._do(calls.discard_dead_letters(ids, flow_id, destination, table))

    # Anything else

    async def call(self, method: str, request: Any, *, service: str = "FlowService", more_seconds: float = 0.0) -> Any:
        """The answer of any method that answers once, as its message; it may take longer by ``more_seconds``."""
        return await self._do(calls.raw(service, method, request), more_seconds=more_seconds)

    async def _do(self, call: Call[_Answer], *, more_seconds: float = 0.0) -> _Answer:
        method = self._channel.unary_unary(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        try:
            answer = await method(
                call.request,
                timeout=self._timeout_s + more_seconds,
                metadata=self._address.metadata(call),
            )
        except grpc.RpcError as error:
            raise translate(error, self._address.endpoint) from None
        return call.read(answer)
