"""Mirrors by deletion vectors: content by hash in three readers, races with everybody, and what is not rewritten."""

from __future__ import annotations

import datetime
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from sinks.delta import FACTORY
from sinks.delta.config import DeltaOptions
from sinks.delta.errors import Conflict
from sinks.delta.folder import Directory
from sinks.delta.reader import read_mirror
from sinks.delta.sink import DeltaSink
from sinks.delta.store import commit_properties
from sinks.delta.vectors import FOLDER
from tests.sinks.delta.conftest import target_path
from tests.sinks.lane import TestLane
from wallaby.care import Chore, take_turn
from wallaby.content import canonical_hash
from wallaby.errors import ConfigError, MissingExtra, Refused, Transient
from wallaby.schema import Column, ReplicaIdentity, TableSchema
from wallaby.testing.changes import Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.contract.values import _EXTREMES, _TYPES
from wallaby.testing.history import RandomHistory, Row, row_table
from wallaby.transform import mirror
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
TEN = [(ORDERS, insert(n, "a")) for n in range(10)]
MakeSink = Callable[..., DeltaSink]
Delta = Callable[[TableSchema], DeltaTable]


@pytest.fixture
def make_marking(make_sink: MakeSink) -> MakeSink:
    return lambda **options: make_sink(deletion_vectors=True, **options)


@pytest.fixture
def assert_content(root: Path, duck: duckdb.DuckDBPyConnection) -> Callable[[TableSchema, pa.Table], None]:
    """The rows of a target are these, by content hash, to the engine, to DuckDB and to our own reader."""

    def check(schema: TableSchema, expected: pa.Table) -> None:
        path = target_path(root, schema.name)
        wanted = canonical_hash(expected.select(range(len(schema.columns))))
        names = [column.name for column in schema.columns]
        ours = read_mirror(DeltaOptions.parse({"path": str(root)}), schema)
        theirs = pa.table(QueryBuilder().register("t", DeltaTable(path)).execute("SELECT * FROM t"))
        scanned = duck.execute("FROM delta_scan(?)", (path,)).to_arrow_table()
        assert canonical_hash(ours) == wanted, f"{schema.name}: {ours.num_rows} of {expected.num_rows} rows"
        assert canonical_hash(theirs.select(names).cast(ours.schema)) == wanted, schema.name
        assert canonical_hash(scanned.select(names)) == wanted, schema.name

    return check


Check = Callable[[TableSchema, pa.Table], None]


def actions_of(root: Path, schema: TableSchema) -> list[dict[str, Any]]:
    """The newest entry of a target's log."""
    newest = max((Path(target_path(root, schema.name)) / "_delta_log").glob("*.json"))
    return [json.loads(line) for line in newest.read_text().splitlines()]


def files_of(root: Path, schema: TableSchema) -> set[str]:
    return {file.name for file in Path(target_path(root, schema.name)).glob("*.parquet")}


def vectors_of(root: Path, schema: TableSchema) -> list[Path]:
    return sorted((Path(target_path(root, schema.name)) / FOLDER).glob("*"))


@pytest.mark.must_not_fail(7)
@pytest.mark.must_not_fail(8)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("seed", [3, 11])
def test_a_history_reads_the_same_everywhere(
    seed: int, make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    history = RandomHistory(seed, transactions=20)
    TestLane(make_marking(checkpoint_every=5), LANE).apply_all(history.windows(seed), commit_every=2)
    for schema in history.tables:
        assert_content(schema, history.expected(schema))
    assert any(vectors_of(root, schema) for schema in history.tables)


@pytest.mark.must_not_fail(25)
def test_a_history_reads_the_same_after_every_restart_and_with_no_memory_for_keys(
    make_marking: MakeSink, assert_content: Check
) -> None:
    history = RandomHistory(4, transactions=15)
    for epoch, window in enumerate(history.windows(4), 1):
        TestLane(make_marking(checkpoint_every=3, key_cache_size="1KiB"), LANE, epoch).apply(window)
    for schema in history.tables:
        assert_content(schema, history.expected(schema))


@pytest.mark.must_not_fail(25)
def test_a_history_reads_the_same_with_a_turn_of_care_after_every_commit(
    make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    history = RandomHistory(6, transactions=10)
    lane = TestLane(make_marking(), LANE)
    keeper = FACTORY.keeper({"path": str(root), "compact_files": 2}, flow=LANE.flow, destination=LANE.destination)
    compacted = 0
    for window in history.windows(6):
        lane.apply(window)
        for name in keeper.tables():
            turn = take_turn(keeper, name, now=datetime.datetime.now(UTC))
            assert turn is not None
            assert turn.failure == ""
            compacted += Chore.COMPACT in turn.done
    assert compacted
    for schema in history.tables:
        assert_content(schema, history.expected(schema))


@pytest.mark.must_not_fail(13)
def test_extreme_values_of_every_type_survive_being_marked_and_written_again(
    make_marking: MakeSink, assert_content: Check
) -> None:
    schema = table("public.extremes", _TYPES, key=["id"])
    lane = TestLane(make_marking(), LANE)
    rows = [(schema, insert(*row)) for row in _EXTREMES]
    again = [(schema, update(*row)) for row in _EXTREMES[::2]]
    lane.apply_all(windows_of(rows, again, again[:1]))
    assert_content(schema, row_table(schema, _EXTREMES))


def test_changed_rows_are_marked_and_their_file_stays(
    make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    lane = TestLane(make_marking(), LANE)
    first, second, third = windows_of(TEN, [(ORDERS, update(3, "b")), (ORDERS, delete(4))], [(ORDERS, update(5, "c"))])
    lane.apply(first)
    [big] = files_of(root, ORDERS)
    lane.apply(second)
    lane.apply(third)
    assert big in files_of(root, ORDERS)
    assert len(files_of(root, ORDERS)) == 3
    [added] = [one["add"] for one in actions_of(root, ORDERS) if one.get("add", {}).get("path") == big]
    assert added["deletionVector"]["cardinality"] == 3
    stats = json.loads(added["stats"])
    assert (stats["numRecords"], stats["tightBounds"]) == (10, False)
    rows = [(n, {3: "b", 5: "c"}.get(n, "a")) for n in range(10) if n != 4]
    assert_content(ORDERS, row_table(ORDERS, rows))


def test_new_rows_are_appended_and_mark_nothing(make_marking: MakeSink, root: Path, delta: Delta) -> None:
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, insert(10, "b")), (ORDERS, delete(11))]))
    assert vectors_of(root, ORDERS) == []
    assert delta(ORDERS).history(1)[0]["operation"] == "WRITE"


