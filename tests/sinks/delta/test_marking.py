"""Mirrors by deletion vectors: content by hash in three readers, races with everybody, and what is not rewritten."""

from __future__ import annotations

import datetime
import errno
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError

from sinks.delta import FACTORY
from sinks.delta.errors import Conflict
from sinks.delta.folder import Directory
from sinks.delta.store import commit_properties
from tests.sinks.delta.conftest import target_path
from tests.sinks.delta.marked import (
    LANE,
    ORDERS,
    TEN,
    Check,
    Delta,
    MakeSink,
    actions_of,
    compacting,
    files_of,
    vectors_of,
)
from tests.sinks.lane import TestLane
from wallaby.care import Chore, take_turn
from wallaby.errors import ConfigError, MissingExtra, Refused, Transient
from wallaby.schema import Column, ReplicaIdentity, TableSchema
from wallaby.testing.changes import Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.contract.values import _EXTREMES, _TYPES
from wallaby.testing.history import RandomHistory, Row, row_table
from wallaby.transform import mirror
from wallaby.window import LaneId


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
    with compacting(target_path(root, ORDERS.name)):
        lane.apply_all(windows[1:])
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
