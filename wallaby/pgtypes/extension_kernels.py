r"""Compiled gathers for the types of extensions: hstore, pgvector's vectors, PostGIS's geometries; binary and text.

Columns look as in ``wallaby.pgtypes.kernels``. Binary forms (the extensions' own ``…_send`` functions):

* hstore: int32 pairs, then per pair int32 length and key, int32 length (-1 for NULL) and value, in the order hstore
  keeps them;
* vector: int16 dimensions, int16 unused, that many float4; halfvec the same with half floats;
* geometry, geography: EWKB as it is.

Texts: ``"key"=>"value", "other"=>NULL`` with ``\"`` and ``\\`` inside; ``[1,2.5]``; EWKB as hexadecimal figures. As in
``text_kernels``, a text of another form gets no bit in ``valid`` and becomes an outlier.
"""

# Compiled in: endian a42f72e9, kernels 8b0061ab
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, INT64, U8, VOID, called, kernel
from wallaby.pgtypes.endian import be16, be32
from wallaby.pgtypes.kernels import set_valid


@called
def pairs_at(data, at, size):
    """How many pairs a binary hstore has; -1 when it is malformed."""
    if size < 4:
        return np.int64(-1)
    stop = at + size
    pairs = be32(data, at)
    p = at + 4
    for _ in range(pairs):
        if p + 4 > stop:
            return np.int64(-1)
        p += 4 + be32(data, p)
        if p + 4 > stop:
            return np.int64(-1)
        value = be32(data, p)
        p += 4
        if value != 4294967295:
            p += value
    return pairs if p == stop else np.int64(-1)


@kernel(VOID, BYTES, I32, I32, INT64, I32, I32, I32, I32, I32)
def map_entries(data, offset, base, column, starts, key_offset, key_length, item_offset, item_length):
    """Second pass: keys and values as cells of indexes of their own."""
    for i in range(base.shape[0]):
        if starts[i] == starts[i + 1]:
            continue
        p = np.int64(offset[base[i] + column]) + 4
        for k in range(starts[i], starts[i + 1]):
            size = be32(data, p)
            key_offset[k] = p + 4
            key_length[k] = size
            p += 4 + size
            size = be32(data, p)
            p += 4
            if size == 4294967295:
                item_offset[k] = 0
                item_length[k] = -1
            else:
                item_offset[k] = p
                item_length[k] = size
                p += size


@called
def quoted_at(data, at, stop, copy, written):
    """Copy what stands in double quotes at ``at``, unescaped: (behind the quotes or -1 if there are none, its end)."""
    if at >= stop or data[at] != 34:
        return np.int64(-1), written
    p = at + 1
    while p < stop:
        byte = data[p]
        p += 1
        if byte == 34:
            return np.int64(p), written
        if byte == 92:
            if p >= stop:
                break
            byte = data[p]
            p += 1
        copy[written] = byte
        written += 1
    return np.int64(-1), written


@kernel(INT64, BYTES, I32, I32, I32, INT64, U8, I32, U8, I32, I32, I32, I32)
def text_map(data, offset, length, base, column, copy, starts, valid, key_offset, key_length, item_offset, item_length):
    """hstores to offsets and cells over ``copy``, which receives keys and values unquoted; returns how many pairs.

    ``copy`` has room for all bytes of all cells, the indexes for a sixth as many pairs and one more (``""=>""``).
    """
    pairs = np.int64(0)
    written = np.int64(0)
    for i in range(base.shape[0]):
        starts[i] = pairs
        j = base[i] + column
        if length[j] < 0:
            continue
        p = np.int64(~offset[j])
        stop = p + length[j]
        count = np.int64(0)
        fits = True
        while p < stop:
            if count:
                if p + 2 > stop or data[p] != 44 or data[p + 1] != 32:
                    fits = False
                    break
                p += 2
            slot = pairs + count
            begin = written
            p, written = quoted_at(data, p, stop, copy, written)
            if p < 0 or p + 2 > stop or data[p] != 61 or data[p + 1] != 62:
                fits = False
                break
            key_offset[slot] = begin
            key_length[slot] = written - begin
            p += 2
            if p + 4 <= stop and data[p] == 78 and data[p + 1] == 85 and data[p + 2] == 76 and data[p + 3] == 76:
                item_offset[slot] = 0
                item_length[slot] = -1
                p += 4
            else:
                begin = written
                p, written = quoted_at(data, p, stop, copy, written)
                if p < 0:
                    fits = False
                    break
                item_offset[slot] = begin
                item_length[slot] = written - begin
            count += 1
        if fits:
            pairs += count
            set_valid(valid, i)
    starts[base.shape[0]] = pairs
    return pairs


@called
def dimensions_at(data, at, size, width):
    """How many elements of ``width`` bytes a binary vector has; -1 when it is malformed."""
    if size < 4:
        return np.int64(-1)
    dimensions = be16(data, at)
    return dimensions if size == 4 + width * dimensions else np.int64(-1)


@kernel(VOID, BYTES, I32, I32, INT64, INT64, I32, I32)
def vector_elements(data, offset, base, column, width, starts, out):
    """Second pass: the bits of every element."""
    for i in range(base.shape[0]):
        if starts[i] == starts[i + 1]:
            continue
        p = np.int64(offset[base[i] + column]) + 4
        for k in range(starts[i], starts[i + 1]):
            out[k] = be32(data, p) if width == 4 else be16(data, p)
            p += width


@kernel(INT64, BYTES, I32, I32, I32, INT64, I32, U8, I32, I32)
def text_vector(data, offset, length, base, column, starts, valid, element_offset, element_length):
    """``[1,2.5]`` to offsets and text cells over ``data`` itself; returns how many elements.

    The element arrays have room for half as many elements as there are bytes.
    """
    elements = np.int64(0)
    for i in range(base.shape[0]):
        starts[i] = elements
        j = base[i] + column
        if length[j] < 3:
            continue
        p = np.int64(~offset[j])
        stop = p + length[j] - 1
        if data[p] != 91 or data[stop] != 93:
            continue
        p += 1
        count = np.int64(0)
        fits = True
        begin = p
        while p <= stop:
            if p == stop or data[p] == 44:
                if p == begin:
                    fits = False
                    break
                element_offset[elements + count] = ~begin
                element_length[elements + count] = p - begin
                count += 1
                begin = p + 1
            p += 1
        if fits:
            elements += count
            set_valid(valid, i)
    starts[base.shape[0]] = elements
    return elements
