"""Which Arrow type holds a PostgreSQL type, and which family of gathers fills it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Final

import pyarrow as pa

from wallaby.pgtypes.numeric import precision_and_scale
from wallaby.schema import PgType, TypeKind


class Family(Enum):
    """How cells of a type look in binary and in text; one pair of gathers each."""

    BOOL = "bool"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    OID = "oid"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    STRING = "string"
    """Binary and text are the same bytes."""
    CHAR = "char"
    """The one-byte type ``"char"``."""
    JSONB = "jsonb"
    """Binary is a version byte, then the text: jsonpath and ltree too."""
    BYTEA = "bytea"
    UUID = "uuid"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    DECIMAL = "decimal"
    """``numeric`` with a scale, as decimal128 or decimal256."""
    NUMERIC_TEXT = "numeric_text"
    """``numeric`` no Arrow decimal can hold, as PostgreSQL prints it."""
    INTERVAL = "interval"
    LIST = "list"
    MAP = "map"
    """hstore: text keys to texts that may be null."""
    VECTOR = "vector"
    """pgvector's single-precision vectors."""
    HALF_VECTOR = "half_vector"
    """pgvector's half-precision vectors, widened."""
    GEOMETRY = "geometry"
    """PostGIS: binary is EWKB, text its hexadecimal figures."""
    TRANSACTION = "transaction"
    """Unsigned 32 bits, as figures."""
    TRANSACTION8 = "transaction8"
    """Unsigned 64 bits, as figures."""
    PG_LSN = "pg_lsn"
    TID = "tid"
    MACADDR = "macaddr"
    MACADDR8 = "macaddr8"
    INET = "inet"
    BITS = "bits"
    TIMETZ = "timetz"
    TSVECTOR = "tsvector"
    RANGE = "range"
    """Of the element's values, as PostgreSQL prints it."""
    MULTIRANGE = "multirange"
    OPAQUE = "opaque"
    """No binary gather: PostgreSQL's own text only."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The Arrow side of one column type.

    ``precision`` and ``scale`` are set for DECIMAL; ``element`` for LIST, RANGE (its bounds), MULTIRANGE (its ranges).
    """

    family: Family
    arrow: pa.DataType
    precision: int = 0
    scale: int = 0
    element: Layout | None = None


_DECIMAL_DIGITS_MAX: Final = 76

_STRING: Final = Layout(Family.STRING, pa.string())
OPAQUE: Final = Layout(Family.OPAQUE, pa.string())

_BY_NAME: Final[dict[str, Layout]] = {
    "bool": Layout(Family.BOOL, pa.bool_()),
    "int2": Layout(Family.INT2, pa.int16()),
    "int4": Layout(Family.INT4, pa.int32()),
    "int8": Layout(Family.INT8, pa.int64()),
    "oid": Layout(Family.OID, pa.uint32()),
    "float4": Layout(Family.FLOAT4, pa.float32()),
    "float8": Layout(Family.FLOAT8, pa.float64()),
    "text": _STRING,
    "varchar": _STRING,
    "bpchar": _STRING,
    "name": _STRING,
    "json": _STRING,
    "char": Layout(Family.CHAR, pa.string()),
    "jsonb": Layout(Family.JSONB, pa.string()),
    "bytea": Layout(Family.BYTEA, pa.binary()),
    "uuid": Layout(Family.UUID, pa.binary(16)),
    "date": Layout(Family.DATE, pa.date32()),
    "time": Layout(Family.TIME, pa.time64("us")),
    "timestamp": Layout(Family.TIMESTAMP, pa.timestamp("us")),
    "timestamptz": Layout(Family.TIMESTAMPTZ, pa.timestamp("us", "UTC")),
    "interval": Layout(Family.INTERVAL, pa.month_day_nano_interval()),
    "refcursor": _STRING,
    "xml": _STRING,
    "jsonpath": Layout(Family.JSONB, pa.string()),
    "xid": Layout(Family.TRANSACTION, pa.string()),
    "cid": Layout(Family.TRANSACTION, pa.string()),
    "xid8": Layout(Family.TRANSACTION8, pa.string()),
    "pg_lsn": Layout(Family.PG_LSN, pa.string()),
    "tid": Layout(Family.TID, pa.string()),
    "macaddr": Layout(Family.MACADDR, pa.string()),
    "macaddr8": Layout(Family.MACADDR8, pa.string()),
    "inet": Layout(Family.INET, pa.string()),
    "cidr": Layout(Family.INET, pa.string()),
    "bit": Layout(Family.BITS, pa.string()),
    "varbit": Layout(Family.BITS, pa.string()),
    "timetz": Layout(Family.TIMETZ, pa.string()),
    "tsvector": Layout(Family.TSVECTOR, pa.string()),
}
"""Types of ``pg_catalog`` with a fixed layout; ``numeric`` depends on its modifier. What Arrow has no type for is held
as PostgreSQL prints it, also where it travels in binary."""

