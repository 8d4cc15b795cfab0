"""Values of every built-in type through a real PostgreSQL, in binary, as text and by COPY, against its own word."""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pytest

from tests.oracle.texts import texts
from tests.poison import under_every_poison, written
from tests.wallaby.pgtypes.values import SCALARS, TEXT_ONLY, TypeCase
from wallaby.errors import DecodeError
from wallaby.lsn import Lsn
from wallaby.pgoutput.copy_decoder import CopyDecoder, copy_select_expression
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.pgoutput.relations import Relation
from wallaby.pgtypes.types import arrow_schema, builtin_type, change_schema, has_binary_kernel
from wallaby.postgres.embedded import EmbeddedServer
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.testing.pgoutput_writer import frame, frames, xlog
from wallaby.testing.postgres import scratch_database

STYLES = (
    "-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c bytea_output=hex -c TimeZone=UTC -c extra_float_digits=3 "
    "-c search_path=public"
)


class Capture:
    """Every test value in a table per type, decoded in each of the three ways."""

    def __init__(self, connection: psycopg.Connection[Any], major: int) -> None:
        self.connection = connection
        found = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
        self.extensions = {"", *(name for (name,) in found)}
        self.scalars = [case for case in SCALARS if case.since <= major and case.extension in self.extensions]
        self._make_types()
        for case in (*self.scalars, *TEXT_ONLY):
            connection.execute(f"CREATE TABLE {case.table} (id int4 PRIMARY KEY, v {case.sql})")
            if case.has_array:
                connection.execute(f"CREATE TABLE {case.table}_array (id int4 PRIMARY KEY, v {case.sql}[])")
        arrays = [f"{case.table}_array" for case in self.scalars if case.has_array]
        tables = ", ".join([case.table for case in self.scalars] + arrays)
        connection.execute(f"CREATE PUBLICATION binaries FOR TABLE {tables}")
        connection.execute(f"CREATE PUBLICATION texts FOR TABLE {', '.join(case.table for case in TEXT_ONLY)}")
        connection.execute("SELECT pg_create_logical_replication_slot('round_trip', 'pgoutput')")
        for case in (*self.scalars, *TEXT_ONLY):
            self._fill(case)
        self.schemas: dict[str, TableSchema] = {}
        self.raw: dict[str, npt.NDArray[np.uint8]] = {}
        """The frames of each stream, by its publications, and of each copy, by its table."""
        self.binary = self._stream("binaries", is_binary=True)
        self.text = self._stream("binaries,texts", is_binary=False)
        self.copied = {name: self._copy(schema) for name, schema in self.schemas.items()}

    def _make_types(self) -> None:
        for statement in (
            "CREATE EXTENSION citext",
            "CREATE EXTENSION ltree",
            "CREATE SCHEMA ext",
            "CREATE EXTENSION hstore SCHEMA ext",
            "CREATE DOMAIN tags AS ext.hstore",
            "CREATE TYPE hstore",
            "CREATE FUNCTION word_in(cstring) RETURNS hstore AS 'textin' LANGUAGE internal IMMUTABLE STRICT",
            "CREATE FUNCTION word_out(hstore) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT",
            "CREATE TYPE hstore (INPUT = word_in, OUTPUT = word_out, LIKE = text)",
            "CREATE TYPE mood AS ENUM ('sad', 'very happy', 'it is \"so\"')",
            "CREATE DOMAIN positive AS int4 CHECK (VALUE > 0)",
            "CREATE DOMAIN price AS numeric(10, 2)",
            "CREATE DOMAIN span AS int4range",
            "CREATE DOMAIN place AS point",
            "CREATE TYPE pair AS (a int4, b text)",
            "CREATE TYPE floatrange AS RANGE (subtype = float8)",
        ):
            self.connection.execute(statement.encode())
        for extension in {case.extension for case in self.scalars} - {""}:
            self.connection.execute(f"CREATE EXTENSION {extension}".encode())

    def _fill(self, case: TypeCase) -> None:
        rows = [*case.values, *case.outliers, None]
        insert = (
            f"INSERT INTO {case.table} SELECT ordinality, u::text::{case.sql} FROM unnest(%s::text[]) WITH ORDINALITY u"
        )
        self.connection.execute(insert.replace("u::text", "u.u").encode(), [[_literal(row) for row in rows]])
        if case.has_array:
            elements = f"ARRAY(SELECT v FROM {case.table} WHERE id <= {len(case.values)} ORDER BY id)"
            one, last = f"({elements})[1]", f"({elements})[{len(case.values)}]"
            empty = f"ARRAY[]::{case.sql}[]"
            for number, array in enumerate(
                (
                    f"array_append({elements}, NULL)",
                    empty,
                    f"ARRAY[[{one}, {last}, NULL], [{last}, {one}, {one}]]",
                    f"('[0:1]=' || ARRAY[{last}, {one}]::text)::{case.sql}[]",
                    f"ARRAY(SELECT v FROM {case.table} ORDER BY id)",
                    "NULL",
                )
            ):
                self.connection.execute(f"INSERT INTO {case.table}_array VALUES ({number}, {array})".encode())

    def _stream(self, publications: str, *, is_binary: bool) -> dict[str, pa.RecordBatch]:
        rows = self.connection.execute(
            b"SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes('round_trip', NULL, NULL, "
            b"'proto_version', '1', 'publication_names', %s, 'binary', %s)",
            [publications, str(is_binary).lower()],
        ).fetchall()
        data = frames(xlog(message, Lsn.parse(lsn)) for lsn, message in rows)
        self.raw[publications] = data
        batches: dict[str, pa.RecordBatch] = {}
        for schema, batch in self.decode_stream(data):
            batch.validate(full=True)
            assert batch.schema.equals(change_schema(schema), check_metadata=True)
            assert schema.name.name not in batches
            batches[schema.name.name] = batch
        return batches

    def decode_stream(self, data: npt.NDArray[np.uint8]) -> Iterator[tuple[TableSchema, pa.RecordBatch]]:
        """The batches of frames of the stream."""
        consumed, events = Decoder(self._resolve).feed(data, 0, len(data))
        assert consumed == len(data)
        for event in events:
            assert isinstance(event, Segment), event
            yield from event.parts

    def _copy(self, schema: TableSchema) -> pa.RecordBatch:
        columns = ", ".join(copy_select_expression(column) for column in schema.columns)
        query = f"COPY (SELECT {columns} FROM {schema.name} ORDER BY id) TO STDOUT (FORMAT binary)"
        with self.connection.cursor() as cursor, cursor.copy(query.encode()) as copy:
            data = np.frombuffer(b"".join(frame(bytes(payload)) for payload in copy), np.uint8)
        self.raw[schema.name.name] = data
        batch = self.decode_copy(schema, data)
        batch.validate(full=True)
        return batch

    def decode_copy(self, schema: TableSchema, data: npt.NDArray[np.uint8]) -> pa.RecordBatch:
        """The batch of the frames of a COPY."""
        decoder = CopyDecoder(schema, snapshot_lsn=Lsn(77), taken_at_us=5)
        consumed, batch = decoder.feed(data, 0, len(data))
        assert consumed == len(data)
        assert decoder.is_finished
        assert batch is not None
        return batch

    def _resolve(self, relation: Relation) -> TableSchema:
        columns = tuple(
            Column(column.name, self._type(column.type_oid), column.typmod, column.is_identity)
            for column in relation.columns
        )
        name = TableName(relation.schema, relation.name)
        schema = TableSchema(relation.oid, name, columns, ReplicaIdentity(relation.identity))
        self.schemas[relation.name] = schema
        return schema

    def _type(self, oid: int) -> PgType:
        found = builtin_type(oid)
        if found is not None:
            return found
        row = self.connection.execute(
            b"SELECT typname, typtype, typelem, typbasetype, typtypmod, typcategory, (SELECT extname FROM pg_extension "
            b"JOIN pg_depend ON refobjid = pg_extension.oid WHERE classid = 'pg_type'::regclass "
            b"AND objid = pg_type.oid AND deptype = 'e') FROM pg_type WHERE oid = %s",
            [oid],
        ).fetchone()
        assert row is not None
        name, kind, element, base, typmod, category, extension = row
        if category == "A":
            return PgType(oid, name, "public", TypeKind.ARRAY, element=self._type(int(element)))
        match kind:
            case "e":
                return PgType(oid, name, "public", TypeKind.ENUM)
            case "d":
                return PgType(oid, name, "public", TypeKind.DOMAIN, base=self._type(int(base)), base_typmod=typmod)
            case "c":
                return PgType(oid, name, "public", TypeKind.COMPOSITE)
            case "r":
                return PgType(oid, name, "public", TypeKind.RANGE)
        return PgType(oid, name, "public", extension=extension or "")


