"""Groups with order: never a later message of a key while an earlier one is not finished."""

from __future__ import annotations

import random

import pytest

from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop, numbers
from wallaby.errors import IllegalMove
from wallaby.streams import Claim, Delivery, Streams


@pytest.fixture
def ordered(streams: Streams) -> Streams:
    streams.configure(STREAM, GROUP, is_ordered=True)
    return streams


def of(key: str, *payloads: str) -> list[Message]:
    return [Message(payload, key=key) for payload in payloads]


def done(streams: Streams, *deliveries: Delivery) -> None:
    claim = Claim(tuple(d.id for d in deliveries), tuple(d.claim for d in deliveries))
    assert streams.ack(STREAM, GROUP, claim).stale == ()


def test_one_message_of_a_key_at_a_time_and_other_keys_beside_it(shop: Shop, ordered: Streams) -> None:
    shop.publish(*of("a", "a1", "a2", "a3"), *of("b", "b1"), *of("a", "a4"), *of("b", "b2"))
    a1, b1 = ordered.pull(STREAM, GROUP)
    assert (a1.payload, b1.payload) == (b"a1", b"b1")
    assert ordered.pull(STREAM, GROUP) == []
    done(ordered, b1)
    [b2] = ordered.pull(STREAM, GROUP)
    assert b2.payload == b"b2"
    seen = []
    while a1 is not None:
        seen.append(a1.payload)
        done(ordered, a1)
        a1 = next(iter(ordered.pull(STREAM, GROUP)), None)
    assert seen == [b"a1", b"a2", b"a3", b"a4"]


def test_a_claim_that_runs_out_comes_again_before_the_rest_of_its_key(shop: Shop, ordered: Streams) -> None:
    shop.publish(*of("a", "a1", "a2"))
    ordered.pull(STREAM, GROUP)
    shop.expire()
    [again] = ordered.pull(STREAM, GROUP)
    assert (again.payload, again.attempts) == (b"a1", 2)
    ordered.give_back(STREAM, GROUP, Claim((again.id,), (again.claim,)))
    [again] = ordered.pull(STREAM, GROUP)
    assert again.payload == b"a1"


def test_a_dead_message_lets_the_next_of_its_key_go_on(shop: Shop, ordered: Streams) -> None:
    ordered.configure(STREAM, GROUP, max_attempts=1)
    shop.publish(*of("a", "a1", "a2", "a3"))
    ordered.pull(STREAM, GROUP)
    shop.expire()
    [a2] = ordered.pull(STREAM, GROUP)
    assert a2.payload == b"a2"
    ordered.give_back(STREAM, GROUP, Claim((a2.id,), (a2.claim,)))
    [a3] = ordered.pull(STREAM, GROUP)
    assert numbers(ordered.dead_letters(STREAM, GROUP)) == [1, 2]
    assert ordered.redrive(STREAM, GROUP) == 2
    assert ordered.pull(STREAM, GROUP) == [], "a3 is out: nothing else of its key"
    done(ordered, a3)
    [a1] = ordered.pull(STREAM, GROUP)
    assert a1.payload == b"a1"
    done(ordered, a1)
    assert [d.payload for d in ordered.pull(STREAM, GROUP)] == [b"a2"]


def test_equal_keys_of_different_tables_do_not_wait_for_each_other(shop: Shop, ordered: Streams) -> None:
    shop.publish(Message("one", key="{}"), Message("two", key="{}", table="other"), Message("three"), Message("four"))
    assert len(ordered.pull(STREAM, GROUP)) == 4, "those without a key are free"


def test_a_truncate_comes_alone(shop: Shop, ordered: Streams) -> None:
    truncate = Message("truncate", operation="truncate")
    shop.publish(*of("a", "a1"), *of("b", "b1"), truncate, *of("c", "c1"))
    a1, b1 = ordered.pull(STREAM, GROUP)
    assert ordered.pull(STREAM, GROUP) == []
    done(ordered, a1)
    assert ordered.pull(STREAM, GROUP) == []
    done(ordered, b1)
    [alone] = ordered.pull(STREAM, GROUP)
    assert alone.operation == "truncate"
    assert ordered.pull(STREAM, GROUP) == []
    shop.expire()
    [alone] = ordered.pull(STREAM, GROUP)
    assert alone.operation == "truncate"
    done(ordered, alone)
    assert [d.payload for d in ordered.pull(STREAM, GROUP)] == [b"c1"]


