"""Present rows by key: the right ones, in the stream's own types, in time, and nothing that would not be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pytest

from wallaby.content import canonical_hash
from wallaby.errors import CheckFailed, SourceUnavailable
from wallaby.lsn import Lsn
from wallaby.pgtypes.types import arrow_schema
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.row_queries import array_literal, read_command
from wallaby.postgres.row_reader import (
    PresentRows,
    RowReader,
    Snapshot,
    Unread,
    is_readable,
)
from wallaby.schema import TableName, TableSchema
from wallaby.testing.changes import table
from wallaby.testing.postgres import ScratchDatabase

ROOM = 64 << 20
NO_XIDS = np.empty(0, np.uint32)


@pytest.fixture
def reader(database: ScratchDatabase) -> Iterator[RowReader]:
    made = RowReader(database.dsn, publication="p", timeout_ms=20_000, application_name="reader under test")
    yield made
    made.close()


def shape(database: ScratchDatabase, name: str = "t", schema: str = "public") -> TableSchema:
    """The table as the publication sends it."""
    catalog = Catalog(database.dsn)
    try:
        [found] = [one for one in catalog.published_tables(["p"]) if one.name == TableName(schema, name)]
        return found
    finally:
        catalog.close()


def keys_of(schema: TableSchema, rows: Sequence[Sequence[Any]]) -> list[pa.Array]:
    kinds = [arrow_schema(schema).field(i).type for i in schema.key]
    return [pa.array([row[k] for row in rows], kind) for k, kind in enumerate(kinds)]


def read(
    reader: RowReader,
    schema: TableSchema,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    xids: npt.NDArray[np.uint32] = NO_XIDS,
    timeout_ms: int = 20_000,
    bytes_max: int = ROOM,
) -> PresentRows | Unread:
    names = [column.name for column in schema.columns]
    wanted = [names.index(name) for name in columns]
    return reader.read(schema, wanted, keys_of(schema, rows), xids=xids, timeout_ms=timeout_ms, bytes_max=bytes_max)


def found(answer: PresentRows | Unread) -> dict[int, tuple[Any, ...]]:
    """Row by number of the key asked for."""
    assert isinstance(answer, PresentRows)
    if answer.rows is None:
        return {}
    columns = answer.rows.column("after").flatten()
    return {row[0]: row[1:] for row in zip(*(column.to_pylist() for column in columns), strict=True)}


def test_rows_that_exist_are_found_by_the_number_of_their_key(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text, n int)",
        "INSERT INTO t SELECT g, 'note ' || g, -g FROM generate_series(1, 1000) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    schema = shape(database)
    assert found(read(reader, schema, ["note"], [[7], [2000], [1]])) == {1: ("note 7",), 3: ("note 1",)}
    assert found(read(reader, schema, ["n", "note"], [[3]])) == {1: (-3, "note 3")}
    assert found(read(reader, schema, ["n"], [[5000]])) == {}
    many = found(read(reader, schema, ["n"], [[i] for i in range(100_000)]))
    assert many == {i + 1: (-i,) for i in range(1, 1001)}


def test_keys_larger_than_what_a_socket_takes_at_once_arrive(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TABLE t (id text PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (repeat('k', 1000) || 7, 'seven')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    keys = [["k" * 1000 + str(i)] for i in range(30_000)]
    assert found(read(reader, shape(database), ["note"], keys)) == {8: ("seven",)}


@pytest.mark.must_not_fail(22)
def test_odd_names_and_every_type_of_key_are_found(database: ScratchDatabase, reader: RowReader) -> None:
    """Columns named like the reader's own, dots, quotes, upper case; values that need escaping in an array."""
    kinds: dict[str, list[Any]] = {
        "text": ['a"b\\c{},NULL', "", "NULL", "ünïcode 表\n"],
        "varchar(20)": ["x", "y z"],
        "char(5)": ["ab   ", "c    "],
        "bigint": [1, -(2**62)],
        "uuid": ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "bytea": [b"", b'\0"\\\xff'],
        "numeric(20,5)": ["1.50000", "-0.00001"],
        "numeric": ["1e3", "12.3400"],
        "date": ["2024-02-29", "0001-01-01"],
        "timestamptz": ["2024-02-29 12:00:00.000001+00"],
        "timestamp": ["2024-02-29 12:00:00.5"],
        "float8": [0.1, -1e300],
        "real": [0.1, 1e-30],
        "boolean": [True, False],
        "inet": ["10.0.0.1/8", "::1"],
        '"Odd.Schema"."Mood ""x"""': ["sad", "very happy"],
        '"Odd.Schema".positive': [3, 4],
    }
    database.execute(
        'CREATE SCHEMA "Odd.Schema"',
        'CREATE TYPE "Odd.Schema"."Mood ""x""" AS ENUM (\'sad\', \'very happy\')',
        'CREATE DOMAIN "Odd.Schema".positive AS int CHECK (VALUE > 0)',
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    if database.fetch("SELECT FROM pg_available_extensions WHERE name = 'citext'"):
        database.execute('CREATE EXTENSION citext SCHEMA "Odd.Schema"')
        kinds['"Odd.Schema".citext'] = ["Word", "other"]
    for number, (kind, values) in enumerate(kinds.items()):
        name = f't "{number}".x'
        quoted = name.replace('"', '""')
        database.execute(
            f'CREATE TABLE "Odd.Schema"."{quoted}" ("Key ""k" {kind} PRIMARY KEY, number text, k0 text, wanted text)'
        )
        with database.connect() as connection:
            for value in values:
                connection.execute(
                    f"INSERT INTO \"Odd.Schema\".\"{quoted}\" VALUES (%s, %s, 'k0', 'w')".encode(), [value, str(value)]
                )
            stored = connection.execute(
                f'SELECT "Key ""k", number FROM "Odd.Schema"."{quoted}" ORDER BY number'.encode()
            ).fetchall()
        schema = shape(database, name, "Odd.Schema")
        assert is_readable(schema)
        # The keys as the source itself sends them: read back from a scan.
        everything = _scan(database, schema)
        numbers = everything.column("after").field(1).to_pylist()
        key = everything.column("after").field(0)
        answer = reader.read(schema, [1, 2, 3], [key], xids=NO_XIDS, timeout_ms=20_000, bytes_max=ROOM)
        assert found(answer) == {i: (text, "k0", "w") for i, text in enumerate(numbers, 1)}, kind
        assert len(numbers) == len(stored)


def _scan(database: ScratchDatabase, schema: TableSchema) -> pa.RecordBatch:
    """Every row of the table, decoded like a copy."""
    from wallaby.pgoutput.copy_decoder import CopyDecoder
    from wallaby.snapshot.copy import copy_command

    decoder = CopyDecoder(schema, snapshot_lsn=Lsn(0), taken_at_us=0)
    with database.connect(options="-c TimeZone=UTC") as connection, connection.cursor() as cursor:
        frames = b""
        with cursor.copy(copy_command(schema).encode()) as copy:
            for block in copy:
                frames += len(block).to_bytes(4, "little") + bytes(block)
    _, batch = decoder.feed(np.frombuffer(frames, np.uint8), 0, len(frames))
    assert batch is not None
    return batch


@pytest.mark.must_not_fail(7, 12)
def test_values_come_as_the_copy_would_bring_them(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE TABLE t (a text, b int, doc jsonb, raw bytea, tags text[], grid int[], r int4range, p pair, n numeric,"
        " d date, x xml, PRIMARY KEY (b, a))",
        "INSERT INTO t VALUES ('k', 1, '{\"a\": [1]}', '\\x00ff', '{a,NULL,\"b c\"}', '{{1,2},{3,4}}', '[1,5)',"
        " '(1,\"x y\")', 'NaN', 'infinity', '<a>1</a>'), ('k', 2, NULL, NULL, '{}', '[5:6]={1,2}', 'empty', NULL, 1e40,"
        " '4713-01-01 BC', NULL)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    schema = shape(database)
    scanned = _scan(database, schema)
    names = [column.name for column in schema.columns]
    answer = reader.read(
        schema,
        range(len(names)),
        [scanned.column("after").field(i) for i in schema.key],
        xids=NO_XIDS,
        timeout_ms=20_000,
        bytes_max=ROOM,
    )
    assert isinstance(answer, PresentRows)
    assert answer.rows is not None
    one = pa.table([*scanned.column("after").flatten()], names=names)
    other = pa.table([*answer.rows.column("after").flatten()[1:]], names=names)
    assert one.num_rows == other.num_rows == 2
    assert canonical_hash(one) == canonical_hash(other)
    shifted = [
        [{"column": cell["column"] + 1, "text": cell["text"]} for cell in row or ()]
        for row in scanned.column("outliers").to_pylist()
    ]
    assert [row or [] for row in answer.rows.column("outliers").to_pylist()] == shifted
    assert sum(map(len, shifted)) > 2


@pytest.mark.must_not_fail(23)
def test_a_row_that_left_the_row_filter_is_not_shown(
    database: ScratchDatabase, reader: RowReader, postgres_major: int
) -> None:
    if postgres_major < 15:
        pytest.skip("row filters came with PostgreSQL 15")
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, region text, note text)",
        "INSERT INTO t VALUES (1, 'here', 'a'), (2, 'there', 'secret')",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE PUBLICATION p FOR TABLE t WHERE (region = 'here')",
    )
    assert found(read(reader, shape(database), ["note"], [[1], [2]])) == {1: ("a",)}
    database.execute("ALTER PUBLICATION p SET TABLE t WHERE (region = 'there')")
    assert found(read(reader, shape(database), ["note"], [[1], [2]])) == {2: ("secret",)}


@pytest.mark.must_not_fail(10)
def test_a_root_is_read_with_its_partitions_and_a_parent_without_its_children(
    database: ScratchDatabase, reader: RowReader
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 (note text, gone int, id int NOT NULL)",
        "ALTER TABLE t2 DROP COLUMN gone",
        "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)",
        "INSERT INTO t VALUES (1, 'one'), (11, 'eleven')",
        "CREATE TABLE parent (id int PRIMARY KEY, note text)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent VALUES (1, 'parent')",
        "INSERT INTO child VALUES (1, 'child')",
        "CREATE PUBLICATION p FOR TABLE t, ONLY parent WITH (publish_via_partition_root = true)",
    )
    assert found(read(reader, shape(database), ["note"], [[1], [11]])) == {1: ("one",), 2: ("eleven",)}
    assert found(read(reader, shape(database, "parent"), ["note"], [[1]])) == {1: ("parent",)}


def test_a_leaf_under_its_own_name_is_read_alone(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
        "INSERT INTO t VALUES (1, 'one'), (11, 'eleven')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    assert found(read(reader, shape(database, "t1"), ["note"], [[1], [11]])) == {1: ("one",)}


@pytest.mark.must_not_fail(11)
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE t",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t SET SCHEMA other",
        "ALTER TABLE t DROP COLUMN note",
        "ALTER TABLE t RENAME COLUMN note TO remark",
        "ALTER TABLE t ALTER COLUMN note TYPE varchar(100)",
        "ALTER TABLE t DROP COLUMN note, ADD COLUMN note int DEFAULT 7",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'other')",
        "DROP TABLE t; CREATE VIEW t AS SELECT 1 AS id, 'view' AS note",
    ],
)
def test_a_table_that_is_not_what_the_stream_described_is_not_read(
    database: ScratchDatabase, reader: RowReader, statement: str
) -> None:
    database.execute(
        "CREATE SCHEMA other",
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE TABLE whole (id int PRIMARY KEY, note text)",
        "INSERT INTO whole VALUES (1, 'w')",
        "CREATE PUBLICATION p FOR TABLE t, whole",
    )
    schema, whole = shape(database), shape(database, "whole")
    assert found(read(reader, schema, ["note"], [[1]])) == {1: ("a",)}
    database.execute(*statement.split("; "))
    assert read(reader, schema, ["note"], [[1]]) is Unread.GONE
    assert found(read(reader, whole, ["note"], [[1]])) == {1: ("w",)}, "the next question is answered"


