"""The API over a real server and the generated stubs: flows from creation to deletion, errors with code and field."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.wallaby.api.conftest import RememberingControl, a_message
from wallaby.api.server import ApiServer, serve
from wallaby.errors import CheckFailed, ConfigError, StoreUnavailable
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import START, Lsn, Position
from wallaby.settings import Settings
from wallaby.status import FlowStatus, LaneStatus
from wallaby.store import Store
from wallaby.testing.store_contract import a_flow
from wallaby.v1 import checkpoint_pb2, flow_pb2, ingest_pb2, ingest_pb2_grpc, types_pb2

Code = grpc.StatusCode
SECRET = "hunter2"


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def fields(error: grpc.aio.AioRpcError) -> list[str]:
    metadata = error.trailing_metadata()
    assert metadata is not None
    return [str(value) for key, value in metadata if key == "wallaby-field"]


async def test_a_flow_lives_from_creation_to_deletion(flows: Any, store: Store, control: RememberingControl) -> None:
    created = await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    assert (created.id, created.state) == ("shop", types_pb2.FLOW_STATE_CREATED)
    assert created.destinations[0].options["write_mode"] == "target"
    started = await flows.StartFlow(flow_pb2.StartFlowRequest(flow_id="shop"))
    assert started.state == types_pb2.FLOW_STATE_RUNNING
    stopping = await flows.StopFlow(flow_pb2.StopFlowRequest(flow_id="shop"))
    assert stopping.state == types_pb2.FLOW_STATE_STOPPING
    store.move_flow("shop", Command.FINISH, "drained")
    paused = await flows.GetFlow(flow_pb2.GetFlowRequest(flow_id="shop"))
    assert (paused.state, paused.reason) == (types_pb2.FLOW_STATE_PAUSED, "drained")
    changed = a_message(id="shop", parallelism=2)
    updated = await flows.UpdateFlow(flow_pb2.UpdateFlowRequest(flow=changed))
    assert (updated.parallelism, updated.revision) == (2, 2)
    resumed = await flows.ResumeFlow(flow_pb2.ResumeFlowRequest(flow_id="shop"))
    assert resumed.state == types_pb2.FLOW_STATE_RUNNING
    await flows.StopFlow(flow_pb2.StopFlowRequest(flow_id="shop"))
    store.move_flow("shop", Command.FINISH)
    assert (await flows.DeleteFlow(flow_pb2.DeleteFlowRequest(flow_id="shop"))).deleted
    assert (await flows.ListFlows(flow_pb2.ListFlowsRequest())).flows == []
    assert control.told == ["changed shop"] * 7


async def test_pause_is_stop_by_another_name(flows: Any) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message(), start_immediately=True))
    for _ in range(2):
        paused = await flows.PauseFlow(flow_pb2.PauseFlowRequest(flow_id="shop"))
        assert paused.state == types_pb2.FLOW_STATE_STOPPING


async def test_what_was_created_is_what_is_got_and_can_be_sent_back(flows: Any) -> None:
    message = a_message(
        wire_format=types_pb2.WIRE_FORMAT_AVRO,
        parallelism=3,
        config=types_pb2.FlowConfig(
            ack_policy=types_pb2.ACK_POLICY_PRIMARY,
            primary_destination="copy",
            failure_mode=types_pb2.FAILURE_MODE_DROP_SLOT,
            give_up_policy=types_pb2.GIVE_UP_POLICY_ON_RETRY_EXHAUSTION,
            ddl=types_pb2.DDLPolicy(auto_approve=True, auto_apply=False),
        ),
    )
    created = await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message))
    got = await flows.GetFlow(flow_pb2.GetFlowRequest(flow_id="shop"))
    assert got == created
    expected = types_pb2.Flow()
    expected.CopyFrom(message)
    expected.id, expected.revision, expected.reason = "shop", 1, "created"
    expected.state = types_pb2.FLOW_STATE_CREATED
    assert got == expected
    assert (await flows.UpdateFlow(flow_pb2.UpdateFlowRequest(flow=got))).revision == 1


async def test_a_flow_may_start_with_its_creation(flows: Any) -> None:
    request = flow_pb2.CreateFlowRequest(flow=a_message(), start_immediately=True)
    assert (await flows.CreateFlow(request)).state == types_pb2.FLOW_STATE_RUNNING


async def test_pages_of_flows_follow_each_other(flows: Any) -> None:
    for name in "abc":
        message = a_message(name)
        message.source.options["slot"] = f"slot_{name}"
        await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message))
    first = await flows.ListFlows(flow_pb2.ListFlowsRequest(page_size=2))
    second = await flows.ListFlows(flow_pb2.ListFlowsRequest(page_size=2, page_token=first.next_page_token))
    assert [flow.id for flow in (*first.flows, *second.flows)] == ["a", "b", "c"]
    assert second.next_page_token == ""


async def test_run_once_is_dispatched_and_without_anybody_refused_and_undone(
    flows: Any, store: Store, control: RememberingControl
) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    control.runs = False
    error = await refusal(flows.RunFlowOnce(flow_pb2.RunFlowOnceRequest(flow_id="shop")))
    assert error.code() is Code.FAILED_PRECONDITION
    assert store.get_flow("shop").state is FlowState.PAUSED
    control.runs = True
    assert (await flows.RunFlowOnce(flow_pb2.RunFlowOnceRequest(flow_id="shop"))).dispatched
    record = store.get_flow("shop")
    assert (record.state, record.run_once) == (FlowState.RUNNING, True)


INVALID = [
    (types_pb2.Flow(), ["name", "source"]),
    (a_message(parallelism=99), ["parallelism"]),
    (a_message(wire_format=77), ["wire_format"]),
    (a_message(config={"failure_mode": 9}), ["config.failure_mode"]),
    (a_message(id="Not An Id"), ["id"]),
    (a_message(dsn="nonsense"), ["source.options.dsn"]),
]


@pytest.mark.parametrize(("message", "paths"), INVALID)
async def test_an_invalid_flow_is_refused_with_the_paths_of_its_fields(
    flows: Any, message: types_pb2.Flow, paths: list[str]
) -> None:
    error = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message)))
    assert error.code() is Code.INVALID_ARGUMENT
    assert set(paths) <= set(fields(error))
    assert all(path in (error.details() or "") for path in paths)


async def test_a_misspelt_option_names_the_nearest_known_one(flows: Any) -> None:
    message = a_message()
    message.destinations[0].options["write_mod"] = "append"
    error = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message)))
    assert fields(error) == ["destinations[0].options.write_mod"]
    assert "Did you mean 'write_mode'?" in (error.details() or "")


async def test_a_key_that_is_not_ascii_still_gets_an_answer(flows: Any) -> None:
    message = a_message()
    message.source.options["schlüssel\n"] = "x"
    error = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message)))
    assert error.code() is Code.INVALID_ARGUMENT
    assert fields(error) == ["source.options.schl\\xfcssel?"]


async def test_very_many_problems_still_fit_an_answer(flows: Any) -> None:
    message = a_message()
    for number in range(250):
        message.source.options[f"unknown_{number}_{'x' * 200}"] = "x"
    error = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message)))
    assert error.code() is Code.INVALID_ARGUMENT


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("call", ["CreateFlow", "UpdateFlow"])
@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("dsn", f"postgresql://me:{SECRET}@db/shop"),
        ("dsn", f"host=db password={SECRET}"),
        ("sasl_password", SECRET),
        ("api_token", SECRET),
        ("client_secret", SECRET),
    ],
)
async def test_a_secret_in_clear_is_refused_and_stored_nowhere(
    flows: Any, store: Store, tmp_path: Any, caplog: pytest.LogCaptureFixture, call: str, place: str, value: str
) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    message = a_message("Other" if call == "CreateFlow" else "Shop", id="other" if call == "CreateFlow" else "shop")
    message.source.options[place] = value
    request = getattr(flow_pb2, f"{call}Request")(flow=message)
    error = await refusal(getattr(flows, call)(request))
    assert error.code() is Code.INVALID_ARGUMENT
    assert SECRET not in f"{error!r}{error.details()}{error.trailing_metadata()}{caplog.text}"
    listing = await flows.ListFlows(flow_pb2.ListFlowsRequest())
    assert SECRET not in str(listing)
    store.close()
    for path in (tmp_path / "state").iterdir():
        assert SECRET.encode() not in path.read_bytes()


async def test_stars_in_place_of_a_secret_are_not_taken_for_one(flows: Any) -> None:
    message = a_message(dsn="postgresql://me:****@db/shop")
    error = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=message)))
    assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, ["source.options.dsn"])


async def test_two_flows_never_share_a_slot(flows: Any) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    thief = a_message("Thief")
    thief.source.options["slot"] = "wallaby_shop"
    error = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=thief)))
    assert error.code() is Code.ALREADY_EXISTS
    assert "wallaby_shop" in (error.details() or "")


async def test_a_second_creation_and_a_stale_update_are_told_apart(flows: Any) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    again = await refusal(flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message())))
    assert again.code() is Code.ALREADY_EXISTS
    request = flow_pb2.UpdateFlowRequest(flow=a_message(id="shop"), expected_revision=7)
    assert (await refusal(flows.UpdateFlow(request))).code() is Code.ABORTED


@pytest.mark.parametrize(
    "call",
    ["StartFlow", "StopFlow", "PauseFlow", "ResumeFlow", "RunFlowOnce", "GetFlow", "DeleteFlow", "GetFlowStatus"],
)
async def test_an_unknown_flow_is_not_found_and_a_missing_id_is_invalid(flows: Any, call: str) -> None:
    make = getattr(flow_pb2, f"{call}Request")
    assert (await refusal(getattr(flows, call)(make(flow_id="nope")))).code() is Code.NOT_FOUND
    missing = await refusal(getattr(flows, call)(make()))
    assert (missing.code(), fields(missing)) == (Code.INVALID_ARGUMENT, ["flow_id"])


async def test_an_illegal_move_is_a_failed_precondition_with_advice(flows: Any) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message(), start_immediately=True))
    for call in (
        flows.DeleteFlow(flow_pb2.DeleteFlowRequest(flow_id="shop")),
        flows.UpdateFlow(flow_pb2.UpdateFlowRequest(flow=a_message(id="shop"))),
        flows.RunFlowOnce(flow_pb2.RunFlowOnceRequest(flow_id="shop")),
    ):
        error = await refusal(call)
        assert error.code() is Code.FAILED_PRECONDITION
        assert "Stop it first" in (error.details() or "")


async def test_validation_tells_problems_findings_and_guarantees_without_storing(flows: Any) -> None:
    message = a_message()
    message.source.options["batch_size"] = "100"
    answer = await flows.ValidateFlow(flow_pb2.ValidateFlowRequest(flow=message))
    assert answer.valid
    assert [(f.subject, f.code) for f in answer.findings] == [("source.options.batch_size", "option-ignored")]
    assert dict(answer.guarantees) == {"copy": "exactly once"}
    message.source.options["dsn"] = f"postgresql://me:{SECRET}@db/x"
    answer = await flows.ValidateFlow(flow_pb2.ValidateFlowRequest(flow=message))
    assert not answer.valid
    assert [problem.field for problem in answer.problems] == ["source.options.dsn"]
    assert SECRET not in str(answer)
    assert (await flows.ListFlows(flow_pb2.ListFlowsRequest())).flows == []


async def test_the_status_is_what_the_running_side_says_and_the_stored_state(
    flows: Any, control: RememberingControl, store: Store
) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message(), start_immediately=True))
    request = flow_pb2.GetFlowStatusRequest(flow_id="shop")
    idle = json_format.MessageToDict((await flows.GetFlowStatus(request)).status)
    assert (idle["state"], idle["phase"]) == ("running", "idle")
    lane = LaneStatus(destination="copy", position=Position(Lsn(0x16B374D848)), rows=7)
    control.statuses["shop"] = FlowStatus(flow="shop", state="running", phase="streaming", epoch=3, lanes=(lane,))
    answer = await flows.GetFlowStatus(request)
    shown = json_format.MessageToDict(answer.status)
    assert (shown["phase"], shown["epoch"], shown["lanes"][0]["rows"]) == ("streaming", 3, 7)
    store.move_flow("shop", Command.FAIL, "the slot is lost")
    assert (await flows.GetFlowStatus(request)).state == types_pb2.FLOW_STATE_FAILED


async def test_checkpoints_are_shown(checkpoints: Any, store: Store) -> None:
    get = checkpoint_pb2.GetCheckpointRequest(flow_id="shop")
    assert (await refusal(checkpoints.GetCheckpoint(get))).code() is Code.NOT_FOUND
    store.begin_epoch("shop")
    position = Position(Lsn.parse("16/B374D848"))
    store.commit_checkpoint("shop", epoch=1, after=START, upto=position, lanes={"shop/copy/0": position})
    shown = await checkpoints.GetCheckpoint(get)
    assert shown.checkpoint.lsn == "16/B374D848"
    assert shown.checkpoint.metadata["lane.shop/copy/0"] == str(position)
    listing = await checkpoints.ListCheckpoints(checkpoint_pb2.ListCheckpointsRequest())
    assert list(listing.checkpoints) == [shown]


@pytest.mark.must_not_fail(2)
async def test_a_checkpoint_is_put_back_by_force_and_never_ahead(checkpoints: Any, store: Store) -> None:
    store.create_flow(a_flow())
    store.begin_epoch("shop")
    position = Position(Lsn.parse("16/B374D848"))
    store.commit_checkpoint("shop", epoch=1, after=START, upto=position, lanes={"shop/copy/0": position})
    shown = await checkpoints.GetCheckpoint(checkpoint_pb2.GetCheckpointRequest(flow_id="shop"))

    def put(lsn: str, *, force: bool = False, **metadata: str) -> Any:
        checkpoint = types_pb2.Checkpoint(lsn=lsn, metadata=metadata)
        return checkpoints.PutCheckpoint(
            checkpoint_pb2.PutCheckpointRequest(flow_id="shop", checkpoint=checkpoint, force=force)
        )

    same = checkpoint_pb2.PutCheckpointRequest(flow_id="shop", checkpoint=shown.checkpoint)
    assert await checkpoints.PutCheckpoint(same) == shown
    for call, code, advice in (
        (put("17/0", force=True), Code.FAILED_PRECONDITION, "would be lost"),
        (put("16/0"), Code.FAILED_PRECONDITION, "would go back"),
        (put("nonsense"), Code.INVALID_ARGUMENT, "checkpoint.lsn"),
        (put("0/0", force=True), Code.INVALID_ARGUMENT, "--resnapshot"),
        (put("16/0", force=True, position=str(position)), Code.INVALID_ARGUMENT, "checkpoint.metadata.position"),
        (put("16/0", force=True, other="x"), Code.INVALID_ARGUMENT, "checkpoint.metadata"),
    ):
        error = await refusal(call)
        assert (error.code(), advice in (error.details() or "")) == (code, True)
    moved = await put("16/0", force=True)
    assert (moved.checkpoint.lsn, moved.checkpoint.metadata["epoch"]) == ("16/0", "2")
    store.move_flow("shop", Command.START)
    assert (await refusal(put("15/0", force=True))).code() is Code.FAILED_PRECONDITION


async def test_health_says_serving_until_the_server_stops(server: ApiServer, channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "wallaby.v1.FlowService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)
    await server.stop(0)


async def test_reflection_lists_the_services_and_can_be_turned_off(
    channel: grpc.aio.Channel, store: Store, control: RememberingControl
) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    [answer] = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    names = {service.name for service in answer.list_services_response.service}
    assert {"wallaby.v1.FlowService", "wallaby.v1.CheckpointService", "grpc.health.v1.Health"} <= names
    silent = await serve(store, control, Settings(grpc_listen="127.0.0.1:0", grpc_reflection=False))
    async with grpc.aio.insecure_channel(silent.address, options=(("grpc.enable_http_proxy", 0),)) as other:
        call = reflection_pb2_grpc.ServerReflectionStub(other).ServerReflectionInfo(iter([request]))
        assert (await refusal(anext(call.__aiter__()))).code() is Code.UNIMPLEMENTED
    await silent.stop(0)


async def test_a_service_of_other_servers_is_unimplemented_here(channel: grpc.aio.Channel) -> None:
    stub = ingest_pb2_grpc.IngestServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
    assert (await refusal(stub.IngestBatch(ingest_pb2.IngestBatchRequest()))).code() is Code.UNIMPLEMENTED


async def test_a_port_in_use_is_refused_and_never_shared(
    server: ApiServer, store: Store, control: RememberingControl
) -> None:
    with pytest.raises(CheckFailed, match="WALLABY_GRPC_LISTEN"):
        await serve(store, control, Settings(grpc_listen=server.address))


async def test_an_address_others_could_reach_opens_no_port(store: Store, control: RememberingControl) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ConfigError, match="TLS"):
        await serve(store, control, Settings(grpc_listen=f":{port}"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


@pytest.mark.must_not_fail(24)
async def test_an_error_nobody_expected_shows_neither_text_nor_value(
    flows: Any, control: RememberingControl, caplog: pytest.LogCaptureFixture
) -> None:
    class Leaky(FlowStatus):
        def as_json(self) -> dict[str, Any]:
            raise RuntimeError(f"postgresql://me:{SECRET}@db")

    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    control.statuses["shop"] = Leaky(flow="shop", state="running")
    error = await refusal(flows.GetFlowStatus(flow_pb2.GetFlowStatusRequest(flow_id="shop")))
    assert error.code() is Code.INTERNAL
    assert "RuntimeError" in (error.details() or "")
    assert SECRET not in f"{error.details()}{caplog.text}"


async def test_a_store_that_is_away_is_unavailable(flows: Any, store: Store, tmp_path: Any) -> None:
    store.close()
    state = tmp_path / "state"
    for path in state.iterdir():
        path.unlink()
    state.rmdir()
    state.write_text("in the way")
    error = await refusal(flows.GetFlow(flow_pb2.GetFlowRequest(flow_id="shop")))
    assert error.code() is Code.UNAVAILABLE
    assert dict(error.trailing_metadata() or ())["wallaby-retry"] == StoreUnavailable.retry


async def test_a_look_at_a_flow_waits_for_no_change_under_way(flows: Any, store: Any) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    begun, ended = threading.Event(), threading.Event()

    def change() -> None:
        with store._edge.transaction():
            begun.set()
            assert ended.wait(60)

    changing = threading.Thread(target=change)
    changing.start()
    assert await asyncio.to_thread(begun.wait, 60)
    try:
        assert (await flows.GetFlow(flow_pb2.GetFlowRequest(flow_id="shop"), timeout=30)).id == "shop"
    finally:
        ended.set()
        changing.join()
