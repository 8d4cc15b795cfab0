"""Cells of one column to one Arrow array, plus the values that array cannot hold.

A column's cells are binary or text, each by itself. They are all of one kind in practice; a column with both is
gathered twice and put together. Strings in Arrow must be UTF-8: a column that is not pure ASCII is validated before it
leaves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.pgtypes import extension_kernels, kernels, numeric_kernels, printed_kernels, text_kernels
from wallaby.pgtypes.layout import Family, Layout
from wallaby.pgtypes.printed import BOUND_FORMS, FORMS, Form, print_cells
from wallaby.pgtypes.render import render

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outliers:
    """Rows whose value the Arrow type cannot hold, ascending, and the exact PostgreSQL text of each."""

    rows: npt.NDArray[np.int64]
    texts: pa.StringArray


class MalformedCell(Exception):
    """A cell's bytes are not of its type: ``row`` of the column, ``reason`` without the value."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


class NoBinaryForm(MalformedCell):
    """The cell is of a type that must travel as text, yet came in binary."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of some tuples: cell ``base[i] + column`` of the index is row i. ``data`` is read-only.

    ``offset`` is inverted (negative) for text; ``length`` is negative where there is no value.
    """

    data: Bytes
    offset: Index
    length: Index
    base: Index
    column: int = 0

    @property
    def rows(self) -> int:
        return len(self.base)

    def args(self) -> tuple[Bytes, Index, Index, Index, int]:
        """The leading arguments of every gather."""
        return self.data, self.offset, self.length, self.base, self.column

    def lengths(self) -> Index:
        """Each row's cell length."""
        return self.length[self.base + self.column]


def scan_columns(layouts: Sequence[Layout], columns: Sequence[int], cells: Cells) -> Counts:
    """What `gather` must know of each of these columns beforehand, in one pass over them: a row of three each."""
    counts = np.zeros((len(columns), 3), np.int64)
    widths = np.array([_WIDTHS.get(layouts[column].family, 0) for column in columns], np.int64)
    kernels.scan_columns(
        cells.offset, cells.length, cells.base, np.array(columns, np.int64), widths, counts.reshape(-1)
    )
    return counts


def gather(layout: Layout, cells: Cells, counts: Counts | None = None) -> tuple[pa.Array, Outliers | None]:
    """The column as ``layout.arrow``; nulls where there is no value and at outliers. Keeps no reference to ``data``.

    ``counts`` is the column's row of `scan_columns`. MalformedCell when a cell cannot be of the type.
    """
    if counts is None:
        counts = np.zeros(3, np.int64)
        kernels.scan(*cells.args()[1:], _WIDTHS.get(layout.family, 0), counts)
    nulls, texts, misfits = (int(count) for count in counts)
    if misfits:
        raise MalformedCell(_first_misfit(layout, cells), "a binary value has the wrong width")
    present = cells.rows - nulls
    if present == 0:
        return pa.nulls(cells.rows, layout.arrow), None
    if layout.family is Family.OPAQUE and texts < present:
        raise NoBinaryForm(_first_binary(cells), "the type has no binary form here, yet a value came in binary")
    if 0 < texts < present:
        return _gather_both(layout, cells)
    gather_column = _TEXT[layout.family] if texts else _BINARY[layout.family]
    array = gather_column(layout, cells)
    if array.null_count == nulls:
        return array, None
    return array, _outliers(layout, cells, array, are_texts=texts > 0)


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
    is_text = (cells.offset[cells.base + cells.column] < 0) & (cells.lengths() >= 0)
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


def _first_misfit(layout: Layout, cells: Cells) -> int:
    lengths = cells.lengths()
    is_binary = cells.offset[cells.base + cells.column] >= 0
    return int(np.flatnonzero((lengths >= 0) & is_binary & (lengths != _WIDTHS[layout.family]))[0])


def _first_binary(cells: Cells) -> int:
    return int(np.flatnonzero((cells.lengths() >= 0) & (cells.offset[cells.base + cells.column] >= 0))[0])


