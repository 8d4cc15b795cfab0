"""Values and crashes of the contract in the other formats, and how large files get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from sinks.files import FACTORY
from sinks.files.reader import committed_files, read_log
from tests.sinks.lane import TestLane
from wallaby.errors import DamagedFile
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import Stream, insert, table
from wallaby.testing.contract.commits import CrashContract
from wallaby.testing.contract.values import ValuesContract
from wallaby.window import LaneId
from wallaby.wire import COMPRESSIONS, WireFormat, WireOptions

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])


class _Short(ValuesContract, CrashContract):
    modes = (WriteMode.APPEND,)
    seeds = 1
    format: ClassVar[str]

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {"path": str(self.path), "write_mode": mode.value, "fsync": False, "format": self.format}
        self.sinks.append(FACTORY.create(options, destination="target"))
        return self.sinks[-1]

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(self.path, schema.name.schema, schema.name.name)


class TestArrow(_Short):
    format = "arrow"


class TestAvro(_Short):
    format = "avro"


class TestJson(_Short):
    format = "json"


class TestProto(_Short):
    format = "proto"


@pytest.mark.parametrize(
    ("format", "compression"), [(format, codec) for format, codecs in COMPRESSIONS.items() for codec in codecs]
)
def test_every_compression_of_every_format_is_read_back(format: WireFormat, compression: str, tmp_path: Path) -> None:
    stream = Stream()
    stream.copy(ORDERS, [(1, "a"), (2, None)])
    options = {"path": str(tmp_path), "fsync": False, "format": format.value, "compression": compression}
    sink = FACTORY.create(options, destination="copy")
    TestLane(sink, LANE).apply_all(stream.windows())
    [file] = committed_files(tmp_path)
    assert file.path.endswith(WireOptions(compression=compression).suffix(format))  # type: ignore[arg-type]  # a StrEnum
    assert read_log(tmp_path, "public", "orders").select(["id", "note"]).to_pylist() == [
        {"id": 1, "note": "a"},
        {"id": 2, "note": None},
    ]


def test_a_log_may_change_its_format(tmp_path: Path) -> None:
    stream = Stream()
    for number in range(5):
        stream.transaction([(ORDERS, insert(number, "a"))])
    for epoch, (format, window) in enumerate(zip(WireFormat, stream.windows(), strict=True), 1):
        sink = FACTORY.create({"path": str(tmp_path), "fsync": False, "format": format.value}, destination="copy")
        TestLane(sink, LANE, epoch).apply(window)
    assert read_log(tmp_path, "public", "orders").column("id").to_pylist() == list(range(5))


@pytest.mark.must_not_fail(12)
def test_a_changed_byte_is_an_error_and_not_another_value(tmp_path: Path) -> None:
    stream = Stream()
    stream.copy(ORDERS, [(1, "aaaa")])
    options = {"path": str(tmp_path), "fsync": False, "format": "json", "compression": "none"}
    TestLane(FACTORY.create(options, destination="copy"), LANE).apply_all(stream.windows())
    [file] = committed_files(tmp_path)
    content = (tmp_path / file.path).read_bytes()
    (tmp_path / file.path).write_bytes(content.replace(b"aaaa", b"aaab"))
    with pytest.raises(DamagedFile):
        read_log(tmp_path, "public", "orders")


@pytest.mark.parametrize("format", ["parquet", "json"])
def test_a_large_commit_is_several_files_of_about_the_target_size(format: str, tmp_path: Path) -> None:
    stream = Stream()
    for start in range(0, 40_000, 1_000):
        stream.transaction(
            [(ORDERS, insert(number, f"{number * 7919:060d}")) for number in range(start, start + 1_000)]
        )
    options = {
        "path": str(tmp_path),
        "fsync": False,
        "format": format,
        "compression": "none",
        "target_file_size": "512KiB",
        "row_group_rows": 2_048,
    }
    TestLane(FACTORY.create(options, destination="copy"), LANE).apply_all(stream.windows(), commit_every=40)
    sizes = [file.bytes for file in committed_files(tmp_path)]
    assert len(sizes) >= 4
    assert all(256 << 10 < size < 1 << 20 for size in sizes[:-1])
    assert read_log(tmp_path, "public", "orders").num_rows == 40_000
