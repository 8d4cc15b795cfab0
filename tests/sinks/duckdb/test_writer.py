"""What a mirror holds after random histories, and what a commit promises."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sinks.duckdb import writer as writer_module
from sinks.duckdb.reader import read_mirror
from sinks.duckdb.sink import DuckDBSink
from tests.sinks.duckdb.conftest import LANE
from tests.sinks.lane import TestLane
from wallaby.errors import Refused, Superseded
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import ReplicaIdentity, TableName
from wallaby.testing.changes import NewShape, Outlier, Stream, Truncate, copied, delete, insert, table, update
from wallaby.testing.history import RandomHistory, multiset
from wallaby.transform.append import OUTLIERS
from wallaby.window import CommitToken

Make = Callable[..., DuckDBSink]


@pytest.mark.must_not_fail(7)
@pytest.mark.must_not_fail(8)
@pytest.mark.must_not_fail(9)
@pytest.mark.parametrize("seed", range(3))
def test_a_mirror_equals_the_source_after_any_history(seed: int, make_sink: Make, path: Path) -> None:
    """Every kind of identity, moved and swapped keys, unchanged TOAST, truncates; cut and committed at random."""
    history = RandomHistory(seed, transactions=25)
    sink = make_sink()
    TestLane(sink, LANE).apply_all(history.windows(seed), commit_every=1 + seed % 4)
    sink.close()
    for schema in history.tables:
        found = read_mirror(path, schema)
        assert multiset(found) == multiset(history.expected(schema)), schema.name


@pytest.mark.must_not_fail(14)
def test_windows_beyond_the_gathering_limit_stay_invisible_until_the_commit(
    make_sink: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "GATHER_BYTES_MAX", 1)
    history = RandomHistory(3, transactions=10, truncates=False)
    sink = make_sink()
    lane = TestLane(sink, LANE)
    windows = history.windows()
    for window in windows:
        lane.write(window)
    with duckdb.connect(str(path), config=_same_config(sink)) as other:
        tables = other.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'public'").fetchall()
        rows = [other.execute(f"SELECT count(*) FROM public.{name}").fetchall() for (name,) in tables]
    assert all(count == [(0,)] for count in rows), rows
    lane.writer.commit(lane.token(windows[-1].upto))
    sink.close()
    for schema in history.tables:
        assert multiset(read_mirror(path, schema)) == multiset(history.expected(schema))


def _same_config(sink: DuckDBSink) -> dict[str, str | bool | int | float | list[str]]:
    return sink._session._config()


def test_an_aborted_write_leaves_nothing(make_sink: Make, path: Path) -> None:
    history = RandomHistory(1, transactions=3, truncates=False)
    sink = make_sink()
    lane = TestLane(sink, LANE)
    for window in history.windows():
        lane.write(window)
    lane.writer.abort()
    assert sink.recover(LANE, 1) == START
    TestLane(sink, LANE).apply_all(history.windows())
    sink.close()
    for schema in history.tables:
        assert multiset(read_mirror(path, schema)) == multiset(history.expected(schema))


ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])


def _two_windows() -> Stream:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([(ORDERS, insert(2, "b"))])
    return stream


def test_a_repeated_commit_gives_the_same_receipt_and_no_second_row(make_sink: Make, path: Path) -> None:
    sink = make_sink(write_mode="append")
    lane = TestLane(sink, LANE)
    first, _ = _two_windows().windows()
    token = lane.token(first.upto, 1)
    lane.write(first)
    receipt = lane.writer.commit(token)
    lane.writer.write(first)
    assert lane.writer.commit(token) == receipt
    sink.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchall() == [(1,)]


@pytest.mark.must_not_fail(14)
def test_more_tables_are_written_than_the_memory_limit_has_room_for(make_sink: Make) -> None:
    """DuckDB pins 256 KiB for each table that gets rows again before a checkpoint: of these 120, 30 MiB."""
    tables = [table(f"public.t{number}", {"id": "int8"}, key=["id"]) for number in range(120)]
    stream = Stream()
    for first in range(3):
        for schema in tables:
            stream.transaction([(schema, insert(first))])
    sink = make_sink(write_mode="append", memory_limit="24MB", block_size="16KiB")
    TestLane(sink, LANE).apply_all(stream.windows(), commit_every=10)
    for schema in tables:
        assert sink._session.query(f"SELECT count(*) FROM {schema.name}") == [(3,)]


@pytest.mark.must_not_fail(20)
def test_an_older_epoch_can_no_longer_commit(make_sink: Make) -> None:
    zombie = TestLane(make_sink(), LANE, epoch=1)
    first, _ = _two_windows().windows()
    zombie.write(first)
    successor = TestLane(make_sink(), LANE, epoch=2)
    assert successor.position == START
    with pytest.raises(Superseded):
        zombie.writer.commit(zombie.token(first.upto))
    successor.apply(first)
    with pytest.raises(Superseded):
        make_sink().recover(LANE, 1)


@pytest.mark.must_not_fail(20)
def test_of_two_writers_with_open_transactions_one_wins(make_sink: Make, path: Path) -> None:
    """Both have written before either commits: DuckDB's own conflict detection must come out as Superseded."""
    one, other = TestLane(make_sink(write_mode="append"), LANE), TestLane(make_sink(write_mode="append"), LANE)
    first, second = _two_windows().windows()
    one.apply(first)
    other.position = first.upto
    for lane in (one, other):
        lane.write(second)
        lane.writer._apply_gathered()  # type: ignore[attr-defined]
    one.writer.commit(one.token(second.upto, 1))
    far = Position(Lsn(second.upto.lsn + 1))
    with pytest.raises(Superseded):
        other.writer.commit(CommitToken(LANE, 1, first.upto, far, 1))
    one.sink.close()
    other.sink.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchall() == [(2,)]


