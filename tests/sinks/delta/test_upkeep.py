"""Checkpoints of logs beside the commits: never in their way, never the reason for anything to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from sinks.delta.sink import DeltaSink
from tests.sinks.delta.conftest import target_path
from tests.sinks.lane import TestLane
from wallaby.schema import TableSchema
from wallaby.sink import Severity
from wallaby.testing.changes import insert, table
from wallaby.testing.contract.hooks import windows_of
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
MakeSink = Callable[..., DeltaSink]
Delta = Callable[[TableSchema], DeltaTable]


def written(sink: DeltaSink, commits: int) -> None:
    lane = TestLane(sink, LANE)
    for window in windows_of(*[[(ORDERS, insert(n, "a"))] for n in range(commits)]):
        lane.apply(window)
    sink._upkeep.drain()


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_the_log_is_summed_up_whoever_looks_after_the_tables(
    mode: str, make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    sink = make_sink(write_mode=mode, maintenance="off", checkpoint_every=10)
    written(sink, 40)
    assert sink.check() == []
    path = Path(target_path(root, ORDERS.name))
    assert list(path.glob("_delta_log/*.checkpoint.parquet"))
    assert len(delta(ORDERS).file_uris()) == 40
    assert sorted(delta(ORDERS).to_pyarrow_table()["id"].to_pylist()) == list(range(40))


def test_the_records_of_lanes_are_summed_up_too(make_sink: MakeSink, root: Path) -> None:
    written(make_sink(), 101)
    assert list((root / "_wallaby" / "lanes" / "_delta_log").glob("*.checkpoint.parquet"))
    assert TestLane(make_sink(), LANE, 2).position > TestLane(make_sink(), LaneId("else", "copy")).position


def test_what_fails_is_found_and_stops_nothing(make_sink: MakeSink, delta: Delta, root: Path) -> None:
    sink = make_sink(checkpoint_every=5)
    written(sink, 4)
    path = Path(target_path(root, ORDERS.name)) / "_delta_log"
    (path / f"{delta(ORDERS).version() + 1:020}.checkpoint.parquet").mkdir()
    lane = TestLane(sink, LANE, 2)
    windows = windows_of(*[[(ORDERS, insert(n, "a"))] for n in range(5)])
    lane.apply(windows[4])
    sink._upkeep.drain()
    [finding] = sink.check()
    assert (finding.code, finding.severity) == ("upkeep", Severity.WARNING)
    assert "orders" in finding.subject
    assert pa.table(delta(ORDERS).to_pyarrow_table()).num_rows == 5


def test_closing_waits_for_what_runs_and_may_be_repeated(make_sink: MakeSink) -> None:
    sink = make_sink(checkpoint_every=1)
    lane = TestLane(sink, LANE)
    for window in windows_of(*[[(ORDERS, insert(n, "a"))] for n in range(5)]):
        lane.apply(window)
    sink.close()
    sink.close()
    assert sink._upkeep._thread is None
