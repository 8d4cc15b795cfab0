"""Decimal and hexadecimal figures read eight at a time: what makes text cost about as much as binary.

Eight ASCII figures are one 64-bit word. Whether all are figures, and their value, take a dozen operations on the word
instead of a loop with a branch per byte. Whatever does not look exactly as PostgreSQL usually prints it is left to the
careful readers in ``text_kernels``: functions here return -1, never a guess. They may read, but do not use, the bytes
around a cell; never beyond the array.
"""

# Compiled in: endian ae271823
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import inlined
from wallaby.pgtypes.endian import be16, be32, be64, byte, put_be64

FIGURES_MAX: Final = 16
"""``figures_at`` reads so many."""

# Words are uint64 throughout: numba makes a float of a signed and an unsigned integer.
_ZEROS: Final = np.uint64(0x3030303030303030)
_ONES: Final = np.uint64(0x0101010101010101)
_HIGH: Final = np.uint64(0x8080808080808080)
_ABOVE_NINE: Final = np.uint64(0x4646464646464646)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_BYTES: Final = np.uint64(0x00FF00FF00FF00FF)
_PAIRS: Final = np.uint64(0x0000FFFF0000FFFF)
_FOURS: Final = np.uint64(0x00000000FFFFFFFF)
_NIBBLES: Final = np.uint64(0x0F0F0F0F0F0F0F0F)
_SIXES: Final = np.uint64(0x0606060606060606)
_8: Final = np.uint64(8)
_16: Final = np.uint64(16)
_24: Final = np.uint64(24)
_32: Final = np.uint64(32)
_48: Final = np.uint64(48)

_DATE_MARKS: Final = np.uint64(0x00000000FF0000FF)
_DATE_DASHES: Final = np.uint64(0x000000002D00002D)
_CLOCK_MARKS: Final = np.uint64(0x0000FF0000FF0000)
_SPACE_AND_COLON: Final = np.uint64(0x00002000003A0000)


@inlined
def figure_pairs(word):
    """Eight ASCII figures, the first in the highest byte, as four numbers of 16 bits; all ones if one is no figure."""
    if (((word + _ABOVE_NINE) | (word - _ZEROS)) & _HIGH) != np.uint64(0):
        return _ALL
    word = word - _ZEROS
    return ((word >> _8) & _BYTES) * np.uint64(10) + (word & _BYTES)


@inlined
def word_value(word):
    """The value of eight ASCII figures, the first in the highest byte; -1 when one is not a figure."""
    word = figure_pairs(word)
    if word == _ALL:
        return np.int64(-1)
    word = ((word >> _16) & _PAIRS) * np.uint64(100) + (word & _PAIRS)
    return np.int64((word >> _32) * np.uint64(10_000) + (word & _FOURS))


@inlined
def last_figures(data, stop, size):
    """The value of the ``size`` (1 to 8) figures that end at ``stop``, with eight readable bytes before it; or -1."""
    kept = _ALL >> np.uint64(64 - 8 * size)
    return word_value((np.uint64(be64(data, stop - 8)) & kept) | (_ZEROS & ~kept))


@inlined
def figures_at(data, at, stop):
    """The value of 1 to 16 figures that are all of ``data[at:stop]``; -1 for anything else, or at the array's start."""
    size = stop - at
    if size < 1 or size > FIGURES_MAX or stop < FIGURES_MAX:
        return np.int64(-1)
    if size <= 8:
        return last_figures(data, stop, size)
    high = last_figures(data, stop - 8, size - 8)
    low = last_figures(data, stop, np.int64(8))
    return high * 100_000_000 + low if high >= 0 and low >= 0 else np.int64(-1)


@inlined
def ymd_at(data, at):
    """``YYYY-MM-DD`` as four pairs of figures, not yet in range; all ones otherwise. Ten bytes are read."""
    word = np.uint64(be64(data, at))
    if (word & _DATE_MARKS) != _DATE_DASHES:
        return _ALL
    year = word & ~_FOURS
    month = (word >> _8) & np.uint64(0xFFFF)
    return figure_pairs(year | (month << _16) | np.uint64(be16(data, at + 8)))


@inlined
def ymd_hms_at(data, at):
    """The pairs of ``YYYY-MM-DD`` and of ``00HH:MM:SS`` with a blank between; all ones otherwise. 19 bytes are read."""
    word = np.uint64(be64(data, at))
    clock = np.uint64(be64(data, at + 8))
    if (word & _DATE_MARKS) != _DATE_DASHES or (clock & _CLOCK_MARKS) != _SPACE_AND_COLON or byte(data, at + 16) != 58:
        return _ALL, _ALL
    date = (word & ~_FOURS) | (((word >> _8) & np.uint64(0xFFFF)) << _16) | (clock >> _48)
    hours = (clock >> _24) & np.uint64(0xFFFF)
    minutes = clock & np.uint64(0xFFFF)
    time = (_ZEROS << _48) | (hours << _32) | (minutes << _16) | np.uint64(be16(data, at + 17))
    return figure_pairs(date), figure_pairs(time)


@inlined
def hex_word(word):
    """The 32 bits of eight lower-case hexadecimal figures; -1 when one is not such a figure."""
    nibbles = (word & _NIBBLES) + ((word >> np.uint64(6)) & _ONES) * np.uint64(9)
    is_letter = ((nibbles + _SIXES) >> np.uint64(4)) & _ONES
    # The first test alone would take j for 19: its bits say letter, and 19 past the figures is where it lies.
    if (nibbles & ~_NIBBLES) != np.uint64(0) or nibbles + _ZEROS + is_letter * np.uint64(39) != word:
        return np.int64(-1)
    packed = (nibbles | (nibbles >> np.uint64(4))) & _BYTES
    packed = (packed | (packed >> _8)) & _PAIRS
    return np.int64((packed | (packed >> _16)) & _FOURS)


@inlined
def uuid_at(data, at, out, first):
    """``8-4-4-4-12`` lower-case figures to 16 bytes at ``out[first:]``; False (and nothing written) otherwise."""
    if byte(data, at + 8) != 45 or byte(data, at + 13) != 45 or byte(data, at + 18) != 45 or byte(data, at + 23) != 45:
        return False
    one = hex_word(np.uint64(be64(data, at)))
    two = hex_word((np.uint64(be32(data, at + 9)) << _32) | np.uint64(be32(data, at + 14)))
    three = hex_word((np.uint64(be32(data, at + 19)) << _32) | np.uint64(be32(data, at + 24)))
    four = hex_word(np.uint64(be64(data, at + 28)))
    if one < 0 or two < 0 or three < 0 or four < 0:
        return False
    put_be64(out, first, (np.uint64(one) << _32) | np.uint64(two))
    put_be64(out, first + 8, (np.uint64(three) << _32) | np.uint64(four))
    return True
