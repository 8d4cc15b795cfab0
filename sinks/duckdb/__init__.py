"""DuckDB as a destination: one database file, one writing process, exact types, whole transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.duckdb.config import CAPABILITIES, DuckDBOptions, read_options
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[DuckDBOptions]):
    """Describes without importing duckdb; imports it when a sink is made."""

    name = "duckdb"
    options_model = DuckDBOptions
    capabilities = CAPABILITIES
    types = "sinks.duckdb.types"

    def read(self, options: Mapping[str, Any]) -> DuckDBOptions:
        return read_options(options)

    def make(self, options: DuckDBOptions, *, destination: str) -> Sink:
        from sinks.duckdb.sink import DuckDBSink

        return DuckDBSink(options, destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
