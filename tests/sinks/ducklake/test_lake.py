"""What a lake adds to a DuckDB file: commit messages, time travel, upkeep, its own types, shared catalogs."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest

from sinks.duckdb.lanes import table_of
from sinks.duckdb.reader import log_rows, mirror_rows
from sinks.duckdb.types import LAKE, for_scan
from sinks.ducklake import FACTORY
from sinks.ducklake.config import CatalogKind, read_options
from sinks.ducklake.extensions import load
from sinks.ducklake.session import LakeSession
from sinks.ducklake.sink import DuckLakeSink
from sinks.ducklake.upkeep import NOTES_MAX
from tests.sinks.ducklake.conftest import LANE, lake_options, new_sink, reading
from tests.sinks.ducklake.second_engine import windows as windows_of
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import ConfigError, MissingExtra, OutcomeUnknown, Refused, Superseded, Transient, WallabyError
from wallaby.lsn import START, Lsn, Position
from wallaby.testing.changes import NewShape, Stream, insert, table, update
from wallaby.testing.history import RandomHistory
from wallaby.testing.postgres import ScratchDatabase
from wallaby.transform.state import derive_state
from wallaby.window import CommitToken, LaneId, Window

Make = Callable[..., DuckLakeSink]
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def growing(count: int) -> list[Window]:
    """One order per window."""
    stream = Stream()
    for number in range(count):
        stream.transaction([(ORDERS, insert(number, f"{number}"))])
    return list(stream.windows())


def test_what_does_not_fit_into_memory_goes_to_a_folder_of_the_engine_alone(tmp_path: Path) -> None:
    """Engines of one folder overwrite each other's files there, and read what the other wrote."""
    read = read_options(lake_options(tmp_path, CatalogKind.SQLITE))
    sessions = [LakeSession(read), LakeSession(read)]
    folders = [Path(str(session.query("SELECT current_setting('temp_directory')")[0][0])) for session in sessions]
    assert folders[0] != folders[1]
    assert all(folder.is_dir() for folder in folders)
    sessions[0].close()
    sessions[1]._discard()
    assert not any(folder.exists() for folder in folders)


def test_every_commit_says_which_lane_moved_from_where_to_where(make_sink: Make, options: dict[str, Any]) -> None:
    windows = growing(2)
    TestLane(make_sink(), LANE, 7).apply_all(windows)
    with reading(options) as connection:
        rows = connection.execute(
            "SELECT author, commit_message, commit_extra_info FROM ducklake_snapshots('ducklake')"
            " WHERE commit_extra_info IS NOT NULL ORDER BY snapshot_id"
        ).fetchall()
    assert [author for author, _, _ in rows] == ["wallaby", "wallaby"]
    extra = [json.loads(text) for _, _, text in rows]
    assert [(one["after"], one["upto"]) for one in extra] == [(str(w.after), str(w.upto)) for w in windows]
    assert {(one["flow"], one["destination"], one["lane"], one["epoch"]) for one in extra} == {("shop", "copy", 0, 7)}


def test_a_reader_finds_the_table_as_of_an_lsn(make_sink: Make, options: dict[str, Any]) -> None:
    """The query of docs/destinations/ducklake.md. Commits of a copy, and replays, are as of no LSN."""
    page = (Path(__file__).parents[3] / "docs" / "destinations" / "ducklake.md").read_text(encoding="utf-8")
    [query] = [block for block in page.split("```sql\n")[1:] if "commit_extra_info" in block]
    query = query.split("```")[0]
    stream = Stream()
    stream.copy(ORDERS, [(0, "0")])
    stream.transaction([(ORDERS, insert(1, "1"))])
    stream.transaction([(ORDERS, insert(2, "2"))])
    windows = stream.windows()
    sink = make_sink()
    TestLane(sink, LANE).apply_all(windows)
    replay = Stream()
    replay.transaction([(ORDERS, insert(9, "a dead letter"))])
    TestLane(sink, LANE.beside).apply(replace(replay.windows()[0], after=START, upto=Position(Lsn(1), 1)))
    query = query.replace("lake.", "ducklake.").replace("'lake'", f"'{LANE.destination}'")
    asked, before = (query.replace("16/B374D848", str(lsn)) for lsn in (windows[1].upto.lsn, Lsn(1)))
    with reading(options) as connection:
        assert connection.execute(before).fetchall() == [(None,)]
        [(snapshot,)] = connection.execute(asked).fetchall()
        found = connection.execute(f"SELECT id FROM ducklake.public.orders AT (VERSION => {snapshot}) ORDER BY id")
        assert found.fetchall() == [(0,), (1,)]


