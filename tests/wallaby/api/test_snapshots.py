"""SnapshotService over a real server: figures page by page, and a new copy as a wish that any driver finds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from tests.wallaby.api.conftest import RememberingControl
from tests.wallaby.api.test_server import Code, fields, refusal
from wallaby.lifecycle import MOVES, Command, FlowState
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import TableName
from wallaby.snapshot.progress import CopyState, TableCopy
from wallaby.store import Store
from wallaby.testing.store_contract import a_flow
from wallaby.v1 import flow_pb2, snapshot_pb2, snapshot_pb2_grpc, types_pb2

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LSN = Lsn.parse("16/B374D848")
ANSWER_S = 30


@pytest.fixture
def snapshots(channel: grpc.aio.Channel) -> Any:
    return snapshot_pb2_grpc.SnapshotServiceStub(channel)  # type: ignore[no-untyped-call]  # generated


def tables(count: int) -> list[TableCopy]:
    return [
        TableCopy(table=TableName("Shop", f"t{i}"), number=i, epoch=1, snapshot_lsn=LSN, estimated_rows=100)
        for i in range(count)
    ]


def begun(store: Store, copies: Sequence[TableCopy], flow_id: str = "shop") -> None:
    """A flow in its first run, which copies."""
    store.create_flow(a_flow(flow_id), state=FlowState.RUNNING)
    store.begin_epoch(flow_id)
    store.begin_copy(flow_id, 1, slot="slot", identity={"system_identifier": "1"})
    store.note_copy(flow_id, 1, copies)


def finished(store: Store, copies: Sequence[TableCopy], flow_id: str = "shop") -> None:
    done = [replace(one, state=CopyState.COPIED, rows=7, finished_at=NOON + timedelta(seconds=9)) for one in copies]
    store.commit_checkpoint(flow_id, epoch=1, after=START, upto=Position(LSN), lanes={})
    store.finish_copy(flow_id, 1, done)


async def test_a_copy_is_shown_with_its_tables_page_by_page(snapshots: Any, store: Store) -> None:
    first, *rest = tables(5)
    first = replace(
        first,
        state=CopyState.COPYING,
        rows=50,
        bytes=1 << 40,
        estimated_bytes=8192,
        started_at=NOON,
        updated_at=NOON + timedelta(seconds=5),
    )
    begun(store, [first, *rest])
    answer = await snapshots.GetSnapshot(snapshot_pb2.GetSnapshotRequest(flow_id="shop", page_size=2))
    found = answer.snapshot
    assert (found.state, found.wanted, found.epoch, found.snapshot_lsn) == (
        *(snapshot_pb2.SNAPSHOT_STATE_COPYING, False, 1, "16/B374D848"),
    )
    assert (found.tables, found.tables_done, found.expected_rows, found.copied_rows, found.copied_bytes) == (
        *(5, 0, 500, 50, 1 << 40),
    )
    assert found.updated_at.ToDatetime(tzinfo=UTC) - found.started_at.ToDatetime(tzinfo=UTC) == timedelta(seconds=5)
    assert not found.HasField("finished_at")
    seen = list(answer.tables)
    while answer.next_page_token:
        request = snapshot_pb2.GetSnapshotRequest(flow_id="shop", page_size=2, page_token=answer.next_page_token)
        answer = await snapshots.GetSnapshot(request)
        seen += answer.tables
    assert [(one.schema, one.name) for one in seen] == [("Shop", f"t{i}") for i in range(5)]
    assert (seen[0].estimated_rows, seen[0].estimated_bytes, seen[0].copied_rows) == (100, 8192, 50)
    assert not seen[1].HasField("started_at")


async def test_copies_of_flows_are_listed_in_pages(snapshots: Any, store: Store) -> None:
    for flow_id in ("c", "a", "b"):
        begun(store, tables(2), flow_id)
    store.create_flow(a_flow("never"))
    first = await snapshots.ListSnapshots(snapshot_pb2.ListSnapshotsRequest(page_size=2))
    request = snapshot_pb2.ListSnapshotsRequest(page_size=2, page_token=first.next_page_token)
    second = await snapshots.ListSnapshots(request)
    assert [item.flow_id for item in (*first.snapshots, *second.snapshots)] == ["a", "b", "c"]
    assert second.next_page_token == ""


async def test_a_flow_without_a_copy_is_not_found_and_a_missing_id_is_invalid(snapshots: Any, store: Store) -> None:
    store.create_flow(a_flow())
    for flow_id in ("nope", "shop"):
        unknown = await refusal(snapshots.GetSnapshot(snapshot_pb2.GetSnapshotRequest(flow_id=flow_id)))
        assert unknown.code() is Code.NOT_FOUND
    unknown = await refusal(snapshots.RestartSnapshot(snapshot_pb2.RestartSnapshotRequest(flow_id="nope")))
    assert unknown.code() is Code.NOT_FOUND
    for call in (
        snapshots.GetSnapshot(snapshot_pb2.GetSnapshotRequest()),
        snapshots.RestartSnapshot(snapshot_pb2.RestartSnapshotRequest()),
        snapshots.CancelSnapshot(snapshot_pb2.CancelSnapshotRequest()),
    ):
        missing = await refusal(call)
        assert (missing.code(), fields(missing)) == (Code.INVALID_ARGUMENT, ["flow_id"])


@pytest.mark.must_not_fail(3)
@pytest.mark.parametrize("state", list(FlowState))
async def test_a_new_copy_is_wanted_where_the_lifecycle_allows_it_and_the_driver_is_woken(
    snapshots: Any, store: Store, control: RememberingControl, state: FlowState
) -> None:
    store.create_flow(a_flow(), state=state)
    request = snapshot_pb2.RestartSnapshotRequest(flow_id="shop")
    if state not in MOVES[Command.RESNAPSHOT]:
        refused = await refusal(snapshots.RestartSnapshot(request))
        assert refused.code() is Code.FAILED_PRECONDITION
        assert (store.copy_due("shop"), control.told) == (0, [])
        return
    answer = await snapshots.RestartSnapshot(request)
    assert answer.flow.state == types_pb2.FLOW_STATE_RUNNING
    assert (store.copy_due("shop"), control.told) == (1, ["changed shop"])
    event = store.state_events("shop")[0]
    assert (event.command, event.before, event.after) == (Command.RESNAPSHOT, state, FlowState.RUNNING)
    shown = (await snapshots.GetSnapshot(snapshot_pb2.GetSnapshotRequest(flow_id="shop"))).snapshot
    assert (shown.state, shown.wanted) == (snapshot_pb2.SNAPSHOT_STATE_PENDING, True)


async def test_a_new_copy_is_taken_back_before_the_flow_runs_and_refused_while_it_does(
    snapshots: Any, store: Store
) -> None:
    store.create_flow(a_flow())
    await snapshots.RestartSnapshot(snapshot_pb2.RestartSnapshotRequest(flow_id="shop"))
    cancel = snapshot_pb2.CancelSnapshotRequest(flow_id="shop")
    early = await refusal(snapshots.CancelSnapshot(cancel))
    assert early.code() is Code.FAILED_PRECONDITION
    assert "Stop it first" in (early.details() or "")
    store.move_flow("shop", Command.FAIL)
    assert (await snapshots.CancelSnapshot(cancel)).flow.state == types_pb2.FLOW_STATE_FAILED
    assert store.copy_due("shop") == 0
    gone = await refusal(snapshots.GetSnapshot(snapshot_pb2.GetSnapshotRequest(flow_id="shop")))
    assert gone.code() is Code.NOT_FOUND


async def test_a_request_id_asks_once_even_after_that_copy_has_begun(snapshots: Any, store: Store) -> None:
    store.create_flow(a_flow())
    request, once = snapshot_pb2.RestartSnapshotRequest(flow_id="shop"), (("wallaby-request-id", "again-1"),)
    first = await snapshots.RestartSnapshot(request, metadata=once)
    store.begin_epoch("shop")
    store.begin_copy("shop", 1, slot="slot", identity={"system_identifier": "1"})
    assert await snapshots.RestartSnapshot(request, metadata=once) == first
    assert store.copy_due("shop") == 0
    await snapshots.RestartSnapshot(request)
    assert store.copy_due("shop") == 2


async def test_the_status_of_a_flow_tells_how_far_its_copy_is(flows: Any, store: Store) -> None:
    store.create_flow(a_flow("plain"))
    plain = await flows.GetFlowStatus(flow_pb2.GetFlowStatusRequest(flow_id="plain"))
    assert json_format.MessageToDict(plain.status)["snapshot"] is None
    begun(store, tables(2))
    answer = await flows.GetFlowStatus(flow_pb2.GetFlowStatusRequest(flow_id="shop"))
    shown = json_format.MessageToDict(answer.status)["snapshot"]
    assert (shown["state"], shown["tables"], shown["expected_rows"], shown["finished_at"]) == ("copying", 2, 200, None)
    assert set(shown) == set(snapshot_pb2.Snapshot.DESCRIPTOR.fields_by_name)


async def test_a_watch_tells_of_the_copy_when_asked_to_and_whenever_it_moved(flows: Any, store: Store) -> None:
    copies = tables(2)
    begun(store, copies)
    call = flows.WatchFlow(flow_pb2.WatchFlowRequest(flow_id="shop", snapshots=True))

    async def following() -> Any:
        return await asyncio.wait_for(call.read(), ANSWER_S)

    present = await following()
    assert (present.HasField("snapshot"), present.after) == (False, types_pb2.FLOW_STATE_RUNNING)
    told = await following()
    assert (told.cursor, told.command, told.snapshot.state, told.snapshot.copied_rows) == (
        *(present.cursor, "", snapshot_pb2.SNAPSHOT_STATE_COPYING, 0),
    )
    store.note_copy("shop", 1, [replace(copies[0], state=CopyState.COPYING, rows=5)])
    assert (await following()).snapshot.copied_rows == 5
    store.create_flow(a_flow("other", dsn="env:OTHER_DSN"))  # moves nothing here
    finished(store, copies)
    assert (await following()).snapshot.state == snapshot_pb2.SNAPSHOT_STATE_CONSISTENT
    store.move_flow("other", Command.START)  # nor does this: nothing is told twice
    store.move_flow("shop", Command.RESNAPSHOT)
    event, wanted = await following(), await following()
    assert event.command == "resnapshot"
    assert wanted.snapshot.wanted
    call.cancel()


async def test_a_watch_of_all_flows_cannot_tell_of_copies(flows: Any) -> None:
    call = flows.WatchFlow(flow_pb2.WatchFlowRequest(snapshots=True))
    refused = await refusal(call.read())
    assert (refused.code(), fields(refused)) == (Code.INVALID_ARGUMENT, ["flow_id"])
