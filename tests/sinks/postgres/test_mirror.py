"""Changes become rows: every kind of identity, cut anywhere, replayed, in one or many statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.sinks.postgres.conftest import Driver, content, read_rows
from wallaby.errors import Refused
from wallaby.schema import ReplicaIdentity, TableName
from wallaby.testing.changes import NewShape, Outlier, Stream, Truncate, delete, insert, table, update
from wallaby.testing.history import RandomHistory
from wallaby.testing.postgres import ScratchDatabase

ORDERS = table("public.orders", {"id": "int8", "note": "text", "payload": "jsonb"}, key=["id"])


@pytest.mark.must_not_fail(7, 8)
@pytest.mark.usefixtures("history_types")
@pytest.mark.parametrize(
    ("small_rows_max", "direct_rows_min"), [(2000, 64), (0, 1 << 30), (0, 1)], ids=["pipeline", "staging", "direct"]
)
@pytest.mark.parametrize("seed", range(4))
def test_random_histories_cut_anywhere_end_as_the_source_has_them(
    seed: int, small_rows_max: int, direct_rows_min: int, drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.postgres.writer._SMALL_ROWS_MAX", small_rows_max)
    monkeypatch.setattr("sinks.postgres.apply._DIRECT_ROWS_MIN", direct_rows_min)
    monkeypatch.setattr("sinks.postgres.apply._DIRECT_PAUSE", 0)
    history = RandomHistory(seed)
    driver = drive()
    for schema in history.tables:
        driver.sink.ensure_table(schema)
    driver.apply(*history.windows(seed))
    for schema in history.tables:
        found = read_rows(driver.database, schema)
        assert content(found) == content(history.expected(schema)), str(schema.name)


@pytest.mark.usefixtures("history_types")
@pytest.mark.parametrize("seed", range(2))
def test_many_windows_in_one_commit_with_a_small_memory_limit_end_the_same(
    seed: int, drive: Callable[..., Driver]
) -> None:
    history = RandomHistory(100 + seed, truncates=False, transactions=40)
    driver = drive(apply_bytes_max=1 << 16)
    for schema in history.tables:
        driver.sink.ensure_table(schema)
    windows = history.windows()
    for window in windows:
        driver.write(window)
    driver.commit(windows[-1].upto)
    for schema in history.tables:
        assert content(read_rows(driver.database, schema)) == content(history.expected(schema)), str(schema.name)


def test_inserted_rows_beside_updates_and_rows_deleted_and_inserted_again(drive: Callable[..., Driver]) -> None:
    """Both halves of a window: new keys copied directly, then keys that a savepoint finds to be there already."""
    stream = Stream()
    stream.transaction([(ORDERS, insert(i, "first", "{}")) for i in range(2000)])
    changed = [(ORDERS, update(i, "changed", "{}")) for i in range(1000)]
    stream.transaction([*changed, *((ORDERS, insert(i, "new", "{}")) for i in range(2000, 4000))])
    again = [change for i in range(1000, 2000) for change in (delete(i), insert(i, "again", "{}"))]
    stream.transaction([*((ORDERS, change) for change in again), *changed[:100]])
    driver = drive()
    driver.apply(*stream.windows())
    counts = driver.database.fetch("SELECT note, count(*) FROM orders GROUP BY 1 ORDER BY 1")
    assert counts == [("again", 1000), ("changed", 1000), ("new", 2000)]


@pytest.mark.must_not_fail(14)
def test_a_transaction_spanning_windows_is_invisible_until_its_last(drive: Callable[..., Driver]) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(i, "x" * 1000, "{}")) for i in range(300)])
    windows = stream.windows([(0, 100), (0, 200)])
    driver = drive(apply_bytes_max=1 << 16)
    for window in windows[:-1]:
        driver.write(window)
        assert driver.database.fetch("SELECT count(*) FROM orders") == [(0,)]
    driver.write(windows[-1])
    driver.commit(windows[-1].upto)
    assert driver.database.fetch("SELECT count(*), min(id), max(id) FROM orders") == [(300, 0, 299)]


@pytest.mark.must_not_fail(8)
@pytest.mark.parametrize("small_rows_max", [2000, 0], ids=["pipeline", "staging"])
def test_keys_swapped_in_one_transaction_keep_values_that_were_not_sent(
    small_rows_max: int, drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.postgres.writer._SMALL_ROWS_MAX", small_rows_max)
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a", '{"x": 1}')), (ORDERS, insert(2, "b", '{"y": 2}'))])
    swap = [
        (ORDERS, update(-1, "a", None, old=[1], unchanged=["payload"])),
        (ORDERS, update(1, "b", None, old=[2], unchanged=["payload"])),
        (ORDERS, update(2, "a", None, old=[-1], unchanged=["payload"])),
    ]
    stream.transaction(swap)
    driver = drive()
    driver.apply(*stream.windows())
    rows = driver.database.fetch("SELECT id, note, payload::text FROM orders ORDER BY id")
    assert rows == [(1, "b", '{"y": 2}'), (2, "a", '{"x": 1}')]


@pytest.mark.must_not_fail(7)
def test_unchanged_toast_is_neither_null_nor_rewritten(drive: Callable[..., Driver]) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a", '"long"'))])
    stream.transaction([(ORDERS, update(1, "b", None, unchanged=["payload"]))])
    driver = drive()
    driver.apply(*stream.windows())
    assert driver.database.fetch("SELECT note, payload::text FROM orders") == [("b", '"long"')]


@pytest.mark.parametrize("small_rows_max", [2000, 0], ids=["pipeline", "staging"])
def test_an_update_of_a_row_the_target_lost_is_refused_and_nothing_moves(
    small_rows_max: int, drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.postgres.writer._SMALL_ROWS_MAX", small_rows_max)
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a", '"long"'))])
    stream.transaction([(ORDERS, update(1, "b", None, unchanged=["payload"])), (ORDERS, insert(2, "c", None))])
    first, second = stream.windows()
    driver = drive()
    driver.apply(first)
    driver.database.execute("DELETE FROM orders")
    driver.write(second)
    with pytest.raises(Refused, match="not in the destination"):
        driver.commit(second.upto)
    driver.writer.abort()
    assert driver.database.fetch("SELECT count(*) FROM orders") == [(0,)]
    assert driver.sink.recover(driver.lane, 1) == first.upto


@pytest.mark.must_not_fail(9)
def test_equal_rows_of_a_keyless_table_are_counted(drive: Callable[..., Driver]) -> None:
    bag = table("public.bag", {"a": "int4", "j": "json", "f": "float8"}, identity=ReplicaIdentity.FULL)
    stream = Stream()
    row = (1, '{"b": 1}', None)
    stream.transaction([(bag, insert(*row)) for _ in range(3)] + [(bag, insert(None, None, 0.1))])
    stream.transaction(
        [(bag, delete(*row)), (bag, update(2, '{"b": 1}', None, old=row)), (bag, delete(None, None, 0.1))]
    )
    driver = drive()
    driver.apply(*stream.windows())
    assert driver.database.fetch("SELECT a, j::text, f FROM bag ORDER BY a") == [
        (1, '{"b": 1}', None),
        (2, '{"b": 1}', None),
    ]


@pytest.mark.must_not_fail(22)
def test_names_with_quotes_dots_percents_unicode_and_keywords_are_kept(drive: Callable[..., Driver]) -> None:
    odd = table(
        TableName('My "odd" %s schema', "sel.ect"),
        {"Order": "int4", "täxt%s": "text", "x" * 63: "int4", 'q"u': "text[]"},
        key=["Order"],
    )
    stream = Stream()
    stream.transaction([(odd, insert(1, "a", 2, ["%", None]))])
    stream.transaction([(odd, update(1, None, 3, ["y"], unchanged=["täxt%s"])), (odd, insert(2, "z", 0, []))])
    stream.transaction([(odd, delete(2))])
    driver = drive()
    driver.apply(*stream.windows())
    found = driver.database.fetch('SELECT * FROM "My ""odd"" %s schema"."sel.ect"')
    assert found == [(1, "a", 3, ["y"])]


def test_a_table_of_a_thousand_columns_is_written(drive: Callable[..., Driver]) -> None:
    wide = table("public.wide", {"id": "int4", **{f"c{i}": "int4" for i in range(999)}}, key=["id"])
    stream = Stream()
    stream.transaction([(wide, insert(*range(1000))), (wide, insert(1, *range(999)))])
    driver = drive()
    driver.apply(*stream.windows())
    assert driver.database.fetch("SELECT id, c998 FROM wide ORDER BY id") == [(0, 999), (1, 998)]


def test_many_new_rows_that_exist_already_are_replaced(drive: Callable[..., Driver]) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(i, "new", None)) for i in range(3000)])
    driver = drive()
    driver.sink.ensure_table(ORDERS)
    driver.database.execute("INSERT INTO orders SELECT g, 'old' FROM generate_series(2990, 2999) g")
    driver.apply(*stream.windows())
    assert driver.database.fetch("SELECT count(*), count(DISTINCT note), min(note) FROM orders") == [(3000, 1, "new")]


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("rows", [1, 2500])
def test_outliers_are_stored_exactly(rows: int, drive: Callable[..., Driver]) -> None:
    odd = table(
        "public.odd",
        {"id": "int4", "n": "numeric(10,2)", "d": "date", "t": "timestamptz", "a": "int4[]", "c": "time"},
        key=["id"],
    )
    cells = (
        Outlier("NaN"),
        Outlier("0044-03-15 BC"),
        Outlier("-infinity"),
        Outlier("[0:1]={1,2}"),
        Outlier("24:00:00"),
    )
    stream = Stream()
    stream.transaction([(odd, insert(i, *(cells if i == 0 else [None] * 5))) for i in range(rows)])
    driver = drive()
    driver.apply(*stream.windows())
    found = driver.database.fetch("SELECT n::text, d::text, t::text, a::text, c::text FROM odd WHERE id = 0")
    assert found == [tuple(cell.text for cell in cells)]
    assert driver.database.fetch("SELECT count(*), count(n), count(a) FROM odd") == [(rows, 1, 1)]


@pytest.mark.must_not_fail(11)
def test_a_new_column_arrives_with_the_barrier_and_a_dropped_one_stays(drive: Callable[..., Driver]) -> None:
    before = table("public.t", {"id": "int4", "old": "text"}, key=["id"])
    after = table("public.t", {"id": "int8", "new": "text"}, key=["id"], version=2)
    after = replace(after, columns=(after.columns[0], replace(after.columns[1], attnum=3)))
    stream = Stream()
    stream.transaction([(before, insert(1, "kept"))])
    stream.transaction([NewShape(after), (after, insert(2**40, "fresh"))])
    driver = drive()
    driver.apply(*stream.windows())
    found = driver.database.fetch("SELECT id, old, new FROM t ORDER BY id")
    assert found == [(1, "kept", None), (2**40, None, "fresh")]


def test_a_schema_barrier_applied_twice_changes_nothing_more(drive: Callable[..., Driver]) -> None:
    before = table("public.t", {"id": "int4"}, key=["id"])
    after = table("public.t", {"id": "int4", "new": "text"}, key=["id"], version=2)
    stream = Stream()
    stream.transaction([(before, insert(1))])
    stream.transaction([NewShape(after), (after, insert(2, "x"))])
    driver = drive()
    first, barrier, last = stream.windows()
    driver.apply(first, barrier)
    assert barrier.barrier is not None
    driver.writer.apply_barrier(barrier.barrier, driver.token(barrier.upto))
    driver.apply(last)
    assert driver.database.fetch("SELECT id, new FROM t ORDER BY id") == [(1, None), (2, "x")]


def test_truncate_empties_only_its_tables(drive: Callable[..., Driver]) -> None:
    other = table("public.other", {"id": "int4"}, key=["id"])
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a", None)), (other, insert(1))])
    stream.transaction([Truncate((ORDERS.name,)), (ORDERS, insert(2, "b", None))])
    driver = drive()
    driver.apply(*stream.windows())
    assert driver.database.fetch("SELECT id FROM orders") == [(2,)]
    assert driver.database.fetch("SELECT id FROM other") == [(1,)]


def test_generated_and_identity_columns_of_the_target_are_respected(
    drive: Callable[..., Driver], target_database: ScratchDatabase
) -> None:
    target_database.execute(
        "CREATE TABLE orders (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, payload jsonb,"
        " size int GENERATED ALWAYS AS (length(note)) STORED)"
    )
    stream = Stream()
    stream.transaction([(ORDERS, insert(7, "abc", None))])
    stream.transaction([(ORDERS, update(7, "abcd", None)), (ORDERS, insert(8, "x", None))])
    driver = drive()
    driver.apply(*stream.windows())
    assert driver.database.fetch("SELECT id, size FROM orders ORDER BY id") == [(7, 4), (8, 1)]