def test_small_files_are_merged_between_commits_and_old_snapshots_end_when_asked(
    make_sink: Make, options: dict[str, Any]
) -> None:
    lane = TestLane(make_sink(merge_every=10, retention="1us"), LANE)
    lane.apply_all(growing(25))
    with reading(options) as connection:
        [(files,)] = connection.execute(
            "SELECT file_count FROM ducklake_table_info('ducklake') WHERE table_name = 'orders'"
        ).fetchall()
        [(snapshots,)] = connection.execute("SELECT count(*) FROM ducklake_snapshots('ducklake')").fetchall()
        assert connection.execute("SELECT count(*), max(id) FROM public.orders").fetchall() == [(25, 24)]
    assert files <= 10
    assert snapshots <= 20


def test_the_notes_about_many_tables_are_in_few_files(make_sink: Make, options: dict[str, Any]) -> None:
    """Each table that is met makes one and reads them all."""
    sink = make_sink()
    sink.recover(LANE, 1)
    count = 2 * NOTES_MAX + 3
    for number in range(count):
        sink.ensure_table(table(f"public.t{number}", {"id": "int8"}, key=["id"]))
    with reading(options) as connection:
        [(files,)] = connection.execute(
            "SELECT file_count FROM ducklake_table_info('ducklake') WHERE table_name = 'tables'"
        ).fetchall()
        assert connection.execute("SELECT count(DISTINCT target_table) FROM wallaby.tables").fetchall() == [(count,)]
    assert files < NOTES_MAX


def test_without_a_retention_every_snapshot_stays(make_sink: Make, options: dict[str, Any]) -> None:
    TestLane(make_sink(merge_every=5), LANE).apply_all(growing(12))
    with reading(options) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM ducklake_snapshots('ducklake') WHERE commit_extra_info IS NOT NULL"
        ).fetchall()
    assert rows == [(12,)]


@pytest.mark.must_not_fail(12)
def test_intervals_are_text_that_loses_nothing() -> None:
    """Parquet's have milliseconds and no sign."""
    one = pa.MonthDayNano([1, -30, 1_000])
    column = pa.chunked_array([pa.array([one, None], pa.month_day_nano_interval())])
    lists = pa.chunked_array([pa.array([None, [one]], pa.list_(pa.month_day_nano_interval())).slice(1)])
    assert for_scan(pa.table({"a": column}), (None,), storage=LAKE).column(0).to_pylist() == [
        "1 mon -30 days 1000 ns",
        None,
    ]
    assert for_scan(pa.table({"a": lists}), (None,), storage=LAKE).column(0).to_pylist() == [["1 mon -30 days 1000 ns"]]


@pytest.mark.must_not_fail(11)
def test_a_column_that_becomes_text_keeps_its_values(make_sink: Make, options: dict[str, Any]) -> None:
    """DuckLake promotes numbers only: the column is made anew, in the barrier's transaction."""
    old = table("public.n", {"id": "int8", "n": "int4", "z": "text"}, key=["id"])
    new = table("public.n", {"id": "int8", "n": "text", "z": "text"}, key=["id"], version=2)
    stream = Stream()
    stream.copy(old, [(1, 17, "a"), (2, None, "b")])
    stream.transaction([NewShape(new), (new, insert(3, "x", "c")), (new, update(1, "y", None, unchanged=["z"]))])
    TestLane(make_sink(), LANE).apply_all(stream.windows())
    with reading(options) as connection:
        rows = mirror_rows(connection, new).select(["id", "n", "z"]).sort_by("id").to_pylist()
    assert [tuple(row.values()) for row in rows] == [(1, "y", "a"), (2, None, "b"), (3, "x", "c")]


