"""A live mixed workload on the shop: inserts, updates, deletes, key changes, rollbacks, savepoints, truncates.

Seeded: with one writer and a number of transactions the final content depends on the seed alone. Several writers make
interleaved transactions in the write-ahead log; the final content then depends on who was first, the proof does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Final, Self

import psycopg

from cluster.demo.operations import OPERATIONS, RUN_WRITERS_MAX, WRITER_KEYS, Desk, Operation, Undo
from cluster.demo.shop import ShopSize
from wallaby.errors import SourceUnavailable, WallabyError

_RECONNECT_SECONDS: Final = 60.0
_RECONNECT_PAUSE_SECONDS: Final = 0.2
_WEIGHTS: Final = tuple(accumulate(weight for _, weight in OPERATIONS))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProgress:
    """What the writers have done so far."""

    transactions: int
    """Committed."""
    rows: int
    """Changed by committed transactions, without those changed by cascades."""
    rolled_back: int
    elapsed_s: float
    is_running: bool

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.elapsed_s if self.elapsed_s > 0 else 0.0


class Workload:
    """Writers in threads of their own. ``start``, look at ``progress``, then ``stop`` or ``wait``; once only.

    Ends by itself after ``seconds``, or after ``transactions`` committed ones in all, else at ``stop``. ``rows_per_s``
    bounds the pace over all writers. ``prepared_share`` of the transactions end in two phases, for a server with
    ``max_prepared_transactions``. Survives a restart of the server for a minute; errors other than that come out of
    ``wait`` and ``stop``. Also a context manager. A second workload on the same shop needs another
    ``run`` number: new keys never repeat within one.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: ShopSize,
        seed: int = 1,
        seconds: float | None = None,
        transactions: int | None = None,
        rows_per_s: float | None = None,
        writers: int = 2,
        batch_max: int = 200,
        prepared_share: float = 0.0,
        run: int = 0,
    ) -> None:
        assert 0 < writers <= RUN_WRITERS_MAX, f"{writers} writers"
        self._dsn = dsn
        self._seconds = seconds
        self._rows_per_s = rows_per_s / writers if rows_per_s else None
        self._prepared_share = prepared_share
        self._stopping = threading.Event()
        self._started_at = 0.0
        self._ended_at: float | None = None
        self._writers: Sequence[_Writer] = [
            _Writer(
                self,
                index,
                size=size,
                random=Random(f"{seed}/{run}/{index}"),
                first_key=WRITER_KEYS * (1 + run * RUN_WRITERS_MAX + index),
                batch_max=batch_max,
                transactions=None
                if transactions is None
                else transactions // writers + (index < transactions % writers),
            )
            for index in range(writers)
        ]

    def start(self) -> Self:
        self._started_at = time.monotonic()
        for writer in self._writers:
            writer.thread.start()
        return self

    def stop(self) -> WorkloadProgress:
        """Ask the writers to end after their present transaction, and wait for it. Raises what a writer raised."""
        self._stopping.set()
        return self.wait()

    def wait(self) -> WorkloadProgress:
        """Wait until the workload has ended by itself or by ``stop``. Raises what a writer raised."""
        for writer in self._writers:
            if writer.thread.ident is not None:
                writer.thread.join()
        for writer in self._writers:
            if writer.error is not None:
                raise writer.error
        return self.progress

    @property
    def progress(self) -> WorkloadProgress:
        """A moment's counters; cheap, from any thread."""
        running = any(writer.thread.is_alive() for writer in self._writers)
        now = time.monotonic()
        if not running and self._started_at and self._ended_at is None:
            self._ended_at = now
        return WorkloadProgress(
            transactions=sum(writer.committed for writer in self._writers),
            rows=sum(writer.rows for writer in self._writers),
            rolled_back=sum(writer.rolled_back for writer in self._writers),
            elapsed_s=(self._ended_at or now) - self._started_at if self._started_at else 0.0,
            is_running=running,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Writer:
    """One connection and its thread."""

    def __init__(
        self,
        workload: Workload,
        index: int,
        *,
        size: ShopSize,
        random: Random,
        first_key: int,
        batch_max: int,
        transactions: int | None,
    ) -> None:
        self.thread = threading.Thread(target=self._main, name=f"shop-writer-{index}", daemon=True)
        self.committed = 0
        self.rows = 0
        self.rolled_back = 0
        self.error: WallabyError | None = None
        self._workload = workload
        self._transactions = transactions
        self._random = random
        self._gid = f"shop-{first_key}"
        """Of this writer's prepared transaction; it has one at a time."""
        self._first_key = first_key
        self._size = size
        self._batch_max = batch_max
        self._made: dict[str, int] = {}

    def _main(self) -> None:
        try:
            while not self._is_done():
                with self._connect() as connection:
                    self._work(connection)
        except WallabyError as error:
            self.error = error
        except psycopg.Error as error:
            self.error = WallabyError(
                f"the shop's workload failed: {type(error).__name__} {error.sqlstate or ''}".rstrip(),
                advice="Look into the source server's log.",
            )
            self.error.__cause__ = error

    def _work(self, connection: psycopg.Connection[Any]) -> None:
        """Transactions until done, or until the connection is lost."""
        if self._workload._prepared_share:
            self._finish_prepared(connection)
        desk = Desk(connection, self._random, self._size, self._first_key, self._batch_max, self._made)
        while not self._is_done():
            operation = self._random.choices(OPERATIONS, cum_weights=_WEIGHTS)[0][0]
            try:
                self._transact(desk, operation)
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
                return
            self._keep_pace()

    def _transact(self, desk: Desk, operation: Operation) -> None:
        share = self._workload._prepared_share
        is_prepared = share > 0 and self._random.random() < share
        try:
            if is_prepared:
                rows = self._in_two_phases(desk, operation)
            else:
                with desk.connection.transaction():
                    rows = operation(desk)
        except (Undo, psycopg.errors.DeadlockDetected, psycopg.errors.ForeignKeyViolation):
            # Two writers met: one chose a row the other had just deleted.
            self.rolled_back += 1
        else:
            self.committed += 1
            self.rows += rows

    def _in_two_phases(self, desk: Desk, operation: Operation) -> int:
        connection = desk.connection
        connection.execute("BEGIN")
        try:
            rows = operation(desk)
            connection.execute(f"PREPARE TRANSACTION '{self._gid}'".encode())
        except psycopg.OperationalError:
            if not connection.broken:
                connection.execute("ROLLBACK")
            raise
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute(f"COMMIT PREPARED '{self._gid}'".encode())
        return rows

    def _finish_prepared(self, connection: psycopg.Connection[Any]) -> None:
        """The server went away between the phases: the transaction is still there, with its locks."""
        if connection.execute("SELECT 1 FROM pg_prepared_xacts WHERE gid = %s", [self._gid]).fetchone():
            connection.execute(f"COMMIT PREPARED '{self._gid}'".encode())
            self.committed += 1

    def _keep_pace(self) -> None:
        pace = self._workload._rows_per_s
        if pace is not None:
            ahead = self._workload._started_at + self.rows / pace - time.monotonic()
            if ahead > 0:
                self._workload._stopping.wait(ahead)

    def _is_done(self) -> bool:
        workload = self._workload
        if workload._stopping.is_set() or (self._transactions is not None and self.committed >= self._transactions):
            return True
        return workload._seconds is not None and time.monotonic() - workload._started_at >= workload._seconds

    def _connect(self) -> psycopg.Connection[Any]:
        """A connection; while the server is away, tries again for a minute."""
        give_up_at = time.monotonic() + _RECONNECT_SECONDS
        while True:
            try:
                return psycopg.connect(self._workload._dsn, autocommit=True, application_name="wallaby-demo-workload")
            except psycopg.OperationalError as error:
                if time.monotonic() > give_up_at or self._workload._stopping.wait(_RECONNECT_PAUSE_SECONDS):
                    raise SourceUnavailable(
                        "the shop's workload lost its server", advice="Look into the source server's log."
                    ) from error