@pytest.mark.must_not_fail(17)
def test_a_locked_table_takes_no_longer_than_the_time_allowed(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    schema = shape(database)
    with database.connect(autocommit=False) as connection:
        connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        assert read(reader, schema, ["note"], [[1]], timeout_ms=50) is Unread.SLOW
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reader under test'"
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,), waiting
        connection.rollback()
    assert found(read(reader, schema, ["note"], [[1]])) == {1: ("a",)}


@pytest.mark.must_not_fail(14)
def test_no_more_is_read_than_there_is_room_for(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t SELECT g, repeat('x', 100000) FROM generate_series(1, 300) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    schema = shape(database)
    answer = read(reader, schema, ["note"], [[i] for i in range(1, 301)], bytes_max=1 << 20)
    assert isinstance(answer, PresentRows)
    assert answer.rows is not None
    assert 10 <= answer.rows.num_rows < 100
    assert found(read(reader, schema, ["note"], [[1]]))[1][0] == "x" * 100_000, "the next question is answered"
    assert database.fetch("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'") == [(0,)]


@pytest.mark.must_not_fail(24)
def test_a_missing_privilege_is_our_error_and_row_security_too(database: ScratchDatabase) -> None:
    role = f"plain_{database.name}"
    database.execute(
        "CREATE TABLE t (id text PRIMARY KEY, note text)",
        "INSERT INTO t VALUES ('the key', 'a')",
        "CREATE PUBLICATION p FOR TABLE t",
        f"CREATE ROLE {role} LOGIN",
    )
    reader = RowReader(database.dsn.replace("postgres@", f"{role}@"), publication="p", timeout_ms=20_000)
    try:
        schema = shape(database)
        for allowed in (f"GRANT SELECT ON t TO {role}", "ALTER TABLE t DISABLE ROW LEVEL SECURITY"):
            with pytest.raises(CheckFailed) as refused:
                read(reader, schema, ["note"], [["the key"]])
            assert "public.t" in str(refused.value)
            assert "the key" not in str(refused.value)
            database.execute(allowed)
            assert found(read(reader, schema, ["note"], [["the key"]])) == {1: ("a",)}
            database.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    finally:
        reader.close()
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_dead_connection_is_made_again_and_the_time_of_reading_moves_on(
    database: ScratchDatabase, reader: RowReader
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    schema = shape(database)
    before = read(reader, schema, ["note"], [[1]])
    database.execute(
        "UPDATE t SET note = 'b'",
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'reader under test'",
    )
    after = read(reader, schema, ["note"], [[1]])
    assert isinstance(before, PresentRows)
    assert isinstance(after, PresentRows)
    assert after.read_at > before.read_at
    assert found(after) == {1: ("b",)}


def test_a_source_that_is_gone_is_unavailable() -> None:
    reader = RowReader("postgresql://u@127.0.0.1:9/d", publication="p", timeout_ms=1000)
    with pytest.raises(SourceUnavailable):
        read(reader, table("public.t", {"id": "int4", "note": "text"}, key=["id"]), ["note"], [[1]])


@pytest.mark.must_not_fail(24)
def test_keys_appear_in_no_statement(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute("CREATE TABLE t (id text PRIMARY KEY, note text)", "CREATE PUBLICATION p FOR TABLE t")
    schema = shape(database)
    read(reader, schema, ["note"], [["s3cr3t"]])
    assert "s3cr3t" not in read_command(schema, [1])
    statements = database.fetch("SELECT query FROM pg_stat_activity WHERE application_name = 'reader under test'")
    assert statements
    assert not any("s3cr3t" in query for (query,) in statements)


def test_what_a_snapshot_sees_is_told_across_the_wrap_of_transaction_ids() -> None:
    snapshot = Snapshot.parse("4294967290:4294967300:4294967291,4294967298")
    asked = np.array([4294967289, 4294967291, 4294967295, 0, 2, 3, 4, 5, 2**31 - 1], np.uint32)
    assert snapshot.sees(asked).tolist() == [True, False, True, True, False, True, False, False, False]
    assert Snapshot.parse("700:700:").sees(np.array([699, 700, 3], np.uint32)).tolist() == [True, False, True]


def test_a_transaction_still_running_is_not_seen(database: ScratchDatabase, reader: RowReader) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    schema = shape(database)
    with psycopg.connect(database.dsn) as connection:
        connection.execute("UPDATE t SET note = 'b'")
        row = connection.execute("SELECT pg_current_xact_id()::text::int8").fetchone()
        assert row is not None
        xid = np.array([row[0] & 0xFFFFFFFF], np.uint32)
        answer = read(reader, schema, ["note"], [[1]], xids=xid)
        assert isinstance(answer, PresentRows)
        assert found(answer) == {1: ("a",)}
        assert answer.is_seen.tolist() == [False]
        connection.commit()
        answer = read(reader, schema, ["note"], [[1]], xids=xid)
        assert isinstance(answer, PresentRows)
        assert found(answer) == {1: ("b",)}
        assert answer.is_seen.tolist() == [True]


def test_intervals_and_lists_are_no_keys_to_read_by() -> None:
    assert is_readable(table("public.t", {"id": "int4", "x": "text"}, key=["id"]))
    assert not is_readable(table("public.t", {"id": "int4[]", "x": "text"}, key=["id"]))
    assert not is_readable(table("public.t", {"id": "int4", "x": "text"}))


def test_arrays_are_written_as_postgresql_reads_them() -> None:
    assert array_literal(pa.array(['a"b', "c\\d", ""])) == '{"a\\"b","c\\\\d",""}'
    assert array_literal(pa.array([], pa.string())) == "{}"
    assert array_literal(pa.array([1, -2])) == '{"1","-2"}'
