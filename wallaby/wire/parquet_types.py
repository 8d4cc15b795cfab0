"""Log columns as Parquet columns and back: UUID and JSON as logical types, intervals as a struct Parquet can hold.

Parquet has no type for PostgreSQL's interval (months, days and microseconds, none convertible into another), so it
travels as ``struct<months: int32, days: int32, microseconds: int64>``. Decimals of up to 76 digits are stored exactly;
some readers (DuckDB among them) round those of more than 38 when they read.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from wallaby.content import validity_bitmap
from wallaby.intervals import INTERVAL, interval_parts, intervals_of

INTERVAL_TYPE: Final = pa.struct(
    [pa.field("months", pa.int32()), pa.field("days", pa.int32()), pa.field("microseconds", pa.int64())]
)
_UUID_STORAGE: Final = pa.binary(16)


def parquet_type(arrow: pa.DataType, *, json: bool = False) -> pa.DataType:
    """The Arrow type whose values Parquet holds exactly, for a column of type ``arrow``."""
    if pa.types.is_list(arrow):
        return pa.list_(parquet_type(arrow.value_type, json=json))
    if arrow == INTERVAL:
        return INTERVAL_TYPE
    if arrow == _UUID_STORAGE:
        return pa.uuid()
    # The JSON type came with a later pyarrow; without it the text is the same, only its label is missing.
    if json and pa.types.is_string(arrow) and hasattr(pa, "json_"):
        return pa.json_(pa.string())
    return arrow


def parquet_schema(fields: pa.Schema) -> pa.Schema:
    """The file's schema for rows of ``fields``. Names and metadata stay."""
    return pa.schema(
        [field.with_type(parquet_type(field.type, json=is_json(field))) for field in fields], metadata=fields.metadata
    )


def is_json(field: pa.Field) -> bool:
    """True for the fields of json and jsonb columns, also below domains and arrays (`wallaby.pgtypes.types`)."""
    return (field.metadata or {}).get(b"wallaby.type") in (b"json", b"jsonb")


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
        return INTERVAL
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
    return _interval_struct(array) if array.type == INTERVAL else intervals_of(array, validity_bitmap(array))


def _interval_struct(array: pa.Array) -> pa.Array:
    months, days, nanoseconds = interval_parts(array)
    children = [pa.array(part) for part in (months, days, nanoseconds // 1_000)]
    return pa.StructArray.from_arrays(children, fields=list(INTERVAL_TYPE), mask=array.is_null())


__all__ = ["INTERVAL_TYPE", "from_parquet", "is_json", "log_type", "parquet_schema", "parquet_type", "to_parquet"]
