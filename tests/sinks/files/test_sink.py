"""Checking, writing and reading a directory of Parquet files."""

from __future__ import annotations

import datetime
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sinks.files import FACTORY
from sinks.files import writer as writer_module
from sinks.files.manifests import Entry, ManifestLog
from sinks.files.reader import committed_files, read_log
from sinks.files.sink import FilesSink
from tests.sinks.lane import TestLane
from wallaby.errors import ConfigError, Transient
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.sink import Guarantee, Severity
from wallaby.testing.changes import Outlier, Stream, Truncate, insert, table
from wallaby.transform.append import OUTLIERS
from wallaby.window import LaneId
from wallaby.wire.parquet_types import INTERVAL_TYPE

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
Make = Callable[..., FilesSink]


@pytest.fixture
def make_sink(tmp_path: Path) -> Iterator[Make]:
    made: list[FilesSink] = []

    def make(**options: Any) -> FilesSink:
        sink = FACTORY.create({"path": str(tmp_path), "fsync": False, **options}, destination="copy")
        assert isinstance(sink, FilesSink)
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


def test_a_manifest_names_what_the_file_is(make_sink: Make, tmp_path: Path) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a")), (ORDERS, insert(2, "b"))])
    [window] = stream.windows()
    TestLane(make_sink(fsync=True), LANE).apply(window)
    [file] = committed_files(tmp_path)
    content = (tmp_path / file.path).read_bytes()
    assert (file.rows, file.bytes, file.sha256) == (2, len(content), hashlib.sha256(content).hexdigest())
    footer = pq.ParquetFile(tmp_path / file.path).metadata.metadata
    assert footer[b"wallaby.flow"] == b"shop"
    assert footer[b"wallaby.upto"] == str(window.upto).encode()


def test_uncommitted_rows_match_no_glob(make_sink: Make, tmp_path: Path) -> None:
    stream = Stream()
    stream.copy(ORDERS, [(1, "a")])
    lane = TestLane(make_sink(), LANE)
    lane.write(stream.windows()[0])
    assert list(tmp_path.rglob("*.parquet")) == []


def test_windows_of_one_commit_share_a_file_per_table(make_sink: Make, tmp_path: Path) -> None:
    stream = Stream()
    for number in range(20):
        stream.transaction([(ORDERS, insert(number, "a"))])
    TestLane(make_sink(), LANE).apply_all(stream.windows(), commit_every=20)
    [file] = committed_files(tmp_path)
    assert pq.ParquetFile(tmp_path / file.path).metadata.num_row_groups == 1


def test_a_committed_file_is_read_even_before_it_has_its_final_name(make_sink: Make, tmp_path: Path) -> None:
    stream = Stream()
    stream.copy(ORDERS, [(1, "a")])
    sink = make_sink()
    TestLane(sink, LANE).apply(stream.windows()[0])
    [file] = committed_files(tmp_path)
    os.replace(tmp_path / file.path, tmp_path / file.staged)
    assert read_log(tmp_path, "public", "orders").num_rows == 1
    sink.recover(LANE, 2)
    assert (tmp_path / file.path).exists()
    assert not (tmp_path / file.staged).exists()


@pytest.mark.must_not_fail(12)
@pytest.mark.must_not_fail(13)
def test_values_come_back_exactly(make_sink: Make, tmp_path: Path) -> None:
    plain = table(
        "public.kinds",
        {"id": "int8", "u": "uuid", "j": "json", "us": "uuid[]", "wide": "numeric(60,10)", "tz": "timestamptz"},
        key=["id"],
    )
    interval = PgType(1186, "interval")
    several = PgType(1187, "_interval", kind=TypeKind.ARRAY, element=interval)
    schema = TableSchema(1, plain.name, (*plain.columns, Column("iv", interval), Column("ivs", several)))
    one = uuid.uuid4().bytes
    span = pa.MonthDayNano([14, -3, 1_000])
    moment = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    rows = [
        (
            1,
            one,
            '"\\ud800"',
            [one, None],
            Decimal("12345678901234567890123456789012345678901.5"),
            moment,
            span,
            [span, None],
        ),
        (2, None, None, None, None, None, None, None),
        (3, one, "{}", [], Decimal("-0.0000000001"), moment, None, []),
    ]
    stream = Stream()
    stream.copy(schema, rows)
    TestLane(make_sink(), LANE).apply_all(stream.windows())
    log = read_log(tmp_path, "public", "kinds")
    assert [tuple(row.values())[:8] for row in log.to_pylist()] == rows
    [file] = committed_files(tmp_path)
    stored = pq.ParquetFile(tmp_path / file.path)
    assert "UUID" in str(stored.schema.column(1).logical_type)
    assert not hasattr(pa, "json_") or "JSON" in str(stored.schema.column(2).logical_type)
    assert stored.schema_arrow.field("iv").type == INTERVAL_TYPE


