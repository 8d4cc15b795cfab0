"""DuckDB as the reader of every format, its extensions out of packages: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import duckdb_extension_avro
import duckdb_extension_delta
import duckdb_extension_iceberg


@contextmanager
def duckdb_reader(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that reads Iceberg, Delta and Parquet; ``folder`` is for its extensions."""
    config = {"extension_directory": str(folder), "autoinstall_known_extensions": "false"}
    with duckdb.connect(config=config) as connection:
        for package in (duckdb_extension_avro, duckdb_extension_iceberg, duckdb_extension_delta):
            [file] = Path(str(package.__file__)).parent.rglob("*.duckdb_extension")
            connection.execute(f"INSTALL '{file}'; LOAD {file.name.split('.')[0]}")
        connection.execute("SET unsafe_enable_version_guessing = true")
        yield connection


def scan(kind: str, target: Path, table: str) -> str | None:
    """What to write after FROM; None while there is no table yet."""
    match kind:
        case "iceberg":
            found = sorted(target.rglob(f"{table}/metadata/*.metadata.json"), key=lambda path: path.name)
            return f"iceberg_scan('{found[-1]}')" if found else None
        case "delta":
            logs = list(target.rglob(f"{table}/_delta_log/*.json"))
            return f"delta_scan('{logs[0].parent.parent}')" if logs else None
        case _:
            files = list(target.rglob(f"{table}/*.parquet"))
            return f"read_parquet('{files[0].parent}/*.parquet', union_by_name = true)" if files else None
