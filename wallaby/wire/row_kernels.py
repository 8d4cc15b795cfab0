"""Columns as rows of bytes, compiled: what Avro and Protobuf have in common.

A row is its cells side by side. Each kernel goes down one column: first one adds up how long its cells are, then, when
all columns have said so and every row has its place, another writes them there and moves the rows' cursors on. The
bytes before a cell say that there is one (Avro's branch of a union, Protobuf's tag), others that there is none.

``valid`` has a byte per row, or none at all when every row has a value.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I64, INT64, U8, U64, VOID, called, inlined, kernel


@inlined
def varint_size(value):
    """Bytes of an unsigned number, seven bits in each."""
    size = np.int64(1)
    while value >= np.uint64(128):
        value = value >> np.uint64(7)
        size += 1
    return size


@inlined
def put_varint(out, to, value):
    """The number, low bits first; returns where it ends."""
    while value >= np.uint64(128):
        out[to] = np.uint8(value & np.uint64(127)) | np.uint8(128)
        value = value >> np.uint64(7)
        to += 1
    out[to] = np.uint8(value)
    return to + 1


@called
def put_octets(out, to, data, start, end):
    """Bytes as they are; returns where they end."""
    for k in range(start, end):
        out[to] = data[k]
        to += 1
    return to


@kernel(VOID, U64, BYTES, INT64, INT64, I64)
def add_varint_sizes(values, valid, lead, absent, sizes):
    """Numbers, after ``lead`` bytes; ``absent`` bytes where there is none."""
    has_nulls = valid.shape[0] > 0
    for i in range(values.shape[0]):
        if has_nulls and valid[i] == 0:
            sizes[i] += absent
        else:
            sizes[i] += lead + varint_size(values[i])


@kernel(VOID, U64, BYTES, BYTES, BYTES, I64, U8)
def put_varints(values, valid, lead, absent, cursor, out):
    """Write the numbers."""
    has_nulls = valid.shape[0] > 0
    for i in range(values.shape[0]):
        to = cursor[i]
        if has_nulls and valid[i] == 0:
            cursor[i] = put_octets(out, to, absent, 0, absent.shape[0])
        else:
            to = put_octets(out, to, lead, 0, lead.shape[0])
            cursor[i] = put_varint(out, to, values[i])


@kernel(VOID, BYTES, INT64, BYTES, BYTES, BYTES, I64, U8)
def put_fixed(data, width, valid, lead, absent, cursor, out):
    """Write cells of ``width`` bytes each."""
    has_nulls = valid.shape[0] > 0
    for i in range(cursor.shape[0]):
        to = cursor[i]
        if has_nulls and valid[i] == 0:
            cursor[i] = put_octets(out, to, absent, 0, absent.shape[0])
        else:
            to = put_octets(out, to, lead, 0, lead.shape[0])
            cursor[i] = put_octets(out, to, data, i * width, (i + 1) * width)


@kernel(VOID, I64, U64, INT64, BYTES, INT64, INT64, I64)
def add_span_sizes(ends, prefix, tail, valid, lead, absent, sizes):
    """Cells of any length, from one of ``ends`` to the next; ``prefix``, if there is one, is a number before each, and
    ``tail`` the bytes after those whose number is not zero."""
    has_nulls = valid.shape[0] > 0
    has_prefix = prefix.shape[0] > 0
    for i in range(sizes.shape[0]):
        if has_nulls and valid[i] == 0:
            sizes[i] += absent
            continue
        sizes[i] += lead + ends[i + 1] - ends[i]
        if has_prefix:
            sizes[i] += varint_size(prefix[i])
            if prefix[i] != np.uint64(0):
                sizes[i] += tail


@kernel(VOID, BYTES, I64, U64, BYTES, BYTES, BYTES, BYTES, I64, U8)
def put_spans(data, ends, prefix, tail, valid, lead, absent, cursor, out):
    """Write the cells."""
    has_nulls = valid.shape[0] > 0
    has_prefix = prefix.shape[0] > 0
    for i in range(cursor.shape[0]):
        to = cursor[i]
        if has_nulls and valid[i] == 0:
            cursor[i] = put_octets(out, to, absent, 0, absent.shape[0])
            continue
        to = put_octets(out, to, lead, 0, lead.shape[0])
        if has_prefix:
            to = put_varint(out, to, prefix[i])
        to = put_octets(out, to, data, ends[i], ends[i + 1])
        if has_prefix and prefix[i] != np.uint64(0):
            to = put_octets(out, to, tail, 0, tail.shape[0])
        cursor[i] = to
