"""The modes of toast_fetch: decided on fakes, then on a real stream into a log and a mirror."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.wallaby.relay.world import LOG, QUICK, World, dismantle, make_world
from tests.wallaby.transform.filling import UNSENT, Row, cells
from wallaby.clock import ManualClock, SystemClock
from wallaby.errors import CheckFailed
from wallaby.flow import SourceOptions
from wallaby.lsn import Lsn
from wallaby.postgres.row_reader import PresentRows, RowReader, Unread
from wallaby.relay.fill import CacheFill, NoFill, SourceFill, open_filler
from wallaby.relay.ports import Filler, GapCount
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema
from wallaby.settings import Limits
from wallaby.testing.changes import Change, Outlier, change_table, copied, insert, table, update
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import Barrier, BarrierKind
from wallaby.window_builder import UnsealedPart

DOCS = table("public.docs", {"id": "int8", "title": "text", "body": "text"}, key=["id"])
OTHER = table("public.other", {"id": "int8", "title": "text", "body": "text"}, key=["id"])
KEYLESS = table("public.k", {"id": "int8", "body": "text"}, identity=ReplicaIdentity.FULL)
LONG = "x" * 100
XID = 700
"""Of the changes `change_table` makes."""


def part(schema: TableSchema, *changes: Change) -> UnsealedPart:
    return UnsealedPart(schema, change_table(schema, changes).to_batches())


def rows_of(part: UnsealedPart) -> list[Row | None]:
    return cells(part.schema, pa.Table.from_batches(part.batches))


def touch(number: int, title: str = "t") -> Change:
    return update(number, title, None, unchanged=["body"])


class FakeReader:
    """Answers from ``rows`` (by key), or with what it is told to."""

    def __init__(self, rows: dict[int, tuple[Any, ...]], *, sees: bool = True) -> None:
        self.rows = rows
        self.asked: list[tuple[str, tuple[int, ...], list[int]]] = []
        self.answer: Unread | None = None
        self.sees = sees
        self.at = Lsn(1000)
        self.is_closed = False
        self.after: Callable[[], None] = lambda: None

    def read(
        self,
        schema: TableSchema,
        columns: Sequence[int],
        keys: Sequence[pa.Array],
        *,
        xids: npt.NDArray[np.uint32],
        timeout_ms: int,
        bytes_max: int,
    ) -> PresentRows | Unread:
        wanted = keys[0].to_pylist()
        self.asked.append((schema.name.name, tuple(columns), wanted))
        self.after()
        if self.answer is not None:
            return self.answer
        shape = TableSchema(
            1, schema.name, (Column("number", PgType(20, "int8")), *(schema.columns[i] for i in columns))
        )
        found = [
            copied(n, *(self.rows[key][i] for i in columns)) for n, key in enumerate(wanted, 1) if key in self.rows
        ]
        assert xids.tolist() == [XID] * len(wanted)
        batch = change_table(shape, found).combine_chunks().to_batches()[0] if found else None
        self.at = Lsn(self.at + 1)
        return PresentRows(batch, np.full(len(wanted), self.sees), self.at)

    def close(self) -> None:
        self.is_closed = True


def source(reader: FakeReader, clock: ManualClock | None = None, *, is_full: bool = False, **limits: int) -> SourceFill:
    return SourceFill(reader, clock=clock or ManualClock(), limits=Limits(**limits), is_full=is_full)


def test_off_leaves_everything_as_it_is() -> None:
    parts = [part(DOCS, touch(1))]
    filler = NoFill()
    assert filler.fill(parts) == parts
    assert filler.counts == {}


@pytest.mark.must_not_fail(7)
def test_one_reading_for_each_window_and_table_and_none_where_nothing_is_missing() -> None:
    reader = FakeReader({1: (1, "now", "one"), 2: (2, "now", "two")})
    filler = source(reader)
    window = [
        part(DOCS, touch(1), touch(2), touch(1), touch(3)),
        part(OTHER, touch(2)),
        part(DOCS, insert(9, "a", "b"), update(1, "c", "d")),
    ]
    done = filler.fill(window)
    assert reader.asked == [("docs", (2,), [2, 1, 3]), ("other", (2,), [2])]
    assert rows_of(done[0]) == [(1, "t", "one"), (2, "t", "two"), (1, "t", "one"), (3, "t", UNSENT)]
    assert rows_of(done[1]) == [(2, "t", "two")]
    assert done[2] is window[2]
    assert [one.fetched_at for one in done] == [Lsn(1001), Lsn(1002), None]
    assert filler.counts == {DOCS.name: GapCount(3, 1), OTHER.name: GapCount(1, 0)}


@pytest.mark.must_not_fail(7)
@pytest.mark.parametrize("is_full", [False, True])
def test_a_reading_that_does_not_see_the_changes_transaction_fills_nothing(is_full: bool) -> None:
    """PostgreSQL sends a transaction a moment before others see it: the row found is the one from before."""
    filler = source(FakeReader({1: (1, "before", "before")}, sees=False), is_full=is_full)
    [done] = filler.fill([part(DOCS, touch(1))])
    assert rows_of(done) == [(1, "t", UNSENT)]
    assert done.fetched_at is None
    assert filler.counts == {DOCS.name: GapCount(0, 1)}


def test_full_asks_for_every_updated_row_and_all_its_columns() -> None:
    reader = FakeReader({1: (1, "now", Outlier("odd")), 2: (2, "now", "two")})
    filler = source(reader, is_full=True)
    [done, untouched] = filler.fill(
        [
            part(DOCS, insert(2, "i", "i"), update(1, "u", "u"), touch(2), update(3, "gone", "gone")),
            part(OTHER, insert(1, "a", "b")),
        ]
    )
    assert reader.asked == [("docs", (1, 2), [1, 2, 3])]
    assert rows_of(done) == [(2, "i", "i"), (1, "now", Outlier("odd")), (2, "now", "two"), (3, "gone", "gone")]
    assert done.fetched_at == Lsn(1001)
    assert untouched.fetched_at is None


@pytest.mark.must_not_fail(17)
def test_a_slow_source_is_left_alone_for_a_while() -> None:
    clock = ManualClock()
    reader = FakeReader({1: (1, "now", "one")})
    filler = source(reader, clock, fetch_rest_ms=10_000)
    reader.answer = Unread.SLOW
    [first, second] = filler.fill([part(DOCS, touch(1)), part(OTHER, touch(1))])
    assert rows_of(first) == rows_of(second) == [(1, "t", UNSENT)]
    assert len(reader.asked) == 1, "the second table waits, too"
    reader.answer = None
    clock.advance(9_999)
    assert rows_of(filler.fill([part(DOCS, touch(1))])[0]) == [(1, "t", UNSENT)]
    clock.advance(1)
    assert rows_of(filler.fill([part(DOCS, touch(1))])[0]) == [(1, "t", "one")]


@pytest.mark.must_not_fail(17)
def test_the_tables_of_a_window_share_the_time_there_is() -> None:
    clock = ManualClock()
    reader = FakeReader({1: (1, "now", "one")})
    reader.after = lambda: clock.advance(3_000)
    done = source(reader, clock, fetch_timeout_ms=5_000).fill(
        [part(DOCS, touch(1)), part(OTHER, touch(1)), part(DOCS, touch(1))]
    )
    assert [rows_of(one)[0] for one in done] == [(1, "t", "one"), (1, "t", "one"), (1, "t", UNSENT)]


def test_a_table_that_is_gone_is_no_reason_to_rest() -> None:
    reader = FakeReader({1: (1, "now", "one")})
    filler = source(reader)
    reader.answer = Unread.GONE
    filler.fill([part(DOCS, touch(1))])
    reader.answer = None
    assert rows_of(filler.fill([part(OTHER, touch(1))])[0]) == [(1, "t", "one")]


@pytest.mark.must_not_fail(9)
@pytest.mark.parametrize("make", [lambda: source(FakeReader({})), lambda: CacheFill(Limits(), cache_bytes=1 << 20)])
def test_tables_without_a_usable_key_stay_as_they_are_and_are_counted(make: Callable[[], Filler]) -> None:
    dates = table("public.d", {"day": "date", "body": "text"}, key=["day"])
    keyless = part(KEYLESS, update(1, None, old=[1, LONG], unchanged=["body"]))
    odd = part(dates, update(Outlier("infinity"), None, unchanged=["body"]))
    filler = make()
    assert filler.fill([keyless, odd]) == [keyless, odd]
    assert filler.counts == {KEYLESS.name: GapCount(0, 1), dates.name: GapCount(0, 1)}


@pytest.mark.must_not_fail(14)
@pytest.mark.parametrize("mode", ["source", "cache"])
def test_what_a_window_gains_is_bounded_over_its_tables(mode: str) -> None:
    limits = Limits(filled_bytes_max=100)
    filler: Filler
    if mode == "source":
        filler = SourceFill(FakeReader({1: (1, "now", LONG)}), clock=ManualClock(), limits=limits, is_full=False)
    else:
        filler = CacheFill(limits, cache_bytes=1 << 20)
        filler.fill([part(schema, insert(1, "a", LONG)) for schema in (DOCS, OTHER)])
    done = filler.fill([part(DOCS, touch(1)), part(OTHER, touch(1))])
    assert [rows_of(one) for one in done] == [[(1, "t", LONG)], [(1, "t", UNSENT)]]


@pytest.mark.must_not_fail(7, 11)
def test_the_cache_forgets_a_table_at_its_barriers_and_no_other() -> None:
    filler = CacheFill(Limits(), cache_bytes=1 << 20)
    for kind in BarrierKind:
        filler.fill([part(schema, insert(1, "a", LONG)) for schema in (DOCS, OTHER)])
        filler.barrier(Barrier(kind, (DOCS.name,), (), Lsn(1), 0))
        done = filler.fill([part(DOCS, touch(1)), part(OTHER, touch(1))])
        assert [rows_of(one) for one in done] == [[(1, "t", UNSENT)], [(1, "t", LONG)]]


@pytest.mark.must_not_fail(7)
def test_a_key_that_hides_which_row_is_which_makes_the_cache_forget() -> None:
    dates = table("public.d", {"day": "date", "body": "text"}, key=["day"])
    row = datetime.date(2024, 2, 29)
    filler = CacheFill(Limits(), cache_bytes=1 << 20)
    filler.fill([part(dates, insert(row, LONG))])
    filler.fill([part(dates, update(Outlier("infinity"), "moved", old=[row]))])
    [done] = filler.fill([part(dates, update(row, None, unchanged=["body"]))])
    assert rows_of(done) == [(row, UNSENT)]


def test_options_choose_the_filler_and_nothing_is_connected_yet() -> None:
    def made(**options: str) -> Filler:
        parsed = SourceOptions.parse({"dsn": "postgresql://u@127.0.0.1:9/d", **options})
        return open_filler(parsed, clock=ManualClock(), limits=Limits(), application_name="test")

    assert isinstance(made(), NoFill)
    assert isinstance(made(toast_fetch="cache", toast_cache_size="2MiB"), CacheFill)
    for mode, is_full in (("source", False), ("full", True)):
        filler = made(toast_fetch=mode)
        assert isinstance(filler, SourceFill)
        assert filler._is_full is is_full
        filler.close()


# -- on a real stream -------------------------------------------------------------------------------------------------


@pytest.fixture
def world(database: ScratchDatabase) -> Iterator[World]:
    """A table whose values are moved out of the row at any length, and are not compressed."""
    made = make_world(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, n int, body text, doc jsonb, raw bytea, tags text[])",
        "ALTER TABLE docs SET (toast_tuple_target = 128)",
        *(f"ALTER TABLE docs ALTER COLUMN {name} SET STORAGE EXTERNAL" for name in ("body", "doc", "raw", "tags")),
        "CREATE PUBLICATION p FOR TABLE docs",
    )
    yield made
    dismantle(made)


def row_values(number: int) -> str:
    """SQL for the long columns of a version."""
    text = f"repeat('v{number} ', 200)"
    return f"{text}, jsonb_build_object('k', {text}), convert_to({text}, 'UTF8'), ARRAY[{text}, NULL, 'v{number}']"


def text_of(number: int) -> str:
    return f"v{number} " * 200


def cache_filler() -> CacheFill:
    return CacheFill(QUICK, cache_bytes=64 << 20)


def source_filler(world: World, *, is_full: bool = False, dsn: str = "") -> SourceFill:
    reader = RowReader(dsn or world.database.dsn, publication="p", timeout_ms=20_000, application_name="toast reader")
    return SourceFill(reader, clock=SystemClock(), limits=QUICK, is_full=is_full)


def log_of(world: World) -> list[dict[str, Any]]:
    target = world.log.targets[TableName("public", "docs")]
    return target.rows.to_pylist()


@pytest.mark.must_not_fail(7, 8, 25)
def test_with_the_cache_a_log_holds_every_version_whole(world: World) -> None:
    """Each row of the log must equal the source's row as it was at that moment: the source writes its own history."""
    world.database.execute(
        "CREATE TABLE history (at bigserial, id int, n int, body text, doc jsonb, raw bytea, tags text[])",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO history"
        " (id, n, body, doc, raw, tags) SELECT NEW.*; RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION note()",
    )
    rounds = [
        "INSERT INTO docs SELECT g, 0, v.* FROM generate_series(1, 20) AS g, LATERAL (SELECT "
        + row_values(1)
        + ") AS v",
        "UPDATE docs SET n = n + 1",
        "UPDATE docs SET n = n + 1 WHERE id % 2 = 0",
        "UPDATE docs SET body = repeat('other ', 100), n = n + 1 WHERE id % 3 = 0",
        "UPDATE docs SET id = id + 100, n = n + 1 WHERE id <= 5",
        "UPDATE docs SET n = n + 1, tags = tags || 'more'::text WHERE id > 100",
        "DO $$ BEGIN UPDATE docs SET id = 999 WHERE id = 10; UPDATE docs SET id = 10 WHERE id = 11;"
        " UPDATE docs SET id = 11 WHERE id = 999; UPDATE docs SET n = n + 1 WHERE id IN (10, 11); END $$",
        "DELETE FROM docs WHERE id = 12",
        "INSERT INTO docs SELECT 12, 0, " + row_values(2),
        "UPDATE docs SET n = n + 1 WHERE id IN (10, 11, 12, 104)",
        "UPDATE docs SET doc = NULL WHERE id = 13",
        "UPDATE docs SET n = n + 1 WHERE id = 13",
    ]
    filler = cache_filler()
    with world.run(filler=filler) as run:
        for number, statement in enumerate(rounds):
            world.database.execute(statement)
            if number % 3 != 1:
                run.caught_up()
        run.caught_up()
    logged = [row for row in log_of(world) if row["__op"] != "d"]
    history = world.database.fetch("SELECT id, n, body, doc::text, raw, tags FROM history ORDER BY at")
    assert all(row["__unchanged"] is None for row in logged)
    told = [tuple(row[name] for name in ("id", "n", "body", "doc", "raw", "tags")) for row in logged]
    assert _hashes(told) == _hashes(history)
    assert world.rows("docs") == [
        tuple(row)
        for row in sorted(world.database.fetch("SELECT id, n, body, doc::text, raw, tags FROM docs"), key=repr)
    ]
    counted = filler.counts[TableName("public", "docs")]
    assert counted.filled > 100, "PostgreSQL left values out"
    assert counted.unfilled == 0


