"""What a table's files look like: the log's columns in Parquet types. A new shape needs no change, only new files.

Readers put files of different shapes together by column name (`sinks.files.reader`; DuckDB: ``union_by_name = true``);
columns a file lacks are null there.
"""

from __future__ import annotations

import pyarrow as pa

from wallaby.schema import TableSchema
from wallaby.transform.append import append_schema
from wallaby.wire.parquet_types import parquet_schema


def file_schema(schema: TableSchema, *, keep_outliers: bool) -> pa.Schema:
    """The Parquet file's Arrow schema; `ConfigError` when a source column has a name of the log's own."""
    return parquet_schema(append_schema(schema, keep_outliers=keep_outliers))


__all__ = ["file_schema"]
