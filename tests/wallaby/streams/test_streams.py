"""Groups of consumers: who has a message, for how long, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop, numbers
from wallaby.errors import CheckFailed, ConfigError, NotFound, Transient
from wallaby.lsn import Lsn
from wallaby.streams import Claim, Streams
from wallaby.testing.postgres import ScratchDatabase


def test_messages_come_in_the_order_they_were_published_with_everything_they_carry(
    shop: Shop, streams: Streams
) -> None:
    shop.publish(
        Message('{"id":1}', key='{"id":1}', lsn=0x16B374D848), Message("ünï\\ \n\t", operation="delete", table="Odd")
    )
    shop.publish("third")
    first, second, third = streams.pull(STREAM, GROUP, consumer="one", visibility_s=60)
    assert (first.id, second.id, third.id) == (1, 2, 3)
    assert (first.payload, first.key, first.lsn) == (b'{"id":1}', '{"id":1}', Lsn.parse("16/B374D848"))
    assert (first.namespace, first.table, first.operation, first.wire_format) == ("public", "orders", "insert", "json")
    assert (second.payload.decode(), second.key, second.operation, second.table) == (
        "ünï\\ \n\t",
        None,
        "delete",
        "Odd",
    )
    assert (first.attempts, first.consumer) == (1, "one")
    assert first.claim == second.claim
    assert timedelta(seconds=50) < first.visible_at - first.created_at < timedelta(seconds=120)


def test_a_claimed_message_is_nobody_elses_and_an_acknowledged_one_never_comes_back(
    shop: Shop, streams: Streams
) -> None:
    shop.publish("a", "b", "c")
    mine = streams.pull(STREAM, GROUP, max_messages=2)
    theirs = streams.pull(STREAM, GROUP)
    assert (numbers(mine), numbers(theirs)) == ([1, 2], [3])
    assert streams.pull(STREAM, GROUP) == []
    assert streams.ack(STREAM, GROUP, Claim((1, 2), (mine[0].claim,) * 2)).done == 2
    shop.expire()
    assert numbers(streams.pull(STREAM, GROUP)) == [3]


def test_every_group_gets_every_message(shop: Shop, streams: Streams) -> None:
    shop.publish("a", "b")
    assert numbers(streams.pull(STREAM, "one")) == [1, 2]
    streams.ack(STREAM, "one", Claim((1, 2)))
    assert numbers(streams.pull(STREAM, "two")) == [1, 2]


def test_a_claim_that_ran_out_is_claimed_again_and_the_late_acknowledgement_is_stale(
    shop: Shop, streams: Streams
) -> None:
    shop.publish("a")
    [slow] = streams.pull(STREAM, GROUP, consumer="slow")
    shop.expire()
    [quick] = streams.pull(STREAM, GROUP, consumer="quick")
    assert (quick.id, quick.attempts) == (1, 2)
    assert quick.claim != slow.claim
    late = streams.ack(STREAM, GROUP, Claim((1,), (slow.claim,)))
    assert (late.done, late.stale) == (0, (1,))
    assert streams.ack(STREAM, GROUP, Claim((1,), consumer="slow")).stale == (1,)
    assert streams.extend(STREAM, GROUP, Claim((1,), (slow.claim,)), visibility_s=60).stale == (1,)
    assert streams.give_back(STREAM, GROUP, Claim((1,), (slow.claim,))).stale == (1,)
    assert streams.ack(STREAM, GROUP, Claim((1,), (quick.claim,))).done == 1
    assert streams.ack(STREAM, GROUP, Claim((1,), (slow.claim,))).stale == (1,), "stale also after the owner's"


def test_a_claim_that_ran_out_counts_as_long_as_nobody_else_has_the_message(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    [mine] = streams.pull(STREAM, GROUP)
    shop.expire()
    assert streams.ack(STREAM, GROUP, Claim((1,), (mine.claim,))).done == 1
    assert streams.pull(STREAM, GROUP) == []


def test_an_acknowledgement_repeated_after_a_lost_answer_counts_again(shop: Shop, streams: Streams) -> None:
    shop.publish("a", "b")
    found = streams.pull(STREAM, GROUP, consumer="one")
    mine = Claim((1, 2), tuple(delivery.claim for delivery in found))
    assert streams.ack(STREAM, GROUP, mine) == streams.ack(STREAM, GROUP, mine)
    assert streams.ack(STREAM, GROUP, Claim((1, 2), consumer="one")).done == 2


def test_clients_that_name_no_claim_acknowledge_what_is_out(shop: Shop, streams: Streams) -> None:
    """As the Go WALlaby's do."""
    shop.publish("a", "b", "c")
    streams.pull(STREAM, GROUP, max_messages=2, consumer="somebody")
    done = streams.ack(STREAM, GROUP, Claim((1, 2, 3)))
    assert (done.done, done.stale) == (2, (3,))


