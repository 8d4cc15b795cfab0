"""The initial copy: exactly what the snapshot shows, no gap and no overlap with the stream."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import psycopg
import pyarrow as pa
import pytest

from wallaby.errors import SourceUnavailable
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.slot import CreatedSlot, create_slot, drop_slot
from wallaby.schema import TableSchema
from wallaby.settings import Limits
from wallaby.snapshot.copy import SnapshotCopy
from wallaby.testing.postgres import ScratchDatabase


@pytest.fixture
def slot(database: ScratchDatabase) -> Iterator[str]:
    """A slot name of this test, dropped afterwards."""
    yield database.name
    drop_slot(database.dsn, database.name)


def _tables(database: ScratchDatabase, publications: Sequence[str] = ("p",)) -> list[TableSchema]:
    catalog = Catalog(database.dsn)
    try:
        return catalog.published_tables(publications)
    finally:
        catalog.close()


def _copy(
    database: ScratchDatabase,
    created: CreatedSlot,
    *,
    tables: Sequence[TableSchema] | None = None,
    compiled: bool | None = None,
    chunk: int = 4 << 20,
) -> SnapshotCopy:
    return SnapshotCopy(
        database.dsn,
        snapshot_name=created.snapshot_name,
        schemas=_tables(database) if tables is None else tables,
        snapshot_lsn=created.consistent_point,
        taken_at_us=created.taken_at_us,
        limits=Limits(copy_chunk_bytes=chunk),
        publications=["p"],
        compiled=compiled,
    )


def _rows(copy: SnapshotCopy) -> dict[str, list[dict[str, object]]]:
    """The copied rows by table name."""
    found: dict[str, list[dict[str, object]]] = {}
    for schema, batch in copy.batches():
        found.setdefault(schema.name.name, []).extend(batch.column("after").to_pylist())
    return found


@pytest.mark.must_not_fail(5)
def test_snapshot_and_stream_meet_without_gap_or_overlap_under_writers(database: ScratchDatabase, slot: str) -> None:
    """Writers insert numbered rows all the while; each number must be in the copy or in the slot's stream, once."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t")
    counts = [0, 0]
    stop, running = threading.Event(), threading.Barrier(3)

    def write(writer: int) -> None:
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            running.wait(30)
            while not stop.is_set():
                connection.execute("INSERT INTO t VALUES (%s)", [writer + 2 * counts[writer]])
                counts[writer] += 1

    writers = [threading.Thread(target=write, args=(i,)) for i in range(2)]
    for writer in writers:
        writer.start()
    try:
        running.wait(30)
        with create_slot(database.dsn, slot) as created:
            copied = [row["id"] for row in _rows(_copy(database, created))["t"]]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    streamed = database.fetch(
        f"SELECT data FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'p', 'binary', 'true')"
    )
    inserted = [int.from_bytes(data[-4:], "big") for (data,) in streamed if data[:1] == b"I"]
    everything = Counter([*copied, *inserted])
    assert set(everything.values()) == {1}
    assert set(everything) == {writer + 2 * n for writer in range(2) for n in range(counts[writer])}
    assert copied or inserted


