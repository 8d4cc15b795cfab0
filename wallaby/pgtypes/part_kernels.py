"""Values of values: how many parts each has, and so where each list of them begins.

One pass for all kinds that tell how many parts they have in their first bytes, and are malformed when the parts are not
all of their bytes. What follows it, the parts themselves, is each kind's own (``extension_kernels``,
``printed_kernels``). Arrays are not among them: those of several dimensions have no parts at all (``kernels``).
"""

# Compiled in: extension_kernels 81b4e76a, kernels 8b0061ab, printed_kernels 65377a9f
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, INT64, U8, kernel
from wallaby.pgtypes.extension_kernels import dimensions_at, pairs_at
from wallaby.pgtypes.kernels import set_valid
from wallaby.pgtypes.printed_kernels import ranges_at

PAIRS: Final = 1
"""Of an hstore."""
FLOATS: Final = 2
"""Of a vector."""
HALF_FLOATS: Final = 3
RANGES: Final = 4
"""Of a multirange."""


@kernel(INT64, BYTES, I32, I32, I32, INT64, INT64, I32, U8)
def part_offsets(data, offset, length, base, column, kind, starts, valid):
    """Arrow offsets into the parts of binary values of one ``kind``. Returns the first malformed row, or -1."""
    end = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        j = base[i] + column
        size = np.int64(length[j])
        if size < 0:
            continue
        at = np.int64(offset[j])
        if kind == PAIRS:
            parts = pairs_at(data, at, size)
        elif kind == RANGES:
            parts = ranges_at(data, at, size)
        else:
            parts = dimensions_at(data, at, size, np.int64(4) if kind == FLOATS else np.int64(2))
        if parts < 0:
            return np.int64(i)
        end += parts
        set_valid(valid, i)
    starts[rows] = end
    return np.int64(-1)