@pytest.mark.must_not_fail(2)
def test_a_destination_that_went_back_in_time_is_refused(make_sink: Make) -> None:
    lane = TestLane(make_sink(), LANE)
    first, second = _two_windows().windows()
    with pytest.raises(Refused, match="back in time"):
        lane.writer.commit(CommitToken(LANE, 1, first.upto, second.upto, 0))


def test_a_token_without_rows_moves_the_record(make_sink: Make) -> None:
    sink = make_sink()
    lane = TestLane(sink, LANE)
    lane.writer.commit(lane.token(Position(Lsn(77))))
    assert sink.recover(LANE, 1) == Position(Lsn(77))


@pytest.mark.must_not_fail(12)
@pytest.mark.must_not_fail(13)
def test_values_come_back_exactly(make_sink: Make, path: Path) -> None:
    """Also what Arrow cannot hold but DuckDB can, what casts to JSON reject, and what decimals of 38 digits lose."""
    schema = table(
        "public.kinds",
        {
            "id": "int8",
            "u": "uuid",
            "j": "json",
            "d": "date",
            "ts": "timestamp",
            "tz": "timestamptz",
            "t": "time",
            "wide": "numeric(50,10)",
            "n": "numeric(38,4)",
            "free": "numeric",
            "us": "uuid[]",
            "f": "float8",
            "b": "bytea",
            "s": "text",
        },
        key=["id"],
    )
    one, two = uuid.uuid4().bytes, uuid.uuid4().bytes
    tiny, huge = Decimal("-0.0000000001"), Decimal("1234567890123456789012345678901234567890.5")
    rows = [
        (
            *(1, one, '"\\ud800"', Outlier("infinity"), Outlier("-infinity"), Outlier("infinity"), Outlier("24:00:00")),
            *(tiny, Decimal("-1.5"), "1.500", [one, None, two], -0.0, b"\0\xff", "a\u0001b"),
        ),
        (
            *(2, two, '{"a": 1, "a": 2}', Outlier("-infinity"), None, Outlier("-infinity"), None),
            *(huge, None, "NaN", [], float("-inf"), b"", ""),
        ),
        (3, None, None, None, None, None, None, None, None, None, None, None, None, None),
    ]
    stream = Stream()
    stream.copy(schema, rows)
    sink = make_sink()
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    found = read_mirror(path, schema).sort_by("id")
    outliers = [[cell["text"] for cell in cells or []] for cells in found.column("__outliers").to_pylist()]
    assert outliers == [["infinity", "-infinity", "infinity", "24:00:00"], ["-infinity", "-infinity"], []]
    expected = [tuple(None if isinstance(cell, Outlier) else cell for cell in row) for row in rows]
    found_rows = [tuple(row.values())[:-1] for row in found.to_pylist()]
    assert [(*row[:7], *row[9:]) for row in found_rows] == [(*row[:7], *row[9:]) for row in expected]
    with duckdb.connect(str(path), read_only=True) as connection:
        stored = connection.execute("SELECT wide, n::VARCHAR, f::VARCHAR, u::VARCHAR FROM public.kinds ORDER BY id")
        assert stored.fetchall() == [
            ("-0.0000000001", "-1.5000", "-0.0", str(uuid.UUID(bytes=one))),
            ("1234567890123456789012345678901234567890.5000000000", None, "-inf", str(uuid.UUID(bytes=two))),
            (None, None, None, None),
        ]


NAN = table("public.measured", {"id": "int8", "value": "numeric(10,2)"}, key=["id"])


def test_a_value_duckdb_has_no_place_for_is_refused_by_name_only(make_sink: Make) -> None:
    lane = TestLane(make_sink(), LANE)
    stream = Stream()
    stream.copy(NAN, [(1, Outlier("NaN"))])
    with pytest.raises(Refused) as refused:
        lane.apply_all(stream.windows())
    assert refused.value.where["column"] == "value"
    assert "text" not in refused.value.advice


