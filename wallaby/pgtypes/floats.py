"""Floats read from the shortest decimal that PostgreSQL prints for them, correctly rounded.

A decimal is ``w * 10 ** q`` with at most 19 figures in ``w``. ``w`` is multiplied with the upper 128 bits of the power,
and the product's upper bits are those of the float unless they lie too near to a half (Lemire, "Number parsing at a
gigabyte per second", 2021). Whatever is nearer than that, subnormal, infinite or not of the usual form is left to the
caller: it gets False, never a guess. There is no other way for small numbers, though one division would do (Clinger,
1990): PostgreSQL's 15 to 17 figures lie on both sides of that border, and to guess the side wrong costs more.
"""

# Compiled in: endian a42f72e9, figures 9a8015c2
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import called, inlined
from wallaby.pgtypes.endian import be64, byte, double_of, high_product, leading_zeros
from wallaby.pgtypes.figures import figures_at, figures_with_point, places_at

_POWER_MAX: Final = 64
_FIGURES_MAX: Final = 19
_NINES: Final = np.uint64(0x7676767676767676)
_LOW_SEVEN: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_HIGH: Final = np.uint64(0x8080808080808080)
_ZEROS: Final = np.uint64(0x3030303030303030)
_BELOW_FLOAT: Final = np.uint64(0x1FF)
"""The bits of the product's upper word beyond a float's 53 and one to round by."""
_FRACTION: Final = (1 << 52) - 1
_BEYOND_FLOAT4: Final = (1 << 29) - 1
_HALF_OF_FLOAT4: Final = 1 << 28
_FLOAT4_LEAST: Final = 2.0**-126
_FLOAT4_MOST: Final = (2.0 - 2.0**-23) * 2.0**127


def _upper_bits(power: int) -> tuple[int, int]:
    """The upper 128 bits of ``5 ** power``, cut off; rounded up where products with it can be exact (-27 to -1)."""
    if power >= 0:
        value = 5**power
        shift = value.bit_length() - 128
        upper = value >> shift if shift > 0 else value << -shift
    else:
        divisor = 5**-power
        upper = (1 << (divisor.bit_length() + 127)) // divisor + (1 if power >= -27 else 0)
        assert upper.bit_length() == 128, power
    return upper >> 64, upper & (2**64 - 1)


_FIVES: Final = np.array([_upper_bits(power) for power in range(-_POWER_MAX, _POWER_MAX + 1)], np.uint64)
_WHOLE_TENS: Final = np.array([10**power for power in range(20)], np.uint64)


@inlined
def figures_of(data, at, stop):
    """Where the decimal figures that begin at ``at`` end; ``at`` + 16 at most. Eight bytes are read at a time."""
    p = at
    for _ in range(2):
        if p + 8 > data.shape[0]:
            return np.int64(-1)
        word = np.uint64(be64(data, p)) ^ _ZEROS
        others = (((word & _LOW_SEVEN) + _NINES) | word) & _HIGH
        count = leading_zeros(others) >> 3
        p += count
        if count < 8:
            break
    return min(p, stop)


@inlined
def nearest_float(whole, power):
    """(The bits of the float nearest to ``whole * 10 ** power``, whether they are certain)."""
    if whole == np.uint64(0):
        return np.int64(0), True
    if power < -_POWER_MAX or power > _POWER_MAX:
        return np.int64(0), False
    zeros = leading_zeros(whole)
    whole <<= np.uint64(zeros)
    five = _FIVES[power + _POWER_MAX]
    low = whole * five[0]
    high = high_product(whole, five[0])
    if (high & _BELOW_FLOAT) == _BELOW_FLOAT:
        more = high_product(whole, five[1])
        low += more
        if low < more:
            high += np.uint64(1)
        if low == ~np.uint64(0):
            return np.int64(0), False
    is_long = high >> np.uint64(63)
    shift = is_long + np.uint64(9)
    fraction = high >> shift
    # The power of two: floor(power * log2(10)) by an integer that is exact for every power in the table.
    exponent = ((217706 * power) >> 16) + 63 + np.int64(is_long) - zeros + 1023
    if exponent <= 0:
        return np.int64(0), False
    if (
        low <= np.uint64(1)
        and -4 <= power <= 23
        and (fraction & np.uint64(3)) == np.uint64(1)
        and (fraction << shift) == high
    ):
        # Exactly between two floats: to the even one, which is below.
        fraction &= ~np.uint64(1)
    fraction = (fraction + (fraction & np.uint64(1))) >> np.uint64(1)
    if fraction >= np.uint64(1 << 53):
        fraction = np.uint64(1 << 52)
        exponent += 1
    if exponent >= 2047:
        return np.int64(0), False
    return (exponent << 52) | np.int64(fraction & np.uint64(_FRACTION)), True