def test_a_file_of_which_nothing_is_left_is_removed(make_marking: MakeSink, delta: Delta) -> None:
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, delete(n)) for n in range(10)], [(ORDERS, insert(1, "again"))]))
    assert len(delta(ORDERS).file_uris()) == 1
    lane.sink.reset_table(ORDERS.name, LANE, 1)
    assert delta(ORDERS).file_uris() == []


def test_files_of_which_less_is_left_than_gone_are_written_anew(
    make_marking: MakeSink, root: Path, delta: Delta, assert_content: Check
) -> None:
    lane = TestLane(make_marking(), LANE)
    hundred = [(ORDERS, insert(n, "a")) for n in range(100)]
    lane.apply_all(windows_of(hundred, [(ORDERS, delete(n)) for n in range(49)]))
    assert delta(ORDERS).count() == 100
    lane.apply(
        windows_of(hundred, [(ORDERS, delete(n)) for n in range(49)], [(ORDERS, delete(n)) for n in (49, 50)])[2]
    )
    assert delta(ORDERS).count() == 49, "what is gone is still in the file"
    assert_content(ORDERS, row_table(ORDERS, [(n, "a") for n in range(51, 100)]))


def test_a_commit_writes_no_more_of_them_anew_than_make_up_a_file(
    make_marking: MakeSink, delta: Delta, assert_content: Check
) -> None:
    lane = TestLane(make_marking(target_file_size="1KiB"), LANE)
    parts = [[(ORDERS, insert(n, f"{n:0100}")) for n in range(first, first + 50)] for first in range(0, 150, 50)]
    deletes = [(ORDERS, delete(n)) for first in range(0, 150, 50) for n in range(first, first + 26)]
    windows = windows_of(*parts, deletes, [(ORDERS, insert(200, "x"))], [(ORDERS, delete(30))])
    lane.apply_all(windows[:4])
    left = {n: f"{n:0100}" for first in range(0, 150, 50) for n in range(first + 26, first + 50)}
    counts = [delta(ORDERS).count()]
    assert len(left) < counts[0] < 150
    lane.apply_all(windows[4:])
    counts.append(delta(ORDERS).count())
    assert counts[1] < counts[0], "no later commit goes on with it"
    del left[30]
    assert_content(ORDERS, row_table(ORDERS, [*left.items(), (200, "x")]))


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize("other", ["compaction", "append", "delete", "merge", "overwrite", "another mark"])
def test_whoever_commits_between_reading_and_writing_makes_it_begin_again(
    other: str, make_marking: MakeSink, root: Path, delta: Delta, assert_content: Check
) -> None:
    """The commit is made ready, somebody else commits, and it is called: nothing of it happens."""
    sink = make_marking()
    lane = TestLane(sink, LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, update(3, "b"))]))
    [_, _, window] = windows_of(TEN, [(ORDERS, update(3, "b"))], [(ORDERS, update(3, "c")), (ORDERS, delete(5))])
    opened = sink._tables.opened(ORDERS.name)
    assert opened is not None
    marker = sink._tables.marker(ORDERS.name, opened)
    assert marker is not None
    plan = mirror.plan(ORDERS, window.parts[0].table())
    assert isinstance(plan, mirror.MirrorPlan)
    commit = marker.commit_of(plan, lambda rows: rows.select(["id", "note"]))
    assert commit is not None
    before = files_of(root, ORDERS), vectors_of(root, ORDERS)
    one = pa.table({"id": pa.array([77], pa.int64()), "note": ["theirs"]})
    match other:
        case "compaction":
            delta(ORDERS).optimize.compact()
        case "append":
            write_deltalake(delta(ORDERS), one, mode="append")
        case "delete":
            delta(ORDERS).delete("id = 7")
        case "merge":
            merge = delta(ORDERS).merge(one, "s.id = t.id", "s", "t")
            merge.when_not_matched_insert_all().execute()
        case "overwrite":
            write_deltalake(delta(ORDERS), one, mode="overwrite")
        case _:
            two = TestLane(make_marking(), LaneId("else", "copy"))
            two.apply_all(windows_of(TEN, [(ORDERS, update(7, "theirs"))])[1:])
    theirs, version = set(files_of(root, ORDERS)), delta(ORDERS).version()
    with pytest.raises(Conflict):
        commit(commit_properties([], {}))
    assert delta(ORDERS).version() == version
    assert files_of(root, ORDERS) == theirs, "files were left behind"
    assert set(before[1]) <= set(vectors_of(root, ORDERS))
    expected = dict.fromkeys(range(10), "a") | {3: "b"}
    match other:
        case "append" | "merge":
            expected[77] = "theirs"
        case "delete":
            del expected[7]
        case "overwrite":
            expected = {77: "theirs"}
        case "another mark":
            expected = dict.fromkeys(range(10), "a") | {3: "b", 7: "theirs"}
    assert_content(ORDERS, row_table(ORDERS, list(expected.items())))
    lane.apply(window)
    expected |= {3: "c"}
    expected.pop(5, None)
    assert_content(ORDERS, row_table(ORDERS, list(expected.items())))


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize("other", ["compaction", "delete", "merge", "update"])
def test_others_that_read_before_our_commit_are_told_of_it(
    other: str, make_marking: MakeSink, delta: Delta, assert_content: Check
) -> None:
    """The engine takes the same file with another vector for a changed file."""
    lane = TestLane(make_marking(), LANE)
    windows = windows_of(TEN, [(ORDERS, insert(20, "a"))], [(ORDERS, update(3, "b"))], [(ORDERS, update(4, "b"))])
    lane.apply_all(windows[:3])
    stale = delta(ORDERS)
    lane.apply(windows[3])
    one = pa.table({"id": pa.array([5], pa.int64()), "note": ["theirs"]})
    merge = stale.merge(one, "s.id = t.id", "s", "t").when_matched_update_all()
    commits: dict[str, Callable[[], object]] = {
        "compaction": stale.optimize.compact,
        "delete": lambda: stale.delete("id = 5"),
        "update": lambda: stale.update({"note": "'theirs'"}, predicate="id = 5"),
        "merge": merge.execute,
    }
    with pytest.raises(CommitFailedError):
        commits[other]()
    rows = dict.fromkeys((*range(10), 20), "a") | {3: "b", 4: "b"}
    assert_content(ORDERS, row_table(ORDERS, list(rows.items())))


