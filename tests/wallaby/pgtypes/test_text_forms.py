"""Texts PostgreSQL would print under other settings, or not at all: outliers with the same text, never other values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from wallaby.pgtypes.gather import Cells, MalformedCell, Outliers, gather
from wallaby.pgtypes.layout import layout_of
from wallaby.pgtypes.types import builtin_type


def gather_texts(oid: int, texts: list[str], typmod: int = -1) -> tuple[pa.Array, Outliers | None]:
    pg_type = builtin_type(oid)
    assert pg_type is not None
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded])
    length = np.array([len(text) for text in encoded], np.int32)
    data = np.frombuffer(b"".join(encoded) + b"\0", np.uint8)
    base = np.arange(len(texts), dtype=np.int32)
    array, outliers = gather(layout_of(pg_type, typmod), Cells(data, ~(ends - length).astype(np.int32), length, base))
    array.validate(full=True)
    return array, outliers


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    ("oid", "texts"),
    [
        (16, ["true", "", "T"]),
        (21, ["32768", "-32769", "", "-", "+1", "1.0", " 1", "12a"]),
        (23, ["2147483648", "-2147483649"]),
        (20, ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "-"]),
        (26, ["-1", "4294967296"]),
        (1082, ["15.03.2024", "03/15/2024", "2024-13-01", "2024-00-01", "2024-01-32", "2024-1-1", "24-01-01", "today",
                "2024-01-01 AD", "9999999-01-01", "9999-01-01 BC", "2024-01-01x", ""]),
        (1083, ["24:00:00", "1:00:00", "12:60:00", "12:00:60", "12:00", "12:00:00.", "12:00:00.1234567", "12:00:00+1"]),
        (1114, ["15.03.2024 00:00:00", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01 00:00:00+00", "infinity",
                "294277-01-01 00:00:00", "5874897-01-01 00:00:00", "9999-01-01 00:00:00 BC"]),
        (1184, ["2024-01-01 00:00:00", "2024-01-01 00:00:00 CET", "2024-01-01 00:00:00+", "2024-01-01 00:00:00+1",
                "2024-01-01 00:00:00+01:", "Mon Jan 01 00:00:00 2024 UTC"]),
        (1186, ["P1D", "@ 1 day", "1-2", "infinity", "1 fortnight", "1", "1 day x", "9999999999 days",
                "99999999999999999999 days", "9999999999:00:00", "1:00"]),
        (2950, ["0123abcd456789ef0123456789abcdef", "g123abcd-4567-89ef-0123-456789abcdef", "0123abcd-4567"]),
        (17, ["abc", "\\x0", "\\x0g", "", "\\000"]),
        (1007, ["{1,{2}}", "{{1},{2}}", "[0:1]={1,2}", "{1", "1}", "{1,}", "{,1}", "{1,x}", "{\"1\"x}", "{\"1}", ""]),
    ],
)  # fmt: skip
def test_unexpected_texts_become_outliers_word_for_word(oid: int, texts: list[str]) -> None:
    array, outliers = gather_texts(oid, texts)
    assert array.null_count == len(texts)
    assert outliers is not None
    assert outliers.texts.to_pylist() == texts


@pytest.mark.must_not_fail(12)
def test_decimals_that_overflow_or_have_more_figures_are_outliers() -> None:
    texts = ["12345678.90", "100000000", "0.001", "1.100", "1e3", "-", ".", "1.2.3", "9" * 90, "-99999999.99", "NaN"]
    array, outliers = gather_texts(1700, texts, typmod=(10 << 16 | 2) + 4)
    assert outliers is not None
    fitting = [0, 3, 9]
    assert [row for row in range(len(texts)) if array[row].is_valid] == fitting
    assert outliers.texts.to_pylist() == [text for row, text in enumerate(texts) if row not in fitting]
    assert [str(array[row].as_py()) for row in fitting] == ["12345678.90", "1.10", "-99999999.99"]


def test_zones_with_minutes_and_seconds_are_read() -> None:
    array, outliers = gather_texts(1184, ["1880-01-01 00:00:00+00:53:28", "2024-01-01 00:00:00-03:30"])
    assert outliers is None
    assert array.cast(pa.int64()).to_pylist() == [-2840140800_000000 - 3208_000000, 1704067200_000000 + 12600_000000]


def test_words_for_numbers_are_refused() -> None:
    with pytest.raises(MalformedCell):
        gather_texts(701, ["1.5", "many"])


def test_random_texts_give_valid_arrays_and_lose_nothing() -> None:
    """For every built-in type: a text is a value, or an outlier of the same text."""
    rng = np.random.default_rng(11)
    alphabet = list('0123456789-+:. {},"\\xnulNULBCtfday')
    texts = ["".join(rng.choice(alphabet, rng.integers(0, 24))) for _ in range(400)]
    for oid in (16, 20, 21, 23, 26, 17, 2950, 1082, 1083, 1114, 1184, 1186, 1700, 1007, 1009, 1231, 1115):
        for typmod in (-1, (20 << 16 | 3) + 4) if oid in (1700, 1231) else (-1,):
            array, outliers = gather_texts(oid, texts, typmod)
            lost = [] if outliers is None else outliers.texts.to_pylist()
            assert lost == [text for row, text in enumerate(texts) if not array[row].is_valid]
