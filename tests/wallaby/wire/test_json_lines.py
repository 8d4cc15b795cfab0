"""What JSON Lines looks like, and what its reader takes for a row."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from tests.wallaby.wire.batches import log_batch, reread, written
from wallaby.errors import ConfigError, DamagedFile
from wallaby.wire import Compression, WireFormat, WireOptions
from wallaby.wire.json_lines import lines

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "at": pa.timestamp("us"),
        "day": pa.date32(),
        "raw": pa.binary(),
        "span": pa.month_day_nano_interval(),
    }
)


def row(**members: object) -> bytes:
    return json.dumps({"id": 1, "at": None, "day": None, "raw": None, "span": None} | members).encode() + b"\n"


def test_every_row_is_a_line_of_its_own() -> None:
    file = written(WireFormat.JSON, [log_batch(2), log_batch(1)], WireOptions(compression=Compression.NONE))
    lines = [json.loads(line) for line in file.decode().splitlines()]
    assert [line["id"] for line in lines] == [0, 1, 0]
    assert lines[1]["__op"] == "i"
    assert lines[1]["__committed_at"] == "2023-11-14T22:13:20.000001Z"


def test_a_row_is_an_object_of_all_its_columns() -> None:
    rows = pa.RecordBatch.from_pydict({"id": [2**53, None], 'no"te': ["a", None]})
    assert bytes(lines(rows)) == b"""{"id":"9007199254740992","no\\"te":"a"}\n{"id":null,"no\\"te":null}\n"""


def test_a_reader_needs_the_types() -> None:
    with pytest.raises(ConfigError, match="types"):
        reread(WireFormat.JSON, row())


@pytest.mark.parametrize(
    "members",
    [
        {"other": 1},
        {"id": True},
        {"id": "x"},
        {"id": 2**63},
        {"id": 1.5},
        {"id": float("nan")},
        {"at": "2024-02-30T00:00:00"},
        {"at": "2024-02-29"},
        {"at": "2024-02-29T24:00:00"},
        {"at": "2024-02-29T00:00:00Z"},
        {"at": "294277-01-01 00:00:00"},
        {"day": "2024-13-01"},
        {"day": "2024-02-29T00:00:00"},
        {"raw": "00"},
        {"raw": "\\x0"},
        {"raw": "\\x0 "},
        {"raw": "\\xgg"},
        {"span": "P0M0DT9223372036.854776S"},
        {"span": "P0M0DT18446744073710S"},
    ],
    ids=str,
)
def test_what_no_writer_leaves_is_no_row(members: dict[str, object]) -> None:
    with pytest.raises(DamagedFile):
        reread(WireFormat.JSON, row(**members), schema=SCHEMA)


def test_a_member_that_comes_twice_is_no_row() -> None:
    with pytest.raises(DamagedFile):
        reread(WireFormat.JSON, row().replace(b'"at"', b'"id"'), schema=SCHEMA)
    with pytest.raises(DamagedFile):
        reread(WireFormat.JSON, b"[]\n", schema=SCHEMA)
