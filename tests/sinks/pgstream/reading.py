"""A stream read back as a consumer would: messages in order, and the append log they stand for."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from typing import Any

import pyarrow as pa

from wallaby.lsn import Lsn
from wallaby.schema import TableSchema
from wallaby.testing.changes import values
from wallaby.testing.postgres import ScratchDatabase
from wallaby.transform.append import append_schema
from wallaby.wire.json import OPERATIONS

_LETTERS = {word: letter for letter, word in OPERATIONS.items()}


def messages(database: ScratchDatabase, *, stream: str = "target") -> list[dict[str, Any]]:
    """Every message of the stream, decoded, by its number; none when nothing was made yet."""
    if database.fetch("SELECT to_regclass('wallaby.stream_events')") == [(None,)]:
        return []
    rows = database.fetch(f"SELECT payload FROM wallaby.stream_events WHERE stream = '{stream}' ORDER BY id")
    return [json.loads(payload, parse_float=decimal.Decimal) for (payload,) in rows]


def log_of(schema: TableSchema, found: list[dict[str, Any]]) -> pa.Table:
    """The append log of one table since its last reset, from messages."""
    mine = [m for m in found if (m["namespace"], m["table"]) == (schema.name.schema, schema.name.name)]
    resets = [i for i, message in enumerate(mine) if message["lsn"] == "0/0"]
    mine = mine[resets[-1] + 1 :] if resets else mine
    layout = append_schema(schema, keep_outliers=True)
    columns: list[pa.Array] = []
    for i, column in enumerate(schema.columns):
        cells = [_cell(message, column.name, layout.field(i).type) for message in mine]
        columns.append(values(cells, layout.field(i).type))
    own: dict[str, list[Any]] = {
        "__op": [_LETTERS[m["operation"]] for m in mine],
        "__commit_lsn": [int(Lsn.parse(m["lsn"])) for m in mine],
        "__ordinal": [m["ordinal"] for m in mine],
        "__xid": [m["xid"] for m in mine],
        "__committed_at": [datetime.datetime.fromisoformat(m["timestamp"].replace("Z", "+00:00")) for m in mine],
        "__unchanged": [m.get("unchanged") for m in mine],
        "__outliers": [
            [{"column": name, "text": _row(m)[name]} for name in m["outliers"]] if "outliers" in m else None
            for m in mine
        ],
    }
    columns += [pa.array(cells, layout.field(name).type) for name, cells in own.items()]
    return pa.Table.from_arrays(columns, schema=layout)


def key_of(message: dict[str, Any]) -> Any:
    """The decoded key of a message."""
    return json.loads(base64.b64decode(message["key"]))


def _row(message: dict[str, Any]) -> dict[str, Any]:
    return message.get("after") or message.get("before") or {}


def _cell(message: dict[str, Any], name: str, kind: pa.DataType) -> Any:
    if name in message.get("outliers", ()):
        return None
    value = _row(message).get(name)
    return None if value is None else _value(value, kind)


def _value(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [None if item is None else _value(item, kind.value_type) for item in value]
    if pa.types.is_floating(kind):
        assert isinstance(value, decimal.Decimal) or value in ("NaN", "Infinity", "-Infinity"), value
        return float(value)
    if pa.types.is_integer(kind):
        return int(value)
    if pa.types.is_decimal(kind):
        return decimal.Decimal(value)
    if pa.types.is_date(kind):
        return datetime.date.fromisoformat(value)
    if pa.types.is_time(kind):
        return datetime.time.fromisoformat(value)
    if pa.types.is_timestamp(kind):
        return datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    if kind == pa.binary(16):
        return bytes.fromhex(value.replace("-", ""))
    if pa.types.is_binary(kind):
        return bytes.fromhex(value.removeprefix("\\x"))
    return value
