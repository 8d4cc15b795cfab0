"""Intervals taken apart and put together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from wallaby.content import validity_bitmap
from wallaby.intervals import INTERVAL, interval_parts, intervals, intervals_of
from wallaby.wire.parquet_types import INTERVAL_TYPE, from_parquet

MOST = (2**63 - 1) // 1_000
VALUES = pa.array([pa.MonthDayNano([14, -3, 5_000]), None, pa.MonthDayNano([-1, 2**31 - 1, -MOST * 1_000])], INTERVAL)


def test_parts_put_together_are_the_same_intervals() -> None:
    for array in (VALUES, VALUES.slice(1), VALUES.slice(3)):
        months, days, nanoseconds = interval_parts(array)
        assert intervals(months, days, nanoseconds // 1_000, validity_bitmap(array)).equals(array)


def test_structs_become_intervals() -> None:
    structs = pa.array(
        [{"months": 1, "days": 2, "microseconds": -3}, None, {"months": None, "days": 0, "microseconds": MOST}],
        INTERVAL_TYPE,
    )
    found = intervals_of(structs.slice(1), validity_bitmap(structs.slice(1)))
    assert found.equals(pa.array([None, pa.MonthDayNano([0, 0, MOST * 1_000])], INTERVAL))


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("microseconds", [MOST + 1, -MOST - 1, 2**62, -(2**63)])
def test_more_than_64_bits_of_nanoseconds_is_an_error_and_no_other_interval(microseconds: int) -> None:
    none = np.zeros(1, np.int32)
    with pytest.raises(pa.ArrowInvalid, match="out of range"):
        intervals(none, none, np.array([microseconds]), None)
    rows = pa.array([{"months": 0, "days": 0, "microseconds": microseconds}], INTERVAL_TYPE)
    with pytest.raises(pa.ArrowInvalid, match="out of range"):
        from_parquet(pa.table({"v": rows}))
