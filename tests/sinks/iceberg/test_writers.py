"""Writers that meet: leftovers of older epochs, users' own appends and compactions, crashes between two tables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

from sinks.iceberg import FACTORY
from sinks.iceberg.catalogs import commit
from sinks.iceberg.errors import Conflict
from sinks.iceberg.lanes import LaneTable
from sinks.iceberg.reader import log_rows, mirror_rows
from sinks.iceberg.sink import IcebergSink
from sinks.iceberg.snapshots import Change, prepare
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import Refused, Superseded, Transient
from wallaby.lsn import START
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.testing.changes import Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import PARCELS, windows_of
from wallaby.testing.history import RandomHistory, row_table

OTHER = table("public.other", {"id": "int8", "note": "text"}, key=["id"])
STRATEGIES = ("position-deletes", "copy-on-write")


def assert_rows(lake: Lake, schema: TableSchema, rows: list[tuple[object, ...]]) -> None:
    found = mirror_rows(lake.catalog.load_table((schema.name.schema, schema.name.name)), schema)
    expected = row_table(schema, rows).select(range(len(schema.columns)))  # type: ignore[arg-type]  # rows of any kind
    assert canonical_hash(found) == canonical_hash(expected)


class DiesBeforeTheLane:
    """A lane record that cannot be moved: the process dies when all tables are committed."""

    def __init__(self, lane: LaneTable) -> None:
        self._lane = lane

    def __getattr__(self, name: str) -> object:
        return getattr(self._lane, name)

    def move(self, *_: object) -> None:
        raise SystemExit


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_tables_ahead_of_their_lane_drop_what_they_hold(
    mode: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    """A crash after the tables' commits and before the lane's: the changes come again, cut differently."""
    first, second, third = windows_of(
        [(PARCELS, insert(1, "a", 1)), (OTHER, insert(1, "x"))],
        [(PARCELS, insert(2, "b", 2)), (PARCELS, update(1, "a2", 1))],
        [(PARCELS, insert(3, "c", 3)), (OTHER, insert(2, "y"))],
    )
    sink = make_sink(write_mode=mode)
    lane = TestLane(sink, LANE)
    lane.write(first)
    lane.write(second)
    lane.writer._lane_table = DiesBeforeTheLane(lane.writer._lane_table)  # type: ignore[attr-defined]  # the writer's
    with pytest.raises(SystemExit):
        lane.writer.commit(lane.token(second.upto))
    again = TestLane(make_sink(write_mode=mode), LANE, epoch=2)
    assert again.position == START
    again.apply(first)
    again.write(second)
    again.write(third)
    again.writer.commit(again.token(third.upto))
    if mode == "mirror":
        assert_rows(lake, PARCELS, [(1, "a2", 1), (2, "b", 2), (3, "c", 3)])
        assert_rows(lake, OTHER, [(1, "x"), (2, "y")])
        return
    log = log_rows(lake.catalog.load_table(("public", "parcels")), PARCELS)
    assert log.num_rows == 4
    assert log_rows(lake.catalog.load_table(("public", "other")), OTHER).num_rows == 2


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_leftover_that_wakes_inside_its_commit_changes_nothing_twice(
    strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    """The leftover looked at the lane while it was its own, then slept; its successor came and committed the same."""
    first, second, third = windows_of(
        [(PARCELS, insert(1, "a", 1))],
        [(PARCELS, insert(2, "b", 2)), (OTHER, insert(1, "x"))],
        [(PARCELS, delete(1)), (OTHER, delete(1))],
    )
    zombie = TestLane(make_sink(mirror_strategy=strategy), LANE, epoch=1)
    zombie.apply(first)
    zombie.write(second)
    own = zombie.writer._lane_table  # type: ignore[attr-defined]  # the writer's
    looked = own.read()

    class Asleep:
        """Shows the record as it was at the first look; everything after is as it is."""

        def __init__(self) -> None:
            self.looks = 0

        def __getattr__(self, name: str) -> object:
            return getattr(own, name)

        def read(self) -> object:
            self.looks += 1
            if self.looks == 1:
                owner = TestLane(make_sink(mirror_strategy=strategy), LANE, epoch=2)
                owner.apply(second)
                owner.apply(third)
                return looked
            return own.read()

    zombie.writer._lane_table = Asleep()  # type: ignore[attr-defined]  # the writer's
    with pytest.raises(Superseded):
        zombie.writer.commit(zombie.token(second.upto))
    assert_rows(lake, PARCELS, [(2, "b", 2)])
    assert_rows(lake, OTHER, [])


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_table_ensured_again_before_a_commit_is_not_taken_for_the_one_that_was_written_to(
    mode: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    """Another writer of the same epoch committed the same rows meanwhile, and died before the lane's record."""
    first, second = windows_of([(OTHER, insert(1, "a"))], [(OTHER, insert(2, "b"))])
    one, two = (TestLane(make_sink(write_mode=mode, write_buffer_size="1B"), LANE) for _ in range(2))
    one.write(first)
    two.write(first)
    two.writer._lane_table = DiesBeforeTheLane(two.writer._lane_table)  # type: ignore[attr-defined]  # the writer's
    with pytest.raises(SystemExit):
        two.writer.commit(two.token(first.upto))
    with pytest.raises(Transient):
        one.sink.ensure_table(OTHER)
    again = TestLane(make_sink(write_mode=mode), LANE, epoch=2)
    again.apply_all((first, second))
    assert lake.catalog.load_table(("public", "other")).scan().to_arrow().num_rows == 2


