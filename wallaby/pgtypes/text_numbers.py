"""Integers and decimals read from text: short cuts for what PostgreSQL usually prints, careful readers for the rest.

A ``usual_`` function returns ``NOT_USUAL`` for whatever does not look exactly as expected, never a guess; a careful one
says whether the text is a value at all.
"""

# Compiled in: endian a42f72e9, figures 9a8015c2, numeric_kernels 79dd2dd4
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import called, inlined
from wallaby.pgtypes.endian import byte
from wallaby.pgtypes.figures import figures_at, figures_with_point
from wallaby.pgtypes.numeric_kernels import multiply_add, negate, power_of_ten, reaches

NOT_USUAL: Final = -(2**63)
"""What the short cuts return for what they leave to the careful readers; no usual value is this one."""


@called
def number_at(data, at, stop):
    """Read up to 18 decimal digits; returns (value, where they end). No digits: the end is ``at``."""
    value = np.int64(0)
    p = at
    while p < stop and p - at < 18 and 48 <= data[p] <= 57:
        value = value * 10 + (np.int64(data[p]) - 48)
        p += 1
    return value, p


@inlined
def usual_integer(data, at, stop):
    """A decimal integer of up to 16 figures; ``NOT_USUAL`` for everything else."""
    sign = np.int64(byte(data, at) == 45)
    value = figures_at(data, at + sign, stop)
    if value < 0:
        return np.int64(NOT_USUAL)
    return (value ^ -sign) + sign


@inlined
def usual_decimal_text(data, at, stop, scale):
    """The value, in units of the scale, of a number of up to 18 figures (16 without places) with ``scale`` places.

    ``NOT_USUAL`` for everything else; PostgreSQL prints exactly the scale.
    """
    sign = np.int64(byte(data, at) == 45)
    at += sign
    value = figures_at(data, at, stop) if scale == 0 else figures_with_point(data, at, stop, scale)
    if value < 0:
        return np.int64(NOT_USUAL)
    return (value ^ -sign) + sign


@called
def integer_text_at(data, at, stop):
    """A decimal integer of 64 bits: (value, whether it is one)."""
    is_negative = data[at] == 45
    if is_negative:
        at += 1
    if at >= stop or stop - at > 19:
        return np.int64(0), False
    value, p = number_at(data, at, stop)
    if p == stop - 1 and 48 <= data[p] <= 57:
        # The nineteenth figure: counted below zero, where there is room for -2**63.
        last = np.int64(data[p]) - 48
        if value > 922337203685477580 or (value == 922337203685477580 and last > (8 if is_negative else 7)):
            return np.int64(0), False
        value = -value * 10 - last
        if not is_negative:
            value = -value
        p += 1
    elif is_negative:
        value = -value
    return value, p == stop


@called
def decimal_text_at(data, at, stop, scale, limbs, bound, out, first):
    """A decimal number to ``limbs`` zeroed words at ``out[first:]``, in units of the scale.

    False (and zeros) for what reaches ``bound``, has more figures than ``scale``, or is no number.
    """
    is_negative = data[at] == 45
    if is_negative:
        at += 1
    value = short_decimal_at(data, at, stop, scale)
    if value >= 0:
        if np.uint64(value) >= bound[0] and bound[1] == 0 and bound[2] == 0 and bound[3] == 0:
            return False
        if is_negative:
            value = -value
        out[first] = np.uint64(value)
        for k in range(1, limbs):
            out[first + k] = np.uint64(value >> 63)
        return True
    places = np.int64(-1)
    figures = 0
    fits = True
    for p in range(at, stop):
        byte = data[p]
        if byte == 46 and places < 0:
            places = 0
            continue
        if byte < 48 or byte > 57:
            fits = False
            break
        figures += 1
        if places >= 0:
            places += 1
            if places > scale:
                if byte != 48:
                    fits = False
                    break
                continue
        if multiply_add(out, first, limbs, 10, np.int64(byte) - 48):
            fits = False
            break
    if fits:
        for _ in range(scale - max(places, 0)):
            if multiply_add(out, first, limbs, 10, 0):
                fits = False
                break
    if not fits or figures == 0 or reaches(out, first, limbs, bound):
        for k in range(limbs):
            out[first + k] = 0
        return False
    if is_negative:
        negate(out, first, limbs)
    return True


@called
def short_decimal_at(data, at, stop, scale):
    """The value, in units of the scale, of an unsigned number of up to 18 figures with the missing places; else -1."""
    whole, p = number_at(data, at, stop)
    whole_figures = p - at
    part = np.int64(0)
    part_figures = np.int64(0)
    if p < stop and data[p] == 46 and whole_figures > 0:
        part, end = number_at(data, p + 1, stop)
        part_figures = end - p - 1
        p = end
    if p == stop and whole_figures > 0 and part_figures <= scale and whole_figures + scale <= 18:
        return whole * power_of_ten(scale) + part * power_of_ten(scale - part_figures)
    return np.int64(-1)
