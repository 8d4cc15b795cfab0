"""What is not a plain column: types and arrays with their leaves exchanged, their names, and rows without columns."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa


def exchanged_type(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """``kind`` with ``leaf`` of what is neither list, map, struct nor extension; extensions count as their storage."""
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return exchanged_type(kind.storage_type, leaf)
    if is_list(kind):
        return pa.list_(exchanged_type(kind.value_type, leaf))
    if t.is_map(kind):
        return pa.map_(pa.string(), exchanged_type(kind.item_type, leaf))
    if t.is_struct(kind):
        return pa.struct([pa.field(field.name, exchanged_type(field.type, leaf)) for field in kind])
    return leaf(kind)


def exchanged(array: pa.Array, kind: pa.DataType, leaf: Callable[[pa.Array, pa.DataType], pa.Array]) -> pa.Array:
    """An array of an `exchanged_type` as one of ``kind``: ``leaf`` makes a leaf of a type out of an array.

    The array begins where its buffers do, as one that was just built.
    """
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, exchanged(array, kind.storage_type, leaf))
    if array.type == kind:
        return array
    assert array.offset == 0, array.offset
    if t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return exchanged(array, pa.list_(kind.value_field), leaf).cast(kind)
    if t.is_list(kind):
        return _rebuilt(array, kind, [exchanged(array.values, kind.value_type, leaf)])
    if t.is_map(kind):
        sides = exchanged(array.keys, kind.key_type, leaf), exchanged(array.items, kind.item_type, leaf)
        entries = pa.StructArray.from_arrays(sides, fields=[kind.key_field, kind.item_field])
        return _rebuilt(array, kind, [entries])
    if t.is_struct(kind):
        children = [exchanged(array.field(i), kind.field(i).type, leaf) for i in range(kind.num_fields)]
        return _rebuilt(array, kind, children)
    return leaf(array, kind)


def decoded(schema: pa.Schema) -> pa.Schema:
    """The schema, when all its names are UTF-8, which Arrow finds out only when somebody reads one. ValueError else."""
    for field in schema:
        _decode(field)
    return schema


def _decode(field: pa.Field) -> None:
    kind = field.type
    _ = field.name, kind.tz if pa.types.is_timestamp(kind) else None
    for i in range(kind.num_fields):
        _decode(kind.field(i))


def columnless(rows: int) -> pa.RecordBatch:
    """So many rows without a column."""
    return pa.RecordBatch.from_struct_array(pa.Array.from_buffers(pa.struct([]), rows, [None]))


def is_list(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind))


def _rebuilt(array: pa.Array, kind: pa.DataType, children: list[pa.Array]) -> pa.Array:
    buffers = array.buffers()[: 1 if pa.types.is_struct(kind) else 2]
    return pa.Array.from_buffers(kind, len(array), buffers, array.null_count, children=children)


__all__ = ["columnless", "decoded", "exchanged", "exchanged_type", "is_list"]
