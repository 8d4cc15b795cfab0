"""What a stream needs in its database before anything is published."""

from __future__ import annotations

from typing import Any

import psycopg

from sinks.pgstream.config import PgstreamOptions
from sinks.postgres.tables import Tables as PositionTables
from wallaby.schema import TableSchema
from wallaby.sink import Finding, error_finding
from wallaby.streams import schema
from wallaby.streams.publish import Publisher
from wallaby.transform.append import append_schema


def prepare(connection: psycopg.Connection[Any], options: PgstreamOptions, publisher: Publisher) -> None:
    """Position records, tables of the streams, and this stream with its retention exist. Twice is once."""
    PositionTables(options.session).create_state(connection)
    schema.create(connection, schema.Tables(options.state_schema))
    publisher.ensure(connection, options.retention)


def require_fit(table: TableSchema) -> None:
    """`ConfigError` when the table has a column by the name of one of the log's own."""
    append_schema(table, keep_outliers=True)


def findings(connection: psycopg.Connection[Any], options: PgstreamOptions) -> list[Finding]:
    """What is wrong with the server and the role's privileges. Changes nothing."""
    row = connection.execute(
        "SELECT pg_catalog.pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',"
        " current_setting('server_encoding'), pg_catalog.has_database_privilege(current_database(), 'CREATE'),"
        " EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)",
        (options.state_schema,),
    ).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    is_standby, is_read_only, encoding, may_create, has_schema = row
    found = []
    if is_standby or is_read_only:
        message = "it is a standby" if is_standby else "its sessions are read-only"
        found.append(
            error_finding("destination database", message, "Point the DSN at the primary", "destination-read-only")
        )
    if encoding != "UTF8":
        found.append(
            error_finding("destination database", f"its encoding is {encoding}", "Use one with UTF8", "encoding")
        )
    if not may_create and not has_schema:
        found.append(
            error_finding(
                f"schema {options.state_schema}",
                "it does not exist and the role may not create schemas",
                "GRANT CREATE ON DATABASE to the role, or create the schema and make the role its owner",
                "privilege",
            )
        )
    return found
