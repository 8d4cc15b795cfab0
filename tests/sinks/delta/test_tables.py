"""Targets follow their source: added, renamed, dropped, made again, widened; and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.delta.config import DeltaOptions
from sinks.delta.sink import DeltaSink
from sinks.delta.store import storage_options
from tests.sinks.delta.conftest import target_path
from tests.sinks.lane import TestLane
from wallaby.errors import Refused
from wallaby.schema import TableName, TableSchema
from wallaby.testing.changes import NewShape, Outlier, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
MakeSink = Callable[..., DeltaSink]
Delta = Callable[[TableSchema], DeltaTable]


def orders(columns: dict[str, str], numbers: Sequence[int], *, missing: dict[str, str] | None = None) -> TableSchema:
    """A shape of ``public.orders`` whose columns have the given attribute numbers."""
    made = table("public.orders", columns, key=["id"], version=sum(numbers))
    known = [
        replace(column, attnum=number, missing=(missing or {}).get(column.name))
        for column, number in zip(made.columns, numbers, strict=True)
    ]
    return replace(made, columns=tuple(known))


FIRST = orders({"id": "int4", "note": "text", "size": "int2"}, (1, 2, 3))
ROWS: list[tuple[Any, ...]] = [(1, "a", 10), (2, "b", None)]


def reshaped(make_sink: MakeSink, shape: TableSchema, *last: Any, **options: Any) -> None:
    """Rows in the first shape, the barrier, and one row in the new."""
    lane = TestLane(make_sink(**options), LANE)
    for window in windows_of(
        [(FIRST, insert(*row)) for row in ROWS], [NewShape(shape), (shape, insert(*last)), (shape, delete(99))]
    ):
        lane.apply(window)
    lane.sink.ensure_table(shape)


def rows_of(table: DeltaTable) -> list[dict[str, Any]]:
    return sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["id"])


@pytest.mark.must_not_fail(8, 12)
@pytest.mark.parametrize("mode", ["mirror", "history"])
def test_a_key_of_zero_may_change_its_sign(make_sink: MakeSink, delta: Delta, mode: str) -> None:
    """The two are one key to the engine, which is to do one thing with its row."""
    weights = table("public.weights", {"weight": "float8", "note": "text"}, key=["weight"])
    lane = TestLane(make_sink(write_mode=mode), LANE)
    changes = [
        [(weights, insert(0.0, "a")), (weights, insert(1.0, "b"))],
        [(weights, update(-0.0, "c", old=[0.0]))],
        [(weights, update(0.0, "d", old=[-0.0])), (weights, update(-0.0, None, old=[0.0], unchanged=["note"]))],
        [(weights, update(0.0, "e", old=[-0.0])), (weights, delete(0.0))],
    ]
    expected = [[("0.0", "a")], [("-0.0", "c")], [("-0.0", "d")], []]
    for window, zeros in zip(windows_of(*changes), expected, strict=True):
        lane.apply(window)
        rows = [row for row in delta(weights).to_pyarrow_table().to_pylist() if row.get("is_current", True)]
        assert [(str(row["weight"]), row["note"]) for row in rows if row["weight"] == 0] == zeros
        assert [row["note"] for row in rows if row["weight"] == 1] == ["b"]


@pytest.mark.parametrize(
    ("options", "endpoint", "is_in_host"),
    [
        ({}, None, True),
        ({"force_path_style": True}, None, False),
        ({"endpoint": "https://s3.example.org:9000"}, "https://lake.s3.example.org:9000", True),
        ({"endpoint": "https://s3.example.org", "force_path_style": True}, "https://s3.example.org", False),
        ({"endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000", False),
        ({"endpoint": "http://[::1]:9000"}, "http://[::1]:9000", False),
        ({"endpoint": "http://minio:9000"}, "http://minio:9000", False),
    ],
)
def test_a_bucket_is_addressed_in_the_host_unless_the_path_is_asked_for_or_the_host_has_no_names(
    options: dict[str, Any], endpoint: str | None, is_in_host: bool
) -> None:
    settings = storage_options(DeltaOptions.parse({"path": "s3://lake/tables", **options}))
    assert settings.get("AWS_ENDPOINT_URL") == endpoint
    assert settings["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] == str(is_in_host).lower()


@pytest.mark.must_not_fail(11)
def test_a_renamed_column_takes_its_values_along(make_sink: MakeSink, delta: Delta) -> None:
    reshaped(make_sink, orders({"id": "int4", "remark": "text", "size": "int2"}, (1, 2, 3)), 3, "c", 1)
    assert rows_of(delta(FIRST)) == [
        {"id": 1, "remark": "a", "size": 10},
        {"id": 2, "remark": "b", "size": None},
        {"id": 3, "remark": "c", "size": 1},
    ]


@pytest.mark.must_not_fail(11)
def test_columns_that_swap_their_names_swap_their_values(make_sink: MakeSink, delta: Delta) -> None:
    reshaped(make_sink, orders({"id": "int4", "size": "text", "note": "int2"}, (1, 2, 3)), 3, "c", 1)
    assert [(row["size"], row["note"]) for row in rows_of(delta(FIRST))] == [("a", 10), ("b", None), ("c", 1)]


@pytest.mark.must_not_fail(11)
def test_a_dropped_column_is_dropped_and_one_made_again_begins_empty(make_sink: MakeSink, delta: Delta) -> None:
    reshaped(make_sink, orders({"id": "int4", "size": "int2", "note": "text"}, (1, 3, 4)), 3, 1, "new")
    assert [(row["size"], row["note"]) for row in rows_of(delta(FIRST))] == [(10, None), (None, None), (1, "new")]
    assert "wallaby.attnum" in delta(FIRST).schema().to_json()


@pytest.mark.must_not_fail(11)
def test_widened_types_keep_every_value(make_sink: MakeSink, delta: Delta) -> None:
    reshaped(make_sink, orders({"id": "int8", "note": "text", "size": "numeric(20,2)"}, (1, 2, 3)), 3, "c", None)
    found = delta(FIRST).to_pyarrow_table()
    assert found.schema.types == [pa.int64(), pa.string(), pa.decimal128(20, 2)]
    assert [str(row["size"]) for row in rows_of(delta(FIRST))] == ["10.00", "None", "None"]


@pytest.mark.must_not_fail(11)
def test_a_new_column_comes_with_the_constant_older_rows_have(make_sink: MakeSink, delta: Delta) -> None:
    shape = orders(
        {"id": "int4", "note": "text", "size": "int2", "n": "numeric(8,2)", "flag": "bool"},
        (1, 2, 3, 4, 5),
        missing={"n": "1.50", "flag": "t"},
    )
    reshaped(make_sink, shape, 3, "c", 1, None, None)
    assert [(str(row["n"]), row["flag"]) for row in rows_of(delta(FIRST))] == [
        ("1.50", True),
        ("1.50", True),
        ("None", None),
    ]


def test_a_default_that_cannot_be_taken_over_is_refused_without_its_value(make_sink: MakeSink, delta: Delta) -> None:
    shape = orders(
        {"id": "int4", "note": "text", "size": "int2", "days": "date[]"}, (1, 2, 3, 4), missing={"days": "{2024-02-29}"}
    )
    with pytest.raises(Refused, match="column days") as caught:
        reshaped(make_sink, shape, 3, "c", 1, None)
    assert "2024" not in str(caught.value)
    assert len(rows_of(delta(FIRST))) == 2


@pytest.mark.must_not_fail(11)
def test_columns_nobody_can_tell_apart_are_refused(make_sink: MakeSink) -> None:
    unknown = orders({"id": "int4", "note": "text", "length": "int2"}, (0, 0, 0))
    with pytest.raises(Refused, match="renamed, or dropped and another added"):
        reshaped(make_sink, unknown, 3, "c", 1)


def test_partitions_and_the_change_feed_survive_a_new_shape(make_sink: MakeSink, delta: Delta) -> None:
    shape = orders({"id": "int8", "note": "text", "size": "int4"}, (1, 2, 3))
    reshaped(make_sink, shape, 3, "c", 1, partition_by="note", change_data_feed=True)
    metadata = delta(FIRST).metadata()
    assert metadata.partition_columns == ["note"]
    assert metadata.configuration["delta.enableChangeDataFeed"] == "true"
    assert metadata.configuration["delta.targetFileSize"] == str(32 << 20)
    assert len(rows_of(delta(FIRST))) == 3


def test_the_change_feed_tells_what_a_merge_did(make_sink: MakeSink, delta: Delta) -> None:
    lane = TestLane(make_sink(change_data_feed=True), LANE)
    for window in windows_of(
        [(FIRST, insert(*row)) for row in ROWS], [(FIRST, update(1, "new", 10)), (FIRST, delete(2))]
    ):
        lane.apply(window)
    newest = delta(FIRST).version()
    feed = pa.table(delta(FIRST).load_cdf(starting_version=newest).read_all())
    assert sorted(feed["_change_type"].to_pylist()) == ["delete", "update_postimage", "update_preimage"]


def test_rows_move_between_partitions(make_sink: MakeSink, delta: Delta, root: Path) -> None:
    lane = TestLane(make_sink(partition_by="note"), LANE)
    for window in windows_of(
        [(FIRST, insert(1, "a/b c", 1)), (FIRST, insert(2, None, 2)), (FIRST, insert(3, "x", 3))],
        [(FIRST, update(1, "x", 1)), (FIRST, delete(2)), (FIRST, update(3, None, 3))],
    ):
        lane.apply(window)
    assert [tuple(row.values()) for row in rows_of(delta(FIRST))] == [(1, "x", 1), (3, None, 3)]
    assert len(list(Path(target_path(root, FIRST.name)).glob("note=*"))) >= 3


def test_a_value_that_would_change_as_a_partition_is_refused(make_sink: MakeSink) -> None:
    lane = TestLane(make_sink(partition_by="note"), LANE)
    [window] = windows_of([(FIRST, insert(1, "", 1))])
    with pytest.raises(Refused, match="empty text") as caught:
        lane.apply(window)
    assert caught.value.where["column"] == "note"


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("has_vectors", [False, True], ids=["merge", "vectors"])
def test_a_value_that_would_change_as_a_partition_is_refused_when_the_option_is_gone(
    has_vectors: bool, make_sink: MakeSink
) -> None:
    """The table keeps its partitions."""
    windows = windows_of([(FIRST, insert(1, "a", 1))], [(FIRST, update(1, "", 1))])
    TestLane(make_sink(partition_by="note"), LANE).apply(windows[0])
    with pytest.raises(Refused, match="empty text"):
        TestLane(make_sink(deletion_vectors=has_vectors), LANE, 2).apply(windows[1])


def test_partitions_by_a_missing_or_unfit_column_are_found_before_the_start(make_sink: MakeSink) -> None:
    weights = table("public.weights", {"id": "int4", "note": "float8"}, key=["id"])
    other = table("public.other", {"id": "int4"}, key=["id"])
    found = make_sink(partition_by="note").check((FIRST, weights, other))
    assert [(finding.subject, finding.code) for finding in found] == [
        ("table public.weights", "table-shape"),
        ("table public.other", "table-shape"),
    ]
    assert all(finding.advice for finding in found)


def test_a_target_of_another_table_is_refused(make_sink: MakeSink) -> None:
    sink = make_sink(schema="lake", table="orders")
    other = table("public.other", {"id": "int4"}, key=["id"])
    sink.ensure_table(FIRST)
    with pytest.raises(Refused, match="name-collision"):
        sink.ensure_table(other)
    assert [finding.code for finding in make_sink(schema="lake", table="orders").check((other,))] == ["name-collision"]


@pytest.mark.must_not_fail(11)
def test_a_table_somebody_else_made_follows_renames_once_it_is_known(
    make_sink: MakeSink, delta: Delta, root: Path
) -> None:
    fields = pa.schema([("id", pa.int32()), ("note", pa.string()), ("size", pa.int16()), ("theirs", pa.bool_())])
    write_deltalake(target_path(root, FIRST.name), pa.table([[7], ["x"], [1], [True]], schema=fields))
    reshaped(make_sink, orders({"id": "int4", "remark": "text", "size": "int2"}, (1, 2, 3)), 3, "c", 1)
    assert [tuple(row.values()) for row in rows_of(delta(FIRST))] == [
        (1, "a", 10, None),
        (2, "b", None, None),
        (3, "c", 1, None),
        (7, "x", 1, True),
    ]


def test_a_column_that_must_not_be_null_and_is_not_ours_is_refused(make_sink: MakeSink, root: Path) -> None:
    fields = pa.schema([("id", pa.int32()), pa.field("theirs", pa.int32(), nullable=False)])
    DeltaTable.create(target_path(root, FIRST.name), fields)
    with pytest.raises(Refused, match="column theirs exists only in the target"):
        make_sink().ensure_table(FIRST)


def test_a_log_keeps_the_columns_the_source_dropped(make_sink: MakeSink, delta: Delta) -> None:
    reshaped(make_sink, orders({"id": "int4", "remark": "text"}, (1, 4)), 3, "c", write_mode="append")
    rows = rows_of(delta(FIRST))[:3]
    assert [(row["id"], row["note"], row["size"], row["remark"]) for row in rows] == [
        (1, "a", 10, None),
        (2, "b", None, None),
        (3, None, None, "c"),
    ]


@pytest.mark.must_not_fail(12)
def test_odd_values_become_null_or_text_beside_the_row_where_the_flow_says_so(
    make_sink: MakeSink, delta: Delta
) -> None:
    schema = table("public.odd", {"id": "int4", "day": "date", "at": "time"}, key=["id"])
    [window] = windows_of([(schema, insert(1, Outlier("infinity"), Outlier("24:00:00")))])
    for mode, choice in (("mirror", "null"), ("append", "text")):
        target = table(f"public.{mode}", {}, key=[]).name
        sink = make_sink(write_mode=mode, unrepresentable=choice, table=target.name)
        TestLane(sink, LaneId("shop", mode)).apply(window)
        [row] = delta(replace(schema, name=target)).to_pyarrow_table().to_pylist()
        assert (row["day"], row["at"]) == (None, "24:00:00")
        if mode == "append":
            assert {"column": "day", "text": "infinity"} in row["__outliers"]


def test_names_are_folders_nobody_misreads(root: Path, make_sink: MakeSink) -> None:
    schema = table(TableName("_Wallaby", "a/b%20 ü"), {"id": "int4"}, key=["id"])
    make_sink().ensure_table(schema)
    assert [path.name for path in root.glob("~5fWallaby/*")] == ["a~2fb~2520~20~c3~bc"]


@pytest.mark.must_not_fail(11)
def test_a_new_copy_begins_in_the_new_shape_whatever_the_old_one_was(make_sink: MakeSink, delta: Delta) -> None:
    lane = TestLane(make_sink(), LANE)
    [window] = windows_of([(FIRST, insert(*row)) for row in ROWS])
    lane.apply(window)
    other = orders({"id": "bool", "length": "date", "note": "int2"}, (0, 0, 0))
    with pytest.raises(Refused):
        lane.sink.ensure_table(other)
    lane.sink.reset_table(FIRST.name, LANE, 1)
    lane.sink.reset_lane(LANE, 1)
    again = TestLane(lane.sink, LANE)
    [window] = windows_of([(other, insert(True, None, 3))])
    again.apply(window)
    assert rows_of(delta(FIRST)) == [{"id": True, "length": None, "note": 3}]


def test_a_table_that_does_not_fit_is_left_as_it_was(make_sink: MakeSink, delta: Delta, root: Path) -> None:
    write_deltalake(target_path(root, FIRST.name), pa.table({"id": [True]}))
    with pytest.raises(Refused, match="column id is bool"):
        make_sink().ensure_table(FIRST)
    assert delta(FIRST).version() == 0
