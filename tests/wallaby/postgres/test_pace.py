"""Rests against simulated sources: what is found, what it costs, and when there are none.

A source is a function from (length of the rest, time since the last look) to the bytes that have come. ``noise`` scales
what comes by a random factor that changes every 30 ms, as a busy machine does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wallaby.postgres.pace import FAST_BYTES_PER_S, PILES, QUICK_REST_S, REST_MAX_S, Pace

Source = Callable[[float, float], float]
LOOK_S = 0.000_35
"""What a look at the socket takes."""
WORK_PER_LOOK_S = 0.000_1
WORK_PER_BYTE_S = 2e-9
"""Processor time of this side."""


@dataclass
class Watched:
    """A run of one pace on one source."""

    is_local: bool = False
    is_enabled: bool = True
    now: float = 0.0
    worked_s: float = 0.0
    nbytes: int = 0
    rests: list[tuple[float, float]] = field(default_factory=list)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(is_local=self.is_local, is_enabled=self.is_enabled, worked=lambda: self.worked_s)

    def run(self, source: Source, seconds: float, *, noise: float = 0.0, seed: int = 1) -> float:
        """Receive for so long; returns bytes per second."""
        chance = random.Random(seed)
        until, factor, changed_at, before, began = self.now + seconds, 1.0, -1.0, self.nbytes, self.now
        while self.now < until:
            rest_s = round(max(0.0, self.pace.rest_until - self.now), 9)
            if self.now - changed_at > 0.03:
                factor, changed_at = math.exp(chance.gauss(0, noise)), self.now
            count = int(source(rest_s, rest_s + LOOK_S) * factor)
            self.now += rest_s + LOOK_S
            self.nbytes += count
            self.worked_s += WORK_PER_LOOK_S + WORK_PER_BYTE_S * count
            self.rests.append((self.now, rest_s))
            self.pace.received(count, self.now)
        return (self.nbytes - before) / (self.now - began)

    def rests_since(self, moment: float) -> list[float]:
        return [rest_s for now, rest_s in self.rests if now >= moment]


def watched(*, is_local: bool = False, is_behind: bool = True, is_enabled: bool = True) -> Watched:
    run = Watched(is_local=is_local, is_enabled=is_enabled)
    run.pace.is_behind = is_behind
    return run


def tcp(rest_s: float, elapsed_s: float) -> float:
    """The longer the rest, the cheaper the server's sends; loopback, narrow rows."""
    return (15e6 + 19e6 * min(rest_s, REST_MAX_S) / REST_MAX_S) * elapsed_s


def unix_socket(rest_s: float, elapsed_s: float) -> float:
    """A little cheaper without wake-ups, but the buffer holds 37 KB."""
    return min(37e3, (28e6 if rest_s == 0 else 32e6) * elapsed_s)


def documents(rest_s: float, elapsed_s: float) -> float:
    """So fast that the buffers of a few megabytes fill within 20 ms."""
    return min(4.4e6, (150e6 if rest_s == 0 else 250e6) * elapsed_s)


def harmed(rest_s: float, elapsed_s: float) -> float:
    """Any rest slows it down."""
    return (20e6 if rest_s == 0 else 13e6) * elapsed_s


def live(rest_s: float, elapsed_s: float) -> float:
    """As fast as its source writes."""
    return 6e6 * elapsed_s


def unpaced(source: Source) -> float:
    return watched(is_enabled=False).run(source, 1)


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("source", [tcp, unix_socket, documents, harmed])
def test_after_ten_seconds_it_is_nowhere_slower_than_without_rests(
    source: Source, is_local: bool, noise: float
) -> None:
    """From any start, for any shape of source; trials of other sizes cost a few percent at most."""
    run = watched(is_local=is_local)
    run.run(source, 10, noise=noise, seed=1)
    plain = watched(is_enabled=False).run(source, 10, noise=noise, seed=2)
    assert run.run(source, 10, noise=noise, seed=2) > (0.97 - noise / 5) * plain


def test_the_first_ten_seconds_cost_little_even_from_the_wrong_start() -> None:
    for source in (unix_socket, harmed):
        assert watched().run(source, 10) > 0.75 * unpaced(source)


def test_over_tcp_it_doubles_the_rate() -> None:
    assert watched().run(tcp, 10) > 2 * unpaced(tcp)


def test_from_the_start_of_a_unix_socket_it_climbs_when_that_is_better() -> None:
    run = watched(is_local=True)
    assert run.pace.pile_bytes == 0
    run.run(lambda rest_s, elapsed_s: (10e6 + 20e6 * min(rest_s, 0.004) / 0.004) * elapsed_s, 20)
    assert run.pace.pile_bytes > PILES[1]


def test_a_pile_beyond_the_buffers_is_given_up() -> None:
    run = watched()
    run.run(unix_socket, 5)
    assert 0 < run.pace.pile_bytes <= 37e3
    assert max(run.rests_since(4.5)) < REST_MAX_S


