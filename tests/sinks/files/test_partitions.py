"""Which folder a row lies in."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from sinks.files import FACTORY, table_files
from sinks.files.config import read_options
from sinks.files.partition import Partition
from sinks.files.reader import committed_files, read_log
from sinks.files.split import NULL_FOLDER, split
from tests.sinks.lane import TestLane
from wallaby.errors import ConfigError
from wallaby.testing.changes import Stream, Truncate, delete, insert, table
from wallaby.transform.append import append_rows
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table(
    "public.orders", {"id": "int8", "region": "text", "created": "timestamptz", "price": "float8"}, key=["id"]
)


def folders(rows: pa.Table, *partitions: str) -> dict[str, list[Any]]:
    found = split(rows, tuple(map(Partition.parse, partitions)))
    return {folder: own.column("n").to_pylist() for folder, own in found}


def column(kind: pa.DataType, values: list[Any]) -> pa.Table:
    return pa.table({"c": pa.array(values, kind), "n": range(len(values))})


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.int32(), [1, None, 1, -2], {"c=1": [0, 2], "c=-2": [3], f"c={NULL_FOLDER}": [1]}),
        (pa.bool_(), [True, False, True], {"c=true": [0, 2], "c=false": [1]}),
        (pa.string(), ["a/b", "", "ü", ".."], {"c=a%2Fb": [0], "c=": [1], "c=%C3%BC": [2], "c=%2E%2E": [3]}),
        (pa.date32(), [date(2024, 2, 29), None], {"c=2024-02-29": [0], f"c={NULL_FOLDER}": [1]}),
    ],
    ids=str,
)
def test_values_become_folders(kind: pa.DataType, values: list[Any], expected: dict[str, list[int]]) -> None:
    assert folders(column(kind, values), "c") == expected


@pytest.mark.parametrize(
    ("unit", "label"), [("year", "2024"), ("month", "2024-02"), ("day", "2024-02-29"), ("hour", "2024-02-29T23")]
)
@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", tz="UTC")], ids=str)
def test_times_become_buckets_in_utc(unit: str, label: str, kind: pa.DataType) -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC if kind.tz else None)
    assert folders(column(kind, [moment, None]), f"c:{unit}") == {
        f"c_{unit}={label}": [0],
        f"c_{unit}={NULL_FOLDER}": [1],
    }


def test_times_beyond_the_calendar_count_as_null() -> None:
    far = pa.table({"c": pa.array([2**62, 0, -(2**62)]).cast(pa.timestamp("us")), "n": [0, 1, 2]})
    assert folders(far, "c:day") == {"c_day=1970-01-01": [1], f"c_day={NULL_FOLDER}": [0, 2]}


@pytest.mark.parametrize("name", ["c", "c" * 63, "ü" * 31])
def test_no_value_is_too_long_for_a_folder(name: str, tmp_path: Path) -> None:
    """Of a file system's 255 bytes a long name leaves little; two long values stay two folders."""
    rows = pa.table({name: ["x" * 300 + "a", "x" * 300 + "b", "x" * 300 + "a"], "n": range(3)})
    found = folders(rows, name)
    assert sorted(found.values()) == [[0, 2], [1]]
    for folder in found:
        (tmp_path / folder).mkdir()


@pytest.mark.must_not_fail(12)
def test_dates_beyond_the_calendar_count_as_null() -> None:
    """PostgreSQL's go to the year 5874897, and not even a timestamp of microseconds goes so far."""
    days = [2_145_031_948, 2_932_897, 2_932_896, -719_162, -719_163]
    far = pa.table({"c": pa.array(days, pa.int32()).cast(pa.date32()), "n": range(5)})
    known = {"9999-12-31": [2], "0001-01-01": [3]}
    for by, label in (("c", "c"), ("c:day", "c_day")):
        expected = {f"{label}={day}": rows for day, rows in known.items()}
        assert folders(far, by) == {**expected, f"{label}={NULL_FOLDER}": [0, 1, 4]}


def test_folders_nest_in_the_order_asked_for_and_keep_the_rows_order() -> None:
    rows = pa.table({"a": ["x", "y", "x", "x"], "b": [1, 1, 1, 2], "n": range(4)})
    assert folders(rows, "b", "a") == {"b=1/a=x": [0, 2], "b=1/a=y": [1], "b=2/a=x": [3]}


