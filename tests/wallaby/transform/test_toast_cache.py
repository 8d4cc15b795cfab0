"""What the cache fills in is what the row had, checked against the changes played back one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallaby.transform.filling import UNSENT, Playback, Row, cells, normal, whole_rows
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.testing.changes import Change, Outlier, bulk, change_table, copied, delete, insert, table, update
from wallaby.testing.history import RandomHistory
from wallaby.transform.key_hash import key_hashes
from wallaby.transform.toast_cache import ToastCache, toastable
from wallaby.transform.unchanged import Filled, Gaps
from wallaby.window import OP_INSERT, OP_UPDATE, Window

DOCS = table("public.docs", {"id": "int8", "title": "text", "body": "text", "tags": "text[]"}, key=["id"])
PAIR = table(
    "public.pair",
    {"body": "jsonb", "b": "text", "raw": "bytea", "a": "int4", "n": "numeric", "size": "int4"},
    key=["b", "a"],
    identity=ReplicaIdentity.INDEX,
)
PLENTY = 64 << 20
LONG = "x" * 40


def take(
    cache: ToastCache, schema: TableSchema, changes: Sequence[Change], *, bytes_max: int = PLENTY
) -> list[Row | None]:
    """The new rows after the cache has seen them."""
    data = change_table(schema, changes)
    filled = cache.take(Gaps.of(schema, data), bytes_max=bytes_max)
    if filled is None:
        return cells(schema, data)
    filled.batch.validate(full=True)
    assert filled.batch.schema == data.schema
    return cells(schema, filled.batch)


# -- against the playback ---------------------------------------------------------------------------------------------


def filled_windows(history: RandomHistory, windows: Sequence[Window], cache: ToastCache) -> Iterator[tuple[Any, ...]]:
    """(what it must be, what it is, what filling said) of every table part with a key."""
    playback = Playback()
    told = {schema.name: _changes_of(history, schema) for schema in history.tables}
    for window in windows:
        if window.barrier is not None:
            for name in window.barrier.tables:
                cache.forget(name)
                playback.truncate(name)
            continue
        for part in window.parts:
            changes = [next(told[part.schema.name]) for _ in range(part.rows)]
            if not part.schema.has_key:
                continue
            expected = normal(part.schema, whole_rows(part.schema, changes, playback))
            filled = cache.take(Gaps.of(part.schema, part.table()), bytes_max=PLENTY)
            yield expected, cells(part.schema, filled.batch if filled else part.table()), filled


def _changes_of(history: RandomHistory, schema: TableSchema) -> Iterator[Change]:
    for copied_schema, rows in history.stream.copies:
        if copied_schema.name == schema.name:
            yield from rows
    for transaction in history.stream.transactions:
        for step in transaction.steps:
            if isinstance(step, tuple) and step[0].name == schema.name:
                yield step[1]


@pytest.mark.must_not_fail(7, 8)
@pytest.mark.parametrize("seed", range(40))
def test_with_room_for_everything_no_gap_is_left_and_every_cell_is_right(seed: int) -> None:
    """Keys move, are swapped, deleted and used again, within windows cut anywhere and across them."""
    history = RandomHistory(seed, transactions=40, keys=6)
    cache = ToastCache(bytes_max=PLENTY, value_bytes_min=0)
    gaps = 0
    for expected, found, filled in filled_windows(history, history.windows(seed), cache):
        assert found == expected
        gaps += filled.filled if filled else 0
        assert filled is None or filled.unfilled == 0
    assert gaps > 0


@pytest.mark.must_not_fail(7)
@pytest.mark.parametrize("seed", range(20))
def test_with_little_room_a_cell_is_right_or_still_marked(seed: int) -> None:
    history = RandomHistory(seed, transactions=60, keys=8)
    cache = ToastCache(bytes_max=40_000, value_bytes_min=0)
    for expected, found, _ in filled_windows(history, history.windows(seed), cache):
        assert cache.nbytes <= 40_000
        for row, whole in zip(found, expected, strict=True):
            if row is None or whole is None:
                assert row is whole
            else:
                assert all(cell is UNSENT or cell == other for cell, other in zip(row, whole, strict=True))


class _Model:
    """Turns drawn numbers into legal changes of one table."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.rows: dict[Row, Row] = {}
        self.serial = 0

    def key(self, number: int) -> Row:
        return tuple(f"k{number}" if self.schema.columns[i].type.name == "text" else number for i in self.schema.key)

    def row(self, key: Row, kind: int) -> Row:
        self.serial += 1
        made: list[Any] = []
        for i, column in enumerate(self.schema.columns):
            if column.is_key:
                made.append(key[self.schema.key.index(i)])
                continue
            made.append(self.cell(column.type.name, (kind + i) % 5))
        return tuple(made)

    def cell(self, word: str, kind: int) -> Any:
        if kind == 0:
            return None
        text = f"{LONG}{self.serial}" if kind < 4 else "short"
        match word:
            case "int4":
                return self.serial
            case "bytea":
                return text.encode()
            case "jsonb":
                return f'{{"n": "{text}"}}'
            case "_text":
                return Outlier(f"{{{{{text}}}}}") if kind == 1 else [text, None]
            case _:
                return text

    def step(self, kind: int, number: int, other: int, mask: int) -> Change:
        key, target = self.key(number), self.key(other)
        if key not in self.rows:
            self.rows[key] = self.row(key, kind)
            return (copied if kind == 9 else insert)(*self.rows[key])
        if kind in (0, 1):
            del self.rows[key]
            return delete(*key)
        moves = kind in (2, 3, 4) and target not in self.rows
        old = self.rows.pop(key)
        new = list(self.row(target if moves else key, kind))
        unchanged = []
        for i, column in enumerate(self.schema.columns):
            if not column.is_key and mask >> i & 1 and _may_be_unsent(old[i]):
                new[i] = old[i]
                unchanged.append(column.name)
        self.rows[target if moves else key] = tuple(new)
        sent = [None if c.name in unchanged else cell for c, cell in zip(self.schema.columns, new, strict=True)]
        return update(*sent, old=key if moves else None, unchanged=unchanged)


