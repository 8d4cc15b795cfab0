"""DuckLake as a destination: Parquet files and a catalog in DuckDB, SQLite or PostgreSQL; whole transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sinks.ducklake.config import CAPABILITIES, DuckLakeOptions, read_options
from wallaby.errors import MissingExtra
from wallaby.sink import Capabilities, Sink
from wallaby.type_options import check_types, with_types

if TYPE_CHECKING:
    from wallaby.kept_types import Kept
    from wallaby.schema import PgType
    from wallaby.type_map import TypeNames


class _Factory:
    """Describes without importing duckdb; imports it when a sink is made."""

    name = "ducklake"
    options_model = DuckLakeOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        check_types(read_options(options), _type_names)
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
        return with_types(DuckLakeSink(read, destination=destination), read, _type_names)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type of PostgreSQL becomes there."""
        from sinks.ducklake.types import kept_as

        return kept_as(pg_type, typmod)


def _type_names() -> TypeNames:
    from sinks.ducklake.types import TYPE_NAMES

    return TYPE_NAMES


FACTORY = _Factory()

__all__ = ["FACTORY"]
