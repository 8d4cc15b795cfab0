"""Who is let in, how often, and what is written down about it: over a real server and real calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.wallaby.api.conftest import RememberingControl, a_message
from tests.wallaby.api.test_server import fields, refusal
from wallaby.access import Role
from wallaby.api import tokens
from wallaby.api.access import RULES
from wallaby.api.authentication import LOCAL
from wallaby.api.guard import _call, _generating
from wallaby.api.server import ApiServer, serve
from wallaby.errors import StoreUnavailable
from wallaby.lifecycle import Command
from wallaby.settings import ApiLimits, Settings
from wallaby.store import CallKind, CallRecord, Store, TokenRecord
from wallaby.v1 import access_pb2, access_pb2_grpc, flow_pb2, flow_pb2_grpc, types_pb2

Code = grpc.StatusCode
Serving = Callable[..., Awaitable[ApiServer]]
SECRET = "hunter2"
LIST = flow_pb2.ListFlowsRequest()


def add_token(store: Store, role: Role, **changes: Any) -> str:
    """A token of this role in the store; what its owner sends."""
    minted = tokens.mint()
    values: dict[str, Any] = {"name": str(role), "created_at": datetime.now(UTC), "created_by": "local"} | changes
    store.add_token(TokenRecord(id=minted.id, role=role, salt=minted.salt, digest=minted.digest, **values))
    return minted.bearer


@asynccontextmanager
async def connected(server: ApiServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield channel


def stub(channel: grpc.aio.Channel) -> Any:
    return flow_pb2_grpc.FlowServiceStub(channel)  # type: ignore[no-untyped-call]  # generated


def bearing(token: str, request_id: str = "") -> tuple[tuple[str, str], ...]:
    found = [("authorization", f"Bearer {token}")] if token else []
    return (*found, *([("wallaby-request-id", request_id)] if request_id else []))


async def recorded(server: ApiServer, store: Store) -> tuple[CallRecord, ...]:
    """Everything in the audit log, newest first; the server is stopped so that nothing is still on its way."""
    await server.stop(0)
    return store.list_calls()


# Who


async def test_on_loopback_nobody_is_asked_and_a_token_is_believed_or_refused(store: Store, serving: Serving) -> None:
    server, viewer = await serving(), add_token(store, Role.VIEWER)
    create = flow_pb2.CreateFlowRequest(flow=a_message())
    async with connected(server) as channel:
        assert (await stub(channel).CreateFlow(create)).id == "shop"
        error = await refusal(stub(channel).DeleteFlow(flow_pb2.DeleteFlowRequest(), metadata=bearing(viewer)))
        assert error.code() is Code.PERMISSION_DENIED
        assert (await refusal(stub(channel).ListFlows(LIST, metadata=bearing("wrong")))).code() is Code.UNAUTHENTICATED


async def test_who_must_say_who_it_is_and_does_not_is_told_how(store: Store, serving: Serving) -> None:
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        error = await refusal(stub(channel).ListFlows(LIST))
        assert error.code() is Code.UNAUTHENTICATED
        assert "wallaby token create" in (error.details() or "")


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda bearer: [("authorization", bearer)],
        lambda bearer: [("authorization", f"Basic {bearer}")],
        lambda bearer: [("authorization", f"Bearer {bearer}x")],
        lambda bearer: [("authorization", f"Bearer {bearer[:-1]}")],
        lambda bearer: [("authorization", "Bearer ")],
        lambda bearer: [("authorization", "Bearer " + "a" * 4_000)],
        lambda bearer: [("authorization", f"Bearer {bearer}"), ("authorization", f"Bearer {bearer}")],
    ],
)
async def test_a_spoilt_authorization_is_refused_and_nothing_of_it_is_repeated(
    store: Store, serving: Serving, caplog: pytest.LogCaptureFixture, spoil: Callable[[str], Any]
) -> None:
    bearer = add_token(store, Role.ADMIN)
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        error = await refusal(stub(channel).ListFlows(LIST, metadata=spoil(bearer)))
        assert error.code() is Code.UNAUTHENTICATED
        assert bearer[-20:-2] not in f"{error.details()}{error.trailing_metadata()}{caplog.text}"
        assert await stub(channel).ListFlows(LIST, metadata=[("authorization", f"bearer {bearer}")])
    [ok, refused] = await recorded(server, store)
    assert (ok.principal, refused.principal.split(":")[0], refused.role) == ("token:admin", "ipv4", None)
    assert bearer[-20:-2] not in f"{ok}{refused}"


@pytest.mark.parametrize("end", ["expired", "revoked"])
async def test_a_token_that_has_ended_is_refused_at_the_next_call(store: Store, serving: Serving, end: str) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    bearer = add_token(store, Role.ADMIN, expires_at=past if end == "expired" else None)
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        if end == "revoked":
            await stub(channel).ListFlows(LIST, metadata=bearing(bearer))
            store.revoke_token("admin", past)
        error = await refusal(stub(channel).ListFlows(LIST, metadata=bearing(bearer)))
        assert error.code() is Code.UNAUTHENTICATED


async def test_probes_need_no_token_and_reflection_does(serving: Serving) -> None:
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        assert (await refusal(anext(call.__aiter__()))).code() is Code.UNAUTHENTICATED


# What


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_reaches_its_methods_and_no_others(store: Store, serving: Serving, role: Role) -> None:
    bearer = add_token(store, role)
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        flows, secrets = stub(channel), access_pb2_grpc.SecretServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        calls = {
            Role.VIEWER: flows.ListFlows(LIST, metadata=bearing(bearer)),
            Role.OPERATOR: flows.StopFlow(flow_pb2.StopFlowRequest(flow_id="nope"), metadata=bearing(bearer)),
            Role.ADMIN: secrets.ListSecrets(access_pb2.ListSecretsRequest(), metadata=bearing(bearer)),
        }
        for needed, call in calls.items():
            try:
                await call
                code = Code.OK
            except grpc.aio.AioRpcError as error:
                code = error.code()
            assert (code is not Code.PERMISSION_DENIED) is role.covers(needed), needed


async def test_a_method_without_a_rule_is_refused_to_admins_too(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallaby.api.guard.RULES", {})
    server = await serving()
    async with connected(server) as channel:
        assert (await refusal(stub(channel).ListFlows(LIST))).code() is Code.PERMISSION_DENIED


async def test_a_method_that_does_not_exist_is_unimplemented(serving: Serving) -> None:
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        assert (await refusal(channel.unary_unary("/wallaby.v1.FlowService/Nope")(b""))).code() is Code.UNIMPLEMENTED


# How often


async def test_a_caller_over_its_rate_is_refused_and_others_are_not(store: Store, serving: Serving) -> None:
    bearers = [add_token(store, Role.VIEWER, name=name) for name in ("a", "b")]
    server = await serving(ApiLimits(calls_per_s=0.001, calls_burst=3), grpc_auth="on")
    async with connected(server) as channel:
        for _ in range(3):
            await stub(channel).ListFlows(LIST, metadata=bearing(bearers[0]))
        for _ in range(5):
            error = await refusal(stub(channel).ListFlows(LIST, metadata=bearing(bearers[0])))
            assert error.code() is Code.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata() or ())["wallaby-retry"] == "later"
        await stub(channel).ListFlows(LIST, metadata=bearing(bearers[1]))
    calls = await recorded(server, store)
    assert [call.code for call in calls if call.kind is CallKind.REFUSED] == ["RESOURCE_EXHAUSTED"]


async def test_many_wrong_tokens_are_slowed_and_never_keep_a_right_one_out(store: Store, serving: Serving) -> None:
    bearer = add_token(store, Role.VIEWER)
    server = await serving(ApiLimits(failures_per_s=0.001, failures_burst=2), grpc_auth="on")
    async with connected(server) as channel:
        codes = [(await refusal(stub(channel).ListFlows(LIST, metadata=bearing("x")))).code() for _ in range(30)]
        assert codes == [Code.UNAUTHENTICATED] * 2 + [Code.RESOURCE_EXHAUSTED] * 28
        await stub(channel).ListFlows(LIST, metadata=bearing(bearer))
    refused = [call for call in await recorded(server, store) if call.kind is CallKind.REFUSED]
    assert len(refused) == 3


async def test_a_request_beyond_the_size_is_refused_before_it_is_read(store: Store, serving: Serving) -> None:
    server = await serving(ApiLimits(request_bytes_max=10_000))
    async with connected(server) as channel:
        message = a_message("x" * 20_000)
        error = await refusal(stub(channel).CreateFlow(flow_pb2.CreateFlowRequest(flow=message)))
        assert error.code() is Code.RESOURCE_EXHAUSTED
    assert store.list_flows().flows == ()


# What is written down


async def test_every_call_is_recorded_with_who_what_flow_and_outcome(store: Store, serving: Serving) -> None:
    operator, viewer = add_token(store, Role.OPERATOR), add_token(store, Role.VIEWER)
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        flows = stub(channel)
        create = flow_pb2.CreateFlowRequest(flow=a_message())
        await flows.CreateFlow(create, metadata=bearing(operator, "r-1"))
        await flows.GetFlow(flow_pb2.GetFlowRequest(flow_id="shop"), metadata=bearing(viewer))
        await refusal(flows.DeleteFlow(flow_pb2.DeleteFlowRequest(flow_id="shop"), metadata=bearing(viewer)))
        await refusal(flows.StopFlow(flow_pb2.StopFlowRequest(flow_id="nope"), metadata=bearing(operator)))
        await refusal(flows.GetFlow(flow_pb2.GetFlowRequest(flow_id="\n'; DROP --"), metadata=bearing(viewer)))
        await refusal(flows.ListFlows(LIST))
    calls = await recorded(server, store)
    method = "wallaby.v1.FlowService/"
    shown = [(c.principal, c.role, c.kind, c.method.removeprefix(method), c.flow_id, c.code) for c in calls[::-1]]
    assert shown == [
        ("token:operator", Role.OPERATOR, CallKind.CHANGE, "CreateFlow", "shop", "OK"),
        ("token:viewer", Role.VIEWER, CallKind.READ, "GetFlow", "shop", "OK"),
        ("token:viewer", Role.VIEWER, CallKind.REFUSED, "DeleteFlow", "", "PERMISSION_DENIED"),
        ("token:operator", Role.OPERATOR, CallKind.CHANGE, "StopFlow", "nope", "NOT_FOUND"),
        ("token:viewer", Role.VIEWER, CallKind.READ, "GetFlow", "", "NOT_FOUND"),
        ("ipv4:127.0.0.1", None, CallKind.REFUSED, "ListFlows", "", "UNAUTHENTICATED"),
    ]
    assert calls[-1].request_id == "r-1"


async def test_a_change_is_answered_after_its_record_is_stored(store: Store, serving: Serving) -> None:
    server = await serving()
    async with connected(server) as channel:
        await stub(channel).CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
        assert [call.method for call in store.list_calls()] == ["wallaby.v1.FlowService/CreateFlow"]


async def test_an_open_watch_is_recorded_when_it_begins(store: Store, serving: Serving) -> None:
    server = await serving()
    async with connected(server) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        assert await anext(call.__aiter__())
        call.cancel()
    [record] = await recorded(server, store)
    assert (record.method.rpartition("/")[2], record.code) == ("ServerReflectionInfo", "OK")


async def test_a_watch_that_is_left_ends_at_once_behind_the_guard() -> None:
    """Otherwise what it holds would be let go by the garbage collector, some day."""
    ended: list[str] = []

    class OpenDoor:
        async def enter(self, read: Any, context: Any) -> Any:
            return None, await read()

        async def leave(self, *_: Any, is_done: bool) -> None:
            ended.append("recorded")

    async def watch(request: Any, context: Any) -> AsyncIterator[int]:
        try:
            while True:
                yield request
        finally:
            ended.append("closed")

    async def receive(stream: Any) -> Any:
        return stream

    answers = _generating(watch, receive, OpenDoor())(7, None)  # type: ignore[arg-type]  # a fake
    assert await anext(answers) == 7
    await answers.aclose()
    assert ended == ["recorded", "closed"]


class DeafStore:
    """The store, but for audit records, which it does not take while ``is_deaf``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_deaf = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def record_calls(self, records: Any) -> None:
        if self.is_deaf:
            raise StoreUnavailable("away")
        self._store.record_calls(records)


