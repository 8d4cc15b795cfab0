"""A few damaged streams; ``make fuzz`` runs millions."""

from __future__ import annotations

from collections import Counter

from tests.fuzz.decoder import Fuzzer


def test_damaged_streams_give_an_error_with_an_lsn_or_the_rows_before_the_damage() -> None:
    fuzzer = Fuzzer()
    outcomes = Counter(fuzzer.run(seed=0, number=number) for number in range(1500))
    assert outcomes["error"] > 100
    assert outcomes["rows"] > 100
