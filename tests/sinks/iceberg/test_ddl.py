"""From one shape of a table to the next, by field id; partitions and sort order."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
)

from sinks.iceberg.config import PartitionField, SortField
from sinks.iceberg.ddl import WantedColumn, partition_spec, reshape, sort_order
from sinks.iceberg.reader import mirror_rows
from sinks.iceberg.sink import IcebergSink
from sinks.iceberg.types import widens
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import Refused
from wallaby.schema import Column, TableName, TableSchema
from wallaby.sink import Severity
from wallaby.testing.changes import NewShape, Outlier, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table
from wallaby.window import LaneId

ID, INT, TEXT = LongType(), IntegerType(), StringType()


def fields(*described: tuple[int, str, IcebergType]) -> Schema:
    return Schema(*(NestedField(number, name, kind, required=False) for number, name, kind in described))


@pytest.mark.parametrize(
    ("old", "new"), [(INT, ID), (FloatType(), DoubleType()), (DecimalType(10, 2), DecimalType(12, 2))]
)
def test_a_type_widens_in_one_direction(old: IcebergType, new: IcebergType) -> None:
    assert widens(old, new)
    assert not widens(new, old)


@pytest.mark.parametrize(("old", "new"), [(INT, TEXT), (DecimalType(10, 2), DecimalType(12, 4)), (INT, DateType())])
def test_other_types_do_not_become_each_other(old: IcebergType, new: IcebergType) -> None:
    plan = reshape(fields((1, "a", old)), (WantedColumn("a", new),), last_id=1)
    assert plan.schema is None
    assert plan.unfit == (f"column a is {old}, the source needs {new}",)


@pytest.mark.must_not_fail(11)
def test_a_rename_keeps_the_field_id_and_a_column_made_again_gets_another() -> None:
    had = fields((1, "id", ID), (2, "a", INT), (3, "b", INT))
    wanted = (WantedColumn("id", ID, 1), WantedColumn("z", INT, 2), WantedColumn("b", INT, 4))
    plan = reshape(had, wanted, owned=(("id", 1), ("a", 2), ("b", 3)), last_id=3)
    assert plan.unfit == ()
    assert plan.schema is not None
    assert [(field.field_id, field.name) for field in plan.schema.fields] == [(1, "id"), (2, "z"), (4, "b")]


@pytest.mark.must_not_fail(11)
def test_columns_that_swap_their_names_keep_their_values() -> None:
    had = fields((1, "id", ID), (2, "a", INT), (3, "b", INT))
    wanted = (WantedColumn("id", ID, 1), WantedColumn("b", INT, 2), WantedColumn("a", INT, 3))
    plan = reshape(had, wanted, owned=(("id", 1), ("a", 2), ("b", 3)), last_id=3)
    assert plan.schema is not None
    assert [(field.field_id, field.name) for field in plan.schema.fields] == [(1, "id"), (2, "b"), (3, "a")]


def test_types_widen_and_a_wider_one_stays() -> None:
    plan = reshape(fields((1, "a", INT), (2, "b", ID)), (WantedColumn("a", ID), WantedColumn("b", INT)), last_id=2)
    assert plan.schema is not None
    assert [field.field_type for field in plan.schema.fields] == [ID, ID]


def test_a_nested_type_gets_ids_nobody_had() -> None:
    plan = reshape(fields((1, "a", INT)), (WantedColumn("a", INT), WantedColumn("l", ListType(1, ID))), last_id=7)
    assert plan.schema is not None
    added = plan.schema.find_field("l")
    assert added.field_id == 8
    assert isinstance(added.field_type, ListType)
    assert added.field_type.element_id > 8


@pytest.mark.must_not_fail(11)
def test_a_default_for_older_rows_is_refused_unless_there_are_none() -> None:
    had, wanted = fields((1, "a", INT)), (WantedColumn("a", INT), WantedColumn("n", INT, 2, missing="7"))
    assert "added with a default" in reshape(had, wanted, last_id=1).unfit[0]
    assert reshape(had, wanted, last_id=1, is_empty=True).schema is not None


def test_a_dropped_column_that_partitions_are_made_of_is_refused() -> None:
    had = fields((1, "id", ID), (2, "day", DateType()))
    plan = reshape(
        had, (WantedColumn("id", ID, 1),), owned=(("id", 1), ("day", 2)), last_id=2, bound_ids=frozenset({2})
    )
    assert plan.unfit == ("column day was dropped, but the table is partitioned or sorted by it",)


def test_partitions_and_order_name_columns_of_fitting_types() -> None:
    name, had = TableName("public", "t"), fields((1, "id", ID), (2, "day", DateType()))
    spec = partition_spec(had, (PartitionField("day", "month"), PartitionField("id", "bucket", 4)), table=name)
    assert [(field.source_id, field.name) for field in spec.fields] == [(2, "day_month"), (1, "id_bucket")]
    assert partition_spec(had, (), table=name) == PartitionSpec()
    assert sort_order(had, (SortField("id", is_descending=True),), table=name).fields[0].source_id == 1
    with pytest.raises(Refused, match="does not have"):
        partition_spec(had, (PartitionField("gone"),), table=name)
    with pytest.raises(Refused, match="no partitions by day"):
        partition_spec(had, (PartitionField("id", "day"),), table=name)
    with pytest.raises(Refused, match="does not have"):
        sort_order(had, (SortField("gone"),), table=name)


EVENTS = table("public.events", {"id": "int8", "at": "timestamptz", "kind": "text", "amount": "int4"}, key=["id"])


@pytest.mark.parametrize("strategy", ["position-deletes", "copy-on-write"])
def test_rows_move_between_partitions(strategy: str, lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    def day(number: int) -> datetime.datetime:
        return datetime.datetime(2026, 1, number, 12, tzinfo=datetime.UTC)

    options = {"partition_by": "at:day,kind", "sort_by": "amount:desc", "mirror_strategy": strategy}
    sink = make_sink(**options)
    assert not [f for f in sink.check((EVENTS,)) if f.severity is Severity.ERROR]
    lane = TestLane(sink, LANE)
    lane.apply_all(
        windows_of(
            [(EVENTS, insert(n, day(1 + n % 3), "ab"[n % 2], n)) for n in range(20)],
            [(EVENTS, update(4, day(9), None, 100)), (EVENTS, update(5, day(2), "b", 101))],
            [(EVENTS, update(4, day(1), "a", 102))],
        )
    )
    rows = [(n, day(1 + n % 3), "ab"[n % 2], n) for n in range(20) if n not in (4, 5)]
    rows += [(4, day(1), "a", 102), (5, day(2), "b", 101)]
    expected = canonical_hash(row_table(EVENTS, rows).select(range(4)))  # type: ignore[arg-type]  # rows of any kind
    found = lake.catalog.load_table(("public", "events"))
    assert len(found.spec().fields) == 2
    assert canonical_hash(mirror_rows(found, EVENTS)) == expected
    assert lake.by_duckdb(found).num_rows == 20
    [task, *_] = found.scan(row_filter="kind = 'b' and id > 10").plan_files()
    amounts = found.io.new_input(task.file.file_path)
    assert amounts.exists()


def test_partitions_by_a_missing_column_are_found_before_the_start(make_sink: Callable[..., IcebergSink]) -> None:
    [finding] = make_sink(partition_by="gone:day").check((EVENTS,))
    assert finding.severity is Severity.ERROR
    assert "does not have" in finding.message


def numbered(name: str, columns: dict[str, tuple[str, int]]) -> TableSchema:
    """Columns with their types and attribute numbers."""
    made = table(name, {column: kind for column, (kind, _) in columns.items()}, key=["id"])
    return TableSchema(
        made.oid,
        made.name,
        tuple(
            Column(column.name, column.type, column.typmod, column.is_key, attnum=columns[column.name][1])
            for column in made.columns
        ),
        made.identity,
        version=len(columns),
    )


@pytest.mark.must_not_fail(11)
def test_rows_written_before_a_rename_a_drop_and_a_widening_are_read_in_the_new_shape(
    lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    old = numbered("public.t", {"id": ("int4", 1), "note": ("text", 2), "n": ("int4", 3), "gone": ("text", 4)})
    new = numbered("public.t", {"id": ("int8", 1), "remark": ("text", 2), "n": ("int8", 3)})
    lane = TestLane(make_sink(), LANE)
    lane.apply_all(
        windows_of(
            [(old, insert(1, "a", 1, "x")), (old, insert(2, "b", 2, "y"))],
            [NewShape(new), (new, insert(2**40, "c", 2**41)), (new, update(1, None, 10, unchanged=["remark"]))],
        )
    )
    expected = canonical_hash(row_table(new, [(1, "a", 10), (2, "b", 2), (2**40, "c", 2**41)]).select(range(3)))
    found = lake.catalog.load_table(("public", "t"))
    assert canonical_hash(mirror_rows(found, new)) == expected
    assert lake.by_duckdb(found).column_names == ["id", "remark", "n"]
    assert lake.by_duckdb(found).sort_by("id")["remark"].to_pylist() == ["a", "b", "c"]


@pytest.mark.must_not_fail(22)
def test_a_target_somebody_made_wider_takes_narrower_rows(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    schema = table("public.wide", {"a": "int4", "b": "text", "n": "int2", "note": "text"}, key=["a", "b"])
    theirs = lake.make(
        ("public", "wide"),
        pa.schema(
            [("b", pa.string()), ("a", pa.int64()), ("n", pa.int64()), ("note", pa.string()), ("c", pa.date32())]
        ),
    )
    theirs.append(pa.table({"b": ["x"], "a": [2**40], "n": [1], "note": ["theirs"]}))
    lane = TestLane(make_sink(), LANE)
    windows = windows_of(
        [(schema, insert(1, "x", 1, "a")), (schema, insert(2, "x", 2, "b"))],
        [(schema, update(1, "x", 3, None, unchanged=["note"])), (schema, update(2, "y", 4, "c", old=[2, "x"]))],
    )
    lane.apply_all(windows)
    rows = lake.catalog.load_table(("public", "wide")).scan().to_arrow().sort_by("n").to_pylist()
    assert [(row["a"], row["b"], row["n"], row["note"], row["c"]) for row in rows] == [
        (2**40, "x", 1, "theirs", None),
        (1, "x", 3, "a", None),
        (2, "y", 4, "c", None),
    ]


@pytest.mark.must_not_fail(12)
def test_values_iceberg_does_not_hold_are_null_or_text_if_so_asked(
    lake: Lake, make_sink: Callable[..., IcebergSink]
) -> None:
    mirrored = table("public.odd", {"id": "int8", "day": "date"}, key=["id"])
    logged = table("public.log", {"id": "int8", "day": "date"}, key=["id"])
    null = make_sink(unrepresentable="null")
    TestLane(null, LANE).apply_all(windows_of([(mirrored, insert(1, Outlier("infinity")))]))
    assert lake.catalog.load_table(("public", "odd")).scan().to_arrow().to_pylist() == [{"id": 1, "day": None}]
    text = make_sink(unrepresentable="text", write_mode="append")
    TestLane(text, LaneId("shop", "log")).apply_all(windows_of([(logged, insert(1, Outlier("infinity")))]))
    [row] = lake.catalog.load_table(("public", "log")).scan().to_arrow().to_pylist()
    assert row["day"] is None
    assert row["__outliers"] == [{"column": "day", "text": "infinity"}]


@pytest.mark.must_not_fail(11)
def test_a_log_takes_a_column_with_a_default_for_older_rows(lake: Lake, make_sink: Callable[..., IcebergSink]) -> None:
    old = numbered("public.t", {"id": ("int8", 1)})
    new = numbered("public.t", {"id": ("int8", 1), "n": ("int4", 2)})
    column = replace(new.columns[1], missing="7")
    new = replace(new, columns=(new.columns[0], column))
    windows = windows_of([(old, insert(1))], [NewShape(new), (new, insert(2, 8))])
    TestLane(make_sink(write_mode="append"), LANE).apply_all(windows)
    rows = lake.catalog.load_table(("public", "t")).scan().to_arrow().sort_by("id")
    assert rows["n"].to_pylist() == [None, 8]
