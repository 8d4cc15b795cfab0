"""The typed client against a real API, by both of its faces."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.wallaby.api.certificates import Authority
from tests.wallaby.api.running import Running
from tests.wallaby.api.test_guard import add_token
from tests.wallaby.api.test_snapshots import begun
from tests.wallaby.api.test_snapshots import tables as snapshot_tables
from wallaby.access import Role
from wallaby.api.access import RULES
from wallaby.client import AsyncClient, Client, ClientSettings
from wallaby.client.calls import raw
from wallaby.client.channel import address_of
from wallaby.ddl.approval import DdlStatus
from wallaby.errors import (
    AlreadyExists,
    ConfigError,
    IllegalMove,
    NotFound,
    PermissionDenied,
    StoreUnavailable,
    Superseded,
    Unauthenticated,
)
from wallaby.flow import FlowSpec
from wallaby.flow.plan import PlannedAction
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import START, Lsn, Position
from wallaby.snapshot.progress import CopyState
from wallaby.store.opening import open_sqlite
from wallaby.v1 import access_pb2, ddl_pb2, flow_pb2

FLOW: dict[str, Any] = {
    "name": "Shop",
    "source": {"type": "postgres", "options": {"dsn": "env:SHOP_DSN", "publication_tables": ["a.b", "c.*"]}},
    "destinations": [{"type": "duckdb", "options": {"dsn": "shop.duckdb"}}],
}


def other(name: str) -> dict[str, Any]:
    return FLOW | {"name": name, "source": {"type": "postgres", "options": {"dsn": f"env:{name.upper()}_DSN"}}}


def test_both_faces_have_the_same_calls() -> None:
    faces = [
        {name: value for name, value in vars(face).items() if not name.startswith("_")}
        for face in (Client, AsyncClient)
    ]
    assert faces[0].keys() == faces[1].keys()
    for name in faces[0].keys() - {"connect"}:
        waiting, awaited = (inspect.signature(face[name]) for face in faces)
        assert waiting.parameters == awaited.parameters, name
        assert inspect.iscoroutinefunction(faces[1][name]) or inspect.isasyncgenfunction(faces[1][name]), name


def test_a_flow_is_steered_from_creation_to_deletion(running: Running) -> None:
    with Client.connect(running.address) as wallaby:
        assert wallaby.validate_flow(FLOW).guarantees == {"duckdb": "exactly once"}
        assert wallaby.plan_flow(FLOW).plan.action is PlannedAction.CREATE
        created = wallaby.create_flow(FLOW, start=True)
        assert (created.id, created.state, created.revision) == ("shop", FlowState.RUNNING, 1)
        assert created.definition["source"]["options"]["publication_tables"] == "a.b,c.*"
        assert created.spec.id == "shop"
        assert wallaby.pause_flow("shop").state is FlowState.STOPPING
        running.store.move_flow("shop", Command.FINISH, "drained")
        assert (wallaby.get_flow("shop").state, wallaby.get_flow("shop").reason) == (FlowState.PAUSED, "drained")
        changed = FlowSpec.from_mapping(FLOW | {"parallelism": 2})
        planned = wallaby.plan_flow(changed)
        assert (planned.state, planned.revision) == (FlowState.PAUSED, 1)
        assert [(change.path, change.before, change.after) for change in planned.plan.changes] == [
            ("parallelism", 1, 2)
        ]
        with pytest.raises(Superseded):
            wallaby.update_flow(changed, expected_revision=7)
        assert wallaby.update_flow(changed, expected_revision=1).revision == 2
        assert wallaby.resume_flow("shop").state is FlowState.RUNNING
        assert wallaby.flow_status("shop")["state"] == "running"
        assert wallaby.stop_flow("shop").state is FlowState.STOPPING
        running.store.move_flow("shop", Command.FINISH)
        assert wallaby.run_flow_once("shop")
        running.store.move_flow("shop", Command.FINISH)
        assert wallaby.start_flow("shop").state is FlowState.RUNNING
        wallaby.stop_flow("shop")
        running.store.move_flow("shop", Command.FINISH)
        assert wallaby.delete_flow("shop")
        assert list(wallaby.list_flows()) == []


async def test_the_awaited_face_does_the_same(running: Running) -> None:
    async with AsyncClient.connect(running.address) as wallaby:
        for name in ("a", "b", "c"):
            await wallaby.create_flow(other(name))
        assert [flow.id async for flow in wallaby.list_flows(page_size=2)] == ["a", "b", "c"]
        assert (await wallaby.start_flow("a")).state is FlowState.RUNNING
        with pytest.raises(IllegalMove):
            await wallaby.delete_flow("a")
        with pytest.raises(NotFound):
            await wallaby.get_checkpoint("a")
        seen = []
        async for event in wallaby.watch("a"):
            seen.append((event.command, event.after))
            if len(seen) == 1:
                await wallaby.stop_flow("a")
            else:
                break
        assert seen == [("", FlowState.RUNNING), ("stop", FlowState.STOPPING)]


def test_lists_follow_all_pages(running: Running) -> None:
    with Client.connect(running.address) as wallaby:
        for name in ("a", "b", "c"):
            wallaby.create_flow(other(name))
        assert [flow.id for flow in wallaby.list_flows(page_size=2)] == ["a", "b", "c"]


def test_a_watch_goes_on_from_the_cursor_of_its_last_event(running: Running) -> None:
    with Client.connect(running.address) as wallaby:
        wallaby.create_flow(FLOW)
        first = next(iter(wallaby.watch()))
        assert (first.flow_id, first.command, first.after) == ("shop", "", FlowState.CREATED)
        wallaby.start_flow("shop")
        wallaby.stop_flow("shop")
        events = wallaby.watch(cursor=first.cursor)
        assert [(event.command, event.before, event.after) for event in (next(events), next(events))] == [
            ("start", FlowState.CREATED, FlowState.RUNNING),
            ("stop", FlowState.RUNNING, FlowState.STOPPING),
        ]
        events.close()


def test_checkpoints_are_read(running: Running) -> None:
    position = Position(Lsn.parse("16/B374D848"))
    running.store.begin_epoch("shop")
    running.store.commit_checkpoint("shop", epoch=1, after=START, upto=position, lanes={"shop/duckdb/0": position})
    with Client.connect(running.address) as wallaby:
        checkpoint = wallaby.get_checkpoint("shop")
        assert (checkpoint.lsn, checkpoint.metadata["lane.shop/duckdb/0"]) == ("16/B374D848", str(position))
        assert wallaby.list_checkpoints() == (checkpoint,)


def test_schema_changes_are_listed_and_decided(running: Running) -> None:
    ids = [running.store.record_ddl("shop", position=Position(Lsn(n + 1)), ddl="x").id for n in range(3)]
    with Client.connect(running.address) as wallaby:
        assert [event.id for event in wallaby.list_ddl()] == ids
        assert wallaby.approve_ddl(ids[0]).status is DdlStatus.APPROVED
        assert wallaby.reject_ddl(ids[1]).status is DdlStatus.REJECTED
        assert wallaby.mark_ddl_applied(ids[0]).status is DdlStatus.APPLIED
        with pytest.raises(IllegalMove):
            wallaby.mark_ddl_applied(ids[2])
        assert [event.id for event in wallaby.list_ddl("all", flow_id="shop")] == ids
        assert [event.id for event in wallaby.list_ddl("rejected")] == [ids[1]]


def test_statuses_come_back_as_our_errors(running: Running) -> None:
    with Client.connect(running.address) as wallaby:
        with pytest.raises(NotFound):
            wallaby.get_flow("nope")
        wallaby.create_flow(FLOW)
        with pytest.raises(AlreadyExists):
            wallaby.create_flow(FLOW)
        with pytest.raises(ConfigError):
            list(wallaby.list_ddl("nonsense"))
        with pytest.raises(ConfigError):
            next(wallaby.watch(cursor=-1))
    with Client.connect("127.0.0.1:1") as nobody, pytest.raises(StoreUnavailable, match="wallaby up"):
        nobody.get_flow("shop")


async def test_copies_are_read_and_asked_for_by_both_faces(running: Running) -> None:
    begun(running.store, snapshot_tables(3))
    with Client.connect(running.address) as wallaby:
        waited = (
            wallaby.get_snapshot("shop"),
            list(wallaby.list_snapshots()),
            list(wallaby.list_table_snapshots("shop")),
        )
        assert wallaby.restart_snapshot("shop").state is FlowState.RUNNING
        assert wallaby.get_snapshot("shop").is_wanted
    async with AsyncClient.connect(running.address) as wallaby:
        awaited = (
            replace(await wallaby.get_snapshot("shop"), is_wanted=False),
            [replace(item, is_wanted=False) async for item in wallaby.list_snapshots(page_size=1)],
            [item async for item in wallaby.list_table_snapshots("shop")],
        )
        assert (await wallaby.restart_snapshot("shop")).state is FlowState.RUNNING
        running.store.move_flow("shop", Command.FAIL)
        assert (await wallaby.cancel_snapshot("shop")).state is FlowState.FAILED
    with Client.connect(running.address) as wallaby:
        assert wallaby.cancel_snapshot("shop").state is FlowState.FAILED
    assert awaited == waited
    assert [(item.name, item.state, item.expected_rows) for item in waited[2]] == [
        (f"t{i}", CopyState.PENDING, 100) for i in range(3)
    ]
    assert (waited[0].share, waited[0].rows_per_s, waited[0].seconds_left) == (0.0, 0.0, None)
    assert running.store.copy_due("shop") == 0


def test_any_method_can_be_called_by_name(running: Running) -> None:
    with Client.connect(ClientSettings(endpoint=running.address, request_id="deploy-7")) as wallaby:
        wallaby.create_flow(FLOW)
        answer = wallaby.call("GetFlow", flow_pb2.GetFlowRequest(flow_id="shop"))
        assert answer == wallaby.get_flow("shop").message
        listed = wallaby.call("ListDDL", ddl_pb2.ListDDLRequest(), service="DDLService", more_seconds=1)
        assert listed == ddl_pb2.ListDDLResponse()


@pytest.mark.must_not_fail(24)
def test_a_secret_in_clear_is_not_even_sent(running: Running) -> None:
    hidden = FLOW | {"source": {"type": "postgres", "options": {"dsn": "postgresql://me:hunter2@db/x"}}}
    with Client.connect(running.address) as wallaby:
        for call in (wallaby.create_flow, wallaby.update_flow, wallaby.plan_flow, wallaby.validate_flow):
            with pytest.raises(ConfigError) as refused:
                call(hidden)
            assert "hunter2" not in str(refused.value)


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "endpoint", ["wallaby.example:8080", "10.0.0.1:8080", "localhost.example:8080", "127.0.0.1.example"]
)
def test_nothing_leaves_this_machine_in_clear_unless_it_is_said(endpoint: str) -> None:
    assert address_of(endpoint).credentials is not None
    assert address_of(ClientSettings(endpoint=endpoint, is_insecure=True)).credentials is None
    settings = ClientSettings(endpoint=endpoint, is_insecure=True, token="wlb_hunter2")
    with pytest.raises(ConfigError, match="in clear") as refused, Client.connect(settings):
        raise AssertionError("connected in clear")
    assert "hunter2" not in str(refused.value)


async def test_both_faces_reach_a_guarded_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    ours = authority.issue("server")
    store = open_sqlite(tmp_path / "state")
    bearer = add_token(store, Role.VIEWER)
    running = Running(store, grpc_tls_cert=str(ours.certificate), grpc_tls_key=str(ours.key), grpc_auth="on")
    try:
        settings = ClientSettings(endpoint=running.address, ca_file=str(authority.ca), token=bearer)
        with Client.connect(settings) as wallaby, pytest.raises(PermissionDenied):
            wallaby.start_flow("shop")
        async with AsyncClient.connect(settings) as wallaby:
            assert [flow async for flow in wallaby.list_flows()] == []
        with Client.connect(replace(settings, token="")) as nobody, pytest.raises(Unauthenticated):
            nobody.get_flow("shop")
    finally:
        running.stop()
        store.close()


@pytest.mark.must_not_fail(24)
def test_a_request_id_tells_calls_apart_but_nothing_of_a_secret() -> None:
    address = address_of(ClientSettings(request_id="deploy-7"))

    def request_id(method: str, request: Any, service: str = "FlowService") -> str:
        return dict(address.metadata(raw(service, method, request)))["wallaby-request-id"]

    starts = [request_id("StartFlow", flow_pb2.StartFlowRequest(flow_id=flow)) for flow in ("a", "b", "a")]
    assert starts[0] == starts[2] != starts[1]
    values = [request_id("PutSecret", access_pb2.PutSecretRequest(value=v), "SecretService") for v in ("x", "y")]
    assert values == ["deploy-7/PutSecret"] * 2
    address_of(ClientSettings(request_id="x" * 90))
    for wrong in ("x" * 91, "two words", "é", "a\nb"):
        with pytest.raises(ConfigError, match="-request-id"):
            address_of(ClientSettings(request_id=wrong))
    assert all(len(f"{'x' * 90}/{path.rpartition('/')[2]}/{'0' * 12}") <= 128 for path in RULES)