def test_batches_carry_the_snapshots_position_and_count_on(database: ScratchDatabase, slot: str) -> None:
    database.execute(
        "CREATE TABLE a (id int PRIMARY KEY, note text)",
        "INSERT INTO a SELECT g, repeat('x', 100) FROM generate_series(1, 3000) AS g",
        "CREATE TABLE b (id int PRIMARY KEY)",
        "INSERT INTO b VALUES (1), (2)",
        "CREATE TABLE empty (id int PRIMARY KEY)",
        "ANALYZE",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    with create_slot(database.dsn, slot) as created:
        copy = _copy(database, created, chunk=64 << 10)
        estimates = {name.name: (estimate.rows, estimate.bytes) for name, estimate in copy.estimate().items()}
        [(size,)] = database.fetch("SELECT pg_relation_size('a')")
        assert estimates == {"a": (3000, size), "b": (2, 8192), "empty": (0, 0)}
        batches = list(copy.batches())
    assert sum(schema.name.name == "a" for schema, _ in batches) > 3
    table = pa.concat_tables([pa.table({"o": batch.column("ordinal")}) for _, batch in batches])
    assert table.column("o").to_pylist() == list(range(3002))
    for _, batch in batches:
        assert set(batch.column("op").to_pylist()) == {ord("r")}
        assert set(batch.column("commit_lsn").to_pylist()) == {int(created.consistent_point)}


@pytest.mark.parametrize("compiled", [True, False])
def test_a_row_larger_than_the_arena_is_copied_by_both_drains(
    database: ScratchDatabase, slot: str, compiled: bool
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (1, 'small'), (2, repeat('x', 3000000)), (3, 'last')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    with create_slot(database.dsn, slot) as created:
        rows = _rows(_copy(database, created, compiled=compiled, chunk=64 << 10))["t"]
    assert [(row["id"], len(str(row["note"]))) for row in rows] == [(1, 5), (2, 3_000_000), (3, 4)]


@pytest.mark.must_not_fail(10)
@pytest.mark.parametrize("via_root", [True, False])
def test_partitions_are_copied_once_inheritance_children_as_themselves(
    database: ScratchDatabase, slot: str, via_root: bool
) -> None:
    database.execute(
        "CREATE TABLE root (id int PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE low (note text, gone int, id int NOT NULL)",
        "ALTER TABLE low DROP gone",
        "ALTER TABLE root ATTACH PARTITION low FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF root FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO root VALUES (1, 'a'), (11, 'b')",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (2)",
        f"CREATE PUBLICATION p FOR TABLE root, parent, child WITH (publish_via_partition_root = {via_root})",
    )
    with create_slot(database.dsn, slot) as created:
        rows = _rows(_copy(database, created))
    assert [row["id"] for row in rows["parent"]] == [1]
    assert [row["id"] for row in rows["child"]] == [2]
    if via_root:
        assert rows["root"] == [{"id": 1, "note": "a"}, {"id": 11, "note": "b"}]
    else:
        assert (rows["low"], rows["high"]) == ([{"note": "a", "id": 1}], [{"id": 11, "note": "b"}])


@pytest.mark.must_not_fail(23)
def test_filters_column_lists_and_awkward_names_hold_in_the_copy(
    database: ScratchDatabase, slot: str, postgres_major: int
) -> None:
    if postgres_major < 15:
        pytest.skip("PostgreSQL 14 has neither column lists nor row filters")
    database.execute(
        'CREATE SCHEMA "S.1"',
        'CREATE TABLE "S.1"."T ""x""" ("Id" int PRIMARY KEY, "se""cret" text, "ünï" interval)',
        "INSERT INTO \"S.1\".\"T \"\"x\"\"\" VALUES (1, 's', '1 day'), (20, 's', '2 days')",
        'CREATE PUBLICATION p FOR TABLE "S.1"."T ""x""" ("Id", "ünï") WHERE ("Id" > 10)',
    )
    with create_slot(database.dsn, slot) as created:
        [row] = _rows(_copy(database, created))['T "x"']
    assert row["Id"] == 20
    assert set(row) == {"Id", "ünï"}


@pytest.mark.must_not_fail(5)
@pytest.mark.parametrize("change", ["TRUNCATE t", "ALTER TABLE t ALTER note TYPE varchar(10) USING note::int4"])
def test_a_table_rewritten_after_the_snapshot_is_not_copied_as_empty(
    database: ScratchDatabase, slot: str, change: str
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t VALUES (1, '1')",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    tables = _tables(database)
    with create_slot(database.dsn, slot) as created:
        database.execute(change)
        with pytest.raises(SourceUnavailable, match="rewritten"):
            list(_copy(database, created, tables=tables).batches())


@pytest.mark.must_not_fail(6)
def test_a_snapshot_that_is_gone_is_noticed(database: ScratchDatabase, slot: str) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t")
    created = create_slot(database.dsn, slot)
    created.close()
    with pytest.raises(SourceUnavailable, match="snapshot is gone"):
        list(_copy(database, created).batches())


def test_a_dropped_table_means_the_copy_must_be_repeated(database: ScratchDatabase, slot: str) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t")
    tables = _tables(database)
    with create_slot(database.dsn, slot) as created:
        database.execute("DROP TABLE t")
        with pytest.raises(SourceUnavailable):
            list(_copy(database, created, tables=tables).batches())


@pytest.mark.must_not_fail(21)
def test_giving_up_early_leaves_no_session(database: ScratchDatabase, slot: str) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    with create_slot(database.dsn, slot) as created:
        batches = _copy(database, created, chunk=64 << 10).batches()
        next(iter(batches))
        batches.close()  # type: ignore[attr-defined]  # it is a generator
    # Waits for the lock of the copy's transaction; pytest's time limit ends it if that one stays.
    database.execute("ALTER TABLE t ADD later int")
