"""Where the value of an unsent cell is, which rows to ask for, and what filling leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.wallaby.transform.filling import UNSENT, Row, cells, normal
from wallaby.errors import Refused
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.testing.changes import Change, Outlier, change_table, delete, insert, table, update
from wallaby.transform.columns import lists_of, value_bytes
from wallaby.transform.unchanged import (
    Filled,
    Gaps,
    Known,
    ask_for_gaps,
    ask_for_updates,
    count_gaps,
    fill,
)
from wallaby.window import OP_INSERT

DOCS = table("public.docs", {"id": "int8", "title": "text", "body": "text", "tags": "text[]"}, key=["id"])
ROOM = 1 << 30
NONE = np.empty(0, np.int64)


def gaps_of(*changes: Change, schema: TableSchema = DOCS) -> Gaps:
    return Gaps.of(schema, change_table(schema, changes))


def touch(number: int, *, old: int | None = None, unchanged: Sequence[str] = ("body",), title: str = "t") -> Change:
    return update(number, title, None, None, old=None if old is None else [old], unchanged=unchanged)


def known(schema: TableSchema, rows: Sequence[Row]) -> Known:
    """Whole rows from elsewhere."""
    data = change_table(schema, [insert(*row) for row in rows])
    after = data["after"].combine_chunks()
    texts = {
        i: pa.array([row[i].text if isinstance(row[i], Outlier) else None for row in rows], pa.string())
        for i in range(len(schema.columns))
        if any(isinstance(row[i], Outlier) for row in rows)
    }
    return Known(len(rows), {i: after.field(i) for i in range(len(schema.columns))}, texts)


def bodies(filled: Filled, schema: TableSchema = DOCS) -> list[Any]:
    return [None if row is None else row[2] for row in cells(schema, filled.batch)]


def test_gaps_are_counted_without_looking_at_rows() -> None:
    batches = change_table(
        DOCS, [insert(1, "a", "b", None), touch(1), touch(1, unchanged=["body", "tags"])]
    ).to_batches()
    assert count_gaps(batches) == 3
    assert count_gaps(change_table(DOCS, [insert(1, "a", "b", None)]).to_batches()) == 0
    assert count_gaps([]) == 0


@pytest.mark.must_not_fail(7, 8)
def test_a_value_is_found_in_an_earlier_version_through_changes_of_the_key() -> None:
    gaps = gaps_of(insert(1, "a", "first", None), touch(2, old=1), touch(3, old=2), touch(3))
    filled = fill(gaps, bytes_max=ROOM)
    assert bodies(filled) == ["first"] * 4
    assert (filled.filled, filled.unfilled) == (3, 0)


@pytest.mark.must_not_fail(8)
def test_swapped_keys_keep_their_own_values() -> None:
    gaps = gaps_of(
        insert(1, "a", "one", None),
        insert(2, "b", "two", None),
        touch(9, old=1),
        touch(1, old=2),
        touch(2, old=9),
        touch(1),
        touch(2),
    )
    assert bodies(fill(gaps, bytes_max=ROOM)) == ["one", "two", "one", "two", "one", "two", "one"]


@pytest.mark.must_not_fail(7)
def test_a_key_used_again_does_not_inherit_the_former_rows_value() -> None:
    gaps = gaps_of(
        insert(1, "a", "old", None), delete(1), Change(OP_INSERT, (1, "b", None, None), unchanged=("body",)), touch(1)
    )
    assert bodies(fill(gaps, bytes_max=ROOM)) == ["old", None, UNSENT, UNSENT]


@pytest.mark.must_not_fail(7)
def test_what_nobody_knows_stays_marked() -> None:
    gaps = gaps_of(touch(1, unchanged=["body", "tags"]))
    filled = fill(gaps, bytes_max=ROOM)
    assert cells(DOCS, filled.batch) == [(1, "t", UNSENT, UNSENT)]
    assert (filled.filled, filled.unfilled, filled.nbytes) == (0, 2, 0)


def test_everything_else_of_the_changes_stays_as_it_was() -> None:
    """Places, old rows, other outliers (of old rows too), deletes; several batches become one."""
    wide = table(
        "public.w",
        {"id": "int8", "n": "numeric(5,2)", "body": "text", "tags": "text[]"},
        key=["id"],
        identity=ReplicaIdentity.INDEX,
    )
    changes = [
        insert(1, Outlier("NaN"), "long", Outlier("{{a}}")),
        update(1, Outlier("Infinity"), None, None, unchanged=["body", "tags"]),
        update(2, None, None, None, old=[1], unchanged=["body", "tags"]),
        delete(2),
    ]
    data = change_table(wide, changes)
    several = pa.concat_tables([data.slice(0, 1), data.slice(1)])
    filled = fill(Gaps.of(wide, several), bytes_max=ROOM)
    filled.batch.validate(full=True)
    assert filled.batch.schema == data.schema
    for name in ("op", "commit_lsn", "ordinal", "xid", "committed_at", "before"):
        assert filled.batch.column(name).to_pylist() == data[name].to_pylist()
    assert filled.batch.column("unchanged").null_count == 4
    assert cells(wide, filled.batch) == [
        (1, Outlier("NaN"), "long", Outlier("{{a}}")),
        (1, Outlier("Infinity"), "long", Outlier("{{a}}")),
        (2, None, "long", Outlier("{{a}}")),
        None,
    ]


def test_a_key_column_that_was_not_sent_is_taken_from_the_old_row() -> None:
    words = table("public.words", {"word": "text", "n": "int4"}, key=["word"])
    gaps = Gaps.of(words, change_table(words, [update(None, 2, old=["long word"], unchanged=["word"])]))
    assert (len(gaps), gaps.key_gaps) == (0, 1)
    filled = fill(gaps, bytes_max=ROOM)
    assert cells(words, filled.batch) == [("long word", 2)]
    assert (filled.filled, filled.unfilled) == (1, 0)


def test_a_key_outside_its_type_is_refused() -> None:
    dates = table("public.d", {"day": "date", "body": "text"}, key=["day"])
    with pytest.raises(Refused):
        Gaps.of(dates, change_table(dates, [insert(Outlier("infinity"), "x")]))


# -- asking the source ------------------------------------------------------------------------------------------------


def asked_keys(gaps: Gaps, change: np.ndarray) -> list[Any]:
    return gaps.keys(change)[0].to_pylist()


@pytest.mark.must_not_fail(7, 8)
def test_one_row_is_asked_for_once_by_the_key_it_has_at_the_end() -> None:
    """Versions in between stood at keys that other rows may have by now: they take the value of the last one."""
    gaps = gaps_of(touch(1), touch(5, old=1), touch(2), touch(5, unchanged=["body", "tags"]), touch(2))
    question = ask_for_gaps(gaps)
    assert asked_keys(gaps, question.change) == [5, 2]
    assert question.columns == (2,)
    assert question.of_gap.tolist() == [0, 0, 1, 0, -1, 1], "the tags were sent with the version before"
    assert (question.of_row == -1).all()
    filled = fill(gaps, known(DOCS, [(5, "x", "five", ["t"]), (2, "x", "two", None)]), question.of_gap, bytes_max=ROOM)
    assert bodies(filled) == ["five", "five", "two", "five", "two"]
    assert [row and row[1] for row in cells(DOCS, filled.batch)] == ["t"] * 5, "what was sent is not replaced"


def test_rows_that_end_in_the_batch_are_not_asked_for() -> None:
    gaps = gaps_of(touch(1), delete(1), touch(2), touch(3, old=2), delete(3), insert(1, "new", "b", None))
    question = ask_for_gaps(gaps)
    assert len(question.change) == 0
    assert question.of_gap.tolist() == [-1, -1, -1]


def test_values_the_batch_has_are_not_asked_for() -> None:
    gaps = gaps_of(touch(1), update(1, "t", "sent", None), touch(1))
    question = ask_for_gaps(gaps)
    assert question.of_gap.tolist() == [0, -1]
    filled = fill(gaps, known(DOCS, [(1, "x", "before", None)]), question.of_gap, bytes_max=ROOM)
    assert bodies(filled) == ["before", "sent", "sent"]


@pytest.mark.must_not_fail(12)
def test_outliers_come_along_from_outside() -> None:
    gaps = gaps_of(touch(1, unchanged=["tags"]), touch(2, unchanged=["tags"]))
    rows = [(1, "x", "y", Outlier("{{a}}")), (2, "x", "y", ["b"])]
    filled = fill(gaps, known(DOCS, rows), np.array([0, 1]), bytes_max=ROOM)
    assert cells(DOCS, filled.batch) == normal(DOCS, [(1, "t", None, Outlier("{{a}}")), (2, "t", None, ["b"])])


def test_whole_rows_take_the_place_of_updates_that_stand_where_they_stood() -> None:
    gaps = gaps_of(
        insert(1, "i", "inserted", None),
        update(1, "u", "updated", Outlier("{{old}}")),
        touch(2),
        touch(3, old=2),
        touch(4),
        delete(5),
    )
    question = ask_for_updates(gaps)
    assert asked_keys(gaps, question.change) == [1, 3, 4]
    assert question.columns == (1, 2, 3)
    assert question.of_row.tolist() == [-1, 0, -1, 1, 2, -1]
    here = known(DOCS, [(1, "now", "now", None), (3, "now", "three", Outlier("{{b}}"))])
    entry_of = np.array([0, 1, -1])
    replaced = np.append(entry_of, -1)[question.of_row]
    filled = fill(gaps, here, np.append(entry_of, -1)[question.of_gap], replaced, bytes_max=ROOM)
    filled.batch.validate(full=True)
    assert cells(DOCS, filled.batch) == [
        (1, "i", "inserted", None),
        (1, "now", "now", None),
        (2, "t", "three", None),
        (3, "now", "three", Outlier("{{b}}")),
        (4, "t", UNSENT, None),
        None,
    ]
    assert (filled.filled, filled.unfilled) == (2, 1)


@pytest.mark.must_not_fail(14)
def test_what_filling_adds_ends_with_the_value_that_reaches_the_limit() -> None:
    gaps = gaps_of(*(touch(i) for i in range(4)))
    rows = [(i, "x", "v" * 10, None) for i in range(4)]
    for bytes_max, expected in ((0, 0), (1, 1), (10, 1), (11, 2), (40, 4)):
        filled = fill(gaps, known(DOCS, rows), np.arange(4), bytes_max=bytes_max)
        assert (filled.filled, filled.unfilled, filled.nbytes) == (expected, 4 - expected, 10 * expected)
    replaced = fill(gaps, known(DOCS, rows), np.full(4, -1), np.arange(4), bytes_max=12)
    assert (replaced.filled, replaced.unfilled) == (2, 2)


# -- sizes and lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        (pa.array(["", "ab", None, "表"]), [0, 2, 0, 3]),
        (pa.array([b"abc", None], pa.binary()), [3, 0]),
        (pa.array([["a", None], [], None, ["bcd"]]), [1, 0, 0, 3]),
        (pa.array([["a", None], [], None, ["bcd"]]).slice(1), [0, 0, 3]),
        (pa.array([[1, 2], [3]], pa.list_(pa.int64())), [16, 8]),
        (pa.array([1, 2], pa.int32()), [4, 4]),
        (pa.array([True]), [1]),
        (pa.array([None], pa.decimal256(70, 2)), [32]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_the_size_of_a_value_is_that_of_its_bytes(values: pa.Array, sizes: list[int]) -> None:
    assert value_bytes(values).tolist() == sizes


def test_lists_are_null_where_a_row_has_none() -> None:
    made = lists_of(np.array([0, 0, 2]), pa.array([1, 2, 3], pa.int8()), 4, pa.list_(pa.int8()))
    assert made.to_pylist() == [[1, 2], None, [3], None]
    assert lists_of(NONE, pa.array([], pa.int8()), 2, pa.list_(pa.int8())).to_pylist() == [None, None]


def test_every_type_of_the_layout_has_a_size() -> None:
    kinds = [
        "bool",
        "int2",
        "float8",
        "numeric(10,2)",
        "numeric",
        "uuid",
        "date",
        "time",
        "timestamptz",
        "jsonb",
        "int4[]",
        "bytea",
    ]
    wide = table("public.w", {f"c{i}": kind for i, kind in enumerate(kinds)})
    for field in arrow_schema(wide):
        assert len(value_bytes(pa.nulls(3, field.type))) == 3
