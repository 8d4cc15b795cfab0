"""Compiled gathers for binary cells, one per physical type.

A column of a tuple set is (``data``, ``offset``, ``length``, ``base``, ``column``): row i's cell is number
``base[i] + column`` of the index, ``data[offset : offset + length]`` its bytes; a negative length means no value. Every
gather fills ``out`` and sets a bit of ``valid`` (zeroed by the caller) for each value Arrow can hold. A cell that is
there and has no bit is an outlier, or malformed when the gather says so: gathers return the first malformed row, or -1.

``scan`` runs first: it has counted NULLs and text cells and checked the width of fixed-size types, so the gathers below
need no checks of their own unless the type has a variable width.
"""

# Compiled in: endian 3d9d1674
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np
from numba import njit

from wallaby.pgtypes.endian import be16, be32, be64, copy_bytes, copy_word

OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "boundscheck": False}
BYTES = nb.types.Array(nb.uint8, 1, "C", readonly=True)
U8 = nb.uint8[::1]
I16 = nb.int16[::1]
I32 = nb.int32[::1]
I64 = nb.int64[::1]
U64 = nb.uint64[::1]

NULLS: Final = 0
TEXTS: Final = 1
MISFITS: Final = 2
"""Binary cells of another width than asked for."""

SHORT_BYTES: Final = 32
"""Strings up to this size are copied in words; ``gather_string`` may write so many bytes too far."""

DAYS_1970_TO_2000: Final = 10957
MICROSECONDS_1970_TO_2000: Final = 946_684_800_000_000
MICROSECONDS_PER_DAY: Final = 86_400_000_000
_INT32_MAX: Final = 2**31 - 1
_INT32_MIN: Final = -(2**31)
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)


@njit(inline="always")
def set_valid(valid, i):
    """Set bit ``i`` of an Arrow bitmap."""
    valid[i >> 3] |= np.uint8(1 << (i & 7))


@njit(nb.void(I32, I32, I32, nb.int64, nb.int64, I64), **OPTIONS)
def scan(offset, length, base, column, width, counts):
    """Count cells without value, text cells, and binary cells whose length is not ``width`` (0: any is fine)."""
    nulls = 0
    texts = 0
    misfits = 0
    for i in range(base.shape[0]):
        j = base[i] + column
        size = length[j]
        if size < 0:
            nulls += 1
        elif offset[j] < 0:
            texts += 1
        elif width != 0 and size != width:
            misfits += 1
    counts[NULLS] = nulls
    counts[TEXTS] = texts
    counts[MISFITS] = misfits


