"""Durations are read as Go writes them and written so that they read back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby.flow import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("1s", 1000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0", 0), ("250", 250), (" 1s ", 1000)],
)
def test_go_syntax_and_milliseconds_are_read(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize(
    "value", ["", "s", "1 s", "1x", "-1s", "1s2", True, 1.5, None, [], -1, 10**30, "9" * 400, "٣s"]
)
def test_anything_else_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_duration(value)


@settings(deadline=None, derandomize=True)
@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=366)))
def test_what_is_written_reads_back(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration
