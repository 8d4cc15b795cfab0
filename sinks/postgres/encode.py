"""Arrow rows as PostgreSQL binary: the body of a COPY, or one array-of-records parameter."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.memory import unwritten

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER: Final = b"\xff\xff"
CHUNK_BYTES: Final = 512 << 10
"""Target size of one encoded chunk: stays in the second-level cache, and far above the cost of a call."""

_DECIMAL_BYTES_MAX: Final = 12 + 2 * 22
_LIST_HEAD_BYTES: Final = 4 + 20


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one column becomes bytes: the type OID it is sent as, and whether text is sent with jsonb's version byte.

    ``oid`` is the element's OID for lists (the array's own is ``array_oid``).
    """

    oid: int
    is_jsonb: bool = False
    array_oid: int = 0

    @property
    def field_oid(self) -> int:
        """OID of the whole field."""
        return self.array_oid or self.oid


def copy_chunks(arrays: Sequence[pa.Array], encodings: Sequence[Encoding]) -> Iterator[memoryview]:
    """The binary COPY stream of equally long arrays, without header and trailer, in chunks.

    A chunk is valid until the next one is asked for: both live in one buffer.
    """
    from sinks.postgres.kernels import FRAME_COPY

    rows = len(arrays[0])
    frame = _Frame(arrays, encodings, row_bytes=2, field_bytes=0)
    step = max(1, min(rows, rows * CHUNK_BYTES // max(1, frame.bound(0, rows))))
    out = np.zeros(0, np.uint8)
    for first in range(0, rows, step):
        last = min(rows, first + step)
        bound = frame.bound(first, last)
        if len(out) < bound:
            out = unwritten(bound + bound // 4, np.uint8)
        yield memoryview(out.data)[: frame.write(out, 0, first, last, FRAME_COPY)]


def record_array(arrays: Sequence[pa.Array], encodings: Sequence[Encoding], record_oid: int) -> bytes:
    """All rows as one binary array of the composite type ``record_oid`` whose attributes are the columns, in order."""
    from sinks.postgres.kernels import FRAME_RECORD

    rows = len(arrays[0])
    frame = _Frame(arrays, encodings, row_bytes=8, field_bytes=4)
    head = struct.pack(">iiIii", 1, 0, record_oid, rows, 1) if rows else struct.pack(">iiI", 0, 0, record_oid)
    out = unwritten(len(head) + frame.bound(0, rows), np.uint8)
    out[: len(head)] = np.frombuffer(head, np.uint8)
    return out[: frame.write(out, len(head), 0, rows, FRAME_RECORD)].tobytes()


class _Frame:
    """Arrow columns as the kernel's matrix, with an upper bound of the bytes any range of rows can take."""

    def __init__(
        self, arrays: Sequence[pa.Array], encodings: Sequence[Encoding], *, row_bytes: int, field_bytes: int
    ) -> None:
        self._arrays = [_plain(array) for array in arrays]
        self._fields = len(self._arrays)
        self._fixed = row_bytes + field_bytes * self._fields
        self._variable: list[tuple[npt.NDArray[np.integer], int]] = []
        self._lists: list[tuple[pa.Array, pa.Array]] = []
        rows: list[list[int]] = []
        elements: list[list[int]] = []
        for array, encoding in zip(self._arrays, encodings, strict=True):
            row = self._describe(array, encoding, self._variable)
            if pa.types.is_list(array.type):
                row[7] = self._fields + len(elements)
                row[6] = encoding.array_oid
                elements.append(self._describe(_plain(array.values), encoding, None))
                self._lists.append((array, _plain(array.values)))
                self._fixed += _LIST_HEAD_BYTES
            else:
                self._fixed += _width(array.type)
            rows.append(row)
        self._columns = np.array(rows + elements, np.int64).reshape(len(rows) + len(elements), 8)

    def bound(self, first: int, last: int) -> int:
        """No encoding of rows ``first`` to ``last`` is longer."""
        total = self._fixed * (last - first)
        for offsets, start in self._variable:
            total += int(offsets[start + last]) - int(offsets[start + first])
        for array, values in self._lists:
            offsets = _offsets(array, np.int32)
            low, high = int(offsets[array.offset + first]), int(offsets[array.offset + last])
            total += (high - low) * _width(values.type)
            if _is_variable(values.type):
                inner = _offsets(values, np.int64 if _is_large(values.type) else np.int32)
                total += int(inner[values.offset + high]) - int(inner[values.offset + low])
        return total

    def write(self, out: npt.NDArray[np.uint8], at: int, first: int, last: int, frame: int) -> int:
        """Encode rows into ``out`` from ``at``; returns the end index."""
        from sinks.postgres.kernels import assemble

        base = out.ctypes.data
        end = int(assemble(base + at, self._columns, self._fields, first, last, frame)) - base
        assert end <= len(out), f"encoded {end} bytes into {len(out)}"
        return end

    def _describe(
        self, array: pa.Array, encoding: Encoding, variable: list[tuple[npt.NDArray[np.integer], int]] | None
    ) -> list[int]:
        buffers = array.buffers()
        kind, scale = _kind(array.type, encoding)
        valid = buffers[0].address if buffers[0] is not None and array.null_count else 0
        data = buffers[-1].address if len(buffers) > 1 and buffers[-1] is not None else 0
        offsets = 0
        if _is_variable(array.type) or pa.types.is_list(array.type):
            if buffers[1] is None or not buffers[1].size:
                offsets = _ZERO_OFFSETS.ctypes.data
            else:
                offsets = buffers[1].address
            if variable is not None and _is_variable(array.type):
                width = np.int64 if _is_large(array.type) else np.int32
                variable.append((_offsets(array, width), array.offset))
        return [kind, array.offset, valid, data, offsets, scale, encoding.oid, 0]


_ZERO_OFFSETS: Final = np.zeros(2, np.int64)


def _plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array of the storage type."""
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pa.concat_arrays(array.chunks or [pa.nulls(0, array.type)])
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _offsets(array: pa.Array, width: type[np.integer]) -> npt.NDArray[np.integer]:
    buffer = array.buffers()[1]
    return np.frombuffer(buffer, width) if buffer is not None and buffer.size else _ZERO_OFFSETS


def _is_large(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(arrow) or pa.types.is_large_binary(arrow))


def _is_variable(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_binary(arrow) or _is_large(arrow))


def _width(arrow: pa.DataType) -> int:
    """Upper bound of a value's bytes with its length word, without the bytes of variable-length data."""
    if pa.types.is_decimal(arrow):
        return 4 + _DECIMAL_BYTES_MAX
    if _is_variable(arrow):
        return 4 + 1
    if pa.types.is_null(arrow):
        return 4
    return 4 + 16


def _kind(arrow: pa.DataType, encoding: Encoding) -> tuple[int, int]:
    """The kernel's kind and the decimal scale of an Arrow type."""
    from sinks.postgres import kernels

    t = pa.types
    if t.is_decimal(arrow):
        return (kernels.K_DECIMAL128 if arrow.bit_width == 128 else kernels.K_DECIMAL256), arrow.scale
    if t.is_string(arrow) or t.is_binary(arrow):
        return (kernels.K_JSONB if encoding.is_jsonb else kernels.K_BYTES), 0
    if _is_large(arrow) and not encoding.is_jsonb:
        return kernels.K_LARGE_BYTES, 0
    for test, kind in (
        (t.is_boolean, kernels.K_BOOL),
        (t.is_int16, kernels.K_FIX2),
        (t.is_int32, kernels.K_FIX4),
        (t.is_uint32, kernels.K_FIX4),
        (t.is_float32, kernels.K_FIX4),
        (t.is_int64, kernels.K_FIX8),
        (t.is_uint64, kernels.K_FIX8),
        (t.is_float64, kernels.K_FIX8),
        (t.is_date32, kernels.K_DATE),
        (t.is_null, kernels.K_NULL),
        (t.is_list, kernels.K_LIST),
    ):
        if test(arrow):
            return kind, 0
    if arrow == pa.time64("us"):
        return kernels.K_FIX8, 0
    if t.is_timestamp(arrow) and arrow.unit == "us":
        return kernels.K_TIMESTAMP, 0
    if arrow == pa.binary(16):
        return kernels.K_RAW16, 0
    if arrow == pa.month_day_nano_interval():
        return kernels.K_INTERVAL, 0
    raise TypeError(f"no PostgreSQL encoding of Arrow type {arrow}")
