"""The one connection to the database: transactions, statements, and Arrow tables under a name for a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final

import duckdb
import pyarrow as pa

from sinks.duckdb.config import DuckDBOptions, EngineOptions
from sinks.duckdb.ddl import TargetName
from sinks.duckdb.errors import Doing, translated
from sinks.duckdb.types import FILE, Storage
from wallaby.errors import Transient
from wallaby.schema import quote_identifier
from wallaby.window import CommitToken

_CHECKPOINT_AFTER: Final = "128MB"
"""Log written before DuckDB folds it into the file. At its default, 16 MB, random updates of a table of a million rows
cost three times the CPU; the price is that much log to read when a killed process is followed by another."""
_PINNED_BYTES: Final = 256 << 10
"""Memory that DuckDB (1.5) holds for each table that gets rows twice between checkpoints, and moves to no disk."""
_PINNED_SHARE: Final = 4
"""Of ``memory_limit`` one part in so many is held that way at most: then we ask for a checkpoint, which ends it."""
_FLUSH_AFTER: Final = "1MB"
"""Freed memory the allocator keeps. At its defaults, 128 and 512 MB, a process with many tables holds far more than
``memory_limit``: what was moved to disk is not given back."""

EngineConfig = dict[str, str | bool | int | float | list[str]]
"""DuckDB's settings by name, as it takes them."""


