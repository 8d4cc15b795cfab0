"""Facts about tables and types from the system catalog, joined with what the stream says.

The Relation message is history, the catalog is the present: between the two a table may have been altered, renamed or
dropped. The stream therefore decides names, types, modifiers and order; the catalog adds what the stream does not carry
(what a type *is*, nullability, attribute numbers, the primary key behind replica identity full), and only to columns
that still match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, LiteralString

import psycopg

from wallaby.pgoutput.relations import Relation, RelationColumn
from wallaby.postgres import catalog_queries as queries
from wallaby.postgres.connect import Connection, Dsn, connect
from wallaby.postgres.errors import translate
from wallaby.schema import FIRST_USER_OID, Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind

_KINDS: Final[Mapping[str, TypeKind]] = {
    "b": TypeKind.BASE,
    "c": TypeKind.COMPOSITE,
    "d": TypeKind.DOMAIN,
    "e": TypeKind.ENUM,
    "m": TypeKind.MULTIRANGE,
    "p": TypeKind.PSEUDO,
    "r": TypeKind.RANGE,
}
_PARTITIONED: Final = "p"
_LISTS_SINCE: Final = 15
_GENERATED_SINCE: Final = 18
"""Older servers never send generated columns, but some list them in pg_publication_tables (15)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A table as publications send it."""

    schema: TableSchema
    row_filter: str | None = None
    """SQL condition of the publication (several joined by OR); None when every row is sent."""
    is_partitioned: bool = False
    """A root sent under its own name: its rows live in the leaves."""


class Catalog:
    """One database's catalog. Connects at the first question, and again after a lost connection. One thread.

    Counts a table's ``version`` from 1, plus one whenever its fingerprint changes from one answer to the next.
    """

    def __init__(self, dsn: Dsn, *, application_name: str = "wallaby catalog") -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._connection: Connection | None = None
        self._builtin: dict[int, PgType] = {}
        self._seen: dict[int, TableSchema] = {}
        self._highest: dict[int, int] = {}
        """By table, the highest attribute number the stream has told of, or may have left out."""

    def resolve(self, relation: Relation) -> TableSchema:
        """The full shape of a table the stream announced; columns keep the stream's order."""
        types = self._types(column.type_oid for column in relation.columns)
        facts = self._columns([relation.oid]).get(relation.oid, {})
        identity = ReplicaIdentity(relation.identity)
        keys = _stream_keys(relation, identity, facts)
        columns = tuple(
            _stream_column(column, types[column.type_oid], facts.get(column.name), column.name in keys)
            for column in relation.columns
        )
        numbers = [column.attnum for column in columns if column.attnum]
        if numbers != sorted(numbers):
            # Columns are sent in the order of their numbers: names have since gone to other columns.
            columns = tuple(replace(column, attnum=0, nullable=True, missing=None) for column in columns)
        columns = self._with_news(relation.oid, columns, facts)
        name = TableName(relation.schema, relation.name)
        return self._versioned(TableSchema(oid=relation.oid, name=name, columns=columns, identity=identity))

    def published_tables(self, publications: Sequence[str]) -> list[TableSchema]:
        """Every table the publications send, with the columns they send, ordered by name."""
        return [table.schema for table in self.published(publications)]

    def tables(self, names: Sequence[TableName]) -> list[TableSchema]:
        """These tables with every column, as a publication of them would send them; those that exist, by name."""
        parameters = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
        rows = self._rows(queries.NAMED, parameters)
        return [table.schema for table in self._described({oid: _entry(*rest) for oid, *rest in rows})]

    def row_filters(self, publications: Sequence[str]) -> dict[TableName, str]:
        """The conditions of those published tables that have one."""
        found = self.published(publications)
        return {table.schema.name: table.row_filter for table in found if table.row_filter is not None}

    def published(self, publications: Sequence[str]) -> list[PublishedTable]:
        """As `published_tables`, with what a copy needs to know. Column lists of one table must agree, as for a
        subscriber; PostgreSQL itself refuses to stream otherwise."""
        return self._described(self._publication_entries(publications))

    def close(self) -> None:
        """Drop the connection; the next question connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _with_news(
        self, oid: int, columns: tuple[Column, ...], facts: Mapping[str, _ColumnFacts]
    ) -> tuple[Column, ...]:
        """``missing`` only for columns that may be new: one that was merely not published before has other values."""
        known = self._highest.get(oid, 0)
        is_listed = self._major() >= _LISTS_SINCE and self._rows(queries.LISTED, {"oid": oid}) == [(True,)]
        told = [fact.attnum for fact in facts.values()] if is_listed else [column.attnum for column in columns]
        self._highest[oid] = max([known, *told])
        return tuple(
            replace(column, missing=None) if is_listed or column.attnum <= known else column for column in columns
        )

    def _described(self, entries: Mapping[int, _Entry]) -> list[PublishedTable]:
        facts = self._columns(list(entries))
        may_generate = self._major() >= _GENERATED_SINCE
        published = {oid: _published_facts(facts.get(oid, {}), entry, may_generate) for oid, entry in entries.items()}
        types = self._types(fact.type_oid for columns in published.values() for fact in columns)
        return [
            PublishedTable(
                schema=self._versioned(_published_schema(oid, entries[oid], columns, types)),
                row_filter=entries[oid].row_filter,
                is_partitioned=entries[oid].kind == _PARTITIONED,
            )
            for oid, columns in published.items()
        ]

    def _versioned(self, schema: TableSchema) -> TableSchema:
        before = self._seen.get(schema.oid)
        if before is not None:
            changed = before.fingerprint != schema.fingerprint
            schema = replace(schema, version=before.version + changed)
        self._seen[schema.oid] = schema
        return schema

    def _types(self, oids: Iterable[int]) -> dict[int, PgType]:
        """The types and everything they are made of. Only built-in ones are kept: users alter theirs."""
        found = dict(self._builtin)
        rows: dict[int, Mapping[str, Any]] = {}
        missing = set(oids) - found.keys()
        wanted = missing
        while wanted:
            fresh = self._rows(queries.TYPES, {"oids": list(wanted)})
            rows.update(fresh)
            parts = {row[part] for _, row in fresh for part in ("element", "base") if row[part] is not None}
            wanted = parts - rows.keys() - found.keys()
        for oid in sorted(missing | rows.keys()):
            _build_type(oid, rows, found)
        self._builtin |= {oid: made for oid, made in found.items() if oid < FIRST_USER_OID}
        return found

    def _columns(self, oids: Sequence[int]) -> dict[int, dict[str, _ColumnFacts]]:
        found: dict[int, dict[str, _ColumnFacts]] = {}
        for table, *fields in self._rows(queries.COLUMNS, {"oids": list(oids)}):
            column = _ColumnFacts(*fields)
            found.setdefault(table, {})[column.name] = column
        return found

    def _publication_entries(self, publications: Sequence[str]) -> dict[int, _Entry]:
        query = queries.PUBLISHED_14 if self._major() < 15 else queries.PUBLISHED
        rows = self._rows(query, {"publications": list(publications)})
        return {oid: _entry(*rest) for oid, *rest in rows}

    def _rows(self, query: LiteralString, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        try:
            try:
                return self._session().execute(query, parameters).fetchall()
            except psycopg.OperationalError:
                # An idle connection may have died meanwhile; reading twice is harmless.
                self.close()
                return self._session().execute(query, parameters).fetchall()
        except psycopg.Error as error:
            raise translate(error, dsn=self._dsn, doing="read the catalog") from error

    def _major(self) -> int:
        return self._session().info.server_version // 10_000

    def _session(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, application_name=self._application_name)
        return self._connection


@dataclass(frozen=True, slots=True)
class _Entry:
    """One published table; ``columns`` is None when all that are neither dropped nor generated are sent."""

    name: TableName
    identity: str
    kind: str
    columns: list[str] | None
    row_filter: str | None


def _entry(schema: str, name: str, *rest: Any) -> _Entry:
    return _Entry(TableName(schema, name), *rest)


@dataclass(frozen=True, slots=True)
class _ColumnFacts:
    name: str
    attnum: int
    type_oid: int
    typmod: int
    not_null: bool
    generated: bool
    in_primary_key: bool
    """Of a primary key that identifies rows at any moment: not of a deferrable one, whose values may repeat."""
    in_index_identity: bool
    missing: str | None


def _stream_keys(relation: Relation, identity: ReplicaIdentity, facts: Mapping[str, _ColumnFacts]) -> set[str]:
    """Names of the key columns: those flagged, except that replica identity full flags them all."""
    if identity is ReplicaIdentity.FULL:
        return _full_keys([column.name for column in relation.columns], facts.values())
    return {column.name for column in relation.columns if column.is_identity}


def _full_keys(sent: Sequence[str], facts: Iterable[_ColumnFacts]) -> set[str]:
    """The primary key if all of it is sent, else every column."""
    primary = {fact.name for fact in facts if fact.in_primary_key}
    return primary if primary and primary <= set(sent) else set(sent)


def _stream_column(column: RelationColumn, made: PgType, fact: _ColumnFacts | None, is_key: bool) -> Column:
    if fact is None or (fact.type_oid, fact.typmod) != (column.type_oid, column.typmod):
        return Column(name=column.name, type=made, typmod=column.typmod, is_key=is_key)
    return Column(
        name=column.name,
        type=made,
        typmod=column.typmod,
        is_key=is_key,
        nullable=not fact.not_null,
        attnum=fact.attnum,
        generated=fact.generated,
        missing=fact.missing,
    )


def _published_facts(facts: Mapping[str, _ColumnFacts], entry: _Entry, may_generate: bool) -> list[_ColumnFacts]:
    """The columns that are sent, in the order they are sent: by attribute number."""
    ordered = sorted(facts.values(), key=lambda fact: fact.attnum)
    if entry.columns is None:
        return [fact for fact in ordered if not fact.generated]
    listed = set(entry.columns)
    return [fact for fact in ordered if fact.name in listed and (may_generate or not fact.generated)]


def _published_schema(
    oid: int, entry: _Entry, facts: Sequence[_ColumnFacts], types: Mapping[int, PgType]
) -> TableSchema:
    identity = ReplicaIdentity(entry.identity)
    match identity:
        case ReplicaIdentity.FULL:
            keys = _full_keys([fact.name for fact in facts], facts)
        case ReplicaIdentity.INDEX:
            keys = {fact.name for fact in facts if fact.in_index_identity}
        case ReplicaIdentity.DEFAULT:
            keys = {fact.name for fact in facts if fact.in_primary_key}
        case ReplicaIdentity.NOTHING:
            keys = set()
    columns = tuple(
        Column(
            name=fact.name,
            type=types[fact.type_oid],
            typmod=fact.typmod,
            is_key=fact.name in keys,
            nullable=not fact.not_null,
            attnum=fact.attnum,
            generated=fact.generated,
            missing=fact.missing,
        )
        for fact in facts
    )
    return TableSchema(oid=oid, name=entry.name, columns=columns, identity=identity)


def _build_type(oid: int, rows: Mapping[int, Mapping[str, Any]], made: dict[int, PgType]) -> PgType:
    """The type tree of ``oid``, built once. A type that is gone by now is known by its number only."""
    if oid in made:
        return made[oid]
    row = rows.get(oid)
    if row is None:
        made[oid] = PgType(oid=oid, name=f"dropped_{oid}", schema="")
        return made[oid]
    element, base = row["element"], row["base"]
    made[oid] = PgType(
        oid=oid,
        name=row["name"],
        schema=row["schema"],
        kind=TypeKind.ARRAY if element is not None else _KINDS.get(row["kind"], TypeKind.BASE),
        element=None if element is None else _build_type(element, rows, made),
        base=None if base is None else _build_type(base, rows, made),
        labels=tuple(row["labels"]),
        base_typmod=row["base_typmod"],
        extension=row["extension"] or "",
    )
    return made[oid]
