"""The loops of a sweep over text cells: one column, one block of at most 64 rows.

Each writes a value for every row, zero where there is none, and returns the word of validity. What PostgreSQL usually
prints is read in place; anything else by a careful reader, which is called.
"""

# Compiled in: binary_loops 958193b5, endian a42f72e9, figures 9a8015c2
# Compiled in: floats 55891be3, sweep_plan 4b80aa58, text_kernels e228bf9d
# Compiled in: text_numbers d9872f3a, text_times 9a1abbbc
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.binary_loops import bit
from wallaby.pgtypes.compiled import called
from wallaby.pgtypes.endian import (
    item,
    put_16,
    put_32,
    put_64,
)
from wallaby.pgtypes.figures import uuid_at
from wallaby.pgtypes.floats import float4_at, float8_at
from wallaby.pgtypes.sweep_plan import (
    BYTES_PER_ROW,
    COLUMN,
    LEAST,
    LIMBS,
    MOST,
    SCALE,
)
from wallaby.pgtypes.text_kernels import uuid_text_at
from wallaby.pgtypes.text_numbers import NOT_USUAL, decimal_text_at, integer_text_at, usual_decimal_text, usual_integer
from wallaby.pgtypes.text_times import (
    date_text_at,
    interval_text_at,
    time_text_at,
    timestamp_text_at,
    usual_days,
    usual_time,
    usual_timestamp,
)

_INT32_MAX: Final = 2**31 - 1
_INT32_MIN: Final = -(2**31)
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)


@called
def text_bools(data, offset, length, base, column, begin, stop, out, to):
    """``t`` or ``f`` to one bit."""
    valid = np.uint64(0)
    values = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        fits = (item(length, j) == 1) & (at >= 0)
        letter = data[np.uint64(at if fits else 0)]
        values |= bit(fits & (letter == 116), i - begin)
        valid |= bit(fits & ((letter == 116) | (letter == 102)), i - begin)
    put_64(out, to, np.int64(values))
    return valid


@called
def text_integers(data, offset, length, base, plan, begin, stop, out, to):
    """Decimal integers from ``LEAST`` to ``MOST``."""
    column, width, least, most = plan[COLUMN], plan[BYTES_PER_ROW], plan[LEAST], plan[MOST]
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        value = np.int64(0)
        if size > 0 and at >= 0:
            value = usual_integer(data, at, at + size)
            fits = True
            if value == NOT_USUAL:
                value, fits = integer_text_at(data, at, at + size)
            fits = fits & (value >= least) & (value <= most)
            value = value if fits else np.int64(0)
            valid |= bit(fits, i - begin)
        if width == 4:
            put_32(out, to, value)
        elif width == 8:
            put_64(out, to, value)
        else:
            put_16(out, to, value)
        to += width
    return valid


@called
def text_floats(data, offset, length, base, plan, begin, stop, out, to):
    """Finite floats as PostgreSQL prints nearly all; the others get no bit."""
    column, width = plan[COLUMN], plan[BYTES_PER_ROW]
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        value = np.int64(0)
        if size > 0 and at >= 0:
            if width == 8:
                value, fits = float8_at(data, at, at + size)
            else:
                value, fits = float4_at(data, at, at + size)
            valid |= bit(fits, i - begin)
        if width == 8:
            put_64(out, to, value)
        else:
            put_32(out, to, value)
        to += width
    return valid


@called
def text_uuids(data, offset, length, base, column, begin, stop, out, to):
    """``8-4-4-4-12`` hexadecimal figures to 16 bytes."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        fits = False
        if item(length, j) == 36 and at >= 0:
            fits = uuid_at(data, at, out, to) or uuid_text_at(data, at, out, to)
        if not fits:
            put_64(out, to, np.int64(0))
            put_64(out, to + 8, np.int64(0))
        to += 16
        valid |= bit(fits, i - begin)
    return valid


@called
def text_dates(data, offset, length, base, column, begin, stop, out, to):
    """``YYYY-MM-DD[ BC]`` to days since 1970."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        days = np.int64(0)
        if size > 0 and at >= 0:
            days = usual_days(data, at) if size == 10 else np.int64(NOT_USUAL)
            fits = True
            if days == NOT_USUAL:
                days, fits = date_text_at(data, at, at + size)
            valid |= bit(fits, i - begin)
        put_32(out, to, days)
        to += 4
    return valid


@called
def text_times(data, offset, length, base, column, begin, stop, out, to):
    """``HH:MM:SS[.ffffff]`` to microseconds; 24:00:00 is an outlier."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        time = np.int64(0)
        if size > 0 and at >= 0:
            time = usual_time(data, at, at + size)
            fits = True
            if time == NOT_USUAL:
                time, fits = time_text_at(data, at, at + size)
            valid |= bit(fits, i - begin)
        put_64(out, to, time)
        to += 8
    return valid


@called
def text_timestamps(data, offset, length, base, column, has_zone, begin, stop, out, to):
    """``YYYY-MM-DD HH:MM:SS[.ffffff][+ZZ[:ZZ[:ZZ]]][ BC]`` to microseconds since 1970 (UTC with a zone)."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        time = np.int64(0)
        if size > 0 and at >= 0:
            time = usual_timestamp(data, at, at + size, has_zone)
            fits = True
            if time == NOT_USUAL:
                time, fits = timestamp_text_at(data, at, at + size, has_zone)
            valid |= bit(fits, i - begin)
        put_64(out, to, time)
        to += 8
    return valid


@called
def text_intervals(data, offset, length, base, column, begin, stop, out, to):
    """``1 year -2 mons 3 days -04:05:06.7`` to Arrow's months, days, nanoseconds."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        fits = False
        if size > 0 and at >= 0:
            months, days, time, fits = interval_text_at(data, at, at + size)
            if fits:
                put_32(out, to, months)
                put_32(out, to + 4, days)
                put_64(out, to + 8, time * 1000)
        if not fits:
            put_64(out, to, np.int64(0))
            put_64(out, to + 8, np.int64(0))
        to += 16
        valid |= bit(fits, i - begin)
    return valid


@called
def text_decimals(data, offset, length, base, plan, bound, begin, stop, words, first):
    """Decimal numbers to ``LIMBS`` words each."""
    column, scale, limbs = plan[COLUMN], plan[SCALE], plan[LIMBS]
    is_small = bound[1] == 0 and bound[2] == 0 and bound[3] == 0 and bound[0] <= np.uint64(_INT64_MAX)
    most = np.int64(bound[0]) if is_small else np.int64(_INT64_MAX)
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        value = np.int64(0)
        fits = False
        is_left = (size > 0) & (at >= 0)
        if is_left:
            value = usual_decimal_text(data, at, at + size, scale)
            fits = (value < most) & (value > -most)
            is_left = not fits
            value = value if fits else np.int64(0)
        words[np.uint64(first)] = np.uint64(value)
        for k in range(1, limbs):
            words[np.uint64(first + k)] = np.uint64(value >> 63)
        if is_left:
            fits = decimal_text_at(data, at, at + size, scale, limbs, bound, words, first)
        valid |= bit(fits, i - begin)
        first += limbs
    return valid
