"""Floats of text against Python's and NumPy's own reading, which round correctly."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from tests.wallaby.pgtypes.test_text_forms import gather_texts
from wallaby.pgtypes.cells import MalformedCell


def _as_postgres(number: float) -> str:
    """The shortest form, without Python's ``.0``."""
    return repr(number).removesuffix(".0").replace("inf", "Infinity").replace("nan", "NaN")


def _bits8(texts: list[str]) -> list[int]:
    array, outliers = gather_texts(701, texts)
    assert outliers is None
    assert array.null_count == 0
    return array.to_numpy().view(np.uint64).tolist()


def test_random_floats_of_every_exponent_are_read_bit_for_bit() -> None:
    rng = random.Random(1)
    numbers = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(50_000)]
    numbers = [number for number in numbers if number == number]
    numbers += [rng.uniform(-1e6, 1e6) for _ in range(50_000)]
    numbers += [rng.random() * 10.0 ** rng.randrange(-70, 70) for _ in range(50_000)]
    numbers += [0.0, -0.0, float("inf"), float("-inf"), 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308]
    assert _bits8([_as_postgres(number) for number in numbers]) == np.array(numbers).view(np.uint64).tolist()


@pytest.mark.must_not_fail(12)
def test_decimals_near_the_middle_of_two_floats_are_rounded_as_they_should() -> None:
    """The middle itself goes to the even float; one unit of the nineteenth figure beside it does not."""
    rng = random.Random(2)
    texts = [str(middle + step) for middle in (9007199254740993, 9007199254740995, 1 << 53) for step in (-1, 0, 1)]
    for _ in range(30_000):
        power = rng.randrange(54, 62)
        middle = (((1 << 52) + rng.randrange(1 << 52)) * 2 + 1) << (power - 54)
        texts += [f"{middle + step}e{sign}00" for step in (-1, 0, 1) for sign in "+-"]
        figures = str(rng.randrange(10**18, 10**19))
        texts += [f"{figures[0]}.{figures[1:]}e{rng.choice('+-')}{rng.randrange(64):02d}"]
    assert _bits8(texts) == np.array([float(text) for text in texts]).view(np.uint64).tolist()


def test_figures_around_a_point_in_every_place_are_read_exactly() -> None:
    """Up to more figures than any float has, with noughts before and behind them."""
    rng = random.Random(4)
    texts = []
    for _ in range(30_000):
        figures = str(rng.randrange(10 ** rng.randrange(1, 20))).zfill(rng.randrange(1, 21))
        point = rng.randrange(1, len(figures) + 1)
        text = f"{figures[:point]}.{figures[point:]}" if point < len(figures) else figures
        texts.append(rng.choice(["", "-"]) + text)
    assert _bits8(texts) == np.array([float(text) for text in texts]).view(np.uint64).tolist()


@pytest.mark.parametrize("oid", [700, 701])
@pytest.mark.parametrize("good", ["-12345.678901234567", "0.25", "1500000"])
def test_a_byte_that_is_no_figure_makes_no_number(oid: int, good: str) -> None:
    for place in range(len(good)):
        for byte in range(33, 127):
            if chr(byte) in "0123456789.-+eE":
                continue
            with pytest.raises(MalformedCell):
                gather_texts(oid, [*["-12345.678901234567"] * 3, good[:place] + chr(byte) + good[place + 1 :], "1.5"])


def test_float4_is_rounded_once() -> None:
    rng = random.Random(3)
    numbers = np.frombuffer(rng.randbytes(4 * 100_000), np.float32)
    numbers = numbers[np.isfinite(numbers)]
    texts = [str(number).removesuffix(".0") for number in numbers]
    # Between two float4, and so near to it that the nearest float8 is the middle itself.
    above = 1.0 + 2.0**-23
    texts += ["1.000000059604644775390625", "1.000000059604644775390626", "1.0000000596046448", "1.0000000596046447"]
    expected = [*numbers.tolist(), 1.0, above, above, 1.0]
    array, outliers = gather_texts(700, texts)
    assert outliers is None
    assert array.to_numpy().view(np.uint32).tolist() == np.array(expected, np.float32).view(np.uint32).tolist()


@pytest.mark.parametrize("oid", [700, 701])
@pytest.mark.parametrize(
    "text", ["", "-", ".", "1.2.3", "1e", "1e+", "1ee5", "e5", "1,5", "1.5x", "x1.5", "--1", "1-", "1.e+-5", "0x10 "]
)
def test_what_is_no_number_is_refused(oid: int, text: str) -> None:
    with pytest.raises(MalformedCell):
        gather_texts(oid, ["1.5", text, "2.5"])
