"""Many columns of the same tuples to Arrow arrays in one pass over their cells.

A `Sweep` is made once for a table; `over` runs it. All values of a batch then lie in one arena that the arrays share,
and all strings in another. Which families take part, and how, stands in the table at the end; cells of other families
are only counted, and their columns left to ``wallaby.pgtypes.gather``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.memory import unwritten
from wallaby.pgtypes import sweep_kernels as kernels
from wallaby.pgtypes import sweep_plan
from wallaby.pgtypes.cells import Bytes, Cells, MalformedCell
from wallaby.pgtypes.layout import Family, Layout
from wallaby.pgtypes.numeric_kernels import power_limbs
from wallaby.pgtypes.printed import FORMS


@dataclass(frozen=True, slots=True)
class _Swept:
    """How a family takes part: the loops for both formats, and bytes per row (0: single bits; strings: the offset)."""

    binary: int
    text: int = sweep_plan.COUNTED
    bytes_per_row: int = 0
    prefix: int = 0


class Sweep:
    """The plan for some columns of one table. Holds no batch: it may run in several threads."""

    __slots__ = ("_bounds", "_plan", "layouts")

    def __init__(self, layouts: Sequence[Layout], columns: Sequence[int]) -> None:
        """``layouts`` of all columns of the tuples, ``columns`` the places of those wanted."""
        self.layouts = tuple(layouts[column] for column in columns)
        self._plan = np.zeros((len(columns), sweep_plan.PLAN_FIELDS), np.int64)
        self._bounds = np.zeros((len(columns), 4), np.uint64)
        for k, column in enumerate(columns):
            self._plan[k, sweep_plan.COLUMN] = column
            self._add(k, layouts[column])

    def _add(self, k: int, layout: Layout) -> None:
        plan = self._plan[k]
        plan[sweep_plan.WIDTH] = _WIDTHS.get(layout.family, 0)
        swept = _SWEPT.get(layout.family)
        if swept is None:
            return
        plan[sweep_plan.BINARY_KIND], plan[sweep_plan.TEXT_KIND] = swept.binary, swept.text
        plan[sweep_plan.BYTES_PER_ROW], plan[sweep_plan.PREFIX] = swept.bytes_per_row, swept.prefix
        if layout.family is Family.DECIMAL:
            limbs = layout.arrow.bit_width // 64
            plan[sweep_plan.LIMBS], plan[sweep_plan.SCALE] = limbs, layout.scale
            plan[sweep_plan.BYTES_PER_ROW] = 8 * limbs
            self._bounds[k] = power_limbs(layout.precision)
        elif swept.text == sweep_plan.TEXT_INTEGERS:
            limits = np.iinfo(layout.arrow.to_pandas_dtype())
            plan[sweep_plan.LEAST], plan[sweep_plan.MOST] = limits.min, limits.max

    def over(self, cells: Cells) -> Swept:
        """Gather the rows of ``cells``; its ``column`` is added to the place of each column."""
        plan, rows = self._plan.copy(), len(cells.base)
        if cells.column:
            plan[:, sweep_plan.COLUMN] += cells.column
        data = cells.data if len(cells.data) >= sweep_plan.DATA_BYTES_MIN else _padded(cells.data)
        size = sweep_plan.lay_out(plan, rows) // 8
        # Without rows nothing writes the one offset that strings have all the same.
        words = unwritten(size, np.uint64) if rows else np.zeros(size, np.uint64)
        arena = words.view(np.uint8)
        counts = np.zeros((len(plan), sweep_plan.COUNT_FIELDS), np.int64)
        kernels.sweep(data, cells.offset, cells.length, cells.base, plan, self._bounds, arena, words, counts)
        size = sweep_plan.judge(plan, rows, counts)
        strings = unwritten(size, np.uint8)
        if size:
            kernels.copy_strings(data, cells.offset, cells.length, cells.base, plan, arena, counts, strings)
        return Swept(self.layouts, rows, plan.tolist(), counts.tolist(), arena, strings)


class Swept:
    """What one run found. Column k here is the k-th of the columns wanted."""

    __slots__ = ("_arena", "_buffer", "_counts", "_layouts", "_plan", "_rows", "_strings")

    def __init__(
        self,
        layouts: tuple[Layout, ...],
        rows: int,
        plan: list[list[int]],
        counts: list[list[int]],
        arena: Bytes,
        strings: Bytes,
    ) -> None:
        self._layouts = layouts
        self._rows = rows
        self._plan = plan
        self._counts = counts
        self._arena = arena
        self._buffer = pa.py_buffer(arena)
        self._strings = pa.py_buffer(strings)

    def layout(self, k: int) -> Layout:
        """The column's layout."""
        return self._layouts[k]

    def is_plain(self, k: int) -> bool:
        """True when nothing has to be asked but `array`."""
        return self._counts[k][sweep_plan.IS_PLAIN] == 1

    def is_gathered(self, k: int) -> bool:
        """True when there is an `array`; False for families, or formats of them, that take no part."""
        return self._counts[k][sweep_plan.KIND] != sweep_plan.COUNTED

    def nulls(self, k: int) -> int:
        """Rows without a value."""
        return self._counts[k][sweep_plan.NULLS]

    def texts(self, k: int) -> int:
        """Rows whose value is text."""
        return self._counts[k][sweep_plan.TEXTS]

    def lost(self, k: int) -> int:
        """Rows with a value that is null in `array`."""
        count = self._counts[k]
        return self._rows - count[sweep_plan.NULLS] - count[sweep_plan.VALID]

    def misfit(self, k: int) -> int | None:
        """The first row found with bytes that cannot be of the type."""
        count = self._counts[k]
        return count[sweep_plan.FIRST_MISFIT] - 1 if count[sweep_plan.MISFITS] else None

    def array(self, k: int) -> pa.Array:
        """The gathered column: null where there is no value and where Arrow cannot hold it.

        MalformedCell when it is a string and not UTF-8.
        """
        rows, plan, count = self._rows, self._plan[k], self._counts[k]
        arrow, filled, buffer = self._layouts[k].arrow, count[sweep_plan.VALID], self._buffer
        valid = None if filled == rows else buffer.slice(plan[sweep_plan.VALID_AT], (rows + 7) >> 3)
        begin, size = plan[sweep_plan.VALUES_AT], plan[sweep_plan.BYTES_PER_ROW]
        if count[sweep_plan.KIND] != sweep_plan.STRINGS:
            values = buffer.slice(begin, size * rows if size else (rows + 7) >> 3)
            return pa.Array.from_buffers(arrow, rows, [valid, values], rows - filled)
        strings = self._strings.slice(count[sweep_plan.PLACE], count[sweep_plan.END])
        starts = buffer.slice(begin, size * (rows + 1))
        array = pa.Array.from_buffers(arrow, rows, [valid, starts, strings], rows - filled)
        if count[sweep_plan.UNION] >= 0x80 and pa.types.is_string(arrow):
            require_utf8(array)
        return array

    def put(self, k: int, rows: npt.NDArray[np.int64], values: npt.NDArray[np.generic]) -> None:
        """Set values of a fixed width that had been lost."""
        plan = self._plan[k]
        begin, size = plan[sweep_plan.VALUES_AT], plan[sweep_plan.BYTES_PER_ROW]
        assert size == values.dtype.itemsize, (size, values.dtype)
        self._arena[begin : begin + size * self._rows].view(values.dtype)[rows] = values
        bits = np.left_shift(1, rows & 7).astype(np.uint8)
        np.bitwise_or.at(self._arena, plan[sweep_plan.VALID_AT] + (rows >> 3), bits)
        self._counts[k][sweep_plan.VALID] += len(rows)


