"""Care for tables beside a lane: rows stay what they are, whoever commits first, and readers keep what they need."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.delta import FACTORY, care
from sinks.delta.care import DeltaKeeper
from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_mirror
from sinks.delta.sink import DeltaSink
from sinks.delta.store import decode_name, encode_name
from tests.sinks.delta.conftest import target_path
from tests.sinks.lane import TestLane
from wallaby.care import Chore, Maintenance, Turn, take_turn
from wallaby.content import canonical_hash
from wallaby.schema import TableName, TableSchema
from wallaby.testing.changes import delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import RandomHistory
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
NAME = ORDERS.name
NOW = datetime.now(UTC)
MakeSink = Callable[..., DeltaSink]
Delta = Callable[[TableSchema], DeltaTable]


def keeper_of(root: Path, **options: Any) -> DeltaKeeper:
    given = {"path": str(root), "compact_files": 2, **options}
    keeper = FACTORY.keeper(given, flow=LANE.flow, destination=LANE.destination)
    assert isinstance(keeper, DeltaKeeper)
    return keeper


def turn(keeper: DeltaKeeper, name: TableName = NAME) -> Turn:
    found = take_turn(keeper, name, now=NOW)
    assert found is not None
    assert found.failure == ""
    return found


def written(sink: DeltaSink, commits: int) -> TestLane:
    lane = TestLane(sink, LANE)
    lane.apply_all(windows_of(*[[(ORDERS, insert(n, "a"))] for n in range(commits)]))
    return lane


def old_by(path: Path, hours: int) -> None:
    """All files of a table, its log left alone, were written so long ago."""
    then = time.time() - hours * 3600
    for file in path.rglob("*.parquet"):
        if "_delta_log" not in file.parts:
            os.utime(file, (then, then))


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_small_files_are_put_together_and_old_ones_stay_for_readers(
    mode: str, make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    written(make_sink(write_mode=mode), 12)
    found = turn(keeper_of(root))
    assert found.done == (Chore.COMPACT, Chore.CHECKPOINT)
    assert (found.before.files, found.before.small_files, found.before.rows) == (12, 12, 12)
    assert (found.after.files, found.after.rows) == (1, 12)
    assert sorted(delta(ORDERS).to_pyarrow_table()["id"].to_pylist()) == list(range(12))
    path = Path(target_path(root, NAME))
    assert len(list(path.glob("*.parquet"))) == 13
    assert list(path.glob("_delta_log/*.checkpoint.parquet"))
    assert turn(keeper_of(root)).due == ()


def test_nothing_is_done_below_the_number_of_files_that_are_worth_it(make_sink: MakeSink, root: Path) -> None:
    written(make_sink(), 5)
    assert turn(keeper_of(root, compact_files=6)).due == ()
    assert turn(keeper_of(root, compact_files=5)).due == (Chore.COMPACT, Chore.CHECKPOINT)


@pytest.mark.must_not_fail(25)
def test_a_history_with_a_turn_of_care_after_every_commit_ends_at_the_content_of_the_source(
    make_sink: MakeSink, root: Path
) -> None:
    history = RandomHistory(4, transactions=10)
    lane = TestLane(make_sink(), LANE)
    keeper = keeper_of(root)
    for window in history.windows():
        lane.apply(window)
        for name in keeper.tables():
            turn(keeper, name)
    for schema in history.tables:
        expected = history.expected(schema).select(range(len(schema.columns)))
        found = read_mirror(DeltaOptions.parse({"path": str(root)}), schema)
        assert canonical_hash(found) == canonical_hash(expected), schema.name


@pytest.mark.must_not_fail(17)
@pytest.mark.must_not_fail(25)
def test_a_lane_and_care_at_the_same_time_lose_and_double_nothing(
    make_sink: MakeSink, root: Path, delta: Delta
) -> None:
    """Two threads with nothing in common but the folder; who is first at a commit differs from run to run."""
    count = 60
    windows = windows_of(
        [(ORDERS, insert(n, "a")) for n in range(10)],
        *[
            [(ORDERS, update(n % 10, f"v{n}")), (ORDERS, insert(100 + n, "b")), (ORDERS, delete(99 + n))]
            for n in range(count)
        ],
    )
    lane = TestLane(make_sink(), LANE)
    lane.sink.ensure_table(ORDERS)
    is_over = threading.Event()
    failures: list[str] = []
    yields: list[Chore] = []

    def beside() -> None:
        keeper = keeper_of(root)
        while not is_over.is_set():
            if (found := take_turn(keeper, NAME, now=NOW)) is not None:
                failures.extend([found.failure] if found.failure else [])
                yields.extend(found.yielded)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        lane.apply_all(windows)
    finally:
        is_over.set()
        thread.join()
    turn(keeper_of(root))
    expected = {n: f"v{count - 10 + n}" for n in range(10)} | {100 + count - 1: "b"}
    found = delta(ORDERS).to_pyarrow_table().to_pydict()
    assert dict(zip(found["id"], found["note"], strict=True)) == expected
    assert len(found["id"]) == len(expected)
    assert failures == []


@pytest.mark.must_not_fail(17)
def test_a_compaction_that_a_lane_overtakes_is_tried_again_and_then_waits(
    make_sink: MakeSink, root: Path, delta: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = written(make_sink(), 4)
    tries: list[int] = []
    compact = DeltaKeeper._compact

    def overtaken(self: DeltaKeeper, found: DeltaTable, name: TableName) -> None:
        tries.append(1)
        inserts = [[(ORDERS, insert(n, "a"))] for n in range(4)]
        lane.apply(windows_of(*inserts, *[[(ORDERS, update(1, str(n)))] for n in range(len(tries))])[-1])
        compact(self, found, name)

    monkeypatch.setattr(DeltaKeeper, "_compact", overtaken)
    found = turn(keeper_of(root))
    assert Chore.COMPACT in found.yielded
    assert len(tries) == care.ATTEMPTS_MAX
    rows = delta(ORDERS).to_pyarrow_table().to_pydict()
    assert dict(zip(rows["id"], rows["note"], strict=True)) == {0: "a", 1: "2", 2: "a", 3: "a"}


def test_z_order_is_kept_to_columns_the_table_has_outside_its_partitions(
    make_sink: MakeSink, root: Path, delta: Delta
) -> None:
    written(make_sink(partition_by="note"), 4)
    assert Chore.COMPACT in turn(keeper_of(root, z_order_by="note,absent,id")).done
    newest = delta(ORDERS).history(1)[0]
    assert newest["operation"] == "OPTIMIZE"
    assert newest["operationMetrics"]["plannerStrategy"] == "zOrder"
    assert sorted(delta(ORDERS).to_pyarrow_table()["id"].to_pylist()) == list(range(4))


def test_files_of_old_versions_go_after_the_retention_and_those_of_the_present_stay(
    make_sink: MakeSink, root: Path, delta: Delta
) -> None:
    written(make_sink(), 4)
    keeper = keeper_of(root)
    turn(keeper)
    path = Path(target_path(root, NAME))
    assert len(list(path.glob("*.parquet"))) == 5
    nobodys = path / "part-left-by-a-writer-that-died.parquet"
    nobodys.write_bytes(b"nothing")
    assert Chore.EXPIRE not in turn(keeper).due
    old_by(path, 24 * 8)
    found = turn(keeper)
    assert Chore.EXPIRE in found.done
    assert not nobodys.exists()
    assert sorted(delta(ORDERS).to_pyarrow_table()["id"].to_pylist()) == list(range(4))
    assert nobodys.name not in {file.name for file in path.glob("*.parquet")}


def test_a_vacuum_can_be_left_to_others(make_sink: MakeSink, root: Path) -> None:
    written(make_sink(), 4)
    nobodys = Path(target_path(root, NAME)) / "part-0.parquet"
    nobodys.write_bytes(b"nothing")
    old_by(nobodys.parent, 24 * 8)
    assert Chore.EXPIRE not in turn(keeper_of(root, vacuum=False)).due
    assert nobodys.exists()


@pytest.mark.must_not_fail(2)
def test_positions_survive_care(make_sink: MakeSink, root: Path, delta: Delta) -> None:
    lane = written(make_sink(), 8)
    keeper = keeper_of(root)
    turn(keeper)
    old_by(Path(target_path(root, NAME)), 24 * 8)
    turn(keeper)
    again = TestLane(make_sink(), LANE, 2)
    assert again.position == lane.position
    windows = windows_of(*[[(ORDERS, insert(n, "a"))] for n in range(10)])
    again.apply_all(windows[8:])
    assert sorted(delta(ORDERS).to_pyarrow_table()["id"].to_pylist()) == list(range(10))


@pytest.mark.must_not_fail(22)
@pytest.mark.parametrize("name", ["orders", "Größe.x", "_hidden", "a~b", 'with "quotes"', "x/y"])
def test_tables_are_found_whatever_they_are_called(name: str, make_sink: MakeSink, root: Path) -> None:
    assert decode_name(encode_name(name)) == name
    schema = TableSchema(oid=1, name=TableName("Schema.1", name), columns=ORDERS.columns)
    make_sink().ensure_table(schema)
    write_deltalake(str(root / "theirs" / "orders"), pa.table({"id": [1]}))
    (root / "empty" / "folder").mkdir(parents=True)
    assert keeper_of(root).tables() == (schema.name,)


def test_a_folder_without_tables_is_no_failure(tmp_path: Path) -> None:
    assert keeper_of(tmp_path / "absent").tables() == ()
    assert take_turn(keeper_of(tmp_path), NAME, now=NOW) is None


def test_a_failure_is_told_with_advice_and_ends_the_turn(make_sink: MakeSink, root: Path) -> None:
    written(make_sink(), 4)
    for file in Path(target_path(root, NAME)).glob("*.parquet"):
        file.unlink()
    found = take_turn(keeper_of(root), NAME, now=NOW)
    assert found is not None
    assert found.done == ()
    assert "files of the table are gone" in found.failure


def test_a_dry_run_says_what_is_due_and_does_nothing(make_sink: MakeSink, root: Path, delta: Delta) -> None:
    written(make_sink(), 4)
    version = delta(ORDERS).version()
    found = take_turn(keeper_of(root), NAME, now=NOW, is_dry_run=True)
    assert found is not None
    assert (found.due, found.done) == ((Chore.COMPACT, Chore.CHECKPOINT), ())
    assert delta(ORDERS).version() == version


def test_maintenance_can_be_left_to_others_as_yaml_reads_it() -> None:
    assert FACTORY.maintenance({"path": "lake", "maintenance": False}) == (Maintenance.OFF, 600_000)
    assert FACTORY.maintenance({"path": "lake", "maintenance_interval": "5s"}) == (Maintenance.AUTO, 5_000)


def test_the_change_feed_is_kept_as_long_as_old_versions_are(make_sink: MakeSink, root: Path, delta: Delta) -> None:
    """A compaction changes no row, so the feed says nothing of it; a vacuum takes what is older than the retention."""
    lane = TestLane(make_sink(change_data_feed=True), LANE)
    inserts = [[(ORDERS, insert(n, "a"))] for n in range(4)]
    lane.apply_all(windows_of(*inserts, [(ORDERS, update(1, "b")), (ORDERS, delete(2))]))
    keeper = keeper_of(root)
    assert Chore.COMPACT in turn(keeper).done

    def feed() -> list[tuple[int, str]]:
        rows = pa.table(delta(ORDERS).load_cdf(starting_version=0).read_all())
        return sorted(zip(rows["id"].to_pylist(), rows["_change_type"].to_pylist(), strict=True))

    changes = [(1, "update_postimage"), (1, "update_preimage"), (2, "delete")]
    assert feed() == sorted([*((n, "insert") for n in range(4)), *changes])
    nobodys = Path(target_path(root, NAME)) / "part-0.parquet"
    nobodys.write_bytes(b"nothing")
    then = time.time() - 8 * 24 * 3600
    os.utime(nobodys, (then, then))
    assert Chore.EXPIRE in turn(keeper).done
    assert feed() == sorted([*((n, "insert") for n in range(4)), *changes])
    old_by(nobodys.parent, 24 * 8)
    assert Chore.EXPIRE in turn(keeper).done
    assert list((nobodys.parent / "_change_data").glob("*.parquet")) == []
    assert sorted(delta(ORDERS).to_pyarrow_table()["id"].to_pylist()) == [0, 1, 3]
