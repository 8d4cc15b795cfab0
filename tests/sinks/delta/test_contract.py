"""The sink contract over a directory of Delta tables, read back by the library and by DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.delta import FACTORY
from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_history, read_log, read_mirror
from sinks.delta.store import encode_name
from wallaby.errors import Refused
from wallaby.schema import Column, TableName, TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import Outlier, insert, table, update
from wallaby.testing.contract.commits import CrashContract, RaceContract
from wallaby.testing.contract.hooks import SinkHooks, raised, windows_of
from wallaby.testing.contract.tables import AWKWARD_NAMES
from wallaby.testing.contract.values import ValuesContract
from wallaby.testing.history import row_table
from wallaby.testing.sink_contract import SinkContract


class DeltaHooks(SinkHooks):
    """A directory of Delta tables."""

    seeds = 1
    deletion_vectors: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "lake"
        self.path.mkdir()
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def options(self, mode: WriteMode) -> dict[str, str]:
        given = {"path": str(self.path), "write_mode": mode.value}
        return given | ({"deletion_vectors": "true"} if self.deletion_vectors else {})

    def make_sink(self, *, mode: WriteMode) -> Sink:
        self.sinks.append(FACTORY.create(self.options(mode), destination="target"))
        return self.sinks[-1]

    def read_table(self, schema: TableSchema) -> pa.Table:
        return read_mirror(DeltaOptions.parse(self.options(WriteMode.MIRROR)), schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(DeltaOptions.parse(self.options(WriteMode.APPEND)), schema)

    def read_history(self, schema: TableSchema) -> pa.Table:
        return read_history(DeltaOptions.parse(self.options(WriteMode.HISTORY)), schema)

    def uri(self, schema: TableSchema) -> str:
        return str(self.path / encode_name(schema.name.schema) / encode_name(schema.name.name))

    def make_misfit(self, schema: TableSchema) -> bool:
        types = [pa.int64() if column.is_key else pa.list_(pa.bool_()) for column in schema.columns]
        names = [column.name for column in schema.columns]
        DeltaTable.create(self.uri(schema), pa.schema(list(zip(names, types, strict=True))))
        return True

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        write_deltalake(self.uri(schema), rows)
        return True

    def refused_shape(self, schema: TableSchema) -> TableSchema:
        last = schema.columns[-1]
        changed = Column(last.name, table("public.t", {"d": "date"}).columns[0].type, attnum=last.attnum)
        return TableSchema(schema.oid, schema.name, (*schema.columns[:-1], changed), schema.identity, version=2)


class TestDeltaContract(DeltaHooks, SinkContract):
    modes = tuple(WriteMode)

    @pytest.mark.must_not_fail(22)
    def test_names_of_every_kind_arrive_as_they_are(self, mode: WriteMode) -> None:
        """As the contract's, but without columns that differ by case only: Delta takes them for one."""
        schemas = [table(TableName("public", name), {"id": "int8", name: "text"}, key=["id"]) for name in AWKWARD_NAMES]
        schemas.append(table(TableName('Other "schema"', "orders"), {"ID": "int8", "note": "text"}, key=["ID"]))
        steps = [(schema, insert(number, "")) for number, schema in enumerate(schemas)]
        steps += [(schema, update(number, "new")) for number, schema in enumerate(schemas)]
        self.start(mode, schemas).apply(windows_of(steps)[0])
        for number, schema in enumerate(schemas):
            self.assert_content(schema, mode, row_table(schema, [(number, "new")]))

    @pytest.mark.must_not_fail(22)
    def test_column_names_that_differ_by_case_only_are_refused(self, mode: WriteMode) -> None:
        columns = table("public.a", {"ID": "int8", "id": "text"}, key=["ID"])
        process = self.start(mode)
        assert "name-collision" in str(raised(Refused, lambda: process.sink.ensure_table(columns)))
        assert [finding.code for finding in process.sink.check((columns,))] == ["name-collision"]

    @pytest.mark.must_not_fail(12)
    @pytest.mark.parametrize(
        ("word", "text"),
        [
            ("numeric(10,2)", "NaN"),
            ("numeric(60,2)", "NaN"),
            ("date", "infinity"),
            ("timestamptz", "infinity"),
            ("time", "24:00:00"),
        ],
    )
    def test_values_no_arrow_type_holds_are_kept_exactly_or_refused(
        self, mode: WriteMode, word: str, text: str
    ) -> None:
        """What is text in Delta holds PostgreSQL's text of any value, though the sink claims nothing."""
        if word not in ("time", "numeric(60,2)"):
            ValuesContract.test_values_no_arrow_type_holds_are_kept_exactly_or_refused(self, mode, word, text)
            return
        schema = table("public.odd", {"id": "int8", "note": "text", "value": word}, key=["id"])
        process = self.start(mode, [schema])
        for window in windows_of(
            [(schema, insert(1, "ordinary", None)), (schema, insert(2, "odd", Outlier(text)))],
            [(schema, update(2, "odd", Outlier(text)))],
        ):
            process.apply(window)
        expected = row_table(schema, [(1, "ordinary", None), (2, "odd", Outlier(text))])
        self.assert_content(schema, mode, expected)


class TestDeletionVectors(DeltaHooks, CrashContract, RaceContract):
    """What commits of our own could get wrong; the rest is in `TestDeletionVectorsAtLength`."""

    modes = (WriteMode.MIRROR,)
    deletion_vectors = True


@pytest.mark.long
class TestDeletionVectorsAtLength(TestDeltaContract):
    modes = (WriteMode.MIRROR,)
    deletion_vectors = True

    def test_the_modes_claimed_are_the_modes_tested(self, mode: WriteMode) -> None:
        """Logs and histories have no marked rows; they are tested above."""
        assert mode in self.make_sink(mode=mode).capabilities.modes

    def test_a_mode_that_is_not_claimed_is_refused(self) -> None:
        """None is refused."""