@pytest.mark.must_not_fail(20)
def test_a_stale_commit_is_never_put_onto_what_came_between(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    """pyiceberg would send the rejected commit again on its own; the one used here does not."""
    make_sink().ensure_table(OTHER)
    stale, other = (lake.catalog.load_table(("public", "other")) for _ in range(2))
    rows = pa.table({"id": [1], "note": ["theirs"]})
    other.append(rows)
    with pytest.raises(Conflict):
        commit(stale, *prepare(stale, Change(), summary={}, properties={"a": "b"}))
    found = lake.catalog.load_table(("public", "other"))
    assert found.scan().to_arrow().num_rows == 1
    assert "a" not in found.properties


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_users_append_between_write_and_commit_is_survived(
    strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    first, second = windows_of([(OTHER, insert(1, "a"))], [(OTHER, update(1, "b")), (OTHER, delete(9))])
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    lane.apply(first)
    lane.write(second)
    lake.catalog.load_table(("public", "other")).append(pa.table({"id": [8, 9], "note": ["theirs", "theirs too"]}))
    lane.writer.commit(lane.token(second.upto))
    assert_rows(lake, OTHER, [(1, "b"), (8, "theirs")])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_table_with_equality_deletes_of_another_writer_is_refused_and_left_as_it_was(
    strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    """To write its rows anew would bring back what such a file deletes."""
    first, second = windows_of([(OTHER, insert(1, "a")), (OTHER, insert(2, "b"))], [(OTHER, update(1, "c"))])
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    lane.apply(first)
    found = lake.catalog.load_table(("public", "other"))
    [task] = found.scan().plan_files()
    place = found.location_provider().new_data_location("theirs.parquet")
    output = found.io.new_output(place)
    field = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})
    with output.create() as stream:
        pq.write_table(pa.table([pa.array([2])], schema=pa.schema([field])), stream)
    theirs = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES,
        file_path=place,
        file_format=FileFormat.PARQUET,
        partition=task.file.partition,
        record_count=1,
        file_size_in_bytes=len(output),
        equality_ids=[1],
    )
    theirs.spec_id = 0
    commit(found, *prepare(found, Change(added=(theirs,)), summary={}, properties={}))
    before = lake.catalog.load_table(("public", "other")).metadata_location
    with pytest.raises(Refused, match="equality deletes") as refused:
        lane.apply(second)
    assert refused.value.advice
    keeper = FACTORY.keeper(lake.options(compact_files=2), flow=LANE.flow, destination=LANE.destination)
    with closing(keeper), pytest.raises(Refused, match="equality deletes"):
        keeper.look(OTHER.name, datetime.now(UTC))
    assert lake.catalog.load_table(("public", "other")).metadata_location == before


