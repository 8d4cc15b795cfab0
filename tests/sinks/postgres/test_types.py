"""Values arrive as PostgreSQL has them: source and target compared as text, type by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.sinks.postgres.conftest import Driver
from wallaby.errors import Refused
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.copy_decoder import CopyDecoder, copy_select_expression
from wallaby.postgres.catalog import Catalog
from wallaby.schema import TableSchema
from wallaby.sink import Severity
from wallaby.testing.changes import part
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import Window

SAMPLES = {
    "bool": ["true", "false"],
    "int2": ["-32768", "32767", "0"],
    "int4": ["-2147483648", "2147483647"],
    "int8": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "float4": ["0.1", "-0", "NaN", "Infinity", "1e-45", "3.4028235e38"],
    "float8": ["0.1", "-0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e308"],
    "text": ["", "a\\b\t\n", "ünï𝄞", "x" * 5000],
    "varchar(5)": ["abcde", ""],
    "char(4)": ["ab", "    "],
    "name": ["pg_class"],
    '"char"': ["a", ""],
    "bytea": ["\\x", "\\x00ff5c27"],
    "json": ['{"a" : 1, "a":2}', '"\\u0000"', "[1,\n2]"],
    "jsonb": ['{"b": 1, "a": [1.50, null]}', '"x"', "1e400"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"],
    "date": ["1970-01-01", "0001-01-01", "4713-01-01 BC", "infinity", "-infinity", "5874897-12-31", "9999-12-31"],
    "time": ["00:00:00", "23:59:59.999999", "24:00:00"],
    "time(2)": ["12:34:56.78"],
    "timetz": ["12:34:56.789+05:30"],
    "timestamp": ["1970-01-01 00:00:00.000001", "0044-03-15 12:00:00 BC", "infinity", "294276-12-31 23:59:59.999999"],
    "timestamptz": ["1999-12-31 23:59:59.999999+00", "-infinity", "infinity", "20000-01-01 00:00+00"],
    "timestamptz(3)": ["2024-02-29 12:00:00.123+00"],
    "interval": ["1 year 2 mons -3 days 04:05:06.000007", "-1 mons", "00:00:00", "178000000 years"],
    "numeric": ["0", "-0.000", "1e-20", "123456789012345678901234567890.123456789", "NaN", "Infinity", "1e100"],
    "numeric(18,2)": ["0", "0.01", "-0.01", "9999999999999999.99", "10000.00", "100000000.10", "NaN"],
    "numeric(38,0)": ["99999999999999999999999999999999999999", "-1", "10000000000000000000"],
    "numeric(38,10)": ["0.0000000001", "-9999999999999999999999999999.9999999999", "123.45"],
    "numeric(76,20)": [
        "12345678901234567890123456789012345678901234567890123456.12345678901234567890",
        "-0.5",
        "10000",
    ],
    "numeric(5,5)": ["0.00001", "0.99999"],
    "numeric(3,-2)": ["99900", "-100"],
    "money": ["12.34"],
    "inet": ["192.168.0.1/24", "::1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(4)": ["1010"],
    "varbit": ["10101", ""],
    "int4range": ["[1,10)", "empty"],
    "tstzrange": ['["2024-01-01 00:00+00",)'],
    "int4multirange": ["{[1,3),[5,7)}"],
    "point": ["(1.5,-2)"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "tsvector": ["'a':1 'b c':2"],
    "xml": ["<a>1</a>"],
    "pg_lsn": ["16/B374D848"],
    "mood": ["sad", "very happy"],
    "positive": ["1", "12345"],
    "pair": ["(1,x)", '(,"a,b")'],
    "int4[]": ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"],
    "int8[]": ["{9223372036854775807}"],
    "text[]": ['{a,"b c",NULL,"NULL",""}'],
    "bool[]": ["{t,f,NULL}"],
    "float8[]": ["{NaN,0.1,-Infinity}"],
    "numeric(10,3)[]": ["{1.500,NULL,-2.000}", "{NaN}"],
    "numeric[]": ["{1e-10,NaN}"],
    "uuid[]": ["{00000000-0000-0000-0000-000000000001}"],
    "timestamptz[]": ['{"2024-01-01 00:00:00+00",NULL}', "{infinity}"],
    "date[]": ["{2024-01-01}"],
    "jsonb[]": ['{"{\\"a\\": 1}",NULL}'],
    "json[]": ['{"{\\"a\\" : 1}"}'],
    "bytea[]": ['{"\\\\x0001"}'],
    "mood[]": ['{sad,"very happy",NULL}'],
    "inet[]": ["{127.0.0.1,NULL}"],
    "varchar(3)[]": ["{abc}"],
    "interval[]": ['{"1 day",NULL}'],
    "int2[]": ["{-1}"],
    "int4range[]": ['{"[1,10)",empty,NULL}'],
    "tsvector[]": ["{\"'a':1 'b c'\"}"],
    "citext": ["MiXeD"],
    "ltree": ["Top.Science", ""],
    "ltree[]": ["{a.b,NULL}"],
    "hstore": ["", '"a"=>"1", "b"=>NULL', r'""=>"", "q\"\\"=>"ü, =>", "NULL"=>"NULL"'],
    "hstore[]": ['{"\\"a\\"=>\\"1\\", \\"b\\"=>NULL",NULL,""}', "{}", '{{"\\"a\\"=>\\"1\\""}}'],
    "tags": ['"x"=>"y z"'],
    "few": ["7"],
    "ints": ["{1,NULL,3}", "{}", "[0:1]={5,6}"],
    "nets": ["{10.0.0.0/8,NULL}"],
}
SINCE_15 = ("numeric(3,-2)",)
EXTENSIONS = ("citext", "ltree", "hstore")
USER_TYPES = (
    *(f"CREATE EXTENSION {name}" for name in EXTENSIONS),
    "CREATE DOMAIN tags AS hstore",
    "CREATE DOMAIN ints AS int4[]",
    "CREATE DOMAIN nets AS inet[]",
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy')",
    "CREATE DOMAIN positive AS int4 CHECK (VALUE > 0)",
    "CREATE DOMAIN few AS positive CHECK (VALUE < 99999)",
    "CREATE TYPE pair AS (a int, b text)",
)
SETTINGS = "SET DateStyle = ISO; SET TimeZone = 'UTC'; SET IntervalStyle = postgres; SET extra_float_digits = 1"


def copied_window(database: ScratchDatabase, name: str, after: Position, upto: Position) -> tuple[TableSchema, Window]:
    """All rows of a published source table, as the initial copy reads them."""
    catalog = Catalog(database.dsn)
    try:
        [schema] = [s for s in catalog.published_tables(["everything"]) if s.name.name == name]
    finally:
        catalog.close()
    columns = ", ".join(map(copy_select_expression, schema.columns))
    query = f'{SETTINGS}; COPY (SELECT {columns} FROM "{name}") TO STDOUT (FORMAT binary)'
    *settings, statement = query.split("; ")
    with database.connect() as connection, connection.cursor() as cursor:
        for setting in settings:
            cursor.execute(setting.encode())
        with cursor.copy(statement.encode()) as copy:
            messages = [len(message).to_bytes(4, "little") + bytes(message) for message in copy]
    data = np.frombuffer(b"".join(messages), np.uint8).copy()
    _, batch = CopyDecoder(schema, snapshot_lsn=Lsn(1), taken_at_us=1_700_000_000_000_000).feed(data, 0, len(data))
    assert batch is not None, f"{name} has rows"
    return schema, Window(after, upto, parts=(part(schema, pa.Table.from_batches([batch])),))


def as_text(database: ScratchDatabase, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    """The table's rows as PostgreSQL prints them, settings fixed."""
    with database.connect() as connection:
        for setting in SETTINGS.split("; "):
            connection.execute(setting.encode())
        values = ", ".join(f'"{column}"::text' for column in columns)
        return connection.execute(f'SELECT {values} FROM "{table}" ORDER BY id'.encode()).fetchall()


