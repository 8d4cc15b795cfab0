"""DuckDB as a destination: one database file, one writing process, exact types, whole transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.duckdb.config import CAPABILITIES, DuckDBOptions, read_options
from wallaby.sink import Capabilities, Sink


class _Factory:
    """Describes without importing duckdb; imports it when a sink is made."""

    name = "duckdb"
    options_model = DuckDBOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        read_options(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without the ``duckdb`` package."""
        from sinks.duckdb.sink import DuckDBSink

        return DuckDBSink(read_options(options), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