def test_where_any_rest_harms_it_stops_resting() -> None:
    run = watched()
    run.run(harmed, 10)
    assert run.pace.pile_bytes == 0


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_where_rests_change_no_speed_the_cheapest_for_this_side_is_found(noise: float) -> None:
    """A look costs what 50 KB cost here: without rests nine tenths of the work would be looking."""
    run = watched(is_local=True)
    run.run(lambda _, elapsed_s: 30e6 * elapsed_s, 60, noise=noise)
    assert run.pace.pile_bytes >= PILES[2]
    before = run.worked_s, run.nbytes
    run.run(lambda _, elapsed_s: 30e6 * elapsed_s, 5, noise=noise)
    eager = watched(is_enabled=False)
    eager.run(lambda _, elapsed_s: 30e6 * elapsed_s, 5, noise=noise)
    assert (run.worked_s - before[0]) / (run.nbytes - before[1]) < 0.5 * eager.worked_s / eager.nbytes


def test_a_short_flood_on_a_unix_socket_is_not_for_trying() -> None:
    """Two seconds of the best start, and no trial in them."""
    assert watched(is_local=True).run(unix_socket, 2) == watched(is_enabled=False).run(unix_socket, 2)


def test_no_saved_work_is_worth_speed() -> None:
    run = watched(is_local=True)
    run.run(lambda rest_s, elapsed_s: (30e6 if rest_s == 0 else 28e6) * elapsed_s, 30)
    assert run.pace.pile_bytes == 0


def test_a_flood_is_known_after_some_milliseconds() -> None:
    run = watched()
    run.run(tcp, 0.015)
    assert max(run.rests_since(0)) > QUICK_REST_S


def test_trials_become_rare() -> None:
    run = watched()
    run.run(tcp, 30)
    trying = 0
    for _ in range(2000):
        run.run(tcp, 0.01)
        trying += run.pace.is_trying
    assert trying < 2000 / 8


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_is_not_behind_never_rests_longer_than_two_milliseconds(seed: int) -> None:
    run = watched(is_behind=False)
    run.run(live, 10, noise=0.3, seed=seed)
    assert 0 < max(run.rests_since(0)) <= QUICK_REST_S
    assert not run.pace.is_trying


def test_once_it_is_no_longer_behind_a_trial_ends_and_rests_are_short() -> None:
    run = watched()
    while not run.pace.is_trying:
        run.run(tcp, 0.01)
    run.pace.is_behind = False
    run.run(tcp, 0.1)
    assert not run.pace.is_trying
    assert max(run.rests_since(run.now - 0.05)) <= QUICK_REST_S


def transactions(pace: Pace, per_s: int, seconds: float) -> list[float]:
    """Small transactions at an even pace, each looked at as soon as the rest allows; returns the rests asked for."""
    rests, now, seen = [], 0.0, 0
    while now < seconds:
        now = max(now + 0.000_1, (seen + 1) / per_s, pace.rest_until)
        count, seen = int(now * per_s) - seen, int(now * per_s)
        pace.received(200 * count, now)
        rests.append(max(0.0, pace.rest_until - now))
    return rests


@pytest.mark.parametrize("per_s", [1_000, 5_000])
def test_a_busy_trickle_is_looked_at_every_two_milliseconds(per_s: int) -> None:
    rests = transactions(watched(is_behind=False).pace, per_s, 2)
    assert max(rests) == pytest.approx(QUICK_REST_S)
    assert len(rests) < 2 * 600


@pytest.mark.parametrize("per_s", [1, 10, 100, 140])
def test_transactions_that_come_now_and_then_are_looked_at_at_once(per_s: int) -> None:
    assert max(transactions(watched(is_behind=False).pace, per_s, 3)) == 0


def test_a_busy_trickle_that_becomes_rare_is_looked_at_at_once_again() -> None:
    pace = watched(is_behind=False).pace
    assert transactions(pace, 1_000, 1)[-1] > 0
    for step in range(10):
        pace.received(200, 1.0 + 0.05 * step)
    assert pace.rest_until <= 1.45


def test_rests_end_with_the_flood_and_nothing_rests_for_longer_than_thirty_milliseconds() -> None:
    run = watched()
    run.run(tcp, 3)
    run.run(lambda _, elapsed_s: 0.4 * FAST_BYTES_PER_S * elapsed_s, 15)
    assert max(run.rests_since(0)) <= REST_MAX_S
    assert max(run.rests_since(run.now - 0.1)) <= QUICK_REST_S


def test_a_walsender_that_stands_still_now_and_then_does_not_change_the_pile() -> None:
    """As on a machine with more to do than it has processors."""
    run, chance = watched(), random.Random(1)
    for _ in range(40):
        run.run(tcp, chance.uniform(0.1, 0.4))
        run.run(lambda *_: 0, chance.uniform(0.0, 0.09))
    assert run.pace.pile_bytes >= PILES[-2]


def test_after_a_pause_of_the_reader_nothing_is_concluded_from_it() -> None:
    run = watched()
    run.run(tcp, 3)
    run.now += 5
    run.pace.received(4_000_000, run.now)
    assert run.pace.rest_until <= run.now
    run.run(lambda _, elapsed_s: 0.5 * FAST_BYTES_PER_S * elapsed_s, 0.05)
    assert run.pace.rest_until <= run.now + QUICK_REST_S
    assert run.pace.pile_bytes == watched().pace.pile_bytes


def test_disabled_it_never_rests() -> None:
    run = watched(is_enabled=False)
    run.run(tcp, 1)
    assert max(run.rests_since(0)) == 0
