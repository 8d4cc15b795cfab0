"""Keys found again by their hashes: every one, at its place, and none that is not there."""

from __future__ import annotations

import datetime
import decimal
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sinks.row_index import ENTRY_BYTES, ArrayMemory, Asked, are_equal, are_true, index_of


def found(held: list[pa.Array], asked: list[pa.Array]) -> set[tuple[int, int]]:
    """Pairs of a place in ``held`` and the asked key that is there."""
    positions, keys = Asked.of(asked).among(*index_of(held, np.ones(len(held[0]), np.bool_)))
    return set(zip(positions.tolist(), keys.tolist(), strict=True))


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        ([5, 3, None, 5, -(2**63)], [5, 4, -(2**63)], {(0, 0), (3, 0), (4, 2)}),
        (["a", "", None, "ü", "a\x00"], ["", "a", "ab"], {(0, 1), (1, 0)}),
        ([datetime.date(2000, 1, 1), None], [datetime.date(2000, 1, 1)], {(0, 0)}),
        ([True, False, None], [False], {(1, 0)}),
        ([decimal.Decimal("1.10"), decimal.Decimal("1.20")], [decimal.Decimal("1.20")], {(1, 0)}),
        ([], [1], set()),
    ],
)
def test_keys_are_found_where_they_are(held: list[Any], asked: list[Any], expected: set[tuple[int, int]]) -> None:
    kind = pa.array(asked).type
    assert found([pa.array(held, kind)], [pa.array(asked, kind)]) == expected


def test_keys_of_several_columns_are_found_as_a_whole() -> None:
    held = [pa.array([1, 1, 2, None]), pa.array(["a", "b", "a", "a"])]
    assert found(held, [pa.array([1, 2]), pa.array(["b", "b"])]) == {(1, 0)}


def test_many_keys_are_found_each_once() -> None:
    choice = np.random.default_rng(7)
    held = choice.permutation(20_000)
    asked = choice.choice(40_000, 3_000, replace=False)
    positions, keys = Asked.of([pa.array(asked)]).among(*index_of([pa.array(held)], np.ones(len(held), np.bool_)))
    assert (held[positions] == asked[keys]).all()
    assert sorted(asked[keys].tolist()) == sorted(set(asked.tolist()) & set(held.tolist()))


def test_rows_that_do_not_count_are_not_found() -> None:
    is_open = are_true(pa.chunked_array([pa.array([True, False, None])]))
    hashes, places = index_of([pa.array([1, 1, 1])], is_open)
    assert Asked.of([pa.array([1])]).among(hashes, places)[0].tolist() == [0]


def test_one_number_is_exact_and_texts_are_compared() -> None:
    assert Asked.of([pa.array([1])]).is_exact
    assert not Asked.of([pa.array(["a"])]).is_exact
    assert not Asked.of([pa.array([1]), pa.array([1])]).is_exact
    assert are_equal([pa.array(["a", "b"])], [pa.array(["a", "a"])]).tolist() == [True, False]


def test_bounds_leave_out_what_holds_no_asked_number() -> None:
    asked = Asked.of([pa.array([10, -5, 30])])
    assert [asked.may_be_between(*ends) for ends in ((10, 10), (-4, 9), (11, 29), (-9, -5), (30, 99), (31, 99))] == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_memory_holds_what_was_used_last_and_no_more_than_it_may() -> None:
    memory = ArrayMemory(2 * ENTRY_BYTES + 100)
    made: list[str] = []

    def of(name: str, count: int) -> int:
        def make() -> tuple[np.ndarray[Any, Any], ...]:
            made.append(name)
            return (np.zeros(count, np.uint8),)

        return len(memory.get((name,), make)[0])

    assert [of("a", 40), of("b", 40), of("a", 40), of("c", 40)] == [40, 40, 40, 40]
    assert made == ["a", "b", "c"]
    assert [of("a", 40), of("b", 40)] == [40, 40]
    assert made == ["a", "b", "c", "b"]
    huge = ENTRY_BYTES + 101
    assert [of("huge", huge), of("huge", huge)] == [huge, huge]
    assert made[-2:] == ["huge", "huge"]


def test_memory_takes_what_was_just_made() -> None:
    memory = ArrayMemory(ENTRY_BYTES + 100)
    memory.put(("a",), (np.arange(3),))
    assert memory.get(("a",), lambda: (np.zeros(0),))[0].tolist() == [0, 1, 2]


def test_many_small_arrays_take_no_more_memory_than_few_large_ones() -> None:
    """Every commit adds a file, and most files of commits have few rows."""
    limit = 1 << 20
    memory = ArrayMemory(limit)
    tracemalloc.start()
    try:
        for number in range(20_000):
            name = (f"lake/public/orders/{number}", f"part-{number}", "keys", "id", "int64")
            memory.put(name, (np.zeros(1, np.uint64), np.zeros(1, np.uint32)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * limit