@pytest.mark.must_not_fail(13)
def test_values_come_back_exactly_from_a_postgresql_catalog(tmp_path: Path, target_database: ScratchDatabase) -> None:
    """Small commits too: targets are not inlined into the catalog, which gives nested values back altered."""
    schema = table(
        "public.kinds",
        {"id": "int8", "t": "text", "a": "text[]", "j": "jsonb", "b": "bytea", "f": "float8", "d": "date"},
        key=["id"],
    )
    odd = ["", "NULL", 'a"b, {c}', "\\", None, "é\n"]
    rows = [
        (1, 'x"\\,{}', odd, '{"a": [1, "\\u0000"]}', b"\0\xff", -0.0, datetime.date(1, 1, 1)),
        (2, "", [], '"\\ud800"', b"", float("-inf"), None),
    ]
    options = lake_options(tmp_path, CatalogKind.POSTGRES, target_database)
    stream = Stream()
    stream.copy(schema, rows)
    sink = FACTORY.create(options, destination="copy")
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    with reading(options) as connection:
        found = mirror_rows(connection, schema).sort_by("id").to_pylist()
    assert [tuple(row.values())[:4] for row in found] == [row[:4] for row in rows]
    assert [(row["b"], str(row["f"])) for row in found] == [(b"\0\xff", "-0.0"), (b"", "-inf")]


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_duckdb_of_somebody_else_reads_what_the_source_has(mode: str, tmp_path: Path) -> None:
    """As the page says: nothing of wallaby's session, and the catalog attached for reading."""
    options = lake_options(tmp_path, CatalogKind.SQLITE)
    history = RandomHistory(6, transactions=8)
    sink = FACTORY.create({**options, "write_mode": mode, "merge_every": 2}, destination="copy")
    TestLane(sink, LANE).apply_all(history.windows(), commit_every=2)
    sink.close()
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        load(connection, "ducklake", "sqlite_scanner")
        connection.execute(f"ATTACH 'ducklake:{options['catalog']}' AS theirs (READ_ONLY); USE theirs")
        for schema in history.tables:
            if mode == "append":
                found = derive_state(schema, log_rows(connection, schema))
            else:
                found = mirror_rows(connection, schema)
            assert canonical_hash(found) == canonical_hash(history.expected(schema)), schema.name


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_users_append_between_write_and_commit_is_survived(mode: str, tmp_path: Path) -> None:
    options = lake_options(tmp_path, CatalogKind.DUCKDB)
    first, second = growing(2)
    lane = TestLane(new_sink({**options, "write_mode": mode}), LANE)
    lane.apply(first)
    lane.write(second)
    lane.writer._apply_gathered()  # type: ignore[attr-defined]
    with reading(options) as connection:
        connection.execute("INSERT INTO public.orders (id, note) VALUES (77, 'theirs')")
    lane.position = lane.writer.commit(lane.token(second.upto, 1)).upto
    lane.sink.close()
    with reading(options) as connection:
        assert connection.execute("SELECT id FROM public.orders ORDER BY id").fetchall() == [(0,), (1,), (77,)]


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize("kind", [CatalogKind.DUCKDB, CatalogKind.POSTGRES])
def test_of_two_writers_with_open_transactions_one_wins(
    kind: CatalogKind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Both have written before either commits: the lake's own conflict detection must come out as Superseded."""
    database = request.getfixturevalue("target_database") if kind is CatalogKind.POSTGRES else None
    options = {**lake_options(tmp_path, kind, database), "write_mode": "append"}
    one, other = (TestLane(new_sink(options), LANE) for _ in range(2))
    first, second = growing(2)
    one.apply(first)
    other.position = first.upto
    for lane in (one, other):
        lane.write(second)
        lane.writer._apply_gathered()  # type: ignore[attr-defined]
    one.writer.commit(one.token(second.upto, 1))
    with pytest.raises(Superseded):
        other.writer.commit(CommitToken(LANE, 1, first.upto, Position(Lsn(second.upto.lsn + 1)), 1))
    with reading(options) as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchall() == [(2,)]
    one.sink.close()
    other.sink.close()


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize(
    ("flow", "upto", "expected"),
    [("one", 2, ["committed"]), ("one", 3, ["Superseded"]), ("two", 2, ["Conflict", "committed"])],
    ids=["the same commit", "a stale commit", "another flow's commit"],
)
def test_a_commit_that_another_engine_overtook_in_sqlite_knows_what_became_of_it(
    flow: str, upto: int, expected: list[str], tmp_path: Path
) -> None:
    """The other process has its transaction open while we commit to the same catalog."""
    options = {**lake_options(tmp_path, CatalogKind.SQLITE), "write_mode": "append"}
    ours = windows_of("one", 3)
    lane = TestLane(FACTORY.create(options, destination="copy"), LaneId("one", "copy"))
    lane.apply(ours[0])
    words = [json.dumps(options), flow, "1" if flow == "one" else "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sinks.ducklake.second_engine", *words],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written\n"
        lane.apply_all(ours[1:upto])
        said, _ = other.communicate("commit\n", timeout=120)
    assert json.loads(said) == expected
    lane.sink.close()
    with reading(options) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT id) FROM public.one").fetchall() == [(upto, upto)]
        if flow == "two":
            assert connection.execute("SELECT id FROM public.two").fetchall() == [(0,)]


