"""StreamService over a real server: the Go contract, claims, waiting pulls, groups, and input nobody should send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from tests.rds import REGION, RdsDoor, aws, door
from tests.wallaby.api.conftest import RememberingControl
from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop
from wallaby.api.server import serve
from wallaby.settings import Settings
from wallaby.store import Store
from wallaby.v1 import stream_pb2 as pb
from wallaby.v1 import stream_pb2_grpc

__all__ = ["aws", "door"]

Code = grpc.StatusCode


@pytest.fixture
async def api(shop: Shop, store: Store) -> AsyncIterator[Any]:
    settings = Settings(grpc_listen="127.0.0.1:0", stream_dsn=shop.database.dsn)
    server = await serve(store, RememberingControl(), settings)
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
    await server.stop(0)


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def pull(**more: Any) -> pb.StreamPullRequest:
    return pb.StreamPullRequest(stream=STREAM, consumer_group=GROUP, **more)


async def test_a_client_of_the_go_contract_pulls_acknowledges_and_replays(api: Any, shop: Shop) -> None:
    shop.publish(Message('{"a":1}', lsn=0x16B374D848), "b", "c")
    answer = await api.Pull(pull(max_messages=2, visibility_timeout_seconds=60, consumer_id="one"))
    first, _ = answer.messages
    assert (first.id, first.stream, first.namespace, first.table) == (1, STREAM, "public", "orders")
    assert (first.lsn, first.wire_format, first.payload) == ("16/B374D848", "json", b'{"a":1}')
    assert abs(first.created_at.ToDatetime(UTC) - datetime.now(UTC)).total_seconds() < 600
    acked = await api.Ack(pb.StreamAckRequest(stream=STREAM, consumer_group=GROUP, ids=[1, 2, 3]))
    assert (acked.acked, list(acked.stale_ids)) == (2, [3])
    replayed = await api.Replay(pb.StreamReplayRequest(stream=STREAM, consumer_group=GROUP, from_lsn="16/0"))
    assert replayed.reset == 1
    again = await api.Pull(pull())
    assert [message.id for message in again.messages] == [1, 3]
    everything = await api.Replay(pb.StreamReplayRequest(stream=STREAM, consumer_group=GROUP, since=first.created_at))
    assert everything.reset == 3


async def test_claims_are_owned_extended_and_given_back(api: Any, shop: Shop) -> None:
    shop.publish("a", "b")
    one, two = (await api.Pull(pull(consumer_id="one"))).messages
    assert (one.attempts, one.operation, one.key) == (1, "insert", "")
    named = {"stream": STREAM, "consumer_group": GROUP}
    extended = await api.Extend(
        pb.StreamExtendRequest(**named, ids=[1, 2], claims=[one.claim, one.claim + 1], visibility_timeout_seconds=90)
    )
    assert (extended.extended, list(extended.stale_ids)) == (1, [2])
    returned = await api.Nack(pb.StreamNackRequest(**named, ids=[2], claims=[two.claim]))
    assert returned.returned == 1
    [again] = (await api.Pull(pull(consumer_id="two"))).messages
    assert (again.id, again.attempts) == (2, 2)
    late = await api.Ack(pb.StreamAckRequest(**named, ids=[1, 2], claims=[one.claim, two.claim]))
    assert (late.acked, list(late.stale_ids)) == (1, [2])
    assert list((await api.Ack(pb.StreamAckRequest(**named, ids=[2], consumer_id="one"))).stale_ids) == [2]


async def test_a_pull_that_waits_is_woken_by_the_publisher(api: Any, shop: Shop) -> None:
    waiting = [asyncio.ensure_future(api.Pull(pull(wait_seconds=60, max_messages=1))) for _ in range(2)]
    await api.GetLag(pb.StreamGetLagRequest(stream=STREAM))
    assert not any(call.done() for call in waiting)
    await asyncio.to_thread(shop.publish, "a", "b")
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 50)
    assert sorted(message.id for answer in answers for message in answer.messages) == [1, 2], answers


async def test_a_pull_that_waits_in_vain_ends_empty(api: Any) -> None:
    assert list((await api.Pull(pull(wait_seconds=1))).messages) == []


async def test_groups_lag_dead_messages_and_their_return(api: Any, shop: Shop) -> None:
    shop.publish(Message("poison", key="a"), Message("fine", key="b"))
    named = {"stream": STREAM, "consumer_group": GROUP}
    made = await api.ConfigureGroup(pb.StreamConfigureGroupRequest(**named, ordered=True, max_attempts=1))
    assert (made.ordered, made.max_attempts, made.last_id) == (True, 1, 2)
    kept = await api.ConfigureGroup(pb.StreamConfigureGroupRequest(**named))
    assert (kept.ordered, kept.max_attempts) == (True, 1)
    await api.Pull(pull())
    await api.Nack(pb.StreamNackRequest(**named, ids=[1]))
    [group] = (await api.ListGroups(pb.StreamListGroupsRequest(stream=STREAM))).groups
    assert (group.consumer_group, group.dead, group.claimed, group.pending) == (GROUP, 1, 1, 0)
    [lag] = (await api.GetLag(pb.StreamGetLagRequest(**named))).groups
    assert (lag.messages, lag.bytes) == (1, 0)
    assert lag.seconds > 0
    dead = await api.ListDeadMessages(pb.StreamListDeadMessagesRequest(**named, page_size=1))
    assert [message.payload for message in dead.messages] == [b"poison"]
    rest = await api.ListDeadMessages(pb.StreamListDeadMessagesRequest(**named, page_token=dead.next_page_token))
    assert list(rest.messages) == []
    assert (await api.Redrive(pb.StreamRedriveRequest(**named))).redriven == 1
    assert (await api.DeleteGroup(pb.StreamDeleteGroupRequest(**named))).deleted
    assert (await refusal(api.GetLag(pb.StreamGetLagRequest(**named)))).code() is Code.NOT_FOUND


async def test_without_a_database_of_streams_calls_are_refused_with_advice(store: Store) -> None:
    server = await serve(store, RememberingControl(), Settings(grpc_listen="127.0.0.1:0"))
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub: Any = stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        for request in (pull(), pull(wait_seconds=1)):
            error = await refusal(stub.Pull(request))
            assert error.code() is Code.FAILED_PRECONDITION
            assert "WALLABY_STREAM_DSN" in (error.details() or "")
    await server.stop(0)


async def test_a_database_of_streams_takes_a_token(
    shop: Shop, store: Store, door: RdsDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for dsn, code in (
        (door.dsn("postgres", shop.database.name), Code.OK),
        (door.dsn("postgres:hunter2", shop.database.name), Code.FAILED_PRECONDITION),
    ):
        settings = Settings(grpc_listen="127.0.0.1:0", stream_dsn=dsn, stream_rds_iam=True)
        server = await serve(store, RememberingControl(), settings)
        async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
            stub: Any = stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            if code is Code.OK:
                assert list((await stub.ListGroups(pb.StreamListGroupsRequest(stream=STREAM))).groups) == []
            else:
                error = await refusal(stub.ListGroups(pb.StreamListGroupsRequest(stream=STREAM)))
                assert error.code() is code
                assert "holds a password" in (error.details() or "")
                assert "hunter2" not in (error.details() or "")
        await server.stop(0)
    assert len(door.logins) == 1


@pytest.mark.must_not_fail(24)
async def test_an_unreachable_database_is_unavailable_and_shows_no_secret(store: Store) -> None:
    settings = Settings(grpc_listen="127.0.0.1:0", stream_dsn="postgresql://user:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in repr(settings)
    server = await serve(store, RememberingControl(), settings)
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub: Any = stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        error = await refusal(stub.Pull(pull()))
        assert error.code() is Code.UNAVAILABLE
        assert "hunter2" not in (error.details() or "")
    await server.stop(0)


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("Pull", pb.StreamPullRequest(consumer_group="g"), "stream"),
        ("Pull", pb.StreamPullRequest(stream="s"), "consumer_group"),
        ("Pull", pb.StreamPullRequest(stream="s\0", consumer_group="g"), "stream"),
        ("Pull", pb.StreamPullRequest(stream="s" * 300, consumer_group="g"), "stream"),
        ("Pull", pull(max_messages=-1), "max_messages"),
        ("Pull", pull(max_messages=2**31 - 1), "max_messages"),
        ("Pull", pull(visibility_timeout_seconds=-1), "visibility_timeout_seconds"),
        ("Pull", pull(wait_seconds=-1), "wait_seconds"),
        ("Pull", pull(wait_seconds=61), "wait_seconds"),
        ("Pull", pull(max_bytes=-1), "max_bytes"),
        ("Pull", pull(consumer_id="x" * 256), "consumer_id"),
        ("Ack", pb.StreamAckRequest(stream=STREAM, consumer_group=GROUP), "ids"),
        ("Ack", pb.StreamAckRequest(stream=STREAM, consumer_group=GROUP, ids=[1, 2], claims=[1]), "claims"),
        ("Nack", pb.StreamNackRequest(stream=STREAM, consumer_group=GROUP, ids=[1], delay_seconds=-1), "delay_seconds"),
        ("Extend", pb.StreamExtendRequest(stream=STREAM, consumer_group=GROUP), "ids"),
        ("Replay", pb.StreamReplayRequest(stream=STREAM, consumer_group=GROUP, from_lsn="'; DROP"), "from_lsn"),
        ("Replay", pb.StreamReplayRequest(stream=STREAM, consumer_group=GROUP, since={"seconds": 2**60}), "since"),
        ("ListGroups", pb.StreamListGroupsRequest(), "stream"),
        (
            "ListDeadMessages",
            pb.StreamListDeadMessagesRequest(stream="s", consumer_group="g", page_token="x"),
            "page_token",
        ),
        (
            "ListDeadMessages",
            pb.StreamListDeadMessagesRequest(stream="s", consumer_group="g", page_size=-1),
            "page_size",
        ),
        (
            "ConfigureGroup",
            pb.StreamConfigureGroupRequest(stream=STREAM, consumer_group=GROUP, max_attempts=-1),
            "max_attempts",
        ),
    ],
)
async def test_input_that_cannot_be_is_an_invalid_argument_with_its_field(
    api: Any, method: str, request_: Any, field: str
) -> None:
    error = await refusal(getattr(api, method)(request_))
    assert error.code() is Code.INVALID_ARGUMENT, error.details()
    metadata = error.trailing_metadata()
    assert metadata is not None
    assert [value for key, value in metadata if key == "wallaby-field"] == [field]


async def test_every_call_is_in_the_audit_log(shop: Shop, store: Store) -> None:
    shop.publish("a")
    settings = Settings(grpc_listen="127.0.0.1:0", stream_dsn=shop.database.dsn)
    server = await serve(store, RememberingControl(), settings)
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub: Any = stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        named = {"stream": STREAM, "consumer_group": GROUP}
        await stub.Pull(pull())
        await stub.Ack(pb.StreamAckRequest(**named, ids=[1]))
        await stub.Replay(pb.StreamReplayRequest(**named))
        await refusal(stub.Pull(pb.StreamPullRequest(stream=STREAM)))
        await stub.DeleteGroup(pb.StreamDeleteGroupRequest(**named))
    await server.stop(0)
    calls = [(call.method.rpartition("/")[2], call.kind.value, call.code) for call in store.list_calls(limit=20)]
    assert sorted(calls) == [
        ("Ack", "read", "OK"),
        ("DeleteGroup", "change", "OK"),
        ("Pull", "read", "INVALID_ARGUMENT"),
        ("Pull", "read", "OK"),
        ("Replay", "change", "OK"),
    ]


async def test_what_does_not_exist_is_not_found(api: Any) -> None:
    for method, request in (
        ("Ack", pb.StreamAckRequest(stream=STREAM, consumer_group="none", ids=[1])),
        ("Replay", pb.StreamReplayRequest(stream="none", consumer_group="none")),
        ("ListGroups", pb.StreamListGroupsRequest(stream="none")),
        ("DeleteGroup", pb.StreamDeleteGroupRequest(stream=STREAM, consumer_group="none")),
    ):
        assert (await refusal(getattr(api, method)(request))).code() is Code.NOT_FOUND, method