class Session:
    """Connects when first used, so that checking a destination creates nothing. One thread.

    Where the database is, its kinds say: `FileSession` here, and DuckLake's.
    """

    storage: ClassVar[Storage]

    def __init__(self, place: str) -> None:
        self.place = place
        """What errors name; holds no secret."""
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._catalog = ""
        self.in_transaction = False
        self.is_prepared = False
        """wallaby's own tables were found or made, durably, over this connection."""

    @property
    def catalog(self) -> str:
        """The database's catalog, quoted; empty before the first connection.

        DuckDB names it after a file, so a file called like one of its schemas makes two-part names ambiguous:
        everything is addressed with three.
        """
        return self._catalog

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """The connection, made when there is none. `Transient` while another process holds the database."""
        if self._connection is None:
            self._connection = self._opened()
            self._catalog = catalog_of(self._connection)
        return self._connection

    def _opened(self) -> duckdb.DuckDBPyConnection:
        """A new connection whose current catalog is the database."""
        raise NotImplementedError

    def touch(self, target: TargetName) -> None:
        """The open transaction writes to the table."""

    @property
    def can_tell(self) -> bool:
        """True when a COMMIT that failed either is in the database by now or never will be: the record tells which."""
        return True

    def prepared(self) -> None:
        """wallaby's own tables were made just now."""

    def note(self, token: CommitToken) -> None:
        """Say of the open transaction what it is, where the database keeps such notes."""

    def close(self) -> None:
        """Roll back and disconnect. DuckDB writes its log into the file (CHECKPOINT) as the last connection goes."""
        self.rollback()
        connection, self._connection = self._connection, None
        self.is_prepared = False
        if connection is not None:
            with translated(Doing.WORK, path=self.place):
                connection.close()

    def begin(self) -> None:
        """Open a transaction unless one is open."""
        if not self.in_transaction:
            self._run("BEGIN TRANSACTION")
            self.in_transaction = True

    def commit(self) -> None:
        """Make the open transaction durable. After an error its class says what happened, and the connection is new."""
        assert self.in_transaction, "commit without a transaction"
        try:
            self._run("COMMIT", doing=Doing.COMMIT)
        except BaseException:
            self._discard()
            raise
        self.in_transaction = False

    def rollback(self) -> None:
        """Undo the open transaction, if any. Never raises: a connection that cannot roll back is dropped."""
        if not self.in_transaction:
            return
        try:
            self._run("ROLLBACK")
        except Transient:
            self._discard()
        self.in_transaction = False

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        self.in_transaction = self.is_prepared = False
        if connection is not None:
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction of its own, or part of the one that is open (which its owner ends)."""
        if self.in_transaction:
            yield
            return
        self.begin()
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def query(self, statement: str, parameters: tuple[object, ...] = (), **where: Any) -> list[tuple[object, ...]]:
        """All rows of a small answer."""
        return self._run(statement, parameters, **where).fetchall()

    def run(self, statement: str, **where: Any) -> None:
        """A statement whose answer nobody needs."""
        self._run(statement, **where)

    def count(self, statement: str, **where: Any) -> int:
        """How many rows an INSERT, UPDATE or DELETE touched."""
        row = self._run(statement, **where).fetchone()
        return int(row[0]) if row else 0

    def has_table(self, table: str) -> bool:
        """Whether the table, as SQL, is there. Binding tells: `duckdb_tables` looks at every table of a lake."""
        with translated(Doing.WORK):
            try:
                self.connect().execute(f"SELECT 1 FROM {table} LIMIT 0")
            except duckdb.CatalogException:
                return False
        return True

    def arrow(self, statement: str, **where: Any) -> pa.Table:
        """A large answer."""
        with translated(Doing.WORK, **where):
            return self.connect().execute(statement).to_arrow_table()

    @contextmanager
    def named(self, **tables: pa.Table) -> Iterator[None]:
        """Arrow tables as views of the connection, scanned in place, for the length of the block."""
        connection = self.connect()
        for name, table in tables.items():
            connection.register(name, table)
        try:
            yield
        finally:
            for name in tables:
                connection.unregister(name)

    def _run(
        self, statement: str, parameters: tuple[object, ...] = (), *, doing: Doing = Doing.WORK, **where: Any
    ) -> duckdb.DuckDBPyConnection:
        connection = self.connect()
        with translated(doing, **where):
            return connection.execute(statement, parameters) if parameters else connection.execute(statement)


class FileSession(Session):
    """A database file of DuckDB's own."""

    storage = FILE

    def __init__(self, options: DuckDBOptions) -> None:
        super().__init__(options.dsn)
        self._options = options
        self._touched: set[TargetName] = set()
        """Since the last checkpoint we asked for."""

    @property
    def path(self) -> Path:
        return Path(self._options.dsn)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if not self.path.parent.is_dir():
            raise Transient(
                "the folder of the database file does not exist",
                advice="Create the folder, or mount what should be there",
                path=self.path.parent,
            )
        with translated(Doing.OPEN, path=self.path):
            connection = duckdb.connect(str(self.path), config=self._config())
            connection.execute("SET TimeZone = 'UTC'")
        return connection

    def touch(self, target: TargetName) -> None:
        self._touched.add(target)

    def commit(self) -> None:
        super().commit()
        if len(self._touched) * _PINNED_BYTES > self._options.memory_bytes // _PINNED_SHARE:
            # Not while another connection of the process writes: then the next commit tries.
            with suppress(Transient):
                self.run("CHECKPOINT")
                self._touched.clear()

    def _discard(self) -> None:
        super()._discard()
        self._touched.clear()

    def _config(self) -> EngineConfig:
        return {
            **engine_config(self._options),
            "default_block_size": str(self._options.block_size),
            "wal_autocheckpoint": _CHECKPOINT_AFTER,
        }


def engine_config(options: EngineOptions) -> EngineConfig:
    """DuckDB's settings: limits as asked for, and nothing from the network."""
    return {
        "allocator_bulk_deallocation_flush_threshold": _FLUSH_AFTER,
        "allocator_flush_threshold": _FLUSH_AFTER,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": options.memory_limit,
        "threads": str(options.threads),
    }


def catalog_of(connection: duckdb.DuckDBPyConnection) -> str:
    """The name DuckDB gave the connection's file, quoted."""
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None, "a query without FROM returns one row"
    return quote_identifier(str(row[0]))


def is_writable(path: Path) -> bool:
    """Whether this process may write the file, or create it."""
    return os.access(path if path.exists() else path.parent, os.W_OK)


__all__ = ["EngineConfig", "FileSession", "Session", "catalog_of", "engine_config", "is_writable"]
