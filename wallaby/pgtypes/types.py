"""PostgreSQL columns and tables as Arrow fields and schemas."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from wallaby.pgtypes.builtin import builtin_type
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.schema import Column, PgType, TableSchema, TypeKind
from wallaby.window import OUTLIER_TYPE, UNCHANGED_TYPE

_MARKED: Final = frozenset({"json", "jsonb", "uuid"})
_MARKED_EXTENSIONS: Final = frozenset({"vector", "postgis"})
"""Types whose Arrow storage does not tell what they are, and extensions with such types: named in the field metadata
``wallaby.type``."""


def arrow_field(column: Column) -> pa.Field:
    """The Arrow field of a column: always nullable, because a cell that was not sent or cannot be held is null.

    Metadata: ``pg.oid``, ``pg.type``, ``pg.schema``, ``pg.typmod``, ``pg.attnum``, ``pg.nullable`` (``true`` or
    ``false``: what PostgreSQL enforces), and ``wallaby.type`` for json, jsonb, uuid and the types of pgvector and
    PostGIS, below domains and arrays too.
    """
    metadata = {
        b"pg.oid": str(column.type.oid).encode(),
        b"pg.type": column.type.name.encode(),
        b"pg.schema": column.type.schema.encode(),
        b"pg.typmod": str(column.typmod).encode(),
        b"pg.attnum": str(column.attnum).encode(),
        b"pg.nullable": b"true" if column.nullable else b"false",
    }
    resolved = _innermost(column.type)
    if resolved.extension in _MARKED_EXTENSIONS or (resolved.schema == "pg_catalog" and resolved.name in _MARKED):
        metadata[b"wallaby.type"] = resolved.name.encode()
    return pa.field(column.name, layout_of(column.type, column.typmod).arrow, metadata=metadata)


def arrow_schema(table: TableSchema) -> pa.Schema:
    """The Arrow schema of the table's rows: the children of ``after``."""
    return pa.schema([arrow_field(column) for column in table.columns])


def change_schema(table: TableSchema) -> pa.Schema:
    """The Arrow schema of the table's changes, as ``wallaby.window`` lays it out."""
    fields = [arrow_field(column) for column in table.columns]
    before = pa.field("before", pa.struct([fields[i] for i in table.key]))
    after = pa.field("after", pa.struct(fields))
    return pa.schema([*_PLACE_FIELDS, before, after, _OUTLIERS_FIELD])


_PLACE_FIELDS: Final = (
    pa.field("op", pa.uint8(), nullable=False),
    pa.field("commit_lsn", pa.uint64(), nullable=False),
    pa.field("ordinal", pa.uint64(), nullable=False),
    pa.field("xid", pa.uint32(), nullable=False),
    pa.field("committed_at", pa.timestamp("us", "UTC"), nullable=False),
    pa.field("unchanged", UNCHANGED_TYPE),
)
_OUTLIERS_FIELD: Final = pa.field("outliers", OUTLIER_TYPE)


def has_binary_kernel(column_type: PgType, typmod: int = -1) -> bool:
    """True when cells of this type may travel in binary; False when they must travel as text."""
    return layout_of(column_type, typmod).family is not Family.OPAQUE


def is_json(pg_type: PgType) -> bool:
    """True for json and jsonb, also below domains and arrays."""
    leaf = _innermost(pg_type)
    return leaf.schema == "pg_catalog" and leaf.name in ("json", "jsonb")


def _innermost(pg_type: PgType) -> PgType:
    """What is below domains and arrays."""
    while True:
        match pg_type:
            case PgType(kind=TypeKind.DOMAIN, base=PgType() as inner):
                pg_type = inner
            case PgType(kind=TypeKind.ARRAY, element=PgType() as inner):
                pg_type = inner
            case _:
                return pg_type


__all__ = ["arrow_field", "arrow_schema", "builtin_type", "change_schema", "has_binary_kernel", "is_json"]