def test_a_users_append_to_a_log_is_survived(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    first, second = windows_of([(OTHER, insert(1, "a"))], [(OTHER, update(1, "b"))])
    lane = TestLane(make_sink(write_mode="append", write_buffer_size="1B"), LANE)
    lane.apply(first)
    lane.write(second)
    theirs = lake.catalog.load_table(("public", "other"))
    theirs.append(theirs.scan().to_arrow())
    lane.writer.commit(lane.token(second.upto))
    assert lake.catalog.load_table(("public", "other")).scan().to_arrow().num_rows == 3


@pytest.mark.must_not_fail(10)
@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_truncate_that_met_a_users_append_is_done_once(
    mode: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    first, truncate = windows_of([(OTHER, insert(1, "a"))], [Truncate((OTHER.name,))])
    lane = TestLane(make_sink(write_mode=mode), LANE)
    lane.apply(first)
    lake.catalog.load_table(("public", "other")).append(pa.table({"id": [8], "note": ["theirs"]}))
    lane.apply(truncate)
    rows = lake.catalog.load_table(("public", "other")).scan().to_arrow()
    if mode == "mirror":
        assert rows.num_rows == 0
    else:
        assert sorted(rows["__op"].to_pylist(), key=str) == [None, "i", "t"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_compaction_between_write_and_commit_is_survived(
    strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    """The files in which the rows were found are gone when the commit comes."""
    *before, last = windows_of(
        *[[(OTHER, insert(n, "a"))] for n in range(4)], [(OTHER, update(2, "b")), (OTHER, delete(3))]
    )
    lane = TestLane(make_sink(mirror_strategy=strategy), LANE)
    lane.apply_all(before)
    lane.write(last)
    theirs = lake.catalog.load_table(("public", "other"))
    theirs.overwrite(theirs.scan().to_arrow())
    lane.writer.commit(lane.token(last.upto))
    assert_rows(lake, OTHER, [(0, "a"), (1, "a"), (2, "b")])
    assert lane.writer._loaded  # type: ignore[attr-defined]  # the next commit needs no look at the catalog


@pytest.mark.must_not_fail(14)
def test_a_commit_too_large_to_be_folded_again_starts_from_the_record(
    lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    first, second, third = windows_of(
        [(OTHER, insert(1, "a"))], [(OTHER, update(1, "b"))], [(OTHER, update(1, "c")), (OTHER, insert(2, "d"))]
    )
    lane = TestLane(make_sink(write_buffer_size="1B"), LANE)
    lane.apply(first)
    lane.write(second)
    lane.write(third)
    lake.catalog.load_table(("public", "other")).append(pa.table({"id": [8], "note": ["theirs"]}))
    with pytest.raises(Transient):
        lane.writer.commit(lane.token(third.upto))
    again = TestLane(make_sink(write_buffer_size="1B"), LANE, epoch=2)
    assert again.position == first.upto
    again.apply_all((second, third), commit_every=2)
    assert_rows(lake, OTHER, [(1, "c"), (2, "d"), (8, "theirs")])


@pytest.mark.must_not_fail(14)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_commit_larger_than_the_buffer_is_the_same_to_every_reader(
    strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    """Rows of files the same commit wrote are deleted by it, too."""
    history = RandomHistory(8, transactions=20, truncates=False)
    lane = TestLane(make_sink(mirror_strategy=strategy, write_buffer_size="1B", key_cache_size="1B"), LANE)
    lane.apply_all(history.windows(), commit_every=6)
    for schema in history.tables:
        found = lake.catalog.load_table((schema.name.schema, schema.name.name))
        expected = canonical_hash(history.expected(schema).select(range(len(schema.columns))))
        assert canonical_hash(mirror_rows(found, schema)) == expected, schema.name
        by_duckdb = lake.by_duckdb(found)
        assert by_duckdb.num_rows == mirror_rows(found, schema).num_rows


@pytest.mark.must_not_fail(7)
def test_rows_somebody_removed_are_missed(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    first, second = windows_of([(OTHER, insert(1, "a"))], [(OTHER, update(1, None, unchanged=["note"]))])
    lane = TestLane(make_sink(), LANE)
    lane.apply(first)
    lake.catalog.load_table(("public", "other")).delete(EqualTo("id", 1))
    lane.write(second)
    with pytest.raises(Refused, match="not in the destination"):
        lane.writer.commit(lane.token(second.upto))


@pytest.mark.must_not_fail(9)
def test_rows_without_a_key_are_missed_too(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    schema = table("public.readings", {"n": "int4", "note": "text"}, identity=ReplicaIdentity.FULL)
    first, second = windows_of([(schema, insert(1, "a"))] * 2, [(schema, delete(1, "a"))] * 2)
    lane = TestLane(make_sink(), LANE)
    lane.apply(first)
    found = lake.catalog.load_table(("public", "readings"))
    found.overwrite(pa.table({"n": pa.array([1], pa.int32()), "note": ["a"]}))
    lane.write(second)
    with pytest.raises(Refused, match="1 rows to be deleted"):
        lane.writer.commit(lane.token(second.upto))


def test_manifests_stay_few(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    windows = windows_of(*[[(OTHER, insert(n, "a"))] for n in range(120)])
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(windows)
    found = lake.catalog.load_table(("public", "other"))
    snapshot = found.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(found.io)) <= 52
    assert_rows(lake, OTHER, [(n, "a") for n in range(120)])
    lane_tables = lake.catalog.list_tables("wallaby")
    assert [len(lake.catalog.load_table(name).snapshots()) for name in lane_tables] == [1]
