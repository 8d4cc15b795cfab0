"""Durations as flow files write them: ``500ms``, ``1s``, ``1m30s``, or a whole number of milliseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_UNITS_US: Final = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_TERM: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(us|µs|ms|s|m|h)", re.ASCII)
_LIMIT: Final = timedelta(days=366)


def parse_duration(value: Any) -> timedelta:
    """A duration from Go syntax (``1m30s``), a whole number of milliseconds (number or digits), or a timedelta.

    ValueError, without the value, for anything else, for negative durations and for more than 366 days.
    """
    duration = _read(value)
    if not timedelta(0) <= duration <= _LIMIT:
        raise ValueError("must lie between 0 and 366 days")
    return duration


def _read(value: Any) -> timedelta:
    match value:
        case timedelta():
            return value
        case int() if not isinstance(value, bool):
            return _from_us(value * 1_000)
        case str():
            text = value.strip()
            if re.fullmatch(r"\d{1,18}", text, re.ASCII):
                return _from_us(int(text) * 1_000)
            terms = list(_TERM.finditer(text))
            if terms and "".join(term[0] for term in terms) == text:
                return _from_us(sum(round(float(term[1]) * _UNITS_US[term[2]]) for term in terms))
    raise ValueError("must be a duration such as 500ms, 10s or 1m30s, or a whole number of milliseconds")


def _from_us(microseconds: int) -> timedelta:
    limit = _LIMIT // timedelta(microseconds=1)
    return timedelta(microseconds=max(-1, min(microseconds, limit + 1)))


def format_duration(duration: timedelta) -> str:
    """The shortest single-unit text `parse_duration` reads back: ``500ms``, ``90s``, ``2m``, ``1us``."""
    microseconds = duration // timedelta(microseconds=1)
    for unit in ("h", "m", "s", "ms"):
        if microseconds and microseconds % _UNITS_US[unit] == 0:
            return f"{microseconds // _UNITS_US[unit]}{unit}"
    return f"{microseconds}us" if microseconds else "0s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
"""A field type: a non-negative ``timedelta``, read from and written as text such as ``500ms``."""
