"""Compiled gathers for arrays in binary, and the types and constants that all kernels share.

A column of a tuple set is (``data``, ``offset``, ``length``, ``base``, ``column``): row i's cell is number
``base[i] + column`` of the index, ``data[offset : offset + length]`` its bytes; a negative length means no value, a
negative offset text. A gather fills its outputs and sets a bit of ``valid`` (zeroed by the caller) for each value Arrow
can hold. A cell that is there and has no bit is an outlier, or malformed when the gather says so: the first malformed
row, or -1.

`wallaby.pgtypes.sweep` gathers all that has one value of one or few bytes per cell, many columns at a time. Gathers of
single columns, here and in ``numeric_kernels`` and ``text_kernels``, are for what does not fit that: values of values.
A sweep has counted NULLs and text cells before they run.
"""

# Compiled in: endian a42f72e9
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, I64, INT64, U8, VOID, expanded, kernel
from wallaby.pgtypes.endian import be32

DAYS_1970_TO_2000: Final = 10957
MICROSECONDS_1970_TO_2000: Final = 946_684_800_000_000
MICROSECONDS_PER_DAY: Final = 86_400_000_000


@expanded
def set_valid(valid, i):
    """Set bit ``i`` of an Arrow bitmap."""
    valid[i >> 3] |= np.uint8(1 << (i & 7))


@kernel(VOID, BYTES, I32, I32, I32, INT64, I32, U8, I64)
def list_offsets(data, offset, length, base, column, starts, valid, counts):
    """First pass over binary arrays: Arrow list offsets into ``starts``.

    ``counts[0]`` becomes the number of elements, ``counts[1]`` the first malformed row or -1. Arrays of several
    dimensions or with another lower bound than 1 are outliers and get no elements.
    """
    end = np.int64(0)
    counts[1] = -1
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        j = base[i] + column
        size = np.int64(length[j])
        if size < 0:
            continue
        at = np.int64(offset[j])
        stop = at + size
        if size < 12:
            counts[1] = i
            break
        dimensions = be32(data, at)
        if dimensions == 0:
            set_valid(valid, i)
            continue
        if dimensions > 6 or size < 12 + 8 * dimensions:
            counts[1] = i
            break
        if dimensions > 1 or be32(data, at + 16) != 1:
            continue
        elements = be32(data, at + 12)
        p = at + 20
        for _ in range(elements):
            if p + 4 > stop:
                counts[1] = i
                break
            element = be32(data, p)
            p += 4
            if element != 4294967295:
                p += element
        if p != stop:
            counts[1] = i
        if counts[1] >= 0:
            break
        end += elements
        set_valid(valid, i)
    starts[rows] = end
    counts[0] = end


@kernel(VOID, BYTES, I32, I32, INT64, I32, U8, I32, I32)
def list_elements(data, offset, base, column, starts, valid, element_offset, element_length):
    """Second pass: the elements of all valid arrays as cells of an index of their own."""
    for i in range(base.shape[0]):
        if not valid[i >> 3] & (1 << (i & 7)):
            continue
        p = offset[base[i] + column] + 20
        for k in range(starts[i], starts[i + 1]):
            size = be32(data, p)
            p += 4
            if size == 4294967295:
                element_offset[k] = 0
                element_length[k] = -1
            else:
                element_offset[k] = p
                element_length[k] = size
                p += size
