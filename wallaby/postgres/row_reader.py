"""Rows as the source has them now, read by key: one COPY per table, however many keys.

The keys travel as one array per key column, in settings that end with the transaction: COPY takes no parameters, and
in the command itself they would end up in logs. Everything is read-only.

A value read now must not be taken for an older one without a thought, and three things are looked after here. The
table is locked (ACCESS SHARE) before its shape is compared with the one the stream described, and stays locked while
it is read: what is read is what the types say. The row filter of the publication holds, so that nothing is shown that
would not have been sent. And PostgreSQL sends a transaction to logical decoding a moment *before* other sessions see
it as committed (a long moment, when a synchronous standby has to answer), so a few snapshots are tried, and the answer
says which transactions the last one sees: of one it does not see, it shows the row as it was before.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
from psycopg import pq

from wallaby.errors import SourceUnavailable
from wallaby.lsn import Lsn
from wallaby.pgoutput.copy_decoder import CopyDecoder
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.postgres.arena import Arena
from wallaby.postgres.command import rows, run_command
from wallaby.postgres.connect import Connection, Dsn, connect
from wallaby.postgres.drain import Outcome, open_drain
from wallaby.postgres.errors import translate
from wallaby.postgres.row_queries import array_literal, facts_query, qualified, read_command
from wallaby.schema import Column, PgType, TableSchema

_ARENA_BYTES: Final = 1 << 20
_UNREADABLE_KEYS: Final = frozenset({Family.INTERVAL, Family.LIST})
_FILTERS_SINCE: Final = 15
_LOOKS_MAX: Final = 5
"""How often a snapshot is taken before one is accepted that misses a transaction."""
_SETTINGS: Final = (
    "SET search_path = pg_catalog; SET statement_timeout = {timeout}; SET lock_timeout = {timeout};"
    " SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; SET jit = off"
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions a reading saw, as ``pg_current_snapshot()`` prints it."""

    end: int
    """The first transaction id that was not yet given away, 32 bits of it."""
    running: npt.NDArray[np.uint32]

    @classmethod
    def parse(cls, text: str) -> Self:
        _, end, running = text.split(":")
        numbers = [int(word) & 0xFFFFFFFF for word in running.split(",") if word]
        return cls(int(end) & 0xFFFFFFFF, np.array(numbers, np.uint32))

    def sees(self, xids: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """True for committed transactions whose work was visible. Ids wrap around at 32 bits."""
        is_begun = (xids - np.uint32(self.end)).view(np.int32) < 0
        return is_begun & ~np.isin(xids, self.running)


@dataclass(frozen=True, slots=True)
class PresentRows:
    """What was found."""

    rows: pa.RecordBatch | None
    """In the change layout: the number of the key asked for, from 1, and then the columns. None when nothing was found;
    not everything when the limit of bytes was reached."""
    is_seen: npt.NDArray[np.bool_]
    """Per transaction asked about, whether the reading saw its work. Otherwise its rows are as they were before it."""
    read_at: Lsn
    """How far the source's WAL was written just before."""


class Unread(Enum):
    """Why nothing was read."""

    SLOW = "slow"
    """Not in time: the server is busy, or the table is locked."""
    GONE = "gone"
    """The table is not as the stream described it: dropped, renamed, altered."""


def is_readable(schema: TableSchema) -> bool:
    """Rows can be found by the table's key."""
    return schema.has_key and not any(
        layout_of(schema.columns[i].type, schema.columns[i].typmod).family in _UNREADABLE_KEYS for i in schema.key
    )


class RowReader:
    """Reads from one source. Connects at the first question. One thread."""

    def __init__(self, dsn: Dsn, *, publication: str, timeout_ms: int, application_name: str = "wallaby rows") -> None:
        self._dsn = dsn
        self._publication = publication
        self._timeout_ms = timeout_ms
        self._application_name = application_name
        self._connection: Connection | None = None

    def read(
        self,
        schema: TableSchema,
        columns: Sequence[int],
        keys: Sequence[pa.Array],
        *,
        xids: npt.NDArray[np.uint32],
        timeout_ms: int,
        bytes_max: int,
    ) -> PresentRows | Unread:
        """The ``columns`` of the rows whose key is among ``keys`` (arrays in the order of ``schema.key``, no nulls).

        ``xids`` are transactions the reading should see; the answer says whether it did. About ``bytes_max`` are read
        at most. `CheckFailed` when the role may not read the table, `SourceUnavailable` when the connection is lost.
        """
        deadline = time.monotonic() + min(timeout_ms, self._timeout_ms) / 1000
        was_idle = self._connection is not None
        try:
            return self._attempt(schema, columns, keys, xids, deadline, bytes_max)
        except SourceUnavailable:
            if not was_idle:
                raise
            # An idle connection may have died meanwhile; reading twice is harmless.
            return self._attempt(schema, columns, keys, xids, deadline, bytes_max)

    def close(self) -> None:
        """Drop the connection; the next question connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(
        self,
        schema: TableSchema,
        columns: Sequence[int],
        keys: Sequence[pa.Array],
        xids: npt.NDArray[np.uint32],
        deadline: float,
        bytes_max: int,
    ) -> PresentRows | Unread:
        """Whatever goes wrong, the connection is not used again."""
        is_done = False
        try:
            answer = self._read(self._session(), schema, columns, keys, xids, deadline, bytes_max)
            is_done = True
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            return Unread.SLOW
        except _GONE:
            return Unread.GONE
        except psycopg.Error as error:
            raise translate(error, dsn=self._dsn, doing=f"read unchanged values of {schema.name}") from error
        finally:
            if not is_done:
                self.close()
        return answer

    def _session(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = connect(self._dsn, application_name=self._application_name)
            try:
                connection.execute(_SETTINGS.format(timeout=self._timeout_ms).encode())
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _read(
        self,
        connection: Connection,
        schema: TableSchema,
        columns: Sequence[int],
        keys: Sequence[pa.Array],
        xids: npt.NDArray[np.uint32],
        deadline: float,
        bytes_max: int,
    ) -> PresentRows | Unread:
        def run(command: str, parameters: Sequence[bytes] = ()) -> pq.abc.PGresult:
            left_s = max(0.001, deadline - time.monotonic())
            return run_command(connection, command, timeout_s=left_s, parameters=parameters)

        names = [schema.name.schema.encode(), schema.name.name.encode(), self._publication.encode()]
        given = [b"%d" % schema.oid, *names, *(array_literal(key).encode() for key in keys)]
        has_filters = connection.info.server_version // 10_000 >= _FILTERS_SINCE
        query = facts_query(len(keys), has_filters=has_filters)
        [[written]] = rows(run("SELECT pg_catalog.pg_current_wal_lsn()"))
        assert written is not None
        for looks_left in reversed(range(_LOOKS_MAX)):
            run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # The lock comes before the snapshot: a table rewritten in between would look empty.
            run(f"LOCK TABLE ONLY {qualified(schema)} IN ACCESS SHARE MODE")
            facts = rows(run(query, given))
            if not facts or not _is_same(schema, [*schema.key, *columns], json.loads(facts[0][2] or "{}")):
                run("ROLLBACK")
                return Unread.GONE
            snapshot, kind, _, condition = facts[0][:4]
            assert snapshot is not None
            is_seen = Snapshot.parse(snapshot).sees(xids)
            if is_seen.all() or not looks_left:
                break
            run("ROLLBACK")
        run(read_command(schema, columns, row_filter=condition, is_root=kind == "p"))
        wanted = TableSchema(schema.oid, schema.name, (_NUMBER, *(schema.columns[i] for i in columns)))
        found, is_whole = _received(connection, wanted, deadline, bytes_max)
        if is_whole:
            run("COMMIT")
        else:
            self.close()
        return PresentRows(found, is_seen, Lsn.parse(written))


def _received(
    connection: Connection, wanted: TableSchema, deadline: float, bytes_max: int
) -> tuple[pa.RecordBatch | None, bool]:
    """What the COPY under way brings, and whether that is all of it."""
    pgconn = connection.pgconn
    decoder = CopyDecoder(wanted, snapshot_lsn=Lsn(0), taken_at_us=0)
    drain = open_drain(pgconn)
    arena = Arena(_ARENA_BYTES)
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    batches: list[pa.RecordBatch] = []
    outcome = Outcome.DRY
    try:
        while outcome is not Outcome.ENDED and sum(batch.nbytes for batch in batches) < bytes_max:
            outcome = drain.fill(arena)
            consumed, batch = decoder.feed(arena.data, arena.begin, arena.end)
            arena.consume(consumed)
            if batch is not None and batch.num_rows:
                batches.append(batch)
            if outcome is Outcome.DRY and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise psycopg.errors.QueryCanceled("not read in time")
    finally:
        drain.close()
    if outcome is Outcome.ENDED:
        _finish(pgconn)
        if not decoder.is_finished:
            raise psycopg.OperationalError("the connection was lost")
    return (pa.concat_batches(batches) if batches else None), outcome is Outcome.ENDED


def _finish(pgconn: pq.abc.PGconn) -> None:
    while (result := pgconn.get_result()) is not None:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        if result.status == pq.ExecStatus.COPY_OUT:
            raise psycopg.OperationalError("the connection was lost")


def _is_same(schema: TableSchema, columns: Sequence[int], present: dict[str, list[int]]) -> bool:
    wanted = [schema.columns[i] for i in columns]
    return all(present.get(column.name) == [column.type.oid, column.typmod] for column in wanted)


_NUMBER: Final = Column("number", PgType(20, "int8"))

_GONE: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.WrongObjectType,
    psycopg.errors.DataError,
)
