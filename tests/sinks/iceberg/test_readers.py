"""What is written is read alike by pyiceberg and by DuckDB: by content, after every transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sinks.iceberg.lanes import table_record
from sinks.iceberg.reader import log_rows, mirror_rows, rows_as, snapshot_as_of
from sinks.iceberg.sink import IcebergSink
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.lsn import START, Lsn, Position
from wallaby.pgtypes.types import arrow_schema
from wallaby.testing.changes import Stream, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.contract.values import _EXTREMES, _TYPES
from wallaby.testing.history import RandomHistory, row_table
from wallaby.transform.append import append_schema
from wallaby.transform.state import derive_state

STRATEGIES = ("position-deletes", "copy-on-write")


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_mirror_is_the_same_to_every_reader(strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    history = RandomHistory(3, transactions=12)
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    lane.apply_all(history.windows(), commit_every=2)
    for schema in history.tables:
        found = lake.catalog.load_table((schema.name.schema, schema.name.name))
        expected = history.expected(schema).select(range(len(schema.columns)))
        assert canonical_hash(mirror_rows(found, schema)) == canonical_hash(expected), schema.name
        by_duckdb = rows_as(lake.by_duckdb(found), arrow_schema(schema))
        assert canonical_hash(by_duckdb) == canonical_hash(expected), schema.name


@pytest.mark.must_not_fail(13)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_values_of_every_type_are_the_same_to_every_reader(
    strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    schema = table("public.extremes", _TYPES, key=["id"])
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    changed = (0, *_EXTREMES[1][1:])
    lane.apply_all(
        windows_of(
            [(schema, insert(*row)) for row in (*_EXTREMES, (0, *_EXTREMES[2][1:]), (7, *_EXTREMES[0][1:]))],
            [(schema, update(*changed)), (schema, delete(7))],
        )
    )
    expected = row_table(schema, [*_EXTREMES, changed]).select(range(len(schema.columns)))
    found = lake.catalog.load_table(("public", "extremes"))
    assert canonical_hash(mirror_rows(found, schema)) == canonical_hash(expected)
    assert canonical_hash(rows_as(lake.by_duckdb(found), arrow_schema(schema))) == canonical_hash(expected)


@pytest.mark.must_not_fail(25)
def test_a_log_is_the_same_to_every_reader(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    history = RandomHistory(4, transactions=12)
    lane = TestLane(make_sink(write_mode="append"), LANE)
    lane.apply_all(history.windows(), commit_every=3)
    for schema in history.tables:
        found = lake.catalog.load_table((schema.name.schema, schema.name.name))
        expected = canonical_hash(history.expected(schema).select(range(len(schema.columns))))
        assert canonical_hash(derive_state(schema, log_rows(found, schema))) == expected, schema.name
        log = rows_as(lake.by_duckdb(found), append_schema(schema))
        assert canonical_hash(derive_state(schema, log)) == expected, schema.name


@pytest.mark.parametrize("mode", ["mirror", "append", "history"])
def test_no_snapshot_of_a_copy_answers_for_a_time_before_it(
    mode: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    schema = table("public.t", {"id": "int8", "note": "text"}, key=["id"])
    stream = Stream()
    stream.copy(schema, [(1, "a")])
    stream.copy(schema, [(2, "b")])
    stream.transaction([(schema, insert(3, "c"))])
    sink = make_sink(write_mode=mode)
    replay = replace(windows_of([(schema, insert(9, "a dead letter"))])[0], after=START, upto=Position(Lsn(1), 1))
    TestLane(sink, LANE.beside).apply(replay)
    TestLane(sink, LANE).apply_all(stream.windows())
    found = lake.catalog.load_table(("public", "t"))
    _, _, copied, streamed = found.snapshots()
    assert copied.summary is not None
    taken = Lsn.parse(copied.summary["wallaby.lsn"])
    assert snapshot_as_of(found, Lsn(taken - 1)) is None
    assert snapshot_as_of(found, taken) == copied.snapshot_id
    assert snapshot_as_of(found, stream.windows()[-1].upto.lsn) == streamed.snapshot_id


def test_a_reader_can_ask_for_the_table_as_of_an_lsn(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    schema = table("public.t", {"id": "int8", "note": "text"}, key=["id"])
    windows = windows_of([(schema, insert(1, "a"))], [(schema, update(1, "b"))], [(schema, delete(1))])
    TestLane(make_sink(), LANE).apply_all(windows)
    found = lake.catalog.load_table(("public", "t"))
    for window, rows in zip(windows, ([(1, "a")], [(1, "b")], []), strict=True):
        at = snapshot_as_of(found, window.upto.lsn)
        assert at is not None
        expected = row_table(schema, rows).select([0, 1])
        assert canonical_hash(mirror_rows(found, schema, snapshot_id=at)) == canonical_hash(expected)
    assert snapshot_as_of(found, Lsn(0)) is None
    for window, snapshot in zip(windows, found.snapshots(), strict=True):
        assert snapshot.summary is not None
        said = [snapshot.summary[f"wallaby.{name}"] for name in ("after", "upto", "lsn")]
        assert said == [str(window.after), str(window.upto), str(window.upto.lsn)]
    assert table_record(found, LANE, generation=0).position == windows[-1].upto, "of the same commit, in a property"
