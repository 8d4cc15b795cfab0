"""Arrow columns as Iceberg columns and back.

What Iceberg lacks is widened (small and unsigned integers), kept as a struct (intervals: months, days and microseconds,
none convertible into another) or as PostgreSQL's own digits (numerics beyond 38). Nothing is rounded.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from sinks.duckdb.types import decimal_text
from wallaby.kept_types import TEXT, Kept, printed
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.schema import PgType
from wallaby.transform.casts import Fidelity
from wallaby.type_map import TypeNames
from wallaby.wire.parquet_types import INTERVAL_TYPE, from_parquet, to_parquet

TYPE_NAMES: Final = TypeNames(
    {
        "boolean": "bool",
        "int": "int4",
        "long": "int8",
        "float": "float4",
        "double": "float8",
        "string": "text",
        "binary": "bytea",
        "uuid": "uuid",
        "date": "date",
        "time": "time",
        "timestamp": "timestamp",
        "timestamptz": "timestamptz",
    },
    decimal="decimal",
    array="list<{}>",
    digits_max=38,
)
"""Iceberg's own names of the types a column can be mapped to, as its catalog prints them."""

_DIGITS_MAX: Final = 38
_INTERVAL: Final = pa.month_day_nano_interval()
_STORED: Final[dict[pa.DataType, pa.DataType]] = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    _INTERVAL: INTERVAL_TYPE,
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
}
_PRIMITIVES: Final[dict[pa.DataType, IcebergType]] = {
    pa.bool_(): BooleanType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.binary(16): UUIDType(),
    pa.date32(): DateType(),
    pa.time64("us"): TimeType(),
    pa.timestamp("us"): TimestampType(),
    pa.timestamp("us", "UTC"): TimestamptzType(),
}


def stored_type(arrow: pa.DataType) -> pa.DataType:
    """The Arrow type whose values Iceberg holds exactly, for a column of type ``arrow``.

    Unsigned 64-bit integers become signed ones; a value beyond those is an error when it is converted, never altered.
    """
    if pa.types.is_list(arrow):
        return pa.list_(stored_type(arrow.value_type))
    if pa.types.is_map(arrow):
        return pa.map_(stored_type(arrow.key_type), stored_type(arrow.item_type))
    if pa.types.is_struct(arrow):
        return pa.struct([pa.field(field.name, stored_type(field.type)) for field in arrow])
    if pa.types.is_decimal(arrow):
        is_held = arrow.precision <= _DIGITS_MAX
        return pa.decimal128(arrow.precision, arrow.scale) if is_held else pa.string()
    stored = _STORED.get(arrow, arrow)
    return stored if stored in _PRIMITIVES or stored == INTERVAL_TYPE else pa.string()


class Numbers:
    """Field ids in order: every field of a schema, also inside lists, maps and structs, has one of its own."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
        """One that was not given before."""
        self.last += 1
        return self.last


def iceberg_type(stored: pa.DataType, numbers: Numbers) -> IcebergType:
    """Iceberg's type of a `stored_type`."""
    if pa.types.is_list(stored):
        number = numbers.next()
        return ListType(number, iceberg_type(stored.value_type, numbers), element_required=False)
    if pa.types.is_map(stored):
        key, value = numbers.next(), numbers.next()
        return MapType(
            key, iceberg_type(stored.key_type, numbers), value, iceberg_type(stored.item_type, numbers), False
        )
    if pa.types.is_struct(stored):
        ids = [numbers.next() for _ in stored]
        return StructType(
            *(
                NestedField(number, field.name, iceberg_type(field.type, numbers), required=False)
                for number, field in zip(ids, stored, strict=True)
            )
        )
    if pa.types.is_decimal(stored):
        return DecimalType(stored.precision, stored.scale)
    return _PRIMITIVES[stored]


def type_name(kind: IcebergType) -> str:
    """The type for people and comparisons: without field ids."""
    match kind:
        case ListType():
            return f"list<{type_name(kind.element_type)}>"
        case MapType():
            return f"map<{type_name(kind.key_type)}, {type_name(kind.value_type)}>"
        case StructType():
            return f"struct<{', '.join(f'{field.name}: {type_name(field.field_type)}' for field in kind.fields)}>"
        case _:
            return str(kind)


def widens(old: IcebergType, new: IcebergType) -> bool:
    """True when every value of ``old`` is one of ``new`` and Iceberg can go there; equal types do not widen."""
    match old, new:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return old.scale == new.scale and old.precision < new.precision
        case _:
            return False


def to_stored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """``column`` in its `stored_type`; zero-copy where that is its own. ``pa.ArrowInvalid`` for a value beyond it."""
    wanted = stored_type(column.type)
    if column.type == wanted:
        return column
    return pa.chunked_array([_stored(chunk, wanted) for chunk in column.chunks], wanted)


def _stored(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if array.type == _INTERVAL:
        [field] = fields = pa.schema([pa.field("", INTERVAL_TYPE)])
        return _single(to_parquet(pa.table([array], names=[field.name]), fields).column(0))
    if pa.types.is_list(wanted):
        return _rebuilt_list(array, _stored(array.values, wanted.value_type), wanted)
    if pa.types.is_decimal(array.type) and pa.types.is_string(wanted):
        return _single(decimal_text(pa.chunked_array([array])))
    return array.cast(wanted)


def _rebuilt_list(array: pa.Array, values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The same lists of other values: offsets and validity stay."""
    return pa.Array.from_buffers(
        wanted, len(array), array.buffers()[:2], null_count=array.null_count, offset=array.offset, children=[values]
    )


def from_stored(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """What was read from a table as ``wanted``, the type it was before `to_stored`; the exact inverse.

    ``pa.ArrowInvalid`` for a value that does not fit: the column was widened since, and is not of ``wanted`` any more.
    """
    return pa.chunked_array([_back(chunk, wanted) for chunk in column.chunks], wanted)


def _back(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if array.type == wanted:
        return array
    if wanted == _INTERVAL:
        return _single(from_parquet(pa.table([array.cast(INTERVAL_TYPE)], names=[""])).column(0))
    if pa.types.is_large_list(array.type):
        array = array.cast(pa.list_(array.type.value_field))
    if pa.types.is_list(wanted):
        whole = pa.concat_arrays([array])
        return _rebuilt_list(whole, _back(whole.values, wanted.value_type), wanted)
    if pa.types.is_decimal256(wanted):
        return array.cast(pa.string()).cast(wanted)
    return array.cast(wanted)


def _single(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def kept_as(pg_type: PgType, typmod: int) -> Kept:
    """See `wallaby.kept_types`."""
    layout = layout_of(pg_type, typmod)
    stored = stored_type(layout.arrow)
    name = type_name(iceberg_type(stored, Numbers()))
    if pa.types.is_integer(stored) and stored != layout.arrow:
        return Kept(name, Fidelity.WIDENED)
    if layout.family is Family.DECIMAL and pa.types.is_string(stored):
        return Kept(name, reason=TEXT)
    return Kept(name, reason=printed(layout))


__all__ = [
    "TYPE_NAMES",
    "Numbers",
    "from_stored",
    "iceberg_type",
    "kept_as",
    "stored_type",
    "to_stored",
    "type_name",
    "widens",
]
