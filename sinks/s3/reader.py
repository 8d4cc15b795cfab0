"""Reading the log back from a bucket: exactly the committed rows, by way of the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq

from sinks.files.layout import OWN_FOLDER, decode_name
from sinks.files.manifests import DataFile, ManifestLog, live_files
from sinks.files.reader import united
from sinks.s3.bucket import ObjectStore, object_store
from sinks.s3.config import read_options
from sinks.s3.errors import translated
from wallaby.schema import TableName
from wallaby.transform.append import LOG_FIELDS
from wallaby.window import LaneId
from wallaby.wire.parquet_types import from_parquet


def read_log(options: Mapping[str, Any], schema_name: str, table: str, *, flow: str | None = None) -> pa.Table:
    """All committed log rows of a table, as `sinks.files.reader.read_log` gives them; ``options`` as in the flow."""
    store = ObjectStore(object_store(read_options(options)))
    wanted = TableName(schema_name, table)
    tables = [_read(store, file) for file in _committed(store, flow) if file.name == wanted]
    return united(tables) if tables else pa.schema(LOG_FIELDS).empty_table()


def committed_files(options: Mapping[str, Any], *, flow: str | None = None) -> tuple[DataFile, ...]:
    """The objects that count, in commit order within a lane."""
    return _committed(ObjectStore(object_store(read_options(options))), flow)


def _committed(store: ObjectStore, flow: str | None) -> tuple[DataFile, ...]:
    return tuple(
        file
        for lane in _lanes(store)
        if flow is None or lane.flow == flow
        for file in live_files(ManifestLog(store, lane).all())
    )


def _lanes(store: ObjectStore) -> Iterator[LaneId]:
    for flow in store.folders(f"{OWN_FOLDER}/lanes"):
        for destination in store.folders(f"{OWN_FOLDER}/lanes/{flow}"):
            for index in store.folders(f"{OWN_FOLDER}/lanes/{flow}/{destination}"):
                yield LaneId(decode_name(flow), decode_name(destination), int(index))


def _read(store: ObjectStore, file: DataFile) -> pa.Table:
    with translated(table=file.name):
        content = obstore.get(store.objects, file.path).bytes()
    return from_parquet(pq.ParquetFile(pa.BufferReader(pa.py_buffer(content))).read())


__all__ = ["committed_files", "read_log"]
