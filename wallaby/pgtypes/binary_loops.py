"""The loops of a sweep over binary cells: one column, one block of at most 64 rows.

Each writes a value for every row, zero where there is none, and returns the word of validity. Values of a fixed width
are loaded without a branch: where the cell does not fit, from the beginning of ``data``, and dropped.
"""

# Compiled in: endian a42f72e9, kernels 8b0061ab, numeric_kernels 79dd2dd4
# Compiled in: sweep_plan 4b80aa58
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import called, expanded
from wallaby.pgtypes.endian import (
    be16,
    be32,
    be64,
    copy_word,
    item,
    put_16,
    put_32,
    put_64,
)
from wallaby.pgtypes.kernels import DAYS_1970_TO_2000, MICROSECONDS_1970_TO_2000, MICROSECONDS_PER_DAY
from wallaby.pgtypes.numeric_kernels import decimal_at, usual_decimal
from wallaby.pgtypes.sweep_plan import (
    COLUMN,
    END,
    FIRST_MISFIT,
    LIMBS,
    MISFITS,
    SCALE,
    TEXTS,
)

_INT32_MAX: Final = 2**31 - 1
_INT32_MIN: Final = -(2**31)
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)


@expanded
def bit(fits, i):
    """One validity bit in its place."""
    return np.uint64(fits) << np.uint64(i)


@called
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


@called
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


@called
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


@called
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


@called
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


@called
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


@called
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


@called
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


@called
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


@called
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


@called
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
