"""Group ids are equal exactly when values are."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wallaby.transform.grouping import dense, group_ids, grouped, last_of_each, value_ids

ARRAYS = [
    pa.array([1, None, 1, 2]),
    pa.array([2**64 - 1, 5, 2**64 - 1], pa.uint64()),
    pa.array([True, False, None, True]),
    pa.array(["a", None, "a", ""]),
    pa.array([b"", b"a", None, b"a"]),
    pa.array([bytes(16), b"x" * 16, bytes(16)], pa.binary(16)),
    pa.array([decimal.Decimal("1.0"), None, decimal.Decimal("1.0")], pa.decimal256(70, 1)),
    pa.array([pa.MonthDayNano([1, 2, 3]), pa.MonthDayNano([1, 2, 3]), None, pa.MonthDayNano([1, 2, 4])]),
    pa.array([datetime.date(2024, 1, 1), datetime.date(1, 1, 1), datetime.date(2024, 1, 1)]),
    pa.array([datetime.time(1), None, datetime.time(1)], pa.time64("us")),
    pa.array([[1, None], None, [1, None], [], [1], [None, 1]]),
    pa.array([["a", "bc"], ["ab", "c"], ["a", "bc"], [""], []]),
    pa.array([[[1], [2]], [[1, 2]], [[1], [2]], None]),
    pa.array([[("a", 1)], [("a", 1)], None, [("b", 1)]], pa.map_(pa.string(), pa.int32())),
    pa.array([{"a": 1}, {"a": None}, None, {"a": 1}]),
    pa.array([[1, 2], [1, 2], None], pa.list_(pa.int8(), 2)),
    pa.array(["x", "y", "x"]).dictionary_encode(),
    pa.nulls(3),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
@pytest.mark.parametrize("start", [0, 1])
def test_ids_are_equal_exactly_when_values_are(array: pa.Array, start: int) -> None:
    array = array[start:]
    values = array.to_pylist()
    ids = value_ids(array)
    for i, left in enumerate(values):
        for j, right in enumerate(values):
            assert (ids[i] == ids[j]) == (left == right), (left, right)


def test_floats_are_compared_by_their_bits_and_all_nan_are_one() -> None:
    odd = np.array([0x7FF8000000000001], np.uint64).view(np.float64)[0]
    ids = value_ids(pa.array([0.0, -0.0, float("nan"), odd, None, 0.0]))
    assert len({int(i) for i in ids[[0, 1, 2, 4]]}) == 4
    assert ids[2] == ids[3]
    assert ids[0] == ids[5]


def test_rows_are_equal_when_all_columns_are() -> None:
    columns = [pa.array(["a", "a", None, "a", None]), pa.array([1, 2, 1, 1, 1]), pa.array([None, None, "x", None, "x"])]
    ids = group_ids(columns, 5)
    assert ids[0] == ids[3]
    assert ids[2] == ids[4]
    assert len(set(ids.tolist())) == 3
    assert group_ids([], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("spread", [3, 50, 2**62])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_the_last_row_of_each_group_is_found_whatever_the_range(spread: int, count: int) -> None:
    ids = np.random.default_rng(count).integers(-spread, spread, count)
    last: dict[int, int] = {int(value): place for place, value in enumerate(ids)}
    assert last_of_each(ids).tolist() == sorted(last.values())
    order, starts = grouped(ids)
    seen: list[Any] = []
    for place, is_start in zip(order.tolist(), starts.tolist(), strict=True):
        if is_start:
            seen.append([])
        seen[-1].append(place)
    assert all(group == sorted(group) and len({int(ids[i]) for i in group}) == 1 for group in seen)
    assert len(seen) == len(last)


def test_dense_ids_count_groups() -> None:
    ids, count = dense(np.array([7, -1, 7, 2**62]))
    assert ids.tolist() == [0, 1, 0, 2]
    assert count == 3
