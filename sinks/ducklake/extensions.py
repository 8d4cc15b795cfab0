"""DuckDB's extensions from installed packages: signed files, loaded from where they are, never from the network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import duckdb

from sinks.ducklake.literals import literal
from wallaby.errors import MissingExtra


def load(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Load extensions by name. `MissingExtra` for one whose package is missing or was made for another DuckDB."""
    for name in names:
        file = _file(name)
        try:
            connection.execute(f"LOAD {literal(str(file))}")
        except duckdb.Error:
            raise _missing(name, f"was made for another DuckDB than {duckdb.__version__}") from None


def _file(name: str) -> Path:
    found = find_spec(f"duckdb_extension_{name}")
    places = [] if found is None else list(found.submodule_search_locations or ())
    for place in places:
        for file in Path(place).rglob(f"{name}.duckdb_extension"):
            return file
    raise _missing(name, "is not installed")


def _missing(name: str, why: str) -> MissingExtra:
    package = f"duckdb-extension-{name.replace('_', '-')}"
    return MissingExtra(f"the package {package} {why}", advice='Run: pip install "wallaby[ducklake]"', package=package)


__all__ = ["load"]
