"""What becomes of every PostgreSQL type, as the page ``docs/types.md``: ``python -m sinks.type_table > docs/types.md``.

Everything is asked of the code that does it: the layouts, and the type mapping of each destination.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sinks.delta.types import delta_type, holds_as_text
from sinks.duckdb.types import FILE, LAKE, Storage, duckdb_type, held_values
from sinks.files.types import parquet_type
from sinks.iceberg.types import Numbers, iceberg_type, stored_type, type_name
from sinks.postgres.catalog import stand_in
from sinks.postgres.sink import CAPABILITIES as POSTGRES
from sinks.postgres.types import ElementType, TargetColumn, transport
from wallaby.errors import Refused
from wallaby.pgtypes.builtin import builtin_type, builtin_types
from wallaby.pgtypes.layout import Family, Layout, layout_of
from wallaby.schema import PgType, TypeKind

_HEAD: Final = """# Types

What becomes of each PostgreSQL type. This page is generated from the code (`python -m sinks.type_table`).

- *Wire*: how the value travels from PostgreSQL. One published column that can only travel as text makes the whole
  stream text; copies stay binary, with such columns as text.
- A type belongs to an extension when PostgreSQL says so, whatever schema it lives in; your own type of the same name is
  a type like any other. Geometries are EWKB bytes in Arrow, as PostGIS sends them; an hstore keeps its order; half
  vectors are widened. In a database of another encoding than UTF-8, hstore travels as text and stays text.
- *Outliers* are values the Arrow type cannot hold. They are never rounded or cut: they travel beside the column as
  PostgreSQL's exact text. Where a destination cannot hold them either, the flow's `unrepresentable` decides: `refuse`
  (the default), `null` or `text`.
- *exact*: the destination holds every value but the outliers. *text*: PostgreSQL's own text, byte for byte.
- PostgreSQL as a destination holds {outliers}. Where it lacks an extension, `wallaby check` warns and says
  what the columns become; arrays of vectors, which nothing stands in for, are refused until it is there.
- DuckDB and DuckLake hold the outliers named in their columns, Delta holds all of a column that is text there.
- Iceberg: *widened* types hold every value and more. `numeric` of more than 38 digits is PostgreSQL's own text.

