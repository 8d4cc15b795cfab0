"""Cells to Arrow arrays, plus the values those arrays cannot hold.

Most columns leave a sweep (``wallaby.pgtypes.sweep``) as they should be, and `finish` has nothing to do. It deals with
the others: outliers, malformed cells, families that take no part in sweeps. A column's cells are binary or text, each
by itself; they are all of one kind in practice, and a column with both is gathered twice and put together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.memory import unwritten
from wallaby.pgtypes import (
    extension_kernels,
    kernels,
    numeric_kernels,
    part_kernels,
    printed_kernels,
    text_kernels,
)
from wallaby.pgtypes.cells import Bytes, Cells, Index, MalformedCell, NoBinaryForm
from wallaby.pgtypes.layout import Family, Layout
from wallaby.pgtypes.printed import BOUND_FORMS, FORMS, Form, print_cells
from wallaby.pgtypes.render import render
from wallaby.pgtypes.sweep import Sweep, Swept, require_utf8


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
    back = unwritten(cells.rows, np.int64)
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
    """Cells of either format as they are, whatever the family, as strings or bytes."""
    return _single(_BYTES if pa.types.is_binary(layout.arrow) else _TEXTS).over(cells).array(0)


def _char(layout: Layout, cells: Cells) -> pa.Array:
    is_null = cells.lengths() < 0
    codes = cells.data[np.where(is_null, 0, cells.offset[cells.base + cells.column])]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=is_null), _CHARS).cast(layout.arrow)


def _numeric_text(layout: Layout, cells: Cells) -> pa.Array:
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = numeric_kernels.numeric_text_offsets(*cells.args(), starts, valid)
    if malformed == numeric_kernels.TOO_LONG:
        raise MalformedCell(0, "numerics of one feed print as more than 2 GiB")
    if malformed >= 0:
        raise MalformedCell(malformed, "a numeric is malformed")
    out = unwritten(int(starts[-1]), np.uint8)
    numeric_kernels.gather_numeric_text(*cells.args(), starts, out)
    return _assemble(layout.arrow, cells.rows, valid, starts, out)


def _text_bytes(layout: Layout, cells: Cells) -> pa.Array:
    prefix = 2 if layout.family is Family.BYTEA else 0
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    text_kernels.text_hex_offsets(*cells.args(), prefix, starts, valid)
    out = unwritten(int(starts[-1]), np.uint8)
    text_kernels.text_hex(cells.data, cells.offset, cells.base, cells.column, prefix, starts, out)
    return _assemble(layout.arrow, cells.rows, valid, starts, out)


def _list(layout: Layout, cells: Cells) -> pa.Array:
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    counts = np.zeros(2, np.int64)
    kernels.list_offsets(*cells.args(), starts, valid, counts)
    elements, malformed = (int(count) for count in counts)
    if malformed >= 0:
        raise MalformedCell(malformed, "an array is malformed")
    offset, length = unwritten(elements, np.int32), unwritten(elements, np.int32)
    kernels.list_elements(cells.data, cells.offset, cells.base, cells.column, starts, valid, offset, length)
    return _with_elements(layout, cells.rows, starts, valid, Cells(cells.data, offset, length, _all(elements)))


def _text_list(layout: Layout, cells: Cells) -> pa.Array:
    total = int(np.maximum(cells.lengths(), 0).sum(dtype=np.int64))
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    copy = unwritten(total, np.uint8)
    room = total // 2 + 1
    offset, length = unwritten(room, np.int32), unwritten(room, np.int32)
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


def _parts(cells: Cells, kind: int, reason: str) -> tuple[Index, Bytes]:
    """Offsets into the parts of all cells, and which cells have a value; MalformedCell with ``reason``."""
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = part_kernels.part_offsets(*cells.args(), kind, starts, valid)
    if malformed >= 0:
        raise MalformedCell(malformed, reason)
    return starts, valid


def _map(layout: Layout, cells: Cells) -> pa.Array:
    starts, valid = _parts(cells, part_kernels.PAIRS, "an hstore is malformed")
    pairs = int(starts[-1])
    index = [unwritten(pairs, np.int32) for _ in range(4)]
    extension_kernels.map_entries(cells.data, cells.offset, cells.base, cells.column, starts, *index)
    return _with_pairs(layout, starts, valid, cells.data, index, pairs)


def _text_map(layout: Layout, cells: Cells) -> pa.Array:
    total = int(np.maximum(cells.lengths(), 0).sum(dtype=np.int64))
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    copy = unwritten(total, np.uint8)
    index = [unwritten(total // 6 + 1, np.int32) for _ in range(4)]
    pairs = extension_kernels.text_map(*cells.args(), copy, starts, valid, *index)
    copy.flags.writeable = False
    return _with_pairs(layout, starts, valid, copy, index, pairs)


def _with_pairs(
    layout: Layout, starts: Index, valid: Bytes, data: Bytes, index: Sequence[Index], pairs: int
) -> pa.Array:
    """The map array from the cells of its keys and of its values."""
    sides = [Cells(data, index[k], index[k + 1], _all(pairs)) for k in (0, 2)]
    try:
        children = [_string(_TEXTS, side) for side in sides]
    except MalformedCell as error:
        row = int(np.searchsorted(starts, error.row, side="right")) - 1
        raise MalformedCell(row, "in an hstore: " + error.reason) from error
    fields = [layout.arrow.key_field, layout.arrow.item_field]
    entries = pa.StructArray.from_arrays(children, fields=fields)
    buffers = [pa.py_buffer(valid), pa.py_buffer(starts)]
    return pa.Array.from_buffers(layout.arrow, len(starts) - 1, buffers, children=[entries])


def _vector(layout: Layout, cells: Cells) -> pa.Array:
    is_half = layout.family is Family.HALF_VECTOR
    width = 2 if is_half else 4
    kind = part_kernels.HALF_FLOATS if is_half else part_kernels.FLOATS
    starts, valid = _parts(cells, kind, "a vector is malformed")
    bits = unwritten(int(starts[-1]), np.int32)
    extension_kernels.vector_elements(cells.data, cells.offset, cells.base, cells.column, width, starts, bits)
    values = bits.astype(np.uint16).view(np.float16).astype(np.float32) if is_half else bits.view(np.float32)
    return _with_floats(layout, starts, valid, pa.array(values))


def _text_vector(layout: Layout, cells: Cells) -> pa.Array:
    room = int(np.maximum(cells.lengths(), 0).sum(dtype=np.int64)) // 2 + 1
    starts = unwritten(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    offset, length = unwritten(room, np.int32), unwritten(room, np.int32)
    elements = extension_kernels.text_vector(*cells.args(), starts, valid, offset, length)
    values, _ = gather(_FLOATS, Cells(cells.data, offset, length, _all(elements)))
    return _with_floats(layout, starts, valid, values)


def _with_floats(layout: Layout, starts: Index, valid: Bytes, values: pa.Array) -> pa.Array:
    buffers = [pa.py_buffer(valid), pa.py_buffer(starts)]
    return pa.Array.from_buffers(layout.arrow, len(starts) - 1, buffers, children=[values])


def _printed(layout: Layout, cells: Cells) -> pa.Array:
    return _print(FORMS[layout.family], cells)


def _print(form: Form, cells: Cells) -> pa.Array:
    printed = print_cells(form, *cells.args())
    if printed is None:
        raise MalformedCell(0, "values of one feed print as more than 2 GiB")
    if printed.malformed >= 0:
        raise MalformedCell(printed.malformed, "a value is malformed")
    array = _assemble(pa.string(), cells.rows, printed.valid, printed.starts, printed.text)
    if len(printed.text) and printed.text.max() >= 0x80:
        require_utf8(array)
    return array


def _range(layout: Layout, cells: Cells) -> pa.Array:
    flags = unwritten(cells.rows, np.uint8)
    index = [unwritten(cells.rows, np.int32) for _ in range(4)]
    malformed = printed_kernels.range_bounds(*cells.args(), flags, *index)
    if malformed >= 0:
        raise MalformedCell(malformed, "a range is malformed")
    lower, upper = (_bounds(layout, Cells(cells.data, index[k], index[k + 1], _all(cells.rows))) for k in (0, 2))
    opening = _BRACKETS.take(pa.array((flags & printed_kernels.RANGE_LOWER_INCLUDED) != 0).cast(pa.int8()))
    closing = _BRACKETS.take(pa.array(2 + ((flags & printed_kernels.RANGE_UPPER_INCLUDED) != 0)))
    whole = pc.binary_join_element_wise(opening, lower, pa.scalar(","), upper, closing, pa.scalar(""))
    is_empty = pa.array((flags & printed_kernels.RANGE_EMPTY) != 0)
    return pc.if_else(pa.array(cells.lengths() >= 0), pc.if_else(is_empty, _EMPTY, whole), _NO_TEXT)


def _bounds(layout: Layout, cells: Cells) -> pa.Array:
    """The texts of one side's bounds, quoted where they need it; empty where there is none."""
    assert layout.element is not None, layout
    if layout.element.family is Family.NUMERIC_TEXT:
        texts = _numeric_text(layout.element, cells)
    else:
        texts = _print(BOUND_FORMS[layout.element.family], cells)
    if layout.element.family in _SPACED:
        quoted = pc.binary_join_element_wise(pa.scalar('"'), texts, pa.scalar('"'), pa.scalar(""))
        texts = pc.if_else(pc.match_substring(texts, " "), quoted, texts)
    return texts.fill_null("")


