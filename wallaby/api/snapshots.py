"""SnapshotService: how far copies are, and wanting a new one."""

from __future__ import annotations

from typing import Any

import grpc

from wallaby.api.control import FlowControl
from wallaby.api.conversion import message_from_record, message_from_snapshot, message_from_table_copy
from wallaby.api.errors import answers_errors
from wallaby.api.stores import StoreThread
from wallaby.api.watch import ChangeFeed
from wallaby.errors import ConfigError
from wallaby.lifecycle import Command
from wallaby.store import Store
from wallaby.v1 import snapshot_pb2, snapshot_pb2_grpc


class SnapshotServicer(snapshot_pb2_grpc.SnapshotServiceServicer):
    """The driver does the copying; here it is only wanted. Every method may be called again after a lost answer."""

    def __init__(self, store: StoreThread, control: FlowControl, feed: ChangeFeed) -> None:
        self._store = store
        self._control = control
        self._feed = feed

    @answers_errors
    async def GetSnapshot(
        self, request: snapshot_pb2.GetSnapshotRequest, context: Any
    ) -> snapshot_pb2.GetSnapshotResponse:
        flow_id = _required(request.flow_id)

        def read(store: Store) -> snapshot_pb2.GetSnapshotResponse:
            found = store.get_snapshot(flow_id)
            page = store.list_table_copies(flow_id, request.page_size, request.page_token)
            return snapshot_pb2.GetSnapshotResponse(
                snapshot=message_from_snapshot(found),
                tables=map(message_from_table_copy, page.tables),
                next_page_token=page.next_page_token,
            )

        return await self._store.run(read)

    @answers_errors
    async def ListSnapshots(
        self, request: snapshot_pb2.ListSnapshotsRequest, context: Any
    ) -> snapshot_pb2.ListSnapshotsResponse:
        page = await self._store.run(lambda store: store.list_snapshots(request.page_size, request.page_token))
        return snapshot_pb2.ListSnapshotsResponse(
            snapshots=map(message_from_snapshot, page.snapshots), next_page_token=page.next_page_token
        )

    @answers_errors
    async def RestartSnapshot(
        self, request: snapshot_pb2.RestartSnapshotRequest, context: Any
    ) -> snapshot_pb2.RestartSnapshotResponse:
        flow_id = _required(request.flow_id)

        def want(store: Store) -> snapshot_pb2.RestartSnapshotResponse:
            record = store.move_flow(flow_id, Command.RESNAPSHOT, f"{Command.RESNAPSHOT} by the API")
            return snapshot_pb2.RestartSnapshotResponse(flow=message_from_record(record))

        answer = await self._store.change(snapshot_pb2.RestartSnapshotResponse, want)
        self._feed.nudge()
        await self._control.changed(flow_id)
        return answer

    @answers_errors
    async def CancelSnapshot(
        self, request: snapshot_pb2.CancelSnapshotRequest, context: Any
    ) -> snapshot_pb2.CancelSnapshotResponse:
        flow_id = _required(request.flow_id)

        def cancel(store: Store) -> snapshot_pb2.CancelSnapshotResponse:
            return snapshot_pb2.CancelSnapshotResponse(flow=message_from_record(store.cancel_copy(flow_id)))

        answer = await self._store.change(snapshot_pb2.CancelSnapshotResponse, cancel)
        self._feed.nudge()
        return answer


def _required(flow_id: str) -> str:
    if not flow_id:
        raise ConfigError("is required", field="flow_id")
    return flow_id


def register(server: grpc.aio.Server, store: StoreThread, control: FlowControl, feed: ChangeFeed) -> None:
    """Add the service to a server."""
    servicer = SnapshotServicer(store, control, feed)
    snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated
