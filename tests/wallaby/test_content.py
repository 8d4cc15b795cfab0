"""Content hashes: equal exactly for equal content."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pyarrow as pa
import pytest

from wallaby.content import ContentHash, canonical_hash, row_texts, value_texts
from wallaby.window import OUTLIER_TYPE

BERLIN = "Europe/Berlin"
MOMENT = datetime.datetime(2024, 2, 29, 12, 0, 0, 100000)
TEXTS: list[tuple[pa.Array, list[str | None]]] = [
    (pa.array([True, False, None]), ["t", "f", None]),
    (pa.array([1, -2, None], pa.int16()), ["1", "-2", None]),
    (pa.array([1.0, -0.0, 0.1, float("nan"), float("-inf")]), ["1", "-0", "0.1", "NaN", "-Infinity"]),
    (
        pa.array([decimal.Decimal("1.50"), decimal.Decimal("0.00000001")], pa.decimal128(20, 8)),
        ["1.50000000", "0.00000001"],
    ),
    (pa.array([b"\x00\xff", b"", None]), ["\\x00ff", "\\x", None]),
    (pa.array([bytes(range(16))], pa.binary(16)), ["00010203-0405-0607-0809-0a0b0c0d0e0f"]),
    (pa.array([MOMENT], pa.timestamp("us")), ["2024-02-29 12:00:00.1"]),
    (pa.array([MOMENT], pa.timestamp("us", "UTC")), ["2024-02-29 12:00:00.1+00"]),
    (pa.array([MOMENT], pa.timestamp("ms", BERLIN)), ["2024-02-29 12:00:00.1+00"]),
    (pa.array([datetime.time(10, 20, 30), datetime.time(0)]), ["10:20:30", "00:00:00"]),
    (pa.array([datetime.date(1, 1, 1)]), ["0001-01-01"]),
    (pa.array([["a,b", None, "", "null", 'q"\\', "x"], [], None]), ['{"a,b",NULL,"","null","q\\"\\\\",x}', "{}", None]),
    (pa.array([[[1], [2, None]]]), ["{{1},{2,NULL}}"]),
    (pa.array([[("k", "v"), ("n", None)]], pa.map_(pa.string(), pa.string())), ['"k"=>"v", "n"=>NULL']),
    (
        pa.array([[[("k", 'v"')], None, []]], pa.list_(pa.map_(pa.string(), pa.string()))),
        [r'{"\"k\"=>\"v\\\"\"",NULL,""}'],
    ),
    (pa.array([pa.MonthDayNano([1, -2, 3]), None]), ["1 mon -2 days 3 ns", None]),
]


@pytest.mark.parametrize(("array", "texts"), TEXTS, ids=lambda value: str(getattr(value, "type", "")))
def test_values_are_printed_as_postgresql_prints_them(array: pa.Array, texts: list[str | None]) -> None:
    assert value_texts(array).to_pylist() == texts
    assert value_texts(array[1:]).to_pylist() == texts[1:]


def shop(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table(
        {"id": pa.array([r[0] for r in rows], pa.int64()), "v": pa.array([r[1] for r in rows], pa.string())}
    )


@pytest.mark.must_not_fail(25)
def test_the_order_of_rows_columns_and_chunks_does_not_matter() -> None:
    whole = shop([(1, "a"), (2, None), (2, None)])
    wanted = canonical_hash(whole)
    assert canonical_hash(whole.take([2, 0, 1])) == wanted
    assert canonical_hash(whole.select(["v", "id"])) == wanted
    assert canonical_hash(pa.concat_tables([whole.slice(1), whole.slice(0, 1)])) == wanted
    content = ContentHash()
    content.add(whole.slice(2))
    content.add(whole.slice(0, 2))
    assert content.hexdigest() == wanted


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(
    "other",
    [
        [(1, "a"), (2, None)],
        [(1, "a"), (2, None), (2, "")],
        [(1, "a"), (1, "a"), (2, None)],
        [(1, "a"), (2, None), (2, None), (2, None)],
        [(1, None), (2, "a"), (2, None)],
    ],
)
def test_different_content_has_a_different_hash(other: list[tuple[Any, ...]]) -> None:
    assert canonical_hash(shop(other)) != canonical_hash(shop([(1, "a"), (2, None), (2, None)]))


def test_separators_inside_values_do_not_make_rows_alike() -> None:
    left = pa.table({"a": ["x\x1fy"], "b": ["z"]})
    right = pa.table({"a": ["x"], "b": ["y\x1fz"]})
    third = pa.table({"a": ["x\x1e_y"], "b": ["z"]})
    assert len({canonical_hash(left), canonical_hash(right), canonical_hash(third)}) == 3


def test_names_of_columns_count() -> None:
    assert canonical_hash(pa.table({"a": [1]})) != canonical_hash(pa.table({"b": [1]}))
    content = ContentHash()
    content.add(pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="columns"):
        content.add(pa.table({"b": [1]}))


@pytest.mark.must_not_fail(12)
def test_an_outlier_stands_in_its_cell() -> None:
    outliers = pa.array([None, [{"column": 1, "text": "infinity"}]], OUTLIER_TYPE)
    carried = pa.table({"id": [1, 2], "day": pa.array([None, None], pa.date32()), "__outliers": outliers})
    as_text = pa.table({"id": [1, 2], "day": [None, "infinity"]})
    assert canonical_hash(carried) == canonical_hash(as_text)
    assert canonical_hash(carried.drop_columns(["__outliers"])) != canonical_hash(as_text)


def test_an_empty_table_has_a_hash_of_its_own() -> None:
    empty = shop([])
    assert canonical_hash(empty) == canonical_hash(shop([]))
    assert canonical_hash(empty) != canonical_hash(shop([(None, None)]))
    assert len(row_texts(empty)) == 0
