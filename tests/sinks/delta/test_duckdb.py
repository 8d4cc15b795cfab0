"""DuckDB reads what was written, value by value: an engine that shares no code with the one that wrote."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sinks.delta import FACTORY
from sinks.delta.reader import log_types
from sinks.delta.sink import DeltaSink
from tests.sinks.delta.conftest import target_path
from tests.sinks.lane import TestLane
from wallaby.care import Chore, take_turn
from wallaby.content import canonical_hash
from wallaby.schema import TableSchema
from wallaby.testing.changes import insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.contract.values import _EXTREMES, _TYPES
from wallaby.testing.history import RandomHistory, row_table
from wallaby.transform.state import derive_state
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
MakeSink = Callable[..., DeltaSink]


def scanned(duck: duckdb.DuckDBPyConnection, root: Path, schema: TableSchema) -> pa.Table:
    return duck.execute("FROM delta_scan(?)", (target_path(root, schema.name),)).to_arrow_table()


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_history_reads_the_same_in_duckdb(
    mode: str, make_sink: MakeSink, root: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    history = RandomHistory(3, transactions=20)
    TestLane(make_sink(write_mode=mode, checkpoint_every=5), LANE).apply_all(history.windows(3), commit_every=2)
    for schema in history.tables:
        found = scanned(duck, root, schema)
        if mode == "append":
            found = derive_state(schema, log_types(found))
        assert canonical_hash(found) == canonical_hash(history.expected(schema)), schema.name


@pytest.mark.must_not_fail(13)
def test_extreme_values_of_every_type_read_the_same_in_duckdb(
    make_sink: MakeSink, root: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    schema = table("public.extremes", _TYPES, key=["id"])
    lane = TestLane(make_sink(), LANE)
    for window in windows_of([(schema, insert(*row)) for row in _EXTREMES], [(schema, update(*_EXTREMES[0]))]):
        lane.apply(window)
    assert canonical_hash(scanned(duck, root, schema)) == canonical_hash(row_table(schema, _EXTREMES))


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("z_order_by", ["", "id"], ids=["compacted", "in z-order"])
def test_tables_that_were_looked_after_read_the_same_in_duckdb(
    z_order_by: str, make_sink: MakeSink, root: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    history = RandomHistory(5, transactions=12)
    TestLane(make_sink(), LANE).apply_all(history.windows())
    options = {"path": str(root), "compact_files": 2, "z_order_by": z_order_by}
    keeper = FACTORY.keeper(options, flow=LANE.flow, destination=LANE.destination)
    turns = [take_turn(keeper, name, now=datetime.now(UTC)) for name in keeper.tables()]
    assert any(Chore.COMPACT in turn.done for turn in turns if turn is not None)
    for schema in history.tables:
        assert canonical_hash(scanned(duck, root, schema)) == canonical_hash(history.expected(schema)), schema.name