def known_samples(database: ScratchDatabase) -> dict[str, list[str]]:
    """Those whose type the server knows."""
    [(version,)] = database.fetch("SELECT current_setting('server_version_num')::int4")
    return {word: values for word, values in SAMPLES.items() if version >= 150_000 or word not in SINCE_15}


def make_source(database: ScratchDatabase) -> list[str]:
    """One table with a column per type; every sample in a row of its own, nulls elsewhere. Returns the columns."""
    samples = known_samples(database)
    columns = [f"c{i}" for i in range(len(samples))]
    typed = ", ".join(f"{column} {word}" for column, word in zip(columns, samples, strict=True))
    database.execute(*USER_TYPES, f"CREATE TABLE everything (id int4 PRIMARY KEY, {typed})")
    depth = max(map(len, samples.values()))
    with database.connect() as connection:
        connection.execute("INSERT INTO everything (id) VALUES (-1)")
        for row in range(depth):
            cells = {c: v[row] for c, v in zip(columns, samples.values(), strict=True) if row < len(v)}
            marks = ", ".join(["%s"] * len(cells))
            connection.execute(
                f"INSERT INTO everything (id, {', '.join(cells)}) VALUES ({row}, {marks})".encode(),
                list(cells.values()),
            )
    database.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    return ["id", *columns]


