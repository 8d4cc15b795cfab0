"""The control store in PostgreSQL: schema ``wallaby`` of any database, for several machines.

Nothing depends on session state, so it works through PgBouncer in transaction mode: no prepared statements, no session
settings, transaction-level advisory locks only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import errors

from wallaby.errors import CheckFailed, ConfigError, StoreUnavailable, WallabyError
from wallaby.store.edge import Dialect, Transaction, storable
from wallaby.store.turns import Turns

_CONNECT_SECONDS: Final = 10
_STATEMENT_MS: Final = 30_000
_MIGRATION_LOCK: Final = 0x77616C6C61627931
"""``wallaby1`` in ASCII: the key of the advisory lock around migrations."""


class PostgresEdge:
    """One connection, opened at the first use and again after it broke."""

    dialect: Dialect = "postgres"
    reads_at_once = False

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._turns = Turns()
        self._current: Transaction | None = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._turns.turn(), _translated():
            if self._current is not None:
                yield self._current
                return
            connection = self._begin()
            self._current = _PostgresTransaction(connection)
            try:
                yield self._current
                connection.execute("COMMIT")
            except BaseException:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                if connection.closed:
                    self.close()
                raise
            finally:
                self._current = None

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        # In a transaction like everything else: the timeout of statements may be set in one only.
        with self.transaction() as transaction:
            return transaction.execute(statement, parameters)

    @contextmanager
    def migration_lock(self) -> Iterator[Transaction]:
        with self.transaction() as transaction:
            transaction.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            if not transaction.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'wallaby'"):
                transaction.execute("CREATE SCHEMA wallaby")
            if transaction.execute("SELECT to_regclass('wallaby.schema_migrations')") == [(None,)]:
                transaction.execute(
                    "CREATE TABLE wallaby.schema_migrations ("
                    "number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
                    " applied_at timestamptz NOT NULL)"
                )
            yield transaction

    def close(self) -> None:
        with self._turns.turn():
            if self._connection is not None:
                with suppress(psycopg.Error):
                    self._connection.close()
                self._connection = None

    def _begin(self) -> psycopg.Connection[tuple[Any, ...]]:
        # An idle connection may have been closed by the server or a pooler: nothing has happened yet, so try a new one.
        if self._connection is not None:
            try:
                return self._opened(self._connection)
            except (errors.OperationalError, errors.InterfaceError):
                self.close()
        self._connection = self._connect()
        return self._opened(self._connection)

    def _opened(self, connection: psycopg.Connection[tuple[Any, ...]]) -> psycopg.Connection[tuple[Any, ...]]:
        connection.execute(f"BEGIN; SET LOCAL statement_timeout = {_STATEMENT_MS}")
        return connection

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        try:
            return psycopg.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=_CONNECT_SECONDS,
                application_name="wallaby control store",
            )
        except errors.ProgrammingError:
            raise ConfigError(
                "the control store's DSN cannot be read",
                advice="Write postgresql://user@host/database or key=value pairs",
                field="WALLABY_POSTGRES_DSN",
            ) from None


class _PostgresTransaction:
    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement, storable(parameters))
        return cursor.fetchall() if cursor.description else []

    def run_script(self, script: str) -> None:
        self._connection.execute(script)


@contextmanager
def _translated() -> Iterator[None]:
    # Server messages may show values of rows, and connection errors may show the DSN's user: only names are passed on.
    try:
        yield
    except WallabyError:
        raise
    except (errors.InvalidPassword, errors.InvalidAuthorizationSpecification, errors.InvalidCatalogName) as error:
        raise StoreUnavailable(
            f"the control store refuses the connection ({type(error).__name__})",
            advice="Check user, password and database of WALLABY_POSTGRES_DSN",
        ) from None
    except (errors.InsufficientPrivilege, errors.InvalidSchemaName) as error:
        raise CheckFailed(
            f"the control store does not allow what wallaby needs ({type(error).__name__})",
            advice="The role needs CREATE on the database once, and its own schema wallaby afterwards",
        ) from None
    except (errors.OperationalError, errors.InterfaceError, errors.ReadOnlySqlTransaction) as error:
        raise StoreUnavailable(
            f"the control store cannot be reached ({type(error).__name__})",
            advice="Check that the server of WALLABY_POSTGRES_DSN is up and accepts writes",
        ) from None
    except psycopg.Error as error:
        raise CheckFailed(
            f"the control store answered with an error ({type(error).__name__}, SQLSTATE {error.sqlstate})",
            advice="Check that nothing else changed the schema wallaby",
        ) from None