def test_unrepresentable_values_are_kept_as_text_when_so_asked(make_sink: Make, tmp_path: Path) -> None:
    schema = table("public.odd", {"id": "int8", "value": "date"}, key=["id"])
    stream = Stream()
    stream.copy(schema, [(1, Outlier("infinity"))])
    TestLane(make_sink(unrepresentable="text"), LANE).apply_all(stream.windows())
    log = read_log(tmp_path, "public", "odd")
    assert log.column("value").to_pylist() == [None]
    assert log.column(OUTLIERS).to_pylist() == [[{"column": "value", "text": "infinity"}]]


@pytest.mark.must_not_fail(11)
def test_files_of_different_shapes_are_read_together(make_sink: Make, tmp_path: Path) -> None:
    wider = table("public.orders", {"id": "numeric(20,0)", "note": "text", "extra": "int4"}, key=["id"], version=2)
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([(wider, insert(Decimal(2), "b", 7))])
    TestLane(make_sink(), LANE).apply_all(stream.windows(), commit_every=2)
    assert len(committed_files(tmp_path)) == 2
    log = read_log(tmp_path, "public", "orders")
    assert [int(number) for number in log.column("id").to_pylist()] == [1, 2]
    assert log.column("extra").to_pylist() == [None, 7]


def test_a_truncate_is_a_row_and_an_event(make_sink: Make, tmp_path: Path) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([Truncate((ORDERS.name, TableName("public", "never_seen")))])
    TestLane(make_sink(), LANE).apply_all(stream.windows())
    assert read_log(tmp_path, "public", "orders").column("__op").to_pylist() == ["i", "t"]
    assert read_log(tmp_path, "public", "never_seen").column("__op").to_pylist() == ["t"]


def test_a_table_that_is_renamed_goes_on_in_the_log_it_was_given(make_sink: Make, tmp_path: Path) -> None:
    renamed = replace(ORDERS, name=TableName("public", "purchases"))
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a"))])
    stream.transaction([(renamed, insert(2, "b"))])
    TestLane(make_sink(table="orders"), LANE).apply_all(stream.windows())
    assert read_log(tmp_path, "public", "orders").column("id").to_pylist() == [1, 2]


def test_reset_leaves_foreign_files_and_other_lanes_alone(make_sink: Make, tmp_path: Path) -> None:
    stream = Stream()
    stream.copy(ORDERS, [(1, "a")])
    [window] = stream.windows()
    other = LaneId("shop", "copy", 1, 2)
    sink = make_sink()
    TestLane(sink, LANE).apply(window)
    TestLane(sink, other).apply(window)
    foreign = tmp_path / "public" / "orders" / "mine.parquet"
    foreign.write_bytes(b"")
    sink.reset_table(ORDERS.name, LANE, 1)
    assert foreign.exists()
    assert read_log(tmp_path, "public", "orders").num_rows == 1
    assert len(list(tmp_path.rglob("*.parquet"))) == 2


