"""One compiled pass over rows that fills the Arrow buffers of many columns at once.

Cells lie row by row, Arrow wants columns. Gathered column by column, 40 columns read the whole index 40 times, each
time too long ago for the cache to remember it. So rows are taken 64 at a time, and for these the columns one after the
other: the cells of 64 rows stay in the first cache, and 64 validity bits are one word, kept in a register.

Each kind of value has a loop over the cells of one column and block. It writes every row's value (zero where there is
none) and returns the word of validity: a bit for each value that is of the loop's format and that Arrow can hold. Only
where bits are missing are the block's cells counted: NULL, text, or binary of a wrong width. What the counts then say
(outliers, both formats in one column, malformed cells) is for ``wallaby.pgtypes.sweep``.

A block whose first value is text takes the loop of the column's ``TEXT_KIND``, else that of its ``BINARY_KIND``. A
column that is gathered at all has every block written, those of NULLs alone too: nothing clears the arena.
"""

# Compiled in: endian df3254ed, figures f966935c, floats dffbad83
# Compiled in: kernels b960937f, numeric_kernels a8f0216f, text_kernels fdce2da6
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np
from numba import njit

from wallaby.pgtypes.compiled import CALLED, OPTIONS
from wallaby.pgtypes.endian import (
    be16,
    be32,
    be64,
    copy_bytes,
    copy_word,
    item,
    load_32,
    ones,
    prefetch,
    put_16,
    put_32,
    put_64,
)
from wallaby.pgtypes.figures import FIGURES_MAX, uuid_at, ymd_at
from wallaby.pgtypes.floats import float4_at, float8_at
from wallaby.pgtypes.kernels import (
    BYTES,
    DAYS_1970_TO_2000,
    I32,
    MICROSECONDS_1970_TO_2000,
    MICROSECONDS_PER_DAY,
    U8,
    U64,
)
from wallaby.pgtypes.numeric_kernels import decimal_at, power_of_ten, usual_decimal
from wallaby.pgtypes.text_kernels import (
    NOT_USUAL,
    date_text_at,
    decimal_text_at,
    integer_text_at,
    interval_text_at,
    time_text_at,
    timestamp_text_at,
    usual_days,
    usual_decimal_text,
    usual_integer,
    usual_timestamp,
    uuid_text_at,
)

# Kinds of loops.
COUNTED: Final = 0
"""Not gathered here; its cells are only counted."""
BOOLS: Final = 1
TWOS: Final = 2
FOURS: Final = 3
EIGHTS: Final = 4
SIXTEENS: Final = 5
DATES: Final = 6
TIMES: Final = 7
TIMESTAMPS: Final = 8
INTERVALS: Final = 9
DECIMALS: Final = 10
STRINGS: Final = 11
"""Offsets only: ``copy_strings`` follows. Takes cells of both formats."""
TEXT_BOOLS: Final = 12
TEXT_INTEGERS: Final = 13
TEXT_FLOAT4S: Final = 14
TEXT_FLOAT8S: Final = 15
TEXT_UUIDS: Final = 16
TEXT_DATES: Final = 17
TEXT_TIMES: Final = 18
TEXT_TIMESTAMPS: Final = 19
TEXT_TIMESTAMPTZS: Final = 20
TEXT_INTERVALS: Final = 21
TEXT_DECIMALS: Final = 22

# Fields of a column's row in ``plan``.
COLUMN: Final = 0
"""Its place in the tuple."""
BINARY_KIND: Final = 1
TEXT_KIND: Final = 2
WIDTH: Final = 3
"""Bytes of a binary value; 0 for any."""
BYTES_PER_ROW: Final = 4
"""Bytes of an Arrow value; 0 for single bits; of an offset for strings."""
LEAST: Final = 5
MOST: Final = 6
"""Limits of text integers."""
SCALE: Final = 7
LIMBS: Final = 8
PREFIX: Final = 9
"""Bytes of every binary string to leave out."""
VALID_AT: Final = 10
"""Where in the arena the column's validity begins: written by ``lay_out``, like the next."""
VALUES_AT: Final = 11
PLAN_FIELDS: Final = 12

# Fields of a column's row in ``counts``, zeroed by the caller.
NULLS: Final = 0
TEXTS: Final = 1
MISFITS: Final = 2
"""Cells that cannot be of the type."""
VALID: Final = 3
FIRST_MISFIT: Final = 4
"""The row of a malformed variable-width cell, plus one; 0 for none."""
END: Final = 5
"""Bytes of all strings."""
KIND: Final = 6
"""The loop whose values count: ``COUNTED`` when the column has cells of both formats and they need two."""
IS_PLAIN: Final = 7
"""1 when every value is in the arena: no outlier, no misfit, not all NULL, not left to others."""
PLACE: Final = 8
"""Where among all strings those of the column begin."""
UNION: Final = 9
"""All their bytes or-ed together: below 128 for pure ASCII."""
COUNT_FIELDS: Final = 10

