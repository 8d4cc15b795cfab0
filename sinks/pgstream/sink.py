"""The pgstream destination: exactly once, because position and messages share a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

from sinks.pgstream import ddl
from sinks.pgstream.config import PgstreamOptions, read_options
from sinks.pgstream.errors import translate
from sinks.pgstream.types import in_stream_order, message_of_truncate
from sinks.pgstream.writer import PgstreamWriter
from sinks.postgres.lanes import Lanes
from sinks.postgres.session import connect, is_broken, translated
from wallaby.errors import ConfigError, Transient
from wallaby.lsn import Lsn, Position
from wallaby.postgres.checks import login_findings
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, Severity, WriteMode
from wallaby.streams.publish import Publisher
from wallaby.streams.schema import Tables
from wallaby.window import Barrier, BarrierKind, LaneId

_PATIENCE_MS: Final = 5_000
"""How long recovery lets an older writer's transaction end by itself before it ends that session."""
_LOCK_TIMEOUT_MS: Final = 60_000
"""How long any lock is waited for before `Transient` is reported."""

CAPABILITIES: Final = Capabilities(
    modes=frozenset({WriteMode.APPEND}),
    atomic_position=True,
    keyed_upsert=False,
    whole_transactions=True,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=True,
)


class PgstreamSink:
    """See `wallaby.sink.Sink`. Holds one connection for questions; each writer has its own."""

    def __init__(self, options: PgstreamOptions, destination: str) -> None:
        self._options = options
        self._destination = destination
        self._stream = options.stream or destination
        self._lanes = Lanes(options.state_schema)
        self._publisher = Publisher(Tables(options.state_schema), self._stream, options.format.value)
        self._connection: psycopg.Connection[Any] | None = None
        self._is_prepared = False
        self._writers: list[PgstreamWriter] = []

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
        """Findings ``destination-unreachable``, ``destination-read-only``, ``encoding``, ``privilege``,
        ``unverified-server``."""
        try:
            connection = self._session()
            with translated(connection):
                found = login_findings(self._options.login, f"destination {self._destination}")
                found += ddl.findings(connection, self._options)
        except (Transient, ConfigError) as error:
            return [_finding(f"destination {self._destination}", error, "destination-unreachable")]
        for table in tables:
            try:
                ddl.require_fit(table)
            except ConfigError as error:
                found.append(_finding(f"table {table.name}", error, "table-shape"))
        return found

    def ensure_table(self, schema: TableSchema) -> None:
        """A stream takes any table; which ones it has had is noted for `reset_table`."""
        ddl.require_fit(schema)
        with self._changing() as connection:
            self._publisher.note_table(connection, schema.name.schema, schema.name.name)

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        """Tell consumers, by a ``truncate`` message at LSN 0/0, that a new copy of the table follows.

        What was published stays in the stream: consumers may have read it. Nothing is published for a table the stream
        never had.
        """
        barrier = Barrier(BarrierKind.TRUNCATE, (table,), (), Lsn(0), 0)
        with self._changing() as connection:
            self._lanes.fence(connection, lane, epoch)
            if self._publisher.knows_table(connection, table.schema, table.name):
                self._publisher.publish(connection, in_stream_order([message_of_truncate(table, barrier)]))

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

    def writer(self, lane: LaneId, epoch: int) -> PgstreamWriter:
        """The lane's writer; it is closed with the sink."""
        writer = PgstreamWriter(self._options, self._stream, lane)
        self._writers.append(writer)
        return writer

    @contextmanager
    def _changing(self, *, lock_timeout_ms: int = _LOCK_TIMEOUT_MS) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on the sink's connection, everything it needs made before it."""
        connection = self._session()
        with translated(connection):
            if not self._is_prepared:
                ddl.prepare(connection, self._options, self._publisher)
                self._is_prepared = True
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {lock_timeout_ms}")
                yield connection
        except psycopg.Error as error:
            # Each of these calls may run twice, so a lost answer is no reason for more than trying again.
            raise translate(error, is_connected=not is_broken(connection), destination=self._destination) from error

    def _session(self) -> psycopg.Connection[Any]:
        if self._connection is None or is_broken(self._connection):
            self._connection = connect(self._options.session, self._destination)
        return self._connection


class PgstreamSinkFactory:
    """Makes pgstream sinks; see `wallaby.sink.SinkFactory`."""

    name = "pgstream"
    options_model = PgstreamOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        read_options(options).require_mode(CAPABILITIES)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> PgstreamSink:
        read = read_options(options)
        read.require_mode(CAPABILITIES)
        return PgstreamSink(read, destination)


def _finding(subject: str, error: Transient | ConfigError, code: str) -> Finding:
    return Finding(severity=Severity.ERROR, subject=subject, message=error.message, advice=error.advice, code=code)


FACTORY: Final = PgstreamSinkFactory()
