"""Tables as the source has them: names, columns, types and replica identity, one immutable value per schema version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FIRST_USER_OID: Final = 16384
"""Object ids from here on belong to users and differ between databases (``FirstNormalObjectId``)."""


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A schema-qualified table name, exactly as PostgreSQL stores it (unquoted, case preserved)."""

    schema: str
    name: str

    def __str__(self) -> str:
        """For people and messages: ``schema.name``, quoted only where ambiguous."""
        return ".".join(_display(part) for part in (self.schema, self.name))


def _display(part: str) -> str:
    plain = part.replace("_", "a").isalnum() and part == part.lower() and part.isascii()
    return part if plain else quote_identifier(part)


def quote_identifier(name: str) -> str:
    """An SQL identifier, always quoted, double quotes doubled. ValueError for a NUL byte, which no SQL can carry."""
    if "\0" in name:
        raise ValueError("an identifier cannot contain a NUL byte")
    return '"' + name.replace('"', '""') + '"'


class TypeKind(StrEnum):
    """``pg_type.typtype`` and ``typcategory`` folded to what decoding needs."""

    BASE = "base"
    ARRAY = "array"
    ENUM = "enum"
    DOMAIN = "domain"
    COMPOSITE = "composite"
    RANGE = "range"
    MULTIRANGE = "multirange"
    PSEUDO = "pseudo"


@dataclass(frozen=True, slots=True)
class PgType:
    """A PostgreSQL type. ``element`` is set for arrays, ``base`` for domains (the type they resolve to in one step)."""

    oid: int
    name: str
    """``pg_type.typname``: ``int4``, ``_text``, ``mood`` …"""
    schema: str = "pg_catalog"
    kind: TypeKind = TypeKind.BASE
    element: PgType | None = None
    base: PgType | None = None
    labels: tuple[str, ...] = ()
    """Enum labels in sort order; empty for other kinds."""
    base_typmod: int = -1
    """The type modifier a domain gives its base type."""
    extension: str = ""
    """The extension the type belongs to and whose binary form is known to be sent; empty for any other type."""


@dataclass(frozen=True, slots=True)
class Column:
    """One published column, in the order pgoutput sends it."""

    name: str
    type: PgType
    typmod: int = -1
    """``pg_attribute.atttypmod``; -1 when the type has no modifier."""
    is_key: bool = False
    """Part of the replica identity."""
    nullable: bool = True
    attnum: int = 0
    """``pg_attribute.attnum``; 0 where unknown."""
    generated: bool = False
    missing: str | None = None
    """PostgreSQL's text of what rows older than the column hold in it: a constant default of ADD COLUMN. None: null."""


class ReplicaIdentity(StrEnum):
    """``pg_class.relreplident``: which old values UPDATE and DELETE carry."""

    DEFAULT = "d"
    """The primary key's columns."""
    FULL = "f"
    """Every column."""
    INDEX = "i"
    """The columns of a chosen unique index."""
    NOTHING = "n"
    """None: PostgreSQL refuses UPDATE and DELETE on a published table."""


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One version of one source table.

    ``version`` starts at 1 and grows by one per change seen by this process; ``fingerprint`` is equal for equal shapes
    across processes and restarts.
    """

    oid: int
    name: TableName
    columns: tuple[Column, ...]
    identity: ReplicaIdentity = ReplicaIdentity.DEFAULT
    version: int = 1

    @property
    def key(self) -> tuple[int, ...]:
        """Indexes into ``columns`` of the key, in column order; empty when there is none (insert only)."""
        return tuple(i for i, column in enumerate(self.columns) if column.is_key)

    @property
    def has_key(self) -> bool:
        """True when rows are identified by some columns: false for replica identity full without a primary key too."""
        return bool(self.key) and not self.is_keyless_full

    @property
    def is_keyless_full(self) -> bool:
        """Replica identity full: pgoutput flags every column as key, equal rows may repeat."""
        return self.identity is ReplicaIdentity.FULL and len(self.key) == len(self.columns)

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Comparable shape: names, types, modifiers, keys, order. Versions and OIDs of the table do not count."""
        return (
            self.name,
            self.identity,
            tuple((c.name, c.type.oid, c.typmod, c.is_key) for c in self.columns),
        )


@dataclass(frozen=True, slots=True)
class KnownNames:
    """How a table and its columns were called when the source last told of it."""

    oid: int
    server: str
    """System identifier and database: elsewhere the same oid is another table."""
    name: TableName
    columns: tuple[tuple[str, int], ...]
    """Names and attribute numbers (0 where unknown), those that are gone first: a number is never given again."""
    is_told: bool = True
    """By copy or stream. What only the catalog has shown may be newer than what the stream tells next."""

    @classmethod
    def of(cls, schema: TableSchema, *, server: str, before: KnownNames | None = None) -> KnownNames:
        """Those of ``schema``; numbers it does not tell, and columns it no longer has, are known from ``before``."""
        known = () if before is None or not before.is_told else before.columns
        taken = {column.attnum for column in schema.columns}
        number_of = {name: number for name, number in known if number not in taken}
        present = tuple((column.name, column.attnum or number_of.get(column.name, 0)) for column in schema.columns)
        numbers = {number for _, number in present}
        gone = tuple((name, number) for name, number in known if number and number not in numbers)
        return cls(schema.oid, server, schema.name, (*gone, *present))
