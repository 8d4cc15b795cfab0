"""Values from their JSON texts: what `wallaby.wire.json.json_texts` makes of a column, back again, in columns.

A text that is not exactly what that function writes is a ValueError (or Arrow's own), never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import validity_bitmap
from wallaby.intervals import INTERVAL, intervals
from wallaby.wire.json import civil
from wallaby.wire.nesting import exchanged, exchanged_type

_TEXT: Final = pa.large_string()
_DAY_US: Final = 86_400_000_000
_DAYS_MAX: Final = 106_751_992
"""More do not fit into 64 bits of microseconds."""
_SECONDS_MAX: Final = 2**63 // 1_000_000_000
"""More do not fit into 64 bits of nanoseconds."""
_MOMENT: Final = (
    r"^(?P<year>[0-9]{4,7})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?P<clock>[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)?(?P<zone>Z|\+00)?(?P<era> BC)?$"
)
_CLOCK: Final = r"^(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?$"
_DURATION: Final = (
    r"^P(?P<months>-?[0-9]+)M(?P<days>-?[0-9]+)DT(?P<sign>-?)(?P<seconds>[0-9]+)(?:\.(?P<fraction>[0-9]{1,6}))?S$"
)

_Numbers = npt.NDArray[np.int64]


def text_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type of a column's values as the JSON parser gives them, numbers as texts."""
    return exchanged_type(kind, lambda leaf: leaf if pa.types.is_boolean(leaf) or pa.types.is_null(leaf) else _TEXT)


def from_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values of ``kind`` from those of `text_type`."""
    return exchanged(texts, kind, lambda leaves, wanted: _parser(wanted)(leaves, wanted))


_Parser = Callable[[pa.Array, pa.DataType], pa.Array]


def _parser(kind: pa.DataType) -> _Parser:
    t = pa.types
    if t.is_date32(kind) or t.is_timestamp(kind):
        return _moments
    if t.is_time64(kind):
        return _clocks
    if kind == INTERVAL:
        return _intervals
    if t.is_fixed_size_binary(kind):
        return _uuids
    if t.is_binary(kind) or t.is_large_binary(kind):
        return _octets
    return pa.Array.cast


def _moments(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    parts = _parts(texts, _MOMENT)
    is_date = pa.types.is_date32(kind)
    year, month, day = (_numbers(parts, name) for name in ("year", "month", "day"))
    year = np.where(_is_given(parts, "era"), 1 - year, year)
    days = _days(year, month, day)
    valid = _valid(texts)
    same = [
        np.array_equal(ours[valid], theirs[valid]) for ours, theirs in zip(civil(days), (year, month, day), strict=True)
    ]
    is_whole = (_is_given(parts, "clock") != is_date) & (
        _is_given(parts, "zone") == (not is_date and kind.tz is not None)
    )
    if not all(same) or not is_whole[valid].all():
        raise ValueError("a date or a timestamp is malformed")
    if is_date:
        return pa.array(days, pa.int64(), mask=~valid).cast(pa.int32()).view(kind)
    clock = pc.utf8_slice_codeunits(parts.field(_place(parts, "clock")), 1)
    microseconds = _clocks(pc.if_else(texts.is_valid(), clock, pa.scalar(None, _TEXT)), pa.time64("us"))
    if (np.abs(days[valid]) > _DAYS_MAX).any():
        raise ValueError("a timestamp is out of range")
    total = days * _DAY_US + microseconds.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if ((total < 0) != (days < 0))[valid].any():
        raise ValueError("a timestamp is out of range")
    return pa.array(total, pa.int64(), mask=~valid).view(kind)


def _clocks(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    parts = _parts(texts, _CLOCK)
    hour, minute, second = (_numbers(parts, name) for name in ("hour", "minute", "second"))
    if (hour > 23).any() or (minute > 59).any() or (second > 59).any():
        raise ValueError("a time is malformed")
    total = ((hour * 60 + minute) * 60 + second) * 1_000_000 + _fraction(parts)
    return pa.array(total, pa.int64(), mask=~_valid(texts)).view(pa.time64("us")).cast(kind)


def _intervals(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    parts = _parts(texts, _DURATION)
    seconds = _numbers(parts, "seconds")
    if (seconds > _SECONDS_MAX).any():
        raise ValueError("an interval is out of range")
    size = seconds * 1_000_000 + _fraction(parts)
    sign = np.where(_is_given(parts, "sign"), -1, 1)
    months, days = (pa.array(_numbers(parts, name)).cast(pa.int32()).to_numpy() for name in ("months", "days"))
    return intervals(months, days, sign * size, validity_bitmap(texts))


def _octets(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pc.all(pc.starts_with(texts, "\\x"), min_count=0).as_py():
        raise ValueError("bytes are malformed")
    return _unhexed(texts, pc.utf8_slice_codeunits(texts, 2)).cast(kind)


def _uuids(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pc.all(pc.match_substring_regex(texts, "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"), min_count=0).as_py():
        raise ValueError("a UUID is malformed")
    return _unhexed(texts, pc.replace_substring(texts, "-", "")).cast(kind)


def _unhexed(texts: pa.Array, figures: pa.Array) -> pa.Array:
    figures = figures.fill_null("").cast(_TEXT)
    ends = np.frombuffer(figures.buffers()[1], np.int64)[figures.offset : figures.offset + len(figures) + 1]
    data = bytes(memoryview(figures.buffers()[2] or b"")[int(ends[0]) : int(ends[-1])])
    octets = bytes.fromhex(data.decode("ascii"))
    if len(octets) * 2 != len(data) or (np.diff(ends) % 2).any():
        raise ValueError("hexadecimal figures are malformed")
    starts = pa.py_buffer(np.ascontiguousarray((ends - ends[0]) // 2))
    buffers = [validity_bitmap(texts), starts, pa.py_buffer(octets)]
    return pa.Array.from_buffers(pa.large_binary(), len(figures), buffers)


def _parts(texts: pa.Array, pattern: str) -> pa.StructArray:
    """The pattern's groups; ValueError when a text does not match."""
    parts = pc.extract_regex(texts, pattern)
    if parts.null_count != texts.null_count:
        raise ValueError("a text is malformed")
    return parts


