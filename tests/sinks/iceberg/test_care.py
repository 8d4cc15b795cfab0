"""Care for tables beside a lane: rows stay what they are, whoever commits first, and positions stay known."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from sinks.iceberg import FACTORY, compaction, expiry
from sinks.iceberg.care import IcebergKeeper
from sinks.iceberg.catalogs import commit
from sinks.iceberg.reader import mirror_rows, rows_as, snapshot_as_of
from sinks.iceberg.sink import IcebergSink
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lane import TestLane
from wallaby.care import Chore, Turn, take_turn
from wallaby.content import canonical_hash
from wallaby.errors import OutcomeUnknown
from wallaby.lsn import Lsn
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableName
from wallaby.testing.changes import Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import RandomHistory, row_table

OTHER = table("public.other", {"id": "int8", "note": "text"}, key=["id"])
NAME = TableName("public", "other")
STRATEGIES = ("position-deletes", "copy-on-write")
NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=30)
MakeSink = Callable[..., IcebergSink]
MakeKeeper = Callable[..., IcebergKeeper]


@pytest.fixture
def make_keeper(lake: Lake) -> Iterator[MakeKeeper]:
    made: list[IcebergKeeper] = []

    def make(**options: Any) -> IcebergKeeper:
        keeper = FACTORY.keeper(
            lake.options(**{"compact_files": 2, **options}), flow=LANE.flow, destination=LANE.destination
        )
        assert isinstance(keeper, IcebergKeeper)
        made.append(keeper)
        return keeper

    yield make
    for keeper in made:
        keeper.close()


def loaded(lake: Lake, name: TableName = NAME) -> Table:
    return lake.catalog.load_table((name.schema, name.name))


def assert_rows(lake: Lake, rows: list[tuple[object, ...]]) -> None:
    expected = row_table(OTHER, rows).select([0, 1])  # type: ignore[arg-type]  # rows of any kind
    assert canonical_hash(mirror_rows(loaded(lake), OTHER)) == canonical_hash(expected)


def turn(keeper: IcebergKeeper, name: TableName = NAME, now: datetime = NOW) -> Turn:
    found = take_turn(keeper, name, now=now)
    assert found is not None
    assert found.failure == ""
    return found


def data_paths(found: Table) -> set[str]:
    return {task.file.file_path for task in found.scan().plan_files()}


def in_the_middle(monkeypatch: pytest.MonkeyPatch, module: Any, act: Callable[[], object]) -> list[int]:
    """``act`` happens once, right before the first commit of ``module``; counts its commits."""
    commits: list[int] = []

    def committed(*arguments: Any) -> None:
        commits.append(1)
        if len(commits) == 1:
            act()
        commit(*arguments)

    monkeypatch.setattr(module, "commit", committed)
    return commits


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_history_with_a_turn_of_care_after_every_commit_ends_at_the_content_of_the_source(
    strategy: str, lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    history = RandomHistory(4, transactions=14)
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    keeper = make_keeper(snapshots_max=2)
    for window in history.windows():
        lane.apply(window)
        for name in keeper.tables():
            turn(keeper, name)
    for schema in history.tables:
        found = loaded(lake, schema.name)
        expected = history.expected(schema).select(range(len(schema.columns)))
        assert canonical_hash(mirror_rows(found, schema)) == canonical_hash(expected), schema.name
        by_duckdb = rows_as(lake.by_duckdb(found), arrow_schema(schema))
        assert canonical_hash(by_duckdb) == canonical_hash(expected), schema.name


def test_small_files_become_one_and_deleted_rows_go(lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper) -> None:
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(
        windows_of(*[[(OTHER, insert(n, "a"))] for n in range(6)], [(OTHER, delete(1)), (OTHER, update(2, "b"))])
    )
    found = turn(make_keeper())
    assert (found.due, found.done) == ((Chore.COMPACT, Chore.ORPHANS), (Chore.COMPACT, Chore.ORPHANS))
    assert (found.before.files, found.before.small_files, found.before.delete_files, found.before.deleted_rows) == (
        7,
        7,
        1,
        2,
    )
    assert (found.after.files, found.after.rows) == (1, 5)
    assert_rows(lake, [(0, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "a")])
    assert lake.by_duckdb(loaded(lake)).num_rows == 5
    snapshot = loaded(lake).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation.value == "replace"
    assert snapshot.summary["total-data-files"] == "1"


def test_delete_files_become_one_and_those_for_files_that_are_gone_become_none(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    rows = [(OTHER, insert(n, "a")) for n in range(100)]
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of(rows, *[[(OTHER, delete(n))] for n in range(3)]))
    found = turn(make_keeper())
    assert (found.before.delete_files, found.after.delete_files, found.after.deleted_rows) == (3, 1, 3)
    lane.apply_all(
        windows_of(rows, *[[(OTHER, delete(n))] for n in range(3)], [(OTHER, delete(n)) for n in range(3, 60)])[4:]
    )
    found = turn(make_keeper())
    assert (found.after.delete_files, found.after.deleted_rows, found.after.rows) == (0, 0, 40)
    assert_rows(lake, [(n, "a") for n in range(60, 100)])


def test_a_table_nothing_happened_to_is_left_alone(lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper) -> None:
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of(*[[(OTHER, insert(n, "a"))] for n in range(3)]))
    keeper = make_keeper()
    turn(keeper)
    before = loaded(lake).metadata_location
    assert turn(keeper).due == ()
    assert loaded(lake).metadata_location == before


@pytest.mark.must_not_fail(17)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("layout", [{}, {"sort_by": "id:desc"}, {"partition_by": "id:bucket[1]"}], ids=str)
def test_a_compaction_that_a_lane_overtakes_keeps_its_work_and_loses_no_change(
    layout: dict[str, str],
    lake: Lake,
    make_sink: MakeSink,
    make_keeper: MakeKeeper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it wrote, rows of its files were deleted, updated and added: they are in the new files, too."""
    windows = windows_of(
        [(OTHER, insert(n, "a")) for n in range(4)],
        [(OTHER, insert(n, "a")) for n in range(4, 7)],
        [(OTHER, insert(n, "a")) for n in range(7, 10)],
        [(OTHER, delete(1)), (OTHER, delete(7))],
        [(OTHER, update(2, "b")), (OTHER, delete(8)), (OTHER, insert(20, "c"))],
        [(OTHER, update(20, "d")), (OTHER, delete(9))],
    )
    lane = TestLane(make_sink(**layout), LANE)
    lane.apply_all(windows[:4])
    commits = in_the_middle(monkeypatch, compaction, lambda: lane.apply_all(windows[4:5]))
    assert Chore.COMPACT in turn(make_keeper()).done
    assert len(commits) == 2
    kept = [(n, "a") for n in (0, 3, 4, 5, 6, 9)]
    assert_rows(lake, [*kept, (2, "b"), (20, "c")])
    assert lake.by_duckdb(loaded(lake)).num_rows == 8
    lane.apply_all(windows[5:])
    assert_rows(lake, [*kept[:-1], (2, "b"), (20, "d")])


@pytest.mark.must_not_fail(17)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("buffer", ["64MiB", "1B"], ids=["in memory", "in files"])
def test_a_lane_that_a_compaction_overtakes_commits_at_the_second_try(
    buffer: str, strategy: str, lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    """In files: a commit too large to be folded again, whose deleted rows are in files that stayed."""
    large = [(OTHER, insert(n, "x" * 200)) for n in range(400)]
    windows = windows_of(
        large,
        [(OTHER, insert(1000, "a"))],
        [(OTHER, insert(1001, "a"))],
        [(OTHER, update(5, "b")), (OTHER, insert(1002, "c"))],
    )
    lane = TestLane(make_sink(mirror_strategy=strategy, write_buffer_size=buffer), LANE)
    lane.apply_all(windows[:3])
    lane.write(windows[3])
    found = turn(make_keeper())
    assert (found.before.files, found.after.files) == (3, 2)
    receipt = lane.writer.commit(lane.token(windows[3].upto))
    assert receipt.upto == windows[3].upto
    rows = [(n, "x" * 200) for n in range(400) if n != 5]
    assert_rows(lake, [*rows, (5, "b"), (1000, "a"), (1001, "a"), (1002, "c")])


@pytest.mark.must_not_fail(17)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_lane_and_care_at_the_same_time_end_at_the_content_of_the_source(
    strategy: str, lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    """Two threads with nothing in common but the catalog; whoever is first at a commit differs from run to run."""
    history = RandomHistory(11, transactions=40)
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    for schema in history.tables:
        lane.sink.ensure_table(schema)
    is_over = threading.Event()
    failures: list[str] = []

    def care() -> None:
        keeper = FACTORY.keeper(
            lake.options(compact_files=2, snapshots_max=3), flow=LANE.flow, destination=LANE.destination
        )
        while not is_over.is_set():
            turns = [take_turn(keeper, schema.name, now=NOW) for schema in history.tables]
            failures.extend(one.failure for one in turns if one is not None and one.failure)
        keeper.close()

    beside = threading.Thread(target=care)
    beside.start()
    try:
        lane.apply_all(history.windows(), commit_every=2)
    finally:
        is_over.set()
        beside.join()
    for schema in history.tables:
        turn(make_keeper(), schema.name)
        expected = history.expected(schema).select(range(len(schema.columns)))
        assert canonical_hash(mirror_rows(loaded(lake, schema.name), schema)) == canonical_hash(expected), schema.name
    assert failures == []


@pytest.mark.must_not_fail(10)
def test_a_compaction_gives_up_when_its_files_are_gone(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    *before, truncate = windows_of(*[[(OTHER, insert(n, "a"))] for n in range(4)], [Truncate((NAME,))])
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(before)
    in_the_middle(monkeypatch, compaction, lambda: lane.apply(truncate))
    found = turn(make_keeper())
    assert Chore.COMPACT in found.yielded
    assert_rows(lake, [])
    paths = {Path(path).name for path in map(str, (lake.folder / "warehouse").rglob("data/*.parquet"))}
    assert len(paths) == 4, "what it wrote is removed"


def test_a_compaction_whose_commit_may_have_happened_removes_nothing(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of(*[[(OTHER, insert(n, "a"))] for n in range(4)]))

    def lost(*arguments: Any) -> None:
        commit(*arguments)
        raise OutcomeUnknown("the answer was lost")

    monkeypatch.setattr(compaction, "commit", lost)
    found = take_turn(make_keeper(), NAME, now=NOW)
    assert found is not None
    assert "answer was lost" in found.failure
    assert_rows(lake, [(n, "a") for n in range(4)])


@pytest.mark.must_not_fail(2)
def test_positions_survive_compaction_and_expiry(lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper) -> None:
    windows = windows_of(*[[(OTHER, insert(n, "a"))] for n in range(8)])
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows[:6])
    found = turn(make_keeper(snapshots_max=1), now=LATER)
    assert Chore.EXPIRE in found.done
    assert found.after.versions == 1
    again = TestLane(make_sink(), LANE, epoch=2)
    assert again.position == windows[5].upto
    again.apply_all(windows[4:])
    assert_rows(lake, [(n, "a") for n in range(8)])


def test_a_reader_may_ask_for_any_lsn_the_kept_snapshots_reach(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    windows = windows_of(*[[(OTHER, insert(n, "a"))] for n in range(30)])
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows)
    turn(make_keeper(snapshots_max=5))
    found = loaded(lake)
    for number, window in enumerate(windows):
        snapshot = snapshot_as_of(found, window.upto.lsn)
        # The compaction's snapshot is one of the five, and holds what the last window's does.
        if number < 26:
            assert snapshot is None, number
        else:
            assert mirror_rows(found, OTHER, snapshot_id=snapshot).num_rows == number + 1
    beyond = snapshot_as_of(found, Lsn(int(windows[-1].upto.lsn) + 1))
    assert beyond == found.metadata.current_snapshot_id


def test_expiry_removes_what_only_old_snapshots_needed_and_nothing_else(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of(*[[(OTHER, insert(n, "a")), (OTHER, delete(n - 1))] for n in range(5)]))
    turn(make_keeper(snapshots_max=1), now=LATER)
    folder = lake.folder / "warehouse" / "public" / "other"
    assert {path.name for path in (folder / "data").rglob("*.parquet")} == {
        Path(path).name for path in data_paths(loaded(lake))
    }
    assert len(list((folder / "metadata").glob("snap-*.avro"))) == 1
    assert_rows(lake, [(4, "a")])
    assert lake.by_duckdb(loaded(lake)).num_rows == 1


def test_a_tag_keeps_its_snapshot_readable(lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper) -> None:
    lane = TestLane(make_sink(), LANE)
    windows = windows_of(*[[(OTHER, insert(n, "a"))] for n in range(5)])
    lane.apply_all(windows[:2])
    tagged = loaded(lake).current_snapshot()
    assert tagged is not None
    loaded(lake).manage_snapshots().create_tag(tagged.snapshot_id, "audit").commit()
    lane.apply_all(windows[2:])
    turn(make_keeper(snapshots_max=1), now=LATER)
    found = loaded(lake)
    assert {one.snapshot_id for one in found.snapshots()} == {tagged.snapshot_id, found.metadata.current_snapshot_id}
    assert mirror_rows(found, OTHER, snapshot_id=tagged.snapshot_id).num_rows == 2


@pytest.mark.must_not_fail(17)
def test_expiry_and_a_lane_meet_without_harm(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = windows_of(*[[(OTHER, update(1, str(n)) if n else insert(1, "0"))] for n in range(30)])
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows[:28])
    commits = in_the_middle(monkeypatch, expiry, lambda: lane.apply(windows[28]))
    assert Chore.EXPIRE in turn(make_keeper(snapshots_max=1, compact_files=100)).done
    assert commits
    lane.apply(windows[29])
    assert_rows(lake, [(1, "29")])


def test_orphans_go_when_they_are_old_and_files_of_commits_under_way_stay(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    first, second = windows_of([(OTHER, insert(1, "a"))], [(OTHER, insert(2, "b"))])
    lane = TestLane(make_sink(write_buffer_size="1B"), LANE)
    lane.apply(first)
    folder = lake.folder / "warehouse" / "public" / "other"
    old, young = folder / "data" / "old.parquet", folder / "metadata" / "young.avro"
    for path in (old, young):
        path.write_bytes(b"nobody's")
    then = (NOW - timedelta(days=4)).timestamp()
    os.utime(old, (then, then))
    for path in folder.rglob("*"):
        if path.is_file() and path != young:
            os.utime(path, (then, then))
    lane.write(second)
    keeper = make_keeper(orphan_age="72h")
    assert Chore.ORPHANS in turn(keeper).done
    assert (old.exists(), young.exists()) == (False, True)
    lane.writer.commit(lane.token(second.upto))
    assert_rows(lake, [(1, "a"), (2, "b")])
    assert Chore.ORPHANS not in turn(keeper).due, "once a day"


def test_tables_of_others_are_not_touched(lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper) -> None:
    theirs = lake.make(("public", "theirs"), pa.schema([("id", pa.int64())]))
    for n in range(3):
        theirs.append(pa.table({"id": [n]}))
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of([(OTHER, insert(1, "a"))]))
    assert make_keeper().tables() == (NAME,)


def test_a_failure_is_told_with_advice_and_ends_the_turn(
    lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper
) -> None:
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of(*[[(OTHER, insert(n, "a"))] for n in range(4)]))
    for path in (lake.folder / "warehouse").rglob("data/*.parquet"):
        path.unlink()
    found = take_turn(make_keeper(), NAME, now=NOW)
    assert found is not None
    assert found.done == ()
    assert "Look at the catalog and the warehouse" in found.failure


def test_a_dry_run_says_what_is_due_and_does_nothing(lake: Lake, make_sink: MakeSink, make_keeper: MakeKeeper) -> None:
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows_of(*[[(OTHER, insert(n, "a"))] for n in range(4)]))
    before = loaded(lake).metadata_location
    found = take_turn(make_keeper(), NAME, now=NOW, is_dry_run=True)
    assert found is not None
    assert (found.due, found.done) == ((Chore.COMPACT, Chore.ORPHANS), ())
    assert loaded(lake).metadata_location == before


def test_a_table_that_is_gone_has_no_turn(make_keeper: MakeKeeper) -> None:
    assert take_turn(make_keeper(), NAME, now=NOW) is None
