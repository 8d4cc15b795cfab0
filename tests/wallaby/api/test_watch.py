"""WatchFlow over a real server: present states first, then every change once and in order, from any cursor on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.wallaby.api.conftest import a_message
from tests.wallaby.api.test_server import Code, fields, refusal
from wallaby.api.server import ApiServer
from wallaby.api.stores import StoreThread
from wallaby.api.watch import ChangeFeed
from wallaby.errors import StoreUnavailable
from wallaby.lifecycle import Command
from wallaby.store import Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.store_contract import a_flow
from wallaby.v1 import flow_pb2, flow_pb2_grpc, types_pb2

ANSWER_S = 30


class Watch:
    """A running WatchFlow call, read one event at a time."""

    def __init__(self, flows: Any, flow_id: str = "", cursor: int = 0) -> None:
        self.call = flows.WatchFlow(flow_pb2.WatchFlowRequest(flow_id=flow_id, cursor=cursor))

    async def next(self) -> Any:
        event = await asyncio.wait_for(self.call.read(), ANSWER_S)
        assert event is not grpc.aio.EOF
        return event

    async def said(self, count: int) -> list[tuple[str, str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(event.flow_id, event.command, types_pb2.FlowState.Name(event.after)[11:]) for event in events]


async def test_a_watch_begins_with_what_is_and_goes_on_with_what_changes(flows: Any, store: Store) -> None:
    store.create_flow(a_flow())
    store.create_flow(a_flow("other", dsn="env:OTHER_DSN"))
    watching = Watch(flows)
    assert await watching.said(2) == [("other", "", "CREATED"), ("shop", "", "CREATED")]
    await flows.StartFlow(flow_pb2.StartFlowRequest(flow_id="shop"))
    await flows.StopFlow(flow_pb2.StopFlowRequest(flow_id="shop"))
    store.move_flow("shop", Command.FINISH, "drained")
    await flows.UpdateFlow(flow_pb2.UpdateFlowRequest(flow=a_message(id="shop")))
    await flows.DeleteFlow(flow_pb2.DeleteFlowRequest(flow_id="shop"))
    assert await watching.said(5) == [
        ("shop", "start", "RUNNING"),
        ("shop", "stop", "STOPPING"),
        ("shop", "finish", "PAUSED"),
        ("shop", "update", "PAUSED"),
        ("shop", "delete", "PAUSED"),
    ]
    watching.call.cancel()


async def test_a_watch_goes_on_after_any_cursor(flows: Any, store: Store) -> None:
    store.create_flow(a_flow())
    for command in (Command.START, Command.STOP, Command.FINISH, Command.RESUME):
        store.move_flow("shop", command, "why")
    first = store.events_after(0)[0].cursor
    watching = Watch(flows, cursor=first)
    events = [await watching.next() for _ in range(4)]
    assert [event.command for event in events] == ["start", "stop", "finish", "resume"]
    assert (events[1].before, events[1].after) == (types_pb2.FLOW_STATE_RUNNING, types_pb2.FLOW_STATE_STOPPING)
    assert (events[0].reason, events[0].at.seconds > 0) == ("why", True)
    again = Watch(flows, cursor=events[2].cursor)
    assert await again.next() == events[3]
    for each in (watching, again):
        each.call.cancel()


async def test_one_flow_is_watched_without_the_others(flows: Any, store: Store) -> None:
    store.create_flow(a_flow())
    store.create_flow(a_flow("other", dsn="env:OTHER_DSN"))
    watching = Watch(flows, "shop")
    assert await watching.said(1) == [("shop", "", "CREATED")]
    store.move_flow("other", Command.START)
    store.move_flow("shop", Command.START)
    assert await watching.said(1) == [("shop", "start", "RUNNING")]
    watching.call.cancel()


async def test_changes_of_another_process_are_seen_too(flows: Any, store: Store, tmp_path: Path) -> None:
    store.create_flow(a_flow())
    watching = Watch(flows)
    await watching.said(1)
    elsewhere = open_sqlite(tmp_path / "state")
    elsewhere.move_flow("shop", Command.START)
    elsewhere.close()
    assert await watching.said(1) == [("shop", "start", "RUNNING")]
    watching.call.cancel()


async def test_many_watchers_are_all_told(flows: Any, store: Store) -> None:
    store.create_flow(a_flow())
    watchers = [Watch(flows) for _ in range(20)]
    for each in watchers:
        await each.said(1)
    store.move_flow("shop", Command.START)
    for each in watchers:
        assert await each.said(1) == [("shop", "start", "RUNNING")]
        each.call.cancel()


async def test_the_number_of_watchers_is_bounded_and_places_come_free_again(store: Store) -> None:
    with ThreadPoolExecutor(1) as executor:
        feed = ChangeFeed(StoreThread(store, executor), watchers_max=2)
        async with feed.watching(), feed.watching():
            with pytest.raises(StoreUnavailable, match="2 clients watch already"):
                async with feed.watching():
                    raise AssertionError("a third watcher came in")
        async with feed.watching():
            await feed.close()
        with pytest.raises(StoreUnavailable, match="stopping"):
            async with feed.watching():
                raise AssertionError("a watcher came into a closed feed")


async def test_nobody_waits_for_a_poller_that_failed_and_the_next_watcher_has_a_new_one(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(StoreThread):
        async def look(self, call: Any) -> Any:
            raise RuntimeError("a defect")

    with ThreadPoolExecutor(1) as executor:
        feed = ChangeFeed(Failing(store, executor), watchers_max=2)
        async with feed.watching():
            with pytest.raises(StoreUnavailable, match="interrupted"):
                await feed.changed_since(feed.changes)
        feed._store = StoreThread(store, executor)
        async with feed.watching():
            assert await feed.changed_since(feed.changes) > 0
    gc.collect()
    assert "a defect" in caplog.text, "the event loop tells what nobody awaited"


@pytest.mark.parametrize("cursor", [-1, 2**62])
async def test_a_cursor_that_cannot_be_is_refused(flows: Any, cursor: int) -> None:
    error = await refusal(Watch(flows, cursor=cursor).call.read())
    assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, ["cursor"])


async def test_a_stopping_server_ends_watches_so_that_clients_come_back(
    server: ApiServer, flows: Any, store: Store
) -> None:
    store.create_flow(a_flow())
    watching = Watch(flows)
    await watching.said(1)
    await server.stop(10)
    error = await refusal(watching.call.read())
    assert error.code() is Code.UNAVAILABLE


async def test_nobody_polls_the_store_when_nobody_watches(
    server: ApiServer, flows: Any, channel: grpc.aio.Channel, store: Store
) -> None:
    feed = server._feed
    watching = Watch(flow_pb2_grpc.FlowServiceStub(channel))  # type: ignore[no-untyped-call]  # generated
    store.create_flow(a_flow())
    await watching.said(1)
    assert feed._poller is not None
    watching.call.cancel()
    await _until(lambda: feed._poller is None)


async def _until(is_so: Callable[[], bool]) -> None:
    """Let the loop run: the server's side of a cancelled call ends in it."""
    async with asyncio.timeout(ANSWER_S):
        while not is_so():
            await asyncio.sleep(0)  # lets the loop run: the server's side ends in it
