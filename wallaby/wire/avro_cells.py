"""Arrow columns as Avro's binary cells, a column at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import RowRefused
from wallaby.intervals import INTERVAL, interval_parts
from wallaby.wire.avro_schema import INTERVAL_TYPE, decimal_bytes, is_optional
from wallaby.wire.nesting import is_list
from wallaby.wire.rows import (
    NOTHING,
    Cells,
    Fixed,
    Numbers,
    Octets,
    Presence,
    Rows,
    Spans,
    Varints,
    as_octets,
    joined,
    spans,
    validity,
)

_BRANCH: Final = as_octets(b"\x02")
"""The second type of a union: not null."""
_NULL: Final = as_octets(b"\x00")
_END: Final = as_octets(b"\x00")
"""A block of no items ends an array and a map."""
_LONG_MAX: Final = 2**63 - 1


def encoded(rows: pa.RecordBatch) -> Rows:
    """Each row as Avro encodes a record of `wallaby.wire.avro_schema.avro_schema`."""
    columns = [cells(column, field) for column, field in zip(rows.columns, rows.schema, strict=True)]
    return joined(columns, rows.num_rows)


def cells(array: pa.Array, field: pa.Field) -> Cells:
    """The cells of a column. `RowRefused` for a number beyond 63 bits, which Avro's long does not hold, and for a null
    where the field has none."""
    array = _storage(array)
    if array.type == pa.uint64() and pc.any(pc.greater(array, pa.scalar(_LONG_MAX, pa.uint64()))).as_py():
        raise RowRefused("Avro cannot hold whole numbers of 64 bits without a sign", column=field.name)
    if is_optional(field):
        return _cells(array, Presence(valid=validity(array), lead=_BRANCH, absent=_NULL))
    if array.null_count and not pa.types.is_null(array.type):
        raise RowRefused("a column that is never null has a null", column=field.name)
    return _cells(array, Presence())


def _cells(array: pa.Array, presence: Presence) -> Cells:
    kind = array.type
    t = pa.types
    if t.is_null(kind):
        return Fixed(NOTHING, 0, Presence())
    if t.is_boolean(kind):
        return Fixed(_values(array.cast(pa.uint8())).astype(np.uint8), 1, presence)
    if t.is_date32(kind):
        return Varints(zigzag(_values(array.view(pa.int32()))), presence)
    if t.is_timestamp(kind) or t.is_time64(kind):
        return Varints(zigzag(_values(array.view(pa.int64()))), presence)
    if t.is_integer(kind):
        return Varints(zigzag(_values(array)), presence)
    if t.is_floating(kind) or t.is_fixed_size_binary(kind):
        width = kind.bit_width // 8
        return Fixed(_fixed(array, width), width, presence)
    if t.is_decimal(kind):
        return _decimals(array, presence)
    if kind == INTERVAL:
        return Spans(_intervals(array), presence)
    if t.is_map(kind):
        return _map(array, presence)
    if is_list(kind):
        return _list(array, presence)
    if t.is_struct(kind):
        columns = [cells(array.field(i), kind.field(i)) for i in range(kind.num_fields)]
        return Spans(joined(columns, len(array)), presence)
    rows = spans(array)
    return Spans(rows, presence, zigzag(np.diff(rows.ends)))


def zigzag(values: npt.NDArray[np.signedinteger]) -> Numbers:
    """Signed numbers as unsigned ones, small where they are near zero."""
    wide = values.astype(np.int64)
    return ((wide << 1) ^ (wide >> 63)).view(np.uint64)


def _values(array: pa.Array) -> npt.NDArray[np.signedinteger]:
    """Numbers, anything where they are null."""
    width = array.type.bit_width // 8
    data = np.frombuffer(array.buffers()[1] or b"", np.dtype(array.type.to_pandas_dtype()))
    assert width == data.itemsize
    return data[array.offset : array.offset + len(array)]


def _fixed(array: pa.Array, width: int) -> Octets:
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    return data[array.offset * width : (array.offset + len(array)) * width]


def _decimals(array: pa.Array, presence: Presence) -> Fixed:
    """The unscaled value, its highest byte first."""
    width = array.type.bit_width // 8
    size = decimal_bytes(array.type.precision)
    highest_first = _fixed(array, width).reshape(-1, width)[:, size - 1 :: -1]
    return Fixed(np.ascontiguousarray(highest_first).reshape(-1), size, presence)


def _intervals(array: pa.Array) -> Rows:
    months, days, nanoseconds = interval_parts(array)
    whole = [months, days, nanoseconds // 1_000]
    assert len(whole) == INTERVAL_TYPE.num_fields
    return joined([Varints(zigzag(part), Presence()) for part in whole], len(array))


def _list(array: pa.Array, presence: Presence) -> Cells:
    if not pa.types.is_list(array.type):
        array = array.cast(pa.list_(array.type.value_field))
    ends = array.offsets.to_numpy().astype(np.int64)
    items = array.values.slice(int(ends[0]), int(ends[-1] - ends[0]))
    rows = joined([cells(items, array.type.value_field)], len(items))
    return _blocks(rows, ends - ends[0], presence)


def _map(array: pa.Array, presence: Presence) -> Cells:
    ends = array.offsets.to_numpy().astype(np.int64)
    first, count = int(ends[0]), int(ends[-1] - ends[0])
    keys, items = array.keys.slice(first, count), array.items.slice(first, count)
    pair = [cells(keys, array.type.key_field), cells(items, array.type.item_field)]
    return _blocks(joined(pair, count), ends - ends[0], presence)


def _blocks(items: Rows, ends: npt.NDArray[np.int64], presence: Presence) -> Spans:
    """Lists of encoded items: one block each, and the block of none that ends it."""
    return Spans(Rows(items.data, items.ends[ends]), presence, zigzag(np.diff(ends)), _END)


def _storage(array: pa.Array) -> pa.Array:
    return _storage(array.storage) if isinstance(array.type, pa.BaseExtensionType) else array


__all__ = ["cells", "encoded", "zigzag"]
