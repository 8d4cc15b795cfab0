"""A table's log as we read it, against what the engine says of the same version."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.delta.config import DeltaOptions
from sinks.delta.folder import TableFolder
from sinks.delta.log import ENABLED, FEATURE, LOG, DataFile, Log, entry_path
from sinks.delta.marking import commit_entry, log_lines
from sinks.delta.sink import DeltaSink
from sinks.delta.store import Store
from tests.sinks.delta.conftest import target_path
from tests.sinks.lane import TestLane
from wallaby.errors import Transient
from wallaby.schema import TableName
from wallaby.testing.changes import delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
NAME = ORDERS.name
MakeSink = Callable[..., DeltaSink]


def folder_of(root: Path, name: TableName = NAME) -> TableFolder:
    store = Store(DeltaOptions.parse({"path": str(root)}))
    return store.folder(store.uri(name), table=name)


def read(root: Path, version: int, name: TableName = NAME) -> Log:
    log = Log(folder_of(root, name))
    log.follow(version, table_id="")
    return log


def said(log: Log) -> dict[str, Any]:
    return {file.path: (file.rows, file.marked, dict(file.add["partitionValues"])) for file in log.files}


def assert_as_the_engine(log: Log, root: Path, version: int) -> None:
    opened = DeltaTable(target_path(root, NAME), version=version)
    actions = pa.table(opened.get_add_actions()).to_pylist()
    assert {file.key: file.rows for file in log.files} == {one["path"]: one["num_records"] for one in actions}
    masks = pa.table(opened.deletion_vectors()).to_pylist()
    gone = {mask["filepath"].rpartition("/")[2]: mask["selection_vector"].count(False) for mask in masks}
    assert {file.path.rpartition("/")[2]: file.marked for file in log.files if file.marked} == gone
    assert log.version == version


@pytest.fixture
def versions(make_sink: MakeSink, root: Path) -> int:
    """A table with appends, marks, a compaction and checkpoints; its newest version."""
    lane = TestLane(make_sink(deletion_vectors=True, checkpoint_every=1000), LANE)
    steps = [[(ORDERS, insert(n * 10 + i, "a")) for i in range(10)] for n in range(3)]
    steps += [[(ORDERS, update(n, f"b{n}")), (ORDERS, delete(n + 11))] for n in range(6)]
    windows = windows_of(*steps)
    lane.apply_all(windows[:5])
    DeltaTable(target_path(root, NAME)).create_checkpoint()
    lane.apply_all(windows[5:7])
    DeltaTable(target_path(root, NAME)).optimize.compact()
    lane.apply_all(windows[7:])
    return int(DeltaTable(target_path(root, NAME)).version())


@pytest.mark.must_not_fail(25)
def test_every_version_is_read_as_the_engine_reads_it(versions: int, root: Path) -> None:
    following = Log(folder_of(root))
    for version in range(versions + 1):
        assert_as_the_engine(read(root, version), root, version)
        following.follow(version, table_id="")
        assert said(following) == said(read(root, version))
    following.follow(2, table_id="")
    assert said(following) == said(read(root, 2))


@pytest.mark.must_not_fail(25)
def test_a_checkpoint_says_what_the_entries_said(versions: int, root: Path) -> None:
    before = read(root, versions)
    DeltaTable(target_path(root, NAME)).create_checkpoint()
    for version in range(versions + 1):
        (root / "public" / "orders" / entry_path(version)).unlink()
    after = read(root, versions)
    assert said(after) == said(before)
    assert {file.key: file.vector for file in after.files} == {file.key: file.vector for file in before.files}
    assert {file.key: file.add["stats"] for file in after.files} == {
        file.key: file.add["stats"] for file in before.files
    }
    assert (after.features, after.metadata["configuration"]) == (before.features, before.metadata["configuration"])
    assert after.is_ready


def test_a_checkpoint_without_a_hint_and_in_parts_is_found(versions: int, root: Path) -> None:
    wanted = said(read(root, versions))
    log = root / "public" / "orders" / LOG
    [whole] = log.glob("*.checkpoint.parquet")
    at = int(whole.name.partition(".")[0])
    rows = pq.read_table(whole)
    for part in (1, 2):
        half = rows.slice(0, 3) if part == 1 else rows.slice(3)
        pq.write_table(half, log / f"{at:020d}.checkpoint.{part:010d}.{2:010d}.parquet")
    pq.write_table(rows, log / f"{at + 1:020d}.checkpoint.{1:010d}.{2:010d}.parquet")
    whole.unlink()
    (log / "_last_checkpoint").unlink()
    for version in range(at + 1):
        (root / "public" / "orders" / entry_path(version)).unlink()
    assert said(read(root, versions)) == wanted


@pytest.mark.parametrize(
    "hint", ["", "{", "[]", "null", '{"version":"x"}', '{"version":1,"size":3}', '{"version":1,"parts":2}']
)
def test_a_hint_that_is_damaged_or_names_what_is_gone_is_no_hint(hint: str, versions: int, root: Path) -> None:
    wanted = said(read(root, versions))
    log = root / "public" / "orders" / LOG
    (log / "_last_checkpoint").write_text(hint)
    (root / "public" / "orders" / entry_path(0)).unlink()
    DeltaTable(target_path(root, NAME))  # the engine does without it, too
    assert said(read(root, versions)) == wanted


def test_what_a_checkpoint_says_in_columns_beside_the_action_is_not_part_of_it(versions: int, root: Path) -> None:
    """Spark writes statistics and partitions a second time, in the columns' types: no JSON has those."""
    wanted = [file.add for file in read(root, versions).files]
    log = root / "public" / "orders" / LOG
    DeltaTable(target_path(root, NAME)).create_checkpoint()
    newest = max(log.glob("*.checkpoint.parquet"))
    rows = pq.read_table(newest)
    at = rows.schema.get_field_index("add")
    adds = rows.column("add").combine_chunks()
    parsed = pa.array([{"minValues": {"at": datetime.date(2020, 1, 1)}}] * rows.num_rows)
    parts = pa.array([{"day": datetime.date(2020, 1, 1)}] * rows.num_rows)
    plain = [field.with_nullable(True) for field in adds.type]
    fields = [*plain, pa.field("stats_parsed", parsed.type), pa.field("partitionValues_parsed", parts.type)]
    wide = pa.StructArray.from_arrays([*adds.flatten(), parsed, parts], fields=fields, mask=adds.is_null())
    pq.write_table(rows.set_column(at, "add", wide), newest)
    for version in range(versions + 1):
        (root / "public" / "orders" / entry_path(version)).unlink()
    found = [file.add for file in read(root, versions).files]
    assert {add["path"]: add["stats"] for add in found} == {add["path"]: add["stats"] for add in wanted}
    assert all(set(add) <= set(wanted[0]) | {"tags", "deletionVector"} for add in found)
    log_lines([{"add": add} for add in found])


