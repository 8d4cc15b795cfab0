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

# Compiled in: binary_loops 958193b5, endian a42f72e9, sweep_plan 4b80aa58
# Compiled in: text_loops ecc80c6c
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.binary_loops import (
    bools,
    dates,
    decimals,
    eights,
    fours,
    intervals,
    sixteens,
    strings,
    times,
    timestamps,
    twos,
)
from wallaby.pgtypes.compiled import BYTES, I32, I64_ROWS, U8, U64, U64_ROWS, VOID, called, kernel
from wallaby.pgtypes.endian import (
    copy_bytes,
    copy_word,
    item,
    load_32,
    ones,
    prefetch,
    put_64,
)
from wallaby.pgtypes.sweep_plan import (
    BINARY_KIND,
    BLOCK_ROWS,
    BOOLS,
    BYTES_PER_ROW,
    COLUMN,
    COUNTED,
    DATES,
    DECIMALS,
    EIGHTS,
    FIRST_MISFIT,
    FOURS,
    INTERVALS,
    KIND,
    MISFITS,
    NULLS,
    PLACE,
    PREFIX,
    SHORT_BYTES,
    SIXTEENS,
    STRINGS,
    TEXT_BOOLS,
    TEXT_DATES,
    TEXT_DECIMALS,
    TEXT_FLOAT4S,
    TEXT_FLOAT8S,
    TEXT_INTEGERS,
    TEXT_KIND,
    TEXT_TIMES,
    TEXT_TIMESTAMPS,
    TEXT_TIMESTAMPTZS,
    TEXT_UUIDS,
    TEXTS,
    TIMES,
    TIMESTAMPS,
    TWOS,
    UNION,
    VALID,
    VALID_AT,
    VALUES_AT,
    WIDTH,
)
from wallaby.pgtypes.text_loops import (
    text_bools,
    text_dates,
    text_decimals,
    text_floats,
    text_integers,
    text_intervals,
    text_times,
    text_timestamps,
    text_uuids,
)

LINE_BYTES: Final = 64
"""Of a cache."""
FETCH_CELLS_MAX: Final = BLOCK_ROWS * 200
FETCH_BYTES_MAX: Final = 64 * 1024
"""Blocks beyond these limits are not fetched ahead: rows of other tables lie between theirs, or they are too large."""


@called
def is_text_block(offset, length, base, plan, begin, stop):
    """True when the first value is text; without a value, when only the loop for text writes the column."""
    for i in range(begin, stop):
        j = item(base, i) + plan[COLUMN]
        if item(length, j) >= 0:
            return item(offset, j) < 0
    return plan[BINARY_KIND] == COUNTED


@called
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


@called
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


@kernel(VOID, BYTES, I32, I32, I32, I64_ROWS, U64_ROWS, U8, U64, I64_ROWS)
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


@called
def union_of(out, begin, stop):
    """All bytes or-ed together."""
    union = np.uint8(0)
    for i in range(np.uint64(begin), np.uint64(stop)):
        union |= out[i]
    return union


@kernel(VOID, BYTES, I32, I32, I32, I64_ROWS, U8, I64_ROWS, U8)
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