@njit(nb.void(I32, I32, I32, I64, I64, I64), **OPTIONS)
def scan_columns(offset, length, base, columns, widths, counts):
    """``scan`` of several columns in the order in which their cells lie; ``counts`` (zeroed) has three per column."""
    for i in range(base.shape[0]):
        first = base[i]
        for k in range(columns.shape[0]):
            j = first + columns[k]
            size = length[j]
            if size < 0:
                counts[3 * k + NULLS] += 1
            elif offset[j] < 0:
                counts[3 * k + TEXTS] += 1
            elif widths[k] != 0 and size != widths[k]:
                counts[3 * k + MISFITS] += 1


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, U8, U8), **OPTIONS)
def gather_bool(data, offset, length, base, column, out, valid):
    """One byte to one bit of ``out``, zeroed by the caller."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] >= 0:
            if data[offset[j]] != 0:
                set_valid(out, i)
            set_valid(valid, i)


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I16, U8), **OPTIONS)
def gather_2(data, offset, length, base, column, out, valid):
    """Two-byte integers."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] >= 0:
            out[i] = be16(data, offset[j])
            set_valid(valid, i)
        else:
            out[i] = 0


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I32, U8), **OPTIONS)
def gather_4(data, offset, length, base, column, out, valid):
    """Four-byte integers and floats."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] >= 0:
            out[i] = be32(data, offset[j])
            set_valid(valid, i)
        else:
            out[i] = 0


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I64, U8), **OPTIONS)
def gather_8(data, offset, length, base, column, out, valid):
    """Eight-byte integers and floats."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] >= 0:
            out[i] = be64(data, offset[j])
            set_valid(valid, i)
        else:
            out[i] = 0


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I32, U8), **OPTIONS)
def gather_date(data, offset, length, base, column, out, valid):
    """Days since 2000 to days since 1970; the infinities are outliers. Every finite date fits."""
    for i in range(base.shape[0]):
        j = base[i] + column
        out[i] = 0
        if length[j] >= 0:
            days = np.int64(np.int32(be32(data, offset[j])))
            if days != _INT32_MAX and days != _INT32_MIN:
                out[i] = days + DAYS_1970_TO_2000
                set_valid(valid, i)


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I64, U8), **OPTIONS)
def gather_time(data, offset, length, base, column, out, valid):
    """Microseconds since midnight; 24:00:00 is an outlier."""
    for i in range(base.shape[0]):
        j = base[i] + column
        out[i] = 0
        if length[j] >= 0:
            time = be64(data, offset[j])
            if 0 <= time < MICROSECONDS_PER_DAY:
                out[i] = time
                set_valid(valid, i)


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I64, U8), **OPTIONS)
def gather_timestamp(data, offset, length, base, column, out, valid):
    """Microseconds since 2000 to since 1970; the infinities and the last 30 years before 294277 are outliers."""
    for i in range(base.shape[0]):
        j = base[i] + column
        out[i] = 0
        if length[j] >= 0:
            time = be64(data, offset[j])
            if time != _INT64_MIN and time <= _INT64_MAX - MICROSECONDS_1970_TO_2000:
                out[i] = time + MICROSECONDS_1970_TO_2000
                set_valid(valid, i)


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I32, U8), **OPTIONS)
def gather_interval(data, offset, length, base, column, out, valid):
    """Microseconds, days, months to Arrow's months, days, nanoseconds (four int32 per row, little-endian)."""
    for i in range(base.shape[0]):
        j = base[i] + column
        for k in range(4):
            out[4 * i + k] = 0
        if length[j] >= 0:
            at = offset[j]
            time = be64(data, at)
            # Infinity is (max, max, max) from PostgreSQL 17 on, and overflows here like every other 292 years.
            if -9223372036854775 <= time <= 9223372036854775:
                nanoseconds = time * 1000
                out[4 * i] = be32(data, at + 12)
                out[4 * i + 1] = be32(data, at + 8)
                out[4 * i + 2] = nanoseconds & 0xFFFFFFFF
                out[4 * i + 3] = nanoseconds >> 32
                set_valid(valid, i)


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, nb.int64, U8, U8), **OPTIONS)
def gather_fixed(data, offset, length, base, column, width, out, valid):
    """Opaque values of ``width`` bytes; ``out`` is zeroed by the caller."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] >= 0:
            at = offset[j]
            for k in range(width):
                out[i * width + k] = data[at + k]
            set_valid(valid, i)


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, U8, U8), **OPTIONS)
def gather_16(data, offset, length, base, column, out, valid):
    """Sixteen bytes as they are; ``out`` is zeroed by the caller."""
    for i in range(base.shape[0]):
        j = base[i] + column
        if length[j] >= 0:
            at = np.int64(offset[j])
            copy_word(out, np.int64(16 * i), data, at)
            copy_word(out, np.int64(16 * i + 8), data, at + 8)
            set_valid(valid, i)


@njit(nb.int64(I32, I32, nb.int64, nb.int64, I32, U8), **OPTIONS)
def string_offsets(length, base, column, prefix, starts, valid):
    """First pass of ``gather_string``: Arrow offsets. ``prefix`` bytes of every value are skipped; returns bad row."""
    end = np.int64(0)
    malformed = np.int64(-1)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        size = length[base[i] + column]
        if size >= 0:
            if size < prefix:
                malformed = np.int64(i)
            else:
                end += size - prefix
                set_valid(valid, i)
    starts[rows] = end
    return malformed


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, nb.int64, I32, U8), **OPTIONS)
def gather_string(data, offset, length, base, column, prefix, starts, out):
    """Second pass: the bytes, of binary and text cells alike.

    ``out`` has ``SHORT_BYTES`` more than the strings need: short ones are copied in whole words, whose surplus the next
    string overwrites.
    """
    readable = data.shape[0] - SHORT_BYTES
    for i in range(base.shape[0]):
        j = base[i] + column
        size = np.int64(length[j]) - prefix
        if size <= 0:
            continue
        at = np.int64(offset[j])
        if at < 0:
            at = ~at
        at += prefix
        start = np.int64(starts[i])
        if size <= SHORT_BYTES and at <= readable:
            copy_word(out, start, data, at)
            if size > 8:
                copy_word(out, start + 8, data, at + 8)
                if size > 16:
                    copy_word(out, start + 16, data, at + 16)
                    copy_word(out, start + 24, data, at + 24)
        else:
            copy_bytes(out, start, data, at, size)


@njit(nb.boolean(U8), **OPTIONS)
def is_ascii(text):
    """True when no byte has its high bit set."""
    union = np.uint8(0)
    for i in range(text.shape[0]):
        union |= text[i]
    return union < 128


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I32, U8, I64), **OPTIONS)
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


@njit(nb.void(BYTES, I32, I32, nb.int64, I32, U8, I32, I32), **OPTIONS)
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
