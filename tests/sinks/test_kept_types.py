"""Every row of every destination's table of types: values of the type arrive unaltered, by content hash."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinks.type_table import DESTINATIONS
from tests.sinks.lane import TestLane
from tests.sinks.place import Place, new_place
from wallaby.content import canonical_hash
from wallaby.kept_types import TypeRow, type_rows
from wallaby.pgtypes.layout import Family
from wallaby.schema import Column, TableName, TableSchema
from wallaby.testing.changes import insert, table
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId

LANE = LaneId("kept", "target")
_TEXTS = {
    "tid": ("(1,2)",),
    "xid": ("0", "4294967295"),
    "cid": ("7",),
    "json": ('{"a" : 1}',),
    "jsonb": ('{"a": 1.0}',),
    "xml": ("<a/>",),
    "cidr": ("10.0.0.0/8", "::/0"),
    "inet": ("10.0.0.1/8", "fe80::1"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "timetz": ("12:00:00+02", "24:00:00-15:59"),
    "bit": ("1",),
    "varbit": ("", "101"),
    "numeric": ("1.50", "-0.00000000000000000000000000000000000000001", "NaN"),
    "pg_lsn": ("0/16", "FFFFFFFF/FFFFFFFF"),
    "tsvector": ("'a':1 'b c':2A",),
    "tsquery": ("'a' & 'b'",),
    "int4range": ("empty", "[1,5)"),
    "int8range": ("(,)",),
    "numrange": ("[1.50,2)",),
    "tsrange": ('["2024-01-01 00:00:00",)',),
    "tstzrange": ('["2024-01-01 00:00:00+00",)',),
    "daterange": ("[2024-01-01,2024-01-05)",),
    "int4multirange": ("{}", "{[1,5)}"),
    "int8multirange": ("{[1,5),[7,9)}",),
    "nummultirange": ("{[1.5,2)}",),
    "tsmultirange": ('{["2024-01-01 00:00:00","2024-01-02 00:00:00")}',),
    "tstzmultirange": ('{["2024-01-01 00:00:00+00",)}',),
    "datemultirange": ("{[2024-01-01,2024-01-05)}",),
    "jsonpath": ('$."a"',),
    "xid8": ("18446744073709551615",),
    "int2vector": ("1 2",),
    "oidvector": ("1 2",),
    "point": ("(1,2)",),
    "lseg": ("[(1,2),(3,4)]",),
    "path": ("((1,2),(3,4))",),
    "box": ("(3,4),(1,2)",),
    "polygon": ("((1,2),(3,4))",),
    "line": ("{1,2,3}",),
    "circle": ("<(1,2),3>",),
    "money": ("$1.50",),
    "aclitem": ("=r/postgres",),
    "txid_snapshot": ("10:20:10,14",),
    "pg_snapshot": ("10:20:10,14",),
    "ltree": ("Top.Science",),
    "lquery": ("Top.*",),
    "ltxtquery": ("Europe & Asia",),
    "char": ("x",),
    "sparsevec": ("{1:0.5}/3",),
    "_point": ('{"(1,2)"}',),
    "pair": ('(1,"a b")',),
    "floatrange": ("[1,2)",),
    "cube": ("(1, 2)",),
}
"""PostgreSQL's text of values of the types that are text in Arrow; of any other, any text."""
_VALUES: dict[Family, tuple[Any, ...]] = {
    Family.BOOL: (True, False),
    Family.INT2: (-(2**15), 2**15 - 1),
    Family.INT4: (-(2**31), 2**31 - 1),
    Family.INT8: (-(2**63), 2**63 - 1),
    Family.OID: (0, 2**32 - 1),
    Family.FLOAT4: (-0.0, 1e-45, float("inf"), float("nan")),
    Family.FLOAT8: (-0.0, 5e-324, float("-inf"), float("nan")),
    Family.BYTEA: (b"", bytes(range(256))),
    Family.UUID: (bytes(16), b"\xff" * 16),
    Family.DATE: (dt.date(1, 1, 1), dt.date(9999, 12, 31)),
    Family.TIME: (dt.time(0, 0), dt.time(23, 59, 59, 999_999)),
    Family.TIMESTAMP: (dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)),
    Family.TIMESTAMPTZ: (dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
    Family.INTERVAL: ((14, -3, 4_000_000_000), (0, 0, 1_000)),
    Family.LIST: ([], [1, None, -1]),
    Family.MAP: ([], [("a", "b"), ("c", None)]),
    Family.VECTOR: ([0.5, -1.0],),
    Family.HALF_VECTOR: ([0.5, -1.0],),
    Family.GEOMETRY: (bytes.fromhex("0101000020E6100000000000000000F03F0000000000000040"),),
}
_OWN_TYPES = (
    "CREATE TYPE mood AS ENUM ('x'); CREATE TYPE pair AS (a int, b text);"
    " CREATE TYPE floatrange AS RANGE (subtype = float8)"
)


