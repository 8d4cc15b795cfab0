"""Reading tables back in wallaby's own types, by way of pyiceberg: for verification and tests.

Anything that reads Iceberg can read the tables. In DuckDB::

    SELECT * FROM iceberg_scan('<metadata location>')
"""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.table import Table

from sinks.iceberg.types import from_stored
from wallaby.lsn import Lsn, Position
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableSchema
from wallaby.transform.append import append_schema
from wallaby.transform.history import history_schema
from wallaby.versions import VersionColumns
from wallaby.window import LETTERS


def mirror_rows(table: Table, schema: TableSchema, *, snapshot_id: int | None = None) -> pa.Table:
    """The rows of the table's mirror: the source's columns in their own types, in no particular order."""
    return rows_as(table.scan(snapshot_id=snapshot_id).to_arrow(), arrow_schema(schema))


def log_rows(table: Table, schema: TableSchema, *, keep_outliers: bool = False) -> pa.Table:
    """The rows of the table's append log as `wallaby.transform.append` has them."""
    return rows_as(table.scan().to_arrow(), append_schema(schema, keep_outliers=keep_outliers))


def history_rows(table: Table, schema: TableSchema, columns: VersionColumns) -> pa.Table:
    """The rows of the table's history as `wallaby.transform.history` has them."""
    return rows_as(table.scan().to_arrow(), history_schema(schema, columns))


def rows_as(rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Rows a reader of Iceberg gave, in the types they had at the source; columns by name, null where missing."""
    names = rows.schema.names
    return pa.Table.from_arrays(
        [
            from_stored(rows.column(names.index(field.name)), field.type)
            if field.name in names
            else pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
            for field in wanted
        ],
        schema=pa.schema([field.with_nullable(True) for field in wanted]),
    )


def snapshot_as_of(table: Table, lsn: Lsn) -> int | None:
    """The newest snapshot that holds nothing beyond ``lsn`` and everything wallaby wrote up to it; None without one.

    Snapshots others made in between, and replays of dead letters, count as the one before them.
    """
    found = None
    for snapshot in sorted(table.snapshots(), key=lambda one: one.sequence_number or 0):
        said = snapshot.summary.additional_properties if snapshot.summary else {}
        upto = said.get("wallaby.upto")
        if upto is None or said.get("wallaby.destination", "").endswith(LETTERS):
            found = snapshot.snapshot_id if found is not None else None
            continue
        position = Position.parse(upto)
        if position > Position(lsn) or (position.is_snapshot and Lsn.parse(said["wallaby.lsn"]) > lsn):
            break
        found = snapshot.snapshot_id
    return found


__all__ = ["history_rows", "log_rows", "mirror_rows", "rows_as", "snapshot_as_of"]
