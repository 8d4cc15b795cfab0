"""Readers that know nothing of wallaby read the same log as `sinks.files.reader`."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.ipc
import pytest

from sinks.duckdb.reader import log_rows
from sinks.files import FACTORY
from sinks.files.reader import read_log
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.schema import TableSchema
from wallaby.testing.history import RandomHistory
from wallaby.transform.append import append_schema
from wallaby.transform.state import derive_state
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")


def written(folder: Path, file_format: str) -> RandomHistory:
    """A history in files of that format, several of each table."""
    history = RandomHistory(7, transactions=12)
    sink = FACTORY.create({"path": str(folder), "fsync": False, "format": file_format}, destination="copy")
    TestLane(sink, LANE).apply_all(history.windows(), commit_every=3)
    sink.close()
    return history


def folder_of(root: Path, schema: TableSchema) -> Path:
    return root / schema.name.schema / schema.name.name


def in_our_types(rows: pa.Table, schema: TableSchema) -> pa.Table:
    """Columns as a log has them, by name: what a file says of UUID and JSON taken off."""
    wanted = append_schema(schema)
    columns = [rows.column(name) for name in wanted.names]
    plain = [
        pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if isinstance(column.type, pa.BaseExtensionType)
        else column
        for column in columns
    ]
    return pa.table([column.cast(field.type) for column, field in zip(plain, wanted, strict=True)], names=wanted.names)


@pytest.mark.must_not_fail(25)
def test_duckdb_reads_the_same_parquet_files(tmp_path: Path) -> None:
    history = written(tmp_path, "parquet")
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA public")
        for schema in history.tables:
            files = f"{folder_of(tmp_path, schema)}/*.parquet"
            connection.execute(f"CREATE VIEW {schema.name} AS FROM read_parquet('{files}', union_by_name = true)")
            found = derive_state(schema, log_rows(connection, schema))
            assert canonical_hash(found) == canonical_hash(history.expected(schema)), schema.name


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("file_format", ["parquet", "arrow"])
def test_pyarrow_reads_the_same_files(file_format: str, tmp_path: Path) -> None:
    history = written(tmp_path, file_format)
    for schema in history.tables:
        folder = folder_of(tmp_path, schema)
        if file_format == "parquet":
            rows = pyarrow.dataset.dataset(folder).to_table()
        else:
            rows = pa.concat_tables(pa.ipc.open_stream(file).read_all() for file in sorted(folder.glob("*.arrows")))
        found = derive_state(schema, in_our_types(rows, schema))
        expected = history.expected(schema).select(range(len(schema.columns)))
        assert canonical_hash(found.select(range(len(schema.columns)))) == canonical_hash(expected), schema.name


def test_duckdb_reads_json_line_by_line(tmp_path: Path) -> None:
    history = written(tmp_path, "json")
    for schema in history.tables:
        ours = read_log(tmp_path, schema.name.schema, schema.name.name)
        found = duckdb.sql(f"SELECT __op, __ordinal FROM read_json('{folder_of(tmp_path, schema)}/*.jsonl.zst')")
        expected = zip(ours.column("__op").to_pylist(), ours.column("__ordinal").to_pylist(), strict=True)
        assert sorted(found.fetchall()) == sorted(expected), schema.name