def require_utf8(array: pa.Array) -> None:
    """MalformedCell when some string of the column is not UTF-8."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise MalformedCell(0, "a text value is not UTF-8; set client_encoding to UTF8") from error


def _padded(data: Bytes) -> Bytes:
    padded = np.zeros(sweep_plan.DATA_BYTES_MIN, np.uint8)
    padded[: len(data)] = data
    padded.flags.writeable = False
    return padded


_WIDTHS: Final[dict[Family, int]] = {
    Family.BOOL: 1,
    Family.INT2: 2,
    Family.INT4: 4,
    Family.INT8: 8,
    Family.OID: 4,
    Family.FLOAT4: 4,
    Family.FLOAT8: 8,
    Family.CHAR: 1,
    Family.UUID: 16,
    Family.DATE: 4,
    Family.TIME: 8,
    Family.TIMESTAMP: 8,
    Family.TIMESTAMPTZ: 8,
    Family.INTERVAL: 16,
}
"""Bytes of a binary value, where fixed: others are misfits."""

_SWEPT: Final[dict[Family, _Swept]] = {
    Family.BOOL: _Swept(sweep_plan.BOOLS, sweep_plan.TEXT_BOOLS),
    Family.INT2: _Swept(sweep_plan.TWOS, sweep_plan.TEXT_INTEGERS, 2),
    Family.INT4: _Swept(sweep_plan.FOURS, sweep_plan.TEXT_INTEGERS, 4),
    Family.INT8: _Swept(sweep_plan.EIGHTS, sweep_plan.TEXT_INTEGERS, 8),
    Family.OID: _Swept(sweep_plan.FOURS, sweep_plan.TEXT_INTEGERS, 4),
    Family.FLOAT4: _Swept(sweep_plan.FOURS, sweep_plan.TEXT_FLOAT4S, 4),
    Family.FLOAT8: _Swept(sweep_plan.EIGHTS, sweep_plan.TEXT_FLOAT8S, 8),
    Family.STRING: _Swept(sweep_plan.STRINGS, sweep_plan.STRINGS, 4),
    Family.CHAR: _Swept(sweep_plan.COUNTED, sweep_plan.STRINGS, 4),
    Family.JSONB: _Swept(sweep_plan.STRINGS, sweep_plan.STRINGS, 4, prefix=1),
    Family.BYTEA: _Swept(sweep_plan.STRINGS, sweep_plan.COUNTED, 4),
    Family.UUID: _Swept(sweep_plan.SIXTEENS, sweep_plan.TEXT_UUIDS, 16),
    Family.DATE: _Swept(sweep_plan.DATES, sweep_plan.TEXT_DATES, 4),
    Family.TIME: _Swept(sweep_plan.TIMES, sweep_plan.TEXT_TIMES, 8),
    Family.TIMESTAMP: _Swept(sweep_plan.TIMESTAMPS, sweep_plan.TEXT_TIMESTAMPS, 8),
    Family.TIMESTAMPTZ: _Swept(sweep_plan.TIMESTAMPS, sweep_plan.TEXT_TIMESTAMPTZS, 8),
    Family.DECIMAL: _Swept(sweep_plan.DECIMALS, sweep_plan.TEXT_DECIMALS, 16),
    Family.NUMERIC_TEXT: _Swept(sweep_plan.COUNTED, sweep_plan.STRINGS, 4),
    Family.INTERVAL: _Swept(sweep_plan.INTERVALS, sweep_plan.TEXT_INTERVALS, 16),
    Family.GEOMETRY: _Swept(sweep_plan.STRINGS, sweep_plan.COUNTED, 4),
    **dict.fromkeys(
        (*FORMS, Family.RANGE, Family.MULTIRANGE, Family.OPAQUE), _Swept(sweep_plan.COUNTED, sweep_plan.STRINGS, 4)
    ),
}
"""``BYTES_PER_ROW`` of a decimal depends on its precision."""
