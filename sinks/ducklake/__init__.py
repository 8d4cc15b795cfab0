"""DuckLake as a destination: Parquet files and a catalog in DuckDB, SQLite or PostgreSQL; whole transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.ducklake.config import CAPABILITIES, DuckLakeOptions, read_options
from wallaby.errors import MissingExtra
from wallaby.sink import Capabilities, Sink


class _Factory:
    """Describes without importing duckdb; imports it when a sink is made."""

    name = "ducklake"
    options_model = DuckLakeOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        read_options(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without ``duckdb``; its extensions are looked for when it connects."""
        read = read_options(options)
        try:
            from sinks.ducklake.sink import DuckLakeSink
        except ModuleNotFoundError as missing:
            raise MissingExtra(
                "a DuckLake destination needs the package duckdb",
                advice='Run: pip install "wallaby[ducklake]"',
                package=missing.name,
            ) from None
        return DuckLakeSink(read, destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
