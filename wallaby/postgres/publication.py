"""Publications: which tables they send and how, made or extended when the flow asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from wallaby.errors import CheckFailed, ConfigError
from wallaby.postgres.connect import Connection, session
from wallaby.schema import TableName, quote_identifier

EVERY = "*"
"""As a table name: every table of the schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationFacts:
    """A publication as the catalog has it. ``tables`` are those it sends (roots or leaves, as it sends them)."""

    name: str
    all_tables: bool
    insert: bool
    update: bool
    delete: bool
    truncate: bool
    via_root: bool
    owner: str
    tables: tuple[TableName, ...]


def read_publication(connection: Connection, name: str) -> PublicationFacts | None:
    """The publication of this name, or None."""
    row = connection.execute(
        "SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, pubowner::regrole::text"
        " FROM pg_catalog.pg_publication WHERE pubname = %s",
        [name],
    ).fetchone()
    if row is None:
        return None
    sent = connection.execute(
        "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = %s ORDER BY 1, 2", [name]
    ).fetchall()
    every, insert, update, delete, truncate, via_root, owner = row
    return PublicationFacts(
        name=name,
        all_tables=every,
        insert=insert,
        update=update,
        delete=delete,
        truncate=truncate,
        via_root=via_root,
        owner=owner,
        tables=tuple(TableName(schema, table) for schema, table in sent),
    )


def ensure_publication(
    dsn: str,
    name: str,
    *,
    tables: Sequence[str] = (),
    schemas: Sequence[str] = (),
    via_root: bool = True,
) -> PublicationFacts:
    """Create the publication if it is missing, else add the wanted tables it lacks; nothing is ever removed from it.

    ``tables`` are ``schema.table``, ``table`` (in ``public``) or ``schema.*``, names as stored, double-quoted where
    they contain dots. ``schemas`` stand for all their present tables. With neither, it is made FOR ALL TABLES (needs a
    superuser). ``via_root`` applies to a new one only. Running it twice changes nothing.
    """
    with session(dsn, application_name="wallaby publication", doing="prepare the publication") as connection:
        found = read_publication(connection, name)
        wanted = resolve_tables(connection, tables, schemas) if tables or schemas else None
        if found is None:
            _create(connection, name, wanted, via_root=via_root)
        elif wanted is not None and not found.all_tables:
            missing = [table for table in wanted if table not in _members(connection, name)]
            if missing:
                connection.execute(f"ALTER PUBLICATION {quote_identifier(name)} ADD TABLE {_list(missing)}".encode())
        made = read_publication(connection, name)
        assert made is not None, f"publication {name} vanished"
        return made


def parse_table_pattern(text: str, *, field: str = "publication_tables") -> TableName:
    """``schema.table``, ``table``, ``schema.*``; a double-quoted part may hold any character. Else `ConfigError`."""
    parts: list[str] = []
    rest = text.strip()
    while rest or not parts:
        part, rest = _split_part(rest)
        if not part:
            raise ConfigError(
                "not a table name", advice='Write schema.table, schema.* or "Sche.ma"."Table".', field=field
            )
        parts.append(part)
    match parts:
        case [name]:
            return TableName("public", name)
        case [schema, name] if schema != EVERY:
            return TableName(schema, name)
        case _:
            raise ConfigError("a table name has one or two parts", advice="Quote parts with dots.", field=field)


def resolve_tables(connection: Connection, tables: Sequence[str], schemas: Sequence[str]) -> list[TableName]:
    """The present tables that patterns and schemas stand for, each once; `CheckFailed` names what does not exist."""
    patterns = [parse_table_pattern(text) for text in tables]
    whole = {*schemas, *(pattern.schema for pattern in patterns if pattern.name == EVERY)}
    named = [pattern for pattern in patterns if pattern.name != EVERY]
    rows = connection.execute(
        "SELECT n.nspname, c.relname, c.relispartition FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'"
        " AND (n.nspname = ANY (%s) OR (n.nspname, c.relname) IN"
        "      (SELECT s, t FROM unnest(%s::text[], %s::text[]) AS named (s, t)))"
        " ORDER BY 1, 2",
        [list(whole), [table.schema for table in named], [table.name for table in named]],
    ).fetchall()
    found = {TableName(schema, name): is_leaf for schema, name, is_leaf in rows}
    missing = [str(table) for table in named if table not in found]
    if missing:
        raise CheckFailed(
            f"tables to publish do not exist: {', '.join(missing)}",
            advice="Create them, or correct publication_tables (names are case-sensitive).",
        )
    # A partition comes with its root; listing it as well would only pin it.
    return [table for table, is_leaf in found.items() if table in named or not is_leaf]


def create_statement(name: str, tables: Sequence[TableName] | None, *, via_root: bool = True) -> str:
    """The CREATE PUBLICATION to run; ``tables`` None means all of them."""
    what = "FOR ALL TABLES" if tables is None else f"FOR TABLE {_list(tables)}" if tables else ""
    option = " WITH (publish_via_partition_root = true)" if via_root else ""
    return f"CREATE PUBLICATION {quote_identifier(name)} {what}".rstrip() + option


def _create(connection: Connection, name: str, tables: Sequence[TableName] | None, *, via_root: bool) -> None:
    try:
        connection.execute(create_statement(name, tables, via_root=via_root).encode())
    except psycopg.errors.DuplicateObject:
        # Somebody else made it a moment ago; what it lacks is added at the next start.
        return


def _members(connection: Connection, name: str) -> set[TableName]:
    """Tables the publication lists itself or through their schema, roots included."""
    listed = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication AS p"
        " JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid"
        " JOIN pg_catalog.pg_class AS c ON c.oid = r.prrelid"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE p.pubname = %s"
        " UNION SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = %s",
        [name, name],
    ).fetchall()
    return {TableName(schema, table) for schema, table in listed}


def _list(tables: Sequence[TableName]) -> str:
    return ", ".join(f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}" for table in tables)


def _split_part(text: str) -> tuple[str, str]:
    """The first part of a dotted name, unquoted, and what follows its dot. An empty part means it is malformed."""
    if not text.startswith('"'):
        part, dot, rest = text.partition(".")
        is_wrong = '"' in part or (dot and not rest)
        return ("" if is_wrong else part), rest
    end = text[1:].replace('""', "xx").find('"') + 1
    part, rest = text[1:end].replace('""', '"'), text[end + 1 :]
    if end == 0 or (rest and (not rest.startswith(".") or len(rest) == 1)):
        return "", rest
    return part, rest[1:]