BLOCK_ROWS: Final = 64
LINE_BYTES: Final = 64
FETCH_CELLS_MAX: Final = 64 * 100
FETCH_BYTES_MAX: Final = 64 * 1024
ALIGNMENT: Final = 64
SHORT_BYTES: Final = 32
"""Strings up to this size are copied in words; ``copy_strings`` may write so many bytes too far."""
DATA_BYTES_MIN: Final = 16
"""``data`` is at least so long: loops load eight or sixteen bytes where there is no value too, and drop them."""

_PLAN = nb.int64[:, ::1]
_BOUNDS = nb.uint64[:, ::1]
_INT32_MAX: Final = 2**31 - 1
_INT32_MIN: Final = -(2**31)
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)


@njit(nb.int64(_PLAN, nb.int64), **OPTIONS)
def lay_out(plan, rows):
    """Give every column its place in an arena for ``rows`` rows; returns the bytes it needs."""
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    end = np.int64(0)
    for k in range(plan.shape[0]):
        if plan[k, BINARY_KIND] == COUNTED and plan[k, TEXT_KIND] == COUNTED:
            continue
        plan[k, VALID_AT] = end
        end += (8 * blocks + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        plan[k, VALUES_AT] = end
        size = 8 * blocks if plan[k, BYTES_PER_ROW] == 0 else plan[k, BYTES_PER_ROW] * (rows + 1)
        end += (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return end


@njit(inline="always")
def bit(fits, i):
    """One validity bit in its place."""
    return np.uint64(fits) << np.uint64(i)


@njit(**CALLED)
def bools(data, offset, length, base, column, begin, stop, out, to):
    """One byte to one bit."""
    valid = np.uint64(0)
    values = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 1) & (at >= 0)
        is_true = data[np.uint64(at if fits else 0)] != 0
        values |= bit(fits & is_true, i - begin)
        valid |= bit(fits, i - begin)
    put_64(out, to, np.int64(values))
    return valid


@njit(**CALLED)
def twos(data, offset, length, base, column, begin, stop, out, to):
    """Two-byte integers."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 2) & (at >= 0)
        value = be16(data, at if fits else np.int64(0))
        put_16(out, to, value if fits else np.int64(0))
        to += 2
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def fours(data, offset, length, base, column, begin, stop, out, to):
    """Four-byte integers and floats."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 4) & (at >= 0)
        value = be32(data, at if fits else np.int64(0))
        put_32(out, to, value if fits else np.int64(0))
        to += 4
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def eights(data, offset, length, base, column, begin, stop, out, to):
    """Eight-byte integers and floats."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 8) & (at >= 0)
        value = be64(data, at if fits else np.int64(0))
        put_64(out, to, value if fits else np.int64(0))
        to += 8
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def sixteens(data, offset, length, base, column, begin, stop, out, to):
    """Sixteen bytes as they are."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 16) & (at >= 0)
        if fits:
            copy_word(out, to, data, at)
            copy_word(out, to + 8, data, at + 8)
        else:
            put_64(out, to, np.int64(0))
            put_64(out, to + 8, np.int64(0))
        to += 16
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def dates(data, offset, length, base, column, begin, stop, out, to):
    """Days since 2000 to days since 1970; the infinities are outliers. Every finite date fits."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 4) & (at >= 0)
        days = np.int64(np.int32(be32(data, at if fits else np.int64(0))))
        fits = fits & (days != _INT32_MAX) & (days != _INT32_MIN)
        put_32(out, to, days + DAYS_1970_TO_2000 if fits else np.int64(0))
        to += 4
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def times(data, offset, length, base, column, begin, stop, out, to):
    """Microseconds since midnight; 24:00:00 is an outlier."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 8) & (at >= 0)
        time = be64(data, at if fits else np.int64(0))
        fits = fits & (time >= 0) & (time < MICROSECONDS_PER_DAY)
        put_64(out, to, time if fits else np.int64(0))
        to += 8
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def timestamps(data, offset, length, base, column, begin, stop, out, to):
    """Microseconds since 2000 to since 1970; the infinities and the last 30 years before 294277 are outliers."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 8) & (at >= 0)
        time = be64(data, at if fits else np.int64(0))
        fits = fits & (time != _INT64_MIN) & (time <= _INT64_MAX - MICROSECONDS_1970_TO_2000)
        put_64(out, to, time + MICROSECONDS_1970_TO_2000 if fits else np.int64(0))
        to += 8
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def intervals(data, offset, length, base, column, begin, stop, out, to):
    """Microseconds, days, months to Arrow's months, days, nanoseconds."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        fits = (item(length, j) == 16) & (at >= 0)
        at = at if fits else np.int64(0)
        time = be64(data, at)
        # Infinity is (max, max, max) from PostgreSQL 17 on, and overflows here like every other 292 years.
        fits = fits & (time >= -9223372036854775) & (time <= 9223372036854775)
        put_32(out, to, be32(data, at + 12) if fits else np.int64(0))
        put_32(out, to + 4, be32(data, at + 8) if fits else np.int64(0))
        put_64(out, to + 8, time * 1000 if fits else np.int64(0))
        to += 16
        valid |= bit(fits, i - begin)
    return valid


@njit(**CALLED)
def decimals(data, offset, length, base, plan, bound, begin, stop, words, first, count):
    """Numerics to ``LIMBS`` words each; the row of a malformed one goes to ``count``."""
    column, scale, limbs = plan[COLUMN], plan[SCALE], plan[LIMBS]
    bound_word = bound[0] if bound[1] == 0 and bound[2] == 0 and bound[3] == 0 else ~np.uint64(0)
    kept = (scale + 3) // 4
    divisor = np.int64(1)
    for _ in range(4 * kept - scale):
        divisor *= 10
    reciprocal = ((np.int64(1) << 32) + divisor - 1) // divisor
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = item(offset, j)
        size = item(length, j)
        has_value = (size >= 0) & (at >= 0)
        value = np.int64(-1)
        if has_value:
            value = usual_decimal(data, at, size, kept, divisor, reciprocal)
        if value >= 0 and np.uint64(value) < bound_word:
            if be16(data, at + 4) != 0:
                value = -value
            words[np.uint64(first)] = np.uint64(value)
            for k in range(1, limbs):
                words[np.uint64(first + k)] = np.uint64(value >> 63)
            valid |= bit(True, i - begin)
        else:
            for k in range(limbs):
                words[np.uint64(first + k)] = np.uint64(0)
            if has_value:
                found = decimal_at(data, at, size, scale, limbs, bound, words, first)
                if found > 0:
                    valid |= bit(True, i - begin)
                elif found < 0 and count[FIRST_MISFIT] == 0:
                    count[MISFITS] += 1
                    count[FIRST_MISFIT] = i + 1
        first += limbs
    return valid


@njit(**CALLED)
def strings(offset, length, base, column, prefix, begin, stop, out, to, count):
    """Offsets of strings; those too short for their prefix are misfits."""
    valid = np.uint64(0)
    end = count[END]
    texts = np.int64(0)
    for i in range(begin, stop):
        put_32(out, to, end)
        to += 4
        j = item(base, i) + column
        size = item(length, j)
        is_text = item(offset, j) < 0
        skipped = np.int64(0) if is_text else prefix
        fits = size >= skipped
        end += size - skipped if fits else np.int64(0)
        texts += np.int64(is_text)
        if not fits and size >= 0:
            count[MISFITS] += 1
            if count[FIRST_MISFIT] == 0:
                count[FIRST_MISFIT] = i + 1
        valid |= bit(fits, i - begin)
    put_32(out, to, end)
    count[END] = end
    count[TEXTS] += texts
    return valid


@njit(**CALLED)
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


@njit(**CALLED)
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


@njit(**CALLED)
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


@njit(**CALLED)
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


@njit(**CALLED)
def text_dates(data, offset, length, base, column, begin, stop, out, to):
    """``YYYY-MM-DD[ BC]`` to days since 1970."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        days = np.int64(0)
        if size > 0 and at >= 0:
            days = usual_days(ymd_at(data, at)) if size == 10 else np.int64(NOT_USUAL)
            fits = True
            if days == NOT_USUAL:
                days, fits = date_text_at(data, at, at + size)
            valid |= bit(fits, i - begin)
        put_32(out, to, days)
        to += 4
    return valid


@njit(**CALLED)
def text_times(data, offset, length, base, column, begin, stop, out, to):
    """``HH:MM:SS[.ffffff]`` to microseconds; 24:00:00 is an outlier."""
    valid = np.uint64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        at = ~item(offset, j)
        size = item(length, j)
        time = np.int64(0)
        if size > 0 and at >= 0:
            time, fits = time_text_at(data, at, at + size)
            valid |= bit(fits, i - begin)
        put_64(out, to, time)
        to += 8
    return valid


@njit(**CALLED)
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


@njit(**CALLED)
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


@njit(**CALLED)
def text_decimals(data, offset, length, base, plan, bound, begin, stop, words, first):
    """Decimal numbers to ``LIMBS`` words each."""
    column, scale, limbs = plan[COLUMN], plan[SCALE], plan[LIMBS]
    has_usual = 0 < scale <= FIGURES_MAX
    unit = power_of_ten(scale) if has_usual else np.int64(0)
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
        if is_left and has_usual:
            value = usual_decimal_text(data, at, at + size, scale, unit)
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


@njit(**CALLED)
def is_text_block(offset, length, base, plan, begin, stop):
    """True when the first value is text; without a value, when only the loop for text writes the column."""
    for i in range(begin, stop):
        j = item(base, i) + plan[COLUMN]
        if item(length, j) >= 0:
            return item(offset, j) < 0
    return plan[BINARY_KIND] == COUNTED


@njit(**CALLED)
def count_block(offset, length, base, column, width, begin, stop, count):
    """Count cells without value, text cells, and binary cells whose length is not ``width`` (0: any is fine)."""
    nulls = np.int64(0)
    texts = np.int64(0)
    misfits = np.int64(0)
    for i in range(begin, stop):
        j = item(base, i) + column
        size = item(length, j)
        is_null = size < 0
        is_text = item(offset, j) < 0
        nulls += np.int64(is_null)
        texts += np.int64(is_text)
        is_misfit = (width != 0) & (size != width) & (not is_null) & (not is_text)
        if is_misfit and count[FIRST_MISFIT] == 0:
            count[FIRST_MISFIT] = i + 1
        misfits += np.int64(is_misfit)
    count[NULLS] += nulls
    count[TEXTS] += texts
    count[MISFITS] += misfits


@njit(**CALLED)
def fetch_block(data, offset, length, base, begin, stop):
    """Ask for what the block will read: it was parsed too long ago for the near caches, and lies in one piece."""
    if stop <= begin:
        return
    first, last = item(base, begin), item(base, stop - 1)
    if 0 < first <= last and last - first <= FETCH_CELLS_MAX:
        for j in range(first, last, LINE_BYTES // 4):
            prefetch(offset, j)
            prefetch(length, j)
    at, end = item(offset, first), item(offset, last)
    if at < 0 and end < 0:
        at, end = ~at, ~end
    if 0 < at <= end and end - at <= FETCH_BYTES_MAX:
        for p in range(at, end, LINE_BYTES):
            prefetch(data, p)


@njit(nb.void(BYTES, I32, I32, I32, _PLAN, _BOUNDS, U8, U64, _PLAN), **OPTIONS)
def sweep(data, offset, length, base, plans, bounds, out, words, counts):
    """Fill the arena (``out`` and ``words`` are two views of it) as ``lay_out`` laid it out; see the module."""
    rows = base.shape[0]
    for begin in range(0, rows, BLOCK_ROWS):
        stop = min(begin + BLOCK_ROWS, rows)
        fetch_block(data, offset, length, base, stop, min(stop + BLOCK_ROWS, rows))
        for k in range(plans.shape[0]):
            plan = plans[k]
            count = counts[k]
            column = plan[COLUMN]
            is_text = is_text_block(offset, length, base, plan, begin, stop)
            kind = plan[TEXT_KIND] if is_text else plan[BINARY_KIND]
            if kind == COUNTED:
                count_block(offset, length, base, column, plan[WIDTH], begin, stop, count)
                continue
            to = plan[VALUES_AT] + (begin >> 3 if plan[BYTES_PER_ROW] == 0 else begin * plan[BYTES_PER_ROW])
            if kind == FOURS:
                valid = fours(data, offset, length, base, column, begin, stop, out, to)
            elif kind == EIGHTS:
                valid = eights(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TIMESTAMPS:
                valid = timestamps(data, offset, length, base, column, begin, stop, out, to)
            elif kind == STRINGS:
                valid = strings(offset, length, base, column, plan[PREFIX], begin, stop, out, to, count)
            elif kind == DECIMALS:
                valid = decimals(data, offset, length, base, plan, bounds[k], begin, stop, words, to >> 3, count)
            elif kind == BOOLS:
                valid = bools(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TWOS:
                valid = twos(data, offset, length, base, column, begin, stop, out, to)
            elif kind == SIXTEENS:
                valid = sixteens(data, offset, length, base, column, begin, stop, out, to)
            elif kind == DATES:
                valid = dates(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TIMES:
                valid = times(data, offset, length, base, column, begin, stop, out, to)
            elif kind == INTERVALS:
                valid = intervals(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TEXT_INTEGERS:
                valid = text_integers(data, offset, length, base, plan, begin, stop, out, to)
            elif kind in (TEXT_FLOAT4S, TEXT_FLOAT8S):
                valid = text_floats(data, offset, length, base, plan, begin, stop, out, to)
            elif kind in (TEXT_TIMESTAMPS, TEXT_TIMESTAMPTZS):
                has_zone = kind == TEXT_TIMESTAMPTZS
                valid = text_timestamps(data, offset, length, base, column, has_zone, begin, stop, out, to)
            elif kind == TEXT_DECIMALS:
                valid = text_decimals(data, offset, length, base, plan, bounds[k], begin, stop, words, to >> 3)
            elif kind == TEXT_BOOLS:
                valid = text_bools(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TEXT_UUIDS:
                valid = text_uuids(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TEXT_DATES:
                valid = text_dates(data, offset, length, base, column, begin, stop, out, to)
            elif kind == TEXT_TIMES:
                valid = text_times(data, offset, length, base, column, begin, stop, out, to)
            else:
                valid = text_intervals(data, offset, length, base, column, begin, stop, out, to)
            put_64(out, plan[VALID_AT] + (begin >> 3), np.int64(valid))
            filled = ones(valid)
            count[VALID] += filled
            if filled != stop - begin:
                texts = count[TEXTS]
                count_block(offset, length, base, column, plan[WIDTH], begin, stop, count)
                if kind == STRINGS:
                    count[TEXTS] = texts
            elif is_text and kind != STRINGS:
                count[TEXTS] += filled


@njit(nb.int64(_PLAN, nb.int64, _PLAN), **OPTIONS)
def judge(plans, rows, counts):
    """Set ``KIND``, ``IS_PLAIN`` and ``PLACE``; returns how many bytes ``copy_strings`` needs."""
    end = np.int64(0)
    for k in range(plans.shape[0]):
        plan = plans[k]
        count = counts[k]
        present = rows - count[NULLS]
        is_mixed = 0 < count[TEXTS] < present
        kind = plan[TEXT_KIND] if count[TEXTS] > 0 else plan[BINARY_KIND]
        if is_mixed and plan[TEXT_KIND] != plan[BINARY_KIND]:
            kind = np.int64(COUNTED)
        count[KIND] = kind
        count[IS_PLAIN] = kind != COUNTED and count[MISFITS] == 0 and present > 0 and count[VALID] == present
        if kind == STRINGS:
            count[PLACE] = end
            end += (count[END] + SHORT_BYTES + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return end


@njit(**CALLED)
def union_of(out, begin, stop):
    """All bytes or-ed together."""
    union = np.uint8(0)
    for i in range(np.uint64(begin), np.uint64(stop)):
        union |= out[i]
    return union


@njit(nb.void(BYTES, I32, I32, I32, _PLAN, U8, _PLAN, U8), **OPTIONS)
def copy_strings(data, offset, length, base, plans, arena, counts, out):
    """The bytes of the string columns to ``out``, each from its ``PLACE`` on, by the offsets in ``arena``.

    Each has room for ``SHORT_BYTES`` more than its strings need: short ones are copied in whole words, whose surplus
    the next string overwrites.
    """
    readable = data.shape[0] - SHORT_BYTES
    rows = base.shape[0]
    for begin in range(0, rows, BLOCK_ROWS):
        stop = min(begin + BLOCK_ROWS, rows)
        for k in range(plans.shape[0]):
            plan = plans[k]
            count = counts[k]
            if count[KIND] != STRINGS:
                continue
            column, prefix = plan[COLUMN], plan[PREFIX]
            first = count[PLACE] + load_32(arena, plan[VALUES_AT] + 4 * begin)
            start = first
            for i in range(begin, stop):
                j = item(base, i) + column
                size = item(length, j)
                at = item(offset, j)
                if at < 0:
                    at = ~at
                else:
                    at += prefix
                    size -= prefix
                if size <= 0:
                    continue
                if size <= SHORT_BYTES and at <= readable:
                    copy_word(out, start, data, at)
                    if size > 8:
                        copy_word(out, start + 8, data, at + 8)
                        if size > 16:
                            copy_word(out, start + 16, data, at + 16)
                            copy_word(out, start + 24, data, at + 24)
                else:
                    copy_bytes(out, start, data, at, size)
                start += size
            count[UNION] |= np.int64(union_of(out, first, start))
