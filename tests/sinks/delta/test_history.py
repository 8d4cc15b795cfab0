"""Histories in Delta: what other readers see, outside writers, and what a merge leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_history
from sinks.delta.sink import DeltaSink
from tests.sinks.delta.conftest import target_path
from tests.sinks.histories import a_life
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import Refused
from wallaby.schema import TableSchema
from wallaby.testing.changes import Stream, Truncate, insert, table, update
from wallaby.testing.contract.hooks import PARCELS, VERSIONS, windows_of
from wallaby.testing.history import RandomHistory
from wallaby.testing.versions import expected_versions
from wallaby.transform.mirror import OUTLIERS
from wallaby.versions import VersionColumns
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
MakeSink = Callable[..., DeltaSink]
Opened = Callable[[TableSchema], DeltaTable]


def assert_history(
    root: Path, schema: TableSchema, stream: Stream, columns: VersionColumns = VERSIONS, names: tuple[str, ...] = ()
) -> None:
    options = DeltaOptions.parse({"path": str(root), "write_mode": "history", "history_columns": list(names)})
    expected = expected_versions(stream, schema, columns).drop_columns([OUTLIERS])
    assert canonical_hash(read_history(options, schema)) == canonical_hash(expected)


def test_duckdb_reads_a_history_and_the_table_as_of_an_lsn(
    root: Path, make_sink: MakeSink, duck: duckdb.DuckDBPyConnection
) -> None:
    stream = a_life()
    TestLane(make_sink(write_mode="history"), LANE).apply_all(stream.windows())
    lsn = int(stream.transactions[1].commit_lsn)
    found = duck.execute(
        f"SELECT id, note, size FROM delta_scan('{target_path(root, PARCELS.name)}')"
        " WHERE valid_from_lsn <= $1 AND (valid_to_lsn IS NULL OR valid_to_lsn > $1) ORDER BY id",
        [lsn],
    ).fetchall()
    assert found == [(0, "note 0", 0), (1, "b", 10), (4, "note 4", 4), (5, "note 5", 5), (9, "moved", 3)]


def test_columns_are_called_as_the_flow_says(root: Path, make_sink: MakeSink, delta: Opened) -> None:
    names = ("valid_from=dbt_valid_from", "is_current=Current")
    stream = a_life()
    stream.transaction([Truncate((PARCELS.name,)), (PARCELS, insert(1, "x", 1))])
    sink = make_sink(write_mode="history", history_columns=names, partition_by=["id"])
    TestLane(sink, LANE).apply_all(stream.windows())
    assert_history(root, PARCELS, stream, VersionColumns(valid_from="dbt_valid_from", is_current="Current"), names)
    assert delta(PARCELS).metadata().partition_columns == ["Current", "id"]


def test_files_of_versions_that_ended_are_never_written_again(root: Path, make_sink: MakeSink, delta: Opened) -> None:
    """Nor by a commit that changes keys in all of them."""
    stream = Stream()
    for n in range(6):
        stream.transaction([(PARCELS, update(key, "x", n)) for key in range(3)])
    lane = TestLane(make_sink(write_mode="history"), LANE)
    ended: set[str] = set()
    for window in stream.windows():
        lane.apply(window)
        files = {uri for uri in delta(PARCELS).file_uris() if "is_current=false" in uri}
        assert ended <= files
        ended = files
    assert len(ended) == 5
    assert_history(root, PARCELS, stream)


def test_keys_of_several_columns_find_their_own_versions(root: Path, make_sink: MakeSink) -> None:
    """Values that were not sent are read with the first key column only; the rest is told apart."""
    schema = table("public.pairs", {"b": "text", "note": "text", "a": "int4"}, key=["a", "b"])
    history = RandomHistory(3, [schema], transactions=20, keys=3)
    TestLane(make_sink(write_mode="history"), LANE).apply_all(history.windows(3), commit_every=2)
    assert_history(root, schema, history.stream)


def test_a_users_append_between_write_and_commit_is_survived(root: Path, make_sink: MakeSink) -> None:
    stream = a_life()
    stream.transaction([Truncate((PARCELS.name,))])
    windows = stream.windows()
    lane = TestLane(make_sink(write_mode="history"), LANE)
    lane.apply(windows[0])
    lane.write(windows[1])
    theirs = DeltaTable(target_path(root, PARCELS.name))
    kept = [False] * 1
    write_deltalake(
        theirs,
        pa.table({"id": pa.array([77], pa.int32()), "note": ["theirs"], "is_current": kept}),
        mode="append",
        schema_mode="merge",
    )
    lane.position = lane.writer.commit(lane.token(windows[1].upto)).upto
    for window in windows[2:]:
        lane.apply(window)
    DeltaTable(target_path(root, PARCELS.name)).delete("id = 77")
    assert_history(root, PARCELS, stream)


def test_a_mirror_does_not_become_a_history(make_sink: MakeSink) -> None:
    [window] = windows_of([(PARCELS, insert(1, "a", 1))])
    TestLane(make_sink(), LANE).apply(window)
    with pytest.raises(Refused, match="no versions"):
        make_sink(write_mode="history").ensure_table(PARCELS)
    assert make_sink(write_mode="history").check((PARCELS,))
