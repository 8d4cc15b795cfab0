"""Columns of the source as Delta columns: which type holds every value, and the conversion in columns.

Delta's types are those of Spark: signed integers, two floats, decimals of up to 38 digits, dates, timestamps with and
without a zone, text, bytes, lists, maps and structs. What has no type of its own there (uuid, time, interval, longer
decimals) is PostgreSQL's text. Unsigned numbers take the next wider signed type.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.kept_types import TEXT, Kept, printed
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.pgtypes.types import arrow_field
from wallaby.schema import PgType, TableSchema
from wallaby.transform.casts import Fidelity
from wallaby.transform.columns import single
from wallaby.type_map import TypeNames

TYPE_NAMES: Final = TypeNames(
    {
        "boolean": "bool",
        "short": "int2",
        "integer": "int4",
        "long": "int8",
        "float": "float4",
        "double": "float8",
        "string": "text",
        "binary": "bytea",
        "date": "date",
        "timestamp_ntz": "timestamp",
        "timestamp": "timestamptz",
        "smallint": "int2",
        "int": "int4",
        "bigint": "int8",
    },
    decimal="decimal",
    array="array<{}>",
    digits_max=38,
)
"""Delta's own names of the types a column can be mapped to, and then Spark's."""

_DECIMAL_DIGITS_MAX: Final = 38
_SAME: Final = frozenset(
    {
        pa.bool_(),
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.float32(),
        pa.float64(),
        pa.string(),
        pa.binary(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", "UTC"),
    }
)
_WIDER: Final = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
}
_BITS: Final = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}


def delta_type(arrow: pa.DataType) -> pa.DataType:
    """The Arrow form of the Delta type that holds every value of ``arrow``."""
    if isinstance(arrow, pa.BaseExtensionType):
        return delta_type(arrow.storage_type)
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return pa.list_(pa.field("element", delta_type(arrow.value_type)))
    if pa.types.is_map(arrow):
        return pa.map_(delta_type(arrow.key_type), delta_type(arrow.item_type))
    if pa.types.is_struct(arrow):
        return pa.struct([pa.field(field.name, delta_type(field.type)) for field in arrow])
    if pa.types.is_decimal(arrow):
        fits = arrow.precision <= _DECIMAL_DIGITS_MAX and 0 <= arrow.scale <= arrow.precision
        return pa.decimal128(arrow.precision, arrow.scale) if fits else pa.string()
    return arrow if arrow in _SAME else _WIDER.get(arrow, pa.string())


def own_type(arrow: pa.DataType) -> pa.DataType:
    """As `delta_type`, for the columns a log adds: its LSNs and ordinals are plain whole numbers."""
    return pa.int64() if arrow == pa.uint64() else delta_type(arrow)


def converted(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """``column`` as ``wanted``, `delta_type` of its own type or one that `widens` it. Zero-copy where nothing changes.

    Text of other types is PostgreSQL's. pa.ArrowException when a value does not fit.
    """
    if column.type == wanted:
        return column
    return pa.chunked_array([_array(chunk, wanted) for chunk in column.chunks], wanted)


def _array(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if isinstance(array.type, pa.BaseExtensionType):
        return _array(array.storage, wanted)
    if pa.types.is_list(wanted) and pa.types.is_list(array.type):
        if array.offset:
            array = pa.concat_arrays([array])
        values = _array(array.values, wanted.value_type)
        return pa.Array.from_buffers(
            wanted, len(array), array.buffers()[:2], null_count=array.null_count, children=[values]
        )
    if pa.types.is_string(wanted) and not pa.types.is_large_string(array.type):
        return value_texts(array).cast(pa.string())
    return array.cast(wanted)


def widens(old: pa.DataType, new: pa.DataType) -> bool:
    """True when every value of ``old`` is a value of ``new``, printed as PostgreSQL prints it after such a change."""
    if old == new:
        return True
    if pa.types.is_list(old) and pa.types.is_list(new):
        return widens(old.value_type, new.value_type)
    if pa.types.is_map(old) or pa.types.is_map(new):
        return same_type(old, new)
    if old in _BITS and new in _BITS:
        return _BITS[new] > _BITS[old]
    if pa.types.is_decimal(new):
        whole = new.precision - new.scale
        if pa.types.is_decimal(old):
            return bool(new.scale >= old.scale and whole >= old.precision - old.scale)
        return old in _BITS and bool(whole >= len(str(2 ** (_BITS[old] - 1))))
    if pa.types.is_string(new):
        return old in _BITS or pa.types.is_decimal(old)
    return (old, new) in {
        (pa.float32(), pa.float64()),
        (pa.int16(), pa.float32()),
        (pa.int16(), pa.float64()),
        (pa.int32(), pa.float64()),
    }


def same_type(old: pa.DataType, new: pa.DataType) -> bool:
    """Equal but for the names and nullability inside lists and maps, which engines choose themselves."""
    if pa.types.is_map(old) and pa.types.is_map(new):
        return same_type(old.key_type, new.key_type) and same_type(old.item_type, new.item_type)
    if pa.types.is_list(old) and pa.types.is_list(new):
        return same_type(old.value_type, new.value_type)
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return [f.name for f in old] == [f.name for f in new] and all(
            same_type(a.type, b.type) for a, b in zip(old, new, strict=True)
        )
    return bool(old == new)


def holds_as_text(arrow: pa.DataType) -> bool:
    """True where the column is text in Delta and was not in Arrow: PostgreSQL's text of an outlier fits in, too."""
    return pa.types.is_string(delta_type(arrow)) and not pa.types.is_string(arrow)