def test_a_partitioned_log_is_whole_and_read_by_its_folders(tmp_path: Path) -> None:
    stream = Stream()
    stream.transaction(
        [
            (ORDERS, insert(n, ["eu", "us", None][n % 3], datetime(2024, 1, 1 + n % 2, tzinfo=UTC), 0.5))
            for n in range(12)
        ]
    )
    stream.transaction([(ORDERS, delete(3))])
    stream.transaction([Truncate((ORDERS.name,))])
    options = {"path": str(tmp_path), "fsync": False, "partition_by": "region, created:day"}
    TestLane(FACTORY.create(options, destination="copy"), LANE).apply_all(stream.windows())
    assert read_log(tmp_path, "public", "orders").num_rows == 14
    paths = [file.path.split("/")[2:4] for file in committed_files(tmp_path)]
    assert ["region=eu", "created_day=2024-01-01"] in paths
    assert [f"region={NULL_FOLDER}", f"created_day={NULL_FOLDER}"] in paths
    found = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{tmp_path}/public/orders/**/*.parquet', hive_partitioning = true)"
        " WHERE region = 'eu' AND created_day = '2024-01-01'"
    ).fetchall()
    assert found == [(2,)]


@pytest.mark.parametrize(
    ("bytes_max", "files"), [(1 << 20, 10), (1, 10 + 2 * 7)], ids=["a file per folder", "written when too many wait"]
)
@pytest.mark.parametrize("direct_rows", [1, 1 << 20], ids=["window by window", "gathered"])
def test_more_folders_than_open_files_are_all_written_in_order(
    bytes_max: int, files: int, direct_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten folders and room for three; three windows with a row for each, whose buffers are gone after each call."""
    monkeypatch.setattr(table_files, "OPEN_FILES_MAX", 3)
    monkeypatch.setattr(table_files, "WAITING_BYTES_MAX", bytes_max)
    monkeypatch.setattr(table_files, "_DIRECT_ROWS", direct_rows)
    stream = Stream()
    for first in range(0, 30, 10):
        stream.transaction([(ORDERS, insert(first + n, f"r{n}", None, None)) for n in range(10)])
    stream.transaction([(ORDERS, insert(30, "r9", None, None))])
    options = {"path": str(tmp_path), "fsync": False, "partition_by": ["region"]}
    lane = TestLane(FACTORY.create(options, destination="copy"), LANE)
    windows = stream.windows()
    for window in windows:
        lane.sink.ensure_table(ORDERS)
        lent = [bytearray(part.data) for part in window.parts]
        parts = tuple(replace(part, data=pa.py_buffer(own)) for part, own in zip(window.parts, lent, strict=True))
        lane.writer.write(replace(window, parts=parts))
        for own in lent:
            own[:] = bytes(len(own))
    lane.writer.commit(lane.token(windows[-1].upto, 31))
    log = read_log(tmp_path, "public", "orders")
    found: dict[str, list[int]] = {}
    for row in log.select(["id", "region"]).to_pylist():
        found.setdefault(row["region"], []).append(row["id"])
    assert found == {f"r{n}": [n, n + 10, n + 20, *([30] if n == 9 else [])] for n in range(10)}
    assert direct_rows > 1 or len(committed_files(tmp_path)) == files
    assert not list(tmp_path.rglob("*.part"))


def test_a_row_that_waits_for_its_folder_does_not_keep_the_rows_it_came_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(table_files, "OPEN_FILES_MAX", 1)
    numbers = itertools.count()
    options = read_options({"path": str(tmp_path), "partition_by": "region", "row_group_rows": 1024})
    stream = Stream()
    noted = table("public.noted", {"id": "int8", "region": "text", "note": "text"}, key=["id"])
    regions = ["a"] * 1023 + ["b"]
    stream.transaction([(noted, insert(n, region, "x" * 1000)) for n, region in enumerate(regions)])
    [window] = stream.windows()
    files = table_files.TableFiles(noted, options, place=lambda: tmp_path / str(next(numbers)), origin={}, fsync=False)
    rows = append_rows(noted, window.parts[0].table(), keep_outliers=options.keeps_outliers)
    files.write_rows(rows)
    before = pa.total_allocated_bytes()
    for _ in range(20):
        files.write_rows(rows)
    held = pa.total_allocated_bytes() - before
    files.discard()
    assert held < 4 * rows.nbytes


@pytest.mark.parametrize("entry", ["absent", "price", "created", "region:day"])
def test_a_column_that_cannot_be_a_folder_is_found_before_the_flow_starts(entry: str, tmp_path: Path) -> None:
    sink = FACTORY.create({"path": str(tmp_path), "partition_by": entry}, destination="copy")
    [finding] = sink.check((ORDERS,))
    assert (finding.code, bool(finding.advice)) == ("table-shape", True)
    with pytest.raises(ConfigError) as wrong:
        sink.ensure_table(ORDERS)
    assert wrong.value.where["field"] == "partition_by"


@pytest.mark.parametrize("entry", ["created:week", ":day", "a_day,a:day"])
def test_what_says_no_folder_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe({"path": "x", "partition_by": entry})
    assert wrong.value.where["field"].startswith("partition_by")


def test_reading_options_loads_no_arrow() -> None:
    program = """
import sys, sinks.azure, sinks.files, sinks.gcs, sinks.s3
sys.exit(bool({"pyarrow", "boto3", "google.cloud.storage", "azure.storage.blob"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
