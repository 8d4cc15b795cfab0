"""Types that travel in binary and are held as the text PostgreSQL prints: which they are, and their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from wallaby.memory import unwritten
from wallaby.pgtypes import printed_kernels as kernels
from wallaby.pgtypes.layout import Family

TEXT_BYTES_MAX: Final = 2**31 - 1
"""What 32-bit Arrow offsets reach."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a family prints. No text is longer than ``per_value`` bytes and ``per_byte`` times the binary value's."""

    kind: int
    per_value: int
    per_byte: int = 0


FORMS: Final[dict[Family, Form]] = {
    Family.TRANSACTION: Form(kernels.KIND_UINT4, 10),
    Family.TRANSACTION8: Form(kernels.KIND_UINT8, 20),
    Family.PG_LSN: Form(kernels.KIND_LSN, 17),
    Family.TID: Form(kernels.KIND_TID, 18),
    Family.MACADDR: Form(kernels.KIND_MACADDR, 17),
    Family.MACADDR8: Form(kernels.KIND_MACADDR8, 23),
    Family.INET: Form(kernels.KIND_INET, 49),
    Family.BITS: Form(kernels.KIND_BITS, 0, 8),
    Family.TIMETZ: Form(kernels.KIND_TIMETZ, 24),
    # A lexeme of one byte takes four (end mark, positions) and prints as five; a position takes two, and at most seven.
    Family.TSVECTOR: Form(kernels.KIND_TSVECTOR, 8, 4),
}
"""Families whose column is the text."""

BOUND_FORMS: Final[dict[Family, Form]] = {
    Family.INT4: Form(kernels.KIND_INT4, 11),
    Family.INT8: Form(kernels.KIND_INT8, 20),
    Family.DATE: Form(kernels.KIND_DATE, 16),
    Family.TIMESTAMP: Form(kernels.KIND_TIMESTAMP, 36),
    Family.TIMESTAMPTZ: Form(kernels.KIND_TIMESTAMPTZ, 36),
}
"""Families printed as bounds of ranges only."""


@dataclass(frozen=True, slots=True)
class Printed:
    """Texts of some cells as Arrow string buffers; ``malformed`` is the first row without one though it has a value, or
    -1."""

    starts: npt.NDArray[np.int32]
    valid: npt.NDArray[np.uint8]
    text: npt.NDArray[np.uint8]
    malformed: int


def print_cells(
    form: Form,
    data: npt.NDArray[np.uint8],
    offset: npt.NDArray[np.int32],
    length: npt.NDArray[np.int32],
    base: npt.NDArray[np.int32],
    column: int,
) -> Printed | None:
    """Print binary cells (as in ``wallaby.pgtypes.kernels``); None when they may take more than ``TEXT_BYTES_MAX``."""
    rows = len(base)
    lengths = length[base + column]
    room = form.per_value * rows + form.per_byte * int(np.maximum(lengths, 0).sum(dtype=np.int64))
    if room > TEXT_BYTES_MAX:
        return None
    starts = np.zeros(rows + 1, np.int32)
    valid = np.zeros((rows + 7) // 8, np.uint8)
    out = unwritten(room, np.uint8)
    malformed = int(kernels.print_values(data, offset, length, base, column, form.kind, starts, valid, out))
    # A copy, because most texts are far shorter than they might be.
    return Printed(starts, valid, out[: int(starts[-1])].copy(), malformed)


def print_value(form: Form, value: bytes) -> str:
    """The text of one binary value; ValueError when it is malformed."""
    data = np.frombuffer(value, np.uint8)
    zero = np.zeros(1, np.int32)
    printed = print_cells(form, data, zero, np.array([len(value)], np.int32), zero, 0)
    if printed is None or printed.malformed >= 0:
        raise ValueError("a value is malformed or too long to print")
    return printed.text.tobytes().decode()