@pytest.mark.must_not_fail(25)
def test_compactions_of_others_beside_our_commits_lose_nothing(
    make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    """Whoever loses a race tries again: we do, and so does this user."""
    lane = TestLane(make_marking(), LANE)
    windows = windows_of(*[[(ORDERS, insert(n, "a")), (ORDERS, update(n // 2, f"b{n}"))] for n in range(30)])
    lane.apply(windows[0])
    is_done = threading.Event()
    compactions: list[str] = []

    def compact() -> None:
        while not is_done.is_set() or not compactions:
            try:
                DeltaTable(target_path(root, ORDERS.name)).optimize.compact()
                compactions.append("done")
            except Exception:  # noqa: BLE001 - whatever the engine says to the loser
                compactions.append("lost")

    user = threading.Thread(target=compact)
    user.start()
    try:
        lane.apply_all(windows[1:])
    finally:
        is_done.set()
        user.join()
    rows = [(n, f"b{min(2 * n + 1, 29)}" if n < 15 else "a") for n in range(30)]
    assert_content(ORDERS, row_table(ORDERS, rows))


def test_what_others_do_between_our_commits_is_kept(
    make_marking: MakeSink, root: Path, delta: Delta, assert_content: Check
) -> None:
    lane = TestLane(make_marking(), LANE)
    windows = windows_of(
        TEN,
        [(ORDERS, update(1, "b"))],
        [(ORDERS, update(2, "b"))],
        [(ORDERS, update(3, "b")), (ORDERS, delete(100))],
        [(ORDERS, update(4, "b"))],
    )
    lane.apply_all(windows[:2])
    write_deltalake(
        delta(ORDERS), pa.table({"id": pa.array([100, 101], pa.int64()), "note": ["x", "x"]}), mode="append"
    )
    lane.apply(windows[2])
    delta(ORDERS).delete("id = 9")
    lane.apply(windows[3])
    one = pa.table({"id": pa.array([8], pa.int64()), "note": ["theirs"]})
    delta(ORDERS).merge(one, "s.id = t.id", "s", "t").when_matched_update_all().execute()
    delta(ORDERS).create_checkpoint()
    lane.apply(windows[4])
    rows = dict.fromkeys(range(9), "a") | dict.fromkeys((1, 2, 3, 4), "b") | {8: "theirs", 101: "x"}
    assert_content(ORDERS, row_table(ORDERS, list(rows.items())))


def test_columns_of_others_keep_their_values(make_marking: MakeSink, delta: Delta, root: Path) -> None:
    path = target_path(root, ORDERS.name)
    fields = pa.schema([("id", pa.int64()), ("note", pa.string()), ("theirs", pa.int32())])
    write_deltalake(path, pa.table([[*range(1, 7)], ["old"] * 6, [*range(11, 17)]], schema=fields))
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(
        windows_of(
            [(ORDERS, update(1, "new")), (ORDERS, insert(9, "b"))],
            [(ORDERS, update(2, None, unchanged=["note"])), (ORDERS, delete(3)), (ORDERS, update(9, "c"))],
        )
    )
    found = pa.table(QueryBuilder().register("t", delta(ORDERS)).execute("SELECT * FROM t ORDER BY id")).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (1, "new", 11),
        (2, "old", 12),
        (4, "old", 14),
        (5, "old", 15),
        (6, "old", 16),
        (9, "c", None),
    ]
    assert vectors_of(root, ORDERS)


@pytest.mark.must_not_fail(7)
@pytest.mark.must_not_fail(16)
def test_rows_to_be_updated_that_are_gone_are_refused_before_anything_is_written(
    make_marking: MakeSink, delta: Delta, root: Path
) -> None:
    lane = TestLane(make_marking(), LANE)
    lane.apply(windows_of(TEN)[0])
    delta(ORDERS).delete("id = 2")
    before = files_of(root, ORDERS)
    for step in (update(2, None, unchanged=["note"]), update(12, None, old=[2], unchanged=["note"])):
        [_, window] = windows_of(TEN, [(ORDERS, step), (ORDERS, update(3, "b"))])
        with pytest.raises(Refused, match="not in the destination"):
            lane.apply(window)
    assert files_of(root, ORDERS) == before
    assert vectors_of(root, ORDERS) == []


@pytest.mark.must_not_fail(22)
def test_keys_of_every_kind_are_found_again(make_marking: MakeSink, assert_content: Check) -> None:
    words = ["", "it's", '"', "back\\slash", "line\nbreak", "ünï 表", "x" * 150, "%", "?", "$1", "--", ";", "a\x7f"]
    texts = table("public.texts", {"id": "text", "n": "int4"}, key=["id"])
    numbers = table("public.numbers", {"id": "int8", "n": "int4"}, key=["id"])
    days = table("public.days", {"id": "date", "n": "int4"}, key=["id"])
    times = table("public.times", {"id": "timestamptz", "n": "int4"}, key=["id"])
    shorts = table("public.shorts", {"id": "int2", "note.x": "text", "n": "int4"}, key=["id", "note.x"])
    flags = table("public.flags", {"id": "bool", "note": "text", "n": "int4"}, key=["note", "id"])
    keys: list[tuple[TableSchema, list[Row]]] = [
        (texts, [(word,) for word in words]),
        (numbers, [(number,) for number in (-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1)]),
        (days, [(datetime.date(1, 1, 1),), (datetime.date(1970, 1, 1),), (datetime.date(9999, 12, 31),)]),
        (times, [(datetime.datetime(2000, 1, 1, tzinfo=UTC),), (datetime.datetime(1, 1, 1, tzinfo=UTC),)]),
        (shorts, [(-32768, "a"), (-32768, "b"), (32767, "a")]),
        (flags, [(True, "a"), (False, "a"), (True, "b")]),
    ]
    lane = TestLane(make_marking(), LANE)
    everything = [(schema, key) for schema, all_keys in keys for key in all_keys]
    for window in windows_of(
        [(schema, insert(*key, 0)) for schema, key in everything],
        [(schema, update(*key, 1)) for schema, key in everything[::3]],
        [(schema, update(*key, 2)) for schema, key in everything[::2]],
        [(schema, delete(*all_keys[0])) for schema, all_keys in keys],
    ):
        lane.apply(window)
    for schema, all_keys in keys:
        third = {key for one, key in everything[::3] if one is schema}
        second = {key for one, key in everything[::2] if one is schema}
        expected = [(*key, 2 if key in second else 1 if key in third else 0) for key in all_keys[1:]]
        assert_content(schema, row_table(schema, expected))


@pytest.mark.must_not_fail(10)
@pytest.mark.parametrize("kind", ["text", "int4", "date", "bool"])
def test_rows_move_between_partitions(
    kind: str, make_marking: MakeSink, root: Path, assert_content: Check, delta: Delta
) -> None:
    values = {
        "text": ["a", "with space/ü=%", None],
        "int4": [1, -5, None],
        "date": [datetime.date(2020, 1, 31), datetime.date(1, 1, 1), None],
        "bool": [True, False, None],
    }[kind]
    schema = table("public.parted", {"id": "int8", "part": kind, "note": "text"}, key=["id"])
    lane = TestLane(make_marking(partition_by="part"), LANE)
    rows = {n: (n, values[n % 3], "a") for n in range(12)}
    inserts = [(schema, insert(*row)) for row in rows.values()]
    moved = {n: (n, values[(n + 1) % 3], "b") for n in range(0, 12, 5)}
    back = {n: (n, values[n % 3], "c") for n in range(0, 12, 10)}
    lane.apply_all(
        windows_of(
            inserts,
            [(schema, update(*row)) for row in moved.values()],
            [(schema, update(*row)) for row in back.values()],
            [(schema, update(7, values[7 % 3], None, unchanged=["note"])), (schema, delete(8))],
        )
    )
    rows |= moved | back
    del rows[8]
    assert_content(schema, row_table(schema, list(rows.values())))
    delta(schema).optimize.compact()
    assert_content(schema, row_table(schema, list(rows.values())))


@pytest.mark.must_not_fail(11)
def test_tables_with_marked_rows_change_their_shape(make_marking: MakeSink, root: Path, assert_content: Check) -> None:
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, update(1, "b")), (ORDERS, delete(2))]))
    [number, note] = ORDERS.columns
    [extra] = table("public.t", {"extra": "text"}).columns
    extra = Column("extra", extra.type, attnum=3)
    wider = TableSchema(ORDERS.oid, ORDERS.name, (number, note, extra), ORDERS.identity, version=2)
    lane.sink.ensure_table(wider)
    lane.apply_all(list(windows_of(*[TEN] * 2, [(wider, update(3, "c", "new"))]))[2:])
    rows = {n: (n, "a", None) for n in range(10)} | {1: (1, "b", None), 3: (3, "c", "new")}
    del rows[2]
    assert_content(wider, row_table(wider, list(rows.values())))
    renamed = Column("comment", note.type, attnum=note.attnum)
    other = TableSchema(ORDERS.oid, ORDERS.name, (number, renamed), ORDERS.identity, version=3)
    lane.sink.ensure_table(other)
    lane.apply_all(list(windows_of(*[TEN] * 3, [(other, update(4, "d"))]))[3:])
    assert_content(other, row_table(other, [row[:2] if n != 4 else (4, "d") for n, row in rows.items()]))
    features = DeltaTable(target_path(root, ORDERS.name)).protocol().reader_features
    assert features == ["deletionVectors"]


@pytest.mark.must_not_fail(10)
def test_a_table_with_marked_rows_is_truncated(make_marking: MakeSink, assert_content: Check) -> None:
    lane = TestLane(make_marking(), LANE)
    windows = windows_of(TEN, [(ORDERS, update(1, "b"))], [Truncate((ORDERS.name,))], [(ORDERS, insert(1, "c"))])
    lane.apply_all(windows[:3])
    assert_content(ORDERS, row_table(ORDERS, []))
    lane.apply(windows[3])
    assert_content(ORDERS, row_table(ORDERS, [(1, "c")]))


@pytest.mark.must_not_fail(9)
def test_a_table_without_a_key_beside_marks_of_others_keeps_its_rows(
    make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    """Its key was dropped at the source: what was marked before stays gone."""
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, update(1, "b")), (ORDERS, delete(2))]))
    keyless = table("public.orders", {"id": "int8", "note": "text"}, identity=ReplicaIdentity.FULL, version=2)
    steps = [(keyless, delete(3, "a")), (keyless, insert(1, "b"))]
    lane.apply(windows_of(TEN, TEN, steps)[2])
    rows = [(n, "a") for n in range(10) if n not in (1, 2, 3)] + [(1, "b")] * 2
    assert_content(keyless, row_table(keyless, rows))