def _literal(value: str | None) -> str | None:
    return value.replace("it''s", "it's") if value is not None else None


@pytest.fixture(scope="module")
def capture(postgres_server: EmbeddedServer, postgres_major: int) -> Iterator[Capture]:
    with scratch_database(postgres_server) as database, database.connect(options=STYLES) as connection:
        made = Capture(connection, postgres_major)
        yield made
        connection.execute("SELECT pg_drop_replication_slot('round_trip')")


ALL = [pytest.param(case, id=case.sql) for case in SCALARS]


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("form", ["binary", "text", "copied"])
@pytest.mark.parametrize("case", ALL)
def test_values_arrive_as_the_server_has_them(capture: Capture, case: TypeCase, form: str) -> None:
    if case not in capture.scalars:
        pytest.skip("the server is too old for the type, or lacks its extension")
    batch: pa.RecordBatch = getattr(capture, form)[case.table]
    cells = batch.column("after").field("v")
    probe = case.probe if case.probe != "v" or case.sql not in ("citext", "name", '"char"') else "v::text"
    expected = capture.connection.execute(
        f"SELECT {probe} FROM {case.table} WHERE id <= {len(case.values)} ORDER BY id".encode()
    ).fetchall()
    assert batch.num_rows == len(case.values) + len(case.outliers) + 1
    for index, (value,) in enumerate(expected):
        assert _canonical(cells[index]) == _canonical_server(value, cells.type), (case.sql, case.values[index][:80])
    assert cells.null_count == len(case.outliers) + 1


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("form", ["binary", "text", "copied"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.sql) for case in SCALARS if case.outliers])
def test_what_arrow_cannot_hold_travels_as_the_servers_own_text(capture: Capture, case: TypeCase, form: str) -> None:
    if case not in capture.scalars:
        pytest.skip("the server is too old for the type, or lacks its extension")
    batch: pa.RecordBatch = getattr(capture, form)[case.table]
    expected = dict(
        capture.connection.execute(
            f"SELECT id - 1, v::text FROM {case.table} WHERE id > {len(case.values)} AND v IS NOT NULL".encode()
        ).fetchall()
    )
    found = batch.column("outliers").to_pylist()
    assert {row: [entry] for row, entry in enumerate(found) if entry} == {
        row: [[{"column": 1, "text": text}]] for row, text in expected.items()
    }


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("form", ["binary", "text", "copied"])
@pytest.mark.parametrize("case", ALL)
def test_arrays_arrive_as_lists_and_shapes_arrow_lacks_as_text(capture: Capture, case: TypeCase, form: str) -> None:
    if case not in capture.scalars:
        pytest.skip("the server is too old for the type, or lacks its extension")
    if not case.has_array:
        pytest.skip("its arrays are text")
    scalars: pa.RecordBatch = getattr(capture, form)[case.table]
    expected = [_canonical(cell) for cell in scalars.column("after").field("v")]
    batch: pa.RecordBatch = getattr(capture, form)[f"{case.table}_array"]
    lists = batch.column("after").field("v")
    values = [_canonical(cell) for cell in lists[0].values]
    assert values == [*expected[: len(case.values)], None]
    assert lists[1].as_py() == []
    printed = dict(capture.connection.execute(f"SELECT id, v::text FROM {case.table}_array".encode()).fetchall())
    found = {row: entry[0]["text"] for row, entry in enumerate(batch.column("outliers").to_pylist()) if entry}
    lost = {2, 3, 4} if case.outliers else {2, 3}
    assert found == {row: printed[row] for row in lost}
    assert [lists[row].is_valid for row in range(6)] == [True, True, False, False, not case.outliers, False]


