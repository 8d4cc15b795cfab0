"""Commits over several tables, stopped between them; fences; writers from outside; tables without a key."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from sinks.delta import lanes
from sinks.delta.errors import Conflict
from sinks.delta.lanes import Lanes, Mark
from sinks.delta.mirror import appended
from sinks.delta.sink import DeltaSink
from sinks.delta.stage import Stage
from sinks.delta.store import commit_properties
from sinks.delta.writer import DeltaWriter
from tests.sinks.delta.conftest import target_path
from tests.sinks.delta.marked import compacting
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import Refused, Superseded, WallabyError
from wallaby.lsn import START, Lsn, Position
from wallaby.record import LaneRecord
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.testing.changes import Stream, Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import Row, row_table
from wallaby.window import CommitToken, LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
ITEMS = table("public.items", {"id": "int8", "note": "text"}, key=["id"])
MakeSink = Callable[..., DeltaSink]
Delta = Callable[[TableSchema], DeltaTable]


def assert_rows(found: pa.Table, schema: TableSchema, expected: list[Row]) -> None:
    rows = found.select([column.name for column in schema.columns])
    assert canonical_hash(rows) == canonical_hash(row_table(schema, expected)), rows.to_pylist()


@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_commit_stopped_between_two_tables_is_finished_by_windows_cut_elsewhere(
    mode: str, make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    steps = [[(ORDERS, insert(n, "a")), (ITEMS, insert(n, "a"))] for n in range(6)]
    steps[4] += [(ORDERS, delete(0)), (ORDERS, update(1, "changed"))]
    one = TestLane(make_sink(write_mode=mode), LANE)
    windows = windows_of(*steps)
    for schema in (ORDERS, ITEMS):
        one.sink.ensure_table(schema)
    one.apply(windows[0])
    for window in windows[1:4]:
        one.writer.write(window)
    shutil.move(target_path(root, ITEMS.name), root / "away")
    with pytest.raises(WallabyError):
        one.writer.commit(one.token(windows[3].upto))
    shutil.rmtree(target_path(root, ITEMS.name), ignore_errors=True)
    shutil.move(root / "away", target_path(root, ITEMS.name))
    assert delta(ORDERS).to_pyarrow_table().num_rows == 4, "the first table has its part"
    assert delta(ITEMS).to_pyarrow_table().num_rows == 1

    two = TestLane(make_sink(write_mode=mode), LANE, epoch=2)
    assert two.position == windows[0].upto, "the lane as a whole has not moved"
    # The same stream in other pieces: one that straddles where the first table stands, then the rest.
    two.writer.write(windows[1])
    two.apply(windows[2])
    two.writer.write(windows[3])
    two.writer.write(windows[4])
    two.apply(windows[5])
    if mode == "mirror":
        expected = [(1, "changed"), *((n, "a") for n in range(2, 6))]
        assert_rows(delta(ORDERS).to_pyarrow_table(), ORDERS, expected)
        assert_rows(delta(ITEMS).to_pyarrow_table(), ITEMS, [(n, "a") for n in range(6)])
    else:
        for schema, count in ((ORDERS, 8), (ITEMS, 6)):
            log = delta(schema).to_pyarrow_table(columns=["__commit_lsn", "__ordinal", "__op"])
            assert len(log) == count
            assert len(log.group_by(log.column_names).aggregate([])) == count


@pytest.mark.must_not_fail(20)
def test_two_commits_of_a_lane_that_did_not_see_each_other_conflict(make_sink: MakeSink, delta: Delta) -> None:
    make_sink().ensure_table(ORDERS)
    one, two, other = (delta(ORDERS) for _ in range(3))
    rows = pa.table({"id": pa.array([1], pa.int64()), "note": ["a"]})

    def properties(lane: LaneId, lsn: int) -> CommitProperties:
        return commit_properties(lanes.transactions(lane, Mark(LaneRecord(Position(Lsn(lsn)), 1))), {})

    appended(one, rows, ORDERS.name)(properties(LANE, 10))
    with pytest.raises(Conflict):
        appended(two, rows, ORDERS.name)(properties(LANE, 10))
    appended(other, rows, ORDERS.name)(properties(LaneId("else", "copy"), 10))
    assert delta(ORDERS).to_pyarrow_table().num_rows == 2


@pytest.mark.must_not_fail(20)
def test_lanes_that_make_the_same_table_at_once_share_it(
    make_sink: MakeSink, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine tells the second of a conflict about the very first version: found by four lanes on an S3 server."""
    create = DeltaTable.create

    def second(*arguments: Any, **options: Any) -> DeltaTable:
        create(*arguments, **options)
        raise CommitFailedError("Protocol changed since last commit")

    monkeypatch.setattr(DeltaTable, "create", second)
    lane = TestLane(make_sink(), LANE)
    lane.apply(windows_of([(ORDERS, insert(1, "a"))])[0])
    monkeypatch.undo()
    assert TestLane(make_sink(), LANE, 2).position == lane.position


