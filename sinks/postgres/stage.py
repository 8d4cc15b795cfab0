"""Rows on their way into the server: temporary staging tables, kept per connection and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pyarrow as pa

from sinks.postgres.encode import COPY_HEADER, COPY_TRAILER, Encoding, copy_chunks, record_array
from sinks.postgres.session import Binary

_STAGES_MAX: Final = 256
"""Staging tables per connection; all are dropped when one more is needed, outside transactions."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One column of rows to send. ``array`` is None for a column that a statement fills in the server."""

    name: str
    staged: str
    encoding: Encoding
    array: pa.Array | pa.ChunkedArray | None


@dataclass(frozen=True, slots=True)
class Stage:
    """A staging table: its quoted name, and the array type of its rows."""

    sql: str
    record_oid: int
    array_oid: int


_Key = tuple[str, tuple[tuple[str, str], ...]]
"""Purpose, and the names and types of the columns."""


class Stages:
    """The staging tables of one connection. They are empty at the start of every transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._stages: dict[_Key, Stage] = {}
        self._created: list[_Key] = []
        self._used: set[str] = set()
        self._number = 0

    def stage(self, slots: Sequence[Slot], purpose: str) -> Stage:
        """The staging table for rows of this shape and purpose, created when missing."""
        shape = (purpose, tuple((slot.name, slot.staged) for slot in slots))
        stage = self._stages.get(shape)
        if stage is None:
            stage = self._stages[shape] = self._create(shape)
            self._created.append(shape)
        return stage

    def copy(self, slots: Sequence[Slot], purpose: str) -> Stage:
        """Send rows into their staging table, and return it; it holds nothing else, until the next of equal purpose."""
        stage = self.stage(slots, purpose)
        if stage.sql in self._used:
            self._connection.execute(f"TRUNCATE {stage.sql}")
        self._used.add(stage.sql)
        sent = [slot for slot in slots if slot.array is not None]
        copy_into(self._connection, stage.sql, ", ".join(slot.name for slot in sent), sent)
        return stage

    def parameter(self, slots: Sequence[Slot], purpose: str) -> Binary:
        """The rows as one array parameter."""
        stage = self.stage(slots, purpose)
        arrays = [slot.array for slot in slots]
        return Binary(stage.array_oid, record_array(arrays, [slot.encoding for slot in slots], stage.record_oid))

    def keep(self) -> None:
        """Tables made so far were made outside a transaction: no rollback removes them."""
        self._created.clear()

    def committed(self) -> None:
        """A transaction ended well: PostgreSQL emptied the tables."""
        self._created.clear()
        self._used.clear()
        if len(self._stages) > _STAGES_MAX:
            self._connection.execute(f"DROP TABLE {', '.join(stage.sql for stage in self._stages.values())}")
            self._stages.clear()

    def rolled_back(self) -> None:
        """A transaction was undone, and with it the tables it created."""
        for shape in self._created:
            self._stages.pop(shape, None)
        self._created.clear()
        self._used.clear()

    def _create(self, shape: _Key) -> Stage:
        self._number += 1
        name = f"wallaby_stage_{self._number}"
        columns = ", ".join(f"{column} {staged}" for column, staged in shape[1])
        self._connection.execute(f"CREATE TEMP TABLE {name} ({columns}) ON COMMIT DELETE ROWS")
        row = self._connection.execute(
            "SELECT t.oid, t.typarray FROM pg_catalog.pg_class c JOIN pg_catalog.pg_type t ON t.oid = c.reltype"
            " WHERE c.oid = %s::regclass",
            (f"pg_temp.{name}",),
        ).fetchone()
        assert row is not None, f"{name} was just created"
        return Stage(f"pg_temp.{name}", row[0], row[1])


def copy_into(connection: psycopg.Connection[Any], table: str, columns: str, slots: Sequence[Slot]) -> None:
    """COPY rows in binary into ``table`` (both already quoted)."""
    arrays = [slot.array for slot in slots]
    encodings = [slot.encoding for slot in slots]
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)") as copy:
        copy.write(COPY_HEADER)
        for chunk in copy_chunks(arrays, encodings):
            copy.write(chunk)
        copy.write(COPY_TRAILER)
