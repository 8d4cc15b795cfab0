"""The sink contract over a stream: the log its messages stand for adds up to the source."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from sinks.pgstream import FACTORY
from sinks.pgstream.sink import PgstreamSink
from tests.sinks.pgstream.reading import log_of, messages
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.sink_contract import SinkContract


class TestPgstreamSink(SinkContract):
    modes = (WriteMode.APPEND,)
    seeds = 2
    bulk_rows = 20_000

    @pytest.fixture(autouse=True)
    def destination(self, target_database: ScratchDatabase) -> Iterator[None]:
        self.database = target_database
        self.made: list[PgstreamSink] = []
        yield
        for sink in self.made:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> PgstreamSink:
        sink = FACTORY.create({"dsn": self.database.dsn, "write_mode": mode.value}, destination="target")
        self.made.append(sink)
        return sink

    def read_log(self, schema: TableSchema) -> pa.Table:
        return log_of(schema, messages(self.database))

    def crash(self, sink: Sink) -> None:
        assert isinstance(sink, PgstreamSink)
        for connection in (sink._connection, *(writer._connection for writer in sink._writers)):
            if connection is not None:
                connection.pgconn.finish()
