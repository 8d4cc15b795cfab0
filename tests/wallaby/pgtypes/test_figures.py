"""The short cuts for usual texts against Python's own reading, and against the careful readers at their limits."""

from __future__ import annotations

import datetime
import random
import string
import uuid
from typing import Final

import numpy as np
import pyarrow as pa
import pytest

from tests.wallaby.pgtypes.test_text_forms import gather_texts

_PRICE: Final = (12 << 16 | 2) + 4


def test_integers_of_every_length_are_read_exactly() -> None:
    rng = random.Random(1)
    numbers = [sign * (10**n + k) for n in range(19) for k in (-1, 0, rng.randrange(10**n)) for sign in (1, -1)]
    numbers = [number for number in numbers if -(2**63) <= number < 2**63]
    array, outliers = gather_texts(20, [str(number) for number in numbers])
    assert outliers is None
    assert array.to_pylist() == numbers


@pytest.mark.parametrize("place", range(18))
def test_any_other_byte_among_figures_makes_an_outlier(place: int) -> None:
    """Every byte that is no figure, at every place of a long number."""
    texts = []
    for byte in range(128):
        if chr(byte) in string.digits or (place == 0 and chr(byte) == "-"):
            continue
        texts.append("1" * place + chr(byte) + "1" * (17 - place))
    array, outliers = gather_texts(20, texts)
    assert array.null_count == len(texts)
    assert outliers is not None
    assert outliers.texts.to_pylist() == texts


def test_days_of_every_century_form_are_read_as_python_does() -> None:
    days = np.arange(datetime.date(1, 1, 1).toordinal(), datetime.date(9999, 12, 31).toordinal() + 1)
    epoch = datetime.date(1970, 1, 1).toordinal()
    texts = np.datetime_as_string((days - epoch).astype("datetime64[D]")).tolist()
    for chosen in (slice(0, 150_000), slice(650_000, 800_000), slice(-50_000, None)):
        array, outliers = gather_texts(1082, texts[chosen])
        assert outliers is None
        assert (array.cast(pa.int32()).to_numpy() == days[chosen] - epoch).all()


@pytest.mark.parametrize("has_zone", [False, True])
def test_moments_are_read_as_numpy_does(has_zone: bool) -> None:
    rng = random.Random(2)
    texts, expected = [], []
    for _ in range(20_000):
        moment = np.datetime64(rng.randrange(-62_135_596_800_000_000, 253_402_300_799_999_999), "us")
        digits = rng.choice([0, 1, 3, 6])
        text = str(moment).replace("T", " ")[: 19 if digits == 0 else 20 + digits]
        expected.append(int(np.datetime64(text.replace(" ", "T"), "us").astype(np.int64)))
        texts.append(text + ("+00" if has_zone else ""))
    array, outliers = gather_texts(1184 if has_zone else 1114, texts)
    assert outliers is None
    assert array.cast(pa.int64()).to_pylist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "2024-13-01", "2024-00-01", "2024-01-00", "2024-01-32", "0000-01-01", "2024/01/01", "2024-01-0a", "20a4-01-01",
    ],
)  # fmt: skip
def test_no_date_is_made_of_what_is_none(text: str) -> None:
    for oid, tail in ((1082, ""), (1114, " 00:00:00"), (1184, " 00:00:00+00")):
        array, outliers = gather_texts(oid, [text + tail])
        if text == "0000-01-01":
            continue  # read as 1 BC by the careful reader; PostgreSQL never prints it
        assert array.null_count == 1
        assert outliers is not None


@pytest.mark.parametrize(
    "clock",
    [
        "23:60:00",
        "23:59:60",
        "23-59:59",
        "23:59-59",
        "2a:00:00",
        "23:59:59.",
        "23:59:59.1234567",
        "1:00:00",
    ],
)
def test_no_moment_is_made_of_what_is_none(clock: str) -> None:
    _, outliers = gather_texts(1114, [f"2024-01-01 {clock}"])
    assert outliers is not None


