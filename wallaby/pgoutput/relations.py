"""What the stream itself says about a table: the Relation message."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wallaby.errors import DecodeError
from wallaby.schema import TableSchema

COLUMNS_MAX: Final = 1600
"""``MaxHeapAttributeNumber``."""

_KEY_FLAG: Final = 1


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """One published column as the Relation message names it."""

    name: str
    type_oid: int
    typmod: int
    is_identity: bool
    """Part of the replica identity; every column is, with replica identity full."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One Relation message. ``schema`` is ``pg_catalog`` where the message leaves it empty."""

    oid: int
    schema: str
    name: str
    identity: str
    """``pg_class.relreplident``: ``d``, ``f``, ``i`` or ``n``."""
    columns: tuple[RelationColumn, ...]


SchemaResolver = Callable[[Relation], TableSchema]
"""Turns what the stream says into the full shape of the table: types, keys, version. The columns keep their order."""


def parse_relation(body: bytes) -> Relation:
    """Read a Relation message after its tag byte; DecodeError when it is cut short, overlong or not UTF-8."""
    try:
        return _parse(body)
    except (struct.error, ValueError, IndexError) as error:
        raise DecodeError("a Relation message is malformed") from error


def _parse(body: bytes) -> Relation:
    (oid,) = struct.unpack_from("!I", body)
    schema, at = _text(body, 4)
    name, at = _text(body, at)
    identity, count = struct.unpack_from("!cH", body, at)
    at += 3
    if count > COLUMNS_MAX:
        raise ValueError("more columns than a table can have")
    columns = []
    for _ in range(count):
        flags = body[at]
        column_name, at = _text(body, at + 1)
        type_oid, typmod = struct.unpack_from("!Ii", body, at)
        at += 8
        columns.append(RelationColumn(column_name, type_oid, typmod, bool(flags & _KEY_FLAG)))
    if at != len(body) or identity not in b"dfin":
        raise ValueError("trailing bytes or unknown replica identity")
    return Relation(oid, schema or "pg_catalog", name, identity.decode(), tuple(columns))


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = body.index(0, at)
    return body[at:end].decode(), end + 1
