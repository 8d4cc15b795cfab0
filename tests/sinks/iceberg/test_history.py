"""Histories in Iceberg: what users and other readers see, outside writers, and what is read to end a version."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sinks.iceberg.keys import LiveFiles, Memory
from sinks.iceberg.reader import history_rows
from sinks.iceberg.sink import IcebergSink
from sinks.iceberg.versions import OpenVersions, read_rows
from tests.sinks.histories import a_life
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import ConfigError, Refused
from wallaby.schema import TableSchema
from wallaby.testing.changes import Stream, Truncate, delete, insert, update
from wallaby.testing.contract.hooks import PARCELS, VERSIONS, windows_of
from wallaby.testing.history import RandomHistory
from wallaby.testing.versions import expected_versions
from wallaby.transform.history import plan_truncate
from wallaby.transform.mirror import OUTLIERS
from wallaby.versions import VersionColumns
from wallaby.window import Barrier

MakeSink = Callable[..., IcebergSink]


def assert_history(lake: Lake, schema: TableSchema, stream: Stream, columns: VersionColumns = VERSIONS) -> None:
    found = history_rows(lake.catalog.load_table((schema.name.schema, schema.name.name)), schema, columns)
    expected = expected_versions(stream, schema, columns).drop_columns([OUTLIERS])
    assert canonical_hash(found) == canonical_hash(expected)


@pytest.mark.parametrize("strategy", ["position-deletes", "copy-on-write"])
def test_duckdb_reads_a_history_and_the_table_as_of_an_lsn(strategy: str, lake: Lake, make_sink: MakeSink) -> None:
    stream = a_life()
    lane = TestLane(make_sink(write_mode="history", mirror_strategy=strategy), LANE)
    lane.apply_all(stream.windows())
    found = lake.by_duckdb(lake.catalog.load_table(("public", "parcels")))
    assert found.num_rows == 10
    second = int(stream.transactions[1].commit_lsn)
    holds = [
        (row["id"], row["note"], row["size"])
        for row in found.to_pylist()
        if row["valid_from_lsn"] <= second and (row["valid_to_lsn"] is None or row["valid_to_lsn"] > second)
    ]
    assert sorted(holds) == [(0, "note 0", 0), (1, "b", 10), (4, "note 4", 4), (5, "note 5", 5), (9, "moved", 3)]


def test_columns_are_called_as_the_flow_says(lake: Lake, make_sink: MakeSink) -> None:
    names = ["valid_from=dbt_valid_from", "is_current=Current"]
    stream = a_life()
    TestLane(make_sink(write_mode="history", history_columns=names), LANE).apply_all(stream.windows())
    assert_history(lake, PARCELS, stream, VersionColumns(valid_from="dbt_valid_from", is_current="Current"))
    with pytest.raises(ConfigError, match="no column of a history"):
        make_sink(write_mode="history", history_columns=["from=a"])


def test_a_history_may_be_partitioned_by_what_holds_now(lake: Lake, make_sink: MakeSink) -> None:
    history = RandomHistory(4, [PARCELS], transactions=15, keys=5)
    lane = TestLane(make_sink(write_mode="history", partition_by=["is_current"]), LANE)
    lane.apply_all(history.windows(4), commit_every=2)
    assert_history(lake, PARCELS, history.stream)


@pytest.mark.must_not_fail(14)
def test_a_commit_larger_than_the_buffer_is_the_same_history(lake: Lake, make_sink: MakeSink) -> None:
    """Versions that one commit begins and ends are in files of their own by then."""
    history = RandomHistory(11, [PARCELS], transactions=25, keys=4, truncates=False)
    lane = TestLane(make_sink(write_mode="history", write_buffer_size="1KiB"), LANE)
    lane.apply_all(history.windows(), commit_every=100)
    assert_history(lake, PARCELS, history.stream)


def test_a_users_append_between_write_and_commit_is_survived(lake: Lake, make_sink: MakeSink) -> None:
    stream = a_life()
    stream.transaction([Truncate((PARCELS.name,))])
    windows = stream.windows()
    lane = TestLane(make_sink(write_mode="history"), LANE)
    lane.apply(windows[0])
    lane.write(windows[1])
    lane.writer.rehearse()  # type: ignore[attr-defined]  # Iceberg's can
    theirs = lake.catalog.load_table(("public", "parcels"))
    theirs.append(theirs.scan().to_arrow().slice(0, 0))
    theirs = lake.catalog.load_table(("public", "parcels"))
    theirs.append(pa.table({"id": pa.array([77], pa.int32()), "note": ["theirs"]}))
    lane.position = lane.writer.commit(lane.token(windows[1].upto)).upto
    for window in windows[2:]:
        lane.apply(window)
    lake.catalog.load_table(("public", "parcels")).delete("id = 77")
    assert_history(lake, PARCELS, stream)


def test_a_mirror_does_not_become_a_history(lake: Lake, make_sink: MakeSink) -> None:
    [window] = windows_of([(PARCELS, insert(1, "a", 1))])
    TestLane(make_sink(), LANE).apply(window)
    with pytest.raises(Refused, match="no versions"):
        make_sink(write_mode="history").ensure_table(PARCELS)
    assert make_sink(write_mode="history").check((PARCELS,))


def test_the_past_of_a_row_is_not_looked_at_again(lake: Lake, make_sink: MakeSink) -> None:
    """Files of versions that ended are not opened to end another, however long the row's past."""
    stream = Stream()
    for n in range(12):
        stream.transaction([(PARCELS, update(1, "x", n))])
    windows = stream.windows()
    lane = TestLane(make_sink(write_mode="history"), LANE)
    for window in windows[:-1]:
        lane.apply(window)
    table = lake.catalog.load_table(("public", "parcels"))
    flag = table.schema().find_field("is_current").field_id
    ended = [
        task.file.file_path
        for task in table.scan().plan_files()
        if task.file.upper_bounds and task.file.upper_bounds[flag] == b"\x00"
    ]
    assert len(ended) == len(windows) - 2
    for path in ended:
        lake.remove(path)
    lane.writer.abort()
    again = TestLane(make_sink(write_mode="history"), LANE, epoch=2)
    again.apply(windows[-1])


