"""Is the source fit for a flow? Findings say what is wrong, where, and the exact thing to run. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from wallaby.errors import CheckFailed, ConfigError, SourceUnavailable, WallabyError
from wallaby.login import is_verified
from wallaby.postgres import check_queries as queries
from wallaby.postgres.connect import Connection, Dsn, connect, session, validate_dsn
from wallaby.postgres.errors import translate
from wallaby.postgres.failover import FailoverWish, failover_findings
from wallaby.postgres.publication import PublicationFacts, create_statement, read_publication, resolve_tables
from wallaby.postgres.replication import OPTION_MAJORS
from wallaby.postgres.slot import PLUGIN, SlotFacts, read_slot
from wallaby.schema import TableName, quote_identifier
from wallaby.sink import Finding, Severity, error_finding

_APPLICATION: Final = "wallaby check"
_MAJOR_MIN: Final = 14


def check_source(
    *,
    dsn: Dsn,
    slot: str,
    publication: str,
    publication_tables: Sequence[str] = (),
    publication_schemas: Sequence[str] = (),
    create_slot: bool = True,
    ensure_publication: bool = True,
    syncs_publication: bool = False,
    snapshot: str = "initial",
    toast_fetch: str = "off",
    field: str = "source.options",
    own_application: str | None = None,
    stream_options: Collection[str] = (),
    failover: str = "auto",
) -> list[Finding]:
    """Everything that would stop or harm a flow from this source; empty when it is fit.

    ``field`` prefixes the subjects that are options. ``snapshot`` other than ``never``, and ``toast_fetch`` of
    ``source`` or ``full``, also check that tables can be read. A slot held by a connection whose application name
    begins with ``own_application`` is our own and no finding.
    ``stream_options``: the options in use that need a newer server (`OPTION_MAJORS`). ``failover``: the option; what a
    failover needs is looked for when it is ``true`` or the connection string names several hosts.
    Codes: ``source-config``, ``source-unreachable``, ``source-refused``, ``server-version``, ``standby``,
    ``wal-level``, ``replication-privilege``, ``slot-headroom``, ``sender-headroom``, ``prepared-transactions``,
    ``slot-missing``, ``slot-plugin``, ``slot-database``, ``slot-busy``, ``slot-lost``, ``publication-missing``,
    ``publication-privilege``, ``publication-empty``, ``replica-identity``, ``select-privilege``, ``row-security``,
    ``toast-fetch``, ``unverified-server``, ``unix-socket``, and those of `wallaby.postgres.failover`.
    """
    wish = _Wish(
        slot=slot,
        publication=publication,
        tables=tuple(publication_tables),
        schemas=tuple(publication_schemas),
        creates_slot=create_slot,
        creates_publication=ensure_publication,
        syncs=syncs_publication,
        reads=snapshot != "never" or toast_fetch in ("source", "full"),
        fills=toast_fetch != "off",
        field=field,
        own_application=own_application,
        stream_options=tuple(stream_options),
        failover=failover,
    )
    try:
        validate_dsn(dsn, f"{field}.dsn")
        with connect(dsn, application_name=_APPLICATION) as connection:
            try:
                return [*login_findings(dsn, f"{field}.dsn"), *_check(connection, dsn, wish)]
            except psycopg.Error as error:
                raise translate(error, dsn=dsn, doing="check the source") from error
    except WallabyError as error:
        return [_failure(error, field)]


def login_findings(dsn: Dsn, subject: str) -> list[Finding]:
    """``unverified-server`` when our way to log in trusts whoever answers at the address."""
    if is_verified(dsn):
        return []
    return [
        Finding(
            severity=Severity.WARNING,
            subject=subject,
            message="the server's certificate is not verified, and whoever gets a token can use it for 15 minutes",
            advice="Write sslmode=verify-full and sslrootcert with the CA bundle of RDS",
            code="unverified-server",
        )
    ]


def tables_to_publish(
    dsn: Dsn, *, publication: str, tables: Sequence[str], schemas: Sequence[str], syncs: bool
) -> list[TableName]:
    """Tables the start of a flow would publish: all it wants when the publication is missing, else what it adds."""
    with session(dsn, application_name=_APPLICATION, doing="look for tables") as connection:
        if read_publication(connection, publication) is not None and not syncs:
            return []
        return resolve_tables(connection, tables, schemas) if tables or schemas else _all_tables(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What the flow wants of the source."""

    slot: str
    publication: str
    tables: tuple[str, ...]
    schemas: tuple[str, ...]
    creates_slot: bool
    creates_publication: bool
    syncs: bool
    reads: bool
    fills: bool
    field: str
    own_application: str | None
    stream_options: tuple[str, ...]
    failover: str


