"""Arrow schemas as Avro schemas: which Avro type holds a column, and what it is called there.

Every column that may be null is a union with null, null first. Names are what Avro allows: other characters of a
column's name become ``_x`` and their code point in hexadecimal; the Arrow schema in the file's header has the name.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import pyarrow as pa

from wallaby.errors import ConfigError
from wallaby.flow import WireFormat
from wallaby.intervals import INTERVAL
from wallaby.schema import TableName
from wallaby.wire.nesting import is_list

AvroType = str | dict[str, Any] | list[Any]

INTERVAL_NAME: Final = "interval"
INTERVAL_TYPE: Final = pa.struct(
    [
        pa.field("months", pa.int32(), nullable=False),
        pa.field("days", pa.int32(), nullable=False),
        pa.field("microseconds", pa.int64(), nullable=False),
    ]
)
_UUID_STORAGE: Final = pa.binary(16)
_ODD: Final = re.compile(r"[^A-Za-z0-9_]")
_PLAIN: Final[dict[pa.DataType, str | dict[str, Any]]] = {
    pa.bool_(): "boolean",
    pa.int8(): "int",
    pa.int16(): "int",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.uint8(): "int",
    pa.uint16(): "int",
    pa.uint32(): "long",
    pa.uint64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.binary(): "bytes",
    pa.large_binary(): "bytes",
    pa.null(): "null",
    pa.date32(): {"type": "int", "logicalType": "date"},
    pa.time64("us"): {"type": "long", "logicalType": "time-micros"},
    pa.timestamp("us"): {"type": "long", "logicalType": "local-timestamp-micros"},
    pa.timestamp("us", "UTC"): {"type": "long", "logicalType": "timestamp-micros"},
}


def avro_schema(schema: pa.Schema, table: TableName | None) -> dict[str, Any]:
    """The schema of a record per row. `ConfigError` for a column of a type no PostgreSQL column has."""
    names = _Names()
    record: dict[str, Any] = {"type": "record", "name": names.unique("row" if table is None else avro_name(table.name))}
    if table is not None:
        record["namespace"] = avro_name(table.schema)
    return {**record, "fields": _fields(list(schema), names)}


def avro_name(name: str) -> str:
    """The name in the characters Avro allows."""
    plain = _ODD.sub(lambda match: f"_x{ord(match[0]):X}", name)
    return f"_{plain}" if not plain or plain[0].isdigit() else plain


def avro_names(names: list[str]) -> list[str]:
    """Names of one record's fields, all different."""
    taken = _Names()
    return [taken.unique(avro_name(name)) for name in names]


def decimal_bytes(precision: int) -> int:
    """Bytes that hold every decimal of so many digits, with its sign."""
    return math.ceil(((10**precision).bit_length() + 1) / 8)


class _Names:
    """Named types of a schema: defined where they are used first, then called by name."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._defined: dict[str, str] = {}

    def unique(self, name: str) -> str:
        """The name, or one like it when it is taken."""
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found

    def once(self, name: str, definition: dict[str, Any]) -> AvroType:
        """The definition of a type that everybody calls ``name``, or its name from the second time on."""
        if name in self._defined:
            return self._defined[name]
        self._defined[name] = self.unique(name)
        return {**definition, "name": self._defined[name]}


def _fields(fields: list[pa.Field], names: _Names) -> list[dict[str, Any]]:
    called = avro_names([field.name for field in fields])
    made = []
    for name, field in zip(called, fields, strict=True):
        kind = _slot(field, names)
        made.append(
            {"name": name, "type": kind, "default": None} if isinstance(kind, list) else {"name": name, "type": kind}
        )
    return made


def _slot(field: pa.Field, names: _Names) -> AvroType:
    kind = _type(field.type, names, field.name)
    return ["null", kind] if is_optional(field) else kind


def is_optional(field: pa.Field) -> bool:
    """True for a union with null. What is null by itself needs none."""
    return bool(field.nullable) and not pa.types.is_null(field.type)


def _type(kind: pa.DataType, names: _Names, path: str) -> AvroType:
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _type(kind.storage_type, names, path)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == _UUID_STORAGE:
        return names.once("uuid", {"type": "fixed", "size": 16, "logicalType": "uuid"})
    if t.is_fixed_size_binary(kind):
        return names.once(f"fixed_{kind.byte_width}", {"type": "fixed", "size": kind.byte_width})
    if t.is_decimal128(kind) or t.is_decimal256(kind):
        precision, scale = kind.precision, kind.scale
        logical = {"logicalType": "decimal", "precision": precision, "scale": scale}
        size = decimal_bytes(precision)
        return names.once(f"decimal_{precision}_{scale}", {"type": "fixed", "size": size, **logical})
    if kind == INTERVAL:
        return names.once(INTERVAL_NAME, {"type": "record", "fields": _fields(list(INTERVAL_TYPE), names)})
    if is_list(kind):
        return {"type": "array", "items": _slot(kind.value_field, names)}
    if t.is_map(kind):
        return {"type": "map", "values": _slot(kind.item_field, names)}
    if t.is_struct(kind):
        return {"type": "record", "name": names.unique(avro_name(path)), "fields": _fields(list(kind), names)}
    raise ConfigError(f"{WireFormat.AVRO} has no type for {kind}", column=path)


__all__ = [
    "INTERVAL_TYPE",
    "AvroType",
    "avro_name",
    "avro_names",
    "avro_schema",
    "decimal_bytes",
    "is_optional",
]
