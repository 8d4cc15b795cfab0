"""One lane's writer: turns windows into messages, and publishes them in one transaction with the lane's position.

Messages are gathered in memory and published with the commit. A transaction larger than that goes to a temporary table
while its windows arrive; the stream's lock is taken only when all of it is there, so that other publishers of the
stream do not wait for a large transaction to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa

from sinks.pgstream.config import PgstreamOptions
from sinks.pgstream.types import in_stream_order, message_of_truncate, messages_of_changes
from sinks.postgres.lanes import RESTORED, Lanes
from sinks.postgres.session import connect, is_broken, translated
from wallaby.record import LaneRecord, must_apply
from wallaby.settings import Limits
from wallaby.streams.publish import MESSAGE_SCHEMA, Publisher
from wallaby.streams.retention import retain
from wallaby.streams.schema import Tables
from wallaby.streams.statements import Statements
from wallaby.window import Barrier, BarrierKind, CommitToken, LaneId, Receipt, Window


class PgstreamWriter:
    """See `wallaby.sink.SinkWriter`. Owns one connection, opened with the first commit or large write."""

    def __init__(self, options: PgstreamOptions, stream: str, lane: LaneId) -> None:
        self._options = options
        self._stream = stream
        self._lane = lane
        self._limits = Limits()
        tables = Tables(options.state_schema)
        self._lanes = Lanes(options.state_schema)
        self._publisher = Publisher(tables, stream, options.format.value, self._limits)
        self._statements = Statements(tables)
        self._connection: psycopg.Connection[Any] | None = None
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._record: LaneRecord | None = None
        self._is_open = False

    def write(self, window: Window) -> None:
        """Turn the window's parts into messages; beyond ``apply_bytes_max`` stage them inside the open transaction."""
        assert window.barrier is None, "barriers go to apply_barrier"
        parts = [messages_of_changes(part.schema, part.table()) for part in window.parts if part.rows]
        if not parts:
            return
        # Nothing of the window's buffer is kept: it belongs to the caller.
        messages = in_stream_order(parts)
        self._pending.append(messages)
        self._pending_bytes += messages.nbytes
        if self._pending_bytes > self._options.apply_bytes_max:
            with self._translated() as connection:
                self._begin(connection)
                self._publisher.stage(connection, self._gathered())

    def commit(self, token: CommitToken) -> Receipt:
        """See `SinkWriter.commit`."""
        is_retention_due = False
        with self._translated() as connection:
            self._begin(connection)
            if not must_apply(self._record or LaneRecord(), token, restored=RESTORED):
                self.abort()
                return self._receipt(token)
            if self._pending or self._publisher.has_staged:
                is_retention_due = self._publisher.publish(connection, self._gathered())
        self._finish(token)
        if is_retention_due:
            with self._translated() as connection:
                retain(connection, self._statements, self._stream, self._limits)
        return self._receipt(token)

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        """See `SinkWriter.apply_barrier`. TRUNCATE is a message per table; a new shape shows in the next messages."""
        assert not self._is_open, f"lane {self._lane} has uncommitted changes before a barrier"
        assert not self._pending, f"lane {self._lane} has uncommitted changes before a barrier"
        if barrier.kind is BarrierKind.TRUNCATE:
            self._pending = [in_stream_order([message_of_truncate(table, barrier)]) for table in barrier.tables]
        return self.commit(token)

    def abort(self) -> None:
        """Forget everything since the last commit; a connection that is in doubt is dropped."""
        self._forget()
        connection = self._connection
        if connection is None:
            return
        try:
            if not is_broken(connection):
                connection.rollback()
                return
        except psycopg.Error:
            pass
        self.close()

    def close(self) -> None:
        """Disconnect; PostgreSQL rolls back what was not committed."""
        connection, self._connection = self._connection, None
        self._forget()
        if connection is not None:
            connection.close()

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        """Open the transaction and lock the lane's record, once."""
        if self._is_open:
            return
        self._is_open = True
        connection.execute("BEGIN")
        self._record = self._lanes.read(connection, self._lane, locks=True)

    def _gathered(self) -> pa.Table:
        messages = pa.concat_tables(self._pending) if self._pending else MESSAGE_SCHEMA.empty_table()
        self._pending = []
        self._pending_bytes = 0
        return messages

    def _finish(self, token: CommitToken) -> None:
        """Move the record and COMMIT; only a lost connection leaves the outcome unknown."""
        with self._translated() as connection:
            is_moved = self._lanes.move(connection, token)
            assert is_moved, f"record of lane {self._lane} moved under its lock"
        with self._translated(is_commit=True) as connection:
            ended = connection.execute("COMMIT").statusmessage
        # PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and no error.
        assert ended == "COMMIT", f"COMMIT of lane {self._lane} ended in {ended}"
        self._forget()

    def _forget(self) -> None:
        self._pending = []
        self._pending_bytes = 0
        self._publisher.forget()
        self._record = None
        self._is_open = False

    def _receipt(self, token: CommitToken) -> Receipt:
        return Receipt(token.lane, token.upto, token.rows)

    @contextmanager
    def _translated(self, *, is_commit: bool = False) -> Iterator[psycopg.Connection[Any]]:
        if self._connection is None:
            self._connection = connect(self._options.session, self._lane.destination)
        with translated(self._connection, is_commit=is_commit, lane=self._lane):
            yield self._connection
