"""Reading a target back in the log's or mirror's columns: for verification and tests."""

from __future__ import annotations

import pyarrow as pa

from sinks.delta.config import DeltaOptions
from sinks.delta.ddl import target_table
from sinks.delta.errors import Doing, translated
from sinks.delta.rewrite import has_vectors, scan
from sinks.delta.store import Store, shape
from wallaby.errors import Refused
from wallaby.schema import TableSchema
from wallaby.transform.append import LOG_FIELDS, LOG_OUTLIER_TYPE, OUTLIERS
from wallaby.transform.history import version_fields


def read_mirror(options: DeltaOptions, schema: TableSchema) -> pa.Table:
    """The rows of the table's mirror in the source's columns, in Delta's types, in no particular order."""
    return _read(options, schema).select([column.name for column in schema.columns])


def read_log(options: DeltaOptions, schema: TableSchema) -> pa.Table:
    """The rows of the table's append log, the log's own columns in the types of `wallaby.transform.append`."""
    return log_types(_read(options, schema))


def read_history(options: DeltaOptions, schema: TableSchema) -> pa.Table:
    """The rows of the table's history, its own columns in the types of `wallaby.transform.history`."""
    rows = _read(options, schema)
    for field in version_fields(options.version_columns):
        rows = _cast(rows, field.name, field.type)
    return rows.select([*(column.name for column in schema.columns), *options.version_columns.names])


def log_types(rows: pa.Table) -> pa.Table:
    """A log read from Delta with its own columns in the log's types; the source's stay as they are."""
    for field in LOG_FIELDS:
        rows = _cast(rows, field.name, field.type)
    return _cast(rows, OUTLIERS, LOG_OUTLIER_TYPE) if OUTLIERS in rows.column_names else rows


def _cast(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.set_column(at, pa.field(name, kind), rows.column(at).cast(kind))


def _read(options: DeltaOptions, schema: TableSchema) -> pa.Table:
    store = Store(options)
    table = store.open(store.uri(target_table(schema.name, options)), table=schema.name)
    if table is None:
        raise Refused("there is no such table", advice="Look at path, schema and table", table=schema.name)
    if has_vectors(table):
        fields = shape(table).remove_metadata()
        return pa.Table.from_batches(scan(table, fields.names, name=schema.name), fields)
    with translated(Doing.WORK, table=schema.name):
        return table.to_pyarrow_table()


__all__ = ["log_types", "read_history", "read_log", "read_mirror"]