def test_who_fell_behind_begins_again_and_a_gap_is_said(versions: int, root: Path) -> None:
    behind = read(root, 1)
    DeltaTable(target_path(root, NAME)).create_checkpoint()
    for version in range(versions):
        (root / "public" / "orders" / entry_path(version)).unlink()
    behind.follow(versions, table_id="")
    assert said(behind) == said(read(root, versions))
    with pytest.raises(Transient, match="gap"):
        Log(folder_of(root)).follow(versions - 1, table_id="")


def test_a_table_made_anew_is_not_taken_for_the_old_one(versions: int, root: Path) -> None:
    known = read(root, versions)
    other = Path(target_path(root, NAME))
    other.rename(root / "away")
    write_deltalake(str(other), pa.table({"id": [1]}))
    for number in range(versions):
        write_deltalake(str(other), pa.table({"id": [number]}), mode="append")
    newest = DeltaTable(str(other))
    known.follow(newest.version(), table_id=newest.metadata().id)
    assert said(known) == said(read(root, newest.version()))


def test_partitions_of_every_kind_have_their_paths_and_values(root: Path) -> None:
    texts = ["plain", "with space", "a/b", "100%", "ü", "a=b", "#?&", None]
    rows = pa.table({"id": pa.array(range(len(texts)), pa.int64()), "part": texts})
    path = target_path(root, NAME)
    write_deltalake(path, rows, partition_by=["part"])
    folder = folder_of(root)
    found = {}
    for file in read(root, 0).files:
        with folder.open(file.path) as source:
            [number] = pq.read_table(source)["id"].to_pylist()
        found[number] = file.add["partitionValues"]["part"]
    assert found == dict(enumerate(texts))


@pytest.mark.parametrize(
    ("configuration", "obstacle"),
    [
        ({}, None),
        ({"delta.enableChangeDataFeed": "true"}, "changeDataFeed"),
        ({"delta.appendOnly": "true"}, "appendOnly"),
        ({"delta.enableChangeDataFeed": "false"}, None),
    ],
)
def test_what_a_table_asks_of_writers_is_known(configuration: dict[str, str], obstacle: str | None, root: Path) -> None:
    DeltaTable.create(target_path(root, NAME), pa.schema([("id", pa.int64())]), configuration=configuration)
    found = read(root, 0).obstacle()
    assert found == (None if obstacle is None else f"the table uses {obstacle}")


