"""Avro files: readers that are not ours read them, and what Avro cannot hold is refused."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import sys
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import duckdb
import duckdb_extension_avro
import fastavro
import numpy as np
import pyarrow as pa
import pytest

from tests.wallaby.wire.batches import content, log_batch, reread, written
from wallaby.errors import ConfigError, MissingExtra, RowRefused
from wallaby.memory import POISON
from wallaby.schema import TableName
from wallaby.wire import Compression, WireFormat, WireOptions
from wallaby.wire.avro_schema import avro_schema

DEFLATE = WireOptions(compression=Compression.DEFLATE, table=TableName("public", "orders"))
VALUES: dict[str, tuple[pa.DataType, Any, Any]] = {
    "flag": (pa.bool_(), True, True),
    "small": (pa.int16(), -(2**15), -(2**15)),
    "whole": (pa.int64(), -(2**63), -(2**63)),
    "oid": (pa.uint32(), 2**32 - 1, 2**32 - 1),
    "real": (pa.float32(), 0.5, 0.5),
    "double": (pa.float64(), -0.0, -0.0),
    "note": (pa.string(), "ü", "ü"),
    "raw": (pa.binary(), b"\x00\xff", b"\x00\xff"),
    "id": (pa.binary(16), bytes(range(16)), bytes(range(16))),
    "day": (pa.date32(), 19_782, datetime.date(2024, 2, 29)),
    "clock": (pa.time64("us"), 1, datetime.time(0, 0, 0, 1)),
    "local": (pa.timestamp("us"), 1_700_000_000_000_001, datetime.datetime(2023, 11, 14, 22, 13, 20, 1)),
    "moment": (
        pa.timestamp("us", "UTC"),
        1_700_000_000_000_001,
        datetime.datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=datetime.UTC),
    ),
    "total": (pa.decimal128(12, 2), decimal.Decimal("-1.10"), decimal.Decimal("-1.10")),
    "wide": (pa.decimal256(76, 1), decimal.Decimal("9" * 75 + ".5"), decimal.Decimal("9" * 75 + ".5")),
    "span": (
        pa.month_day_nano_interval(),
        pa.MonthDayNano([1, -2, -3000]),
        {"months": 1, "days": -2, "microseconds": -3},
    ),
    "numbers": (pa.list_(pa.int32()), [1, None, -1], [1, None, -1]),
    "nothing": (pa.list_(pa.int32()), [], []),
    "pairs": (pa.map_(pa.string(), pa.string()), [("a", None), ("", "b")], {"a": None, "": "b"}),
}


def batch_of(names: list[str]) -> pa.RecordBatch:
    """A row of values and one of nulls."""
    return pa.RecordBatch.from_arrays([pa.array([VALUES[n][1], None], VALUES[n][0]) for n in names], names=names)


@pytest.mark.must_not_fail(12)
def test_fastavro_reads_the_same_values() -> None:
    file = written(WireFormat.AVRO, [batch_of(list(VALUES))], DEFLATE)
    with decimal.localcontext(prec=80):
        rows = list(fastavro.reader(io.BytesIO(file)))
    assert rows == [{name: value[2] for name, value in VALUES.items()}, dict.fromkeys(VALUES)]


def test_duckdb_reads_the_same_values(tmp_path: Path) -> None:
    """It knows neither local timestamps nor decimals of more than 38 digits."""
    path = tmp_path / "rows.avro"
    path.write_bytes(written(WireFormat.AVRO, [batch_of([n for n in VALUES if n not in ("local", "wide")])]))
    connection = duckdb.connect(config={"extension_directory": str(tmp_path), "autoinstall_known_extensions": "false"})
    [extension] = Path(str(duckdb_extension_avro.__file__)).parent.rglob("*.duckdb_extension")
    connection.execute(f"INSTALL '{extension}'; LOAD avro; SET TimeZone = 'UTC'")
    found = connection.sql(f"SELECT * FROM read_avro('{path}')")
    [row, nulls] = found.fetchall()
    expected = {name: value for name, (_, _, value) in VALUES.items() if name in found.columns}
    expected |= {"id": UUID(bytes=bytes(range(16))), "moment": datetime.datetime(2023, 11, 14, 22, 13, 20, 1)}
    assert dict(zip(found.columns, row, strict=True)) == expected
    assert set(nulls) == {None}


@pytest.mark.must_not_fail(22)
def test_names_avro_does_not_allow_stay_apart() -> None:
    names = ["a b", "a_x20b", "1", "", "ü.x", "select", "a b "]
    batch = pa.RecordBatch.from_arrays([pa.array([i]) for i in range(len(names))], names=names)
    file = written(WireFormat.AVRO, [batch], DEFLATE)
    [row] = cast("list[dict[str, int]]", list(fastavro.reader(io.BytesIO(file))))
    assert list(row.values()) == list(range(len(names)))
    [found] = reread(WireFormat.AVRO, file)
    assert found.equals(batch)


def test_a_table_may_be_called_like_a_type() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([bytes(16)], pa.binary(16))] * 2, names=["uuid", "interval"])
    for name in ("uuid", "row", "decimal_12_2"):
        file = written(WireFormat.AVRO, [batch], WireOptions(table=TableName("public", name)))
        assert content(reread(WireFormat.AVRO, file)) == content([batch])


def test_columns_that_are_never_null_are_no_unions() -> None:
    made = avro_schema(log_batch().schema, TableName("public", "orders"))
    kinds = {field["name"]: field["type"] for field in made["fields"]}
    assert (made["namespace"], made["name"]) == ("public", "orders")
    assert kinds["id"] == ["null", "long"]
    assert kinds["__commit_lsn"] == "long"
    assert kinds["__unchanged"] == ["null", {"type": "array", "items": ["null", "string"]}]


def test_a_number_avro_has_no_place_for_is_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([2**63], pa.uint64())], names=["v"])
    with pytest.raises(RowRefused, match="64 bits") as refused:
        written(WireFormat.AVRO, [batch], DEFLATE)
    assert refused.value.where == {"table": "public.orders", "column": "v"}


def test_a_type_no_column_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no type"):
        avro_schema(pa.schema({"v": pa.duration("s")}), None)


def test_the_same_rows_make_the_same_file() -> None:
    assert written(WireFormat.AVRO, [log_batch()]) == written(WireFormat.AVRO, [log_batch()])


def test_many_small_batches_share_a_block() -> None:
    file = written(WireFormat.AVRO, [log_batch(3)] * 100)
    [batch] = reread(WireFormat.AVRO, file)
    assert batch.num_rows == 300


def test_no_byte_is_read_before_it_is_written() -> None:
    batch = batch_of(list(VALUES))
    plain = written(WireFormat.AVRO, [batch])
    for fill in (0x55, 0xFF):
        token = POISON.set(lambda octets, fill=fill: octets.fill(fill))  # type: ignore[misc]  # bound at once
        try:
            assert written(WireFormat.AVRO, [batch]) == plain
        finally:
            POISON.reset(token)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(WireFormat.AVRO, [log_batch()])
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(MissingExtra, match=r"wallaby\[avro\]"):
        reread(WireFormat.AVRO, file)


def test_the_header_says_what_the_file_is() -> None:
    file = written(WireFormat.AVRO, [log_batch()], DEFLATE)
    header = cast("dict[str, str]", fastavro.reader(io.BytesIO(file)).metadata)
    assert json.loads(header["avro.schema"])["name"] == "orders"
    assert header["avro.codec"] == "deflate"
    assert np.frombuffer(file[:4], np.uint8).tolist() == [*b"Obj", 1]
