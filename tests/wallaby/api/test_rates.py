"""Buckets: bursts, refills, and callers that do not touch each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wallaby.api.rates import Rates


def test_a_burst_is_let_through_and_then_one_at_a_time() -> None:
    rates = Rates(per_s=2, burst=3, callers_max=10)
    assert [rates.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [rates.take("a", 0.5), rates.take("a", 0.5)] == [True, False]
    assert [rates.take("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_callers_do_not_touch_each_other() -> None:
    rates = Rates(per_s=1, burst=1, callers_max=10)
    assert [rates.take(name, 0.0) for name in ("a", "b", "a", "b")] == [True, True, False, False]


def test_a_refused_call_costs_nothing_and_time_that_stands_still_gives_nothing() -> None:
    rates = Rates(per_s=1, burst=1, callers_max=10)
    assert [rates.take("a", now) for now in (5.0, 5.0, 4.0, 5.5, 6.0)] == [True, False, False, False, True]


def test_the_callers_remembered_are_bounded() -> None:
    rates = Rates(per_s=1, burst=1, callers_max=2)
    for number in range(1_000):
        assert rates.take(f"caller {number}", 0.0)
    assert len(rates._buckets) == 2
    assert not rates.take("caller 999", 0.0)


@given(st.lists(st.floats(0, 0.5), max_size=200))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    rates, now, taken = Rates(per_s=3, burst=5, callers_max=1), 0.0, 0
    for pause in pauses:
        now += pause
        taken += rates.take("a", now)
        assert taken <= 5 + 3 * now + 1e-6
