"""DuckDB as a destination: one database file, one writing process, exact types, whole transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sinks.duckdb.config import CAPABILITIES, DuckDBOptions, read_options
from wallaby.sink import Capabilities, Sink
from wallaby.type_options import check_types, with_types

if TYPE_CHECKING:
    from wallaby.kept_types import Kept
    from wallaby.schema import PgType
    from wallaby.type_map import TypeNames


class _Factory:
    """Describes without importing duckdb; imports it when a sink is made."""

    name = "duckdb"
    options_model = DuckDBOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        check_types(read_options(options), _type_names)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without the ``duckdb`` package."""
        from sinks.duckdb.sink import DuckDBSink

        read = read_options(options)
        return with_types(DuckDBSink(read, destination=destination), read, _type_names)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type of PostgreSQL becomes there."""
        from sinks.duckdb.types import kept_as

        return kept_as(pg_type, typmod)


def _type_names() -> TypeNames:
    from sinks.duckdb.types import TYPE_NAMES

    return TYPE_NAMES


FACTORY = _Factory()

__all__ = ["FACTORY"]
