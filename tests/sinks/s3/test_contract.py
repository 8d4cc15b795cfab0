"""The sink contract over a bucket, where conditional puts decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from sinks.files.reader import Place, read_log
from sinks.s3 import FACTORY
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.sink_contract import SinkContract


@pytest.mark.long
class TestS3Contract(SinkContract):
    modes = (WriteMode.APPEND,)
    seeds = 1
    bulk_rows = 10_000

    @pytest.fixture(autouse=True)
    def bucket(self, place: dict[str, Any], reading: Callable[[], Place]) -> Iterator[None]:
        self.place, self.reading = place, reading
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        self.sinks.append(FACTORY.create({**self.place, "write_mode": mode.value}, destination="target"))
        return self.sinks[-1]

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(self.reading(), schema.name.schema, schema.name.name)
