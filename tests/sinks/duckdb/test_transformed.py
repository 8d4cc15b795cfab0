"""The sink contract over a DuckDB file behind a stage that renames and, in a log, adds metadata columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sinks.duckdb.reader import history_rows, log_rows, mirror_rows
from tests.sinks.duckdb.test_contract import TestDuckDBContract as PlainContract
from wallaby.flow.transforms import NAME_FIELDS, OFF, TransformOptions
from wallaby.schema import Column, TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.contract.hooks import VERSIONS
from wallaby.transform.stage import Stage
from wallaby.transformed import TransformedSink, make_sink

_RENAMES = {
    "rename_schema": "main",
    "rename_columns": [
        "*.*.note = {column}_text",
        "*.*.total = {column}_eur",
        # What a history puts aside has its name from the target's: so it is read back.
        "*.*.note_dropped = note_text_dropped",
        "*.*.note_dropped_2 = note_text_dropped_2",
    ],
}
_METADATA = {"meta_enabled": True, "meta_position": "__place"}


@pytest.mark.long
class TestTransformedContract(PlainContract):
    seeds = 1

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {"dsn": str(self.path), "write_mode": mode.value, **self._options(mode)}
        sink = make_sink("duckdb", options, destination="target")
        assert isinstance(sink, TransformedSink)
        self.sinks.append(sink.inside)  # type: ignore[arg-type]  # it is a DuckDBSink
        return sink

    def crash(self, sink: Sink) -> None:
        assert isinstance(sink, TransformedSink)
        super().crash(sink.inside)

    def read_table(self, schema: TableSchema) -> pa.Table:
        with self._connection() as connection:
            return self._as_source(schema, mirror_rows(connection, self._target(schema, WriteMode.MIRROR)))

    def read_log(self, schema: TableSchema) -> pa.Table:
        with self._connection() as connection:
            rows = log_rows(connection, self._target(schema, WriteMode.APPEND))
        changes = rows.filter(pc.not_equal(rows["__op"], "t"))
        assert all(changes[name].null_count == 0 for name in self._metadata_names())
        return self._as_source(schema, rows.drop_columns(self._metadata_names()))

    def read_history(self, schema: TableSchema) -> pa.Table:
        with self._connection() as connection:
            return self._as_source(schema, history_rows(connection, self._target(schema, WriteMode.HISTORY), VERSIONS))

    def make_misfit(self, schema: TableSchema) -> bool:
        return super().make_misfit(self._target(schema, WriteMode.MIRROR))

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        target = self._target(schema, WriteMode.MIRROR)
        return super().make_foreign(target, rows.rename_columns([column.name for column in target.columns]))

    def _options(self, mode: WriteMode) -> dict[str, object]:
        return _RENAMES | (_METADATA if mode is WriteMode.APPEND else {})

    def _metadata_names(self) -> list[str]:
        parsed = TransformOptions.of(_METADATA, mode=WriteMode.APPEND)
        return [name for field in NAME_FIELDS if (name := getattr(parsed, field)) != OFF]

    def _target(self, schema: TableSchema, mode: WriteMode) -> TableSchema:
        stage = Stage(TransformOptions.of(self._options(mode), mode=mode), mode)
        shape = stage.shape(schema)
        assert shape is not None
        return shape.target

    def _as_source(self, schema: TableSchema, rows: pa.Table) -> pa.Table:
        given = {target.name: column.name for target, column in zip(self._columns(schema), schema.columns, strict=True)}
        if "__unchanged" in rows.schema.names:
            unsent = [cell and [given[name] for name in cell] for cell in rows["__unchanged"].to_pylist()]
            at = rows.schema.get_field_index("__unchanged")
            rows = rows.set_column(at, rows.schema.field(at), pa.array(unsent, rows.schema.field(at).type))
        return rows.rename_columns([given.get(name, name) for name in rows.schema.names])

    def _columns(self, schema: TableSchema) -> tuple[Column, ...]:
        return self._target(schema, WriteMode.MIRROR).columns
