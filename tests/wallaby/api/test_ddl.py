"""DDLService over a real store: lists by status and flow, decides along the table, refuses the rest."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.wallaby.api.test_server import Code, fields, refusal
from wallaby.lsn import Lsn, Position
from wallaby.store import Store
from wallaby.v1 import ddl_pb2, ddl_pb2_grpc


@pytest.fixture
def ddl(channel: grpc.aio.Channel) -> Any:
    return ddl_pb2_grpc.DDLServiceStub(channel)  # type: ignore[no-untyped-call]  # generated


def record(store: Store, number: int, flow_id: str = "shop") -> int:
    position = Position(Lsn.parse("16/B374D848") + number)
    return store.record_ddl(flow_id, position=position, ddl=f"ALTER TABLE t ADD c{number} int", plan_json="{}").id


async def test_a_change_is_listed_approved_and_marked_applied(ddl: Any, store: Store) -> None:
    event_id = record(store, 0)
    [pending] = (await ddl.ListPendingDDL(ddl_pb2.ListPendingDDLRequest())).events
    assert (pending.id, pending.ddl, pending.lsn, pending.status, pending.plan_json, pending.flow_id) == (
        *(event_id, "ALTER TABLE t ADD c0 int", "16/B374D848", "pending", "{}", "shop"),
    )
    assert pending.created_at.seconds > 0
    assert not pending.HasField("decided_at")
    approved = (await ddl.ApproveDDL(ddl_pb2.ApproveDDLRequest(id=event_id))).event
    assert approved.status == "approved"
    assert approved.HasField("decided_at")
    assert (await ddl.ApproveDDL(ddl_pb2.ApproveDDLRequest(id=event_id))).event == approved
    assert (await ddl.MarkDDLApplied(ddl_pb2.MarkDDLAppliedRequest(id=event_id))).event.status == "applied"
    assert (await ddl.ListPendingDDL(ddl_pb2.ListPendingDDLRequest())).events == []
    [listed] = (await ddl.ListDDL(ddl_pb2.ListDDLRequest(status="applied", flow_id="shop"))).events
    assert listed.id == event_id


async def test_lists_are_filtered_and_paged(ddl: Any, store: Store) -> None:
    ids = [record(store, number, "shop" if number < 3 else "other") for number in range(5)]
    await ddl.RejectDDL(ddl_pb2.RejectDDLRequest(id=ids[0]))
    first = await ddl.ListDDL(ddl_pb2.ListDDLRequest(status="all", page_size=3))
    second = await ddl.ListDDL(ddl_pb2.ListDDLRequest(page_size=3, page_token=first.next_page_token))
    assert [event.id for event in (*first.events, *second.events)] == ids
    assert second.next_page_token == ""
    shop = await ddl.ListPendingDDL(ddl_pb2.ListPendingDDLRequest(flow_id="shop"))
    assert [event.id for event in shop.events] == ids[1:3]


async def test_illegal_decisions_are_failed_preconditions_and_change_nothing(ddl: Any, store: Store) -> None:
    event_id = record(store, 0)
    early = await refusal(ddl.MarkDDLApplied(ddl_pb2.MarkDDLAppliedRequest(id=event_id)))
    assert early.code() is Code.FAILED_PRECONDITION
    assert "Approve it first" in (early.details() or "")
    await ddl.ApproveDDL(ddl_pb2.ApproveDDLRequest(id=event_id))
    await ddl.MarkDDLApplied(ddl_pb2.MarkDDLAppliedRequest(id=event_id))
    for call in (
        ddl.ApproveDDL(ddl_pb2.ApproveDDLRequest(id=event_id)),
        ddl.RejectDDL(ddl_pb2.RejectDDLRequest(id=event_id)),
    ):
        assert (await refusal(call)).code() is Code.FAILED_PRECONDITION
    assert store.get_ddl(event_id).status == "applied"


async def test_wrong_fields_are_named_and_unknown_ids_not_found(ddl: Any) -> None:
    wrong = await refusal(ddl.ListDDL(ddl_pb2.ListDDLRequest(status="PENDING'; --")))
    assert (wrong.code(), fields(wrong)) == (Code.INVALID_ARGUMENT, ["status"])
    assert "'; --" not in (wrong.details() or "")
    token = await refusal(ddl.ListDDL(ddl_pb2.ListDDLRequest(page_token="nonsense")))
    assert (token.code(), fields(token)) == (Code.INVALID_ARGUMENT, ["page_token"])
    for event_id in (0, -1):
        missing = await refusal(ddl.ApproveDDL(ddl_pb2.ApproveDDLRequest(id=event_id)))
        assert (missing.code(), fields(missing)) == (Code.INVALID_ARGUMENT, ["id"])
    assert (await refusal(ddl.RejectDDL(ddl_pb2.RejectDDLRequest(id=2**63 - 1)))).code() is Code.NOT_FOUND
