"""The initial copy: published tables as change batches, exactly as they were where the slot begins.

One read-only transaction is pinned to the snapshot the slot exported. PostgreSQL's snapshots do not cover everything: a
table that is rewritten (some ALTER TABLE) or truncated after the snapshot was taken looks *empty* under it. So all
tables are locked against that first (ACCESS SHARE, as pg_dump does), and one that was rewritten between snapshot and
lock is found by comparing its file as the snapshot sees it with its file now; the copy then starts over.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import Any, Final

import psycopg
import pyarrow as pa
from psycopg import pq

from wallaby.errors import SnapshotGone
from wallaby.lsn import Lsn
from wallaby.pgoutput.copy_decoder import CopyDecoder, copy_select_expression
from wallaby.postgres.arena import Arena
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.command import run_command
from wallaby.postgres.connect import Connection, Dsn, connect
from wallaby.postgres.drain import Drain, Outcome, open_drain
from wallaby.postgres.errors import describe_dsn, translate
from wallaby.schema import TableName, TableSchema, quote_identifier
from wallaby.settings import Limits
from wallaby.snapshot.progress import Estimate

_COMMAND_TIMEOUT_S: Final = 120.0
_LOCK_TIMEOUT_MS: Final = 60_000
_POLL_MS: Final = 60_000
_LOCK_BATCH: Final = 500
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET TRANSACTION SNAPSHOT {snapshot}",
    "SET LOCAL search_path = pg_catalog",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}",
)


class SnapshotCopy:
    """Copies ``schemas`` under an exported snapshot, with the row filters ``publications`` give them.

    Partitioned tables among ``schemas`` are read through their root, everything else without inheritance children.
    ``compiled`` forces the kind of drain.
    """

    def __init__(
        self,
        dsn: Dsn,
        *,
        snapshot_name: str,
        schemas: Sequence[TableSchema],
        snapshot_lsn: Lsn,
        taken_at_us: int,
        limits: Limits | None = None,
        publications: Sequence[str] = (),
        application_name: str = "wallaby copy",
        compiled: bool | None = None,
    ) -> None:
        self._dsn = dsn
        self._snapshot_name = snapshot_name
        self._schemas = tuple(schemas)
        self._snapshot_lsn = snapshot_lsn
        self._taken_at_us = taken_at_us
        self._limits = limits or Limits()
        self._publications = tuple(publications)
        self._application_name = application_name
        self._compiled = compiled

    def estimate(self) -> dict[TableName, Estimate]:
        """The planner's idea of each table, for progress."""
        with connect(self._dsn, application_name=self._application_name) as connection:
            try:
                rows = connection.execute(_ESTIMATE, {"oids": [schema.oid for schema in self._schemas]}).fetchall()
            except psycopg.Error as error:
                raise translate(error, dsn=self._dsn, doing="estimate the copy") from error
        found = {oid: Estimate(rows=count, bytes=nbytes) for oid, count, nbytes in rows}
        return {schema.name: found.get(schema.oid, Estimate()) for schema in self._schemas}

    def batches(self) -> Iterator[tuple[TableSchema, pa.RecordBatch]]:
        """Every row of every table once, op ``r``, table after table in the order given, in batches of about
        ``limits.copy_chunk_bytes`` received. Ordinals count on over all tables.

        `SnapshotGone` when the snapshot is gone or a table was rewritten meanwhile: what was
        delivered is then incomplete and the whole copy must be repeated under a new snapshot. Closing the iterator
        early ends the transaction.
        """
        filters = self._row_filters()
        connection = connect(self._dsn, application_name=self._application_name)
        try:
            roots = self._pin(connection)
            ordinal = 0
            for schema in self._schemas:
                command = copy_command(schema, row_filter=filters.get(schema.name), is_root=schema.oid in roots)
                decoder = CopyDecoder(
                    schema, snapshot_lsn=self._snapshot_lsn, taken_at_us=self._taken_at_us, first_ordinal=ordinal
                )
                for batch in self._copy(connection, command, decoder):
                    yield schema, batch
                ordinal = decoder.rows
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.InvalidSchemaName,
        ) as error:
            raise self._repeat("a table changed its shape while the copy began") from error
        except psycopg.Error as error:
            raise translate(error, dsn=self._dsn, doing="copy the tables") from error
        finally:
            connection.close()

    def _row_filters(self) -> dict[TableName, str]:
        if not self._publications:
            return {}
        catalog = Catalog(self._dsn, application_name=self._application_name)
        try:
            return catalog.row_filters(self._publications)
        finally:
            catalog.close()

    def _pin(self, connection: Connection) -> set[int]:
        """Begin under the snapshot and lock every table; returns the oids of partitioned ones."""
        snapshot = "'" + self._snapshot_name.replace("'", "''") + "'"
        try:
            for statement in _BEGIN:
                connection.execute(statement.format(snapshot=snapshot).encode())
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject) as error:
            raise self._repeat("the exported snapshot is gone") from error
        oids = {"oids": [schema.oid for schema in self._schemas]}
        roots = {oid for (oid,) in connection.execute(_ROOTS, oids).fetchall()}
        for start in range(0, len(self._schemas), _LOCK_BATCH):
            names = ", ".join(
                _from_item(schema, is_root=schema.oid in roots) for schema in self._schemas[start : start + _LOCK_BATCH]
            )
            connection.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE".encode())
        changed: list[tuple[Any, ...]] = connection.execute(_REWRITTEN, oids).fetchall()
        if changed:
            raise self._repeat("tables were rewritten or truncated while the copy began")
        return roots

    def _copy(self, connection: Connection, command: str, decoder: CopyDecoder) -> Iterator[pa.RecordBatch]:
        pgconn = connection.pgconn
        run_command(connection, command, timeout_s=_COMMAND_TIMEOUT_S)
        drain = open_drain(pgconn, compiled=self._compiled)
        arena = Arena(self._limits.copy_chunk_bytes)
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        try:
            while (outcome := self._fill(drain, arena, poll)) is not Outcome.ENDED or len(arena):
                consumed, batch = decoder.feed(arena.data, arena.begin, arena.end)
                arena.consume(consumed)
                if batch is not None and batch.num_rows:
                    yield batch
                if outcome is Outcome.ENDED:
                    break
        finally:
            drain.close()
        _finish(pgconn)
        if not decoder.is_finished:
            raise self._repeat("the copy of a table ended early")

    def _fill(self, drain: Drain, arena: Arena, poll: select.poll) -> Outcome:
        """Receive until the arena is full or the table ends."""
        outcome = drain.fill(arena)
        while outcome is Outcome.DRY or (outcome is Outcome.FULL and len(arena) == 0):
            if outcome is Outcome.DRY:
                poll.poll(_POLL_MS)
            outcome = drain.fill(arena)
        return outcome

    def _repeat(self, message: str) -> SnapshotGone:
        return SnapshotGone(
            message, advice="The copy is repeated under a new snapshot.", source=describe_dsn(self._dsn)
        )


