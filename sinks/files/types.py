"""Log columns as Parquet columns and back: UUID and JSON as logical types, intervals as a struct Parquet can hold.

Parquet has no type for PostgreSQL's interval (months, days and microseconds, none convertible into another), so it
travels as ``struct<months: int32, days: int32, microseconds: int64>``. Decimals of up to 76 digits are stored exactly;
some readers (DuckDB among them) round those of more than 38 when they read.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from wallaby.kept_types import Kept, printed
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.schema import Column, PgType, TypeKind
from wallaby.type_map import TypeNames

TYPE_NAMES: Final = TypeNames(
    {
        "bool": "bool",
        "int16": "int2",
        "int32": "int4",
        "int64": "int8",
        "uint32": "oid",
        "float": "float4",
        "double": "float8",
        "string": "text",
        "binary": "bytea",
        "uuid": "uuid",
        "date": "date",
        "time": "time",
        "timestamp": "timestamp",
        "timestamp with time zone": "timestamptz",
    },
    decimal="decimal",
    array="list<{}>",
    digits_max=76,
)
"""Names of the types a column can be mapped to: Arrow's, and PostgreSQL's for times and moments."""

INTERVAL_TYPE: Final = pa.struct(
    [pa.field("months", pa.int32()), pa.field("days", pa.int32()), pa.field("microseconds", pa.int64())]
)
_INTERVAL: Final = pa.month_day_nano_interval()
_UUID_STORAGE: Final = pa.binary(16)
_INTERVAL_LAYOUT: Final = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_NANOSECONDS: Final = 1_000


def is_json(column: Column) -> bool:
    """True for json and jsonb, also below domains and arrays."""
    leaf = _leaf(column.type)
    return leaf.schema == "pg_catalog" and leaf.name in ("json", "jsonb")


def _leaf(pg_type: PgType) -> PgType:
    while True:
        match pg_type:
            case PgType(kind=TypeKind.DOMAIN, base=PgType() as inner):
                pg_type = inner
            case PgType(kind=TypeKind.ARRAY, element=PgType() as inner):
                pg_type = inner
            case _:
                return pg_type


def parquet_type(arrow: pa.DataType, *, json: bool = False) -> pa.DataType:
    """The Arrow type whose values Parquet holds exactly, for a column of type ``arrow``."""
    if pa.types.is_list(arrow):
        return pa.list_(parquet_type(arrow.value_type, json=json))
    if arrow == _INTERVAL:
        return INTERVAL_TYPE
    if arrow == _UUID_STORAGE:
        return pa.uuid()
    # The JSON type came with a later pyarrow; without it the text is the same, only its label is missing.
    if json and pa.types.is_string(arrow) and hasattr(pa, "json_"):
        return pa.json_(pa.string())
    return arrow


def parquet_schema(fields: pa.Schema, columns: tuple[Column, ...]) -> pa.Schema:
    """The file's schema for a log whose first fields are ``columns``. Names and metadata stay."""
    marks = [is_json(column) for column in columns] + [False] * (len(fields) - len(columns))
    return pa.schema(
        [field.with_type(parquet_type(field.type, json=json)) for field, json in zip(fields, marks, strict=True)]
    )


def to_parquet(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` in the types of `parquet_schema`; zero-copy but for intervals."""
    arrays = [_convert(rows.column(i), field.type) for i, field in enumerate(schema)]
    return pa.Table.from_arrays(arrays, schema=schema)


def from_parquet(rows: pa.Table) -> pa.Table:
    """The log's own types back from a file's: storage types for UUID and JSON, intervals as intervals."""
    fields = [field.with_type(log_type(field.type)) for field in rows.schema]
    return pa.Table.from_arrays(
        [_convert(rows.column(i), field.type) for i, field in enumerate(fields)], schema=pa.schema(fields)
    )


def log_type(parquet: pa.DataType) -> pa.DataType:
    """The inverse of `parquet_type`."""
    if pa.types.is_list(parquet):
        return pa.list_(log_type(parquet.value_type))
    if parquet == INTERVAL_TYPE:
        return _INTERVAL
    return parquet.storage_type if isinstance(parquet, pa.BaseExtensionType) else parquet


def _convert(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if column.type == wanted:
        return column
    return pa.chunked_array([_array(chunk, wanted) for chunk in column.chunks], wanted)


def _array(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if pa.types.is_list(wanted):
        if array.null_count or array.offset:
            array = pa.concat_arrays([array])
        values = _array(array.values, wanted.value_type)
        return pa.Array.from_buffers(
            wanted, len(array), array.buffers()[:2], null_count=array.null_count, offset=array.offset, children=[values]
        )
    if isinstance(array.type, pa.BaseExtensionType):
        return array.storage
    if isinstance(wanted, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(wanted, array)
    return _interval_struct(array) if array.type == _INTERVAL else _interval(array)


def _interval_struct(array: pa.Array) -> pa.Array:
    parts = np.frombuffer(array.buffers()[1], _INTERVAL_LAYOUT)[array.offset : array.offset + len(array)]
    whole = [parts["months"], parts["days"], parts["nanoseconds"] // _NANOSECONDS]
    children = [pa.array(np.ascontiguousarray(part)) for part in whole]
    return pa.StructArray.from_arrays(children, fields=list(INTERVAL_TYPE), mask=array.is_null())


def _interval(array: pa.Array) -> pa.Array:
    parts = np.zeros(len(array), _INTERVAL_LAYOUT)
    months, days, microseconds = (_numbers(child) for child in array.flatten())
    parts["months"], parts["days"], parts["nanoseconds"] = months, days, microseconds * _NANOSECONDS
    mask = pa.array(array.is_valid().to_numpy(zero_copy_only=False))
    validity = None if array.null_count == 0 else mask.buffers()[1]
    return pa.Array.from_buffers(_INTERVAL, len(array), [validity, pa.py_buffer(parts.tobytes())])


def _numbers(child: pa.Array) -> Any:
    return child.fill_null(0).to_numpy(zero_copy_only=False)


def kept_as(pg_type: PgType, typmod: int) -> Kept:
    """See `wallaby.kept_types`."""
    layout = layout_of(pg_type, typmod)
    stored = parquet_type(layout.arrow, json=is_json(Column("v", pg_type, typmod)))
    if layout.family is Family.DECIMAL:
        return Kept(f"decimal({layout.precision},{layout.scale})")
    name = stored.extension_name.removeprefix("arrow.") if isinstance(stored, pa.BaseExtensionType) else str(stored)
    return Kept(_PRINTED.get(name, name), reason=printed(layout))


_PRINTED: Final = {
    "date32[day]": "date",
    "time64[us]": "time",
    "timestamp[us]": "timestamp",
    "timestamp[us, tz=UTC]": "timestamp with time zone",
    str(INTERVAL_TYPE): "struct of months, days, microseconds",
}


__all__ = ["INTERVAL_TYPE", "TYPE_NAMES", "from_parquet", "log_type", "parquet_schema", "parquet_type", "to_parquet"]
