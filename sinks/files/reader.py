"""Reading the logs back: exactly the committed rows, by way of the manifests.

Anything that reads the format can read the files too; of a directory it sees committed files only. In DuckDB::

    SELECT * FROM read_parquet('<path>/public/orders/*.parquet', union_by_name = true)

Such a reader may see the tables of one commit a moment apart, and for that moment miss a committed file; this one does
not. Of a bucket it may for a moment see files whose commit is under way, and after a crash until the lane's next start.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from sinks.files.directory import Directory
from sinks.files.layout import LANES_FOLDER, decode_name
from sinks.files.manifests import ManifestLog, live_files
from sinks.files.storage import DataFile, Storage
from wallaby.schema import TableName
from wallaby.transform.append import LOG_FIELDS
from wallaby.window import LaneId
from wallaby.wire import read

Place = str | Path | Storage
"""A directory, or what is behind the port."""


def read_log(path: Place, schema_name: str, table: str, *, flow: str | None = None) -> pa.Table:
    """All committed log rows of a table, of all lanes (of one flow, if given), in the log's own types.

    Columns of all files together by name; an older file lacks the newer columns (null) and may have narrower types. A
    table without any row has the log's own columns only. Rows are in commit order within a lane.
    """
    storage = _storage(path)
    wanted = TableName(schema_name, table)
    tables = [_read(storage, file) for file in committed_files(storage, flow=flow) if file.name == wanted]
    if not tables:
        return pa.schema(LOG_FIELDS).empty_table()
    return _united(tables)


def committed_files(path: Place, *, flow: str | None = None) -> tuple[DataFile, ...]:
    """The committed files of all lanes, in commit order within a lane; those of reset tables are left out."""
    storage = _storage(path)
    return tuple(
        file
        for lane in lanes(storage)
        if flow is None or lane.flow == flow
        for file in live_files(ManifestLog(storage, lane).all())
    )


def lanes(path: Place) -> Iterator[LaneId]:
    """Every lane that ever wrote there."""
    storage = _storage(path)
    for flow in sorted(storage.folders(LANES_FOLDER)):
        for destination in sorted(storage.folders(f"{LANES_FOLDER}/{flow}")):
            for index in sorted(storage.folders(f"{LANES_FOLDER}/{flow}/{destination}")):
                if index.isdigit():
                    yield LaneId(decode_name(flow), decode_name(destination), int(index))


def _storage(path: Place) -> Storage:
    return Directory(path) if isinstance(path, str | Path) else path


def _read(storage: Storage, file: DataFile) -> pa.Table:
    schema = None
    if file.arrow_schema:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(file.arrow_schema)))
    with storage.fetch(file) as content:
        return pa.Table.from_batches(read(content, file.format, schema=schema, sha256=file.sha256))


def _united(tables: list[pa.Table]) -> pa.Table:
    """Together by name in the newest file's order, types as wide as the widest; the newest type where none is wider."""
    newest = tables[-1].schema
    try:
        schema = pa.unify_schemas([newest, *(table.schema for table in tables)], promote_options="permissive")
    except pa.ArrowTypeError:
        known = {name: field for table in tables for name, field in zip(table.schema.names, table.schema, strict=True)}
        schema = pa.schema([known[name] for name in dict.fromkeys((*newest.names, *known))])
    return pa.concat_tables([_shaped(table, schema) for table in tables])


def _shaped(table: pa.Table, schema: pa.Schema) -> pa.Table:
    names = table.schema.names
    arrays = [
        table.column(names.index(field.name)).cast(field.type)
        if field.name in names
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


__all__ = ["committed_files", "lanes", "read_log"]