def test_without_the_option_a_table_with_marked_rows_is_still_right(
    make_marking: MakeSink, make_sink: MakeSink, assert_content: Check, delta: Delta
) -> None:
    windows = windows_of(
        TEN,
        [(ORDERS, update(1, "b")), (ORDERS, delete(2))],
        [(ORDERS, update(3, "c")), (ORDERS, update(4, None, unchanged=["note"])), (ORDERS, insert(2, "again"))],
        [(ORDERS, update(5, "d"))],
    )
    TestLane(make_marking(), LANE).apply_all(windows[:2])
    TestLane(make_sink(), LANE, 2).apply(windows[2])
    assert delta(ORDERS).history(1)[0]["engineInfo"] != "wallaby"
    rows = dict.fromkeys(range(10), "a") | {1: "b", 2: "again", 3: "c"}
    assert_content(ORDERS, row_table(ORDERS, list(rows.items())))
    TestLane(make_marking(), LANE, 3).apply(windows[3])
    assert_content(ORDERS, row_table(ORDERS, list((rows | {5: "d"}).items())))


def test_a_table_made_without_the_option_gets_it(make_marking: MakeSink, make_sink: MakeSink, delta: Delta) -> None:
    windows = windows_of(TEN, [(ORDERS, update(1, "b"))])
    TestLane(make_sink(), LANE).apply(windows[0])
    assert delta(ORDERS).protocol().reader_features is None
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    assert delta(ORDERS).protocol().reader_features == ["deletionVectors"]
    version = delta(ORDERS).version()
    make_marking().ensure_table(ORDERS)
    assert delta(ORDERS).version() == version, "twice is not once"


