"""Arrow columns as DuckDB columns: type names, scan markings, and the values only DuckDB can hold.

Data reaches DuckDB as a registered Arrow table, read in place. Two things need telling: 16 bytes that are a UUID and
text that is JSON. Both travel as Arrow extension names in the field metadata, which costs nothing and, other than a
cast to JSON, does not reject what PostgreSQL accepts (a lone surrogate in ``json``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.kept_types import TEXT, Kept, printed
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.pgtypes.types import is_json
from wallaby.schema import Column, PgType, TableSchema, quote_identifier
from wallaby.type_map import TypeNames

TYPE_NAMES: Final = TypeNames(
    {
        "boolean": "bool",
        "smallint": "int2",
        "integer": "int4",
        "bigint": "int8",
        "uinteger": "oid",
        "float": "float4",
        "double": "float8",
        "varchar": "text",
        "blob": "bytea",
        "uuid": "uuid",
        "json": "jsonb",
        "date": "date",
        "time": "time",
        "timestamp": "timestamp",
        "timestamp with time zone": "timestamptz",
        "interval": "interval",
        "bool": "bool",
        "int": "int4",
        "real": "float4",
        "text": "text",
        "string": "text",
        "timestamptz": "timestamptz",
    },
    decimal="decimal",
    array="{}[]",
    digits_max=38,
)
"""DuckDB's own names of the types a column can be mapped to, as its catalog prints them, and then shorter ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What DuckDB's engine can do with tables, by where it keeps them."""

    name: str
    """For messages."""
    has_intervals: bool
    """False: intervals are text, as `wallaby.content.value_texts` prints them."""
    has_json: bool
    """False: JSON is text, because reading it back rejects what PostgreSQL accepts (a lone surrogate)."""
    changes_to_text: bool
    """ALTER … TYPE VARCHAR works; else the column is made anew."""
    has_table_per_lane: bool
    """Lanes have a record table each, because two writers of one table exclude each other."""


FILE: Final = Storage(name="DuckDB", has_intervals=True, has_json=True, changes_to_text=True, has_table_per_lane=False)
"""A database file."""
LAKE: Final = Storage(
    name="DuckLake", has_intervals=False, has_json=False, changes_to_text=False, has_table_per_lane=True
)
"""Parquet files and a catalog. Parquet's interval has milliseconds and no sign."""
_INTERVAL: Final = pa.month_day_nano_interval()
_NAMES: Final[dict[pa.DataType, str]] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.binary(16): "UUID",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    _INTERVAL: "INTERVAL",
}
_DECIMAL_DIGITS_MAX: Final = 38
_UUID: Final = {b"ARROW:extension:name": b"arrow.uuid", b"ARROW:extension:metadata": b""}
_JSON: Final = {b"ARROW:extension:name": b"arrow.json", b"ARROW:extension:metadata": b""}


def duckdb_type(arrow: pa.DataType, *, is_json: bool = False, storage: Storage = FILE) -> str:
    """DuckDB's name, as its catalog prints it, of the type that holds every value of ``arrow``."""
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return duckdb_type(arrow.value_type, is_json=is_json, storage=storage) + "[]"
    if pa.types.is_map(arrow):
        return f"MAP({duckdb_type(arrow.key_type)}, {duckdb_type(arrow.item_type)})"
    if pa.types.is_struct(arrow):
        members = (f"{quote_identifier(field.name)} {duckdb_type(field.type)}" for field in arrow)
        return f"STRUCT({', '.join(members)})"
    if pa.types.is_decimal(arrow):
        return f"DECIMAL({arrow.precision},{arrow.scale})" if arrow.precision <= _DECIMAL_DIGITS_MAX else "VARCHAR"
    if is_json and storage.has_json and pa.types.is_string(arrow):
        return "JSON"
    if arrow == _INTERVAL and not storage.has_intervals:
        return "VARCHAR"
    return _NAMES.get(arrow, "VARCHAR")


def for_scan(rows: pa.Table, columns: tuple[Column | None, ...], *, storage: Storage = FILE) -> pa.Table:
    """``rows`` as DuckDB shall read it: UUID and JSON marked, decimals beyond 38 digits as text, and intervals where
    the storage has none. Zero-copy otherwise.

    ``columns`` says what each of ``rows`` columns is at the source; None for those that are wallaby's own. The columns
    are named by place, ``c0``, ``c1`` …: names of the source may differ by case only from each other or from ours.
    """
    arrays, fields = [], []
    for i, column in enumerate(columns):
        array = rows.column(i)
        if pa.types.is_decimal(array.type) and array.type.precision > _DECIMAL_DIGITS_MAX:
            array = decimal_text(array)
        elif not storage.has_intervals:
            array = _with_interval_texts(array)
        fields.append(_marked(pa.field(f"c{i}", array.type), column is not None and is_json(column.type)))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _marked(field: pa.Field, json: bool) -> pa.Field:
    if pa.types.is_list(field.type):
        return pa.field(field.name, pa.list_(_marked(pa.field("item", field.type.value_type), json)))
    if field.type == pa.binary(16):
        return field.with_metadata(_UUID)
    return field.with_metadata(_JSON) if json and pa.types.is_string(field.type) else field