@pytest.mark.must_not_fail(12, 13)
@pytest.mark.parametrize("small_rows_max", [2000, 0], ids=["pipeline", "staging"])
@pytest.mark.parametrize("has_types", [True, False], ids=["user types exist", "user types missing"])
def test_every_type_arrives_as_the_source_prints_it(
    small_rows_max: int,
    has_types: bool,
    drive: Callable[..., Driver],
    database: ScratchDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sinks.postgres.writer._SMALL_ROWS_MAX", small_rows_max)
    columns = make_source(database)
    driver = drive()
    if has_types:
        driver.database.execute(*USER_TYPES)
    _, window = copied_window(database, "everything", Position(Lsn(0), 0), Position(Lsn(0), 1))
    driver.apply(window)
    again = Window(window.upto, Position(Lsn(0), 2), parts=window.parts)
    driver.apply(again)
    expected = as_text(database, "everything", columns)
    found = as_text(driver.database, "everything", columns)
    for i, word in enumerate(["id", *known_samples(database)]):
        assert [row[i] for row in found] == [row[i] for row in expected], word


def test_created_columns_have_the_source_types(drive: Callable[..., Driver], database: ScratchDatabase) -> None:
    make_source(database)
    driver = drive()
    driver.database.execute(*USER_TYPES)
    schema, _ = copied_window(database, "everything", Position(Lsn(0), 0), Position(Lsn(0), 1))
    driver.sink.ensure_table(schema)
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'everything'::regclass AND attnum > 0 ORDER BY attnum"
    )
    bases = {"positive": "integer", "tags": "hstore", "few": "integer", "ints": "integer[]", "nets": "inet[]"}
    expected = [(name, bases.get(kind, kind)) for name, kind in database.fetch(query)]
    assert driver.database.fetch(query) == expected
    driver.sink.ensure_table(schema)


@pytest.mark.must_not_fail(13)
def test_a_large_value_passes_both_ways(drive: Callable[..., Driver], database: ScratchDatabase) -> None:
    database.execute(
        "CREATE TABLE big (id int4 PRIMARY KEY, t text, b bytea)",
        "INSERT INTO big SELECT 1, repeat('ab', 10000000), decode(repeat('00ff', 5000000), 'hex')",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    )
    driver = drive()
    _, window = copied_window(database, "big", Position(Lsn(0), 0), Position(Lsn(0), 1))
    driver.apply(window)
    query = "SELECT id, md5(t), md5(b), length(t), length(b) FROM big"
    assert driver.database.fetch(query) == database.fetch(query)


def make_table(database: ScratchDatabase, *statements: str) -> TableSchema:
    """The published table ``everything`` these statements make."""
    database.execute(*statements, "CREATE PUBLICATION everything FOR TABLE everything")
    catalog = Catalog(database.dsn)
    try:
        [schema] = catalog.published_tables(["everything"])
    finally:
        catalog.close()
    return schema


def columns_of(database: ScratchDatabase) -> dict[str, str]:
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'everything'::regclass AND attnum > 0 ORDER BY attnum"
    )
    return dict(database.fetch(query))


def require(database: ScratchDatabase, extension: str) -> None:
    if not database.fetch(f"SELECT FROM pg_available_extensions WHERE name = '{extension}'"):
        pytest.skip(f"this server has no extension {extension}")


TAGGED = "CREATE TABLE everything (id int4 PRIMARY KEY, tags hstore, path ltree)"


def test_an_extension_may_live_in_another_schema_here(drive: Callable[..., Driver], database: ScratchDatabase) -> None:
    schema = make_table(database, "CREATE EXTENSION hstore", "CREATE EXTENSION ltree", TAGGED)
    driver = drive()
    driver.database.execute(
        'CREATE SCHEMA "Ext."',
        'CREATE EXTENSION hstore SCHEMA "Ext."',
        'CREATE EXTENSION ltree SCHEMA "Ext."',
        "CREATE DOMAIN hstore AS int4",
    )
    assert driver.sink.check((schema,)) == []
    driver.sink.ensure_table(schema)
    found = {"id": "integer", "tags": '"Ext.".hstore', "path": '"Ext.".ltree'}
    assert columns_of(driver.database) == found
    driver.sink.ensure_table(schema)
    assert driver.sink.check((schema,)) == []


def test_a_missing_extension_is_found_and_stood_in_for(drive: Callable[..., Driver], database: ScratchDatabase) -> None:
    schema = make_table(database, "CREATE EXTENSION hstore", "CREATE EXTENSION ltree", TAGGED)
    driver = drive()
    found = driver.sink.check((schema,))
    assert [(one.code, one.severity) for one in found] == [("type-missing", Severity.WARNING)] * 2
    assert "column tags: the type hstore" in found[0].message
    assert found[0].advice.startswith("CREATE EXTENSION hstore")
    driver.sink.ensure_table(schema)
    assert columns_of(driver.database) == {"id": "integer", "tags": "text", "path": "text"}
    assert driver.sink.check((schema,)) == []
    driver.database.execute("CREATE EXTENSION hstore")
    driver.sink.ensure_table(schema)
    assert columns_of(driver.database)["tags"] == "text", "a text column holds every hstore already"


