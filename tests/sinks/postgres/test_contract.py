"""The PostgreSQL destination keeps the whole sink contract."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from sinks.postgres import FACTORY
from sinks.postgres.sink import PostgresSink
from tests.sinks.postgres.conftest import read_rows
from wallaby.schema import TableSchema, quote_identifier
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import table
from wallaby.testing.contract.hooks import VERSIONS
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.sink_contract import SinkContract
from wallaby.transform.append import LOG_FIELDS, OUTLIERS_FIELD
from wallaby.transform.history import version_fields


def qualified(schema: TableSchema) -> str:
    return f"{quote_identifier(schema.name.schema)}.{quote_identifier(schema.name.name)}"


def with_dates_as_text(schema: TableSchema) -> TableSchema:
    """Dates read as text: Python has no years before Christ, in which the contract compares them."""
    text = table("a.b", {"x": "text"}).columns[0].type
    columns = [dataclasses.replace(c, type=text) if c.type.name == "date" else c for c in schema.columns]
    return dataclasses.replace(schema, columns=tuple(columns))


class TestPostgresSink(SinkContract):
    """The contract on PostgreSQL, in every mode."""

    modes = tuple(WriteMode)
    seeds = 2

    @pytest.fixture(autouse=True)
    def destination(self, target_database: ScratchDatabase) -> Any:
        self.database = target_database
        wanted = "name IN ('hstore', 'ltree', 'vector')"
        for (name,) in target_database.fetch(f"SELECT name FROM pg_available_extensions WHERE {wanted}"):
            target_database.execute(f"CREATE EXTENSION {name}")
        self.made: list[PostgresSink] = []
        yield
        for sink in self.made:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> PostgresSink:
        sink = FACTORY.create({"dsn": self.database.dsn, "write_mode": mode}, destination="target")
        self.made.append(sink)
        return sink

    def read_table(self, schema: TableSchema) -> pa.Table:
        return read_rows(self.database, with_dates_as_text(schema))

    def read_log(self, schema: TableSchema) -> pa.Table:
        ordered = f"(SELECT * FROM {qualified(schema)} ORDER BY __commit_lsn, __ordinal, __op, ctid) AS log"
        rows = read_rows(self.database, with_dates_as_text(schema), table=ordered)
        own = self.database.fetch(
            "SELECT __op, (__commit_lsn - '0/0'::pg_lsn)::int8, __ordinal, __xid,"
            f" (extract(epoch from __committed_at) * 1000000)::int8, __unchanged FROM {ordered}"
        )
        columns = [rows.column(i) for i in range(rows.num_columns - 1)] if own else []
        if not own:
            columns = [pa.nulls(0) for _ in schema.columns]
        names = [column.name for column in schema.columns]
        for i, field in enumerate(LOG_FIELDS):
            columns.append(pa.array([row[i] for row in own], field.type))
        outliers = rows.column(rows.num_columns - 1).to_pylist() if own else []
        named = [
            None if cells is None else [{"column": names[c["column"]], "text": c["text"]} for c in cells]
            for cells in outliers
        ]
        columns.append(pa.array(named, OUTLIERS_FIELD.type))
        return pa.table(columns, names=[*names, *(field.name for field in LOG_FIELDS), OUTLIERS_FIELD.name])

    def read_history(self, schema: TableSchema) -> pa.Table:
        ordered = f"(SELECT * FROM {qualified(schema)} ORDER BY ctid) AS versions"
        rows = read_rows(self.database, with_dates_as_text(schema), table=ordered)
        own = self.database.fetch(
            "SELECT (extract(epoch from valid_from) * 1000000)::int8, (extract(epoch from valid_to) * 1000000)::int8,"
            " is_current, opened_by, closed_by, (valid_from_lsn - '0/0'::pg_lsn)::int8, valid_from_ordinal,"
            f" (valid_to_lsn - '0/0'::pg_lsn)::int8, valid_to_ordinal FROM {ordered}"
        )
        for i, field in enumerate(version_fields(VERSIONS)):
            rows = rows.append_column(field, pa.array([row[i] for row in own], field.type))
        return rows

    def crash(self, sink: Sink) -> None:
        assert isinstance(sink, PostgresSink)
        for connection in (sink._connection, *(writer._connection for writer in sink._writers)):
            if connection is not None:
                connection.pgconn.finish()

    def make_misfit(self, schema: TableSchema) -> bool:
        columns = [f"{quote_identifier(c.name)} {'int8' if c.is_key else 'bytea'}" for c in schema.columns]
        self.database.execute(f"CREATE TABLE {qualified(schema)} ({', '.join(columns)})")
        return True

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        other = FACTORY.create({"dsn": self.database.dsn, "state_schema": "scaffold"}, destination="target")
        other.ensure_table(schema)
        other.close()
        self.database.execute("DROP SCHEMA scaffold CASCADE")
        columns = ", ".join(quote_identifier(column.name) for column in schema.columns)
        marks = ", ".join(["%s"] * len(schema.columns))
        with self.database.connect() as connection:
            for row in zip(*(rows.column(i).to_pylist() for i in range(len(schema.columns))), strict=True):
                connection.execute(f"INSERT INTO {qualified(schema)} ({columns}) VALUES ({marks})".encode(), row)
        return True

    def refused_shape(self, schema: TableSchema) -> TableSchema:
        uuid = table("a.b", {"x": "uuid"}).columns[0].type
        changed = dataclasses.replace(schema.columns[-1], type=uuid, typmod=-1)
        return dataclasses.replace(schema, columns=(*schema.columns[:-1], changed), version=schema.version + 1)