def _failure(error: WallabyError, field: str) -> Finding:
    match error:
        case ConfigError():
            found = error.where.get("field", "")
            subject = found if found.startswith(field) else f"{field}.{found}".rstrip(".")
            return error_finding(subject, error.message, error.advice, "source-config")
        case SourceUnavailable():
            # Nobody tries again here: the sentence about that belongs to a running flow.
            advice = "Check that the server runs and that host and port are right and reachable from here."
            return error_finding(f"{field}.dsn", _with_place(error), advice, "source-unreachable")
        case _:
            return error_finding(f"{field}.dsn", _with_place(error), error.advice, "source-refused")


def _with_place(error: WallabyError) -> str:
    place = error.where.get("source")
    return f"{error.message} ({place})" if place else error.message


def _check(connection: Connection, dsn: Dsn, wish: _Wish) -> list[Finding]:
    row = connection.execute(queries.SERVER).fetchone()
    assert row is not None, "a query without FROM returns one row"
    server = _Server(*row)
    slot = read_slot(connection, wish.slot)
    major = connection.info.server_version // 10_000
    findings = _check_server(server, major, needs_slot=slot is None)
    findings += [
        error_finding(f"{wish.field}.{option}", need.says(option, major), need.advice, "server-version")
        for option, need in OPTION_MAJORS.items()
        if option in wish.stream_options and major < need.needed
    ]
    findings += _check_slot(connection, wish, slot, server.database)
    if not server.is_standby:
        wanted = FailoverWish(
            slot=wish.slot,
            failover=wish.failover,
            is_two_phase="two_phase" in wish.stream_options,
            field=wish.field,
        )
        findings += failover_findings(connection, dsn, wanted, facts=slot)
    findings += _check_publication(connection, wish, server)
    return findings + _check_transport(connection, wish)


def _check_transport(connection: Connection, wish: _Wish) -> list[Finding]:
    """What is only dear. See decision 0036."""
    host = connection.info.host
    if host and not host.startswith("/"):
        return []
    return [
        Finding(
            severity=Severity.INFO,
            subject=f"{wish.field}.dsn",
            message="over a unix socket every change is received by itself, for three times the processor time of TCP",
            advice="Write host=127.0.0.1 where many changes come: it costs the server no more",
            code="unix-socket",
        )
    ]


@dataclass(frozen=True, slots=True)
class _Server:
    wal_level: str
    slots_max: int
    slots_used: int
    senders_max: int
    senders_used: int
    is_standby: bool
    can_replicate: bool
    is_superuser: bool
    may_create: bool
    database: str
    role: str
    prepared: int


def _check_server(server: _Server, major: int, *, needs_slot: bool) -> list[Finding]:
    findings: list[Finding] = []
    if major < _MAJOR_MIN:
        findings.append(error_finding("server", f"PostgreSQL {major} is too old", "Use 14 or newer.", "server-version"))
    if server.is_standby:
        findings.append(
            error_finding(
                "server",
                "the source is a standby: publications and slots cannot be made there",
                "Connect to the primary.",
                "standby",
            )
        )
    if server.wal_level != "logical":
        findings.append(
            error_finding(
                "server",
                f"wal_level is {server.wal_level}, logical decoding needs logical",
                "Run: ALTER SYSTEM SET wal_level = 'logical'; restart the server (on RDS: rds.logical_replication).",
                "wal-level",
            )
        )
    if not server.can_replicate:
        role = quote_identifier(server.role)
        findings.append(
            error_finding(
                f"role {server.role}",
                "the role may not start replication",
                f"Run as superuser: ALTER ROLE {role} REPLICATION; (on RDS: GRANT rds_replication TO {role};)",
                "replication-privilege",
            )
        )
    if needs_slot and server.slots_used >= server.slots_max:
        findings.append(
            error_finding(
                "server",
                f"all {server.slots_max} replication slots are taken",
                "Drop unused slots (see pg_replication_slots), or raise max_replication_slots and restart.",
                "slot-headroom",
            )
        )
    if needs_slot and server.prepared:
        findings.append(
            Finding(
                severity=Severity.WARNING,
                subject="server",
                message=f"{server.prepared} prepared transactions are open, and no slot is made before they end",
                advice="COMMIT PREPARED or ROLLBACK PREPARED them (see pg_prepared_xacts).",
                code="prepared-transactions",
            )
        )
    if server.senders_used >= server.senders_max:
        findings.append(
            error_finding(
                "server",
                f"all {server.senders_max} walsenders are busy",
                "Raise max_wal_senders and restart the server.",
                "sender-headroom",
            )
        )
    return findings


