"""How a column travels: Arrow type and target column in, staged type, encoding and cast out.

A staged column has the type its Arrow column encodes to (``int4`` for int32 …), so that PostgreSQL's own assignment
rules bring it into the target: they widen integers and raise, rather than cut, where text is too long. Where Arrow
holds PostgreSQL's text (inet, ranges, unconstrained numeric, …) the staged column is ``text`` and is cast explicitly;
so are maps (hstore) and lists in lists, printed as PostgreSQL prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sinks.postgres.encode import Encoding
from wallaby.errors import Refused
from wallaby.type_map import TypeNames

TYPE_NAMES: Final = TypeNames(
    {
        "boolean": "bool",
        "smallint": "int2",
        "integer": "int4",
        "bigint": "int8",
        "real": "float4",
        "double precision": "float8",
        "numeric": "numeric",
        "text": "text",
        "character varying": "varchar",
        "bytea": "bytea",
        "uuid": "uuid",
        "json": "json",
        "jsonb": "jsonb",
        "date": "date",
        "time": "time",
        "timestamp": "timestamp",
        "timestamp with time zone": "timestamptz",
        "interval": "interval",
        "bool": "bool",
        "int2": "int2",
        "int4": "int4",
        "int8": "int8",
        "int": "int4",
        "float4": "float4",
        "float8": "float8",
        "varchar": "varchar",
        "timestamptz": "timestamptz",
        "timestamp without time zone": "timestamp",
    },
    decimal="numeric",
    array="{}[]",
    digits_max=76,
)
"""PostgreSQL's own names of the types a column can be mapped to, and then its short ones."""

TEXT_OID: Final = 25


@dataclass(frozen=True, slots=True)
class ElementType:
    """The element of a target column's array type."""

    oid: int
    name: str
    schema: str
    kind: str
    """``pg_type.typtype``: b, e, d …"""


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """One column of the target, from its catalog. ``name``, ``oid`` and ``kind`` of a domain are its base type's."""

    column: str
    oid: int
    name: str
    """``pg_type.typname``."""
    schema: str
    kind: str
    typmod: int
    sql: str
    """``format_type`` with the modifier."""
    cast: str
    """``format_type`` without it: the type to cast to."""
    not_null: bool
    has_default: bool
    is_generated: bool
    identity: str
    """``a`` always, ``d`` by default, empty."""
    element: ElementType | None = None
    is_domain: bool = False


@dataclass(frozen=True, slots=True)
class Transport:
    """How a column reaches its target. ``cast`` is the explicit cast from the staged column, empty for none."""

    staged: str
    encoding: Encoding
    cast: str = ""
    is_direct: bool = False
    """The staged type is the target's own: COPY may write the target itself."""


@dataclass(frozen=True, slots=True)
class _Native:
    name: str
    oid: int
    array_oid: int


_NATIVE: Final[dict[pa.DataType, _Native]] = {
    pa.bool_(): _Native("bool", 16, 1000),
    pa.int16(): _Native("int2", 21, 1005),
    pa.int32(): _Native("int4", 23, 1007),
    pa.int64(): _Native("int8", 20, 1016),
    pa.uint32(): _Native("oid", 26, 1028),
    pa.uint64(): _Native("pg_lsn", 3220, 3221),
    pa.float32(): _Native("float4", 700, 1021),
    pa.float64(): _Native("float8", 701, 1022),
    pa.binary(): _Native("bytea", 17, 1001),
    pa.large_binary(): _Native("bytea", 17, 1001),
    pa.binary(16): _Native("uuid", 2950, 2951),
    pa.date32(): _Native("date", 1082, 1182),
    pa.time64("us"): _Native("time", 1083, 1183),
    pa.timestamp("us"): _Native("timestamp", 1114, 1115),
    pa.timestamp("us", "UTC"): _Native("timestamptz", 1184, 1185),
    pa.month_day_nano_interval(): _Native("interval", 1186, 1187),
}
_NUMERIC: Final = _Native("numeric", 1700, 1231)
_TEXT: Final = _Native("text", 25, 1009)
_TEXT_LIKE: Final = {
    native.oid: native
    for native in (
        _TEXT,
        _Native("varchar", 1043, 1015),
        _Native("bpchar", 1042, 1014),
        _Native("name", 19, 1003),
        _Native("json", 114, 199),
        _Native("jsonb", 3802, 3807),
    )
}
"""Types whose binary form is their text (jsonb: after a version byte)."""
_JSONB_OID: Final = 3802