def _bitmap(rows: int) -> Bytes:
    return np.zeros((rows + 7) // 8, np.uint8)


def _assemble(arrow: pa.DataType, rows: int, valid: Bytes, *buffers: npt.NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(arrow, rows, [pa.py_buffer(valid), *map(pa.py_buffer, buffers)])


def _fixed(kernel: Callable[..., None], dtype: type[np.generic], per_row: int = 1) -> _GatherColumn:
    """A gather of fixed-width values written whole by ``kernel``."""

    def column(layout: Layout, cells: Cells) -> pa.Array:
        out = np.empty(cells.rows * per_row, dtype)
        valid = _bitmap(cells.rows)
        kernel(*cells.args(), out, valid)
        return _assemble(layout.arrow, cells.rows, valid, out)

    return column


def _bits(kernel: Callable[..., None]) -> _GatherColumn:
    def column(layout: Layout, cells: Cells) -> pa.Array:
        out, valid = _bitmap(cells.rows), _bitmap(cells.rows)
        kernel(*cells.args(), out, valid)
        return _assemble(layout.arrow, cells.rows, valid, out)

    return column


def _string(layout: Layout, cells: Cells, prefix: int = 0) -> pa.Array:
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = kernels.string_offsets(cells.length, cells.base, cells.column, prefix, starts, valid)
    if malformed >= 0:
        raise MalformedCell(malformed, "a value is shorter than its type allows")
    size = int(starts[-1])
    out = np.empty(size + kernels.SHORT_BYTES, np.uint8)
    kernels.gather_string(*cells.args(), prefix, starts, out)
    out = out[:size]
    array = _assemble(layout.arrow, cells.rows, valid, starts, out)
    if pa.types.is_string(layout.arrow) and not kernels.is_ascii(out):
        _require_utf8(array)
    return array


def _require_utf8(array: pa.Array) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise MalformedCell(0, "a text value is not UTF-8; set client_encoding to UTF8") from error


def _jsonb(layout: Layout, cells: Cells) -> pa.Array:
    return _string(layout, cells, prefix=1)


def _char(layout: Layout, cells: Cells) -> pa.Array:
    out, valid = np.zeros(cells.rows, np.uint8), _bitmap(cells.rows)
    kernels.gather_fixed(*cells.args(), 1, out, valid)
    codes = _assemble(pa.uint8(), cells.rows, valid, out)
    return pa.DictionaryArray.from_arrays(codes, _CHARS).cast(pa.string())


def _uuid(layout: Layout, cells: Cells) -> pa.Array:
    out, valid = np.zeros(cells.rows * 16, np.uint8), _bitmap(cells.rows)
    kernels.gather_16(*cells.args(), out, valid)
    return _assemble(layout.arrow, cells.rows, valid, out)


def _text_uuid(layout: Layout, cells: Cells) -> pa.Array:
    out, valid = np.zeros(cells.rows * 16, np.uint8), _bitmap(cells.rows)
    text_kernels.text_uuid(*cells.args(), out, valid)
    return _assemble(layout.arrow, cells.rows, valid, out)


def _decimal(layout: Layout, cells: Cells) -> pa.Array:
    limbs = layout.arrow.bit_width // 64
    out = np.empty(cells.rows * limbs, np.uint64)
    valid = _bitmap(cells.rows)
    bound = numeric_kernels.power_limbs(layout.precision)
    malformed = numeric_kernels.gather_decimal(*cells.args(), layout.scale, limbs, bound, out, valid)
    if malformed >= 0:
        raise MalformedCell(malformed, "a numeric is malformed")
    return _assemble(layout.arrow, cells.rows, valid, out)


def _text_decimal(layout: Layout, cells: Cells) -> pa.Array:
    limbs = layout.arrow.bit_width // 64
    out = np.empty(cells.rows * limbs, np.uint64)
    valid = _bitmap(cells.rows)
    bound = numeric_kernels.power_limbs(layout.precision)
    text_kernels.text_decimal(*cells.args(), layout.scale, limbs, bound, out, valid)
    return _assemble(layout.arrow, cells.rows, valid, out)


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


def _text_integer(layout: Layout, cells: Cells) -> pa.Array:
    dtype = np.dtype(layout.arrow.to_pandas_dtype())
    limits = np.iinfo(dtype)
    out = np.empty(cells.rows, np.int64)
    valid = _bitmap(cells.rows)
    text_kernels.text_integer(*cells.args(), int(limits.min), int(limits.max), out, valid)
    return _assemble(layout.arrow, cells.rows, valid, out.astype(dtype, copy=False))


def _text_float(layout: Layout, cells: Cells) -> pa.Array:
    text = _string(_TEXTS, cells)
    try:
        return text.cast(layout.arrow)
    except pa.ArrowInvalid as error:
        raise MalformedCell(0, "a text value is not a number") from error


def _text_timestamp(layout: Layout, cells: Cells) -> pa.Array:
    out = np.empty(cells.rows, np.int64)
    valid = _bitmap(cells.rows)
    text_kernels.text_timestamp(*cells.args(), layout.family is Family.TIMESTAMPTZ, out, valid)
    return _assemble(layout.arrow, cells.rows, valid, out)


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


def _map(layout: Layout, cells: Cells) -> pa.Array:
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = extension_kernels.map_offsets(*cells.args(), starts, valid)
    if malformed >= 0:
        raise MalformedCell(malformed, "an hstore is malformed")
    pairs = int(starts[-1])
    index = [np.empty(pairs, np.int32) for _ in range(4)]
    extension_kernels.map_entries(cells.data, cells.offset, cells.base, cells.column, starts, *index)
    return _with_pairs(layout, starts, valid, cells.data, index, pairs)


def _text_map(layout: Layout, cells: Cells) -> pa.Array:
    total = int(np.maximum(cells.lengths(), 0).sum(dtype=np.int64))
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    copy = np.empty(total, np.uint8)
    index = [np.empty(total // 6 + 1, np.int32) for _ in range(4)]
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
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = extension_kernels.vector_offsets(*cells.args(), width, starts, valid)
    if malformed >= 0:
        raise MalformedCell(malformed, "a vector is malformed")
    bits = np.empty(int(starts[-1]), np.int32)
    extension_kernels.vector_elements(cells.data, cells.offset, cells.base, cells.column, width, starts, bits)
    values = bits.astype(np.uint16).view(np.float16).astype(np.float32) if is_half else bits.view(np.float32)
    return _with_floats(layout, starts, valid, pa.array(values))


def _text_vector(layout: Layout, cells: Cells) -> pa.Array:
    room = int(np.maximum(cells.lengths(), 0).sum(dtype=np.int64)) // 2 + 1
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    offset, length = np.empty(room, np.int32), np.empty(room, np.int32)
    elements = extension_kernels.text_vector(*cells.args(), starts, valid, offset, length)
    values = _text_float(_FLOATS, Cells(cells.data, offset, length, _all(elements)))
    return _with_floats(layout, starts, valid, values)


def _with_floats(layout: Layout, starts: Index, valid: Bytes, values: pa.Array) -> pa.Array:
    buffers = [pa.py_buffer(valid), pa.py_buffer(starts)]
    return pa.Array.from_buffers(layout.arrow, len(starts) - 1, buffers, children=[values])


def _text_geometry(layout: Layout, cells: Cells) -> pa.Array:
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    extension_kernels.text_hex_offsets(*cells.args(), starts, valid)
    out = np.empty(int(starts[-1]), np.uint8)
    extension_kernels.text_hex(cells.data, cells.offset, cells.base, cells.column, starts, out)
    return _assemble(layout.arrow, cells.rows, valid, starts, out)


def _printed(layout: Layout, cells: Cells) -> pa.Array:
    return _print(FORMS[layout.family], cells)


def _print(form: Form, cells: Cells) -> pa.Array:
    printed = print_cells(form, *cells.args())
    if printed is None:
        raise MalformedCell(0, "values of one feed print as more than 2 GiB")
    if printed.malformed >= 0:
        raise MalformedCell(printed.malformed, "a value is malformed")
    array = _assemble(pa.string(), cells.rows, printed.valid, printed.starts, printed.text)
    if not kernels.is_ascii(printed.text):
        _require_utf8(array)
    return array


def _range(layout: Layout, cells: Cells) -> pa.Array:
    flags = np.empty(cells.rows, np.uint8)
    index = [np.empty(cells.rows, np.int32) for _ in range(4)]
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
    starts = np.empty(cells.rows + 1, np.int32)
    valid = _bitmap(cells.rows)
    malformed = printed_kernels.multirange_offsets(*cells.args(), starts, valid)
    if malformed >= 0:
        raise MalformedCell(malformed, "a multirange is malformed")
    count = int(starts[-1])
    offset, length = np.empty(count, np.int32), np.empty(count, np.int32)
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
"""Bytes of a binary value, where fixed."""

_CHARS: Final = pa.array(["", *(chr(code) if code < 0x80 else f"\\{code:o}" for code in range(1, 256))])
"""What ``charout`` prints for each byte."""

_BINARY: Final[dict[Family, _GatherColumn]] = {
    Family.BOOL: _bits(kernels.gather_bool),
    Family.INT2: _fixed(kernels.gather_2, np.int16),
    Family.INT4: _fixed(kernels.gather_4, np.int32),
    Family.INT8: _fixed(kernels.gather_8, np.int64),
    Family.OID: _fixed(kernels.gather_4, np.int32),
    Family.FLOAT4: _fixed(kernels.gather_4, np.int32),
    Family.FLOAT8: _fixed(kernels.gather_8, np.int64),
    Family.STRING: _string,
    Family.CHAR: _char,
    Family.JSONB: _jsonb,
    Family.BYTEA: _string,
    Family.UUID: _uuid,
    Family.DATE: _fixed(kernels.gather_date, np.int32),
    Family.TIME: _fixed(kernels.gather_time, np.int64),
    Family.TIMESTAMP: _fixed(kernels.gather_timestamp, np.int64),
    Family.TIMESTAMPTZ: _fixed(kernels.gather_timestamp, np.int64),
    Family.DECIMAL: _decimal,
    Family.NUMERIC_TEXT: _numeric_text,
    Family.INTERVAL: _fixed(kernels.gather_interval, np.int32, per_row=4),
    Family.LIST: _list,
    Family.MAP: _map,
    Family.VECTOR: _vector,
    Family.HALF_VECTOR: _vector,
    Family.GEOMETRY: _string,
    Family.RANGE: _range,
    Family.MULTIRANGE: _multirange,
    **dict.fromkeys(FORMS, _printed),
}

_TEXT: Final[dict[Family, _GatherColumn]] = {
    Family.BOOL: _bits(text_kernels.text_bool),
    Family.INT2: _text_integer,
    Family.INT4: _text_integer,
    Family.INT8: _text_integer,
    Family.OID: _text_integer,
    Family.FLOAT4: _text_float,
    Family.FLOAT8: _text_float,
    Family.STRING: _string,
    Family.CHAR: _string,
    Family.JSONB: _string,
    Family.BYTEA: _text_bytea,
    Family.UUID: _text_uuid,
    Family.DATE: _fixed(text_kernels.text_date, np.int32),
    Family.TIME: _fixed(text_kernels.text_time, np.int64),
    Family.TIMESTAMP: _text_timestamp,
    Family.TIMESTAMPTZ: _text_timestamp,
    Family.DECIMAL: _text_decimal,
    Family.NUMERIC_TEXT: _string,
    Family.INTERVAL: _fixed(text_kernels.text_interval, np.int32, per_row=4),
    Family.LIST: _text_list,
    Family.MAP: _text_map,
    Family.VECTOR: _text_vector,
    Family.HALF_VECTOR: _text_vector,
    Family.GEOMETRY: _text_geometry,
    Family.RANGE: _string,
    Family.MULTIRANGE: _string,
    **dict.fromkeys(FORMS, _string),
    Family.OPAQUE: _string,
}
