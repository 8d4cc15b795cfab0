"""COPY (FORMAT binary) rows of one table to change batches with op ``r``, through the same gathers as the stream."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import DecodeError
from wallaby.lsn import Lsn
from wallaby.pgoutput import kernel
from wallaby.pgoutput.batches import BatchBuilder, Rows
from wallaby.pgtypes.types import has_binary_kernel
from wallaby.schema import Column, TableSchema, quote_identifier
from wallaby.window import OP_COPY

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES: Final = len(_SIGNATURE) + 8
_CRITICAL_FLAGS: Final = 0xFFFF0000
_DATA_BYTES_MAX: Final = 2**31 - 1


def copy_select_expression(column: Column) -> str:
    """What to select for this column in ``COPY (SELECT …) TO STDOUT (FORMAT binary)``: itself, or its text.

    The text is that of the type's output function, which the stream sends too. A cast to text is something else for
    inet, cidr, xml and any extension type that defines one; ``format`` calls the output function. ``IS NULL`` would
    take a composite of NULLs for NULL; ``IS DISTINCT FROM NULL`` does not.
    """
    name = quote_identifier(column.name)
    if has_binary_kernel(column.type, column.typmod):
        return name
    return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END"


class CopyDecoder:
    """Decodes one COPY of ``schema``, whose columns were selected with `copy_select_expression`, in their order.

    ``ordinal`` counts the rows of this COPY from ``first_ordinal``. After a DecodeError the decoder is unusable.
    """

    def __init__(self, schema: TableSchema, *, snapshot_lsn: Lsn, taken_at_us: int, first_ordinal: int = 0) -> None:
        self.schema = schema
        self._snapshot_lsn = snapshot_lsn
        self._taken_at = taken_at_us
        self._builder = BatchBuilder(schema, opaque_as_text=True)
        self._ordinal = first_ordinal
        self._has_header = False
        self._is_finished = False
        self._allocate(1 << 16)

    @property
    def is_finished(self) -> bool:
        """True once the trailer came: every row was seen."""
        return self._is_finished

    @property
    def rows(self) -> int:
        """The ordinal the next row would get."""
        return self._ordinal

    def feed(self, data: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[int, pa.RecordBatch | None]:
        """Decode the whole frames in ``data[begin:end]``; returns (bytes consumed, their rows or None).

        A frame is a little-endian uint32 length and one CopyData payload: one row, the trailer, or the COPY header,
        alone or before the first row. ``data`` may be reused at once. DecodeError for anything else.
        """
        assert 0 <= begin <= end <= len(data) <= _DATA_BYTES_MAX, (begin, end, len(data))
        frames = data.view()
        frames.flags.writeable = False
        at = begin
        parts: list[pa.RecordBatch] = []
        if not self._has_header:
            at, first = self._header(frames, begin, end)
            if not self._has_header:
                return 0, None
            if first is not None:
                # The header's frame also holds the first row: decode that row as a frame of its own.
                self._rows(first, 0, len(first), parts)
        at = self._rows(frames, at, end, parts)
        if not parts:
            return at - begin, None
        return at - begin, parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _header(self, data: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[int, npt.NDArray[np.uint8] | None]:
        """Step over the first frame; returns (where it ends, a frame of what follows the header in it)."""
        if begin + 4 > end:
            return begin, None
        size = int.from_bytes(data[begin : begin + 4].tobytes(), "little")
        stop = begin + 4 + size
        if stop > end:
            return begin, None
        payload = data[begin + 4 : stop].tobytes()
        extension = int.from_bytes(payload[15:19], "big")
        after = _HEADER_BYTES + extension
        if payload[:11] != _SIGNATURE or len(payload) < after:
            raise self._malformed("it does not begin with the header of COPY BINARY")
        if int.from_bytes(payload[11:15], "big") & _CRITICAL_FLAGS:
            raise self._malformed("its header has critical flags this version does not know")
        self._has_header = True
        if len(payload) == after:
            return stop, None
        rest = payload[after:]
        return stop, np.frombuffer(len(rest).to_bytes(4, "little") + rest, np.uint8)

    def _rows(self, data: npt.NDArray[np.uint8], at: int, end: int, parts: list[pa.RecordBatch]) -> int:
        columns = len(self.schema.columns)
        state = np.zeros(kernel.STATE_SLOTS, np.int64)
        while True:
            state[:] = 0
            state[kernel.OPEN] = int(self._is_finished)
            at = kernel.parse_copy(data, at, end, columns, self._offset, self._length, state)
            self._is_finished = bool(state[kernel.OPEN])
            if state[kernel.PROBLEM]:
                raise self._malformed(kernel.PROBLEMS[int(state[kernel.PROBLEM])])
            rows = int(state[kernel.ROWS])
            if rows:
                parts.append(self._batch(data, rows))
            if not state[kernel.AT]:
                return at
            if not rows or len(parts) > 1:
                self._allocate(2 * len(self._offset))

    def _batch(self, data: npt.NDArray[np.uint8], count: int) -> pa.RecordBatch:
        columns = len(self.schema.columns)
        ordinal = np.arange(self._ordinal, self._ordinal + count, dtype=np.int64)
        self._ordinal += count
        new = np.arange(kernel.NULL_CELLS, kernel.NULL_CELLS + count * columns, max(columns, 1), dtype=np.int32)[:count]
        rows = Rows(
            op=np.full(count, OP_COPY, np.uint8),
            commit_lsn=np.full(count, int(self._snapshot_lsn), np.uint64).view(np.int64),
            ordinal=ordinal,
            xid=np.zeros(count, np.int32),
            committed_at=np.full(count, self._taken_at, np.int64),
            new=new if columns else np.full(count, kernel.NULL_CELLS, np.int32),
            old=np.zeros(count, np.int32),
            news=count,
            olds=0,
            has_unchanged=False,
        )
        return self._builder.build(data, self._offset, self._length, rows)

    def _allocate(self, cells: int) -> None:
        self._offset = np.zeros(cells, np.int32)
        self._length = np.full(cells, kernel.NULL_LENGTH, np.int32)

    def _malformed(self, reason: str) -> DecodeError:
        return DecodeError(
            f"the copy of a table is malformed: {reason}",
            advice="Copy the table again.",
            table=self.schema.name,
            lsn=self._snapshot_lsn,
        )
