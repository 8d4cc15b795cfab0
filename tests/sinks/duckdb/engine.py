"""The contract over destinations of DuckDB's engine, and what the engine is stricter or better at."""

from __future__ import annotations

from contextlib import AbstractContextManager

import duckdb
import pyarrow as pa
import pytest

from sinks.duckdb.engine import EngineSink
from sinks.duckdb.reader import history_rows, log_rows, mirror_rows
from wallaby.errors import Refused
from wallaby.schema import Column, TableName, TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import Outlier, insert, table, update
from wallaby.testing.contract.hooks import VERSIONS, SinkHooks, raised, windows_of
from wallaby.testing.contract.tables import AWKWARD_NAMES
from wallaby.testing.contract.values import ValuesContract
from wallaby.testing.history import row_table
from wallaby.testing.sink_contract import SinkContract

_REFUSED = (("numeric(10,2)", "NaN"), ("date", "4713-01-01 BC"))
_HELD = (("date", "infinity"), ("timestamp", "-infinity"), ("timestamptz", "infinity"), ("time", "24:00:00"))


class EngineHooks(SinkHooks):
    """How any of them is read and dropped."""

    def _connection(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A user's own, with the destination in use."""
        raise NotImplementedError

    def read_table(self, schema: TableSchema) -> pa.Table:
        with self._connection() as connection:
            return mirror_rows(connection, schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        with self._connection() as connection:
            return log_rows(connection, schema)

    def read_history(self, schema: TableSchema) -> pa.Table:
        with self._connection() as connection:
            return history_rows(connection, schema, VERSIONS)

    def crash(self, sink: Sink) -> None:
        assert isinstance(sink, EngineSink)
        sink._session._discard()


class EngineContract(EngineHooks, SinkContract):
    """The whole contract."""

    modes = tuple(WriteMode)
    seeds = 1

    def make_misfit(self, schema: TableSchema) -> bool:
        columns = [f'"{column.name}" {"BIGINT" if column.is_key else "BOOLEAN[]"}' for column in schema.columns]
        with self._connection() as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS public; CREATE TABLE {schema.name} ({', '.join(columns)})")
        return True

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        with self._connection() as connection:
            connection.register("theirs", rows)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS public; CREATE TABLE {schema.name} AS FROM theirs")
        return True

    def refused_shape(self, schema: TableSchema) -> TableSchema:
        last = schema.columns[-1]
        changed = Column(last.name, table("public.t", {"d": "date"}).columns[0].type, attnum=last.attnum)
        return TableSchema(schema.oid, schema.name, (*schema.columns[:-1], changed), schema.identity, version=2)

    @pytest.mark.must_not_fail(22)
    def test_names_of_every_kind_arrive_as_they_are(self, mode: WriteMode) -> None:
        """As the contract's, but without columns that differ by case only: the engine takes them for one."""
        schemas = [table(TableName("public", name), {"id": "int8", name: "text"}, key=["id"]) for name in AWKWARD_NAMES]
        steps = [(schema, insert(number, "")) for number, schema in enumerate(schemas)]
        steps += [(schema, update(number, "new")) for number, schema in enumerate(schemas)]
        [window] = windows_of(steps)
        self.start(mode, schemas).apply(window)
        for number, schema in enumerate(schemas):
            self.assert_content(schema, mode, row_table(schema, [(number, "new")]))

    @pytest.mark.must_not_fail(22)
    def test_names_that_differ_by_case_only_are_refused(self, mode: WriteMode) -> None:
        columns = table("public.a", {"ID": "int8", "id": "text"}, key=["ID"])
        one, other = (table(TableName("public", name), {"id": "int8"}, key=["id"]) for name in ("Orders", "orders"))
        process = self.start(mode, [one])
        assert "name-collision" in str(raised(Refused, lambda: process.sink.ensure_table(columns)))
        assert "name-collision" in str(raised(Refused, lambda: process.sink.ensure_table(other)))
        assert [finding.code for finding in process.sink.check((one, other, columns))] == ["name-collision"] * 2

    @pytest.mark.must_not_fail(12)
    @pytest.mark.parametrize(("word", "text"), [*_REFUSED, *_HELD])
    def test_values_no_arrow_type_holds_are_kept_exactly_or_refused(
        self, mode: WriteMode, word: str, text: str
    ) -> None:
        """The engine has infinities of dates and times, so those are kept though the sink claims nothing."""
        if (word, text) in _REFUSED:
            ValuesContract.test_values_no_arrow_type_holds_are_kept_exactly_or_refused(self, mode, word, text)
            return
        schema = table("public.odd", {"id": "int8", "note": "text", "value": word}, key=["id"])
        rows = [(1, "ordinary", None), (2, "odd", Outlier(text))]
        process = self.start(mode, [schema])
        for window in windows_of([(schema, insert(*row)) for row in rows], [(schema, update(*rows[1]))]):
            process.apply(window)
        self.assert_content(schema, mode, row_table(schema, rows))
