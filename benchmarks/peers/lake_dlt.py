"""dlt as its manual shows it: a resource of Arrow tables, appended or merged by key, into Delta, Iceberg or DuckDB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lake_steps import Task, task, timed


def main() -> None:
    """One task."""
    todo = task()
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": str(todo.target / "dlt"),
        "RUNTIME__LOG_LEVEL": "ERROR",
    }
    import dlt

    if todo.kind == "duckdb":
        destination: Any = dlt.destinations.duckdb(str(todo.target / "lake.duckdb"))
    else:
        destination = dlt.destinations.filesystem(f"file://{todo.target}")
    pipeline = dlt.pipeline(
        "bench", destination=destination, dataset_name="public", pipelines_dir=str(todo.target / "p")
    )
    count = pq.ParquetFile(todo.rows).metadata.num_rows
    if todo.task == "append":
        timed(count, lambda: _load(dlt, pipeline, todo, todo.rows, "append"))
        return
    _load(dlt, pipeline, todo, todo.rows, "append")
    for path in todo.changes:
        changed = pq.ParquetFile(path).metadata.num_rows
        timed(changed, lambda path=path: _load(dlt, pipeline, todo, path, "merge"))  # type: ignore[misc]


def _load(dlt: Any, pipeline: Any, todo: Task, path: Path, how: str) -> None:
    upsert = {"disposition": "merge", "strategy": "delete-insert" if todo.kind == "duckdb" else "upsert"}
    resource = dlt.resource(
        _tables(path),
        name="narrow",
        write_disposition="append" if how == "append" else upsert,
        primary_key="id",
        table_format=None if todo.kind == "duckdb" else todo.kind,
    )
    pipeline.run(resource, loader_file_format="parquet").raise_on_failed_jobs()


def _tables(path: Path) -> Iterator[pa.Table]:
    rows = pq.ParquetFile(path)
    for i in range(rows.num_row_groups):
        yield rows.read_row_group(i)


if __name__ == "__main__":
    main()