def _hashes(rows: Sequence[Sequence[Any]]) -> list[str]:
    return [hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:16] for row in rows]


@pytest.mark.must_not_fail(7)
def test_without_filling_the_same_log_has_marks(world: World) -> None:
    world.database.execute("INSERT INTO docs SELECT 1, 0, " + row_values(1), "UPDATE docs SET n = 1")
    with world.run() as run:
        run.caught_up()
    assert [row["__unchanged"] for row in log_of(world)] == [None, ["body", "doc", "raw", "tags"]]


@pytest.mark.must_not_fail(7, 11)
def test_truncate_and_a_new_shape_leave_the_cache_empty_and_the_mirror_right(world: World) -> None:
    filler = cache_filler()
    with world.run(filler=filler) as run:
        world.database.execute(
            "INSERT INTO docs SELECT 1, 0, " + row_values(1),
            "TRUNCATE docs",
            "INSERT INTO docs SELECT 1, 0, " + row_values(2),
            "UPDATE docs SET n = 1",
            "ALTER TABLE docs ADD COLUMN extra int",
            "UPDATE docs SET n = 2",
        )
        run.caught_up()
    updates = [row for row in log_of(world) if row["__op"] == "u"]
    assert [row["body"] for row in updates] == [text_of(2), None]
    assert [row["__unchanged"] for row in updates] == [None, ["body", "doc", "raw", "tags"]]
    [mirrored] = world.mirror.targets[TableName("public", "docs")].rows.to_pylist()
    assert (mirrored["n"], mirrored["body"]) == (2, text_of(2))


