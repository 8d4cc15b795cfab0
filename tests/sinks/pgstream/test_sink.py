"""What the pgstream destination publishes: order, barriers, keys, large transactions, and its options."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sinks.pgstream import FACTORY
from sinks.pgstream.sink import PgstreamSink
from tests.sinks.crashes import state_of, write_and_die
from tests.sinks.crashing_writer import history_of
from tests.sinks.lane import TestLane
from tests.sinks.pgstream.reading import key_of, log_of, messages
from wallaby.endpoints import sink_factory
from wallaby.errors import ConfigError
from wallaby.flow import FlowSpec
from wallaby.streams import Claim, Streams
from wallaby.testing.changes import Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import multiset
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId

ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
LINES = table("public.lines", {"id": "int8", "note": "text"}, key=["id"])


@pytest.fixture
def lane(target_database: ScratchDatabase) -> Iterator[Callable[..., TestLane]]:
    made: list[PgstreamSink] = []

    def make(*, index: int = 0, count: int = 1, flow: str = "flow", **options: Any) -> TestLane:
        sink = FACTORY.create({"dsn": target_database.dsn, **options}, destination="target")
        made.append(sink)
        sink.open()
        return TestLane(sink, LaneId(flow, "target", index, count))

    yield make
    for sink in made:
        sink.close()


def test_messages_of_several_tables_are_in_the_order_of_the_transaction(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    lane().apply_all(
        windows_of(
            [
                (ORDERS, insert(1, "a")),
                (LINES, insert(1, "b")),
                (ORDERS, update(2, "c", old=[1])),
                (LINES, delete(1)),
                (ORDERS, insert(3, "d")),
            ]
        )
    )
    found = messages(target_database)
    assert [(m["table"], m["operation"], m["ordinal"]) for m in found] == [
        ("orders", "insert", 0),
        ("lines", "insert", 1),
        ("orders", "delete", 2),
        ("orders", "update", 2),
        ("lines", "delete", 3),
        ("orders", "insert", 4),
    ]
    assert [key_of(m) for m in found[2:4]] == [{"id": 1}, {"id": 2}]


def test_a_truncate_is_a_message_in_its_place(lane: Callable[..., TestLane], target_database: ScratchDatabase) -> None:
    lane().apply_all(windows_of([(ORDERS, insert(1, "a"))], [Truncate((ORDERS.name, LINES.name))]))
    found = messages(target_database)
    assert [(m["table"], m["operation"]) for m in found] == [
        ("orders", "insert"),
        ("orders", "truncate"),
        ("lines", "truncate"),
    ]
    assert "key" not in found[1]
    assert "after" not in found[1]


def test_consumers_pull_what_the_sink_published(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    lane(stream="orders-stream").apply_all(windows_of([(ORDERS, insert(1, "a"))], [(ORDERS, insert(2, "b"))]))
    streams = Streams(target_database.dsn)
    first, second = streams.pull("orders-stream", "g")
    assert (first.table, first.namespace, first.operation, first.key) == ("orders", "public", "insert", '{"id":1}')
    assert first.lsn < second.lsn
    assert first.wire_format == "json"
    streams.close()


@pytest.mark.must_not_fail(14)
def test_a_transaction_larger_than_memory_allows_is_published_whole_and_in_order(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    steps = [(ORDERS if n % 2 else LINES, insert(n, "x" * 500)) for n in range(400)]
    windows = windows_of(*[steps[n : n + 40] for n in range(0, 400, 40)])
    large = lane(apply_bytes_max=1 << 16)
    for window in windows:
        large.write(window)
        assert messages(target_database) == []
    large.writer.commit(large.token(windows[-1].upto, 400))
    rows = target_database.fetch(
        "SELECT count(*), min(id), max(id), max(total_bytes) = sum(octet_length(payload)) FROM wallaby.stream_events"
    )
    assert rows == [(400, 1, 400, True)]
    found = messages(target_database)
    assert [m["after"]["id"] for m in found] == list(range(400))


@pytest.mark.must_not_fail(2)
def test_what_was_staged_and_aborted_is_not_published_later(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    steps = [(ORDERS, insert(n, "x" * 500)) for n in range(200)]
    [large] = windows_of(steps)
    [small] = windows_of([(ORDERS, insert(1, "only"))])
    one = lane(apply_bytes_max=1 << 16)
    one.write(large)
    one.writer.abort()
    one.apply(small)
    assert [m["after"] for m in messages(target_database)] == [{"id": 1, "note": "only"}]


def test_two_flows_publish_to_one_stream_at_once(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    one, two = lane(flow="one", stream="both"), lane(flow="two", stream="both")
    for first, second in zip(
        windows_of(*[[(ORDERS, insert(n, "one"))] for n in range(10)]),
        windows_of(*[[(ORDERS, insert(n, "two"))] for n in range(10)]),
        strict=True,
    ):
        one.write(first)
        two.write(second)
        two.position = two.writer.commit(two.token(second.upto, 1)).upto
        one.position = one.writer.commit(one.token(first.upto, 1)).upto
    found = [m["after"]["note"] for m in messages(target_database, stream="both")]
    assert found == ["two", "one"] * 10


@pytest.mark.must_not_fail(19)
def test_a_repeated_copy_begins_with_a_truncate_for_the_consumers(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    first = lane()
    first.apply_all(windows_of([(ORDERS, insert(1, "a"))]))
    first.sink.reset_table(LINES.name, first.lane, 1)
    first.sink.reset_table(ORDERS.name, first.lane, 1)
    found = messages(target_database)
    assert [(m["table"], m["operation"], m["lsn"]) for m in found[1:]] == [("orders", "truncate", "0/0")]


def test_retention_of_the_options_is_that_of_the_stream(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    lane(retention_age="0s", retention_bytes="1MiB")
    query = "SELECT retention_age::text, retention_bytes, removes_unacked FROM wallaby.streams"
    assert target_database.fetch(query) == [("00:00:00", 1 << 20, False)]
    second = lane(flow="again", retention_age="1h", retention_unacked="remove")
    assert target_database.fetch(query) == [("01:00:00", None, True)]
    target_database.execute("UPDATE wallaby.streams SET retained_at = 'epoch'")
    second.apply_all(windows_of([(ORDERS, insert(1, "old"))]))
    target_database.execute(
        "UPDATE wallaby.stream_events SET created_at = 'epoch'", "UPDATE wallaby.streams SET retained_at = 'epoch'"
    )
    [_, window] = windows_of([(ORDERS, insert(1, "old"))], [(ORDERS, insert(2, "new"))])
    second.apply(window)
    assert [m["after"]["id"] for m in messages(target_database)] == [2]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"write_mode": "target"}, "write_mode"),
        ({"write_mode": "mirror"}, "write_mode"),
        ({"format": "avro"}, "format"),
        ({"stream": "x" * 256}, "stream"),
        ({"retention_age": "soon"}, "retention_age"),
        ({"retention_unacked": "perhaps"}, "retention_unacked"),
        ({"strem": "typo"}, "strem"),
        ({"dsn": ""}, "dsn"),
    ],
)
def test_options_that_cannot_be_are_refused_with_their_path(options: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FACTORY.describe({"dsn": "postgresql://127.0.0.1/x", **options})
    assert field in str(caught.value) or caught.value.where.get("field") == field


def test_a_flow_of_the_go_wallaby_with_a_stream_is_valid() -> None:
    spec = FlowSpec.from_mapping(
        {
            "name": "events",
            "wire_format": "json",
            "source": {"type": "postgres", "options": {"dsn": "postgresql://127.0.0.1/shop", "slot": "s"}},
            "destinations": [
                {
                    "name": "stream",
                    "type": "pgstream",
                    "options": {"dsn": "postgresql://127.0.0.1/app", "stream": "orders", "format": "json"},
                }
            ],
        }
    )
    assert spec.capabilities("stream").guarantee == "exactly once"
    assert sink_factory("pgstream") is FACTORY


def test_a_destination_that_cannot_be_reached_is_a_finding() -> None:
    sink = FACTORY.create({"dsn": "postgresql://user:hunter2@127.0.0.1:1/none"}, destination="target")
    [finding] = sink.check()
    assert finding.code == "destination-unreachable"
    assert "hunter2" not in finding.message + finding.advice


@pytest.mark.must_not_fail(21)
def test_nothing_is_left_open_between_commits(lane: Callable[..., TestLane], target_database: ScratchDatabase) -> None:
    lane().apply_all(windows_of([(ORDERS, insert(1, "a"))]))
    with target_database.connect() as connection:
        idle = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
            " AND datname = current_database()"
        ).fetchone()
    assert idle == (0,)


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
def test_a_publisher_killed_again_and_again_publishes_every_change_once(target_database: ScratchDatabase) -> None:
    choice = random.Random("pgstream")
    deaths = [f"alarm:{choice.uniform(0.05, 0.4):.4f}" for _ in range(4)]
    killed = write_and_die("pgstream", {"dsn": target_database.dsn}, 1, deaths)
    assert killed >= 1
    found = messages(target_database, stream="copy")
    ids = target_database.fetch("SELECT id FROM wallaby.stream_events ORDER BY id")
    assert [number for (number,) in ids] == list(range(1, len(found) + 1))
    history = history_of(1)
    for schema in history.tables:
        log = log_of(schema, found)
        assert multiset(state_of(schema, log)) == multiset(history.expected(schema)), schema.name


@pytest.mark.must_not_fail(2)
def test_a_server_that_dies_with_the_commit_leaves_all_or_nothing(
    lane: Callable[..., TestLane], target_database: ScratchDatabase
) -> None:
    """The session is ended between the messages and the COMMIT: neither they nor the position are there."""
    first, second = windows_of([(ORDERS, insert(1, "a"))], [(ORDERS, insert(2, "b"))])
    one = lane()
    one.apply(first)
    one.write(second)
    connection = one.writer._connection  # type: ignore[attr-defined]  # the session to end
    target_database.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
    with pytest.raises(Exception, match="connection"):
        one.writer.commit(one.token(second.upto, 1))
    again = lane()
    assert again.position == first.upto
    again.apply(second)
    assert [m["after"]["id"] for m in messages(target_database)] == [1, 2]
    streams = Streams(target_database.dsn)
    found = streams.pull("target", "g")
    assert streams.ack("target", "g", Claim(tuple(d.id for d in found))).done == 2
    streams.close()