def _may_be_unsent(cell: Any) -> bool:
    """As PostgreSQL: a value that is there and long, of a type without fixed length."""
    return isinstance(cell, Outlier | list) or (isinstance(cell, str | bytes) and len(cell) > 30)


STEPS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 4), st.integers(0, 63), st.booleans()), max_size=60
)


@pytest.mark.must_not_fail(7, 8)
@pytest.mark.parametrize("schema", [DOCS, PAIR], ids=["single", "composite"])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(STEPS)
def test_any_program_of_changes_is_filled_as_played_back(
    schema: TableSchema, steps: list[tuple[int, int, int, int, bool]]
) -> None:
    model, playback, cache = _Model(schema), Playback(), ToastCache(bytes_max=PLENTY)
    window: list[Change] = []
    for kind, number, other, mask, cut in [*steps, (5, 0, 0, 0, True)]:
        window.append(model.step(kind, number, other, mask))
        if cut:
            assert take(cache, schema, window) == normal(schema, whole_rows(schema, window, playback))
            window = []


# -- what is remembered, and what not ---------------------------------------------------------------------------------


def test_columns_without_a_fixed_length_are_remembered_and_no_others() -> None:
    mixed = table(
        "public.m",
        {
            "id": "text",
            "n": "int4",
            "t": "text",
            "b": "bytea",
            "j": "jsonb",
            "a": "int4[]",
            "d": "numeric(10,2)",
            "u": "uuid",
        },
        key=["id"],
    )
    assert [mixed.columns[i].name for i in toastable(mixed)] == ["t", "b", "j", "a", "d"]


@pytest.mark.must_not_fail(7)
def test_a_value_never_seen_stays_marked_and_a_later_one_is_not_taken_for_it() -> None:
    """Remembering a row with a hole must not make it pass for whole."""
    cache = ToastCache(bytes_max=PLENTY)
    assert take(cache, DOCS, [update(1, LONG, None, None, unchanged=["body", "tags"])]) == [(1, LONG, UNSENT, UNSENT)]
    assert take(cache, DOCS, [update(1, "b", None, [LONG], unchanged=["body"])]) == [(1, "b", UNSENT, [LONG])]
    assert take(cache, DOCS, [update(1, "c", None, None, unchanged=["body", "tags"])]) == [(1, "c", UNSENT, [LONG])]