class Witness(NoFill):
    """Notes what a filler is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def fill(self, parts: Sequence[UnsealedPart]) -> list[UnsealedPart]:
        self.told += [f"{row[0]}" for one in parts for row in rows_of(one) if row is not None]
        return super().fill(parts)

    def barrier(self, barrier: Barrier) -> None:
        self.told.append(barrier.kind)


@pytest.mark.must_not_fail(7, 11)
def test_a_filler_is_told_of_barriers_between_what_came_before_and_after(world: World) -> None:
    filler = Witness()
    world.database.execute(
        "INSERT INTO docs VALUES (1)",
        "DO $$ BEGIN INSERT INTO docs VALUES (2); TRUNCATE docs; INSERT INTO docs VALUES (3); END $$",
        "ALTER TABLE docs ADD COLUMN extra int",
        "INSERT INTO docs VALUES (4)",
    )
    with world.run(filler=filler) as run:
        run.caught_up()
    assert filler.told == ["1", "2", "truncate", "3", "schema", "4"]


@pytest.mark.must_not_fail(7)
def test_from_the_source_every_row_that_is_still_there_is_whole(world: World) -> None:
    """Written while nobody reads: the values are the present ones, and newer changes follow in the stream."""
    world.database.execute(
        "INSERT INTO docs SELECT g, 0, v.* FROM generate_series(1, 50) AS g, LATERAL (SELECT "
        + row_values(1)
        + ") AS v"
    )
    with world.run(filler=source_filler(world)) as run:
        run.caught_up()
    world.database.execute(
        "UPDATE docs SET n = 1 WHERE id <= 40",
        "UPDATE docs SET id = id + 1000 WHERE id = 7",
        "DELETE FROM docs WHERE id = 8",
        "UPDATE docs SET body = repeat('new ', 100) WHERE id = 9",
    )
    filler = source_filler(world)
    with world.run(filler=filler) as run:
        run.caught_up()
        published = [one for window in run.transport.published for one in window.parts]
    updates = {row["id"]: row for row in log_of(world) if row["__op"] == "u" and row["n"] == 1 and row["id"] <= 40}
    # Row 7 is found at its new key only, unless its move came in the same window.
    assert {i for i, row in updates.items() if row["__unchanged"]} - {7} == {8}
    assert updates[1]["body"] == text_of(1)
    assert updates[1]["tags"] == [text_of(1), None, "v1"]
    [moved] = [row for row in log_of(world) if row["id"] == 1007 and row["__op"] == "u"]
    assert moved["doc"] == updates[1]["doc"]
    assert moved["__unchanged"] is None
    assert world.rows("docs") == [
        tuple(row)
        for row in sorted(world.database.fetch("SELECT id, n, body, doc::text, raw, tags FROM docs"), key=repr)
    ]
    at = [one.fetched_at for one in published if one.fetched_at is not None]
    assert at
    assert all(position <= world.wal for position in at)


class CountingReader(RowReader):
    """Notes how many keys each reading was for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: list[int] = []

    def read(self, schema: TableSchema, columns: Sequence[int], keys: Sequence[pa.Array], **options: Any) -> Any:
        self.asked.append(len(keys[0]))
        return super().read(schema, columns, keys, **options)


