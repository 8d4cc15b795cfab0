"""The tables of streams, and making them. The names are those of the Go WALlaby's where it has them."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from wallaby.errors import CheckFailed
from wallaby.schema import quote_identifier

VERSION: Final = 1
"""Of the tables' shape, stored beside them."""
CHANNEL: Final = "wallaby_streams"
"""Notifications: the payload is the name of the stream in which something can be pulled."""
_LOCK: Final = 0x77616C7374726D31
"""``walstrm1`` in ASCII: key of the advisory lock around making the tables."""


class Tables:
    """Quoted, qualified names in one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        quoted = quote_identifier(schema)
        self.quoted_schema = quoted
        self.version = f"{quoted}.stream_version"
        self.streams = f"{quoted}.streams"
        self.sources = f"{quoted}.stream_tables"
        self.events = f"{quoted}.stream_events"
        self.groups = f"{quoted}.stream_groups"
        self.deliveries = f"{quoted}.stream_deliveries"
        self.claims = f"{quoted}.stream_claims"


def create(connection: psycopg.Connection[Any], tables: Tables) -> None:
    """The tables exist at this version. Safe when several processes start at once; no lock when they are there.

    `CheckFailed` when a newer wallaby made them.
    """
    if _version(connection, tables) == VERSION:
        return
    with connection.transaction():
        connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (_LOCK,))
        found = _version(connection, tables)
        if found is not None:
            if found > VERSION:
                raise CheckFailed(
                    f"the streams have version {found}, this wallaby knows {VERSION}", advice="Upgrade wallaby"
                )
            return
        for statement in _statements(tables):
            connection.execute(statement)


def exists(connection: psycopg.Connection[Any], tables: Tables) -> bool:
    """Whether the tables were made."""
    return _version(connection, tables) is not None


def _version(connection: psycopg.Connection[Any], tables: Tables) -> int | None:
    there = connection.execute("SELECT pg_catalog.to_regclass(%s) IS NOT NULL", (tables.version,)).fetchone()
    if there != (True,):
        return None
    row = connection.execute(f"SELECT max(version) FROM {tables.version}").fetchone()
    return None if row is None else row[0]


def _statements(tables: Tables) -> tuple[str, ...]:
    name = 'text COLLATE "C" NOT NULL'
    busy = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02"
    out = "('available', 'claimed')"
    return (
        f"CREATE SCHEMA IF NOT EXISTS {tables.quoted_schema}",
        f"""CREATE TABLE {tables.streams} (
            stream {name} PRIMARY KEY, last_id bigint NOT NULL DEFAULT 0, total_bytes bigint NOT NULL DEFAULT 0,
            retention_age interval, retention_bytes bigint, removes_unacked boolean NOT NULL DEFAULT false,
            retained_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            created_at timestamptz NOT NULL DEFAULT clock_timestamp()
            ) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000)""",
        f"""CREATE TABLE {tables.sources} (
            stream {name}, namespace {name}, table_name {name}, PRIMARY KEY (stream, namespace, table_name))""",
        # total_bytes: payload bytes of the stream up to and with this message.
        f"""CREATE TABLE {tables.events} (
            id bigint NOT NULL, stream {name}, namespace text NOT NULL, table_name text NOT NULL, lsn pg_lsn NOT NULL,
            wire_format text NOT NULL, payload bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(), operation text NOT NULL, key text,
            total_bytes bigint NOT NULL, PRIMARY KEY (stream, id)) WITH ({busy})""",
        # Both grow with the place in the table: a few pages of summaries instead of an entry per message.
        f"CREATE INDEX stream_events_places ON {tables.events} USING brin (lsn, created_at)",
        f"""CREATE TABLE {tables.groups} (
            stream {name}, consumer_group {name}, cursor_id bigint NOT NULL DEFAULT 0,
            is_ordered boolean NOT NULL DEFAULT false, max_attempts integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (stream, consumer_group)
            ) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000)""",
        f"""CREATE TABLE {tables.deliveries} (
            event_id bigint NOT NULL, consumer_group {name}, stream {name},
            status text NOT NULL CHECK (status IN ('available', 'claimed', 'blocked', 'acked', 'dead')),
            visible_at timestamptz NOT NULL, attempts integer NOT NULL, consumer_id text NOT NULL DEFAULT '',
            claim bigint NOT NULL DEFAULT 0, key_hash bigint, updated_at timestamptz NOT NULL,
            PRIMARY KEY (stream, consumer_group, event_id)) WITH ({busy})""",
        f"""CREATE INDEX stream_deliveries_due ON {tables.deliveries}
            (stream, consumer_group, visible_at, event_id) WHERE status IN {out}""",
        f"""CREATE INDEX stream_deliveries_out ON {tables.deliveries}
            (stream, consumer_group, key_hash) WHERE key_hash IS NOT NULL AND status IN {out}""",
        f"""CREATE INDEX stream_deliveries_blocked ON {tables.deliveries}
            (stream, consumer_group, key_hash, event_id) WHERE status = 'blocked'""",
        f"""CREATE INDEX stream_deliveries_dead ON {tables.deliveries}
            (stream, consumer_group, event_id) WHERE status = 'dead'""",
        f"CREATE SEQUENCE {tables.claims}",
        f"CREATE TABLE {tables.version} (version integer PRIMARY KEY)",
        f"INSERT INTO {tables.version} (version) VALUES ({VERSION})",
    )