def test_constraints_and_unknown_features_are_obstacles(root: Path) -> None:
    path = target_path(root, NAME)
    write_deltalake(path, pa.table({"id": pa.array([1], pa.int64())}))
    DeltaTable(path).alter.add_constraint({"positive": "id > 0"})
    log = read(root, 1)
    assert log.obstacle() == "the table uses checkConstraints"
    log.advance([{"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "writerFeatures": ["somethingNew"]}}])
    assert log.obstacle() == "the table uses somethingNew"


def test_of_a_files_bounds_those_are_kept_by_which_it_is_left_out() -> None:
    """A wide table has many files, and of each many bounds."""
    low = {"id": 1, "day": "2020-01-01", "at": "2020-01-01T00:00:00Z", "note": "a", "price": 1.5}
    file = DataFile.of({"path": "a", "stats": json.dumps({"numRecords": 3, "minValues": low, "maxValues": low})})
    assert file.lowest == file.highest == {"id": 1, "day": "2020-01-01"}


def test_partitions_with_more_than_one_text_for_a_value_are_an_obstacle(root: Path) -> None:
    path = target_path(root, NAME)
    at = pa.array([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)], pa.timestamp("us", "UTC"))
    write_deltalake(path, pa.table({"id": [1], "at": at}), partition_by=["at"])
    assert "partitioned" in str(read(root, 0).obstacle())


def test_files_and_vectors_outside_the_table_are_obstacles(root: Path) -> None:
    path = target_path(root, NAME)
    write_deltalake(path, pa.table({"id": pa.array([1], pa.int64())}))
    log = read(root, 0)
    [file] = log.files
    outside = {"storageType": "p", "pathOrInlineDv": "s3://other/a.bin", "sizeInBytes": 1, "cardinality": 1}
    log.advance([{"add": {**file.add, "deletionVector": outside}}])
    assert log.obstacle() == "the table has files outside its folder"
    log.advance([{"remove": {"path": file.key, "deletionVector": outside}}, {"add": {**file.add, "path": "s3://b/a"}}])
    assert log.obstacle() == "the table has files outside its folder"


@pytest.mark.parametrize("has_time", [False, True])
def test_a_table_gets_the_feature_and_keeps_what_it_had(has_time: bool, root: Path) -> None:
    """And no more than that: the engine would add a feature that many readers lack."""
    path = target_path(root, NAME)
    kinds = {"id": pa.int64(), **({"at": pa.timestamp("us")} if has_time else {})}
    DeltaTable.create(path, pa.schema(kinds.items()), configuration={"delta.logRetentionDuration": "interval 9 days"})
    before = DeltaTable(path)
    log = read(root, 0)
    assert not log.is_ready
    commit_entry(folder_of(root), log, before, log.upgrade(), "SET TBLPROPERTIES")
    assert log.is_ready
    after = DeltaTable(path)
    assert after.metadata().configuration == {"delta.logRetentionDuration": "interval 9 days", ENABLED: "true"}
    assert set(after.protocol().reader_features) == {FEATURE, *(["timestampNtz"] if has_time else [])}
    assert after.schema().to_json() == before.schema().to_json()
    assert before.version() == 1
    write_deltalake(path, pa.table({name: pa.nulls(1, kind) for name, kind in kinds.items()}), mode="append")
    assert "variantType" not in DeltaTable(path).protocol().reader_features


def test_actions_take_away_before_they_add(root: Path) -> None:
    log = Log(folder_of(root))
    vector = {"storageType": "u", "pathOrInlineDv": "0" * 20, "offset": 1, "sizeInBytes": 3, "cardinality": 1}
    add = {"path": "a", "partitionValues": {}, "size": 1, "stats": json.dumps({"numRecords": 3})}
    log.advance([{"add": add}])
    log.advance([{"add": {**add, "deletionVector": vector}}, {"remove": {"path": "a"}}])
    assert said(log) == {"a": (3, 1, {})}
    log.advance([{"remove": {"path": "a"}}])
    assert said(log) == {"a": (3, 1, {})}, "another state of the file was removed"
    log.advance([{"remove": {"path": "a", "deletionVector": vector}}])
    assert said(log) == {}


@pytest.mark.must_not_fail(25)
def test_a_checkpoint_that_could_not_be_read_to_its_end_leaves_nothing_of_it(versions: int, root: Path) -> None:
    wanted = said(read(root, versions))
    log = root / "public" / "orders" / LOG
    [whole] = log.glob("*.checkpoint.parquet")
    at = int(whole.name.partition(".")[0])
    stale = pq.read_table(whole)
    parts = [log / f"{at:020d}.checkpoint.{part:010d}.{2:010d}.parquet" for part in (1, 2)]
    pq.write_table(stale, parts[0])
    parts[1].write_bytes(b"not yet")
    hint = (log / "_last_checkpoint").read_text()
    (log / "_last_checkpoint").write_text(json.dumps({**json.loads(hint), "parts": 2}))
    reader = Log(folder_of(root))
    with pytest.raises(pa.ArrowException):
        reader.follow(versions, table_id="")
    (log / "_last_checkpoint").write_text(hint)
    for part in parts:
        part.unlink()
    DeltaTable(target_path(root, NAME)).create_checkpoint()
    reader.follow(versions, table_id="")
    assert said(reader) == wanted