def copy_command(schema: TableSchema, *, row_filter: str | None = None, is_root: bool = False) -> str:
    """The COPY that reads exactly what the publication sends of this table."""
    selected = [copy_select_expression(column) for column in schema.columns]
    names = [quote_identifier(column.name) for column in schema.columns]
    is_plain = selected == names and names and not any(column.generated for column in schema.columns)
    if is_plain and row_filter is None and not is_root:
        # Straight from the table, without an executor in between.
        source = f"{_qualified(schema.name)} ({', '.join(names)})"
    else:
        condition = f" WHERE {row_filter}" if row_filter is not None else ""
        source = f"(SELECT {', '.join(selected)} FROM {_from_item(schema, is_root=is_root)}{condition})"
    return f"COPY {source} TO STDOUT (FORMAT binary)"


def _from_item(schema: TableSchema, *, is_root: bool) -> str:
    """Inheritance children are published, and copied, as tables of their own; partitions of a root are not."""
    return _qualified(schema.name) if is_root else f"ONLY {_qualified(schema.name)}"


def _qualified(name: TableName) -> str:
    return f"{quote_identifier(name.schema)}.{quote_identifier(name.name)}"


def _finish(pgconn: pq.abc.PGconn) -> None:
    """Take the command's result; a `psycopg.Error` when it failed after all."""
    while (result := pgconn.get_result()) is not None:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        if result.status == pq.ExecStatus.COPY_OUT:
            raise psycopg.OperationalError("the connection was lost")


_ROOTS: Final = "SELECT oid FROM pg_catalog.pg_class WHERE oid = ANY (%(oids)s::oid[]) AND relkind = 'p'"

_ESTIMATE: Final = """
SELECT c.oid, COALESCE(leaves.tuples, 0)::int8, COALESCE(leaves.size, 0)::int8
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (
    SELECT sum(GREATEST(leaf.reltuples, 0)) AS tuples,
        sum(leaf.relpages::int8 + COALESCE(toast.relpages, 0)) * current_setting('block_size')::int8 AS size
    FROM pg_catalog.pg_class AS leaf LEFT JOIN pg_catalog.pg_class AS toast ON toast.oid = leaf.reltoastrelid
    WHERE leaf.oid IN (SELECT c.oid WHERE c.relkind <> 'p'
        UNION SELECT relid FROM pg_catalog.pg_partition_tree(c.oid) WHERE isleaf)) AS leaves
WHERE c.oid = ANY (%(oids)s::oid[])
"""
"""Only what the catalog says: asking for a size takes a lock, and would wait for whoever rewrites the table."""

_REWRITTEN: Final = """
SELECT c.oid FROM pg_catalog.pg_class AS c
WHERE c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
AND (c.oid = ANY (%(oids)s::oid[]) OR c.oid IN (
    SELECT tree.relid FROM unnest(%(oids)s::oid[]) AS given (oid), pg_catalog.pg_partition_tree(given.oid) AS tree))
"""
"""The query reads pg_class under the snapshot; the function asks the present catalog."""
