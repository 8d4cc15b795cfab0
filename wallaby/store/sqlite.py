"""The embedded control store: one SQLite file, safe for several processes of one machine.

WAL mode with ``synchronous=FULL``: a commit that returned survives a power cut. The file must not lie on a network file
system, where SQLite's locks do not hold. Besides the database there is a lock file, because turning WAL mode on and
migrating must not race: SQLite's busy timeout does not cover the change of the journal mode.

Reads have a connection of their own: in WAL mode they wait for no writer and no writer for them, so whoever looks
never delays a commit.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from wallaby.errors import CheckFailed, StoreUnavailable, WallabyError
from wallaby.store.edge import Dialect, Transaction, storable
from wallaby.store.turns import Turns

FILE_NAME: Final = "wallaby.db"
_BUSY_SECONDS: Final = 30.0


class SqliteEdge:
    """``<directory>/wallaby.db``; the directory is made when missing, readable by its owner only."""

    dialect: Dialect = "sqlite"
    reads_at_once = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: sqlite3.Connection | None = None
        self._turns = Turns()
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._holds_file_lock = False
        self._current: Transaction | None = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._turns.turn(), _translated(self._directory):
            if self._current is not None:
                yield self._current
                return
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            self._current = _SqliteTransaction(connection)
            try:
                yield self._current
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._current = None

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self._turns.is_mine:
            with self.transaction() as transaction:
                return transaction.execute(statement, parameters)
        with _translated(self._directory):
            with self._reading:
                if self._reader is not None:
                    return _rows(self._reader, statement, parameters)
            with self._turns.turn(), self._reading:
                if self._reader is None:
                    self._reader = self._connect(is_reader=True)
                return _rows(self._reader, statement, parameters)

    @contextmanager
    def migration_lock(self) -> Iterator[Transaction]:
        with self._turns.turn(), _translated(self._directory), self._file_lock(), self.transaction() as transaction:
            transaction.execute(
                "CREATE TABLE IF NOT EXISTS wallaby.schema_migrations ("
                "number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL"
                ") STRICT"
            )
            yield transaction

    def close(self) -> None:
        with self._turns.turn(), self._reading:
            for connection in (self._connection, self._reader):
                if connection is not None:
                    connection.close()
            self._connection = self._reader = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
            with self._reading:
                if self._reader is None:
                    self._reader = self._connect(is_reader=True)
        return self._connection

    def _connect(self, *, is_reader: bool = False) -> sqlite3.Connection:
        path = self._directory / FILE_NAME
        with self._file_lock():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA query_only=ON" if is_reader else "PRAGMA synchronous=FULL")
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        if self._holds_file_lock:
            yield
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._directory / f"{FILE_NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._holds_file_lock = True
            yield
        finally:
            # Closing releases the lock; the kernel does it when the process is killed.
            self._holds_file_lock = False
            os.close(handle)


class _SqliteTransaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return _rows(self._connection, statement, parameters)

    def run_script(self, script: str) -> None:
        # executescript() would commit the transaction first, so the statements are run one by one.
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._connection.execute(statement)
                statement = ""
        assert not statement.strip(), "a migration ends inside a statement"


def _rows(connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(_rewritten(statement), storable(parameters)).fetchall()


@lru_cache(maxsize=256)
def _rewritten(statement: str) -> str:
    return statement.replace("wallaby.", "").replace("%s", "?").replace(" FOR UPDATE", "")


@contextmanager
def _translated(directory: Path) -> Iterator[None]:
    place = directory / FILE_NAME
    try:
        yield
    except WallabyError:
        raise
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(
            f"the control store is not usable now ({error.sqlite_errorname})"
            if getattr(error, "sqlite_errorname", None)
            else "the control store is not usable now",
            advice="Check that the disk is writable and has space, and that no other program holds the file",
            file=place,
        ) from error
    except sqlite3.DatabaseError as error:
        raise CheckFailed(
            f"the control store cannot be read ({type(error).__name__})",
            advice="The file is damaged or not a wallaby store: restore it, or move it away to begin anew",
            file=place,
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"the control store's directory cannot be used: {error.strerror or type(error).__name__}",
            advice="Set WALLABY_STATE_DIR to a directory that the process may write",
            file=place,
        ) from error
