"""Compiled gathers for ``numeric``: to Arrow decimals, and to PostgreSQL's text where no decimal can hold it.

The binary form is four 16-bit fields (digits, weight, sign, display scale) and base-10000 digits; the value is the sum
of ``digit[k] * 10000 ** (weight - k)``. Most values have at most four digits and are read as one word; the others are
multiplied out in two or four 64-bit limbs where every carry out of the top counts as overflow. A decimal that overflows
or would lose a digit is an outlier, never rounded.
"""

# Compiled in: endian a42f72e9, kernels 8b0061ab
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, INT64, U8, VOID, called, inlined, kernel
from wallaby.pgtypes.endian import be16, be64
from wallaby.pgtypes.kernels import set_valid

NEGATIVE: Final = 0x4000
NAN: Final = 0xC000
INFINITY: Final = 0xD000
NEGATIVE_INFINITY: Final = 0xF000

TOO_LONG: Final = -2
"""``numeric_text_offsets`` found more text than Arrow's 32-bit offsets reach."""

_SCALE_MAX: Final = 0x3FFF
_OFFSET_MAX: Final = 2**31 - 1
_MASK32: Final = 0xFFFFFFFF
_LIMBS_MAX: Final = 4
# Words are uint64 throughout: numba makes a float of a signed and an unsigned integer.
_ABOVE_9999: Final = np.uint64(0x58F058F058F058F0)
_HIGH_BITS: Final = np.uint64(0x8000800080008000)
_LOW_HALVES: Final = np.uint64(0x0000FFFF0000FFFF)
_POWERS: Final = np.array([10**exponent for exponent in range(19)], dtype=np.int64)


