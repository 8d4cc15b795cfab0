"""When the relay gathers before it decodes, and when it does not."""

from __future__ import annotations

from wallaby.relay.flood import Flood
from wallaby.settings import Limits

LIMITS = Limits(parse_bytes=1000, parse_age_max_ms=25, parse_age_live_max_ms=5, flood_bytes_per_s=10_000)


def flooded() -> Flood:
    flood = Flood(LIMITS)
    for now_ms in range(0, 101, 20):
        flood.received(500, now_ms)
    flood.decoded()
    flood.is_behind = True
    return flood


def test_a_trickle_is_decoded_at_once() -> None:
    flood = Flood(LIMITS)
    for now_ms in range(0, 1000, 10):
        flood.received(50, now_ms)
        assert flood.is_decoding_due(50, now_ms)
        flood.decoded()
    assert not flood.is_on


def test_nothing_received_is_nothing_to_decode() -> None:
    assert not Flood(LIMITS).is_decoding_due(0, 0)


def test_a_fast_stream_is_a_flood() -> None:
    assert flooded().is_on


def test_in_a_flood_decoding_waits_for_bytes() -> None:
    flood = flooded()
    flood.received(999, 101)
    assert not flood.is_decoding_due(999, 101)
    flood.received(1, 102)
    assert flood.is_decoding_due(1000, 102)


def test_in_a_flood_nothing_waits_longer_than_the_limit() -> None:
    flood = flooded()
    flood.received(500, 101)
    assert not flood.is_decoding_due(500, 110)
    assert flood.is_decoding_due(500, 126)


def test_a_flood_goes_on_until_it_is_half_as_fast() -> None:
    flood = flooded()
    flood.received(600, 200)
    assert flood.is_on
    flood.received(400, 300)
    assert not flood.is_on


def test_a_flood_ends_when_nothing_comes_any_more() -> None:
    flood = flooded()
    flood.received(10, 101)
    flood.received(0, 300)
    assert not flood.is_on
    assert flood.is_decoding_due(10, 300)


def test_a_flood_that_is_behind_holds_its_windows_until_they_are_full() -> None:
    assert flooded().holds_windows


def test_a_fast_stream_that_keeps_up_waits_for_little() -> None:
    flood = flooded()
    flood.is_behind = False
    assert flood.is_on
    assert not flood.holds_windows
    flood.received(500, 101)
    assert not flood.is_decoding_due(500, 105)
    assert flood.is_decoding_due(500, 106)


def test_a_trickle_that_is_behind_waits_for_nothing() -> None:
    flood = Flood(LIMITS)
    flood.is_behind = True
    flood.received(50, 0)
    assert not flood.holds_windows
    assert flood.is_decoding_due(50, 0)