def _check_slot(connection: Connection, wish: _Wish, slot: SlotFacts | None, database: str) -> list[Finding]:
    subject = f"slot {wish.slot}"
    drop = f"SELECT pg_drop_replication_slot({_literal(wish.slot)});"
    if slot is None:
        if wish.creates_slot:
            return []
        create = f"SELECT pg_create_logical_replication_slot({_literal(wish.slot)}, '{PLUGIN}');"
        return [
            error_finding(subject, "the slot does not exist and may not be created", f"Run: {create}", "slot-missing")
        ]
    if slot.plugin != PLUGIN:
        kind = f"uses the plugin {slot.plugin}" if slot.plugin else "is physical"
        advice = f"Choose another slot name ({wish.field}.slot), or, if nobody needs it, run: {drop}"
        return [error_finding(subject, f"the slot {kind}, not {PLUGIN}", advice, "slot-plugin")]
    if slot.database != database:
        message = f"the slot belongs to the database {slot.database}, not {database}"
        return [error_finding(subject, message, f"Choose another slot name ({wish.field}.slot).", "slot-database")]
    if slot.is_lost:
        return [
            error_finding(
                subject,
                f"the slot is invalidated ({slot.invalidation}): changes were lost to it",
                f"Run: {drop} and reset the flow, so that it copies anew; raise max_slot_wal_keep_size.",
                "slot-lost",
            )
        ]
    if slot.active and not _is_our_own(connection, slot, wish.own_application):
        advice = f"Stop the other consumer, or run: SELECT pg_terminate_backend({slot.active_pid});"
        return [error_finding(subject, f"process {slot.active_pid} streams from the slot", advice, "slot-busy")]
    return []


def _is_our_own(connection: Connection, slot: SlotFacts, own_application: str | None) -> bool:
    if own_application is None:
        return False
    row = connection.execute(
        "SELECT pg_catalog.starts_with(application_name, %s) FROM pg_catalog.pg_stat_activity WHERE pid = %s",
        [own_application, slot.active_pid],
    ).fetchone()
    return row is not None and bool(row[0])


def _check_publication(connection: Connection, wish: _Wish, server: _Server) -> list[Finding]:
    publication = read_publication(connection, wish.publication)
    try:
        wanted = resolve_tables(connection, wish.tables, wish.schemas) if wish.tables or wish.schemas else None
    except CheckFailed as error:
        return [error_finding(f"{wish.field}.publication_tables", error.message, error.advice, "publication-tables")]
    if publication is None:
        findings = _check_creation(wish, server, wanted)
        tables = _all_tables(connection) if wanted is None else wanted
        if wanted is not None and not wanted:
            findings.append(_nothing_to_publish(wish))
        is_adding = wish.creates_publication and wanted is not None
        return findings + _check_tables(connection, wish, tables, is_changing=True, is_adding=is_adding)
    coming = [table for table in wanted or () if wish.syncs and table not in publication.tables]
    findings = [] if publication.tables or coming else [_empty(publication)]
    is_changing = publication.update or publication.delete
    findings += _check_tables(connection, wish, publication.tables, is_changing=is_changing)
    return findings + _check_tables(connection, wish, coming, is_changing=is_changing, is_adding=True)


def _all_tables(connection: Connection) -> list[TableName]:
    return [TableName(schema, name) for schema, name in connection.execute(queries.ALL_TABLES).fetchall()]


