"""Which Arrow type holds a PostgreSQL type, and which family of gathers fills it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Final

import pyarrow as pa

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
    """Binary is a version byte, then the text."""
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
    OPAQUE = "opaque"
    """No binary gather: PostgreSQL's own text only."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The Arrow side of one column type. ``precision`` and ``scale`` are set for DECIMAL, ``element`` for LIST."""

    family: Family
    arrow: pa.DataType
    precision: int = 0
    scale: int = 0
    element: Layout | None = None


_DECIMAL_DIGITS_MAX: Final = 76
_NUMERIC_TYPMOD_HEADER: Final = 4

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
}
"""Types of ``pg_catalog`` with a fixed layout; ``numeric`` depends on its modifier."""


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
        case _:
            return OPAQUE


def _base_layout(pg_type: PgType, typmod: int) -> Layout:
    if pg_type.schema != "pg_catalog":
        return _STRING if pg_type.name == "citext" else OPAQUE
    if pg_type.name == "numeric":
        return _numeric_layout(typmod)
    return _BY_NAME.get(pg_type.name, OPAQUE)


def _array_layout(pg_type: PgType, typmod: int) -> Layout:
    if pg_type.element is None:
        return OPAQUE
    element = layout_of(pg_type.element, typmod)
    if element.family in (Family.OPAQUE, Family.LIST):
        return OPAQUE
    return Layout(Family.LIST, pa.list_(element.arrow), element=element)


def _numeric_layout(typmod: int) -> Layout:
    unbounded = Layout(Family.NUMERIC_TEXT, pa.string())
    if typmod < _NUMERIC_TYPMOD_HEADER:
        return unbounded
    modifier = typmod - _NUMERIC_TYPMOD_HEADER
    precision = (modifier >> 16) & 0xFFFF
    scale = ((modifier & 0x7FF) ^ 1024) - 1024
    # numeric(5,-2) and numeric(3,5) are legal in PostgreSQL; few Arrow consumers accept such decimals, so widen.
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    if precision > _DECIMAL_DIGITS_MAX:
        return unbounded
    arrow = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    return Layout(Family.DECIMAL, arrow, precision=precision, scale=scale)
