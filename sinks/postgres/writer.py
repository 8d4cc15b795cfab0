"""One lane's writer: collects windows, applies them in one transaction together with the lane's position.

Small commits travel as one pipeline: move the record (or fail), then the statements of every table, then the end of the
implicit transaction; one round trip. Larger ones open a transaction, lock the record's row first, and stay open while a
source transaction spans windows: PostgreSQL shows nothing of it before the COMMIT, so memory stays bounded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pyarrow as pa
from psycopg.pq import PipelineStatus

from sinks.postgres.apply import SOURCE, Step, TableApply
from sinks.postgres.catalog import qualified, read_target
from sinks.postgres.config import PostgresDestinationOptions
from sinks.postgres.lanes import RESTORED, Lanes
from sinks.postgres.session import connect, is_broken, translated
from sinks.postgres.stage import Stages
from sinks.postgres.tables import Tables
from wallaby.errors import Refused
from wallaby.record import LaneRecord, must_apply
from wallaby.schema import TableName, TableSchema, quote_identifier
from wallaby.sink import WriteMode
from wallaby.transform.append import OP_TRUNCATE
from wallaby.transform.history import CLOSED_BY_TRUNCATE
from wallaby.window import Barrier, BarrierKind, CommitToken, LaneId, Receipt, Window

_SMALL_ROWS_MAX: Final = 2000
_SMALL_BYTES_MAX: Final = 1 << 20
"""Commits up to this size go as one pipeline; beyond it COPY is cheaper for the server."""
_ENDS: Final = ("timestamptz 'epoch' + $1::int8::float8 * interval '1 microsecond'", "$2", "$3::pg_lsn", "$4")
"""How a TRUNCATE ends versions: microseconds, letter, LSN, ordinal. Whole numbers of this size are exact in float8."""


class PostgresWriter:
    """See `wallaby.sink.SinkWriter`. Owns one connection, opened with the first commit or large write."""

    def __init__(self, options: PostgresDestinationOptions, lane: LaneId, epoch: int) -> None:
        self._options = options
        self._lane = lane
        self._epoch = epoch
        self._lanes = Lanes(options.state_schema)
        self._tables = Tables(options)
        self._connection: psycopg.Connection[Any] | None = None
        self._stages: Stages | None = None
        self._applies: dict[tuple[TableName, int], TableApply] = {}
        self._pending: dict[tuple[TableName, int], tuple[TableSchema, list[pa.Table]]] = {}
        self._pending_rows = 0
        self._pending_bytes = 0
        self._record: LaneRecord | None = None
        self._is_open = False
        self._is_inside = False
        """The last window written stopped inside a transaction."""

    def write(self, window: Window) -> None:
        """Keep a copy of the window's parts; beyond ``apply_bytes_max`` apply them inside the open transaction."""
        assert window.barrier is None, "barriers go to apply_barrier"
        self._is_inside = not window.ends_transaction
        for part in window.parts:
            if part.rows == 0:
                continue
            # The buffer belongs to the caller (a shared object store); ours must outlive the call.
            with pa.ipc.open_stream(pa.py_buffer(part.data.to_pybytes())) as reader:
                rows = reader.read_all()
            key = (part.schema.name, part.schema.version)
            self._pending.setdefault(key, (part.schema, []))[1].append(rows)
            self._pending_rows += part.rows
            self._pending_bytes += part.nbytes
        if self._pending_bytes > self._options.apply_bytes_max:
            with self._translated():
                self._begin()
                self._apply_pending()

    def commit(self, token: CommitToken) -> Receipt:
        """See `SinkWriter.commit`."""
        if not self._is_open and self._is_small() and self._commit_small(token):
            return self._receipt(token)
        with self._translated():
            self._begin()
            if not must_apply(self._record or LaneRecord(), token, restored=RESTORED):
                self.abort()
                return self._receipt(token)
            self._apply_pending()
        self._finish(token)
        return self._receipt(token)

    def rehearse(self) -> None:
        """See `wallaby.sink.Rehearsing`. Deferred constraints are looked at now, and again at COMMIT."""
        with self._translated():
            self._begin()
            self._apply_pending()
            if self._is_inside:
                return
            connection, _ = self._session()
            # Constraints stay immediate until the transaction ends, which more of the source's may join: going back to
            # a savepoint defers those again that were, and what their triggers did is undone.
            connection.execute("SAVEPOINT wallaby_rehearsal")
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            connection.execute("ROLLBACK TO SAVEPOINT wallaby_rehearsal")
            connection.execute("RELEASE SAVEPOINT wallaby_rehearsal")

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        """See `SinkWriter.apply_barrier`. In append mode TRUNCATE is a row of the log."""
        assert not self._is_open, f"lane {self._lane} has uncommitted changes before a barrier"
        assert not self._pending, f"lane {self._lane} has uncommitted changes before a barrier"
        with self._translated():
            self._begin()
            if not must_apply(self._record or LaneRecord(), token, restored=RESTORED):
                self.abort()
                return self._receipt(token)
            connection, _ = self._session()
            if barrier.kind is BarrierKind.SCHEMA:
                self._tables.lock(connection)
                for schema in barrier.schemas:
                    self._tables.ensure(connection, schema, may_add=True)
                self._applies.clear()
            else:
                self._truncate(connection, barrier)
        self._finish(token)
        return self._receipt(token)

    def abort(self) -> None:
        """Forget everything since the last commit; a connection that is in doubt is dropped."""
        self._forget_pending()
        connection, self._record = self._connection, None
        if connection is None:
            return
        self._is_open = False
        try:
            if not is_broken(connection):
                connection.rollback()
                if self._stages is not None:
                    self._stages.rolled_back()
                return
        except psycopg.Error:
            pass
        self.close()

    def close(self) -> None:
        """Disconnect; PostgreSQL rolls back what was not committed."""
        self._forget_pending()
        self._disconnect()

    def _commit_small(self, token: CommitToken) -> bool:
        """One pipeline; False when it did not happen and the ordinary way shall find out why (or do it)."""
        with self._translated():
            connection, stages = self._session()
            steps: list[Step] = []
            for schema, tables in self._pending.values():
                made = self._apply_for(schema).steps(_joined(tables))
                if made is None:
                    return False
                steps.extend(made)
            parameters = [stages.parameter(step.slots, step.purpose) for step in steps]
            stages.keep()
        with self._translated(is_commit=True):
            try:
                with connection.pipeline():
                    self._lanes.claim(connection, token)
                    for step, parameter in zip(steps, parameters, strict=True):
                        statement = step.statement.replace(SOURCE, "unnest($1) AS s")
                        if step.expected is not None:
                            statement = f"WITH touched AS ({statement} RETURNING 1) " + (
                                f"SELECT 1 / (count(*) = {step.expected})::int FROM touched"
                            )
                        psycopg.RawCursor(connection).execute(statement, (parameter,), prepare=True)
            except (psycopg.Error, IndexError):  # psycopg's own queue, when the answer below comes alone
                if is_broken(connection):
                    raise
                # An error answer is certain: the implicit transaction was rolled back as a whole.
                if connection.pgconn.pipeline_status != PipelineStatus.OFF:
                    # It came with the end of that transaction (a deferred constraint); psycopg then stays in the
                    # pipeline for good.
                    self._disconnect()
                return False
        self._forget_pending()
        return True

    def _begin(self) -> None:
        """Open the transaction and lock the lane's record, once."""
        if self._is_open:
            return
        connection, _ = self._session()
        self._is_open = True
        connection.execute("BEGIN")
        self._record = self._lanes.read(connection, self._lane, locks=True)

    def _apply_pending(self) -> None:
        connection, stages = self._session()
        for key in list(self._pending):
            schema, tables = self._pending.pop(key)
            self._apply_for(schema).run(connection, stages, _joined(tables))
        self._forget_pending()

    def _finish(self, token: CommitToken) -> None:
        """Move the record and COMMIT; only a lost connection leaves the outcome unknown."""
        connection, stages = self._session()
        with self._translated():
            is_moved = self._lanes.move(connection, token)
            assert is_moved, f"record of lane {self._lane} moved under its lock"
        with self._translated(is_commit=True):
            ended = connection.execute("COMMIT").statusmessage
        # PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and no error.
        assert ended == "COMMIT", f"COMMIT of lane {self._lane} ended in {ended}"
        self._is_open = False
        self._record = None
        with self._translated():
            stages.committed()

    def _truncate(self, connection: psycopg.Connection[Any], barrier: Barrier) -> None:
        names = [self._options.target_of(table) for table in barrier.tables]
        present = [name for name in names if read_target(connection, name) is not None]
        if self._options.write_mode is WriteMode.APPEND:
            place = (str(barrier.commit_lsn), barrier.ordinal, barrier.xid, barrier.committed_at_us / 1_000_000)
            for name in present:
                psycopg.RawCursor(connection).execute(
                    f"INSERT INTO {qualified(name)} (__op, __commit_lsn, __ordinal, __xid, __committed_at)"
                    f" VALUES ('{OP_TRUNCATE}', $1::pg_lsn, $2, $3, to_timestamp($4::float8))",
                    place,
                )
        elif self._options.write_mode is WriteMode.HISTORY:
            versions = self._options.version_columns
            sets = ", ".join(f"{quote_identifier(c)} = {v}" for c, v in zip(versions.closing, _ENDS, strict=True))
            is_current = quote_identifier(versions.is_current)
            ends = (barrier.committed_at_us, CLOSED_BY_TRUNCATE, str(barrier.commit_lsn), barrier.ordinal)
            for name in present:
                psycopg.RawCursor(connection).execute(
                    f"UPDATE {qualified(name)} SET {is_current} = false, {sets} WHERE {is_current}", ends
                )
        elif present:
            restart = " RESTART IDENTITY" if barrier.restart_identity else ""
            connection.execute(f"TRUNCATE {', '.join(map(qualified, present))}{restart}")

    def _apply_for(self, schema: TableSchema) -> TableApply:
        key = (schema.name, schema.version)
        found = self._applies.get(key)
        if found is None:
            connection, _ = self._session()
            name = self._options.target_of(schema.name)
            target = read_target(connection, name)
            if target is None:
                raise Refused("the target table does not exist", advice="Restart the flow", table=name)
            found = self._applies[key] = TableApply(
                schema, target, self._options.write_mode, self._options.version_columns
            )
        return found

    def _session(self) -> tuple[psycopg.Connection[Any], Stages]:
        if self._connection is None or self._stages is None:
            self._connection = connect(self._options, self._lane.destination)
            self._stages = Stages(self._connection)
        return self._connection, self._stages

    def _disconnect(self) -> None:
        connection, self._connection, self._stages = self._connection, None, None
        self._applies.clear()
        self._is_open = False
        self._record = None
        if connection is not None:
            connection.close()

    def _is_small(self) -> bool:
        return self._pending_rows <= _SMALL_ROWS_MAX and self._pending_bytes <= _SMALL_BYTES_MAX

    def _forget_pending(self) -> None:
        self._pending.clear()
        self._pending_rows = 0
        self._pending_bytes = 0

    def _receipt(self, token: CommitToken) -> Receipt:
        return Receipt(token.lane, token.upto, token.rows)

    @contextmanager
    def _translated(self, *, is_commit: bool = False) -> Iterator[None]:
        if self._connection is None:
            self._session()
        connection = self._connection
        assert connection is not None, "a session was just opened"
        with translated(connection, is_commit=is_commit, lane=self._lane):
            yield


def _joined(tables: list[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)