@pytest.mark.must_not_fail(7)
def test_one_query_reads_what_a_window_lacks(world: World) -> None:
    """A thousand updated rows, four values missing in each, in one transaction."""
    world.database.execute(
        "INSERT INTO docs SELECT g, 0, v.* FROM generate_series(1, 1000) AS g, LATERAL (SELECT "
        + row_values(1)
        + ") AS v"
    )
    with world.run() as run:
        run.caught_up()
    world.database.execute("UPDATE docs SET n = 1")
    reader = CountingReader(world.database.dsn, publication="p", timeout_ms=20_000)
    filler = SourceFill(reader, clock=SystemClock(), limits=QUICK, is_full=False)
    with world.run(filler=filler) as run:
        run.caught_up()
    status = run.relay.status
    assert reader.asked == [1000]
    assert [row["__unchanged"] for row in log_of(world)[1000:]] == [None] * 1000
    [told] = [one for one in status.tables if one.table == "public.docs"]
    assert (told.filled, told.unfilled) == (4000, 0)


@pytest.mark.must_not_fail(7)
def test_full_replaces_updates_by_the_rows_as_they_are(world: World) -> None:
    world.database.execute(
        "INSERT INTO docs SELECT g, 0, v.* FROM generate_series(1, 3) AS g, LATERAL (SELECT "
        + row_values(1)
        + ") AS v",
        "UPDATE docs SET n = 1",
        "UPDATE docs SET n = 2",
        "UPDATE docs SET n = 3, body = repeat('new ', 100) WHERE id = 1",
    )
    with world.run(filler=source_filler(world, is_full=True)) as run:
        run.caught_up()
    log = log_of(world)
    assert [row["n"] for row in log if row["__op"] == "i"] == [0, 0, 0]
    assert {(row["id"], row["n"]) for row in log if row["__op"] == "u"} == {(1, 3), (2, 2), (3, 2)}
    assert all(row["__unchanged"] is None for row in log)
    assert world.rows("docs") == [
        tuple(row)
        for row in sorted(world.database.fetch("SELECT id, n, body, doc::text, raw, tags FROM docs"), key=repr)
    ]


