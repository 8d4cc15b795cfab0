"""SourceService on a real source: the server's secrets, every change once, and names nobody can have."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from wallaby.api.server import ApiServer
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.settings import ApiLimits
from wallaby.store import Store
from wallaby.testing.postgres import ScratchDatabase
from wallaby.v1 import access_pb2, access_pb2_grpc, source_pb2_grpc
from wallaby.v1 import source_pb2 as pb

Code = grpc.StatusCode
NO_PROXY = (("grpc.enable_http_proxy", 0),)
SLOT = "wallaby_api_test"


@pytest.fixture
async def api(
    store: Store,
    database: ScratchDatabase,
    serving: Callable[..., Awaitable[ApiServer]],
    tmp_path: Path,
) -> AsyncIterator[Any]:
    """The service; its one flow has its source as a secret of the control store."""
    (tmp_path / "key").write_text(base64.b64encode(b"k" * 32).decode())
    database.execute(
        "CREATE SCHEMA shop",
        *(f"CREATE TABLE shop.{name} (id int PRIMARY KEY)" for name in ("orders", "lines", "stock")),
        "CREATE PUBLICATION pub FOR TABLE shop.orders",
    )
    store.create_flow(flow(dsn="secret:shop", publication_tables="shop.orders,shop.stock"))
    server = await serving(secret_key=f"file:{tmp_path / 'key'}")
    async with grpc.aio.insecure_channel(server.address, options=NO_PROXY) as channel:
        secrets: Any = access_pb2_grpc.SecretServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        await secrets.PutSecret(access_pb2.PutSecretRequest(name="shop", value=database.dsn))
        yield source_pb2_grpc.SourceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
    for slot in database.slots():
        database.execute(f"SELECT pg_drop_replication_slot('{slot}')")


def flow(flow_id: str = "shop", **options: Any) -> FlowSpec:
    given = {"publication": "pub", "slot": SLOT, **options}
    return FlowSpec(
        id=flow_id,
        name=flow_id,
        source=EndpointSpec(type="postgres", options=given),
        destinations=(EndpointSpec(name="x", type="duckdb", options={"dsn": "env:ONLY_THE_FLOW_KNOWS"}),),
    )


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def fields(error: grpc.aio.AioRpcError) -> list[Any]:
    return [value for key, value in error.trailing_metadata() or () if key == "wallaby-field"]


async def test_tables_are_listed_added_removed_and_kept_in_line(api: Any) -> None:
    of = {"flow_id": "shop"}
    assert await api.GetPublication(pb.GetPublicationRequest(**of)) == pb.GetPublicationResponse(
        publication="pub", tables=["shop.orders"]
    )
    for expected in (["shop.lines"], []):
        answer = await api.AddPublicationTables(pb.AddPublicationTablesRequest(**of, tables=["shop.lines"]))
        assert list(answer.added) == expected
    missing = await api.ListUnpublishedTables(pb.ListUnpublishedTablesRequest(**of, schemas=["shop"]))
    assert list(missing.tables) == ["shop.stock"]
    synced = await api.SyncPublication(pb.SyncPublicationRequest(**of))
    assert (list(synced.added), list(synced.removed)) == (["shop.stock"], [])
    synced = await api.SyncPublication(pb.SyncPublicationRequest(**of, schemas=["public"], drop=True))
    assert sorted(synced.removed) == ["shop.lines", "shop.orders", "shop.stock"]
    for expected in ([], []):
        answer = await api.RemovePublicationTables(pb.RemovePublicationTablesRequest(**of, tables=["shop.*"]))
        assert list(answer.removed) == expected


async def test_slots_are_listed_and_dropped(api: Any, database: ScratchDatabase) -> None:
    of = {"flow_id": "shop"}
    assert list((await api.ListSlots(pb.ListSlotsRequest(**of))).slots) == []
    for name in (SLOT, "other"):
        database.execute(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    other, ours = (await api.ListSlots(pb.ListSlotsRequest(**of))).slots
    assert (other.name, ours.name, ours.plugin, ours.active, ours.lost) == ("other", SLOT, "pgoutput", False, "")
    assert ours.HasField("kept_bytes")
    assert not ours.HasField("safe_wal_bytes")
    assert (await api.DropSlot(pb.DropSlotRequest(**of))).slot == SLOT
    assert (await api.DropSlot(pb.DropSlotRequest(**of, slot="other"))).slot == "other"
    assert (await refusal(api.DropSlot(pb.DropSlotRequest(**of)))).code() is Code.NOT_FOUND
    assert database.slots() == []


async def test_what_does_not_exist_is_not_found(api: Any) -> None:
    assert (await refusal(api.ListSlots(pb.ListSlotsRequest(flow_id="none")))).code() is Code.NOT_FOUND
    nowhere = pb.GetPublicationRequest(flow_id="shop", publication="none")
    assert (await refusal(api.GetPublication(nowhere))).code() is Code.NOT_FOUND
    lost = pb.AddPublicationTablesRequest(flow_id="shop", tables=["shop.none"])
    error = await refusal(api.AddPublicationTables(lost))
    assert error.code() is Code.FAILED_PRECONDITION
    assert "shop.none" in (error.details() or "")


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListSlots", pb.ListSlotsRequest(), "flow_id"),
        ("DropSlot", pb.DropSlotRequest(flow_id="shop", slot="Not A Slot"), "slot"),
        ("GetPublication", pb.GetPublicationRequest(flow_id="shop", publication="p" * 64), "publication"),
        ("GetPublication", pb.GetPublicationRequest(flow_id="shop", publication="p\0"), "publication"),
        ("AddPublicationTables", pb.AddPublicationTablesRequest(flow_id="shop"), "tables"),
        ("AddPublicationTables", pb.AddPublicationTablesRequest(flow_id="shop", tables=["a", "b c"]), "tables[1]"),
        ("AddPublicationTables", pb.AddPublicationTablesRequest(flow_id="shop", tables=["a"] * 10_001), "tables"),
        ("RemovePublicationTables", pb.RemovePublicationTablesRequest(flow_id="shop", tables=[""]), "tables[0]"),
        ("ListUnpublishedTables", pb.ListUnpublishedTablesRequest(flow_id="shop"), "schemas"),
        ("SyncPublication", pb.SyncPublicationRequest(flow_id="shop", schemas=["s\0"]), "schemas[0]"),
    ],
)
async def test_input_that_cannot_be_is_an_invalid_argument_with_its_field(
    api: Any, method: str, request_: Any, field: str
) -> None:
    error = await refusal(getattr(api, method)(request_))
    assert error.code() is Code.INVALID_ARGUMENT, error.details()
    assert fields(error) == [field]


@pytest.mark.must_not_fail(24)
async def test_what_the_server_lacks_is_told_without_the_secret(
    api: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_DSN", "postgresql://me:hunter2@127.0.0.1:1/shop")
    for number, (dsn, code, words) in enumerate(
        (
            ("env:NOT_SET_ANYWHERE", Code.FAILED_PRECONDITION, "NOT_SET_ANYWHERE is not set"),
            ("secret:none", Code.FAILED_PRECONDITION, "no secret none"),
            ("env:FAR_DSN", Code.UNAVAILABLE, "127.0.0.1:1/shop"),
        )
    ):
        store.create_flow(flow(f"flow{number}", dsn=dsn, slot=f"slot{number}"))
        error = await refusal(api.ListSlots(pb.ListSlotsRequest(flow_id=f"flow{number}")))
        assert (error.code(), fields(error)) == (code, [])
        assert words in (error.details() or "")
        assert "hunter2" not in (error.details() or "")


async def test_every_change_is_in_the_audit_log_and_looking_is_a_read(api: Any, store: Store) -> None:
    await api.GetPublication(pb.GetPublicationRequest(flow_id="shop"))
    await api.AddPublicationTables(pb.AddPublicationTablesRequest(flow_id="shop", tables=["shop.lines"]))
    change = next(call for call in store.list_calls(limit=10) if "Publication" in call.method)
    assert (change.method, change.kind, change.flow_id, change.code) == (
        "wallaby.v1.SourceService/AddPublicationTables",
        "change",
        "shop",
        "OK",
    )


async def test_a_locked_table_does_not_hold_a_call_for_ever(
    api: Any,
    store: Store,
    database: ScratchDatabase,
    serving: Callable[..., Awaitable[ApiServer]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEAR_DSN", database.dsn)
    store.create_flow(flow("near", dsn="env:NEAR_DSN", slot="near"))
    server = await serving(ApiLimits(source_statement_ms=50))
    async with grpc.aio.insecure_channel(server.address, options=NO_PROXY) as channel:
        hurried: Any = source_pb2_grpc.SourceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        wanted = pb.AddPublicationTablesRequest(flow_id="near", tables=["shop.lines"])
        with database.connect(autocommit=False) as holder:
            holder.execute("LOCK TABLE shop.lines IN ACCESS EXCLUSIVE MODE")
            error = await refusal(hurried.AddPublicationTables(wanted))
            holder.rollback()
        assert error.code() is Code.UNAVAILABLE
        assert list((await api.AddPublicationTables(wanted)).added) == ["shop.lines"]
