"""Opening, checking and preparing a DuckDB file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sinks.duckdb import FACTORY
from sinks.duckdb.session import Session
from sinks.duckdb.sink import DuckDBSink
from tests.sinks.duckdb.conftest import LANE
from tests.sinks.lane import TestLane
from wallaby.errors import ConfigError, Refused, Retry, Transient
from wallaby.lsn import START
from wallaby.sink import Guarantee, Severity
from wallaby.testing.changes import Stream, insert, table
from wallaby.window import CommitToken

Make = Callable[..., DuckDBSink]
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.must_not_fail(20)
def test_a_file_another_process_has_open_is_a_passing_error_naming_it(path: Path, make_sink: Make) -> None:
    duckdb.connect(str(path)).close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        sink = FACTORY.create({"dsn": str(path)}, destination="copy")
        with pytest.raises(Transient) as locked:
            sink.open()
        assert str(holder.pid) in locked.value.advice
        assert locked.value.retry is Retry.LATER
        [finding] = sink.check()
        assert finding.code == "locked"
        holder.kill()
    assert TestLane(make_sink(), LANE).position == START


def test_checking_creates_nothing(path: Path) -> None:
    sink = FACTORY.create({"dsn": str(path)}, destination="copy")
    sink.open()
    assert sink.check((ORDERS,)) == []
    sink.close()
    assert not path.exists()


def test_a_missing_folder_is_found_and_passing(tmp_path: Path) -> None:
    sink = FACTORY.create({"path": str(tmp_path / "not" / "there.duckdb")}, destination="copy")
    [finding] = sink.check()
    assert finding.code == "missing-folder"
    assert finding.advice
    with pytest.raises(Transient):
        sink.recover(LANE, 1)


@pytest.mark.parametrize(("make", "code"), [("folder", "not-a-database"), ("text", "not-a-database")])
def test_something_else_under_the_name_is_found(tmp_path: Path, make: str, code: str) -> None:
    path = tmp_path / "thing"
    if make == "folder":
        path.mkdir()
    else:
        path.write_text("not a database at all, but long enough to look at")
    assert [f.code for f in FACTORY.create({"dsn": str(path)}, destination="copy").check()] == [code]


@pytest.mark.parametrize("sealed", ["lake.duckdb", ""], ids=["file", "folder"])
def test_a_place_that_can_only_be_read_is_found(sealed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere: what the system says of the file, or of its folder, is replaced."""
    path = tmp_path / "lake.duckdb"
    duckdb.connect(str(path)).close()
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path / sealed)
    [finding] = FACTORY.create({"dsn": str(path)}, destination="copy").check((ORDERS,))
    assert (finding.code, finding.severity, bool(finding.advice)) == ("read-only", Severity.ERROR, True)


def test_a_fitting_wider_table_of_somebody_else_is_used_but_never_emptied(path: Path, make_sink: Make) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA public; CREATE TABLE public.orders (id HUGEINT, note VARCHAR, mine INTEGER)")
        connection.execute("INSERT INTO public.orders VALUES (9, 'theirs', 1)")
    sink = make_sink()
    stream = Stream()
    stream.copy(ORDERS, [(1, "ours")])
    TestLane(sink, LANE).apply_all(stream.windows())
    with pytest.raises(Refused, match="before wallaby"):
        sink.reset_table(ORDERS.name, LANE, 1)
    assert sink._session.query("SELECT id FROM public.orders ORDER BY id") == [(1,), (9,)]


def test_to_begin_with_a_table_costs_as_much_whatever_others_there_are(
    make_sink: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement lists all tables or columns, and their number is the same for the last as for the first."""
    asked: list[str] = []
    run = Session._run

    def noted(session: Session, statement: str, *parameters: Any, **where: Any) -> Any:
        asked.append(statement)
        return run(session, statement, *parameters, **where)

    monkeypatch.setattr(Session, "_run", noted)
    sink = make_sink()
    sink.recover(LANE, 1)
    counts = []
    for _ in range(2):
        for number in range(5):
            asked.clear()
            sink.ensure_table(table(f"public.t{number}", {"id": "int8"}, key=["id"]))
            assert not [statement for statement in asked if "duckdb_" in statement]
            counts.append(len(asked))
    assert counts == [counts[0]] * 5 + [counts[5]] * 5


def test_a_record_of_a_newer_format_is_refused(path: Path, make_sink: Make) -> None:
    sink = make_sink()
    sink.recover(LANE, 1)
    sink._session.query("UPDATE wallaby.format SET version = 99")
    with pytest.raises(Refused, match="format 99"):
        sink.recover(LANE, 1)


def test_wallabys_own_tables_are_no_targets(make_sink: Make) -> None:
    with pytest.raises(Refused, match="name-collision"):
        make_sink(schema="wallaby", table="lanes").ensure_table(ORDERS)


def test_the_guarantee_is_exactly_once_and_dsn_may_be_called_path(path: Path) -> None:
    assert FACTORY.describe({"path": str(path)}).guarantee is Guarantee.EXACTLY_ONCE


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "dsn"),
        ({"dsn": ":memory:"}, "dsn"),
        ({"dsn": "x", "unrepresentable": "text"}, "unrepresentable"),
        ({"dsn": "x", "memory_limit": "a lot"}, "memory_limit"),
        ({"dsn": "x", "block_size": "20KiB"}, "block_size"),
        ({"dsn": "x", "thread": 1}, "thread"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field


def test_a_new_file_has_the_blocks_asked_for_and_keeps_them(make_sink: Make) -> None:
    for epoch, options in enumerate([{"block_size": "16KiB"}, {}], 1):
        sink = make_sink(**options)
        sink.recover(LANE, epoch)
        assert sink._session.query("SELECT block_size FROM pragma_database_size()") == [(16_384,)]
        sink.close()


@pytest.mark.must_not_fail(22)
@pytest.mark.parametrize("file", ["shop", "wallaby", "main", "it's"])
def test_a_file_may_be_called_like_a_schema_in_it(tmp_path: Path, file: str) -> None:
    """DuckDB names the catalog after the file; a two-part name is then ambiguous."""
    orders = table("shop.orders", {"id": "int8", "note": "text"}, key=["id"])
    stream = Stream()
    stream.transaction([(orders, insert(1, "a"))])
    [window] = stream.windows()
    sink = FACTORY.create({"dsn": str(tmp_path / f"{file}.duckdb")}, destination="copy")
    sink.open()
    try:
        sink.ensure_table(orders)
        sink.recover(LANE, 1)
        writer = sink.writer(LANE, 1)
        writer.write(window)
        writer.commit(CommitToken(LANE, 1, START, window.upto, 1))
        assert sink.recover(LANE, 2) == window.upto
    finally:
        sink.close()