_AMONG: Final = ["2024-11-25 12:34:56.789012"] * 3
"""Texts before and after the one in question: a text at either end of the bytes is left to the careful reader."""


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    ("oid", "good"),
    [
        (1114, "2024-11-25 12:34:56.789012"),
        (1114, "2024-11-25 12:34:56.7"),
        (1114, "2024-11-25 12:34:56"),
        (1184, "2024-11-25 12:34:56.789012+00"),
        (1184, "2024-11-25 12:34:56+00"),
        (1083, "12:34:56.789012"),
        (1083, "12:34:56.78"),
        (1083, "12:34:56"),
        (1082, "2024-11-25"),
        (1700, "1234567.89"),
        (1700, "-1234567.89"),
        (23, "-12345678"),
    ],
)
def test_a_byte_that_is_no_figure_makes_a_value_an_outlier(oid: int, good: str) -> None:
    """Every byte PostgreSQL would not print there, in the place of every figure and of every mark between them."""
    wrong = [
        good[:place] + chr(byte) + good[place + 1 :]
        for place in range(len(good))
        for byte in range(128)
        if chr(byte) not in _may_stand(oid, good[place])
    ]
    texts = [text for one in wrong for text in (good, one)]
    array, outliers = gather_texts(oid, [*_AMONG, *texts, *_AMONG], _PRICE if oid == 1700 else -1)
    assert outliers is not None
    lost = [text for text in outliers.texts.to_pylist() if text not in _AMONG]
    assert lost == wrong
    assert len(set(array.to_pylist()[3:-3:2])) == 1


def _may_stand(oid: int, letter: str) -> str:
    """Letters that make another value when they come in the place of this one."""
    if oid in (23, 1700):
        return string.digits + "-."
    if letter in string.digits:
        return string.digits
    return "+-" if letter == "+" else letter


@pytest.mark.parametrize("oid", [1114, 1083])
def test_every_microsecond_that_ends_anywhere_is_read_exactly(oid: int) -> None:
    rng = random.Random(5)
    texts, expected = [], []
    for _ in range(20_000):
        seconds, unit = rng.randrange(86_400), 10 ** rng.randrange(7)
        fraction = rng.randrange(10**6) // unit * unit
        text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        texts.append(f"{text}.{fraction:06d}".rstrip("0") if fraction else text)
        expected.append(seconds * 10**6 + fraction)
    texts += ["00:00:00", "23:59:59.999999", "00:00:00.000001"]
    expected += [0, 86_399_999_999, 1]
    array, outliers = gather_texts(oid, [("1970-01-01 " if oid == 1114 else "") + text for text in texts])
    assert outliers is None
    assert array.cast(pa.int64()).to_pylist() == expected


@pytest.mark.must_not_fail(12)
def test_no_clock_strikes_more_than_a_day_has() -> None:
    good = ["12:00:00.123456"] * 3
    for oid, date in ((1083, ""), (1114, "2024-01-01 ")):
        wrong = ["12:60:00", "12:99:00", "12:00:60", "12:00:99", "12:00:00."]
        if oid == 1083:
            wrong += ["24:00:00", "29:59:59", "30:00:00"]
        texts = [date + text for one in wrong for text in (*good, one)] + [date + text for text in good]
        _, outliers = gather_texts(oid, texts)
        assert outliers is not None
        assert outliers.texts.to_pylist() == [date + one for one in wrong]


def test_uuids_are_read_in_both_cases() -> None:
    rng = random.Random(3)
    made = [uuid.UUID(int=rng.getrandbits(128)) for _ in range(2000)]
    for texts in ([str(one) for one in made], [str(one).upper() for one in made]):
        array, outliers = gather_texts(2950, texts)
        assert outliers is None
        assert array.to_pylist() == [one.bytes for one in made]


@pytest.mark.parametrize("place", range(36))
def test_any_other_byte_in_a_uuid_makes_an_outlier(place: int) -> None:
    good = "01234567-89ab-cdef-0123-456789abcdef"
    wrong = [chr(byte) for byte in range(128) if chr(byte) not in ("-" if good[place] == "-" else string.hexdigits)]
    texts = [good[:place] + other + good[place + 1 :] for other in wrong]
    array, outliers = gather_texts(2950, texts)
    assert array.null_count == len(texts)
    assert outliers is not None


def test_prices_are_read_exactly_with_any_number_of_places() -> None:
    rng = random.Random(4)
    for precision, scale in ((4, 2), (12, 2), (18, 0), (18, 18), (19, 6), (38, 10), (38, 20), (76, 30)):
        texts = []
        for _ in range(300):
            number = str(rng.randrange(10 ** rng.randint(1, precision))).rjust(scale + 1, "0")
            texts.append(rng.choice(["", "-"]) + (f"{number[:-scale]}.{number[-scale:]}" if scale else number))
        array, outliers = gather_texts(1700, texts, (precision << 16 | scale) + 4)
        assert outliers is None
        assert [format(value, "f") for value in array.to_pylist()] == [_plain(text) for text in texts]


def _plain(text: str) -> str:
    return text[1:] if not text.strip("-0.") and text.startswith("-") else text
