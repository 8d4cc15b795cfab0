"""Reading the logs back: exactly the committed rows, by way of the manifests.

Anything that reads Parquet can read the files too: only committed files match ``*.parquet``. In DuckDB::

    SELECT * FROM read_parquet('<path>/public/orders/*.parquet', union_by_name = true)

Such a reader may see the tables of one commit a moment apart, and for that moment miss a committed file; this one does
not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sinks.files.layout import OWN_FOLDER, decode_name
from sinks.files.manifests import DataFile, ManifestLog, live_files
from sinks.files.store import LocalStore
from wallaby.schema import TableName
from wallaby.transform.append import LOG_FIELDS
from wallaby.window import LaneId
from wallaby.wire.parquet_types import from_parquet

_READ_ATTEMPTS_MAX = 10


def read_log(path: str | Path, schema_name: str, table: str, *, flow: str | None = None) -> pa.Table:
    """All committed log rows of a table, of all lanes (of one flow, if given), in the log's own types.

    Columns of all files together by name; an older file lacks the newer columns (null) and may have narrower types. A
    table without any row has the log's own columns only. Rows are in commit order within a lane.
    """
    root = Path(path)
    wanted = TableName(schema_name, table)
    tables = [_read(root, file) for file in committed_files(root, flow=flow) if file.name == wanted]
    if not tables:
        return pa.schema(LOG_FIELDS).empty_table()
    return united(tables)


def committed_files(path: str | Path, *, flow: str | None = None) -> tuple[DataFile, ...]:
    """The committed files of all lanes, in commit order within a lane; those of reset tables are left out."""
    root = Path(path)
    return tuple(
        file
        for lane in lanes(root)
        if flow is None or lane.flow == flow
        for file in live_files(ManifestLog(LocalStore(root), lane).all())
    )


def lanes(path: str | Path) -> Iterator[LaneId]:
    """Every lane that ever wrote to the directory."""
    root = Path(path) / OWN_FOLDER / "lanes"
    for folder in sorted(root.glob("*/*/*")):
        if folder.name.isdigit():
            flow, destination = folder.parent.parent.name, folder.parent.name
            yield LaneId(decode_name(flow), decode_name(destination), int(folder.name))


def _read(root: Path, file: DataFile) -> pa.Table:
    # Between commit and rename the file has its staged name; the rename may fall between our two looks.
    for _ in range(_READ_ATTEMPTS_MAX):
        for name in (file.path, file.staged):
            try:
                return from_parquet(pq.ParquetFile(root / name).read())
            except FileNotFoundError:
                continue
    raise FileNotFoundError(f"a committed file is missing: {file.path}")


def united(tables: list[pa.Table]) -> pa.Table:
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


__all__ = ["committed_files", "lanes", "read_log", "united"]