def _check_creation(wish: _Wish, server: _Server, wanted: Sequence[TableName] | None) -> list[Finding]:
    subject = f"publication {wish.publication}"
    statement = create_statement(wish.publication, wanted)
    if not wish.creates_publication:
        return [error_finding(subject, "the publication does not exist", f"Run: {statement};", "publication-missing")]
    if wanted is None and not server.is_superuser:
        return [
            error_finding(
                subject,
                "only a superuser can publish all tables",
                f"List them in {wish.field}.publication_tables, or run as superuser: {statement};",
                "publication-privilege",
            )
        ]
    if not server.may_create:
        role = quote_identifier(server.role)
        return [
            error_finding(
                subject,
                f"the role may not create publications in the database {server.database}",
                f"Run: GRANT CREATE ON DATABASE {quote_identifier(server.database)} TO {role};",
                "publication-privilege",
            )
        ]
    return []


def _empty(publication: PublicationFacts) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        subject=f"publication {publication.name}",
        message="the publication sends no table",
        advice=f"Run: ALTER PUBLICATION {quote_identifier(publication.name)} ADD TABLE …;",
        code="publication-empty",
    )


def _nothing_to_publish(wish: _Wish) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        subject=f"publication {wish.publication}",
        message="no table matches, so nothing will be replicated",
        advice=f"Create tables first, or look at {wish.field}.publication_tables and publication_schemas.",
        code="publication-empty",
    )


def _check_tables(
    connection: Connection, wish: _Wish, tables: Sequence[TableName], *, is_changing: bool, is_adding: bool = False
) -> list[Finding]:
    rows: list[tuple[Any, ...]] = connection.execute(
        queries.TABLES,
        {
            "schemas": [table.schema for table in tables],
            "names": [table.name for table in tables],
            "publication": wish.publication,
        },
    ).fetchall()
    role = quote_identifier(connection.info.user)
    findings: list[Finding] = []
    for schema, name, identity, has_identity, is_readable, hides_rows, is_owner, has_key in rows:
        table = TableName(schema, name)
        if is_changing and not has_identity:
            findings.append(_no_identity(table, identity))
        if wish.reads and not is_readable:
            findings.append(_no_select(table, role))
        if wish.reads and hides_rows:
            findings.append(_row_security(table, role))
        if is_adding and not is_owner:
            findings.append(_not_owner(table, role))
        if wish.fills and is_changing and has_identity and not has_key:
            findings.append(_nothing_to_fill_by(table, wish.field))
    return findings


def _no_identity(table: TableName, identity: str) -> Finding:
    why = {
        "n": "its replica identity is NOTHING",
        "i": "its replica identity is an index that was dropped",
        "f": "its replica identity FULL includes generated columns, which the publication does not send",
    }.get(identity, "it has no primary key and no other replica identity")
    fix = f"Add a primary key, or run: ALTER TABLE {_qualified(table)} REPLICA IDENTITY FULL;"
    if identity == "f":
        fix = f"Give it a primary key, and run: ALTER TABLE {_qualified(table)} REPLICA IDENTITY DEFAULT;"
    return error_finding(
        f"table {table}",
        f"{why}: once it is published, PostgreSQL refuses UPDATE and DELETE on it",
        fix,
        "replica-identity",
    )


def _no_select(table: TableName, role: str) -> Finding:
    grant = f"GRANT USAGE ON SCHEMA {quote_identifier(table.schema)} TO {role}; GRANT SELECT ON {_qualified(table)}"
    return error_finding(f"table {table}", "the role may not read it", f"Run: {grant} TO {role};", "select-privilege")


def _row_security(table: TableName, role: str) -> Finding:
    return error_finding(
        f"table {table}",
        "row-level security hides rows from the role",
        f"Run as superuser: ALTER ROLE {role} BYPASSRLS;",
        "row-security",
    )


def _nothing_to_fill_by(table: TableName, field: str) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        subject=f"table {table}",
        message="it has no key, so values PostgreSQL does not send are not filled in (they come with the old row)",
        advice=f"Add a primary key, or leave it: {field}.toast_fetch has no effect on this table.",
        code="toast-fetch",
    )


def _not_owner(table: TableName, role: str) -> Finding:
    return error_finding(
        f"table {table}",
        "only its owner can add it to a publication",
        f"Create the publication as the owner, or run: ALTER TABLE {_qualified(table)} OWNER TO {role};",
        "publication-privilege",
    )


def _qualified(table: TableName) -> str:
    return f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
