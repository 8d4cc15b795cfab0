"""Compiled row assembly: Arrow columns in, PostgreSQL binary rows out, one pass, no Python per row.

Two framings share every value's bytes (PostgreSQL manual, "COPY", section "Binary Format"; ``rowtypes.c``,
``record_recv``):

* ``FRAME_COPY``: per row int16 field count, then per field int32 length and bytes. What ``COPY … (FORMAT binary)``
  reads.
* ``FRAME_RECORD``: per row int32 length, int32 field count, then per field int32 type OID, int32 length and bytes. One
  element of a binary array of a composite type: a whole batch of rows as a single statement parameter.

Columns arrive as rows of an int64 matrix (see ``D_*``), because numba would otherwise compile one kernel per
combination of Arrow types. Addresses are raw: the caller keeps the Arrow buffers alive and sizes ``out``.

What we dislike: a wrong bound there is a buffer overrun here. The kernel therefore returns the end address, and the
caller asserts it against the bound.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from wallaby.pgtypes.compiled import cache_path, named_by_source

FRAME_COPY: Final = 0
FRAME_RECORD: Final = 1

D_KIND: Final = 0
D_OFFSET: Final = 1
"""Slots to skip at the start of every buffer (``Array.offset``)."""
D_VALID: Final = 2
"""Address of the validity bitmap; 0 when no value is null."""
D_DATA: Final = 3
D_OFFSETS: Final = 4
"""Address of the int32 (or int64) offsets; 0 for fixed width."""
D_SCALE: Final = 5
D_OID: Final = 6
"""Type OID of the field (records) or of the element (arrays)."""
D_ELEMENT: Final = 7
"""Matrix row of the element column."""
D_WIDTH: Final = 8

K_BOOL: Final = 1
K_FIX2: Final = 2
K_FIX4: Final = 3
K_FIX8: Final = 4
K_DATE: Final = 5
K_TIMESTAMP: Final = 6
K_RAW16: Final = 7
K_BYTES: Final = 8
K_LARGE_BYTES: Final = 9
K_JSONB: Final = 10
K_DECIMAL128: Final = 11
K_DECIMAL256: Final = 12
K_INTERVAL: Final = 13
K_LIST: Final = 14
K_NULL: Final = 15
"""A column of nulls only."""

_OPTIONS: Final[dict[str, Any]] = {"cache": cache_path() is not None, "nogil": True}
_EPOCH_DAYS: Final = 10957
_EPOCH_US: Final = 946_684_800_000_000
_SCRATCH: Final = 64
_RADIX: Final = np.uint64(10_000)
_LOW32: Final = np.uint64(0xFFFFFFFF)
_SHIFT32: Final = np.uint64(32)
_ONE: Final = np.uint64(1)
_SMALL_MAX: Final = np.uint64(9_000_000_000_000_000)
"""Times 1000 this still fits 64 bits."""


def _loader(bits: int, *, signed: bool) -> Any:
    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            value = builder.load(pointer)
            value.align = 1
            if bits == 64:
                return value
            return builder.sext(value, ir.IntType(64)) if signed else builder.zext(value, ir.IntType(64))

        return types.int64(types.int64), codegen

    return load


def _storer(bits: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            narrow = args[1] if bits == 64 else builder.trunc(args[1], ir.IntType(bits))
            builder.store(narrow if bits == 8 else builder.bswap(narrow), pointer).align = 1
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return store


_load8 = _loader(8, signed=False)
_load16 = _loader(16, signed=True)
_load32 = _loader(32, signed=True)
_load64 = _loader(64, signed=True)
_store8 = _storer(8)
_store16 = _storer(16)
_store32 = _storer(32)
_store64 = _storer(64)


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _copy(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        target_pointer, source_pointer = builder.inttoptr(args[0], byte), builder.inttoptr(args[1], byte)
        cgutils.raw_memcpy(builder, target_pointer, source_pointer, args[2], 1, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@njit(**_OPTIONS)
@named_by_source
def _is_set(bitmap: int, i: int) -> bool:
    return ((_load8(bitmap + (i >> 3)) >> (i & 7)) & 1) != 0


@njit(**_OPTIONS)
@named_by_source
def _decimal(p: int, address: int, words: int, scale: int, scratch: Any) -> int:
    """numeric from a little-endian two's complement integer of ``words`` 64-bit words times 10^-scale."""
    is_negative = _load64(address + 8 * (words - 1)) < 0
    limbs = 2 * words
    carry = _ONE if is_negative else np.uint64(0)
    for k in range(limbs):
        limb = np.uint64(_load32(address + 4 * k)) & _LOW32
        if is_negative:
            limb = (limb ^ _LOW32) + carry
            carry = limb >> _SHIFT32
            limb &= _LOW32
        scratch[k] = limb
    pad = (4 - scale % 4) % 4
    factor = np.uint64(1)
    for _ in range(pad):
        factor *= np.uint64(10)
    groups = 0
    digits = 24
    is_small = True
    for k in range(2, limbs):
        if scratch[k] != 0:
            is_small = False
    low = scratch[0] | (scratch[1] << _SHIFT32)
    if is_small and low < _SMALL_MAX:
        low *= factor
        while low != 0:
            scratch[digits + groups] = low % _RADIX
            low //= _RADIX
            groups += 1
    else:
        carry = np.uint64(0)
        for k in range(limbs):
            product = scratch[k] * factor + carry
            scratch[k] = product & _LOW32
            carry = product >> _SHIFT32
        scratch[limbs] = carry
        top = limbs + 1
        while top > 0 and scratch[top - 1] == 0:
            top -= 1
        while top > 0:
            rest = np.uint64(0)
            for k in range(top - 1, -1, -1):
                part = (rest << _SHIFT32) | scratch[k]
                scratch[k] = part // _RADIX
                rest = part % _RADIX
            scratch[digits + groups] = rest
            groups += 1
            while top > 0 and scratch[top - 1] == 0:
                top -= 1
    weight = groups - (scale + 3) // 4 - 1
    last = 0
    while last < groups and scratch[digits + last] == 0:
        last += 1
    count = groups - last
    if count == 0:
        weight = 0
        is_negative = False
    _store32(p, 8 + 2 * count)
    _store16(p + 4, count)
    _store16(p + 6, weight)
    _store16(p + 8, 0x4000 if is_negative else 0)
    _store16(p + 10, scale)
    p += 12
    for k in range(groups - 1, last - 1, -1):
        _store16(p, np.int64(scratch[digits + k]))
        p += 2
    return p


