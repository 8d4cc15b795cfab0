"""``wallaby stream …`` against a real API: the Go tool's output for people and machines."""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wallaby.api.conftest import RememberingControl
from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop
from wallaby import cli
from wallaby.api.server import serve
from wallaby.errors import ConfigError, NotFound
from wallaby.settings import Settings
from wallaby.store.opening import open_sqlite


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    cli.register(parser.add_subparsers(dest="command"))
    return parser.parse_args(cli.long_flags(["stream", *words]))


@pytest.fixture
def wallaby(shop: Shop, tmp_path: Path) -> Iterator[Callable[..., str]]:
    store = open_sqlite(tmp_path / "state")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    settings = Settings(grpc_listen="127.0.0.1:0", stream_dsn=shop.database.dsn)
    server = call(serve(store, RememberingControl(), settings))

    def run(*words: str) -> str:
        output = io.StringIO()
        assert cli.run(parsed(*words, "-stream", STREAM, "-endpoint", server.address), output) == 0
        return output.getvalue()

    yield run
    call(server.stop(0))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    store.close()


def test_messages_are_pulled_acknowledged_and_replayed(wallaby: Callable[..., str], shop: Shop) -> None:
    assert wallaby("pull", "-group", GROUP) == "No messages available.\n"
    shop.publish(Message("12345", lsn=0x16B374D848), "b", "c")
    assert wallaby("pull", "-group", GROUP, "-max", "2").splitlines() == [
        "Pulled 2 messages:",
        "- id=1 table=orders lsn=16/B374D848 bytes=5",
        "- id=2 table=orders lsn=0/1000 bytes=1",
    ]
    assert wallaby("ack", "-group", GROUP, "-ids", "1, 2") == "Acked 2 messages\n"
    assert wallaby("ack", "-group", GROUP, "-ids", "2,3").splitlines() == [
        "Acked 1 messages",
        "Stale (not ours any more): 3",
    ]
    assert (
        wallaby("replay", "-group", GROUP, "-from-lsn", "16/0")
        == f"Reset 1 deliveries for stream {STREAM} group {GROUP}\n"
    )
    since = wallaby("replay", "-group", GROUP, "-since=2020-01-01T00:00:00Z", "-json")
    assert json.loads(since) == {"stream": STREAM, "consumer_group": GROUP, "reset": 2}


def test_json_has_the_go_tools_keys(wallaby: Callable[..., str], shop: Shop) -> None:
    shop.publish("a")
    value = json.loads(wallaby("pull", "-group", GROUP, "-json", "-consumer", "me", "-wait-seconds", "1"))
    assert list(value) == ["stream", "consumer_group", "count", "messages"]
    [message] = value["messages"]
    assert list(message)[:6] == ["id", "namespace", "table", "lsn", "wire_format", "payload_base64"]
    assert base64.b64decode(message["payload_base64"]) == b"a"
    claim = str(message["claim"])
    assert json.loads(wallaby("extend", "-group", GROUP, "-ids", "1", "-claims", claim, "-json")) == {
        "extended": 1,
        "stale_ids": [],
    }
    assert wallaby("nack", "-group", GROUP, "-ids", "1", "-consumer", "me") == "Gave back 1 messages\n"
    late = wallaby("ack", "-group", GROUP, "-ids", "1", "-claims", claim, "-pretty")
    assert json.loads(late) == {"acked": 0, "stale_ids": [1]}


def test_a_message_larger_than_grpcs_limit_arrives(wallaby: Callable[..., str], shop: Shop) -> None:
    shop.publish("x" * (5 << 20))
    assert wallaby("pull", "-group", GROUP).splitlines()[1].endswith(f"bytes={5 << 20}")


def test_groups_are_configured_listed_and_deleted(wallaby: Callable[..., str], shop: Shop) -> None:
    assert wallaby("groups") == "No groups found.\n"
    configured = wallaby("configure", "-group", GROUP, "-ordered", "-max-attempts", "1")
    assert configured == f"Group {GROUP} of stream {STREAM}: ordered by key, 1 attempts\n"
    shop.publish("a", "bc")
    wallaby("pull", "-group", GROUP, "-max", "1")
    assert [line.split() for line in wallaby("groups").splitlines()] == [
        ["GROUP", "ORDERED", "MAX", "ATTEMPTS", "PENDING", "CLAIMED", "AVAILABLE", "BLOCKED", "DEAD"],
        [GROUP, "yes", "1", "1", "1", "0", "0", "0"],
    ]
    lag = wallaby("lag").splitlines()
    assert lag[0].split() == ["GROUP", "MESSAGES", "BYTES", "SECONDS"]
    assert lag[1].split()[:3] == [GROUP, "2", "2"]
    [one] = json.loads(wallaby("lag", "-group", GROUP, "-json"))["groups"]
    assert (one["messages"], one["bytes"]) == (2, 2)
    wallaby("nack", "-group", GROUP, "-ids", "1")
    assert wallaby("dead", "-group", GROUP).splitlines()[0] == "1 dead messages:"
    assert wallaby("redrive", "-group", GROUP, "-ids", "1") == "Redrove 1 messages\n"
    assert wallaby("configure", "-group", GROUP, "-ordered=false", "-max-attempts", "0").endswith(
        "without order, any number of attempts\n"
    )
    assert wallaby("delete-group", "-group", GROUP) == f"Deleted group {GROUP} of stream {STREAM}\n"
    with pytest.raises(NotFound):
        wallaby("lag", "-group", GROUP)


@pytest.mark.parametrize(
    "words",
    [
        ("ack", "-group", "g", "-ids", "one"),
        ("ack", "-group", "g", "-ids", ","),
        ("ack", "-group", "g", "-ids", "1", "-claims", "x"),
        ("pull", "-group", "g", "-max", "0"),
        ("pull", "-group", "g", "-visibility", "-1"),
        ("replay", "-group", "g", "-since", "yesterday"),
        ("replay", "-group", "g", "-since", "2020-01-01T00:00:00"),
        ("replay", "-group", "g", "-from-lsn", "nowhere"),
        ("configure", "-group", "g", "-max-attempts", "-1"),
    ],
)
def test_words_that_mean_nothing_are_usage_errors(wallaby: Callable[..., str], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        wallaby(*words)
