"""UUIDs, bytes and arrays read from text: what PostgreSQL prints with bytea_output hex.

Columns look as in ``wallaby.pgtypes.kernels``; every cell with a value is text (its offset is stored inverted). A text
that is not of the expected form, or has no place in Arrow, gets no bit in ``valid`` and becomes an outlier with that
text: a server that prints in another style costs outliers, never wrong values.
"""

# Compiled in: endian a42f72e9, kernels 8b0061ab
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, INT64, U8, VOID, called, kernel
from wallaby.pgtypes.endian import put_64
from wallaby.pgtypes.kernels import set_valid


@called
def hex_figure(byte):
    """The value of a hexadecimal figure, or -1."""
    if 48 <= byte <= 57:
        return np.int64(byte) - 48
    if 97 <= byte <= 102:
        return np.int64(byte) - 87
    if 65 <= byte <= 70:
        return np.int64(byte) - 55
    return np.int64(-1)


@called
def uuid_text_at(data, at, out, to):
    """The 36 bytes of ``8-4-4-4-12`` hexadecimal figures to 16 at ``out[to:]``; False when they are not such."""
    put_64(out, to, np.int64(0))
    put_64(out, to + 8, np.int64(0))
    figure = np.int64(0)
    for k in range(36):
        byte = data[at + k]
        if k == 8 or k == 13 or k == 18 or k == 23:
            if byte != 45:
                return False
            continue
        value = hex_figure(byte)
        if value < 0:
            return False
        out[to + (figure >> 1)] |= np.uint8(value << (0 if figure & 1 else 4))
        figure += 1
    return True


@kernel(VOID, BYTES, I32, I32, I32, INT64, INT64, I32, U8)
def text_hex_offsets(data, offset, length, base, column, prefix, starts, valid):
    r"""First pass over pairs of hexadecimal figures: Arrow offsets. ``prefix``: 2 where ``\x`` comes first, else 0."""
    end = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        j = base[i] + column
        size = np.int64(length[j])
        if size < prefix or size % 2 != 0:
            continue
        at = np.int64(~offset[j])
        fits = prefix == 0 or (data[at] == 92 and data[at + 1] == 120)
        if fits:
            for p in range(at + prefix, at + size):
                if hex_figure(data[p]) < 0:
                    fits = False
                    break
        if fits:
            set_valid(valid, i)
            end += (size - prefix) // 2
    starts[rows] = end


@kernel(VOID, BYTES, I32, I32, INT64, INT64, I32, U8)
def text_hex(data, offset, base, column, prefix, starts, out):
    """Second pass: the bytes."""
    for i in range(base.shape[0]):
        at = np.int64(~offset[base[i] + column]) + prefix
        for q in range(starts[i], starts[i + 1]):
            out[q] = (hex_figure(data[at]) << 4) | hex_figure(data[at + 1])
            at += 2


@kernel(INT64, BYTES, I32, I32, I32, INT64, U8, I32, U8, I32, I32)
def text_list(data, offset, length, base, column, copy, starts, valid, element_offset, element_length):
    """Arrays such as ``{1,NULL,"a b"}`` to list offsets and cells over ``copy``, which receives the elements unquoted.

    ``copy`` has room for all bytes of all cells, the element arrays for half as many elements as bytes. Several
    dimensions and explicit bounds are outliers. Returns the number of elements.
    """
    elements = np.int64(0)
    written = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = elements
        j = base[i] + column
        size = length[j]
        if size < 2:
            continue
        p = np.int64(~offset[j])
        stop = p + size
        if data[p] != 123 or data[stop - 1] != 125:
            continue
        p += 1
        stop -= 1
        count = np.int64(0)
        fits = True
        while p < stop:
            begin = written
            is_quoted = data[p] == 34
            if is_quoted:
                p += 1
                is_closed = False
                while p < stop:
                    byte = data[p]
                    p += 1
                    if byte == 34:
                        is_closed = True
                        break
                    if byte == 92 and p < stop:
                        byte = data[p]
                        p += 1
                    copy[written] = byte
                    written += 1
                if not is_closed:
                    fits = False
                    break
            else:
                while p < stop and data[p] != 44:
                    byte = data[p]
                    if byte == 123 or byte == 125 or byte == 34 or byte == 92:
                        fits = False
                        break
                    copy[written] = byte
                    written += 1
                    p += 1
                if not fits or written == begin:
                    fits = False
                    break
            slot = elements + count
            element_offset[slot] = ~begin
            element_length[slot] = written - begin
            if (
                not is_quoted
                and written - begin == 4
                and copy[begin] == 78
                and copy[begin + 1] == 85
                and copy[begin + 2] == 76
                and copy[begin + 3] == 76
            ):
                element_offset[slot] = 0
                element_length[slot] = -1
            count += 1
            if p < stop:
                if data[p] != 44 or p + 1 >= stop:
                    fits = False
                    break
                p += 1
        if fits:
            elements += count
            set_valid(valid, i)
    starts[rows] = elements
    return elements
