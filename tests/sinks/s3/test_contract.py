"""The sink contract over a bucket, where conditional PUTs decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from sinks.s3 import FACTORY
from sinks.s3.reader import read_log
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.sink_contract import SinkContract


class TestS3Contract(SinkContract):
    modes = (WriteMode.APPEND,)
    seeds = 2

    @pytest.fixture(autouse=True)
    def bucket(self, place: dict[str, Any]) -> Iterator[None]:
        self.place = place
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        self.sinks.append(FACTORY.create({**self.place, "write_mode": mode.value}, destination="target"))
        return self.sinks[-1]

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(self.place, schema.name.schema, schema.name.name)
