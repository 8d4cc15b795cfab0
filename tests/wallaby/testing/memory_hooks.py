"""The contract's hooks for the sink in memory."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from wallaby.schema import TableSchema
from wallaby.sink import WriteMode
from wallaby.testing.changes import table
from wallaby.testing.contract.hooks import SinkHooks
from wallaby.testing.memory_sink import MemoryDestination, MemorySink, Target
from wallaby.window import OUTLIER_TYPE


class MemoryHooks(SinkHooks):
    """Reads the destination's tables directly."""

    modes = tuple(WriteMode)

    def setup_method(self) -> None:
        self.destination = MemoryDestination()

    def make_sink(self, *, mode: WriteMode) -> MemorySink:
        return MemorySink(self.destination, mode=mode)

    def read_table(self, schema: TableSchema) -> pa.Table:
        return self.destination.targets[schema.name].rows

    read_log = read_table
    read_history = read_table

    def make_misfit(self, schema: TableSchema) -> bool:
        other = table(schema.name, {c.name: "int8" if c.is_key else "bytea" for c in schema.columns}, key=["id"])
        empty = MemorySink(self.destination)._empty(other)
        self.destination.targets = {other.name: Target(other, empty, is_ours=False)}
        return True

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        rows = rows.append_column("__outliers", pa.nulls(len(rows), OUTLIER_TYPE))
        self.destination.targets = {schema.name: Target(schema, rows, is_ours=False)}
        return True

    def refused_shape(self, schema: TableSchema) -> TableSchema:
        bigger = dataclasses.replace(schema.columns[-1], type=table("a.b", {"x": "bytea"}).columns[0].type)
        return dataclasses.replace(schema, columns=(*schema.columns[:-1], bigger), version=schema.version + 1)
