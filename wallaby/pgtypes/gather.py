"""Cells to Arrow arrays, plus the values those arrays cannot hold.

Most columns leave a sweep (``wallaby.pgtypes.sweep``) as they should be, and `finish` has nothing to do. It deals with
the others: outliers, malformed cells, families that take no part in sweeps. A column's cells are binary or text, each
by itself; they are all of one kind in practice, and a column with both is gathered twice and put together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.pgtypes import kernels, numeric_kernels, text_kernels
from wallaby.pgtypes.cells import Bytes, Cells, Index, MalformedCell, NoBinaryForm
from wallaby.pgtypes.layout import Family, Layout
from wallaby.pgtypes.render import render
from wallaby.pgtypes.sweep import Sweep, Swept


@dataclass(frozen=True, slots=True)
class Outliers:
    """Rows whose value the Arrow type cannot hold, ascending, and the exact PostgreSQL text of each."""

    rows: npt.NDArray[np.int64]
    texts: pa.StringArray


def gather(layout: Layout, cells: Cells) -> tuple[pa.Array, Outliers | None]:
    """The column as ``layout.arrow``; nulls where there is no value and at outliers. Keeps no reference to ``data``.

    MalformedCell when a cell cannot be of the type.
    """
    return finish(_single(layout).over(cells), 0, cells, cells.column)


def finish(swept: Swept, k: int, tuples: Cells, column: int) -> tuple[pa.Array, Outliers | None]:
    """What `gather` returns, for the k-th column of a sweep over ``tuples``, where it is number ``column``."""
    if swept.is_plain(k):
        return swept.array(k), None
    cells = replace(tuples, column=column)
    layout, nulls, texts = swept.layout(k), swept.nulls(k), swept.texts(k)
    misfit = swept.misfit(k)
    if misfit is not None:
        raise MalformedCell(misfit, _MISFITS.get(layout.family, "a binary value has the wrong width"))
    present = cells.rows - nulls
    if present == 0:
        return pa.nulls(cells.rows, layout.arrow), None
    if layout.family is Family.OPAQUE and texts < present:
        raise NoBinaryForm(_first_binary(cells), "the type has no binary form here, yet a value came in binary")
    if not swept.is_gathered(k):
        if 0 < texts < present:
            return _gather_both(layout, cells)
        array = (_TEXT if texts else _BINARY)[layout.family](layout, cells)
        if array.null_count == nulls:
            return array, None
        return array, _outliers(layout, cells, array, are_texts=texts > 0)
    if swept.lost(k) and texts and layout.family in (Family.FLOAT4, Family.FLOAT8):
        _read_floats(swept, k, cells)
    array = swept.array(k)
    return array, _outliers(layout, cells, array, are_texts=texts > 0) if swept.lost(k) else None


@lru_cache(maxsize=256)
def _single(layout: Layout) -> Sweep:
    return Sweep((layout,), (0,))


def _read_floats(swept: Swept, k: int, cells: Cells) -> None:
    """NaN, infinities and what is nearer to the middle of two floats than the kernel can tell."""
    layout = swept.layout(k)
    is_lost = pc.is_null(swept.array(k)).to_numpy(zero_copy_only=False) & (cells.lengths() >= 0)
    rows = np.flatnonzero(is_lost)
    texts = _string(_TEXTS, replace(cells, base=np.ascontiguousarray(cells.base[rows])))
    try:
        swept.put(k, rows, texts.cast(layout.arrow).to_numpy())
    except pa.ArrowInvalid as error:
        raise MalformedCell(int(rows[0]), "a text value is not a number") from error


def _outliers(layout: Layout, cells: Cells, array: pa.Array, *, are_texts: bool) -> Outliers:
    """Text of the cells that are there and null in ``array``; equal values are rendered once."""
    is_null = pc.is_null(array).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(is_null & (cells.lengths() >= 0))
    lost = replace(cells, base=np.ascontiguousarray(cells.base[rows]))
    if are_texts:
        return Outliers(rows, _string(_TEXTS, lost))
    values = _string(_BYTES, lost).dictionary_encode()
    try:
        texts = [render(layout, value) for value in values.dictionary.to_pylist()]
    except (struct.error, ValueError, IndexError) as error:
        raise MalformedCell(int(rows[0]), "a value is not of its type") from error
    return Outliers(rows, pa.array(texts, pa.string()).take(values.indices))


def _gather_both(layout: Layout, cells: Cells) -> tuple[pa.Array, Outliers | None]:
    is_text = cells.are_texts() & (cells.lengths() >= 0)
    arrays: list[pa.Array] = []
    outliers: list[Outliers] = []
    rows = (np.flatnonzero(~is_text), np.flatnonzero(is_text))
    for chosen in rows:
        try:
            array, found = gather(layout, replace(cells, base=np.ascontiguousarray(cells.base[chosen])))
        except MalformedCell as error:
            raise type(error)(int(chosen[error.row]), error.reason) from error
        arrays.append(array)
        if found is not None:
            outliers.append(Outliers(chosen[found.rows], found.texts))
    back = np.empty(cells.rows, np.int64)
    back[np.concatenate(rows)] = np.arange(cells.rows)
    return pa.concat_arrays(arrays).take(pa.array(back)), _in_order(outliers)


def _in_order(outliers: list[Outliers]) -> Outliers | None:
    if not outliers:
        return None
    rows = np.concatenate([found.rows for found in outliers])
    order = np.argsort(rows)
    return Outliers(rows[order], pa.concat_arrays([found.texts for found in outliers]).take(pa.array(order)))


def _first_binary(cells: Cells) -> int:
    return int(np.flatnonzero((cells.lengths() >= 0) & ~cells.are_texts())[0])


def _bitmap(rows: int) -> Bytes:
    return np.zeros((rows + 7) // 8, np.uint8)


def _assemble(arrow: pa.DataType, rows: int, valid: Bytes, *buffers: npt.NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(arrow, rows, [pa.py_buffer(valid), *map(pa.py_buffer, buffers)])


def _string(layout: Layout, cells: Cells) -> pa.Array:
    """Cells of either format as they are, as a type of strings or bytes."""
    return _single(layout).over(cells).array(0)


def _char(layout: Layout, cells: Cells) -> pa.Array:
    is_null = cells.lengths() < 0
    codes = cells.data[np.where(is_null, 0, cells.offset[cells.base + cells.column])]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=is_null), _CHARS).cast(layout.arrow)


def _numeric_text(layout: Layout, cells: Cells) -> pa.Array:
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = numeric_kernels.numeric_text_offsets(*cells.args(), starts, valid)
    if malformed == numeric_kernels.TOO_LONG:
        raise MalformedCell(0, "numerics of one feed print as more than 2 GiB")
    if malformed >= 0:
        raise MalformedCell(malformed, "a numeric is malformed")
    out = np.empty(int(starts[-1]), np.uint8)
    numeric_kernels.gather_numeric_text(*cells.args(), starts, out)
    return _assemble(layout.arrow, cells.rows, valid, starts, out)


def _text_bytea(layout: Layout, cells: Cells) -> pa.Array:
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    text_kernels.text_bytea_offsets(*cells.args(), starts, valid)
    out = np.empty(int(starts[-1]), np.uint8)
    text_kernels.text_bytea(cells.data, cells.offset, cells.base, cells.column, starts, out)
    return _assemble(layout.arrow, cells.rows, valid, starts, out)


def _list(layout: Layout, cells: Cells) -> pa.Array:
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    counts = np.zeros(2, np.int64)
    kernels.list_offsets(*cells.args(), starts, valid, counts)
    elements, malformed = (int(count) for count in counts)
    if malformed >= 0:
        raise MalformedCell(malformed, "an array is malformed")
    offset, length = np.empty(elements, np.int32), np.empty(elements, np.int32)
    kernels.list_elements(cells.data, cells.offset, cells.base, cells.column, starts, valid, offset, length)
    return _with_elements(layout, cells.rows, starts, valid, Cells(cells.data, offset, length, _all(elements)))


def _text_list(layout: Layout, cells: Cells) -> pa.Array:
    total = int(np.maximum(cells.lengths(), 0).sum(dtype=np.int64))
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    copy = np.empty(total, np.uint8)
    room = total // 2 + 1
    offset, length = np.empty(room, np.int32), np.empty(room, np.int32)
    elements = text_kernels.text_list(*cells.args(), copy, starts, valid, offset, length)
    copy.flags.writeable = False
    return _with_elements(layout, cells.rows, starts, valid, Cells(copy, offset, length, _all(elements)))


def _all(count: int) -> Index:
    return np.arange(count, dtype=np.int32)


def _with_elements(layout: Layout, rows: int, starts: Index, valid: Bytes, elements: Cells) -> pa.Array:
    """The list array; a list with an element that Arrow cannot hold is null, and so an outlier, as a whole."""
    assert layout.element is not None, layout
    try:
        values, outliers = gather(layout.element, elements)
    except MalformedCell as error:
        row = int(np.searchsorted(starts, error.row, side="right")) - 1
        raise MalformedCell(row, "an array element: " + error.reason) from error
    buffers = [pa.py_buffer(valid), pa.py_buffer(starts)]
    lists = pa.Array.from_buffers(layout.arrow, rows, buffers, children=[values])
    if outliers is None:
        return lists
    is_lost = np.zeros(rows, bool)
    is_lost[np.searchsorted(starts, outliers.rows, side="right") - 1] = True
    return pc.if_else(pa.array(is_lost), pa.scalar(None, layout.arrow), lists)


_GatherColumn = Callable[[Layout, Cells], pa.Array]

_TEXTS: Final = Layout(Family.STRING, pa.string())
_BYTES: Final = Layout(Family.BYTEA, pa.binary())

_MISFITS: Final[dict[Family, str]] = {
    Family.DECIMAL: "a numeric is malformed",
    Family.JSONB: "a value is shorter than its type allows",
}

_CHARS: Final = pa.array(["", *(chr(code) if code < 0x80 else f"\\{code:o}" for code in range(1, 256))])
"""What ``charout`` prints for each byte."""

# What takes no part in a sweep.
_BINARY: Final[dict[Family, _GatherColumn]] = {
    Family.CHAR: _char,
    Family.NUMERIC_TEXT: _numeric_text,
    Family.LIST: _list,
}

_TEXT: Final[dict[Family, _GatherColumn]] = {
    Family.BYTEA: _text_bytea,
    Family.LIST: _text_list,
}

__all__ = ["Bytes", "Cells", "Index", "MalformedCell", "NoBinaryForm", "Outliers", "Sweep", "finish", "gather"]
