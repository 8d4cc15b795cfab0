"""Pauses between attempts: longer and longer, drawn from a seed, bounded."""

from __future__ import annotations

from cluster.backoff import Backoff
from wallaby.settings import Limits

LIMITS = Limits(restart_delay_min_ms=100, restart_delay_max_ms=1_600)


def pauses(seed: str, count: int = 200) -> list[float]:
    backoff = Backoff(LIMITS, seed=seed)
    return [backoff.next_pause_ms() for _ in range(count)]


def test_a_pause_is_at_most_twice_as_long_as_the_one_before_might_have_been() -> None:
    for seed in map(str, range(50)):
        for number, pause in enumerate(pauses(seed, 10)):
            assert 100 <= pause <= min(100 * 2**number, 1_600)


def test_pauses_grow_to_the_longest_and_spread_over_the_whole_range() -> None:
    late = pauses("shop")[10:]
    assert min(late) < 300
    assert max(late) > 1_400


def test_flows_do_not_come_back_in_step_and_a_history_can_be_repeated() -> None:
    assert pauses("shop") == pauses("shop")
    firsts = {pauses(f"flow{number}", 5)[-1] for number in range(100)}
    assert len(firsts) == 100


def test_after_it_went_well_pauses_are_short_again() -> None:
    backoff = Backoff(LIMITS, seed="shop")
    for _ in range(20):
        backoff.next_pause_ms()
    backoff.reset()
    assert backoff.next_pause_ms() == 100
