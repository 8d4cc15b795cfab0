"""The sink contract over a bucket of Google's, where conditional creations decide."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from sinks.files.reader import read_log
from tests.sinks.object_store_contract import StoreCase
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.sink_contract import SinkContract


@pytest.mark.long
class TestGcsContract(SinkContract):
    modes = (WriteMode.APPEND,)
    seeds = 1
    bulk_rows = 10_000

    @pytest.fixture(autouse=True)
    def place(self, case: StoreCase) -> Iterator[None]:
        self.case = case
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {**self.case.options, "write_mode": mode.value}
        self.sinks.append(self.case.factory.create(options, destination="target"))
        return self.sinks[-1]

    def read_log(self, schema: TableSchema) -> pa.Table:
        with self.case.storage() as storage:
            return read_log(storage, schema.name.schema, schema.name.name)