@pytest.mark.parametrize(("choice", "kept"), [("null", None), ("text", "NaN")])
def test_an_unrepresentable_value_is_null_or_text_when_so_asked(
    make_sink: Make, path: Path, choice: str, kept: str | None
) -> None:
    sink = make_sink(write_mode="append", unrepresentable=choice)
    stream = Stream()
    stream.copy(NAN, [(1, Outlier("NaN"))])
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute("SELECT * FROM public.measured").to_arrow_table()
    assert rows.column("value").to_pylist() == [None]
    assert (OUTLIERS in rows.column_names) == (choice == "text")
    if kept:
        assert rows.column(OUTLIERS).to_pylist() == [[{"column": "value", "text": kept}]]


def test_a_log_keeps_order_truncates_and_key_changes(make_sink: Make, path: Path) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a")), (ORDERS, update(2, None, old=[1], unchanged=["note"]))])
    stream.transaction([Truncate((ORDERS.name,))])
    stream.transaction([(ORDERS, insert(3, "c")), (ORDERS, delete(3))])
    sink = make_sink(write_mode="append")
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute(
            "SELECT __op, id, note, __unchanged FROM public.orders ORDER BY __commit_lsn, __ordinal, __op"
        ).fetchall()
    assert rows == [
        ("i", 1, "a", None),
        ("d", 1, None, None),
        ("u", 2, None, ["note"]),
        ("t", None, None, None),
        ("i", 3, "c", None),
        ("d", 3, None, None),
    ]


def test_rows_somebody_removed_are_noticed_when_an_update_needs_them(make_sink: Make) -> None:
    sink = make_sink()
    lane = TestLane(sink, LANE)
    stream = Stream()
    stream.copy(ORDERS, [(1, "long")])
    stream.transaction([(ORDERS, update(1, None, unchanged=["note"]))])
    first, second = stream.windows()
    lane.apply(first)
    sink._session.query("DELETE FROM public.orders")
    with pytest.raises(Refused, match="should be in the target"):
        lane.apply(second)


def test_equal_rows_of_a_table_without_key_go_one_at_a_time(make_sink: Make, path: Path) -> None:
    """Minus zero is not zero, nor one month thirty days: the copy that goes is the very one."""
    bag = table("public.bag", {"f": "float8", "t": "text"}, identity=ReplicaIdentity.FULL)
    stream = Stream()
    stream.transaction([(bag, insert(row, "a")) for row in (0.0, 0.0, -0.0)])
    stream.transaction([(bag, delete(-0.0, "a")), (bag, update(1.0, None, old=[0.0, "a"]))])
    sink = make_sink()
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    assert sorted(map(str, read_mirror(path, bag).select([0, 1]).to_pylist())) == [
        "{'f': 0.0, 't': 'a'}",
        "{'f': 1.0, 't': None}",
    ]


@pytest.mark.must_not_fail(11)
def test_a_barrier_gives_the_mirror_its_new_shape(make_sink: Make, path: Path) -> None:
    new = table("public.orders", {"id": "int8", "note": "text", "extra": "int4"}, key=["id"], version=2)
    stream = Stream()
    stream.copy(ORDERS, [(1, "a")])
    stream.transaction([NewShape(new), (new, insert(2, "b", 7))])
    sink = make_sink()
    lane = TestLane(sink, LANE)
    lane.apply_all(stream.windows())
    barrier = stream.windows()[1]
    assert barrier.barrier is not None
    again = CommitToken(LANE, 1, lane.position, lane.position, 0)
    assert lane.writer.apply_barrier(barrier.barrier, again).upto == lane.position
    sink.close()
    assert multiset(read_mirror(path, new).select([0, 1, 2])) == multiset(
        pa.table({"id": [1, 2], "note": ["a", "b"], "extra": [None, 7]})
    )


@pytest.mark.must_not_fail(22)
def test_any_name_is_a_name(make_sink: Make, path: Path) -> None:
    odd = table(
        TableName('Ünï"code; --', "select.Table '表'"), {'"Id"': "int8", "from": "text", "c0": "text"}, key=['"Id"']
    )
    stream = Stream()
    stream.copy(odd, [(1, "a", "x")])
    stream.transaction([(odd, update(2, None, "y", old=[1], unchanged=["from"]))])
    sink = make_sink()
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    assert list(read_mirror(path, odd).to_pylist()[0].values())[:3] == [2, "a", "y"]


def test_copied_rows_are_upserts(make_sink: Make, path: Path) -> None:
    """A table copied again over old rows ends with the new ones, once each."""
    stream = Stream()
    stream.copy(ORDERS, [(1, "a"), (2, "b")])
    stream.transaction([(ORDERS, copied(1, "newer"))])
    sink = make_sink()
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    assert sorted(read_mirror(path, ORDERS).column("note").to_pylist()) == ["b", "newer"]
