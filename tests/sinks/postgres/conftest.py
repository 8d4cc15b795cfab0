"""A destination of its own for every test, and a driver that plays one lane."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sinks.postgres import FACTORY
from sinks.postgres.sink import PostgresSink
from sinks.postgres.writer import PostgresWriter
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.copy_decoder import CopyDecoder, copy_select_expression
from wallaby.pgtypes.types import builtin_type, change_schema
from wallaby.schema import Column, TableSchema, quote_identifier
from wallaby.testing.history import multiset
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import CommitToken, LaneId, Receipt, Window

LANE = LaneId("shop", "copy")


class Driver:
    """Plays the lane: recovers, ensures tables, writes, commits, and remembers the position."""

    def __init__(self, database: ScratchDatabase, *, epoch: int = 1, lane: LaneId = LANE, **options: Any) -> None:
        self.database = database
        self.epoch = epoch
        self.lane = lane
        self.sink: PostgresSink = FACTORY.create({"dsn": database.dsn, **options}, destination="copy")
        self.sink.open()
        self.position = self.sink.recover(lane, epoch)
        self.writer: PostgresWriter = self.sink.writer(lane, epoch)
        self._ensured: set[tuple[int, int]] = set()

    def write(self, window: Window) -> None:
        """Write a window without committing it."""
        for part in window.parts:
            if (part.schema.oid, part.schema.version) not in self._ensured:
                self.sink.ensure_table(part.schema)
                self._ensured.add((part.schema.oid, part.schema.version))
        self.writer.write(window)

    def token(self, upto: Position, rows: int = 0, *, after: Position | None = None) -> CommitToken:
        """The token that moves the lane from where it stands."""
        return CommitToken(self.lane, self.epoch, self.position if after is None else after, upto, rows)

    def commit(self, upto: Position, rows: int = 0) -> Receipt:
        """Commit what was written."""
        receipt = self.writer.commit(self.token(upto, rows))
        self.position = receipt.upto
        return receipt

    def apply(self, *windows: Window) -> None:
        """Write and commit each window, or apply its barrier."""
        for window in windows:
            if window.barrier is not None:
                token = self.token(window.upto)
                self.position = self.writer.apply_barrier(window.barrier, token).upto
                continue
            self.write(window)
            self.commit(window.upto, window.rows)

    def close(self) -> None:
        self.sink.close()


def read_rows(database: ScratchDatabase, schema: TableSchema, *, table: str | None = None) -> pa.Table:
    """The rows of a table, columns as in ``schema`` and ``__outliers``, through PostgreSQL's binary COPY."""
    name = table or f"{quote_identifier(schema.name.schema)}.{quote_identifier(schema.name.name)}"
    schema = dataclasses.replace(schema, columns=tuple(map(_as_array, schema.columns)))
    columns = ", ".join(
        f"{quote_identifier(c.name)}::{_READ_AS[c.type.name]}" if c.type.name in _READ_AS else copy_select_expression(c)
        for c in schema.columns
    )
    decoder = CopyDecoder(schema, snapshot_lsn=Lsn(1), taken_at_us=0)
    query = f"COPY (SELECT {columns} FROM {name}) TO STDOUT (FORMAT binary)".encode()
    with database.connect() as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        framed = [len(message).to_bytes(4, "little") + bytes(message) for message in copy]
    data = np.frombuffer(b"".join(framed), np.uint8).copy()
    _, batch = decoder.feed(data, 0, len(data))
    if batch is None:
        empty = change_schema(schema)
        return pa.schema([*empty.field("after").type, empty.field("outliers").with_name("__outliers")]).empty_table()
    after = batch.column("after")
    arrays = [after.field(i) for i in range(len(schema.columns))]
    return pa.table([*arrays, batch.column("outliers")], names=[*(c.name for c in schema.columns), "__outliers"])


_READ_AS = {"text": "text", "_float4": "real[]", "geometry": "bytea"}
"""Whether the column has the type itself, or what stands in for it where the extension is missing."""


def _as_array(column: Column) -> Column:
    array = builtin_type(1021)
    assert array is not None
    return dataclasses.replace(column, type=array, typmod=-1) if column.type.name == "vector" else column


def content(rows: pa.Table) -> Counter[str]:
    """Rows as a comparable multiset."""
    return multiset(rows)


@pytest.fixture
def history_types(target_database: ScratchDatabase) -> None:
    """The extensions that random histories use."""
    target_database.execute("CREATE EXTENSION hstore")


@pytest.fixture
def drive(target_database: ScratchDatabase) -> Iterator[Callable[..., Driver]]:
    """Makes drivers against this test's database, and closes them."""
    made: list[Driver] = []

    def make(**options: Any) -> Driver:
        driver = Driver(target_database, **options)
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()