def transport(arrow: pa.DataType, target: TargetColumn) -> Transport:
    """How values of ``arrow`` reach ``target``; `Refused` for an Arrow type without a PostgreSQL encoding."""
    if isinstance(arrow, pa.ExtensionType):
        arrow = arrow.storage_type
    if is_printed(arrow):
        return _cast_text(target)
    if pa.types.is_list(arrow):
        return _list_transport(arrow, target)
    if pa.types.is_binary(arrow) and target.schema != "pg_catalog" and not target.is_domain:
        # PostGIS receives the EWKB it sends.
        return Transport(target.cast, Encoding(target.oid), is_direct=True)
    if _is_text(arrow):
        return _text_transport(target)
    native = _native(arrow)
    if native is None:
        raise Refused(f"values of Arrow type {arrow} cannot be written", column=target.column)
    if native.name == "pg_lsn" and target.oid != native.oid:
        native = _NATIVE[pa.int64()]
    is_direct = native.oid == target.oid and not target.is_domain
    return Transport(native.name, Encoding(native.oid), is_direct=is_direct)


def is_printed(arrow: pa.DataType) -> bool:
    """True for columns that travel as the text of their whole values: hstore, arrays of it and of vectors."""
    return bool(pa.types.is_map(arrow) or (pa.types.is_list(arrow) and pa.types.is_nested(arrow.value_type)))


_WIDER: Final = {
    "int2": ("int4", "int8", "numeric"),
    "int4": ("int8", "numeric"),
    "int8": ("numeric",),
    "oid": ("int8", "numeric"),
    "float4": ("float8",),
    "pg_lsn": ("int8",),
}


def is_widening(source: str, target: str) -> bool:
    """True when every value of the type ``source`` is exactly a value of ``target`` (both of ``pg_catalog``)."""
    return target in _WIDER.get(source, ()) or (source in _TEXTUAL and target in ("text", "varchar"))


_TEXTUAL: Final = ("text", "varchar", "name", "char")


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow))


def _native(arrow: pa.DataType) -> _Native | None:
    return _NUMERIC if pa.types.is_decimal(arrow) else _NATIVE.get(arrow)


def _text_transport(target: TargetColumn) -> Transport:
    like = _TEXT_LIKE.get(target.oid)
    if like is not None:
        return Transport(like.name, Encoding(like.oid, is_jsonb=like.oid == _JSONB_OID), is_direct=not target.is_domain)
    if target.kind == "e":
        return (
            Transport(target.cast, Encoding(target.oid), is_direct=True) if not target.is_domain else _cast_text(target)
        )
    return _cast_text(target)


def _cast_text(target: TargetColumn) -> Transport:
    return Transport("text", Encoding(TEXT_OID), cast=target.cast)


def _list_transport(arrow: pa.DataType, target: TargetColumn) -> Transport:
    element = target.element
    inner = arrow.value_type
    native = _TEXT_LIKE.get(element.oid, _TEXT) if element and _is_text(inner) else _native(inner)
    if _is_text(inner) and native is None:
        native = _TEXT
    if native is None or (native.oid == TEXT_OID and not _is_text(inner)):
        raise Refused(f"values of Arrow type {arrow} cannot be written", column=target.column)
    encoding = Encoding(native.oid, is_jsonb=native.oid == _JSONB_OID, array_oid=native.array_oid)
    is_direct = element is not None and element.oid == native.oid and not target.is_domain
    # A vector, which is no array: pgvector casts arrays to it.
    is_vector = element is None and not _is_text(inner)
    cast = target.cast if is_vector or (_is_text(inner) and not is_direct) else ""
    return Transport(f"{native.name}[]", encoding, cast=cast, is_direct=is_direct)