def test_replay_keeps_the_order_of_keys(shop: Shop, ordered: Streams) -> None:
    shop.publish(*of("a", "a1", "a2", "a3"), *of("b", "b1"))
    for _ in range(4):
        for found in ordered.pull(STREAM, GROUP, max_messages=1):
            done(ordered, found)
    assert ordered.replay(STREAM, GROUP) == 4
    seen = []
    while found_now := ordered.pull(STREAM, GROUP):
        seen += [d.payload for d in found_now]
        done(ordered, *found_now)
    assert [p for p in seen if p.startswith(b"a")] == [b"a1", b"a2", b"a3"]
    assert sorted(seen) == [b"a1", b"a2", b"a3", b"b1"]


def test_looking_ahead_stops_when_enough_wait_behind_their_keys(shop: Shop) -> None:
    bounded = shop.streams(stream_lookahead=5, stream_blocked_max=8)
    bounded.configure(STREAM, GROUP, is_ordered=True)
    shop.publish(*of("hot", *map(str, range(100))), *of("cold", "x"))
    [head] = bounded.pull(STREAM, GROUP, max_messages=1)
    for _ in range(10):
        assert bounded.pull(STREAM, GROUP, max_messages=1) == []
    [status] = bounded.groups(STREAM, GROUP)
    assert status.blocked < 8 + 6
    assert status.blocked + status.pending == 100
    seen = [head]
    while len(seen) < 101:
        done(bounded, seen[-1])
        seen += bounded.pull(STREAM, GROUP, max_messages=1)
    assert numbers(seen) == list(range(1, 102))


def test_order_is_not_turned_on_while_messages_are_out_and_turned_off_at_any_time(shop: Shop, streams: Streams) -> None:
    shop.publish(*of("a", "a1", "a2"))
    found = streams.pull(STREAM, GROUP, max_messages=1)
    with pytest.raises(IllegalMove):
        streams.configure(STREAM, GROUP, is_ordered=True)
    done(streams, *found)
    streams.configure(STREAM, GROUP, is_ordered=True)
    shop.publish(*of("a", "a3"))
    assert len(streams.pull(STREAM, GROUP)) == 1
    options = streams.configure(STREAM, GROUP, is_ordered=False)
    assert not options.is_ordered
    assert [d.payload for d in streams.pull(STREAM, GROUP)] == [b"a3"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_consumers_do_a_key_is_finished_in_order(shop: Shop, ordered: Streams, seed: int) -> None:
    """Random pulls, acknowledgements, returns, ends of claims and new messages, checked after every step."""
    choice = random.Random(seed)
    published: dict[int, str | None] = {}
    out: dict[int, Delivery] = {}
    finished: list[int] = []
    for _ in range(120):
        match choice.choice(["publish", "pull", "pull", "ack", "ack", "return", "expire"]):
            case "publish" if len(published) < 80:
                batch = [_any_message(choice) for _ in range(choice.randint(1, 6))]
                shop.publish(*batch)
                for message in batch:
                    published[len(published) + 1] = message.key
            case "pull":
                for found in ordered.pull(STREAM, GROUP, max_messages=choice.randint(1, 3)):
                    assert found.id not in out
                    out[found.id] = found
            case "ack" if out:
                ready = choice.sample(sorted(out), choice.randint(1, len(out)))
                done(ordered, *(out.pop(number) for number in ready))
                finished += ready
            case "return" if out:
                back = out.pop(choice.choice(sorted(out)))
                ordered.give_back(STREAM, GROUP, Claim((back.id,), (back.claim,)))
            case "expire":
                shop.expire()
                out.clear()
        _check(published, finished, out)
    shop.expire()
    out.clear()
    while found_now := ordered.pull(STREAM, GROUP):
        _check(published, finished, {d.id: d for d in found_now})
        done(ordered, *found_now)
        finished += numbers(found_now)
    assert sorted(finished) == sorted(published)


def _any_message(choice: random.Random) -> Message:
    return Message("t", operation="truncate") if choice.random() < 0.05 else Message("m", choice.choice("abcd"))


def _check(published: dict[int, str | None], finished: list[int], out: dict[int, Delivery]) -> None:
    """Everything of the key before a message that is out is finished; before a truncate, everything at all."""
    over = set(finished)
    for number in out:
        key = published[number]
        for earlier in range(1, number):
            if key is None or published[earlier] is None or published[earlier] == key:
                assert earlier in over, f"{number} is out while {earlier} is not finished"
