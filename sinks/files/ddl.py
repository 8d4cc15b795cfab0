"""Which tables can be logged as asked. A new shape needs no change, only new files.

Readers put files of different shapes together by column name (`sinks.files.reader`; DuckDB: ``union_by_name = true``);
columns a file lacks are null there.
"""

from __future__ import annotations

from sinks.files.config import LogOptions
from sinks.files.split import require_column
from wallaby.schema import TableSchema
from wallaby.transform.append import append_schema


def require_log(schema: TableSchema, options: LogOptions) -> None:
    """`ConfigError` when a source column has a name of the log's own, or the log no column to partition by."""
    log = append_schema(schema, keep_outliers=options.keeps_outliers)
    for partition in options.partitions:
        require_column(partition, log, schema.name)


__all__ = ["require_log"]