@pytest.mark.parametrize(
    ("statement", "word"), [("constraint", "checkConstraints"), ("feed", "changeDataFeed")], ids=["CHECK", "feed"]
)
def test_a_table_with_what_only_the_engine_keeps_is_merged_and_that_is_said(
    statement: str, word: str, make_marking: MakeSink, make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    make_sink(change_data_feed=statement == "feed").ensure_table(ORDERS)
    if statement == "constraint":
        delta(ORDERS).alter.add_constraint({"positive": "id >= 0"})
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, update(1, "b"))]))
    assert delta(ORDERS).history(1)[0]["engineInfo"] != "wallaby"
    assert vectors_of(root, ORDERS) == []
    assert [(one.code, word in one.message) for one in lane.sink.check((ORDERS,))] == [("deletion-vectors", True)]
    with pytest.raises(Refused, match="constraint") if statement == "constraint" else pytest.MonkeyPatch.context():
        lane.apply(windows_of(TEN, TEN, [(ORDERS, update(1, "c")), (ORDERS, insert(-1, "d"))])[2])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"write_mode": "append"}, "deletion_vectors"),
        ({"write_mode": "history"}, "deletion_vectors"),
        ({"change_data_feed": True}, "change_data_feed"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FACTORY.create({"path": "lake", "deletion_vectors": True, **options}, destination="copy")
    assert caught.value.where["field"] == field


@pytest.mark.must_not_fail(25)
def test_a_damaged_vector_stops_the_flow(make_marking: MakeSink, root: Path) -> None:
    windows = windows_of(TEN, [(ORDERS, update(1, "b"))], [(ORDERS, update(2, "b"))])
    TestLane(make_marking(), LANE).apply_all(windows[:2])
    [vector] = vectors_of(root, ORDERS)
    content = bytearray(vector.read_bytes())
    content[-6] ^= 1
    vector.write_bytes(content)
    with pytest.raises(Refused, match="damaged") as caught:
        TestLane(make_marking(), LANE, 2).apply(windows[2])
    assert "resnapshot" in str(caught.value)


def aged(path: Path, days: int) -> None:
    then = time.time() - days * 24 * 3600
    for file in [*path.glob("*.parquet"), *path.glob(f"{FOLDER}/*")]:
        os.utime(file, (then, then))


@pytest.fixture
def turns(root: Path) -> Iterator[Callable[..., tuple[Chore, ...]]]:
    """A keeper's turns over the table of orders; what each did."""
    keeper = FACTORY.keeper({"path": str(root), "compact_files": 10}, flow=LANE.flow, destination=LANE.destination)

    def turn(*, days_later: int = 0) -> tuple[Chore, ...]:
        now = datetime.datetime.now(UTC) + datetime.timedelta(days=days_later)
        found = take_turn(keeper, ORDERS.name, now=now)
        assert found is not None
        assert found.failure == ""
        return found.done

    yield turn
    keeper.close()


@pytest.mark.must_not_fail(25)
def test_vacuums_of_others_leave_vectors_that_are_in_use(
    make_marking: MakeSink, root: Path, delta: Delta, assert_content: Check
) -> None:
    """One of deltalake that also looks for files nobody knows removes vectors anywhere but in this folder."""
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, update(1, "b"))], [(ORDERS, update(2, "b"))]))
    aged(Path(target_path(root, ORDERS.name)), 30)
    for is_full in (True, False):
        delta(ORDERS).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=is_full)
        rows = [(n, "b" if n in (1, 2) else "a") for n in range(10)]
        assert_content(ORDERS, row_table(ORDERS, rows))


