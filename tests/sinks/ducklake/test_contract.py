"""The sink contract over a lake with its catalog in a DuckDB file; crashes and races over SQLite and PostgreSQL too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import duckdb
import pytest

from sinks.ducklake.config import CatalogKind
from sinks.ducklake.sink import DuckLakeSink
from tests.sinks.duckdb.engine import EngineContract, EngineHooks
from tests.sinks.ducklake.conftest import lake_options, new_sink, reading
from wallaby.sink import Sink, WriteMode
from wallaby.testing.contract.commits import CrashContract, RaceContract
from wallaby.testing.postgres import ScratchDatabase


class _Lake(EngineHooks):
    kind: ClassVar[CatalogKind]

    @pytest.fixture(autouse=True)
    def lake(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
        database: ScratchDatabase | None = None
        if self.kind is CatalogKind.POSTGRES:
            database = request.getfixturevalue("target_database")
        self.options = lake_options(tmp_path, self.kind, database)
        self.sinks: list[DuckLakeSink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        sink = new_sink({**self.options, "write_mode": mode.value, "merge_every": 3}, destination="target")
        self.sinks.append(sink)
        return sink

    def _connection(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return reading(self.options)


@pytest.mark.long
class TestDuckLakeContract(_Lake, EngineContract):
    kind = CatalogKind.DUCKDB
    bulk_rows = 20_000


@pytest.mark.long
class TestDuckLakeOnSQLite(_Lake, CrashContract, RaceContract):
    kind = CatalogKind.SQLITE
    # A commit takes a tenth of a second: left to the form on a DuckDB file.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]


class TestDuckLakeOnPostgres(_Lake, CrashContract, RaceContract):
    kind = CatalogKind.POSTGRES
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]  # as above