async def test_without_room_for_its_record_no_call_does_anything(
    store: Store, control: RememberingControl, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = DeafStore(store)
    limits = ApiLimits(audit_queue_max=3, audit_delay_ms=1, audit_wait_ms=1)
    server = await serve(deaf, control, Settings(grpc_listen="127.0.0.1:0"), limits=limits)  # type: ignore[arg-type]  # a fake
    async with connected(server) as channel:
        for _ in range(3):
            await stub(channel).ListFlows(LIST)
        error = await refusal(stub(channel).CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message())))
        assert (error.code(), "without a record" in (error.details() or "")) == (Code.UNAVAILABLE, True)
        assert store.list_flows().flows == ()
        deaf.is_deaf = False
        await server.stop(0)
    assert [call.code for call in store.list_calls()] == ["OK"] * 3


async def test_a_change_that_the_end_of_the_server_cut_off_is_recorded(
    store: Store, control: RememberingControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow is created, its wake-up hangs, and the server stops without waiting for it."""
    began, released = asyncio.Event(), asyncio.Event()

    async def hang(flow_id: str) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await released.wait()
            raise

    monkeypatch.setattr(control, "changed", hang)
    server = await serve(store, control, Settings(grpc_listen="127.0.0.1:0"))
    async with connected(server) as channel:
        create = flow_pb2.CreateFlowRequest(flow=a_message(id="shop"))
        call = asyncio.ensure_future(stub(channel).CreateFlow(create))
        await began.wait()
        await server.server.stop(0)
        stopping = asyncio.ensure_future(server.stop(0))
        done, _ = await asyncio.wait([stopping], timeout=0.1)
        assert not done, "the server ended without the record"
        released.set()
        await stopping
        [record] = store.list_calls()
        assert (record.flow_id, record.code) == ("shop", "CANCELLED")
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_a_stranger_is_answered_before_it_sends_anything(serving: Serving) -> None:
    server = await serving(grpc_auth="on")
    async with connected(server) as channel:
        call = channel.stream_unary("/wallaby.v1.FlowService/CreateFlow")()
        assert (await refusal(call)).code() is Code.UNAUTHENTICATED


async def test_a_call_that_ends_without_a_request_is_an_invalid_argument(serving: Serving) -> None:
    server = await serving()
    async with connected(server) as channel:
        call = channel.stream_unary("/wallaby.v1.FlowService/CreateFlow")(iter(()))
        assert (await refusal(call)).code() is Code.INVALID_ARGUMENT


@pytest.mark.must_not_fail(24)
async def test_an_error_nobody_expected_before_the_method_shows_no_text(
    store: Store, serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def leak(*_: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(tokens, "is_valid", leak)
    server = await serving()
    async with connected(server) as channel:
        error = await refusal(stub(channel).ListFlows(LIST, metadata=bearing(tokens.mint().bearer)))
        assert error.code() is Code.INTERNAL
        assert SECRET not in f"{error.details()}{caplog.text}"


# Once


async def test_a_repeated_change_gets_the_first_answer_and_changes_nothing(store: Store, serving: Serving) -> None:
    server = await serving()
    create = flow_pb2.CreateFlowRequest(flow=a_message(), start_immediately=True)
    async with connected(server) as channel:
        flows = stub(channel)
        first = await flows.CreateFlow(create, metadata=bearing("", "a"))
        await flows.StopFlow(flow_pb2.StopFlowRequest(flow_id="shop"), metadata=bearing("", "b"))
        store.move_flow("shop", Command.FINISH)
        again = await flows.CreateFlow(create, metadata=bearing("", "a"))
        assert again == first
        start = flow_pb2.StartFlowRequest(flow_id="shop")
        running = await flows.StartFlow(start, metadata=bearing("", "c"))
        store.move_flow("shop", Command.STOP)
        assert await flows.StartFlow(start, metadata=bearing("", "c")) == running
        assert store.get_flow("shop").state == "stopping"
        store.move_flow("shop", Command.FINISH)
        delete = flow_pb2.DeleteFlowRequest(flow_id="shop")
        for _ in range(2):
            assert (await flows.DeleteFlow(delete, metadata=bearing("", "d"))).deleted
        assert (await refusal(flows.DeleteFlow(delete))).code() is Code.NOT_FOUND


async def test_an_update_that_was_answered_into_the_void_can_be_repeated(store: Store, serving: Serving) -> None:
    """Without the id the repeat would be told that somebody else was faster: it was itself."""
    server = await serving()
    async with connected(server) as channel:
        flows = stub(channel)
        await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
        update = flow_pb2.UpdateFlowRequest(flow=a_message(id="shop", parallelism=2), expected_revision=1)
        answers = [await flows.UpdateFlow(update, metadata=bearing("", "u")) for _ in range(3)]
        assert {answer.revision for answer in answers} == {2}
        assert (await refusal(flows.UpdateFlow(update))).code() is Code.ABORTED


async def test_of_what_holds_secrets_no_request_is_kept_in_any_form() -> None:
    metadata = {"wallaby-request-id": ["a"]}
    for path, rule in RULES.items():
        if rule.is_change:
            call = _call(path, rule, LOCAL, metadata, access_pb2.PutSecretRequest(name="a", value=SECRET))
            assert (call.request is not None) is rule.keeps_answer, path


async def test_an_id_belongs_to_one_request_of_one_caller(store: Store, serving: Serving) -> None:
    other = add_token(store, Role.OPERATOR)
    server = await serving()
    async with connected(server) as channel:
        flows = stub(channel)
        await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()), metadata=bearing("", "a"))
        changed = flow_pb2.CreateFlowRequest(flow=a_message(parallelism=2))
        error = await refusal(flows.CreateFlow(changed, metadata=bearing("", "a")))
        assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, ["wallaby-request-id"])
        same = flow_pb2.CreateFlowRequest(flow=a_message())
        error = await refusal(flows.CreateFlow(same, metadata=bearing(other, "a")))
        assert error.code() is Code.ALREADY_EXISTS


@pytest.mark.parametrize("metadata", [[""], ["a b"], ["x" * 129], ["a", "b"]])
async def test_what_is_no_request_id_is_an_invalid_argument(serving: Serving, metadata: list[str]) -> None:
    server = await serving()
    async with connected(server) as channel:
        call = stub(channel).ListFlows(LIST, metadata=[("wallaby-request-id", value) for value in metadata])
        error = await refusal(call)
        assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, ["wallaby-request-id"])


async def test_a_run_that_nobody_took_may_be_asked_for_again(
    store: Store, serving: Serving, control: RememberingControl
) -> None:
    server = await serving()
    async with connected(server) as channel:
        flows = stub(channel)
        await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
        request = flow_pb2.RunFlowOnceRequest(flow_id="shop")
        control.runs = False
        error = await refusal(flows.RunFlowOnce(request, metadata=bearing("", "r")))
        assert error.code() is Code.FAILED_PRECONDITION
        control.runs = True
        for _ in range(2):
            assert (await flows.RunFlowOnce(request, metadata=bearing("", "r"))).dispatched
        assert (await refusal(flows.RunFlowOnce(request))).code() is Code.FAILED_PRECONDITION


async def test_the_same_request_sent_many_times_at_once_runs_once(store: Store, serving: Serving) -> None:
    server = await serving()
    create = flow_pb2.CreateFlowRequest(flow=a_message())
    async with connected(server) as channel:
        calls = [stub(channel).CreateFlow(create, metadata=bearing("", "a")) for _ in range(8)]
        answers = await asyncio.gather(*calls)
        assert all(answer == answers[0] for answer in answers)
        assert answers[0].state == types_pb2.FLOW_STATE_CREATED
