"""What becomes of every PostgreSQL type, as pages of ``docs``: ``python -m sinks.type_table docs`` writes them.

Everything is asked of the code that does it: the layouts, and the type mapping of each destination.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sinks.delta.types import TYPE_NAMES as DELTA_NAMES
from sinks.delta.types import kept_as as delta
from sinks.duckdb.types import TYPE_NAMES as DUCKDB_NAMES
from sinks.duckdb.types import kept_as as duckdb
from sinks.ducklake.types import TYPE_NAMES as DUCKLAKE_NAMES
from sinks.ducklake.types import kept_as as ducklake
from sinks.files.types import TYPE_NAMES as FILES_NAMES
from sinks.files.types import kept_as as files
from sinks.iceberg.types import TYPE_NAMES as ICEBERG_NAMES
from sinks.iceberg.types import kept_as as iceberg
from sinks.postgres.catalog import kept_as as postgres
from sinks.postgres.types import TYPE_NAMES as POSTGRES_NAMES
from wallaby.kept_types import KeptAs, TypeRow, type_rows
from wallaby.pgtypes.layout import Family
from wallaby.type_map import TypeNames


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination's table: its title, its mapping, its names of types, and what to know of it."""

    title: str
    of: KeptAs
    names: TypeNames
    note: str


DESTINATIONS: Final = {
    "postgres": Destination(
        "PostgreSQL",
        postgres,
        POSTGRES_NAMES,
        "All outliers are held exactly. Where the target database lacks an extension, `wallaby check` warns and\n"
        "says what the columns become; arrays of vectors, which nothing stands in for, are refused until it is there.",
    ),
    "duckdb": Destination("DuckDB", duckdb, DUCKDB_NAMES, "Outliers named in the last column are held exactly."),
    "ducklake": Destination(
        "DuckLake", ducklake, DUCKLAKE_NAMES, "Outliers named in the last column are held exactly."
    ),
    "delta": Destination("Delta Lake", delta, DELTA_NAMES, "Outliers are held where the last column says so."),
    "iceberg": Destination("Iceberg", iceberg, ICEBERG_NAMES, "No outliers are held."),
    "files": Destination("Parquet files", files, FILES_NAMES, "No outliers are held. Objects in buckets are the same."),
}
_HEAD: Final = """# Types

What PostgreSQL's types are on the way, and what they become: in
{links}. `wallaby types DESTINATION` prints the same tables. These pages are generated from the code
(`python -m sinks.type_table docs`).

- **exact**: the destination holds the same values. **widened**: in a type that holds more. **lossy**: some would be
  altered; no type is kept so unless a flow says so and consents ([type mappings](flow-files.md#type-mappings)).
  **refused**: there is no way.
- *PostgreSQL's text* is byte for byte what PostgreSQL prints.
- *Wire*: how the value travels from PostgreSQL. One published column that can only travel as text makes the whole
  stream text; copies stay binary, with such columns as text.
- A type belongs to an extension when PostgreSQL says so, whatever schema it lives in; your own type of the same name is
  a type like any other. Geometries are EWKB bytes in Arrow, as PostGIS sends them; an hstore keeps its order; half
  vectors are widened. In a database of another encoding than UTF-8, hstore travels as text and stays text.
- *Outliers* are values the Arrow type cannot hold. They are never rounded or cut: they travel beside the column as
  PostgreSQL's exact text. Where a destination cannot hold them either, the flow's `unrepresentable` decides: `refuse`
  (the default), `null` or `text`.

| PostgreSQL | Arrow | wire | outliers |
|---|---|---|---|
"""
_PAGE: Final = """# Types in {title}

What [PostgreSQL's types](../types.md) become. Generated from the code; `wallaby types {kind}` prints it.

{note}

| PostgreSQL | {title} | values | how |
|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """Every page by its path under ``docs``."""
    links = ", ".join(f"[{one.title}](types/{kind}.md)" for kind, one in DESTINATIONS.items())
    found = {"types.md": _HEAD.format(links=links) + "".join(map(_source_line, type_rows()))}
    for kind, one in DESTINATIONS.items():
        head = _PAGE.format(title=one.title, kind=kind, note=one.note)
        found[f"types/{kind}.md"] = head + "".join(_line(row, one) for row in type_rows())
    return found


def _source_line(row: TypeRow) -> str:
    return f"| {row.name} | {_arrow(row)} | {row.wire} | {row.outliers} |\n"


def _arrow(row: TypeRow) -> str:
    layout = row.layout
    if layout.family is Family.LIST:
        return "list of the element's"
    if layout.family in (Family.VECTOR, Family.HALF_VECTOR):
        return "list of float"
    if layout.family is Family.DECIMAL:
        return f"decimal{layout.arrow.bit_width}(p, s)"
    return str(layout.arrow)


def _line(row: TypeRow, destination: Destination) -> str:
    kept = destination.of(row.type, row.typmod)
    return f"| {row.name} | {kept.target} | {kept.fidelity} | {kept.reason} |\n"


def write(folder: Path) -> None:
    """Write the pages below ``folder``."""
    for name, text in pages().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