def _place(parts: pa.StructArray, name: str) -> int:
    return int(parts.type.get_field_index(name))


def _numbers(parts: pa.StructArray, name: str) -> _Numbers:
    """A group as numbers, zero for null rows."""
    texts = pc.if_else(parts.is_valid(), parts.field(_place(parts, name)), pa.scalar("0", _TEXT))
    return np.asarray(texts.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _fraction(parts: pa.StructArray) -> _Numbers:
    texts = pc.if_else(parts.is_valid(), parts.field(_place(parts, "fraction")), pa.scalar("", _TEXT))
    return np.asarray(pc.utf8_rpad(texts, 6, "0").cast(pa.int64()).to_numpy(zero_copy_only=False))


def _is_given(parts: pa.StructArray, name: str) -> npt.NDArray[np.bool_]:
    texts = pc.if_else(parts.is_valid(), parts.field(_place(parts, name)), pa.scalar("", _TEXT))
    return np.asarray(pc.not_equal(texts, "").to_numpy(zero_copy_only=False))


def _valid(texts: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(texts.is_valid().to_numpy(zero_copy_only=False))


def _days(year: _Numbers, month: _Numbers, day: _Numbers) -> _Numbers:
    """The inverse of `wallaby.wire.json.civil` for days that exist."""
    march_year = year - (month <= 2)
    era, year_of_era = np.divmod(march_year, 400)
    day_of_year = (153 * np.where(month > 2, month - 3, month + 9) + 2) // 5 + day - 1
    return np.asarray(era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468)


__all__ = ["from_texts", "text_type"]
