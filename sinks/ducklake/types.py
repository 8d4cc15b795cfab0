"""What PostgreSQL's types become in a lake, and the names they can be mapped to: DuckDB's, but for two it lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sinks.duckdb import types as duckdb
from wallaby.kept_types import Kept
from wallaby.schema import PgType

_MISSING: Final = ("interval", "json")
TYPE_NAMES: Final = replace(
    duckdb.TYPE_NAMES, names={name: to for name, to in duckdb.TYPE_NAMES.names.items() if name not in _MISSING}
)


def kept_as(pg_type: PgType, typmod: int) -> Kept:
    """See `wallaby.kept_types`."""
    return duckdb.kept_as(pg_type, typmod, storage=duckdb.LAKE)


__all__ = ["TYPE_NAMES", "kept_as"]