def test_only_the_row_groups_that_hold_the_rows_are_read(
    lake: Lake, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sink(write_mode="history").ensure_table(PARCELS)
    table = lake.catalog.load_table(("public", "parcels"))
    assert table.properties["write.parquet.row-group-limit"] == "65536"
    with table.transaction() as change:
        change.set_properties({"write.parquet.row-group-limit": "10"})
    table.append(pa.table({"id": pa.array(range(95), pa.int32()), "note": [str(n) for n in range(95)]}))
    [task] = table.scan().plan_files()
    asked = groups_read(monkeypatch)
    rows = read_rows(table, task.file, np.array([0, 9, 10, 55, 94]))
    assert rows["id"].to_pylist() == [0, 9, 10, 55, 94]
    assert rows.column_names == table.schema().column_names
    assert asked == [0, 1, 5, 9]


def test_a_truncate_ends_versions_by_row_groups_and_not_by_files(
    lake: Lake, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make_sink(write_mode="history")
    sink.ensure_table(PARCELS)
    table = lake.catalog.load_table(("public", "parcels"))
    with table.transaction() as change:
        change.set_properties({"write.parquet.row-group-limit": "10"})
    lane = TestLane(sink, LANE)
    stream = Stream()
    stream.transaction([(PARCELS, insert(n, f"note {n}", n)) for n in range(95)])
    stream.transaction([(PARCELS, delete(n)) for n in range(20, 30)])
    for window in stream.windows():
        lane.apply(window)
    table = lake.catalog.load_table(("public", "parcels"))
    closes = plan_truncate(_truncated(stream), VERSIONS)
    asked = groups_read(monkeypatch)
    live = LiveFiles(table, Memory(1 << 20))
    pieces = list(OpenVersions(live, VERSIONS).end_all(closes, bytes_max=1))
    assert [piece.num_rows for piece in pieces] == [10, 10, 10, 10, 10, 10, 10, 10, 5]
    assert 2 not in asked
    whole = list(OpenVersions(LiveFiles(table, Memory(1 << 20)), VERSIONS).end_all(closes))
    assert [piece.num_rows for piece in whole] == [85]
    assert pa.concat_tables(pieces).equals(whole[0])
    assert set(whole[0]["closed_by"].to_pylist()) == {"t"}


def _truncated(stream: Stream) -> Barrier:
    """The barrier of a TRUNCATE that follows in ``stream``."""
    stream.transaction([Truncate((PARCELS.name,))])
    barrier = stream.windows()[-1].barrier
    assert barrier is not None
    return barrier


def groups_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that are read from now on."""
    asked: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def read(file: pq.ParquetFile, group: int) -> pa.Table:
        asked.append(group)
        return whole(file, group)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read)
    return asked