def test_records_of_every_position_come_back_exactly(make_sink: MakeSink) -> None:
    records: Lanes = make_sink()._records
    for lsn, ordinal in ((0, 7), (1, 0), (2**63 - 1, 2**63), (2**64 - 1, 2**64 - 1), (2**63, 0)):
        found = records.read(LANE)
        mark = Mark(LaneRecord(Position(Lsn(lsn), ordinal), 5), 3)
        records.move(LANE, found, mark, details={})
        assert records.read(LANE) == mark


def test_lanes_of_flows_with_slashes_in_their_names_are_kept_apart(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.recover(LaneId("a/b", "c"), 7)
    assert sink._records.read(LaneId("a", "b/c")) == Mark()


@pytest.mark.must_not_fail(20)
def test_a_record_somebody_else_moved_is_not_moved_even_when_it_was_loaded_again(make_sink: MakeSink) -> None:
    """A writer looks at its epoch in the middle of a commit: that must not make the position of others its own."""
    one: Lanes = make_sink()._records
    two: Lanes = make_sink()._records
    found = one.read(LANE)
    assert two.read(LANE) == found
    two.move(LANE, found, Mark(LaneRecord(Position(Lsn(10)), 1)), details={})
    one.read(LANE)
    with pytest.raises(Conflict):
        one.move(LANE, found, Mark(LaneRecord(Position(Lsn(20)), 1)), details={})
    assert two.read(LANE).record.position == Position(Lsn(10))


@pytest.mark.must_not_fail(3)
def test_an_older_version_of_the_records_is_refused(make_sink: MakeSink, root: Path) -> None:
    lane = TestLane(make_sink(), LANE)
    windows = windows_of(*[[(ORDERS, insert(n, "a"))] for n in range(3)])
    lane.apply(windows[0])
    records = DeltaTable(str(root / "_wallaby" / "lanes"))
    version = records.version()
    lane.apply(windows[1])
    (root / "_wallaby" / "lanes" / "_delta_log" / f"{version + 1:020d}.json").unlink()
    again = TestLane(make_sink(), LANE)
    assert again.position == windows[0].upto
    again.writer.write(windows[2])
    token = CommitToken(LANE, 1, windows[1].upto, windows[2].upto, 1)
    with pytest.raises(Refused, match="went back in time"):
        again.writer.commit(token)


@pytest.mark.must_not_fail(20)
def test_a_leftover_cannot_change_the_shape_of_a_table(make_sink: MakeSink, delta: Delta) -> None:
    wider = table("public.orders", {"id": "int8", "note": "text", "extra": "text"}, key=["id"], version=2)
    leftover = make_sink()
    leftover.ensure_table(ORDERS)
    leftover.recover(LANE, 1)
    owner = make_sink()
    owner.recover(LANE, 2)
    owner.ensure_table(wider)
    with pytest.raises(Superseded):
        leftover.ensure_table(ORDERS)
    assert delta(ORDERS).schema().to_arrow().names == ["id", "note", "extra"]


def test_rows_and_columns_of_others_are_left_alone(make_sink: MakeSink, delta: Delta, root: Path) -> None:
    path = target_path(root, ORDERS.name)
    fields = pa.schema([("id", pa.int64()), ("note", pa.string()), ("theirs", pa.int32())])
    write_deltalake(path, pa.table([[1, 100], ["old", "x"], [7, 8]], schema=fields))
    lane = TestLane(make_sink(), LANE)
    first, second, third = windows_of(
        [(ORDERS, update(1, "new")), (ORDERS, insert(2, "b"))], [(ORDERS, insert(3, "c"))], [(ORDERS, delete(2))]
    )
    lane.apply(first)
    write_deltalake(path, pa.table([[200], ["appended"], [9]], schema=fields), mode="append")
    lane.apply(second)
    DeltaTable(path).optimize.compact()
    lane.apply(third)
    rows = sorted(delta(ORDERS).to_pyarrow_table().to_pylist(), key=lambda row: row["id"])
    assert [tuple(row.values()) for row in rows] == [
        (1, "new", 7),
        (3, "c", None),
        (100, "x", 8),
        (200, "appended", 9),
    ]


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_compactions_of_others_beside_our_commits_lose_nothing(
    mode: str, make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    """Whoever loses a race tries again: we do, and so does this user."""
    lane = TestLane(make_sink(write_mode=mode), LANE)
    rows = [[(ORDERS, insert(n, "a")), (ORDERS, update(n // 2, "b"))] for n in range(30)]
    windows = windows_of(*rows)
    lane.apply(windows[0])
    with compacting(target_path(root, ORDERS.name)):
        for window in windows[1:]:
            lane.apply(window)
    found = delta(ORDERS).to_pyarrow_table()
    if mode == "mirror":
        assert_rows(found, ORDERS, [(n, "b" if n < 15 else "a") for n in range(30)])
    else:
        assert len(found) == 60
        assert len(found.group_by(["__commit_lsn", "__ordinal", "__op"]).aggregate([])) == 60


def test_a_large_transaction_waits_on_disk_and_is_applied_in_slices(make_sink: MakeSink, delta: Delta) -> None:
    sink = make_sink()
    sink.recover(LANE, 1)
    sink.ensure_table(ORDERS)
    stage = Stage(memory_bytes=3_000, slice_bytes=4_000)
    writer = DeltaWriter(sink._records, sink._tables, sink._upkeep, LANE, stage=stage)
    stream = Stream()
    steps = [(ORDERS, insert(n, "a")) for n in range(20)] + [(ORDERS, update(n, "b")) for n in range(20)]
    stream.transaction(steps)
    windows = stream.windows([(0, done) for done in range(1, len(steps) + 1)])
    for window in windows:
        writer.write(window)
    assert stage._file_bytes > 0
    upto = windows[-1].upto
    writer.commit(CommitToken(LANE, 1, START, upto, 40))
    assert stage._file is None
    assert_rows(delta(ORDERS).to_pyarrow_table(), ORDERS, [(n, "b") for n in range(20)])
    positions = [entry.get("wallaby.upto") for entry in delta(ORDERS).history()]
    assert len([upto for upto in positions if upto]) > 1, "in one commit after all"
    assert lanes.read(delta(ORDERS), LANE).record.position == upto


def test_new_keys_are_appended_and_changed_ones_rewrite_only_files_that_can_hold_them(
    make_sink: MakeSink, delta: Delta
) -> None:
    lane = TestLane(make_sink(), LANE)
    inserts = [[(ORDERS, insert(n * 10 + i, "a")) for i in range(10)] for n in range(5)]
    for window in windows_of(*inserts, [(ORDERS, update(12, "b")), (ORDERS, update(43, "b"))]):
        lane.apply(window)
    history = [entry for entry in delta(ORDERS).history() if "wallaby.upto" in entry]
    assert [entry["operation"] for entry in history] == ["MERGE", *["WRITE"] * 5]
    assert history[0]["operationMetrics"]["num_target_files_removed"] == 2
    assert history[0]["operationMetrics"]["num_target_rows_copied"] == 18


def test_rows_to_be_updated_that_are_gone_are_refused_before_anything_is_written(
    make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    lane = TestLane(make_sink(), LANE)
    moved, toast = (
        (ORDERS, update(5, None, old=[2], unchanged=["note"])),
        (ORDERS, update(1, None, unchanged=["note"])),
    )
    for number, step in enumerate((moved, toast), 2):
        first, second = windows_of(
            [(ORDERS, insert(1, "a")), (ORDERS, insert(2, "b"))], [step, (ORDERS, insert(9, "c"))]
        )
        lane.position = lane.sink.recover(LANE, number)
        lane.sink.reset_table(ORDERS.name, LANE, number)
        lane.sink.reset_lane(LANE, number)
        lane = TestLane(lane.sink, LANE, number)
        lane.apply(first)
        DeltaTable(target_path(root, ORDERS.name)).delete("id IN (1, 2)")
        with pytest.raises(Refused, match="not in the destination"):
            lane.apply(second)
        assert delta(ORDERS).to_pyarrow_table().num_rows == 0


@pytest.mark.must_not_fail(9)
def test_deletes_without_a_key_that_find_no_row_are_refused(make_sink: MakeSink, delta: Delta, root: Path) -> None:
    schema = table("public.lines", {"n": "int4", "note": "text"}, identity=ReplicaIdentity.FULL)
    lane = TestLane(make_sink(), LANE)
    first, second = windows_of(
        [(schema, insert(1, "a")), (schema, insert(1, "a"))], [(schema, delete(1, "a")), (schema, delete(1, "a"))]
    )
    lane.apply(first)
    version = delta(schema).version()
    DeltaTable(target_path(root, schema.name)).delete()
    write_deltalake(
        target_path(root, schema.name), pa.table({"n": pa.array([1], pa.int32()), "note": ["a"]}), mode="append"
    )
    with pytest.raises(Refused, match="1 rows to be removed"):
        lane.apply(second)
    assert delta(schema).version() == version + 2


@pytest.mark.must_not_fail(10)
def test_truncates_are_rows_of_a_log(make_sink: MakeSink, delta: Delta) -> None:
    lane = TestLane(make_sink(write_mode="append"), LANE)
    for window in windows_of([(ORDERS, insert(1, "a"))], [Truncate((ORDERS.name,))]):
        lane.apply(window)
    assert sorted(delta(ORDERS).to_pyarrow_table()["__op"].to_pylist()) == ["i", "t"]


@pytest.mark.must_not_fail(22)
def test_keys_of_every_kind_are_found_again(make_sink: MakeSink, delta: Delta) -> None:
    """Bounds of the keys are written into the merge's predicate."""
    words = ["", "it's", '"', "back\\slash", "line\nbreak", "ünï 表", "x" * 150, "%", "?", "$1", "--", ";"]
    texts = table("public.texts", {"id": "text", "n": "int4"}, key=["id"])
    numbers = table("public.numbers", {"id": "int8", "n": "int4"}, key=["id"])
    days = table("public.days", {"id": "date", "n": "int4"}, key=["id"])
    shorts = table("public.shorts", {"id": "int2", "note": "text", "n": "int4"}, key=["id", "note"])
    keys: list[tuple[TableSchema, list[Row]]] = [
        (texts, [(word,) for word in words]),
        (numbers, [(number,) for number in (-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1)]),
        (days, [(datetime.date(1, 1, 1),), (datetime.date(1970, 1, 1),), (datetime.date(9999, 12, 31),)]),
        (shorts, [(-32768, "a"), (-32768, "b"), (32767, "a")]),
    ]
    lane = TestLane(make_sink(), LANE)
    everything = [(schema, key) for schema, all_keys in keys for key in all_keys]
    for window in windows_of(
        [(schema, insert(*key, 0)) for schema, key in everything],
        [(schema, update(*key, 1)) for schema, key in everything],
        [(schema, update(*key, 2)) for schema, key in everything[::2]],
        [(schema, delete(*all_keys[0])) for schema, all_keys in keys],
    ):
        lane.apply(window)
    for schema, all_keys in keys:
        twice = {key for one, key in everything[::2] if one is schema}
        expected = [(*key, 2 if key in twice else 1) for key in all_keys[1:]]
        assert_rows(delta(schema).to_pyarrow_table(), schema, expected)


@pytest.mark.must_not_fail(22)
def test_columns_called_like_parts_of_the_merge_are_columns_like_any_other(make_sink: MakeSink, delta: Delta) -> None:
    names = ["c1", "c0", "op", "source", "target", "min.c1", "__outliers_"]
    schema = table("public.source", dict.fromkeys(names, "int8"), key=["c1", "target"])
    lane = TestLane(make_sink(), LANE)
    for window in windows_of(
        [(schema, insert(*range(7))), (schema, insert(*range(10, 17)))],
        [(schema, update(0, 7, 7, 7, 4, 7, None)), (schema, delete(10, 14))],
    ):
        lane.apply(window)
    assert_rows(delta(schema).to_pyarrow_table(), schema, [(0, 7, 7, 7, 4, 7, None)])


@pytest.mark.must_not_fail(7)
@pytest.mark.parametrize("mode", ["mirror", "history"])
def test_a_column_called_like_the_plan_s_own_keeps_its_values(mode: str, make_sink: MakeSink, delta: Delta) -> None:
    schema = table("public.named", {"id": "int8", "__outliers": "text"}, key=["id"])
    lane = TestLane(make_sink(write_mode=mode), LANE)
    [window] = windows_of([(schema, insert(1, "a")), (schema, insert(2, "b"))])
    lane.apply(window)
    assert_rows(delta(schema).to_pyarrow_table(), schema, [(1, "a"), (2, "b")])