@njit(**_OPTIONS)
@named_by_source
def _scalar(p: int, columns: Any, c: int, row: int, scratch: Any) -> int:
    """Write length and bytes of one value that is not a list; returns the address behind it."""
    i = row + columns[c, D_OFFSET]
    kind = columns[c, D_KIND]
    valid = columns[c, D_VALID]
    if kind == K_NULL or (valid != 0 and not _is_set(valid, i)):
        _store32(p, -1)
        return p + 4
    data = columns[c, D_DATA]
    if kind == K_FIX4:
        _store32(p, 4)
        _store32(p + 4, _load32(data + 4 * i))
        return p + 8
    if kind == K_FIX8:
        _store32(p, 8)
        _store64(p + 4, _load64(data + 8 * i))
        return p + 12
    if kind == K_BYTES or kind == K_JSONB or kind == K_LARGE_BYTES:  # noqa: SIM109 numba: no tuples of globals
        offsets = columns[c, D_OFFSETS]
        if kind == K_LARGE_BYTES:
            start, end = _load64(offsets + 8 * i), _load64(offsets + 8 * i + 8)
        else:
            start, end = _load32(offsets + 4 * i), _load32(offsets + 4 * i + 4)
        size = end - start
        if kind == K_JSONB:
            _store32(p, size + 1)
            _store8(p + 4, 1)
            p += 5
        else:
            _store32(p, size)
            p += 4
        if size <= 16:
            for k in range(size):
                _store8(p + k, _load8(data + start + k))
        else:
            _copy(p, data + start, size)
        return p + size
    if kind == K_TIMESTAMP:
        _store32(p, 8)
        _store64(p + 4, _load64(data + 8 * i) - _EPOCH_US)
        return p + 12
    if kind == K_DECIMAL128:
        return _decimal(p, data + 16 * i, 2, columns[c, D_SCALE], scratch)
    if kind == K_DECIMAL256:
        return _decimal(p, data + 32 * i, 4, columns[c, D_SCALE], scratch)
    if kind == K_DATE:
        _store32(p, 4)
        _store32(p + 4, _load32(data + 4 * i) - _EPOCH_DAYS)
        return p + 8
    if kind == K_BOOL:
        _store32(p, 1)
        _store8(p + 4, 1 if _is_set(data, i) else 0)
        return p + 5
    if kind == K_FIX2:
        _store32(p, 2)
        _store16(p + 4, _load16(data + 2 * i))
        return p + 6
    if kind == K_RAW16:
        _store32(p, 16)
        _copy(p + 4, data + 16 * i, 16)
        return p + 20
    # K_INTERVAL: Arrow months, days, nanoseconds; PostgreSQL microseconds, days, months.
    _store32(p, 16)
    _store64(p + 4, _load64(data + 16 * i + 8) // 1000)
    _store32(p + 12, _load32(data + 16 * i + 4))
    _store32(p + 16, _load32(data + 16 * i))
    return p + 20


@njit(**_OPTIONS)
@named_by_source
def _list(p: int, columns: Any, c: int, row: int, scratch: Any) -> int:
    """Write length and bytes of a one-dimensional array with lower bound 1 (none at all when empty)."""
    i = row + columns[c, D_OFFSET]
    valid = columns[c, D_VALID]
    if valid != 0 and not _is_set(valid, i):
        _store32(p, -1)
        return p + 4
    offsets = columns[c, D_OFFSETS]
    start, end = _load32(offsets + 4 * i), _load32(offsets + 4 * i + 4)
    element = columns[c, D_ELEMENT]
    head = p
    _store32(p + 4, 1 if end > start else 0)
    _store32(p + 12, columns[element, D_OID])
    p += 16
    element_valid = columns[element, D_VALID]
    has_null = 1 if columns[element, D_KIND] == K_NULL and end > start else 0
    if end > start:
        _store32(p, end - start)
        _store32(p + 4, 1)
        p += 8
    for k in range(start, end):
        if element_valid != 0 and not _is_set(element_valid, k + columns[element, D_OFFSET]):
            has_null = 1
        p = _scalar(p, columns, element, k, scratch)
    _store32(head + 8, has_null)
    _store32(head, p - head - 4)
    return p


@njit("int64(int64, int64[:, ::1], int64, int64, int64, int64)", **_OPTIONS)
@named_by_source
def assemble(out: int, columns: Any, fields: int, first: int, last: int, frame: int) -> int:
    """Write rows ``first`` to ``last`` (exclusive) of the first ``fields`` columns at ``out``; returns the end."""
    scratch = np.zeros(_SCRATCH, np.uint64)
    p = out
    for row in range(first, last):
        head = p
        if frame == FRAME_COPY:
            _store16(p, fields)
            p += 2
        else:
            _store32(p + 4, fields)
            p += 8
        for c in range(fields):
            if frame == FRAME_RECORD:
                _store32(p, columns[c, D_OID])
                p += 4
            if columns[c, D_KIND] == K_LIST:
                p = _list(p, columns, c, row, scratch)
            else:
                p = _scalar(p, columns, c, row, scratch)
        if frame == FRAME_RECORD:
            _store32(head, p - head - 4)
    return p