def test_unknown_and_impossible_numbers_are_stale(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    [mine] = streams.pull(STREAM, GROUP)
    done = streams.ack(STREAM, GROUP, Claim((-5, 1, 99, 2**63 + 1), (1, mine.claim, 3, 4)))
    assert (done.done, set(done.stale)) == (1, {-5, 99, 2**63 + 1})


def test_an_extended_claim_lasts(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    [mine] = streams.pull(STREAM, GROUP, visibility_s=1)
    assert streams.extend(STREAM, GROUP, Claim((1,), (mine.claim,)), visibility_s=3600).done == 1
    [[left]] = shop.database.fetch("SELECT extract(epoch FROM visible_at - now())::int FROM wallaby.stream_deliveries")
    assert 3500 < left <= 3600


def test_what_is_given_back_comes_again_now_or_later(shop: Shop, streams: Streams) -> None:
    shop.publish("a", "b")
    found = streams.pull(STREAM, GROUP)
    streams.give_back(STREAM, GROUP, Claim((1,), (found[0].claim,)))
    streams.give_back(STREAM, GROUP, Claim((2,), (found[1].claim,)), delay_s=3600)
    [again] = streams.pull(STREAM, GROUP)
    assert (again.id, again.attempts) == (1, 2)
    [status] = streams.groups(STREAM, GROUP)
    assert (status.claimed, status.available) == (1, 1)


def test_a_message_is_dead_after_its_attempts_and_can_be_redriven(shop: Shop, streams: Streams) -> None:
    shop.publish("poison", "fine")
    streams.configure(STREAM, GROUP, max_attempts=2)
    for attempt in (1, 2):
        poison = streams.pull(STREAM, GROUP, max_messages=1)
        assert [(d.id, d.attempts) for d in poison] == [(1, attempt)]
        shop.expire()
    assert numbers(streams.pull(STREAM, GROUP)) == [2], "the dead one is out of the way"
    [dead] = streams.dead_letters(STREAM, GROUP)
    assert (dead.id, dead.payload, dead.attempts) == (1, b"poison", 2)
    assert streams.groups(STREAM, GROUP)[0].dead == 1
    assert streams.dead_letters(STREAM, GROUP, after_id=1) == []
    assert streams.redrive(STREAM, GROUP, [1, 2]) == 1
    assert [(d.id, d.attempts) for d in streams.pull(STREAM, GROUP)] == [(1, 1)]


def test_a_message_given_back_at_its_last_attempt_is_dead(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    streams.configure(STREAM, GROUP, max_attempts=1)
    [mine] = streams.pull(STREAM, GROUP)
    streams.give_back(STREAM, GROUP, Claim((1,), (mine.claim,)))
    assert numbers(streams.dead_letters(STREAM, GROUP)) == [1]
    assert streams.redrive(STREAM, GROUP) == 1


def test_without_a_limit_a_message_is_never_given_up(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    for attempt in range(1, 30):
        [found] = streams.pull(STREAM, GROUP)
        assert found.attempts == attempt
        shop.expire()


def test_replay_compares_positions_as_positions_not_as_text(shop: Shop, streams: Streams) -> None:
    shop.publish(Message("low", lsn=0x9_0000_0000), Message("high", lsn=0x10_0000_0000))
    streams.ack(STREAM, GROUP, Claim(tuple(numbers(streams.pull(STREAM, GROUP)))))
    assert "10/0" < "9/0"
    assert streams.replay(STREAM, GROUP, from_lsn=Lsn.parse("10/0")) == 1
    assert [d.payload for d in streams.pull(STREAM, GROUP)] == [b"high"]
    assert streams.replay(STREAM, GROUP, from_lsn=Lsn.parse("9/1")) == 1


def test_replay_of_publishers_that_interleave_hands_out_exactly_what_matches(shop: Shop, streams: Streams) -> None:
    shop.publish(*(Message(str(n), lsn=0x5000 if n % 3 == 0 else 0x100 + n) for n in range(12)))
    streams.ack(STREAM, GROUP, Claim(tuple(numbers(streams.pull(STREAM, GROUP)))))
    assert streams.replay(STREAM, GROUP, from_lsn=Lsn(0x5000)) == 4
    assert [d.payload for d in streams.pull(STREAM, GROUP)] == [b"0", b"3", b"6", b"9"]
    streams.ack(STREAM, GROUP, Claim((1, 4, 7, 10)))
    assert streams.pull(STREAM, GROUP) == []
    shop.publish("new")
    assert numbers(streams.pull(STREAM, GROUP)) == [13]


def test_replay_by_time_begins_with_what_was_published_then(shop: Shop, streams: Streams) -> None:
    shop.publish("old")
    [[between]] = shop.database.fetch("SELECT clock_timestamp()")
    shop.publish("new")
    streams.ack(STREAM, GROUP, Claim(tuple(numbers(streams.pull(STREAM, GROUP)))))
    assert streams.replay(STREAM, GROUP, since=between) == 1
    assert [d.payload for d in streams.pull(STREAM, GROUP)] == [b"new"]
    assert streams.replay(STREAM, GROUP, since=datetime(2100, 1, 1, tzinfo=UTC)) == 0


def test_replay_takes_back_claims_and_dead_messages_and_leaves_what_was_not_handed_out(
    shop: Shop, streams: Streams
) -> None:
    shop.publish("a", "b", "c", "d")
    streams.configure(STREAM, GROUP, max_attempts=1)
    [dead] = streams.pull(STREAM, GROUP, max_messages=1)
    streams.give_back(STREAM, GROUP, Claim((1,), (dead.claim,)))
    [out] = streams.pull(STREAM, GROUP, max_messages=1)
    assert streams.replay(STREAM, GROUP) == 2
    assert streams.ack(STREAM, GROUP, Claim((2,), (out.claim,))).stale == (2,)
    assert numbers(streams.pull(STREAM, GROUP)) == [1, 2, 3, 4]


def test_a_pull_keeps_within_its_bytes_but_always_brings_a_message(shop: Shop, streams: Streams) -> None:
    shop.publish("x" * 10, "y" * 10, "z" * 100, "w")
    assert numbers(streams.pull(STREAM, GROUP, max_bytes=15)) == [1, 2]
    assert numbers(streams.pull(STREAM, GROUP, max_bytes=15)) == [3]
    shop.expire()
    assert numbers(streams.pull(STREAM, GROUP, max_bytes=15)) == [1, 2]
    assert numbers(streams.pull(STREAM, GROUP, max_bytes=15)) == [3]
    assert numbers(streams.pull(STREAM, GROUP, max_bytes=15)) == [4]


def test_lag_says_what_is_left_in_messages_bytes_and_time(shop: Shop, streams: Streams) -> None:
    shop.publish("12345", "678", "9")
    found = streams.pull(STREAM, GROUP, max_messages=1)
    [status] = streams.groups(STREAM)
    assert (status.last_id, status.cursor_id, status.pending, status.claimed) == (3, 1, 2, 1)
    assert (status.lag_messages, status.lag_bytes) == (3, 4)
    assert status.oldest_at == found[0].created_at
    assert status.lag_seconds > 0
    streams.ack(STREAM, GROUP, Claim((1,)))
    streams.ack(STREAM, GROUP, Claim(tuple(numbers(streams.pull(STREAM, GROUP)))))
    [status] = streams.groups(STREAM, GROUP)
    assert (status.lag_messages, status.lag_bytes, status.lag_seconds, status.oldest_at) == (0, 0, 0, None)


def test_lag_counts_exactly_after_a_replay_of_some(shop: Shop, streams: Streams) -> None:
    shop.publish(*(Message(str(n), lsn=0x5000 if n % 2 else 0x100) for n in range(10)))
    streams.ack(STREAM, GROUP, Claim(tuple(numbers(streams.pull(STREAM, GROUP)))))
    streams.replay(STREAM, GROUP, from_lsn=Lsn(0x5000))
    assert streams.groups(STREAM, GROUP)[0].lag_messages == 5


def test_a_dropped_group_begins_anew(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    streams.ack(STREAM, GROUP, Claim(tuple(numbers(streams.pull(STREAM, GROUP)))))
    streams.drop_group(STREAM, GROUP)
    with pytest.raises(NotFound):
        streams.groups(STREAM, GROUP)
    assert numbers(streams.pull(STREAM, GROUP)) == [1]


def test_a_stream_nobody_published_to_is_empty_and_makes_no_group(streams: Streams) -> None:
    assert streams.pull("unheard", GROUP) == []
    with pytest.raises(NotFound):
        streams.groups("unheard")
    with pytest.raises(NotFound):
        streams.ack("unheard", GROUP, Claim((1,)))


def test_a_database_without_streams_says_so(target_database: ScratchDatabase) -> None:
    streams = Streams(target_database.dsn)
    with pytest.raises(CheckFailed, match="no streams"):
        streams.pull(STREAM, GROUP)
    streams.close()


def test_an_unreachable_database_is_transient_and_shows_no_password() -> None:
    streams = Streams("postgresql://user:hunter2@127.0.0.1:1/none")
    with pytest.raises(Transient) as caught:
        streams.pull(STREAM, GROUP)
    assert "hunter2" not in str(caught.value)


def test_a_connection_the_server_ended_is_opened_again(shop: Shop, streams: Streams) -> None:
    shop.publish("a")
    assert streams.pull("other", GROUP) == []
    shop.database.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'wallaby streams' AND datname = current_database()"
    )
    assert numbers(streams.pull(STREAM, GROUP)) == [1]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda s: s.pull("", GROUP), "stream"),
        (lambda s: s.pull(STREAM, ""), "consumer_group"),
        (lambda s: s.pull("nul\0", GROUP), "stream"),
        (lambda s: s.pull(STREAM, "x" * 256), "consumer_group"),
        (lambda s: s.pull(STREAM, "\ud800"), "consumer_group"),
        (lambda s: s.pull(STREAM, GROUP, consumer="é" * 128), "consumer_id"),
        (lambda s: s.pull(STREAM, GROUP, max_messages=0), "max_messages"),
        (lambda s: s.pull(STREAM, GROUP, max_messages=10_001), "max_messages"),
        (lambda s: s.pull(STREAM, GROUP, visibility_s=-1), "visibility_timeout_seconds"),
        (lambda s: s.ack(STREAM, GROUP, Claim(())), "ids"),
        (lambda s: s.ack(STREAM, GROUP, Claim((1,) * 10_001)), "ids"),
        (lambda s: s.ack(STREAM, GROUP, Claim((1, 2), (1,))), "claims"),
        (lambda s: s.ack(STREAM, "", Claim((1,))), "consumer_group"),
        (lambda s: s.give_back(STREAM, GROUP, Claim((1,)), delay_s=-1), "delay_seconds"),
        (lambda s: s.extend(STREAM, GROUP, Claim((1,)), visibility_s=43_201), "visibility_timeout_seconds"),
        (lambda s: s.configure(STREAM, GROUP, max_attempts=-1), "max_attempts"),
        (lambda s: s.redrive(STREAM, GROUP, [1] * 10_001), "ids"),
        (lambda s: s.dead_letters(STREAM, GROUP, limit=0), "page_size"),
    ],
)
def test_unusable_names_and_numbers_are_refused_with_their_field(
    streams: Streams, call: Callable[[Streams], Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        call(streams)
    assert caught.value.where["field"] == field


@pytest.mark.must_not_fail(22)
@pytest.mark.parametrize("name", ["Mixed Case", "it's", 'quo"ted', "naïve_表", "%s $1", "'; DROP TABLE x --", "\n\x01"])
def test_names_of_every_kind_are_names(shop: Shop, streams: Streams, name: str) -> None:
    shop.make(name)
    shop.publish("a", stream=name)
    [found] = streams.pull(name, name, consumer=name)
    assert streams.ack(name, name, Claim((1,), consumer=name)).done == 1
    assert streams.groups(name)[0].group == name
    assert found.consumer == name
