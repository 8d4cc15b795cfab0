"""What the SQL store needs of a database: short write transactions and rows back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Literal, Protocol

Dialect = Literal["postgres", "sqlite"]
Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""`Edge.read`, for who composes a statement."""


def storable(parameters: Sequence[Any]) -> tuple[Any, ...]:
    """Parameters as drivers take them: an enum member becomes its value (psycopg would send its name)."""
    return tuple(item.value if isinstance(item, Enum) else item for item in parameters)


class Transaction(Protocol):
    """An open transaction."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, or an empty list.

        Statements are written for PostgreSQL (``%s``, ``wallaby.flows``, ``FOR UPDATE``); an edge of another database
        rewrites those three.
        """
        ...

    def run_script(self, script: str) -> None:
        """Run the statements of a migration, without parameters, inside this transaction."""
        ...


class Edge(Protocol):
    """A database. Foreign exceptions leave it translated."""

    dialect: Dialect
    reads_at_once: bool
    """`read` takes microseconds and waits for nobody: an event loop may call it."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A write transaction: committed when the block ends, rolled back when it raises.

        Concurrent transactions on the same flow wait for each other (row locks, or the one writer of SQLite), threads
        of one process in the order they came. Inside an open transaction of the same thread it is that transaction:
        what fails in it fails the whole.
        """
        ...

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement that only reads, as of now; inside an open transaction of the same thread of that.

        It locks nothing, and two of them may see different moments.
        """
        ...

    def migration_lock(self) -> AbstractContextManager[Transaction]:
        """A transaction that only one process holds at a time."""
        ...

    def close(self) -> None:
        """Release the connection; the next transaction opens it again."""
        ...