def extensions(database: ScratchDatabase) -> list[str]:
    """Those of the table that this server has."""
    known = {row.type.extension for row in type_rows()}
    return [name for (name,) in database.fetch("SELECT name FROM pg_available_extensions") if name in known]


def samples(row: TypeRow) -> tuple[Any, ...]:
    layout = row.layout
    if layout.family is Family.DECIMAL:
        largest, least = (Decimal((sign, (9,) * layout.precision, -layout.scale)) for sign in (0, 1))
        return (largest, least, Decimal("0.10"))
    if row.type.name == "numeric" and row.typmod >= 0:
        return ("9" * 75 + ".99", "0.10", "NaN")
    if pa.types.is_string(layout.arrow):
        return _TEXTS.get(row.type.name, ("x",))
    return _VALUES[layout.family]


@pytest.fixture(params=sorted(DESTINATIONS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made = new_place(request.param, tmp_path, request)
    if made.kind == "postgres":
        database = request.getfixturevalue("target_database")
        database.execute(_OWN_TYPES)
        for name in extensions(database):
            database.execute(f"CREATE EXTENSION {name}")
    return made


def arrived(place: Place, schema: TableSchema, rows: list[tuple[Any, ...]]) -> pa.Table:
    """What a user reads after these rows were inserted."""
    TestLane(place.sink(), LANE).apply_all(windows_of([(schema, insert(*row)) for row in rows]))
    return place.read(schema)


@pytest.mark.must_not_fail(13)
def test_values_of_every_type_of_the_table_arrive_unaltered(place: Place, target_database: ScratchDatabase) -> None:
    """One column per row of the table, so that one write and one read tell; nulls fill the shorter columns.

    PostgreSQL without an extension holds its types as others, which the reader below does not know.
    """
    lacking = {row.type.extension for row in type_rows()} - {"", *extensions(target_database)}
    rows = [row for row in type_rows() if place.kind != "postgres" or row.type.extension not in lacking]
    key = table("public.kept", {"id": "int8"}, key=["id"]).columns[0]
    columns = [Column(f"c{i}", row.type, row.typmod, attnum=i + 2) for i, row in enumerate(rows)]
    schema = TableSchema(77, TableName("public", "kept"), (key, *columns))
    values = [samples(row) for row in rows]
    height = max(map(len, values)) + 1
    wanted = [(n, *(given[n] if n < len(given) else None for given in values)) for n in range(height)]
    found, expected = arrived(place, schema, wanted), row_table(schema, wanted)
    for i, row in enumerate(rows):
        hashes = {canonical_hash(rows_of(given, i)) for given in (found, expected)}
        assert len(hashes) == 1, f"{row.name} in {place.kind}: {found[f'c{i}'].to_pylist()}"


def rows_of(rows: pa.Table, number: int) -> pa.Table:
    return rows.select(["id", f"c{number}"])


_MOMENTS = st.datetimes(min_value=dt.datetime(1, 1, 1), max_value=dt.datetime(9999, 12, 31, 23, 59, 59, 999_999))


@pytest.mark.must_not_fail(12)
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_numerics_and_moments_up_to_their_bounds_arrive_unaltered(place: Place, data: st.DataObject) -> None:
    digits = st.integers(-(10**38) + 1, 10**38 - 1)
    rows = [
        (n, Decimal((number < 0, tuple(map(int, str(abs(number)))), -9)), moment, moment.replace(tzinfo=dt.UTC))
        for n, (number, moment) in enumerate(data.draw(st.lists(st.tuples(digits, _MOMENTS), min_size=20, max_size=20)))
    ]
    schema = table(
        TableName("public", f"numbers_{len(place.sinks)}"),
        {"id": "int8", "n": "numeric(38,9)", "t": "timestamp", "z": "timestamptz"},
        key=["id"],
    )
    if place.sinks:
        place.sinks[-1].close()
    found = arrived(place, schema, rows)
    assert canonical_hash(found) == canonical_hash(row_table(schema, rows))