def _with_interval_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type == _INTERVAL:
        return pa.chunked_array([value_texts(chunk).cast(pa.string()) for chunk in column.chunks], pa.string())
    if pa.types.is_list(column.type) and column.type.value_type == _INTERVAL:
        chunks = [_interval_list_texts(chunk) for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.list_(pa.string()))
    return column


def _interval_list_texts(chunk: pa.Array) -> pa.Array:
    # Offsets of a copy begin at 0.
    whole = pa.concat_arrays([chunk]) if chunk.offset else chunk
    texts = value_texts(whole.values).cast(pa.string())
    return pa.Array.from_buffers(pa.list_(pa.string()), len(whole), whole.buffers()[:2], children=[texts])


def decimal_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals as plain digits with their whole scale, the way PostgreSQL prints them (Arrow's own cast may not)."""
    scale = column.type.scale
    whole = type_without_scale(column.type)
    chunks = [_unscaled(chunk, whole) for chunk in column.chunks]
    digits = pc.cast(pa.chunked_array(chunks, whole), pa.string())
    if scale == 0:
        return digits
    is_negative = pc.starts_with(digits, "-")
    magnitude = pc.utf8_lpad(pc.utf8_ltrim(digits, "-"), scale + 1, "0")
    sign = pc.if_else(is_negative, "-", "")
    point = pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(magnitude, 0, -scale), pc.utf8_slice_codeunits(magnitude, -scale, None), "."
    )
    return pc.binary_join_element_wise(sign, point, "")


def type_without_scale(decimal: pa.DataType) -> pa.DataType:
    """The same width and digits, all before the point."""
    make = pa.decimal128 if pa.types.is_decimal128(decimal) else pa.decimal256
    return make(decimal.precision, 0)


def _unscaled(chunk: pa.Array, whole: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(whole, len(chunk), chunk.buffers(), offset=chunk.offset)


def place_outliers(schema: TableSchema, rows: pa.Table, lists: pa.ChunkedArray) -> tuple[pa.Table, int | None]:
    """Put values where Arrow has no place for them but DuckDB does: infinite dates and timestamps, and 24:00:00.

    ``rows`` holds the table's columns first; ``lists`` is its ``outliers`` column. Returns the rows, and the index of
    one column with values that not even DuckDB holds, or None.
    """
    if lists.null_count == len(lists):
        return rows, None
    cells = pa.concat_arrays(lists.chunks)
    row = pc.list_parent_indices(cells).to_numpy()
    flat = pc.list_flatten(cells)
    column_of, text = _indexes(schema, flat.field(0)), flat.field(1)
    unheld: int | None = None
    for number in np.unique(column_of).tolist():
        chosen = np.flatnonzero(column_of == number)
        known = held_values(rows.schema.field(number).type)
        found = pc.index_in(text.take(pa.array(chosen)), value_set=pa.array(list(known), pa.string()))
        is_known = found.is_valid().to_numpy(zero_copy_only=False)
        if not is_known.all():
            unheld = number
        if known and is_known.any():
            values = np.array(list(known.values()))[found.drop_null().to_numpy()]
            column = _with_values(rows.column(number), row[chosen[is_known]], values)
            rows = rows.set_column(number, rows.schema.field(number), column)
    return rows, unheld


def _indexes(schema: TableSchema, columns: pa.Array) -> npt.NDArray[np.int64]:
    """A window names columns by index, a log by name."""
    if pa.types.is_string(columns.type):
        columns = pc.index_in(columns, value_set=pa.array([column.name for column in schema.columns], pa.string()))
    return np.asarray(columns.to_numpy(zero_copy_only=False), np.int64)


def held_values(arrow: pa.DataType) -> dict[str, int]:
    """PostgreSQL's text to the integer DuckDB reads from an Arrow column of this type."""
    if pa.types.is_date32(arrow):
        return {"infinity": 2**31 - 1, "-infinity": 1 - 2**31}
    if pa.types.is_timestamp(arrow):
        return {"infinity": 2**63 - 1, "-infinity": 1 - 2**63}
    return {"24:00:00": 86_400_000_000} if pa.types.is_time64(arrow) else {}


def _with_values(column: pa.ChunkedArray, at: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> pa.Array:
    array = pa.concat_arrays(column.chunks)
    storage, width = (pa.int32(), np.int32) if pa.types.is_date32(array.type) else (pa.int64(), np.int64)
    is_null = array.is_null().to_numpy(zero_copy_only=False).copy()
    integers = array.view(storage).fill_null(0).to_numpy(zero_copy_only=False).copy()
    integers[at] = values.astype(width)
    is_null[at] = False
    return pa.array(integers, storage, mask=is_null).view(array.type)


def kept_as(pg_type: PgType, typmod: int, *, storage: Storage = FILE) -> Kept:
    """See `wallaby.kept_types`."""
    layout = layout_of(pg_type, typmod)
    name = duckdb_type(layout.arrow, is_json=is_json(pg_type), storage=storage)
    if layout.family is Family.DECIMAL:
        return Kept("VARCHAR", reason=TEXT) if name == "VARCHAR" else Kept(name)
    held = ", ".join(f"`{text}`" for text in held_values(layout.arrow))
    return Kept(name, reason=f"also {held}" if held else printed(layout))


__all__ = [
    "FILE",
    "LAKE",
    "TYPE_NAMES",
    "Storage",
    "decimal_text",
    "duckdb_type",
    "for_scan",
    "held_values",
    "kept_as",
    "place_outliers",
]