| PostgreSQL | Arrow | wire | outliers | PostgreSQL | DuckDB | DuckLake | Delta | Parquet files | Iceberg |
|---|---|---|---|---|---|---|---|---|---|
"""

_INFINITE: Final = "`infinity`, `-infinity`"
_OUTLIERS: Final[dict[Family, str]] = {
    Family.DATE: _INFINITE,
    Family.TIME: "`24:00:00`",
    Family.TIMESTAMP: f"{_INFINITE}, after 294247-01-10",
    Family.TIMESTAMPTZ: f"{_INFINITE}, after 294247-01-10",
    Family.DECIMAL: "`NaN`",
    Family.INTERVAL: f"{_INFINITE}, more than 292 years of hours",
    Family.LIST: "several dimensions, other bounds, an element that is an outlier",
}
"""Families that are not listed have none."""
_EXTENSIONS: Final = (
    ("citext", "citext"),
    ("hstore", "hstore"),
    ("ltree", "ltree"),
    ("ltree", "lquery"),
    ("ltree", "ltxtquery"),
    ("vector", "vector"),
    ("vector", "halfvec"),
    ("vector", "sparsevec"),
    ("postgis", "geometry"),
    ("postgis", "geography"),
)
_DELTA_NAMES: Final = {
    pa.bool_(): "boolean",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp_ntz",
    pa.timestamp("us", "UTC"): "timestamp",
}
"""Delta's own names of its types; text and bytes are called as in Arrow."""
_TEXTUAL: Final = frozenset({Family.STRING, Family.CHAR, Family.JSONB})
"""Types that are text by themselves."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    type: PgType
    typmod: int = -1


def page() -> str:
    """The whole page."""
    held = "all outliers exactly" if POSTGRES.exact_outliers else "no outliers"
    return _HEAD.format(outliers=held) + "".join(f"| {' | '.join(_cells(row))} |\n" for row in _rows())


def _rows() -> Iterator[_Row]:
    usable = (one for one in builtin_types() if one.name != "gtsvector")  # of indexes only: it cannot be written
    found = sorted(usable, key=lambda one: layout_of(one).family is Family.OPAQUE)
    for one in found:
        if one.name == "numeric":
            for precision, scale in ((38, 2), (76, 2), (77, 2)):
                label = {38: "numeric(p,s), p ≤ 38", 76: "numeric(p,s), p ≤ 76", 77: "numeric(p,s), p > 76"}[precision]
                yield _Row(label, one, (precision << 16 | scale) + 4)
            yield _Row("numeric", one)
        else:
            yield _Row(f'"{one.name}"' if one.name == "char" else one.name, one)
    integer = builtin_type(23)
    assert integer is not None
    point = builtin_type(600)
    yield _Row("enums", PgType(100_000, "mood", "public", TypeKind.ENUM))
    for extension, name in _EXTENSIONS:
        yield _Row(f"{name} ({extension})", PgType(100_001, name, "public", extension=extension))
    yield _Row("domains", PgType(100_002, "positive", "public", TypeKind.DOMAIN, base=integer))
    yield _Row("arrays of a type with binary wire", PgType(1007, "_int4", kind=TypeKind.ARRAY, element=integer))
    yield _Row("arrays of any other type", PgType(1017, "_point", kind=TypeKind.ARRAY, element=point))
    yield _Row("composite types", PgType(100_003, "pair", "public", TypeKind.COMPOSITE))
    yield _Row("ranges and multiranges of your own", PgType(100_004, "floatrange", "public", TypeKind.RANGE))
    yield _Row("types of other extensions", PgType(100_005, "cube", "public", extension="cube"))


def _cells(row: _Row) -> list[str]:
    layout = layout_of(row.type, row.typmod)
    arrow = "as their base type" if row.name == "domains" else _arrow(row, layout)
    wire = "text" if layout.family is Family.OPAQUE else "binary"
    if row.name == "domains":
        wire = "as their base type"
    json = row.type.name in ("json", "jsonb")
    return [
        row.name,
        arrow,
        wire,
        _OUTLIERS.get(layout.family, ""),
        _postgres(row, layout),
        _duckdb(layout, json, FILE),
        _duckdb(layout, json, LAKE),
        _delta(layout),
        _files(layout, json),
        _iceberg(layout),
    ]


def _arrow(row: _Row, layout: Layout) -> str:
    if layout.family is Family.LIST:
        return "list of the element's"
    if layout.family in (Family.VECTOR, Family.HALF_VECTOR):
        return "list of float"
    if layout.family is Family.DECIMAL:
        return f"decimal{layout.arrow.bit_width}(p, s)"
    return str(layout.arrow)


def _holds_text_only(layout: Layout) -> bool:
    return bool(pa.types.is_string(layout.arrow)) and layout.family not in _TEXTUAL


def _postgres(row: _Row, layout: Layout) -> str:
    """A target of the same type, as the destination makes it."""
    one, element = row.type, row.type.element
    target = TargetColumn(
        column="v",
        oid=one.oid,
        name=one.name,
        schema=one.schema,
        kind="e" if one.kind is TypeKind.ENUM else "b",
        typmod=row.typmod,
        sql=one.name,
        cast=one.name,
        not_null=False,
        has_default=False,
        is_generated=False,
        identity="",
        element=None if element is None else ElementType(element.oid, element.name, element.schema, "b"),
    )
    try:
        transport(layout.arrow, target)
    except Refused:
        return "refused"
    return f"exact ({stand_in(one)} without the extension)" if one.extension else "exact"


def _duckdb(layout: Layout, json: bool, storage: Storage) -> str:
    name = duckdb_type(layout.arrow, is_json=json, storage=storage)
    if layout.family is Family.LIST:
        return "exact (a list)"
    if layout.family is Family.DECIMAL and name.startswith("DECIMAL"):
        name = "DECIMAL(p,s)"
    kind = (
        "text"
        if _holds_text_only(layout) or (name == "VARCHAR" and layout.family in (Family.DECIMAL, Family.INTERVAL))
        else "exact"
    )
    held = ", ".join(f"`{text}`" for text in held_values(layout.arrow))
    return f"{kind} ({name})" + (f", also {held}" if held else "")


def _delta(layout: Layout) -> str:
    if layout.family is Family.LIST:
        return "exact (a list)"
    if _holds_text_only(layout):
        return "text"
    stored = delta_type(layout.arrow)
    if holds_as_text(layout.arrow):
        return "text, also its outliers" if layout.family in _OUTLIERS else "text"
    if pa.types.is_decimal(stored) and layout.family is Family.DECIMAL:
        return "exact (decimal(p,s))"
    name = _DELTA_NAMES.get(stored, "map" if pa.types.is_map(stored) else str(stored))
    return f"exact ({name})" if layout.arrow == stored else f"widened ({name})"


def _files(layout: Layout, json: bool) -> str:
    if _holds_text_only(layout):
        return "text"
    stored = parquet_type(layout.arrow, json=json)
    return "exact" if stored == layout.arrow or not pa.types.is_struct(stored) else "exact (months, days, microseconds)"


def _iceberg(layout: Layout) -> str:
    stored = stored_type(layout.arrow)
    name = type_name(iceberg_type(stored, Numbers()))
    if layout.family is Family.LIST:
        return "exact (a list)"
    if layout.family is Family.DECIMAL and pa.types.is_decimal(stored):
        name = "decimal(p, s)"
    if _holds_text_only(layout) or (layout.family is Family.DECIMAL and pa.types.is_string(stored)):
        return f"text ({name})"
    if pa.types.is_struct(stored):
        return "exact (months, days, microseconds)"
    is_wider = pa.types.is_integer(stored) and stored != layout.arrow
    return f"{'widened' if is_wider else 'exact'} ({name})"


if __name__ == "__main__":
    print(page(), end="")
