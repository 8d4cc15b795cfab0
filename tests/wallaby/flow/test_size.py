"""Sizes are read with their unit and written so that they read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby.flow import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("4 kB", 4000), ("64MiB", 64 << 20), (" 1gib ", 1 << 30), ("2GB", 2_000_000_000), ("0KiB", 0)],
)
def test_decimal_and_binary_units_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "64", 64, 64.0, True, None, [], "MiB", "1.5MiB", "-1B", "1TB", "1 MiB/s", "٣B"])
def test_anything_else_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_size(value)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 10**12 - 1))
def test_what_is_written_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size