@pytest.mark.must_not_fail(7)
def test_a_deleted_row_is_forgotten_also_when_its_key_comes_back_with_a_gap() -> None:
    """A row that enters a row filter comes as an insert and may have gaps: the key's former row is not it."""
    cache = ToastCache(bytes_max=PLENTY)
    take(cache, DOCS, [insert(1, "a", LONG, None), insert(2, "a", LONG + "2", None)])
    back = Change(OP_INSERT, (1, "b", None, None), unchanged=("body",))
    assert take(cache, DOCS, [delete(1), back]) == [None, (1, "b", UNSENT, None)]
    assert take(cache, DOCS, [update(1, "c", None, None, unchanged=["body"])]) == [(1, "c", UNSENT, None)]
    take(cache, DOCS, [delete(2)])
    assert take(cache, DOCS, [update(2, "c", None, None, unchanged=["body"])]) == [(2, "c", UNSENT, None)]


def test_a_deleted_row_stays_forgotten_when_newer_runs_are_merged_over_it() -> None:
    cache = ToastCache(bytes_max=PLENTY)
    fill(cache, numbered(0, 1000, "a", size=10_000))
    take(cache, DOCS, [delete(1)])
    for i in range(20):
        take(cache, DOCS, [insert(5000 + i, "a", LONG, None)])
    [held] = cache._tables.values()
    assert len(held.runs) < 10
    assert take(cache, DOCS, [update(1, "b", None, None, unchanged=["body"])]) == [(1, "b", UNSENT, None)]


def test_tables_do_not_share_keys() -> None:
    other = table("public.other", {"id": "int8", "title": "text", "body": "text", "tags": "text[]"}, key=["id"])
    cache = ToastCache(bytes_max=PLENTY)
    take(cache, DOCS, [insert(1, "a", LONG, None)])
    assert take(cache, other, [update(1, "b", None, None, unchanged=["body"])]) == [(1, "b", UNSENT, None)]


def test_a_forgotten_table_and_one_of_another_shape_start_empty() -> None:
    cache = ToastCache(bytes_max=PLENTY)
    take(cache, DOCS, [insert(1, "a", LONG, None)])
    cache.forget(DOCS.name)
    cache.forget(DOCS.name)
    assert take(cache, DOCS, [update(1, "b", None, None, unchanged=["body"])]) == [(1, "b", UNSENT, None)]
    take(cache, DOCS, [insert(2, "a", LONG, None)])
    wider = table(
        "public.docs",
        {"id": "int8", "title": "text", "body": "text", "tags": "text[]", "n": "int4"},
        key=["id"],
        version=2,
    )
    assert take(cache, wider, [update(2, "b", None, None, 1, unchanged=["body"])]) == [(2, "b", UNSENT, None, 1)]


def test_rows_of_short_values_take_no_memory() -> None:
    cache = ToastCache(bytes_max=PLENTY)
    take(cache, DOCS, [insert(i, "a", "short", None) for i in range(100)])
    assert cache.nbytes == 0


def test_a_value_that_became_short_is_no_longer_known_as_the_long_one() -> None:
    cache = ToastCache(bytes_max=PLENTY)
    take(cache, DOCS, [insert(1, "a", LONG, None)])
    take(cache, DOCS, [update(1, "a", "short", None)])
    assert take(cache, DOCS, [update(1, "b", None, None, unchanged=["body"])]) == [(1, "b", UNSENT, None)]


# -- bounds -----------------------------------------------------------------------------------------------------------


def numbered(first: int, count: int, letter: str, size: int = 1000) -> pa.Table:
    ids = pa.array(range(first, first + count), pa.int64())
    bodies = pa.array([f"{letter}{i:08d}".ljust(size, "x") for i in range(first, first + count)])
    return bulk(DOCS, [ids, pa.nulls(count, pa.string()), bodies, pa.nulls(count, pa.list_(pa.string()))])