def place_outliers(schema: TableSchema, rows: pa.Table, lists: pa.ChunkedArray) -> tuple[pa.Table, int | None]:
    """Put values that no Arrow type holds into the columns that are text in Delta (times, intervals, long decimals).

    ``rows`` has the table's columns first, as `converted` made them; ``lists`` their outliers, by column index
    (`wallaby.window.OUTLIER_TYPE`) or by name (a log). Returns the rows, and the index of one column with values that
    not even Delta holds, or None.
    """
    if lists.null_count == len(lists):
        return rows, None
    cells = single(lists)
    row = pc.list_parent_indices(cells).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(cells)
    column_of, text = _indexes(schema, flat.field(0)), flat.field(1)
    unheld: int | None = None
    for number in np.unique(column_of).tolist():
        if number >= 0 and holds_as_text(_arrow_type(schema, number)):
            chosen = np.flatnonzero(column_of == number)
            rows = rows.set_column(number, rows.schema.field(number), _with_texts(rows, number, row, text, chosen))
        else:
            unheld = number
    return rows, unheld


def _arrow_type(schema: TableSchema, number: int) -> pa.DataType:
    return arrow_field(schema.columns[number]).type


def _with_texts(
    rows: pa.Table, number: int, row: npt.NDArray[np.int64], text: pa.Array, chosen: npt.NDArray[np.int64]
) -> pa.ChunkedArray:
    place = np.zeros(rows.num_rows, np.int64)
    is_placed = np.zeros(rows.num_rows, np.bool_)
    place[row[chosen]], is_placed[row[chosen]] = chosen, True
    texts = text.cast(pa.string()).take(pa.array(place, mask=~is_placed))
    return pc.if_else(pa.array(is_placed), texts, rows.column(number))


def _indexes(schema: TableSchema, columns: pa.Array) -> npt.NDArray[np.int64]:
    """A window names columns by index, a log by name."""
    if pa.types.is_string(columns.type):
        columns = pc.index_in(columns, value_set=pa.array([column.name for column in schema.columns], pa.string()))
    return np.asarray(columns.to_numpy(zero_copy_only=False), np.int64)


def kept_as(pg_type: PgType, typmod: int) -> Kept:
    """See `wallaby.kept_types`."""
    layout = layout_of(pg_type, typmod)
    stored = delta_type(layout.arrow)
    name = type_name(stored)
    if layout.family is Family.INTERVAL:
        return Kept(name, reason="text such as `14 mon 3 days 4000000000 ns`, also its outliers")
    if holds_as_text(layout.arrow):
        return Kept(name, reason=f"{TEXT}, also of its outliers" if layout.family is not Family.UUID else TEXT)
    if pa.types.is_unsigned_integer(layout.arrow):
        return Kept(name, Fidelity.WIDENED)
    return Kept(name, reason=printed(layout))


def type_name(stored: pa.DataType) -> str:
    """Delta's name of a `delta_type`, with Spark's way to write what is nested."""
    if pa.types.is_list(stored):
        return f"array<{type_name(stored.value_type)}>"
    if pa.types.is_map(stored):
        return f"map<{type_name(stored.key_type)}, {type_name(stored.item_type)}>"
    if pa.types.is_decimal(stored):
        return f"decimal({stored.precision},{stored.scale})"
    return _NAMES.get(stored, str(stored))


_NAMES: Final = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp_ntz",
    pa.timestamp("us", "UTC"): "timestamp",
}
"""Text and bytes are called as in Arrow."""


__all__ = [
    "TYPE_NAMES",
    "converted",
    "delta_type",
    "holds_as_text",
    "kept_as",
    "own_type",
    "place_outliers",
    "same_type",
    "widens",
]