def power_limbs(exponent: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """``10 ** exponent`` as four little-endian 64-bit limbs."""
    value = 10**exponent
    return np.array([(value >> (64 * k)) & (2**64 - 1) for k in range(_LIMBS_MAX)], dtype=np.uint64)


@called
def multiply_add(out, first, limbs, factor, addend):
    """``out[first : first + limbs] = that * factor + addend`` for a factor below 2**32; True when it overflows."""
    carry = np.uint64(addend)
    multiplier = np.uint64(factor)
    for k in range(limbs):
        limb = out[first + k]
        low = (limb & np.uint64(_MASK32)) * multiplier + (carry & np.uint64(_MASK32))
        high = (limb >> np.uint64(32)) * multiplier + (low >> np.uint64(32)) + (carry >> np.uint64(32))
        out[first + k] = (high << np.uint64(32)) | (low & np.uint64(_MASK32))
        carry = high >> np.uint64(32)
    return carry != 0


@called
def reaches(out, first, limbs, bound):
    """True when the unsigned value at ``out[first:]`` is at least ``bound``."""
    for k in range(_LIMBS_MAX - 1, -1, -1):
        have = out[first + k] if k < limbs else np.uint64(0)
        if have != bound[k]:
            return have > bound[k]
    return True


@called
def negate(out, first, limbs):
    """Two's complement in place."""
    carry = np.uint64(1)
    for k in range(limbs):
        out[first + k] = ~out[first + k] + carry
        carry = np.uint64(1) if carry != 0 and out[first + k] == 0 else np.uint64(0)


@called
def power_of_ten(exponent):
    """``10 ** exponent`` for 0..18."""
    return _POWERS[exponent]


@called
def wide_decimal(data, at, digits, weight, scale, out, first, limbs):
    """The absolute value times ``10 ** scale`` into limbs; True when it overflows or loses a digit."""
    for k in range(digits):
        exponent = 4 * (weight - k) + scale
        digit = be16(data, at + 8 + 2 * k)
        if exponent >= 0:
            if multiply_add(out, first, limbs, 10000, digit):
                return True
        elif exponent <= -4:
            if digit != 0:
                return True
        else:
            part = power_of_ten(-exponent)
            if digit % part != 0 or multiply_add(out, first, limbs, 10000 // part, digit // part):
                return True
    exponent = 4 * (weight - digits + 1) + scale
    if digits == 0:
        exponent = 0
    while exponent > 0:
        step = min(exponent, 4)
        if multiply_add(out, first, limbs, power_of_ten(step), 0):
            return True
        exponent -= step
    return False


@called
def is_well_formed(data, at, size):
    """True when a binary numeric has its header, its digits and nothing else."""
    if size < 8:
        return False
    digits = be16(data, at)
    if size != 8 + 2 * digits or be16(data, at + 6) > _SCALE_MAX:
        return False
    sign = be16(data, at + 4)
    if sign != 0 and sign != NEGATIVE and sign != NAN and sign != INFINITY and sign != NEGATIVE_INFINITY:
        return False
    highest = np.int64(0)
    for k in range(digits):
        highest = max(highest, be16(data, at + 8 + 2 * k))
    return highest < 10000


@inlined
def usual_decimal(data, at, size, kept, divisor, reciprocal):
    """The absolute value of a binary numeric with up to four digits, in units of the column's scale; -1 for others.

    ``kept`` is how many base-10000 digits the scale needs, ``divisor`` what the last of them is too fine by (1 to
    1000), ``reciprocal`` 2**32 / divisor rounded up. Anything unusual is left to ``decimal_at``: it is -1 here.
    """
    if size > 16 or size < 8 or at + 16 > data.shape[0]:
        return np.int64(-1)
    head = be64(data, at)
    digits = (head >> 48) & 0xFFFF
    # Digits, weight, sign, display scale; a sign other than minus leaves bits behind, as does a scale out of range.
    if size != 8 + 2 * digits or (head & 0xBFFFC000) != 0:
        return np.int64(-1)
    if digits == 0:
        return np.int64(0)
    # The digits in 16 bits each, moved to where the last is the last the scale keeps.
    places = ((head << 16) >> 48) + 1 + kept
    if places < digits or places > 4:
        return np.int64(-1)
    word = np.uint64(be64(data, at + 8)) >> np.uint64(16 * (4 - digits)) << np.uint64(16 * (places - digits))
    if ((word | (word + _ABOVE_9999)) & _HIGH_BITS) != np.uint64(0):
        return np.int64(-1)
    pairs = ((word >> np.uint64(16)) & _LOW_HALVES) * np.uint64(10_000) + (word & _LOW_HALVES)
    if divisor == 1:
        return np.int64((pairs >> np.uint64(32)) * np.uint64(100_000_000) + (pairs & np.uint64(_MASK32)))
    last = np.int64(word & np.uint64(0xFFFF))
    part = (last * reciprocal) >> 32
    if part * divisor != last:
        return np.int64(-1)
    # Without the last digit: 10000 of it are 10000 / divisor units.
    rest = np.int64((pairs >> np.uint64(32)) * np.uint64(10_000) + ((word >> np.uint64(16)) & np.uint64(0xFFFF)))
    return rest * ((10_000 * reciprocal) >> 32) + part


@called
def decimal_at(data, at, size, scale, limbs, bound, out, first):
    """One binary numeric to ``limbs`` zeroed words at ``out[first:]``: 1 when it fits.

    0 (and zeros) for an outlier: ``bound`` or more, digits beyond ``scale``, NaN, an infinity. -1 for a malformed one.
    """
    if not is_well_formed(data, at, size):
        return -1
    digits = be16(data, at)
    weight = np.int64(np.int16(be16(data, at + 2)))
    sign = be16(data, at + 4)
    if sign >= NAN:
        return 0
    if wide_decimal(data, at, digits, weight, scale, out, first, limbs) or reaches(out, first, limbs, bound):
        for k in range(limbs):
            out[first + k] = 0
        return 0
    if sign == NEGATIVE:
        negate(out, first, limbs)
    return 1


@kernel(INT64, BYTES, I32, I32, I32, INT64, I32, U8)
def numeric_text_offsets(data, offset, length, base, column, starts, valid):
    """First pass of binary numerics to text: Arrow offsets. Returns the first malformed row, -1, or ``TOO_LONG``."""
    end = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        j = base[i] + column
        size = length[j]
        if size < 0:
            continue
        at = offset[j]
        if not is_well_formed(data, at, size):
            return np.int64(i)
        set_valid(valid, i)
        sign = be16(data, at + 4)
        if sign >= NAN:
            end += 3 if sign == NAN else (8 if sign == INFINITY else 9)
            continue
        digits = be16(data, at)
        weight = np.int64(np.int16(be16(data, at + 2)))
        scale = be16(data, at + 6)
        if sign == NEGATIVE:
            end += 1
        if weight < 0 or digits == 0:
            end += 1 if digits != 0 or weight < 0 else 1 + 4 * max(weight, 0)
        else:
            head = be16(data, at + 8)
            end += 4 * weight + (1 if head < 10 else (2 if head < 100 else (3 if head < 1000 else 4)))
        if scale > 0:
            end += 1 + scale
        if end > _OFFSET_MAX:
            return np.int64(TOO_LONG)
    starts[rows] = end
    return np.int64(-1)


@called
def write_word(out, at, word):
    """Copy the bytes of a short tuple of numbers."""
    for k in range(len(word)):
        out[at + k] = word[k]


@kernel(VOID, BYTES, I32, I32, I32, INT64, I32, U8)
def gather_numeric_text(data, offset, length, base, column, starts, out):
    """Second pass: the text, as ``numeric_out`` prints it."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] < 0:
            continue
        at = offset[j]
        q = np.int64(starts[i])
        sign = be16(data, at + 4)
        if sign == NAN:
            write_word(out, q, (78, 97, 78))
            continue
        if sign in (INFINITY, NEGATIVE_INFINITY):
            if sign == NEGATIVE_INFINITY:
                out[q] = 45
                q += 1
            write_word(out, q, (73, 110, 102, 105, 110, 105, 116, 121))
            continue
        digits = be16(data, at)
        weight = np.int64(np.int16(be16(data, at + 2)))
        scale = be16(data, at + 6)
        if sign == NEGATIVE:
            out[q] = 45
            q += 1
        if weight < 0:
            out[q] = 48
            q += 1
        else:
            for k in range(weight + 1):
                digit = be16(data, at + 8 + 2 * k) if k < digits else np.int64(0)
                is_first = k == 0
                power = np.int64(1000)
                while power > 0:
                    figure = (digit // power) % 10
                    if not is_first or figure != 0 or power == 1:
                        out[q] = 48 + figure
                        q += 1
                        is_first = False
                    power //= 10
        if scale > 0:
            out[q] = 46
            q += 1
            for place in range(scale):
                k = weight + 1 + place // 4
                digit = be16(data, at + 8 + 2 * k) if 0 <= k < digits else np.int64(0)
                out[q] = 48 + (digit // power_of_ten(3 - place % 4)) % 10
                q += 1
