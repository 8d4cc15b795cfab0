"""The sink contract over a DuckDB file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from sinks.duckdb import FACTORY
from sinks.duckdb.sink import DuckDBSink
from tests.sinks.duckdb.engine import EngineContract
from wallaby.sink import Sink, WriteMode
from wallaby.testing.contract.hooks import SinkHooks


class TestDuckDBContract(EngineContract):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "target.duckdb"
        self.sinks: list[DuckDBSink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        sink = FACTORY.create({"dsn": str(self.path), "write_mode": mode.value}, destination="target")
        assert isinstance(sink, DuckDBSink)
        self.sinks.append(sink)
        return sink

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """One process has one configuration of a file: the sink's."""
        config = self.sinks[0]._session._config() if self.sinks else {}
        return duckdb.connect(str(self.path), config=config)


assert issubclass(TestDuckDBContract, SinkHooks)
