"""Publications: which tables they send and how, made or extended when the flow asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from wallaby.errors import CheckFailed, NotFound
from wallaby.flow.tables import parse_table_pattern
from wallaby.postgres.connect import Connection
from wallaby.schema import TableName, quote_identifier


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
        tables=tuple(sorted(_sent(connection, name))),
    )


def ensure_publication(
    connection: Connection,
    name: str,
    *,
    tables: Sequence[str] = (),
    schemas: Sequence[str] = (),
    create: bool = True,
    sync: str | None = None,
    via_root: bool = True,
) -> PublicationFacts:
    """Create the publication if it is missing; with ``sync`` also bring an existing one in line with what is wanted.

    ``tables`` are patterns as `wallaby.flow.tables` reads them, ``schemas`` stand for all their present tables; with
    neither, a new publication is FOR ALL TABLES (needs a superuser). ``sync`` is ``add`` (only add what is missing) or
    ``sync`` (also drop what is not wanted). ``via_root`` applies to a new one only. Running it twice changes nothing.
    `CheckFailed` when it is missing and ``create`` is false, or when a wanted table does not exist. The connection must
    be in autocommit.
    """
    found = read_publication(connection, name)
    if found is None and not create:
        raise CheckFailed(
            "the publication does not exist",
            advice=f"Run on the source: {create_statement(name, None)}",
            publication=name,
        )
    if found is None or sync is not None:
        wanted = resolve_tables(connection, tables, schemas) if tables or schemas else None
        if found is None:
            _create(connection, name, wanted, via_root=via_root)
        elif wanted is not None and not found.all_tables:
            _bring_in_line(connection, name, wanted, is_dropping=sync == "sync")
    made = read_publication(connection, name)
    assert made is not None, f"publication {name} vanished"
    return made


def resolve_tables(connection: Connection, tables: Sequence[str], schemas: Sequence[str]) -> list[TableName]:
    """The present tables that patterns and schemas stand for, each once; `CheckFailed` names what does not exist."""
    patterns = [parse_table_pattern(text) for text in tables]
    whole = {*schemas, *(pattern.schema for pattern in patterns if pattern.name is None)}
    named = [TableName(pattern.schema, pattern.name) for pattern in patterns if pattern.name is not None]
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


def require_publication(connection: Connection, name: str) -> PublicationFacts:
    """The publication; `NotFound` when there is none of this name."""
    found = read_publication(connection, name)
    if found is None:
        raise NotFound(
            "the publication does not exist",
            advice="Start its flow, or create it; names are case-sensitive",
            publication=name,
        )
    return found


def add_tables(connection: Connection, name: str, tables: Sequence[str]) -> list[TableName]:
    """Publish what the patterns stand for; the tables that were not published before. Twice is once."""
    _require_list(connection, name)
    missing = _missing(connection, name, resolve_tables(connection, tables, ()))
    _alter(connection, name, "ADD", missing)
    return missing


def remove_tables(connection: Connection, name: str, tables: Sequence[str]) -> list[TableName]:
    """Publish what the patterns stand for no more; the tables that were published before. Twice is once.

    `CheckFailed` for a table that the publication sends without naming it: through its schema, or its root.
    """
    _require_list(connection, name)
    patterns = [parse_table_pattern(text) for text in tables]
    listed, sent = _listed(connection, name), _sent(connection, name)
    chosen = sorted(table for table in listed if any(pattern.matches(table) for pattern in patterns))
    hidden = [table for table in sent - listed if any(pattern.matches(table) for pattern in patterns)]
    if hidden:
        raise CheckFailed(
            f"published through their schema or their root: {', '.join(map(str, sorted(hidden)))}",
            advice="Remove the schema or the root instead",
            publication=name,
        )
    _alter(connection, name, "DROP", chosen)
    return chosen


def sync_tables(
    connection: Connection, name: str, tables: Sequence[str], schemas: Sequence[str], *, is_dropping: bool
) -> tuple[list[TableName], list[TableName]]:
    """Publish what patterns and schemas stand for, and with ``is_dropping`` nothing else; added and removed tables."""
    _require_list(connection, name)
    return _bring_in_line(connection, name, resolve_tables(connection, tables, schemas), is_dropping=is_dropping)


def unpublished_tables(connection: Connection, name: str, schemas: Sequence[str]) -> list[TableName]:
    """Tables of the schemas that the publication does not send."""
    require_publication(connection, name)
    return _missing(connection, name, resolve_tables(connection, (), schemas))


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


def _bring_in_line(
    connection: Connection, name: str, wanted: Sequence[TableName], *, is_dropping: bool
) -> tuple[list[TableName], list[TableName]]:
    missing = _missing(connection, name, wanted)
    surplus = sorted(_listed(connection, name) - set(wanted)) if is_dropping else []
    _alter(connection, name, "ADD", missing)
    _alter(connection, name, "DROP", surplus)
    return missing, surplus


def _missing(connection: Connection, name: str, wanted: Sequence[TableName]) -> list[TableName]:
    present = _listed(connection, name) | _sent(connection, name)
    return [table for table in wanted if table not in present]


def _alter(connection: Connection, name: str, verb: str, tables: Sequence[TableName]) -> None:
    if tables:
        connection.execute(f"ALTER PUBLICATION {quote_identifier(name)} {verb} TABLE {_list(tables)}".encode())


def _require_list(connection: Connection, name: str) -> None:
    """The publication exists and has a list that can be changed."""
    if require_publication(connection, name).all_tables:
        raise CheckFailed(
            "the publication is FOR ALL TABLES: it has no list of tables to change",
            advice="Create another one for the tables you want",
            publication=name,
        )


def _listed(connection: Connection, name: str) -> set[TableName]:
    """Tables the publication names itself."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication AS p"
        " JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid"
        " JOIN pg_catalog.pg_class AS c ON c.oid = r.prrelid"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE p.pubname = %s",
        [name],
    ).fetchall()
    return {TableName(schema, table) for schema, table in rows}


def _sent(connection: Connection, name: str) -> set[TableName]:
    """Tables it sends: also those published through their schema or their root."""
    rows = connection.execute(
        "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = %s ORDER BY 1, 2", [name]
    ).fetchall()
    return {TableName(schema, table) for schema, table in rows}


def _list(tables: Sequence[TableName]) -> str:
    return ", ".join(f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}" for table in tables)
