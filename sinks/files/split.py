"""Rows by the folders they belong into.

A log only grows, so a column that changes is no trouble: each change lies where its own value says. What a change does
not have (a deleted row's columns, a value PostgreSQL did not send) is null and lies in Hive's folder for nulls; the
columns stay in the files, so nothing is known by the folder alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sinks.files.layout import encode_name
from sinks.files.partition import Partition, TimeUnit
from wallaby.errors import ConfigError
from wallaby.transform.columns import single

NULL_FOLDER: Final = "__HIVE_DEFAULT_PARTITION__"
_FOLDER_BYTES_MAX: Final = 255
_MARK_DIGITS: Final = 32
_PRINTED: Final = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
_YEARS: Final = (-62_135_596_800_000_000, 253_402_300_800_000_000)
"""Microseconds of the years 1 to 9999: of others the calendar is not sure, they count as null."""
_YEAR_DAYS: Final = (-719_162, 2_932_897)
"""The same in days."""


def require_column(partition: Partition, schema: pa.Schema, table: Any) -> None:
    """`ConfigError` when the log's schema has no such column, or one that cannot be a folder."""

    def unfit(message: str, advice: str) -> ConfigError:
        return ConfigError(message, advice=advice, field="partition_by", table=table, column=partition.column)

    if schema.names.count(partition.column) != 1:
        raise unfit(
            f"there is no column {partition.column} to partition by", "Name a column of every table, or __committed_at"
        )
    kind = schema.field(partition.column).type
    if pa.types.is_timestamp(kind) and partition.unit is None:
        raise unfit(f"{partition.column} is a time: each would be a folder", f"Write {partition.column}:day")
    if partition.unit is not None and not (
        pa.types.is_timestamp(kind) or (pa.types.is_date(kind) and partition.unit is not TimeUnit.HOUR)
    ):
        raise unfit(f"{partition.column} has no {partition.unit}", "Take the unit away, or name a column of times")
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_string, pa.types.is_date)
    if partition.unit is None and not any(is_kind(kind) for is_kind in plain):
        raise unfit(f"{partition.column} is of a type that is no folder", "Use text, whole numbers, booleans or dates")


def split(rows: pa.Table, partitions: tuple[Partition, ...]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each folder, in their order; the folder relative to the table's, empty without ``partitions``."""
    if not partitions or not len(rows):
        yield "", rows
        return
    columns = [_values(partition, rows) for partition in partitions]
    codes = np.zeros(len(rows), np.int64)
    for column in columns:
        own = column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)
        # Numbered anew each time, so that the product of many columns does not overflow.
        codes = np.unique(codes * (len(column.dictionary) + 1) + own, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    # In order once: a folder is then a slice, whatever their number.
    ordered = rows if len(starts) == 1 else rows.combine_chunks().take(pa.array(order))
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        folder = "/".join(
            _folder(partition.label, column[int(order[start])].as_py())
            for partition, column in zip(partitions, columns, strict=True)
        )
        yield folder, ordered.slice(start, end - start)


def _values(partition: Partition, rows: pa.Table) -> pa.DictionaryArray:
    """Each row's value, as the folder prints it; null for null."""
    if partition.column not in rows.column_names:
        return pa.nulls(len(rows), pa.string()).dictionary_encode()
    column = single(rows.column(partition.column))
    if pa.types.is_date32(column.type):
        # First: of far dates there is no such timestamp.
        column = _in(column, column.cast(pa.int32()), _YEAR_DAYS)
    if partition.unit is not None:
        moments = column.cast(pa.timestamp("us"))
        column = pc.floor_temporal(_in(moments, moments.cast(pa.int64()), _YEARS), unit=partition.unit)
    encoded = column.dictionary_encode()
    values = encoded.dictionary
    printed = (
        values.cast(pa.string()) if partition.unit is None else pc.strftime(values, format=_PRINTED[partition.unit])
    )
    return pa.DictionaryArray.from_arrays(encoded.indices, printed)


def _in(column: pa.Array, numbers: pa.Array, years: tuple[int, int]) -> pa.Array:
    """The values whose numbers are in the years, null for the others."""
    is_known = pc.and_(pc.greater_equal(numbers, years[0]), pc.less(numbers, years[1]))
    return pc.if_else(is_known, column, pa.scalar(None, column.type))


def _folder(label: str, value: str | None) -> str:
    """``label=value``, as a file system takes it: a value that is too long beside its label is cut, and told apart."""
    if value is None:
        return f"{label}={NULL_FOLDER}"
    room = _FOLDER_BYTES_MAX - len(label) - 1
    text = encode_name(value)
    if len(text) > room:
        mark = f"%%{hashlib.sha256(value.encode()).hexdigest()[:_MARK_DIGITS]}"
        text = text[: room - len(mark)] + mark
    return f"{label}={text}"


__all__ = ["NULL_FOLDER", "require_column", "split"]