@pytest.mark.must_not_fail(20)
def test_a_reset_that_slept_after_its_entry_spares_the_copy_of_its_successor(
    make_sink: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream()
    stream.copy(ORDERS, [(1, "a")])
    [window] = stream.windows()
    late = make_sink()
    TestLane(late, LANE, 1).apply(window)
    append = ManifestLog.append

    def slept(log: ManifestLog, entry: Entry) -> bool:
        is_made = append(log, entry)
        monkeypatch.undo()
        successor = make_sink()
        successor.recover(LANE, 2)
        successor.reset_table(ORDERS.name, LANE, 2)
        successor.reset_lane(LANE, 2)
        TestLane(successor, LANE, 2).apply(window)
        return is_made

    monkeypatch.setattr(ManifestLog, "append", slept)
    late.reset_table(ORDERS.name, LANE, 1)
    assert read_log(tmp_path, "public", "orders").column("id").to_pylist() == [1]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_the_directory_must_be_there_and_ours(tmp_path: Path) -> None:
    def codes(path: Path) -> list[str]:
        return [finding.code for finding in FACTORY.create({"path": str(path)}, destination="copy").check()]

    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert codes(tmp_path / "missing") == ["missing-folder"]
    assert codes(tmp_path / "file") == ["not-a-directory"]
    assert codes(tmp_path) == ["foreign-files"]
    assert codes(tmp_path / "empty") == []
    with pytest.raises(Transient):
        FACTORY.create({"path": str(tmp_path / "missing")}, destination="copy").recover(LANE, 1)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("sealed", ["", "_wallaby"], ids=["root", "own folder"])
def test_a_directory_that_can_only_be_read_is_found(
    sealed: str, make_sink: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere: what the system says of one folder is replaced."""
    make_sink().recover(LANE, 1)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path / sealed)
    [finding] = make_sink().check((ORDERS,))
    assert (finding.code, finding.severity, bool(finding.advice)) == ("read-only", Severity.ERROR, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_passing_error_and_leaves_nothing(make_sink: Make, tmp_path: Path) -> None:
    """A staging folder that points to a device without room: writing fails, the lane stays where it was."""
    stream = Stream()
    stream.copy(ORDERS, [(1, "a")])
    [window] = stream.windows()
    lane = TestLane(make_sink(), LANE)
    lane.write(window)
    [staged] = tmp_path.rglob("*.part")
    writer: Any = lane.writer
    [files] = writer._open.values()
    [file] = files._open.values()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._file._file.fileno())
    os.close(full)
    with pytest.raises(Transient, match="no space left"):
        lane.writer.commit(lane.token(window.upto, 1))
    assert not staged.exists()
    assert committed_files(tmp_path) == ()
    lane.apply(window)
    assert read_log(tmp_path, "public", "orders").num_rows == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "path"),
        ({"path": "s3://bucket"}, "path"),
        ({"path": "x", "write_mode": "target"}, "write_mode"),
        ({"path": "x", "compression": "rar"}, "compression"),
        ({"path": "x", "compresion": "zstd"}, "compresion"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field


def test_the_guarantee_is_exactly_once_and_commits_come_once_a_second(make_sink: Make) -> None:
    sink = make_sink()
    assert sink.capabilities.guarantee is Guarantee.EXACTLY_ONCE
    assert sink.commit_interval_ms == 1_000
    assert ReplicaIdentity.DEFAULT is ORDERS.identity


def test_many_tables_keep_no_more_rows_in_memory_than_the_limit(
    make_sink: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps little, and is far from a row group of its own."""
    monkeypatch.setattr(writer_module, "HELD_BYTES_MAX", 1 << 20)
    tables = [table(f"public.t{number}", {"id": "int8", "note": "text"}, key=["id"]) for number in range(20)]
    stream = Stream()
    for first in range(5):
        for one in tables:
            stream.transaction([(one, insert(first * 100 + number, "x" * 500)) for number in range(100)])
    lane = TestLane(make_sink(), LANE)
    kept = []
    windows = stream.windows()
    for window in windows:
        lane.write(window)
        kept.append(lane.writer._held_bytes)
    assert max(kept) <= 1 << 20
    lane.writer.commit(lane.token(windows[-1].upto, 10_000))
    files = committed_files(tmp_path)
    assert [file.rows for file in files] == [500] * 20
    assert read_log(tmp_path, "public", "t7").column("id").to_pylist() == list(range(500))
