"""Hearing of new messages."""

from __future__ import annotations

import pytest

from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop
from wallaby.errors import OutcomeUnknown
from wallaby.streams import Claim, Streams
from wallaby.streams.bell import Bell


def test_it_rings_for_what_was_published_after_it_was_armed(shop: Shop) -> None:
    shop.make("other")
    bell = Bell(shop.database.dsn)
    bell.arm()
    shop.publish("a")
    shop.publish("b", stream="other")
    heard = bell.wait(30)
    if "other" not in heard:
        heard |= bell.wait(30)
    assert heard == {STREAM, "other"}
    assert bell.wait(0.0) == frozenset()
    bell.close()


def test_it_rings_when_something_that_was_out_can_be_pulled_again(shop: Shop, streams: Streams) -> None:
    streams.configure(STREAM, GROUP, is_ordered=True)
    shop.publish(Message("a1", key="a"), Message("a2", key="a"))
    streams.pull(STREAM, GROUP)
    bell = Bell(shop.database.dsn)
    bell.arm()
    streams.ack(STREAM, GROUP, Claim((1,)))
    assert bell.wait(30) == {STREAM}, "the next of the key is free"
    streams.pull(STREAM, GROUP)
    streams.give_back(STREAM, GROUP, Claim((2,)))
    assert bell.wait(30) == {STREAM}, "it was given back"
    streams.pull(STREAM, GROUP)
    streams.ack(STREAM, GROUP, Claim((2,)))
    assert bell.wait(0.0) == frozenset(), "nothing became free"
    streams.replay(STREAM, GROUP)
    assert bell.wait(30) == {STREAM}
    bell.close()


def test_a_lost_connection_is_told_and_it_can_be_armed_again(shop: Shop) -> None:
    bell = Bell(shop.database.dsn)
    bell.arm()
    shop.database.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'wallaby streams bell'"
        " AND datname = current_database()"
    )
    with pytest.raises(OutcomeUnknown):
        bell.wait(30)
    bell.arm()
    shop.publish("a")
    assert bell.wait(30) == {STREAM}
    bell.close()
