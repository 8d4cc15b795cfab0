"""A new destination of any type, and how a user reads a table there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_mirror
from sinks.duckdb.reader import mirror_rows as duckdb_rows
from sinks.ducklake.config import CatalogKind
from sinks.files.reader import read_log as files_log
from sinks.iceberg.reader import mirror_rows as iceberg_rows
from tests.sinks.ducklake.conftest import lake_options, reading
from tests.sinks.iceberg.lake import Lake
from tests.sinks.postgres.conftest import read_rows
from wallaby.endpoints import sink_factory
from wallaby.schema import TableSchema
from wallaby.sink import Sink
from wallaby.testing.postgres import ScratchDatabase
from wallaby.transform.state import derive_state


class Place:
    """A new destination of one type: its options, and how a user reads the table."""

    def __init__(self, kind: str, options: dict[str, Any], read: Callable[[TableSchema], pa.Table]) -> None:
        self.kind = kind
        self.options = options
        self.read = read
        self.sinks: list[Sink] = []

    def sink(self, **more: Any) -> Sink:
        """One more, open, with more options."""
        made = sink_factory(self.kind).create({**self.options, **more}, destination="target")
        made.open()
        self.sinks.append(made)
        return made

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def new_place(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    """A new, empty destination of that type; its sinks and what it needs end with the test."""
    made = _place(kind, folder, request)
    request.addfinalizer(made.close)
    return made


def _place(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    match kind:
        case "postgres":
            database: ScratchDatabase = request.getfixturevalue("target_database")
            return Place(kind, {"dsn": database.dsn}, lambda schema: read_rows(database, schema))
        case "duckdb":
            file = folder / "target.duckdb"

            def read(schema: TableSchema) -> pa.Table:
                made.sinks[-1].close()
                with duckdb.connect(str(file)) as connection:
                    connection.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
                    return duckdb_rows(connection, schema)

            made = Place(kind, {"dsn": str(file)}, read)
            return made
        case "ducklake":
            lake = lake_options(folder, CatalogKind.DUCKDB)

            def read_lake(schema: TableSchema) -> pa.Table:
                made_lake.sinks[-1].close()
                with reading(lake) as connection:
                    return duckdb_rows(connection, schema)

            made_lake = Place(kind, lake, read_lake)
            return made_lake
        case "delta":
            options = {"path": str(folder)}
            return Place(kind, options, lambda schema: read_mirror(DeltaOptions.parse(options), schema))
        case "iceberg":
            lake = Lake(folder)
            request.addfinalizer(lake.close)
            return Place(
                kind,
                lake.options(),
                lambda schema: iceberg_rows(lake.catalog.load_table((schema.name.schema, schema.name.name)), schema),
            )
        case _:
            return Place(
                kind,
                {"path": str(folder), "write_mode": "append", "fsync": False},
                lambda schema: derive_state(schema, files_log(folder, schema.name.schema, schema.name.name)),
            )