_RANGES: Final[dict[str, str]] = {
    "int4range": "int4",
    "int8range": "int8",
    "numrange": "numeric",
    "daterange": "date",
    "tsrange": "timestamp",
    "tstzrange": "timestamptz",
}
_MULTIRANGES: Final[dict[str, str]] = {
    "int4multirange": "int4range",
    "int8multirange": "int8range",
    "nummultirange": "numrange",
    "datemultirange": "daterange",
    "tsmultirange": "tsrange",
    "tstzmultirange": "tstzrange",
}
"""Those of ``pg_catalog``; the catalog's own word for a user's range would be needed for any other."""

_VERSIONED: Final = Layout(Family.JSONB, pa.string())
_GEOMETRY: Final = Layout(Family.GEOMETRY, pa.binary())
_BY_EXTENSION: Final[dict[tuple[str, str], Layout]] = {
    ("citext", "citext"): _STRING,
    ("hstore", "hstore"): Layout(Family.MAP, pa.map_(pa.string(), pa.string())),
    ("ltree", "ltree"): _VERSIONED,
    ("ltree", "lquery"): _VERSIONED,
    ("ltree", "ltxtquery"): _VERSIONED,
    ("vector", "vector"): Layout(Family.VECTOR, pa.list_(pa.float32())),
    ("vector", "halfvec"): Layout(Family.HALF_VECTOR, pa.list_(pa.float32())),
    ("postgis", "geometry"): _GEOMETRY,
    ("postgis", "geography"): _GEOMETRY,
}
"""(Extension, type): a user's own type of the same name is a type like any other."""


@cache
def layout_of(pg_type: PgType, typmod: int = -1) -> Layout:
    """The layout of a column of ``pg_type`` with the modifier ``typmod``. Domains count as their base type."""
    match pg_type.kind:
        case TypeKind.DOMAIN:
            if pg_type.base is None:
                return OPAQUE
            return layout_of(pg_type.base, pg_type.base_typmod)
        case TypeKind.ENUM:
            return _STRING
        case TypeKind.ARRAY:
            return _array_layout(pg_type, typmod)
        case TypeKind.BASE:
            return _base_layout(pg_type, typmod)
        case TypeKind.RANGE | TypeKind.MULTIRANGE if pg_type.schema == "pg_catalog":
            return _range_layout(pg_type.name)
        case _:
            return OPAQUE


def _range_layout(name: str) -> Layout:
    if name in _MULTIRANGES:
        return Layout(Family.MULTIRANGE, pa.string(), element=_range_layout(_MULTIRANGES[name]))
    bound = _RANGES.get(name)
    if bound is None:
        return OPAQUE
    element = _numeric_layout(-1) if bound == "numeric" else _BY_NAME[bound]
    return Layout(Family.RANGE, pa.string(), element=element)


def _base_layout(pg_type: PgType, typmod: int) -> Layout:
    if pg_type.extension:
        return _BY_EXTENSION.get((pg_type.extension, pg_type.name), OPAQUE)
    if pg_type.schema != "pg_catalog":
        return OPAQUE
    if pg_type.name == "numeric":
        return _numeric_layout(typmod)
    return _BY_NAME.get(pg_type.name, OPAQUE)


def _array_layout(pg_type: PgType, typmod: int) -> Layout:
    if pg_type.element is None:
        return OPAQUE
    element = layout_of(pg_type.element, typmod)
    # Arrays of geometry have colons between their elements.
    if element.family in (Family.OPAQUE, Family.LIST, Family.GEOMETRY):
        return OPAQUE
    return Layout(Family.LIST, pa.list_(element.arrow), element=element)


def _numeric_layout(typmod: int) -> Layout:
    unbounded = Layout(Family.NUMERIC_TEXT, pa.string())
    declared = precision_and_scale(typmod)
    if declared is None:
        return unbounded
    precision, scale = declared
    # numeric(5,-2) and numeric(3,5) are legal in PostgreSQL; few Arrow consumers accept such decimals, so widen.
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    # None at all is what no server gives, but a damaged message may.
    if not 0 < precision <= _DECIMAL_DIGITS_MAX:
        return unbounded
    arrow = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    return Layout(Family.DECIMAL, arrow, precision=precision, scale=scale)