@inlined
def float8_at(data, at, stop):
    """A decimal such as ``-12.5`` or ``1.5e-07``: (the bits of the nearest float8, whether it was read)."""
    is_negative = np.int64(byte(data, at) == 45)
    at += is_negative
    places = places_at(data, at, stop)
    figures = figures_at(data, at, stop) if places < 0 else figures_with_point(data, at, stop, places)
    whole, power, fits = np.uint64(figures), min(-places, np.int64(0)), True
    if figures < 0:
        whole, power, fits = unsigned_decimal_at(data, at, stop)
    bits, is_certain = nearest_float(whole, power)
    return bits | (is_negative << 63), is_certain & fits


@called
def unsigned_decimal_at(data, at, stop):
    """An unsigned decimal: (its figures, the power of ten to multiply them with, whether it is one of 19 figures)."""
    p = figures_of(data, at, stop)
    count = p - at
    if count < 1:
        return np.uint64(0), np.int64(0), False
    whole = figures_at(data, at, p)
    if whole < 0:
        return np.uint64(0), np.int64(0), False
    value = np.uint64(whole)
    power = np.int64(0)
    if p < stop and byte(data, p) == 46:
        p += 1
        end = figures_of(data, p, stop)
        places = end - p
        if places < 1:
            return np.uint64(0), np.int64(0), False
        part = figures_at(data, p, end)
        if part < 0:
            return np.uint64(0), np.int64(0), False
        last = np.uint64(part)
        while end < stop and places < _FIGURES_MAX and 48 <= byte(data, end) <= 57:
            last = last * np.uint64(10) + np.uint64(byte(data, end) - 48)
            end += 1
            places += 1
        if whole == 0:
            count = np.int64(0)
        if count + places > _FIGURES_MAX:
            return np.uint64(0), np.int64(0), False
        value = value * _WHOLE_TENS[places] + last
        power = -places
        p = end
    if p < stop:
        if byte(data, p) != 101 or p + 3 > stop:
            return np.uint64(0), np.int64(0), False
        is_below = byte(data, p + 1) == 45
        if not is_below and byte(data, p + 1) != 43:
            return np.uint64(0), np.int64(0), False
        exponent = figures_at(data, p + 2, stop)
        if exponent < 0 or exponent > 400:
            return np.uint64(0), np.int64(0), False
        power += -exponent if is_below else exponent
    return value, power, True


@inlined
def float4_at(data, at, stop):
    """The same for float4: (the 32 bits, whether it was read)."""
    bits, fits = float8_at(data, at, stop)
    number = abs(double_of(bits))
    if not fits or (number != 0.0 and (number < _FLOAT4_LEAST or number > _FLOAT4_MOST)):
        return np.int64(0), False
    # Rounded twice it would be wrong only from exactly between two float4.
    if (bits & _BEYOND_FLOAT4) == _HALF_OF_FLOAT4:
        return np.int64(0), False
    rounded = bits + (_HALF_OF_FLOAT4 - 1) + ((bits >> 29) & 1)
    magnitude = rounded & 0x7FFFFFFFFFFFFFFF
    if magnitude == 0 or number == 0.0:
        return ((bits >> 32) & 0x80000000), True
    exponent = (magnitude >> 52) - 1023 + 127
    return ((bits >> 32) & 0x80000000) | (exponent << 23) | ((magnitude >> 29) & 0x7FFFFF), True