@pytest.mark.parametrize("form", ["text", "copied"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.sql) for case in TEXT_ONLY])
def test_other_types_travel_as_the_servers_own_text(capture: Capture, case: TypeCase, form: str) -> None:
    cells = getattr(capture, form)[case.table].column("after").field("v")
    expected = capture.connection.execute(
        f"SELECT CASE WHEN num_nulls(v) = 0 THEN format('%s', v) END FROM {case.table} ORDER BY id".encode()
    ).fetchall()
    assert [(text,) for text in cells.to_pylist()] == expected
    assert not has_binary_kernel(capture.schemas[case.table].columns[1].type)


def test_a_binary_value_of_a_type_without_gather_is_refused(capture: Capture) -> None:
    with pytest.raises(DecodeError, match="no binary form"):
        capture._stream("texts", is_binary=True)


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(("form", "publications"), [("binary", "binaries"), ("text", "binaries,texts")])
def test_nothing_of_a_streamed_batch_is_what_memory_happened_to_hold(
    capture: Capture, form: str, publications: str
) -> None:
    """Every type, every value, and arrays of them; also what lies under the nulls."""
    data = capture.raw[publications]
    first, *others = under_every_poison(lambda: written(batch for _, batch in capture.decode_stream(data)))
    assert len(first) == len(getattr(capture, form))
    assert [found == first for found in others] == [True] * len(others)