class LosesAnswers:
    """A connection whose next COMMIT ends in an error, carried out or not."""

    def __init__(self, inside: Any, *, carries_out: bool) -> None:
        self._inside = inside
        self._carries_out = carries_out

    def execute(self, statement: str, *parameters: Any) -> Any:
        if statement != "COMMIT":
            return self._inside.execute(statement, *parameters)
        if self._carries_out:
            self._inside.execute(statement)
        raise duckdb.IOException("the answer was lost")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize("kind", [CatalogKind.SQLITE, CatalogKind.POSTGRES])
@pytest.mark.parametrize("carries_out", [True, False])
def test_the_record_tells_what_became_of_a_commit_without_an_answer(
    kind: CatalogKind, carries_out: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A server may carry out later what it has not carried out yet, so there only its success is known."""
    database = request.getfixturevalue("target_database") if kind is CatalogKind.POSTGRES else None
    options = {**lake_options(tmp_path, kind, database), "write_mode": "append"}
    sink = FACTORY.create(options, destination="copy")
    session: Any = sink._session  # type: ignore[attr-defined]  # every sink of DuckDB's engine has one
    lane = TestLane(sink, LANE)
    first, second = growing(2)
    lane.apply(first)
    lane.write(second)
    session._connection = LosesAnswers(session.connect(), carries_out=carries_out)
    if carries_out:
        assert lane.writer.commit(lane.token(second.upto, 1)).upto == second.upto
    else:
        with pytest.raises(Transient if kind is CatalogKind.SQLITE else OutcomeUnknown):
            lane.writer.commit(lane.token(second.upto, 1))
        lane.apply(second)
    assert session.query("SELECT count(*), max(id) FROM public.orders") == [(2, 1)]
    sink.close()


@pytest.mark.must_not_fail(20)
def test_lanes_of_several_flows_commit_to_one_catalog_without_conflict(
    tmp_path: Path, target_database: ScratchDatabase
) -> None:
    """Both transactions are open when the first commits, as two processes have it."""
    options = lake_options(tmp_path, CatalogKind.POSTGRES, target_database)
    lanes = []
    for number, name in enumerate(("one", "two")):
        sink = FACTORY.create({**options, "schema": name}, destination="copy")
        lanes.append(TestLane(sink, LaneId(name, "copy"), 1))
        lanes[number].sink.ensure_table(table(f"public.{name}", {"id": "int8"}, key=["id"]))
    streams = []
    for lane in lanes:
        schema = table(f"public.{lane.lane.flow}", {"id": "int8"}, key=["id"])
        stream = Stream()
        for number in range(3):
            stream.transaction([(schema, insert(number))])
        streams.append(stream.windows())
    for windows in zip(*streams, strict=True):
        for lane, window in zip(lanes, windows, strict=True):
            lane.write(window)
            lane.writer._apply_gathered()  # type: ignore[attr-defined]
        for lane, window in zip(lanes, windows, strict=True):
            lane.position = lane.writer.commit(lane.token(window.upto, 1)).upto
    for lane in lanes:
        lane.sink.close()
    with reading(options) as connection:
        assert connection.execute("SELECT count(*) FROM one.one").fetchall() == [(3,)]
        assert connection.execute("SELECT count(*) FROM two.two").fetchall() == [(3,)]


def test_a_users_own_compaction_is_survived(make_sink: Make, options: dict[str, Any]) -> None:
    lane = TestLane(make_sink(), LANE)
    windows = growing(4)
    lane.apply_all(windows[:3])
    with reading(options) as connection:
        connection.execute("CALL ducklake_merge_adjacent_files('ducklake')")
        connection.execute("CALL ducklake_flush_inlined_data('ducklake')")
    lane.apply(windows[3])
    with reading(options) as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchall() == [(4,)]


@pytest.mark.must_not_fail(20)
def test_a_catalog_another_process_has_open_is_a_passing_error_naming_it(
    options: dict[str, Any], make_sink: Make
) -> None:
    first = make_sink()
    first.recover(LANE, 1)
    first.close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, options["catalog"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        sink = FACTORY.create(options, destination="copy")
        with pytest.raises(Transient) as locked:
            sink.open()
        assert str(holder.pid) in locked.value.advice
        assert [finding.code for finding in sink.check()] == ["locked"]
        holder.kill()


def test_checking_creates_nothing(tmp_path: Path, target_database: ScratchDatabase) -> None:
    for kind in CatalogKind:
        sink = FACTORY.create(lake_options(tmp_path, kind, target_database), destination="copy")
        sink.open()
        assert sink.check((ORDERS,)) == []
        sink.close()
    assert list(tmp_path.iterdir()) == []
    with psycopg.connect(target_database.dsn) as connection:
        found = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'ducklake%'").fetchall()
    assert found == [(0,)]


@pytest.mark.must_not_fail(24)
def test_a_catalog_that_does_not_answer_is_found_and_its_password_not_shown(tmp_path: Path) -> None:
    dsn = "postgresql://lake:sekret@127.0.0.1:1/lake"
    sink = FACTORY.create({"catalog": f"postgres:{dsn}", "data_path": str(tmp_path / "data")}, destination="copy")
    [finding] = sink.check()
    assert finding.code == "destination-unreachable"
    with pytest.raises(Transient) as refused:
        sink.recover(LANE, 1)
    assert "sekret" not in f"{finding} {refused.value!r} {refused.value} {sink!r} {refused.value.__cause__}"


def test_a_moved_data_path_is_refused_unless_it_is_said(make_sink: Make, options: dict[str, Any]) -> None:
    first = make_sink()
    first.recover(LANE, 1)
    first.close()
    moved = options["data_path"] + "-moved"
    with pytest.raises(Refused, match="another path"):
        make_sink(data_path=moved)
    make_sink(data_path=moved, override_data_path=True).recover(LANE, 1)


def test_a_new_lake_needs_a_data_path(options: dict[str, Any]) -> None:
    sink = FACTORY.create({"catalog": options["catalog"]}, destination="copy")
    assert [finding.code for finding in sink.check()] == ["missing-data-path"]


def test_an_extension_that_is_not_installed_is_named() -> None:
    with pytest.raises(MissingExtra, match="duckdb-extension-marsupial"):
        load(None, "marsupial")  # type: ignore[arg-type]  # it is not reached


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"catalog": ":memory:"}, "catalog"),
        ({"catalog": "mysql://host/db"}, "catalog"),
        ({"catalog": "postgres:dbname=x", "data_path": "data"}, "data_path"),
        ({"data_path": "gs://bucket/x"}, "data_path"),
        ({"data_path": "s3:///x"}, "data_path"),
        ({"data_path": None, "override_data_path": True}, "override_data_path"),
        ({"endpoint": "http://127.0.0.1"}, "endpoint"),
        ({"data_path": "s3://b/x", "access_key": "a"}, "secret_key"),
        ({"unrepresentable": "text"}, "unrepresentable"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], more: dict[str, Any], field: str) -> None:
    given = {name: value for name, value in {**options, **more}.items() if value is not None}
    with pytest.raises(ConfigError) as refused:
        FACTORY.describe(given)
    assert refused.value.where["field"] == field


def test_the_go_wallabys_options_are_read(options: dict[str, Any]) -> None:
    go = {
        "dsn": ":memory:",
        "install_extensions": "true",
        "override_data_path": "false",
        "catalog_name": "lake",
        "batch_mode": "staging",
        "batch_resolution": "replace",
        "staging_schema": "s",
        "staging_suffix": "_staging",
    }
    assert FACTORY.describe({**options, **go, "catalog": f"ducklake:{options['catalog']}"})


def test_lanes_have_tables_of_their_own(make_sink: Make) -> None:
    sink = make_sink()
    names = {table_of(sink._session, LaneId("shop", "copy", number, 2)) for number in range(2)}
    for number in range(2):
        sink.recover(LaneId("shop", "copy", number, 2), 1)
    found = sink._session.query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'wallaby'")
    assert names <= {str(name) for (name,) in found}
    with pytest.raises(WallabyError, match="name-collision"):
        make_sink(schema="wallaby", table=min(names)).ensure_table(ORDERS)
