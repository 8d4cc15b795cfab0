"""What is removed from a stream, and above all what is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop, numbers
from wallaby.streams import Claim, Retention, Streams

AT_ONCE = Retention(age=timedelta(0))


def kept(shop: Shop) -> list[int]:
    rows = shop.database.fetch(f"SELECT id FROM wallaby.stream_events WHERE stream = '{STREAM}' ORDER BY id")
    return [number for (number,) in rows]


def finish(streams: Streams, group: str, *ids: int) -> None:
    assert streams.ack(STREAM, group, Claim(ids)).stale == ()


def test_without_a_policy_everything_stays(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    finish(streams, GROUP, *numbers(streams.pull(STREAM, GROUP)))
    assert streams.retain(STREAM) == 0
    assert kept(shop) == [1]


def test_what_every_group_has_acknowledged_goes_and_the_rest_stays(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, AT_ONCE)
    shop.publish("a", "b", "c", "d")
    streams.pull(STREAM, "one")
    streams.pull(STREAM, "two", max_messages=3)
    finish(streams, "one", 1, 2, 4)
    finish(streams, "two", 1, 3)
    assert streams.retain(STREAM) == 1
    assert kept(shop) == [2, 3, 4]
    finish(streams, "two", 2)
    assert streams.retain(STREAM) == 1
    assert kept(shop) == [3, 4], "3 is out with one, 4 was not handed to two"
    assert shop.database.fetch("SELECT count(*) FROM wallaby.stream_deliveries WHERE event_id < 3") == [(0,)]


def test_a_stream_without_groups_stays_whole(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, AT_ONCE)
    shop.publish("a")
    assert streams.retain(STREAM) == 0


def test_dead_messages_and_those_of_a_group_that_fell_behind_stay(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, AT_ONCE)
    streams.configure(STREAM, GROUP, max_attempts=1)
    shop.publish("poison", "fine")
    streams.pull(STREAM, GROUP)
    streams.give_back(STREAM, GROUP, Claim((1,)))
    finish(streams, GROUP, 2)
    assert streams.retain(STREAM) == 1
    assert kept(shop) == [1]
    assert numbers(streams.dead_letters(STREAM, GROUP)) == [1]


def test_age_keeps_the_young(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, Retention(age=timedelta(hours=1)))
    shop.publish("a", "b")
    finish(streams, GROUP, *numbers(streams.pull(STREAM, GROUP)))
    assert streams.retain(STREAM) == 0
    shop.database.execute("UPDATE wallaby.stream_events SET created_at = created_at - interval '2 hours' WHERE id = 1")
    assert streams.retain(STREAM) == 1
    assert kept(shop) == [2]


def test_bytes_keep_the_newest(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, Retention(max_bytes=10))
    shop.publish(*["12345"] * 5)
    finish(streams, GROUP, *numbers(streams.pull(STREAM, GROUP)))
    assert streams.retain(STREAM) == 3
    assert kept(shop) == [4, 5]


def test_a_policy_that_says_so_removes_what_nobody_has_read(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, Retention(max_bytes=10, removes_unacked=True))
    shop.publish(*["12345"] * 5)
    out = streams.pull(STREAM, GROUP, max_messages=2)
    assert streams.retain(STREAM) == 3
    assert streams.ack(STREAM, GROUP, Claim((1,), (out[0].claim,))).stale == (1,)
    assert streams.groups(STREAM, GROUP)[0].lag_messages == 2
    assert numbers(streams.pull(STREAM, GROUP)) == [4, 5]


def test_an_ordered_group_goes_on_when_the_head_of_a_key_is_removed(shop: Shop, streams: Streams) -> None:
    shop.make(STREAM, Retention(max_bytes=5, removes_unacked=True))
    streams.configure(STREAM, GROUP, is_ordered=True)
    shop.publish(Message("12345", key="a"), Message("67890", key="a"))
    assert numbers(streams.pull(STREAM, GROUP)) == [1]
    assert streams.pull(STREAM, GROUP) == []
    assert streams.retain(STREAM) == 1
    assert numbers(streams.pull(STREAM, GROUP)) == [2]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_pages_remove_the_same_as_one_statement(shop: Shop, page: int) -> None:
    streams = shop.streams(stream_retention_page=page)
    shop.make(STREAM, AT_ONCE)
    shop.publish(*map(str, range(9)))
    streams.pull(STREAM, GROUP)
    finish(streams, GROUP, 1, 2, 4, 5, 9)
    assert streams.retain(STREAM) == 5
    assert kept(shop) == [3, 6, 7, 8]


def test_acknowledging_removes_when_it_is_time(shop: Shop) -> None:
    streams = shop.streams(stream_retention_interval_s=0)
    shop.make(STREAM, AT_ONCE)
    shop.publish("a", "b")
    finish(streams, GROUP, *numbers(streams.pull(STREAM, GROUP)))
    assert kept(shop) == []
    shop.publish("c")
    assert numbers(streams.pull(STREAM, GROUP)) == [3]
