"""What a sweep is to do with each column and what it found there: two tables of integers, a row for each column."""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import I64_ROWS, INT64, kernel

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
ALIGNMENT: Final = 64
SHORT_BYTES: Final = 32
"""Strings up to this size are copied in words; ``copy_strings`` may write so many bytes too far."""
DATA_BYTES_MIN: Final = 16
"""``data`` is at least so long: loops load eight or sixteen bytes where there is no value too, and drop them."""


@kernel(INT64, I64_ROWS, INT64)
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


@kernel(INT64, I64_ROWS, INT64, I64_ROWS)
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
