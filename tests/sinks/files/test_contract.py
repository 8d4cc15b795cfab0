"""The sink contract over a directory of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sinks.files import FACTORY
from sinks.files.reader import read_log
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.sink_contract import SinkContract


class TestFilesContract(SinkContract):
    modes = (WriteMode.APPEND,)

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "out"
        self.path.mkdir()
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {"path": str(self.path), "write_mode": mode.value, "fsync": False}
        self.sinks.append(FACTORY.create(options, destination="target"))
        return self.sinks[-1]

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(self.path, schema.name.schema, schema.name.name)