@pytest.mark.must_not_fail(12)
def test_nothing_of_a_copied_batch_is_what_memory_happened_to_hold(capture: Capture) -> None:
    def decode() -> list[bytes]:
        return written(capture.decode_copy(schema, capture.raw[name]) for name, schema in capture.schemas.items())

    first, *others = under_every_poison(decode)
    assert len(first) == len(capture.copied)
    assert [found == first for found in others] == [True] * len(others)


def test_copied_rows_say_where_they_come_from(capture: Capture) -> None:
    batch = capture.copied["t_int4"]
    assert set(batch.column("op").to_pylist()) == {ord("r")}
    assert set(batch.column("commit_lsn").to_pylist()) == {77}
    assert batch.column("ordinal").to_pylist() == list(range(batch.num_rows))
    assert batch.column("before").null_count == batch.num_rows
    assert batch.column("committed_at").cast(pa.int64()).to_pylist() == [5] * batch.num_rows


def test_rows_have_the_tables_schema(capture: Capture) -> None:
    for name, batch in capture.text.items():
        assert pa.schema(list(batch.schema.field("after").type)).equals(arrow_schema(capture.schemas[name]))


def _canonical(cell: pa.Scalar) -> object:
    """An Arrow value as something that compares exactly."""
    if not cell.is_valid:
        return None
    if pa.types.is_floating(cell.type):
        return _float(cell.as_py())
    if pa.types.is_date32(cell.type):
        return cell.cast(pa.int32()).as_py()
    if pa.types.is_time(cell.type) or pa.types.is_timestamp(cell.type):
        return cell.cast(pa.int64()).as_py()
    if pa.types.is_interval(cell.type):
        return tuple(cell.as_py())
    if pa.types.is_map(cell.type):
        return texts(pa.array([cell.as_py()], cell.type))[0]
    if pa.types.is_list(cell.type):
        return [_canonical(value) for value in cell.values]
    return cell.as_py()


def _canonical_server(value: Any, arrow: pa.DataType) -> object:
    """The server's value, as psycopg or SQL gave it, in the same form."""
    if pa.types.is_float32(arrow):
        return _float(struct.unpack("f", struct.pack("f", value))[0])
    if pa.types.is_floating(arrow):
        return _float(value)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if pa.types.is_list(arrow):
        return [_canonical_server(part, arrow.value_type) for part in value]
    if isinstance(value, list):
        return tuple(int(part) for part in value)
    if isinstance(value, Decimal) and not pa.types.is_decimal(arrow):
        return int(value)
    return value


def _float(value: float) -> object:
    return "NaN" if math.isnan(value) else (value, math.copysign(1, value))
