"""What people do at a source by hand: look at its slots and publications, and change them.

The API does it for flows, the command line for connection strings; both with the same words for what was found wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from wallaby.errors import NotFound
from wallaby.postgres.connect import Connection, Dsn, session
from wallaby.postgres.publication import (
    add_tables,
    remove_tables,
    require_publication,
    sync_tables,
    unpublished_tables,
)
from wallaby.postgres.slot import SlotFacts, database_slots, drop_slot

STATEMENT_MS: Final = 30_000
"""A table may be locked by somebody's open transaction: nobody waits for that for ever."""


class SourceOperations:
    """One connection per call; nothing is kept. Tables are texts as `TableName` prints them.

    Every method raises `SourceUnavailable` and `CheckFailed` as `wallaby.postgres.connect` does, and `NotFound` for a
    slot or publication that is not there.
    """

    def __init__(self, dsn: Dsn, *, application_name: str, statement_ms: int = STATEMENT_MS) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._statement_ms = statement_ms

    def slots(self) -> list[SlotFacts]:
        """The logical slots of the database, in order of their names."""
        with self._session("list the replication slots") as connection:
            return database_slots(connection)

    def drop_slot(self, name: str) -> None:
        """Drop it, and so lose what it holds. `SlotBusy` while somebody streams from it."""
        if not drop_slot(self._dsn, name, application_name=self._application_name):
            raise NotFound("there is no replication slot of this name", slot=name)

    def published(self, publication: str) -> list[str]:
        """The tables it sends."""
        with self._session("read the publication") as connection:
            return _texts(require_publication(connection, publication).tables)

    def unpublished(self, publication: str, schemas: Sequence[str]) -> list[str]:
        """The tables of the schemas that it does not send."""
        with self._session("look for tables") as connection:
            return _texts(unpublished_tables(connection, publication, schemas))

    def add(self, publication: str, tables: Sequence[str]) -> list[str]:
        """Publish what the patterns stand for; the tables that were not published before. Twice is once."""
        with self._session("change the publication") as connection:
            return _texts(add_tables(connection, publication, tables))

    def remove(self, publication: str, tables: Sequence[str]) -> list[str]:
        """Publish what the patterns stand for no more; the tables that were published before. Twice is once."""
        with self._session("change the publication") as connection:
            return _texts(remove_tables(connection, publication, tables))

    def sync(
        self, publication: str, tables: Sequence[str], schemas: Sequence[str], *, is_dropping: bool
    ) -> tuple[list[str], list[str]]:
        """Publish what patterns and schemas stand for, with ``is_dropping`` nothing else; added and removed tables."""
        with self._session("change the publication") as connection:
            added, removed = sync_tables(connection, publication, tables, schemas, is_dropping=is_dropping)
        return _texts(added), _texts(removed)

    @contextmanager
    def _session(self, doing: str) -> Iterator[Connection]:
        with session(self._dsn, application_name=self._application_name, doing=doing) as connection:
            connection.execute(f"SET statement_timeout = {self._statement_ms}")
            yield connection


def _texts(tables: Sequence[object]) -> list[str]:
    return [str(table) for table in tables]
