"""A few damaged streams; ``make fuzz`` runs millions."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz.decoder import Fuzzer


def test_damaged_streams_give_an_error_with_an_lsn_or_the_rows_before_the_damage() -> None:
    fuzzer = Fuzzer()
    outcomes = Counter(fuzzer.run(seed=0, number=number) for number in range(1500))
    assert outcomes["error"] > 100
    assert outcomes["rows"] > 100


@pytest.mark.parametrize(("seed", "number"), [(41, 228_129)])
def test_inputs_that_once_broke_the_decoder_do_not_again(seed: int, number: int) -> None:
    """A numeric whose modifier says that it has no figures at all."""
    assert Fuzzer().run(seed, number) in ("rows", "error")
