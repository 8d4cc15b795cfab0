"""What becomes of every Arrow type in every format, as a table: ``python -m wallaby.wire.type_table`` for docs/wire.md.

Everything is asked of the code that does it.
"""

from __future__ import annotations

import decimal
import json
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from wallaby.transform.append import LOG_OUTLIER_TYPE
from wallaby.wire.avro_schema import avro_schema
from wallaby.wire.json import json_texts
from wallaby.wire.parquet_types import is_json, parquet_type

_HEAD: Final = """| PostgreSQL | Arrow | Parquet | Avro | JSON, and rows in Protobuf |
|---|---|---|---|---|
"""
_EXACT: Final = "exact"


@dataclass(frozen=True, slots=True)
class _Row:
    """``values``: a usual one, and one at the edge."""

    postgres: str
    field: pa.Field
    values: tuple[Any, Any]

    @classmethod
    def of(cls, postgres: str, kind: pa.DataType, *values: Any, mark: str = "") -> _Row:
        field = pa.field("v", kind, metadata={b"wallaby.type": mark.encode()} if mark else None)
        return cls(postgres, field, (values[0], values[-1]))


ROWS: Final = (
    _Row.of("boolean", pa.bool_(), True),
    _Row.of("smallint", pa.int16(), 1),
    _Row.of("integer", pa.int32(), 1),
    _Row.of("bigint", pa.int64(), 1, 2**63 - 1),
    _Row.of("oid", pa.uint32(), 1),
    _Row.of("positions of the log", pa.uint64(), 1, 2**64 - 1),
    _Row.of("real", pa.float32(), 0.5, float("nan")),
    _Row.of("double precision", pa.float64(), 0.5, float("-inf")),
    _Row.of("text, enums, all that travels as text", pa.string(), "a"),
    _Row.of("json, jsonb", pa.string(), "{}", mark="jsonb"),
    _Row.of("bytea, geometries", pa.binary(), b"a"),
    _Row.of("uuid", pa.binary(16), bytes(16), mark="uuid"),
    _Row.of("date", pa.date32(), 1),
    _Row.of("time", pa.time64("us"), 1),
    _Row.of("timestamp", pa.timestamp("us"), 1),
    _Row.of("timestamptz", pa.timestamp("us", "UTC"), 1),
    _Row.of("numeric(p,s), p ≤ 38", pa.decimal128(38, 2), decimal.Decimal("1.10")),
    _Row.of("numeric(p,s), p ≤ 76", pa.decimal256(76, 2), decimal.Decimal("1.10")),
    _Row.of("interval", pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 3000])),
    _Row.of("arrays", pa.list_(pa.int32()), [1]),
    _Row.of("vector, halfvec", pa.list_(pa.float32()), [0.5]),
    _Row.of("hstore", pa.map_(pa.string(), pa.string()), [("a", "b")]),
    _Row.of("outliers of the log", LOG_OUTLIER_TYPE, [{"column": "a", "text": "b"}]),
)


def table() -> str:
    """The whole table. Arrow's own files hold every type exactly and are not in it."""
    return _HEAD + "".join(
        f"| {row.postgres} | {row.field.type} | {_parquet(row)} | {_avro(row)} | {_json(row)} |\n" for row in ROWS
    )


def _parquet(row: _Row) -> str:
    kind = row.field.type
    stored = parquet_type(kind, json=is_json(row.field))
    if stored == kind:
        return _EXACT
    if isinstance(stored, pa.BaseExtensionType):
        return f"{_EXACT} ({'JSON' if is_json(row.field) else 'UUID'})"
    return f"{_EXACT} ({', '.join(field.name for field in stored)})"


def _avro(row: _Row) -> str:
    [field] = avro_schema(pa.schema([row.field]), None)["fields"]
    name = _avro_name(field["type"])
    if row.field.type == pa.uint64():
        return f"{_EXACT} up to 2^63 - 1, more is refused ({name})"
    is_wider = pa.types.is_integer(row.field.type) and row.field.type not in (pa.int32(), pa.int64())
    return f"{'widened' if is_wider else _EXACT} ({name})"


def _avro_name(kind: Any) -> str:
    """Without the union with null, which almost every column is. Any: Avro's schemas are JSON."""
    match kind:
        case ["null", inner]:
            return _avro_name(inner)
        case {"logicalType": logical, "type": base}:
            return f"{base}, {logical}"
        case {"type": "array", "items": items}:
            return f"array of {_avro_name(items)}"
        case {"type": "map", "values": values}:
            return f"map of {_avro_name(values)}"
        case {"type": "record", "fields": fields}:
            return f"record of {', '.join(field['name'] for field in fields)}"
        case _:
            assert isinstance(kind, str), kind
            return kind


def _json(row: _Row) -> str:
    usual, edge = json_texts(pa.array(row.values, row.field.type)).to_pylist()
    kinds = dict.fromkeys(_json_kind(json.loads(text)) for text in (usual, edge))
    example = "" if len(kinds) == 1 and pa.types.is_string(row.field.type) else f", `{edge}`"
    return f"{_EXACT} ({' or '.join(kinds)}{example})"


def _json_kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


if __name__ == "__main__":
    print(table(), end="")