def _multirange(layout: Layout, cells: Cells) -> pa.Array:
    assert layout.element is not None, layout
    starts, valid = _parts(cells, part_kernels.RANGES, "a multirange is malformed")
    count = int(starts[-1])
    offset, length = unwritten(count, np.int32), unwritten(count, np.int32)
    printed_kernels.multirange_elements(cells.data, cells.offset, cells.base, cells.column, starts, offset, length)
    try:
        ranges = _range(layout.element, Cells(cells.data, offset, length, _all(count)))
    except MalformedCell as error:
        raise MalformedCell(int(np.searchsorted(starts, error.row, side="right")) - 1, error.reason) from error
    buffers = [pa.py_buffer(valid), pa.py_buffer(starts)]
    lists = pa.Array.from_buffers(pa.list_(pa.string()), cells.rows, buffers, children=[ranges])
    return pc.binary_join_element_wise(pa.scalar("{"), pc.binary_join(lists, ","), pa.scalar("}"), pa.scalar(""))


_GatherColumn = Callable[[Layout, Cells], pa.Array]

_TEXTS: Final = Layout(Family.STRING, pa.string())
_BYTES: Final = Layout(Family.BYTEA, pa.binary())
_FLOATS: Final = Layout(Family.FLOAT4, pa.float32())

_BRACKETS: Final = pa.array(["(", "[", ")", "]"])
_EMPTY: Final = pa.scalar("empty")
_NO_TEXT: Final = pa.scalar(None, pa.string())
_SPACED: Final = frozenset({Family.DATE, Family.TIMESTAMP, Family.TIMESTAMPTZ})
"""Bounds that may hold a space, the one thing of theirs that a range quotes."""

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
    Family.MAP: _map,
    Family.VECTOR: _vector,
    Family.HALF_VECTOR: _vector,
    Family.RANGE: _range,
    Family.MULTIRANGE: _multirange,
    **dict.fromkeys(FORMS, _printed),
}

_TEXT: Final[dict[Family, _GatherColumn]] = {
    Family.BYTEA: _text_bytes,
    Family.LIST: _text_list,
    Family.MAP: _text_map,
    Family.VECTOR: _text_vector,
    Family.HALF_VECTOR: _text_vector,
    Family.GEOMETRY: _text_bytes,
}

__all__ = ["Bytes", "Cells", "Index", "MalformedCell", "NoBinaryForm", "Outliers", "Sweep", "finish", "gather"]
