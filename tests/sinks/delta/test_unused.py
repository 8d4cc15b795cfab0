"""Care of tables with deletion vectors: what is removed, what stays, and what is counted."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from sinks.delta import FACTORY
from sinks.delta.vectors import FOLDER
from tests.sinks.delta.conftest import target_path
from tests.sinks.delta.marked import (
    LANE,
    ORDERS,
    TEN,
    Check,
    Delta,
    MakeSink,
    vectors_of,
)
from tests.sinks.lane import TestLane
from wallaby.care import Chore, take_turn
from wallaby.testing.changes import delete, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table


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
