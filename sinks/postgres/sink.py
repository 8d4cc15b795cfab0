"""The PostgreSQL destination: exactly once, because position and data share a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

from sinks.postgres.catalog import kept_as, qualified, read_target
from sinks.postgres.config import PostgresDestinationOptions
from sinks.postgres.lanes import Lanes
from sinks.postgres.session import connect, is_broken, translated
from sinks.postgres.tables import Tables
from sinks.postgres.writer import PostgresWriter
from wallaby.errors import ConfigError, Refused, Transient
from wallaby.kept_types import Kept
from wallaby.lsn import Position
from wallaby.postgres.checks import login_findings
from wallaby.schema import PgType, TableName, TableSchema
from wallaby.sink import Capabilities, Finding, Severity, Sink, WriteMode
from wallaby.transform.history import require_only_copied
from wallaby.typed_factory import TypedFactory
from wallaby.window import LaneId

_PATIENCE_MS: Final = 5_000
"""How long recovery lets an older writer's transaction end by itself before it ends that session."""
_LOCK_TIMEOUT_MS: Final = 60_000
"""How long any lock is waited for before `Transient` is reported."""

CAPABILITIES: Final = Capabilities(
    modes=frozenset(WriteMode),
    atomic_position=True,
    keyed_upsert=True,
    whole_transactions=True,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=True,
)


class PostgresSink:
    """See `wallaby.sink.Sink`. Holds one connection for questions and tables; each writer has its own."""

    def __init__(self, options: PostgresDestinationOptions, destination: str) -> None:
        self._options = options
        self._destination = destination
        self._tables = Tables(options)
        self._lanes = Lanes(options.state_schema)
        self._connection: psycopg.Connection[Any] | None = None
        self._has_state = False
        self._writers: list[PostgresWriter] = []

    @property
    def commit_interval_ms(self) -> int:
        return round(self._options.commit_interval.total_seconds() * 1000)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def open(self) -> None:
        """Connect; `Transient` when the destination cannot be reached."""
        self._session()

    def close(self) -> None:
        """Disconnect this sink and its writers; what was not committed is rolled back."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        """Findings ``destination-unreachable``, ``destination-read-only``, ``privilege``, ``table-shape``,
        ``type-missing``, ``unverified-server``."""
        try:
            connection = self._session()
            with translated(connection):
                row = connection.execute(
                    "SELECT pg_catalog.pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
                ).fetchone()
                assert row is not None, "a SELECT without FROM has one row"
                if row[0] or row[1]:
                    return [_read_only(is_standby=row[0])]
                found = login_findings(self._options.login, f"destination {self._destination}")
                with connection.transaction(force_rollback=True):
                    return [*found, *self._tables.findings(connection, tables)]
        except (Transient, ConfigError) as error:
            return [
                Finding(
                    severity=Severity.ERROR,
                    subject=f"destination {self._destination}",
                    message=error.message,
                    advice=error.advice,
                    code="destination-unreachable",
                )
            ]

    def ensure_table(self, schema: TableSchema) -> None:
        """See `wallaby.sink.Sink.ensure_table`; a table wallaby created also gets new and widened columns."""
        with self._changing() as connection:
            self._tables.lock(connection)
            self._tables.ensure(connection, schema)

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        """See `wallaby.sink.Sink.reset_table`. A target that does not exist is empty already."""
        name = self._options.target_of(table)
        with self._changing() as connection:
            self._lanes.fence(connection, lane, epoch)
            if self._holds_ours(connection, table):
                connection.execute(f"TRUNCATE {qualified(name)}")
                self._tables.forget_columns(connection, name)

    def require_resettable(self, table: TableName) -> None:
        """See `wallaby.sink.Guarding`."""
        with self._changing() as connection:
            self._holds_ours(connection, table)

    def recover(self, lane: LaneId, epoch: int) -> Position:
        """See `wallaby.sink.Sink.recover`.

        Waits for an older writer's open transaction to end; one that does not, because its process hangs or its network
        is gone, loses its session: nothing of an uncommitted transaction is missed.
        """
        try:
            with self._changing(lock_timeout_ms=_PATIENCE_MS) as connection:
                return self._lanes.fence(connection, lane, epoch).position
        except Transient as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
        connection = self._session()
        with translated(connection), suppress(psycopg.errors.InsufficientPrivilege):
            self._lanes.evict(connection, lane, epoch)
        with self._changing() as connection:
            return self._lanes.fence(connection, lane, epoch).position

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        """See `wallaby.sink.Sink.reset_lane`."""
        with self._changing() as connection:
            self._lanes.fence(connection, lane, epoch)
            self._lanes.reset(connection, lane)

    def writer(self, lane: LaneId, epoch: int) -> PostgresWriter:
        """The lane's writer; it is closed with the sink."""
        # Loads the compiled encoder (most of a second) now rather than during the first commit.
        import sinks.postgres.kernels  # noqa: F401

        writer = PostgresWriter(self._options, lane, epoch)
        self._writers.append(writer)
        return writer

    def _holds_ours(self, connection: psycopg.Connection[Any], table: TableName) -> bool:
        """False when there is nothing to empty. `Refused` for rows from before wallaby came, and for a history no copy
        brings back."""
        name = self._options.target_of(table)
        if (target := read_target(connection, name)) is None:
            return False
        if self._tables.entry(connection, name) is None:
            if self._tables.is_empty(connection, target):
                return False
            raise Refused(
                "the target held rows before wallaby first saw it, so it is not emptied",
                advice="Empty or drop it yourself, then start again",
                table=name,
            )
        require_only_copied(self._tables.holds_only_copies(connection, target), table)
        return True

    @contextmanager
    def _changing(self, *, lock_timeout_ms: int = _LOCK_TIMEOUT_MS) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on the sink's connection, the state tables made before it."""
        connection = self._session()
        with translated(connection):
            if not self._has_state:
                self._tables.create_state(connection)
                self._has_state = True
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {lock_timeout_ms}")
                yield connection
        except psycopg.Error as error:
            # Each of these calls may run twice, so a lost answer is no reason for more than trying again.
            from sinks.postgres.errors import translate

            raise translate(error, is_connected=not is_broken(connection), destination=self._destination) from error

    def _session(self) -> psycopg.Connection[Any]:
        if self._connection is None or is_broken(self._connection):
            self._connection = connect(self._options, self._destination)
        return self._connection


class PostgresSinkFactory(TypedFactory[PostgresDestinationOptions]):
    """Makes PostgreSQL sinks."""

    name = "postgres"
    options_model = PostgresDestinationOptions
    capabilities = CAPABILITIES
    types = "sinks.postgres.types"

    def read(self, options: Mapping[str, Any]) -> PostgresDestinationOptions:
        read = PostgresDestinationOptions.parse(options)
        read.require_mode(CAPABILITIES)
        return read

    def make(self, options: PostgresDestinationOptions, *, destination: str) -> Sink:
        return PostgresSink(options, destination)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type becomes there."""
        return kept_as(pg_type, typmod)


def _read_only(*, is_standby: bool) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        subject="destination database",
        message="it is a standby" if is_standby else "its sessions are read-only",
        advice="Point the DSN at the primary"
        if is_standby
        else "Set default_transaction_read_only to off for the role",
        code="destination-read-only",
    )


FACTORY: Final = PostgresSinkFactory()
