"""The sink contract over a lake with its catalog in a DuckDB file; crashes and races over SQLite and PostgreSQL too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from sinks.duckdb.reader import history_rows, log_rows, mirror_rows
from sinks.ducklake.config import CatalogKind
from sinks.ducklake.sink import DuckLakeSink
from tests.sinks.ducklake.conftest import lake_options, new_sink, reading
from wallaby.errors import Refused
from wallaby.schema import Column, TableName, TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import Outlier, insert, table, update
from wallaby.testing.contract.commits import CrashContract, RaceContract
from wallaby.testing.contract.hooks import VERSIONS, SinkHooks, raised, windows_of
from wallaby.testing.contract.tables import AWKWARD_NAMES
from wallaby.testing.contract.values import ValuesContract
from wallaby.testing.history import row_table
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.sink_contract import SinkContract

_REFUSED = (("numeric(10,2)", "NaN"), ("date", "4713-01-01 BC"))
_HELD = (("date", "infinity"), ("timestamp", "-infinity"), ("timestamptz", "infinity"), ("time", "24:00:00"))


class _Lake(SinkHooks):
    kind: ClassVar[CatalogKind]

    @pytest.fixture(autouse=True)
    def lake(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
        database: ScratchDatabase | None = None
        if self.kind is CatalogKind.POSTGRES:
            database = request.getfixturevalue("target_database")
        self.options = lake_options(tmp_path, self.kind, database)
        self.sinks: list[DuckLakeSink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        sink = new_sink({**self.options, "write_mode": mode.value, "merge_every": 3}, destination="target")
        self.sinks.append(sink)
        return sink

    def read_table(self, schema: TableSchema) -> pa.Table:
        with reading(self.options) as connection:
            return mirror_rows(connection, schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        with reading(self.options) as connection:
            return log_rows(connection, schema)

    def read_history(self, schema: TableSchema) -> pa.Table:
        with reading(self.options) as connection:
            return history_rows(connection, schema, VERSIONS)

    def crash(self, sink: Sink) -> None:
        assert isinstance(sink, DuckLakeSink)
        sink._session._discard()


@pytest.mark.long
class TestDuckLakeContract(_Lake, SinkContract):
    kind = CatalogKind.DUCKDB
    modes = tuple(WriteMode)
    seeds = 1
    bulk_rows = 20_000

    def make_misfit(self, schema: TableSchema) -> bool:
        columns = [f'"{column.name}" {"BIGINT" if column.is_key else "BOOLEAN[]"}' for column in schema.columns]
        self._execute(f"CREATE SCHEMA IF NOT EXISTS public; CREATE TABLE {schema.name} ({', '.join(columns)})")
        return True

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        with reading(self.options) as connection:
            connection.register("theirs", rows)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS public; CREATE TABLE {schema.name} AS FROM theirs")
        return True

    def _execute(self, statements: str) -> None:
        with reading(self.options) as connection:
            connection.execute(statements)

    def refused_shape(self, schema: TableSchema) -> TableSchema:
        last = schema.columns[-1]
        changed = Column(last.name, table("public.t", {"d": "date"}).columns[0].type, attnum=last.attnum)
        return TableSchema(schema.oid, schema.name, (*schema.columns[:-1], changed), schema.identity, version=2)

    @pytest.mark.must_not_fail(22)
    def test_names_of_every_kind_arrive_as_they_are(self, mode: WriteMode) -> None:
        """As the contract's, but without columns that differ by case only: DuckLake takes them for one."""
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
        """DuckLake has infinities of dates and times, so those are kept though the sink claims nothing."""
        if (word, text) in _REFUSED:
            ValuesContract.test_values_no_arrow_type_holds_are_kept_exactly_or_refused(self, mode, word, text)
            return
        schema = table("public.odd", {"id": "int8", "note": "text", "value": word}, key=["id"])
        rows = [(1, "ordinary", None), (2, "odd", Outlier(text))]
        process = self.start(mode, [schema])
        for window in windows_of([(schema, insert(*row)) for row in rows], [(schema, update(*rows[1]))]):
            process.apply(window)
        self.assert_content(schema, mode, row_table(schema, rows))


@pytest.mark.long
class TestDuckLakeOnSQLite(_Lake, CrashContract, RaceContract):
    kind = CatalogKind.SQLITE
    # A commit takes a tenth of a second: left to the form on a DuckDB file.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]


class TestDuckLakeOnPostgres(_Lake, CrashContract, RaceContract):
    kind = CatalogKind.POSTGRES
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]  # as above