VECTORS = (
    "CREATE EXTENSION vector",
    "CREATE TABLE everything (id int4 PRIMARY KEY, v vector(3), free vector, half halfvec(2), sparse sparsevec)",
    "INSERT INTO everything VALUES (1, '[1,-0,0.1]', '[3.4028235e38,-1e-45]', '[0.1,65504]', '{1:1.5,3:2}/5')",
    "INSERT INTO everything VALUES (2)",
)


@pytest.mark.must_not_fail(13)
@pytest.mark.parametrize("small_rows_max", [2000, 0], ids=["pipeline", "staging"])
def test_vectors_arrive_exactly(
    small_rows_max: int, drive: Callable[..., Driver], database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(database, "vector")
    monkeypatch.setattr("sinks.postgres.writer._SMALL_ROWS_MAX", small_rows_max)
    make_table(database, *VECTORS, "ALTER TABLE everything ADD many vector[]",
               "UPDATE everything SET many = ARRAY['[1,2]', NULL, '[1e-7]']::vector[] WHERE id = 1")  # fmt: skip
    driver = drive()
    driver.database.execute("CREATE EXTENSION vector")
    _, window = copied_window(database, "everything", Position(Lsn(0), 0), Position(Lsn(0), 1))
    driver.apply(window)
    assert columns_of(driver.database) == columns_of(database)
    names = ["id", "v", "free", "half", "sparse", "many"]
    assert as_text(driver.database, "everything", names) == as_text(database, "everything", names)


def test_vectors_are_arrays_of_real_where_pgvector_is_missing(
    drive: Callable[..., Driver], database: ScratchDatabase
) -> None:
    require(database, "vector")
    schema = make_table(database, *VECTORS)
    driver = drive()
    assert {one.message.split("will be ")[1] for one in driver.sink.check((schema,))} == {"real[]", "text"}
    _, window = copied_window(database, "everything", Position(Lsn(0), 0), Position(Lsn(0), 1))
    driver.apply(window)
    found = columns_of(driver.database)
    assert [found[name] for name in ("v", "free", "half", "sparse")] == ["real[]", "real[]", "real[]", "text"]
    query = "SELECT id, v::real[], free::real[], half::vector::real[], sparse::text FROM everything ORDER BY id"
    ours = "SELECT id, v, free, half, sparse FROM everything ORDER BY id"
    assert driver.database.fetch(ours) == database.fetch(query)
    assert driver.sink.check((schema,)) == []


def test_arrays_of_vectors_are_refused_where_pgvector_is_missing(
    drive: Callable[..., Driver], database: ScratchDatabase
) -> None:
    require(database, "vector")
    schema = make_table(
        database, "CREATE EXTENSION vector", "CREATE TABLE everything (id int4 PRIMARY KEY, many vector[])"
    )
    driver = drive()
    [finding] = driver.sink.check((schema,))
    assert (finding.code, finding.severity) == ("type-missing", Severity.ERROR)
    with pytest.raises(Refused, match="CREATE EXTENSION vector") as caught:
        driver.sink.ensure_table(schema)
    assert "column many" in str(caught.value)


GEOMETRIES = (
    "CREATE EXTENSION postgis",
    "CREATE TABLE everything (id int4 PRIMARY KEY, g geometry, p geometry(Point, 4326), e geography, many geometry[])",
    "INSERT INTO everything VALUES"
    " (1, 'LINESTRING Z (0 0 1, 1 1 2)', 'SRID=4326;POINT(1 2)', 'POINT(13.4 52.5)', '{POINT(0 0):NULL}'),"
    " (2, 'POLYGON EMPTY', NULL, NULL, '{}')",
)


@pytest.mark.must_not_fail(13)
@pytest.mark.parametrize("has_postgis", [True, False])
def test_geometries_arrive_exactly(has_postgis: bool, drive: Callable[..., Driver], database: ScratchDatabase) -> None:
    require(database, "postgis")
    make_table(database, *GEOMETRIES)
    driver = drive()
    if has_postgis:
        driver.database.execute("CREATE EXTENSION postgis")
    _, window = copied_window(database, "everything", Position(Lsn(0), 0), Position(Lsn(0), 1))
    driver.apply(window)
    names = ["id", "g", "p", "e", "many"]
    expected = as_text(database, "everything", names)
    if has_postgis:
        assert columns_of(driver.database) == columns_of(database)
        assert as_text(driver.database, "everything", names) == expected
        return
    columns = "id::text, upper(encode(g, 'hex')), upper(encode(p, 'hex')), upper(encode(e, 'hex')), many"
    assert driver.database.fetch(f"SELECT {columns} FROM everything ORDER BY id") == expected
