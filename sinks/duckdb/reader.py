"""Reading a mirrored table back in wallaby's own types: for verification, the demo and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sinks.duckdb.ddl import TargetName
from sinks.duckdb.errors import Doing, translated
from sinks.duckdb.session import catalog_of
from sinks.duckdb.types import held_values
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableSchema, quote_identifier
from wallaby.transform.append import LOG_OUTLIER_TYPE, append_schema
from wallaby.transform.history import history_schema
from wallaby.versions import VersionColumns
from wallaby.window import OUTLIER_TYPE


def read_mirror(path: str | Path, schema: TableSchema, *, target: TargetName | None = None) -> pa.Table:
    """The rows of the table's mirror: the source's columns, then ``__outliers``, as a `MirrorPlan` has them.

    Infinite dates and the like are null, their PostgreSQL text among the outliers. Rows are in no particular order.
    Opens the file for reading only; `Transient` while another process writes to it.
    """
    with translated(Doing.OPEN, path=path), duckdb.connect(str(path), read_only=True) as connection:
        return mirror_rows(connection, schema, target=target)


def mirror_rows(connection: Any, schema: TableSchema, *, target: TargetName | None = None) -> pa.Table:
    """As `read_mirror`, over an open connection of ``duckdb``."""
    found, outliers = _read(connection, schema, arrow_schema(schema), target)
    return found.append_column("__outliers", outliers.as_indexes(found.num_rows))


def log_rows(connection: Any, schema: TableSchema, *, target: TargetName | None = None) -> pa.Table:
    """The rows of the table's append log as `wallaby.transform.append` has them, ``__outliers`` always among them.

    Values DuckDB holds and Arrow does not (infinite dates) are null and their text is among the outliers.
    """
    wanted = append_schema(schema, keep_outliers=True)
    found, outliers = _read(connection, schema, pa.schema(list(wanted)[:-1]), target)
    return found.append_column(wanted.field(-1), outliers.as_names(found.num_rows, schema))


def history_rows(
    connection: Any, schema: TableSchema, columns: VersionColumns, *, target: TargetName | None = None
) -> pa.Table:
    """The rows of the table's history, as `wallaby.transform.history` has them, and last ``__outliers``."""
    wanted = history_schema(schema, columns)
    found, outliers = _read(connection, schema, wanted, target)
    return found.append_column(pa.field("__outliers", OUTLIER_TYPE), outliers.as_indexes(found.num_rows))


def _read(
    connection: Any, schema: TableSchema, wanted: pa.Schema, target: TargetName | None
) -> tuple[pa.Table, _Texts]:
    name = target or TargetName(schema.name.schema, schema.name.name)
    columns = ", ".join(quote_identifier(column) for column in wanted.names)
    with translated(Doing.WORK, table=schema.name):
        name = replace(name, catalog=catalog_of(connection))
        connection.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
        found = connection.execute(f"SELECT {columns} FROM {name.sql}").to_arrow_table().combine_chunks()
    arrays: list[pa.Array] = []
    texts = _Texts()
    wanted = pa.schema([_stored(field, column.type) for field, column in zip(wanted, found.schema, strict=True)])
    for number, field in enumerate(wanted):
        array = _storage(found.column(number), field.type)
        for text, value in held_values(field.type).items() if number < len(schema.columns) else ():
            array, at = _without(array, value)
            texts.add(number, text, at)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=wanted), texts


def _stored(field: pa.Field, found: pa.DataType) -> pa.Field:
    """The field, as text where the storage has text for intervals."""
    leaf, text = field.type, pa.string()
    while pa.types.is_list(leaf):
        leaf, text = leaf.value_type, pa.list_(text)
    leaf_found = found
    while pa.types.is_list(leaf_found):
        leaf_found = leaf_found.value_type
    is_text = leaf == pa.month_day_nano_interval() and leaf_found != leaf
    return field.with_type(text) if is_text else field


class _Texts:
    """Outliers found on the way: few."""

    def __init__(self) -> None:
        self._by_row: dict[int, list[tuple[int, str]]] = {}

    def add(self, column: int, text: str, rows: npt.NDArray[np.int64]) -> None:
        for row in rows.tolist():
            self._by_row.setdefault(row, []).append((column, text))

    def as_indexes(self, total: int) -> pa.Array:
        return self._lists(total, OUTLIER_TYPE, lambda column: column)

    def as_names(self, total: int, schema: TableSchema) -> pa.Array:
        return self._lists(total, LOG_OUTLIER_TYPE, lambda column: schema.columns[column].name)

    def _lists(self, total: int, kind: pa.DataType, label: Callable[[int], int | str]) -> pa.Array:
        if not self._by_row:
            return pa.nulls(total, kind)
        rows = sorted(self._by_row)
        cells = [[{"column": label(column), "text": text} for column, text in self._by_row[row]] for row in rows]
        place = np.zeros(total, np.int64)
        place[rows] = np.arange(len(rows))
        is_missing = np.ones(total, np.bool_)
        is_missing[rows] = False
        return pa.array(cells, kind).take(pa.array(place, mask=is_missing))


def _storage(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.Array:
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return _plain(array, wanted)


def _plain(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_list(wanted) and pa.types.is_list(array.type):
        # Offsets of a whole array start at 0: DuckDB made it for us.
        values = _plain(array.values, wanted.value_type)
        return pa.Array.from_buffers(wanted, len(array), array.buffers()[:2], offset=array.offset, children=[values])
    return array if array.type == wanted else array.cast(wanted)


def _without(array: pa.Array, value: int) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The array with null where it holds ``value``, and where that was."""
    storage = pa.int32() if pa.types.is_date32(array.type) else pa.int64()
    integers = array.view(storage)
    is_null = integers.is_null().to_numpy(zero_copy_only=False)
    numbers = integers.fill_null(0).to_numpy(zero_copy_only=False)
    at = np.flatnonzero((numbers == value) & ~is_null)
    if len(at) == 0:
        return array, at
    mask = is_null.copy()
    mask[at] = True
    return pa.array(numbers, storage, mask=mask).view(array.type), at


__all__ = ["history_rows", "log_rows", "mirror_rows", "read_mirror"]