def touched(ids: Sequence[int]) -> pa.Table:
    columns = [pa.array(ids, pa.int64()), pa.array(["t"] * len(ids))]
    nothing = [pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.list_(pa.string()))]
    return bulk(DOCS, [*columns, *nothing], op=OP_UPDATE, unchanged=[2])


def fill(cache: ToastCache, data: pa.Table, *, bytes_max: int = PLENTY) -> Filled | None:
    return cache.take(Gaps.of(DOCS, data), bytes_max=bytes_max)


@pytest.mark.must_not_fail(14)
def test_memory_stays_within_the_limit_and_the_oldest_values_go_first() -> None:
    limit = 1 << 20
    cache = ToastCache(bytes_max=limit)
    for i in range(60):
        fill(cache, numbered(100 * i, 100, "a"))
        assert cache.nbytes <= limit
    assert cache.nbytes > limit // 2
    newest = fill(cache, touched(range(5900, 6000)))
    assert newest is not None
    assert newest.unfilled == 0
    oldest = fill(cache, touched(range(100)))
    assert oldest is not None
    assert oldest.filled == 0


def test_a_value_in_use_is_not_forgotten_for_its_age() -> None:
    """Its row is updated again and again without it, while other rows push through the memory three times over."""
    schema = table("public.lone", {"id": "int8", "n": "int4", "body": "text"}, key=["id"])
    cache = ToastCache(bytes_max=1 << 20)
    take(cache, schema, [insert(0, 0, LONG)])
    for i in range(1, 40):
        fill(cache, numbered(100 * i, 100, "b"))
        assert take(cache, schema, [update(0, i, None, unchanged=["body"])]) == [(0, i, LONG)], (
            f"forgotten in round {i}"
        )


def test_overwritten_values_do_not_pile_up() -> None:
    cache = ToastCache(bytes_max=PLENTY)
    for i in range(200):
        data = numbered(0, 50, chr(ord("a") + i % 26))
        fill(cache, data.set_column(0, data.schema.field(0), pa.array([OP_UPDATE] * 50, pa.uint8())))
    assert cache.nbytes < 4 * 50 * 1100
    assert sum(len(held.runs) for held in cache._tables.values()) < 8


def test_what_filling_adds_is_bounded_and_what_is_left_stays_marked() -> None:
    """A large value in every version of a hot row would multiply; the rest of the versions say: as before."""
    cache = ToastCache(bytes_max=PLENTY)
    fill(cache, numbered(0, 1, "a", size=10_000))
    filled = fill(cache, touched([0] * 100), bytes_max=50_000)
    assert filled is not None
    assert (filled.filled, filled.unfilled, filled.nbytes) == (5, 95, 50_000)
    rows = cells(DOCS, filled.batch)
    assert [row is not None and row[2] is UNSENT for row in rows] == [False] * 5 + [True] * 95
    again = fill(cache, touched([0]))
    assert again is not None
    assert again.unfilled == 0, "the value itself is still known"


@pytest.mark.must_not_fail(7)
def test_keys_of_equal_hash_are_told_apart() -> None:
    """A word of Thue and Morse and its complement are the same polynomial modulo a power of two, for any odd radix."""
    word = "a"
    while len(word) < 4096:
        word += word.translate(str.maketrans("ab", "ba"))
    twins = [word, word.translate(str.maketrans("ab", "ba"))]
    hashes = key_hashes([pa.array(twins)], 2)
    assert hashes[0] == hashes[1]
    schema = table("public.words", {"word": "text", "n": "int4", "body": "text"}, key=["word"])
    cache = ToastCache(bytes_max=PLENTY)
    take(cache, schema, [insert(twins[0], 1, LONG + "0"), insert(twins[1], 1, LONG + "1")])
    asked = [update(twin, 2, None, unchanged=["body"]) for twin in reversed(twins)]
    assert [row and row[2] for row in take(cache, schema, asked)] == [LONG + "1", LONG + "0"]
    take(cache, schema, [delete(twins[1])])
    assert [row and row[2] for row in take(cache, schema, asked[1:])] == [LONG + "0"]
    assert [row and row[2] for row in take(cache, schema, asked[:1])] == [UNSENT]
