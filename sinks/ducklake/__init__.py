"""DuckLake as a destination: Parquet files and a catalog in DuckDB, SQLite or PostgreSQL; whole transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.ducklake.config import CAPABILITIES, DuckLakeOptions, read_options
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[DuckLakeOptions]):
    """Describes without importing duckdb; imports it when a sink is made."""

    name = "ducklake"
    options_model = DuckLakeOptions
    capabilities = CAPABILITIES
    types = "sinks.ducklake.types"

    def read(self, options: Mapping[str, Any]) -> DuckLakeOptions:
        return read_options(options)

    def make(self, options: DuckLakeOptions, *, destination: str) -> Sink:
        from sinks.ducklake.sink import DuckLakeSink

        return DuckLakeSink(options, destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
