"""The sink contract over Iceberg tables of a SQLite catalog in a directory, by either way to delete rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from sinks.iceberg import FACTORY
from sinks.iceberg.reader import history_rows, log_rows, mirror_rows
from tests.sinks.iceberg.lake import Lake
from wallaby.schema import Column, TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import table
from wallaby.testing.contract.hooks import VERSIONS
from wallaby.testing.sink_contract import SinkContract


class IcebergContract(SinkContract):
    __test__ = False
    strategy: ClassVar[str]
    modes = tuple(WriteMode)
    seeds = 1

    @pytest.fixture(autouse=True)
    def lake(self, tmp_path: Path) -> Iterator[None]:
        self.place = Lake(tmp_path)
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()
        self.place.close()

    @property
    def catalog(self) -> Catalog:
        return self.place.catalog

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = self.place.options(write_mode=mode.value, mirror_strategy=self.strategy)
        self.sinks.append(FACTORY.create(options, destination="target"))
        return self.sinks[-1]

    def read_table(self, schema: TableSchema) -> pa.Table:
        return mirror_rows(self.catalog.load_table((schema.name.schema, schema.name.name)), schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        return log_rows(self.catalog.load_table((schema.name.schema, schema.name.name)), schema)

    def read_history(self, schema: TableSchema) -> pa.Table:
        return history_rows(self.catalog.load_table((schema.name.schema, schema.name.name)), schema, VERSIONS)

    def make_misfit(self, schema: TableSchema) -> bool:
        fields = [
            pa.field(column.name, pa.int64() if column.is_key else pa.list_(pa.bool_())) for column in schema.columns
        ]
        self.place.make((schema.name.schema, schema.name.name), pa.schema(fields))
        return True

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        plain = pa.table(rows.columns, names=rows.schema.names)
        made = self.place.make((schema.name.schema, schema.name.name), plain.schema)
        if plain.num_rows:
            made.append(plain)
        return True

    def refused_shape(self, schema: TableSchema) -> TableSchema:
        last = schema.columns[-1]
        changed = Column(last.name, table("public.t", {"d": "date"}).columns[0].type, attnum=last.attnum)
        return TableSchema(schema.oid, schema.name, (*schema.columns[:-1], changed), schema.identity, version=2)


class TestPositionDeletes(IcebergContract):
    __test__ = True
    strategy = "position-deletes"


@pytest.mark.long
class TestCopyOnWrite(IcebergContract):
    __test__ = True
    strategy = "copy-on-write"
    modes = (WriteMode.MIRROR, WriteMode.HISTORY)

    def test_the_modes_claimed_are_the_modes_tested(self, mode: WriteMode) -> None:
        """An append log is the same by either strategy; it is tested above."""
        assert mode in self.make_sink(mode=mode).capabilities.modes

    def test_a_mode_that_is_not_claimed_is_refused(self) -> None:
        """None is refused."""