def test_vectors_go_when_no_version_needs_them_and_not_before(
    make_marking: MakeSink, root: Path, delta: Delta, turns: Callable[..., tuple[Chore, ...]], assert_content: Check
) -> None:
    lane = TestLane(make_marking(), LANE)
    windows = windows_of(TEN, *[[(ORDERS, update(n, "b"))] for n in range(4)])
    lane.apply_all(windows)
    path = Path(target_path(root, ORDERS.name))
    assert len(vectors_of(root, ORDERS)) == 4
    nobodys = path / FOLDER / "deletion_vector_of-a-writer-that-died.bin"
    nobodys.write_bytes(b"nothing")
    assert Chore.EXPIRE not in turns()
    aged(path, 8)
    # Made long ago, but replaced just now: readers of the version before may still need them.
    assert Chore.EXPIRE in turns()
    assert not nobodys.exists()
    assert len(vectors_of(root, ORDERS)) == 4
    old = DeltaTable(str(path), version=delta(ORDERS).version() - 1)
    assert pa.table(QueryBuilder().register("t", old).execute("SELECT * FROM t")).num_rows == 10
    # As if the commits had been long ago, too.
    for entry in sorted((path / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                action["remove"]["deletionTimestamp"] -= 8 * 24 * 3600 * 1000
        entry.write_text("\n".join(json.dumps(action) for action in actions))
    for summary in (path / "_delta_log").glob("*checkpoint*"):
        summary.unlink()
    delta(ORDERS).create_checkpoint()
    assert Chore.EXPIRE in turns()
    assert len(vectors_of(root, ORDERS)) == 1
    assert_content(ORDERS, row_table(ORDERS, [(n, "b" if n < 4 else "a") for n in range(10)]))
    assert Chore.EXPIRE not in turns()


@pytest.mark.must_not_fail(25)
def test_a_log_with_actions_in_files_of_their_own_is_left_to_the_engine(
    make_marking: MakeSink, root: Path, delta: Delta, turns: Callable[..., tuple[Chore, ...]], assert_content: Check
) -> None:
    """Checkpoints of the second version have such; vectors in use would not be known, and be removed as nobody's."""
    windows = windows_of(TEN, [(ORDERS, update(1, "b"))], [(ORDERS, update(2, "c"))])
    TestLane(make_marking(), LANE).apply_all(windows[:2])
    path = Path(target_path(root, ORDERS.name))
    log, version = path / "_delta_log", delta(ORDERS).version()
    protocol = delta(ORDERS).protocol()
    features = {
        "readerFeatures": [*protocol.reader_features, "v2Checkpoint"],
        "writerFeatures": [*protocol.writer_features, "v2Checkpoint"],
    }
    entry = json.dumps({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}})
    (log / f"{version + 1:020d}.json").write_text(entry)
    nobodys = path / FOLDER / "deletion_vector_of-an-action-elsewhere.bin"
    nobodys.write_bytes(b"nothing")
    rest = {n: "b" if n == 1 else "a" for n in range(10)}
    assert_content(ORDERS, row_table(ORDERS, list(rest.items())))
    aged(path, 8)
    turns()
    assert nobodys.exists()
    lane = TestLane(make_marking(), LANE, 2)
    lane.apply(windows[2])
    assert [one.message.partition(":")[0] for one in lane.sink.check((ORDERS,))] == ["the table uses v2Checkpoint"]
    assert_content(ORDERS, row_table(ORDERS, list((rest | {2: "c"}).items())))


def test_care_counts_the_rows_that_are_left(make_marking: MakeSink, root: Path) -> None:
    lane = TestLane(make_marking(), LANE)
    lane.apply_all(windows_of(TEN, [(ORDERS, update(1, "b")), (ORDERS, delete(2))]))
    keeper = FACTORY.keeper({"path": str(root)}, flow=LANE.flow, destination=LANE.destination)
    condition = keeper.condition(ORDERS.name)
    assert condition is not None
    assert condition.rows == 9


def test_old_versions_are_read_as_they_were(make_marking: MakeSink, root: Path, delta: Delta) -> None:
    lane = TestLane(make_marking(), LANE)
    windows = windows_of(TEN, *[[(ORDERS, delete(n))] for n in range(4)])
    counts = {}
    for number, window in enumerate(windows):
        lane.apply(window)
        counts[delta(ORDERS).version()] = 10 - number
    delta(ORDERS).create_checkpoint()
    for version, count in counts.items():
        old = DeltaTable(target_path(root, ORDERS.name), version=version)
        assert pa.table(QueryBuilder().register("t", old).execute("SELECT * FROM t")).num_rows == count


def rewritten_log(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The log of the table of orders with every ``add`` changed, as another writer would have said it."""
    for entry in (Path(target_path(root, ORDERS.name)) / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            if "add" in action:
                change(action["add"])
        entry.write_text("\n".join(json.dumps(action) for action in actions))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, {"numRecords": 10, "tightBounds": False}),
        ('{"nullCount":{"id":0}}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":10,"tightBounds":true,"nullCount":{}}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":10,"tightBounds":false}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":10}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":null}', {"numRecords": 10, "tightBounds": False}),
    ],
)
def test_files_with_other_statistics_are_marked_and_read(
    said: str | None, expected: dict[str, Any], make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    windows = windows_of(TEN, [(ORDERS, update(3, "b"))])
    TestLane(make_marking(), LANE).apply(windows[0])
    rewritten_log(root, lambda add: add.update(stats=said) if said else add.pop("stats"))
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    [stats] = [one["add"]["stats"] for one in actions_of(root, ORDERS) if "deletionVector" in one.get("add", {})]
    assert json.loads(stats) == expected
    assert_content(ORDERS, row_table(ORDERS, [(n, "b" if n == 3 else "a") for n in range(10)]))


@pytest.mark.must_not_fail(25)
def test_a_file_of_which_rows_are_left_is_not_removed_whatever_the_log_says(
    make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    windows = windows_of(TEN, [(ORDERS, delete(n)) for n in range(6)])
    TestLane(make_marking(), LANE).apply(windows[0])
    rewritten_log(root, lambda add: add.update(stats='{"numRecords":6}'))
    with pytest.raises(Refused, match="count the rows"):
        TestLane(make_marking(), LANE, 2).apply(windows[1])
    assert_content(ORDERS, row_table(ORDERS, [(n, "a") for n in range(10)]))


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("kind", ["int8", "text"])
def test_of_large_files_of_others_only_parts_with_changed_rows_are_in_memory(
    kind: str, make_marking: MakeSink, root: Path, assert_content: Check, delta: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = table("public.orders", {"id": kind, "part": "int4", "note": "text"}, key=["id"])
    keys = [n if kind == "int8" else f"key {n}" for n in range(40)]
    rows = {key: (key, n % 3, f"a{n}") for n, key in enumerate(keys)}
    first = windows_of([(schema, insert(*row)) for row in rows.values()])[0]
    lane = TestLane(make_marking(), LANE)
    lane.apply(first)
    ordered = pa.Table.from_pylist(
        [dict(zip(("id", "part", "note"), row, strict=True)) for row in rows.values()],
        schema=pa.schema(delta(schema).schema().to_arrow()),
    )
    write_deltalake(
        delta(schema),
        ordered,
        mode="overwrite",
        writer_properties=WriterProperties(max_row_group_size=10, write_batch_size=10),
    )
    read, groups = pq.ParquetFile.read_row_group, []

    def counted(file: pq.ParquetFile, i: int, *args: Any, **named: Any) -> pa.Table:
        groups.append(i)
        return read(file, i, *args, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    changes = [update(keys[13], 7, None, unchanged=["note"]), update(keys[35], 8, "b"), delete(keys[15])]
    rest = [delete(key) for key in keys[:30] if key not in (keys[13], keys[15])]
    windows = windows_of(
        [(schema, insert(*row)) for row in rows.values()],
        *[[(schema, c)] for c in changes],
        [(schema, c) for c in rest],
    )
    lane.apply(windows[1])
    assert set(groups) == {1}
    lane.apply_all(windows[2:])
    for key in keys[:30]:
        del rows[key]
    rows |= {keys[13]: (keys[13], 7, "a13"), keys[35]: (keys[35], 8, "b")}
    assert_content(schema, row_table(schema, list(rows.values())))
    assert sorted(groups)[-1] == 3


@pytest.mark.must_not_fail(12)
def test_a_partition_of_an_empty_text_is_null(make_marking: MakeSink, root: Path, assert_content: Check) -> None:
    schema = table("public.orders", {"id": "int8", "part": "int4", "note": "text"}, key=["id"])
    rows = [(schema, insert(1, None, "a")), (schema, insert(2, None, "a"))]
    windows = windows_of(rows, [(schema, update(1, None, "b", unchanged=["part"]))])
    TestLane(make_marking(partition_by="part"), LANE).apply(windows[0])
    rewritten_log(root, lambda add: add.update(partitionValues={"part": ""}))
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    assert_content(schema, row_table(schema, [(1, None, "b"), (2, None, "a")]))


@pytest.mark.must_not_fail(12)
def test_bounds_keep_all_their_digits(make_marking: MakeSink, root: Path) -> None:
    """As numbers of JSON they have more digits than a reader of JSON keeps."""
    windows = windows_of(TEN, [(ORDERS, update(3, "b"))])
    TestLane(make_marking(), LANE).apply(windows[0])
    digits = "12345678901234567890.123456789012345678"
    stats = f'{{"numRecords":10,"minValues":{{"price":{digits}}},"maxValues":{{"price":{digits}}}}}'
    rewritten_log(root, lambda add: add.update(stats=stats))
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    [again] = [one["add"]["stats"] for one in actions_of(root, ORDERS) if "deletionVector" in one.get("add", {})]
    assert again == '{"tightBounds":false,' + stats[1:]


class Unreliable:
    """A directory that fails at one entry, before or after it made it."""

    def __init__(self, *, is_made: bool) -> None:
        self._inner = Directory()
        self._is_made = is_made
        self.failures = 1

    def write(self, path: str, fill: Callable[[pa.NativeFile], None]) -> int:
        return self._inner.write(path, fill)

    def create(self, path: str, content: bytes, *, scratch: str) -> bool:
        if not self.failures:
            return self._inner.create(path, content, scratch=scratch)
        self.failures -= 1
        if self._is_made:
            assert self._inner.create(path, content, scratch=scratch)
        raise OSError("the connection is gone")


@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("is_made", [False, True], ids=["not made", "made"])
def test_an_answer_that_is_lost_loses_and_doubles_nothing(
    is_made: bool, make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    windows = windows_of(TEN, [(ORDERS, update(3, "b")), (ORDERS, insert(10, "c"))], [(ORDERS, update(10, "d"))])
    TestLane(make_marking(), LANE).apply(windows[0])
    sink = make_marking()
    lane = TestLane(sink, LANE, 2)
    sink.ensure_table(ORDERS)
    sink._store._maker = Unreliable(is_made=is_made)
    sink._tables._logs.clear()
    with pytest.raises(Transient):
        lane.apply(windows[1])
    files = files_of(root, ORDERS)
    rows = dict.fromkeys(range(10), "a") | ({3: "b", 10: "c"} if is_made else {})
    assert_content(ORDERS, row_table(ORDERS, list(rows.items())))
    again = TestLane(make_marking(), LANE, 3)
    assert again.position == windows[0].upto
    again.apply_all(windows[1:])
    assert files <= files_of(root, ORDERS), "what may be in the log was removed"
    rows |= {3: "b", 10: "d"}
    assert_content(ORDERS, row_table(ORDERS, list(rows.items())))


def test_a_file_system_without_links_is_said(
    make_marking: MakeSink, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(Refused, match="does not make links") as caught:
        make_marking().ensure_table(ORDERS)
    assert "deletion_vectors" in caught.value.advice


def test_a_bucket_needs_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtra) as caught:
        FACTORY.create({"path": "s3://bucket/lake", "deletion_vectors": True}, destination="copy")
    assert "wallaby[delta]" in caught.value.advice
    FACTORY.create({"path": "s3://bucket/lake"}, destination="copy").close()
