"""Rows in files as others write them: other statistics, large row groups, odd partitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import WriterProperties, write_deltalake

from tests.sinks.delta.conftest import target_path
from tests.sinks.delta.marked import (
    LANE,
    ORDERS,
    TEN,
    Check,
    Delta,
    MakeSink,
    actions_of,
)
from tests.sinks.lane import TestLane
from wallaby.errors import Refused
from wallaby.testing.changes import delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table


def rewritten_log(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The log of the table of orders with every ``add`` changed, as another writer would have said it."""
    for entry in (Path(target_path(root, ORDERS.name)) / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            if "add" in action:
                change(action["add"])
        entry.write_text("\n".join(json.dumps(action) for action in actions))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, {"numRecords": 10, "tightBounds": False}),
        ('{"nullCount":{"id":0}}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":10,"tightBounds":true,"nullCount":{}}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":10,"tightBounds":false}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":10}', {"numRecords": 10, "tightBounds": False}),
        ('{"numRecords":null}', {"numRecords": 10, "tightBounds": False}),
    ],
)
def test_files_with_other_statistics_are_marked_and_read(
    said: str | None, expected: dict[str, Any], make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    windows = windows_of(TEN, [(ORDERS, update(3, "b"))])
    TestLane(make_marking(), LANE).apply(windows[0])
    rewritten_log(root, lambda add: add.update(stats=said) if said else add.pop("stats"))
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    [stats] = [one["add"]["stats"] for one in actions_of(root, ORDERS) if "deletionVector" in one.get("add", {})]
    assert json.loads(stats) == expected
    assert_content(ORDERS, row_table(ORDERS, [(n, "b" if n == 3 else "a") for n in range(10)]))


@pytest.mark.must_not_fail(25)
def test_a_file_of_which_rows_are_left_is_not_removed_whatever_the_log_says(
    make_marking: MakeSink, root: Path, assert_content: Check
) -> None:
    windows = windows_of(TEN, [(ORDERS, delete(n)) for n in range(6)])
    TestLane(make_marking(), LANE).apply(windows[0])
    rewritten_log(root, lambda add: add.update(stats='{"numRecords":6}'))
    with pytest.raises(Refused, match="count the rows"):
        TestLane(make_marking(), LANE, 2).apply(windows[1])
    assert_content(ORDERS, row_table(ORDERS, [(n, "a") for n in range(10)]))


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("kind", ["int8", "text"])
def test_of_large_files_of_others_only_parts_with_changed_rows_are_in_memory(
    kind: str, make_marking: MakeSink, root: Path, assert_content: Check, delta: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = table("public.orders", {"id": kind, "part": "int4", "note": "text"}, key=["id"])
    keys = [n if kind == "int8" else f"key {n}" for n in range(40)]
    rows = {key: (key, n % 3, f"a{n}") for n, key in enumerate(keys)}
    first = windows_of([(schema, insert(*row)) for row in rows.values()])[0]
    lane = TestLane(make_marking(), LANE)
    lane.apply(first)
    ordered = pa.Table.from_pylist(
        [dict(zip(("id", "part", "note"), row, strict=True)) for row in rows.values()],
        schema=pa.schema(delta(schema).schema().to_arrow()),
    )
    write_deltalake(
        delta(schema),
        ordered,
        mode="overwrite",
        writer_properties=WriterProperties(max_row_group_size=10, write_batch_size=10),
    )
    read, groups = pq.ParquetFile.read_row_group, []

    def counted(file: pq.ParquetFile, i: int, *args: Any, **named: Any) -> pa.Table:
        groups.append(i)
        return read(file, i, *args, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    changes = [update(keys[13], 7, None, unchanged=["note"]), update(keys[35], 8, "b"), delete(keys[15])]
    rest = [delete(key) for key in keys[:30] if key not in (keys[13], keys[15])]
    windows = windows_of(
        [(schema, insert(*row)) for row in rows.values()],
        *[[(schema, c)] for c in changes],
        [(schema, c) for c in rest],
    )
    lane.apply(windows[1])
    assert set(groups) == {1}
    lane.apply_all(windows[2:])
    for key in keys[:30]:
        del rows[key]
    rows |= {keys[13]: (keys[13], 7, "a13"), keys[35]: (keys[35], 8, "b")}
    assert_content(schema, row_table(schema, list(rows.values())))
    assert sorted(groups)[-1] == 3


@pytest.mark.must_not_fail(12)
def test_a_partition_of_an_empty_text_is_null(make_marking: MakeSink, root: Path, assert_content: Check) -> None:
    schema = table("public.orders", {"id": "int8", "part": "int4", "note": "text"}, key=["id"])
    rows = [(schema, insert(1, None, "a")), (schema, insert(2, None, "a"))]
    windows = windows_of(rows, [(schema, update(1, None, "b", unchanged=["part"]))])
    TestLane(make_marking(partition_by="part"), LANE).apply(windows[0])
    rewritten_log(root, lambda add: add.update(partitionValues={"part": ""}))
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    assert_content(schema, row_table(schema, [(1, None, "b"), (2, None, "a")]))


@pytest.mark.must_not_fail(12)
def test_bounds_keep_all_their_digits(make_marking: MakeSink, root: Path) -> None:
    """As numbers of JSON they have more digits than a reader of JSON keeps."""
    windows = windows_of(TEN, [(ORDERS, update(3, "b"))])
    TestLane(make_marking(), LANE).apply(windows[0])
    digits = "12345678901234567890.123456789012345678"
    stats = f'{{"numRecords":10,"minValues":{{"price":{digits}}},"maxValues":{{"price":{digits}}}}}'
    rewritten_log(root, lambda add: add.update(stats=stats))
    TestLane(make_marking(), LANE, 2).apply(windows[1])
    [again] = [one["add"]["stats"] for one in actions_of(root, ORDERS) if "deletionVector" in one.get("add", {})]
    assert again == '{"tightBounds":false,' + stats[1:]