@pytest.mark.must_not_fail(24)
def test_a_missing_privilege_ends_the_epoch_with_our_error(world: World) -> None:
    role = f"plain_{world.database.name}"
    world.database.execute(f"CREATE ROLE {role} LOGIN", "INSERT INTO docs SELECT 1, 0, " + row_values(1))
    with world.run() as run:
        run.caught_up()
    world.database.execute("UPDATE docs SET n = 1")
    try:
        dsn = world.database.dsn.replace("postgres@", f"{role}@")
        with pytest.raises(CheckFailed, match="docs"), world.run(filler=source_filler(world, dsn=dsn)) as run:
            run.end()
    finally:
        world.database.execute(f"DROP ROLE {role}")


@pytest.mark.must_not_fail(17)
def test_a_locked_table_stays_marked_and_the_stream_goes_on(world: World) -> None:
    world.database.execute("INSERT INTO docs SELECT 1, 0, " + row_values(1))
    with world.run() as run:
        run.caught_up()
    world.database.execute("UPDATE docs SET n = 1")
    limits = Limits(fetch_timeout_ms=100, checkpoint_interval_ms=1)
    reader = RowReader(world.database.dsn, publication="p", timeout_ms=100)
    filler = SourceFill(reader, clock=SystemClock(), limits=limits, is_full=False)
    with world.database.connect(autocommit=False) as connection:
        connection.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        with world.run(filler=filler) as run:
            run.until(lambda: run.has_rows(LOG, 1), "the update is logged")
        connection.rollback()
    assert log_of(world)[-1]["__unchanged"] == ["body", "doc", "raw", "tags"]
    assert filler.counts[TableName("public", "docs")] == GapCount(0, 4)
