"""What a lane wrote since its last commit, by table and in order: in memory, and beyond a limit in a nameless file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Final

import pyarrow as pa

from sinks.delta.errors import Doing, translated
from wallaby.schema import TableName, TableSchema
from wallaby.window import TablePart

STAGE_BYTES_MAX: Final = 64 << 20
"""Bytes of changes kept in memory until the commit; what comes after them waits on disk."""
SLICE_BYTES_MAX: Final = 64 << 20
"""Bytes of one table's changes applied at once; one part may be larger."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive changes of one table in one shape."""

    schema: TableSchema
    changes: pa.Table
    """In the change layout; its buffers are its own."""
    is_first: bool
    """Nothing of the table comes before it in the commit."""
    is_last: bool
    """Nothing of the table follows before the commit."""


@dataclass(slots=True)
class _Part:
    schema: TableSchema
    rows: int
    size: int
    data: pa.Buffer | None
    """None: in the file, at ``start``."""
    start: int = 0


@dataclass(slots=True)
class _Gathered:
    parts: list[_Part] = field(default_factory=list)


class Stage:
    """Empty again after `clear`, which gives the disk's space back; so does the end of the process."""

    def __init__(self, *, memory_bytes: int = STAGE_BYTES_MAX, slice_bytes: int = SLICE_BYTES_MAX) -> None:
        self._memory_bytes = memory_bytes
        self._slice_bytes = slice_bytes
        self._tables: dict[TableName, _Gathered] = {}
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._file_bytes = 0

    def add(self, part: TablePart) -> None:
        """Take a copy: the part's buffer is shared memory of the transport and must not be held beyond this call."""
        size = part.nbytes
        if self._in_memory + size <= self._memory_bytes:
            self._in_memory += size
            kept = _Part(part.schema, part.rows, size, pa.py_buffer(bytes(part.data)))
        else:
            kept = _Part(part.schema, part.rows, size, None, self._spill(part.data))
        self._tables.setdefault(part.schema.name, _Gathered()).parts.append(kept)

    def __bool__(self) -> bool:
        return bool(self._tables)

    def tables(self) -> tuple[TableName, ...]:
        """In the order they were first written."""
        return tuple(self._tables)

    def slices(self, table: TableName, *, is_whole: bool = False) -> Iterator[Slice]:
        """The table's changes in stream order, cut where the shape changes and, unless ``is_whole``, at
        `SLICE_BYTES_MAX`."""
        parts = self._tables[table].parts
        start = 0
        while start < len(parts):
            end, size = start + 1, parts[start].size
            fingerprint = parts[start].schema.fingerprint
            while (
                end < len(parts)
                and parts[end].schema.fingerprint == fingerprint
                and (is_whole or size + parts[end].size <= self._slice_bytes)
            ):
                size += parts[end].size
                end += 1
            changes = pa.concat_tables([self._read(part) for part in parts[start:end]])
            yield Slice(parts[start].schema, changes, start == 0, end == len(parts))
            start = end

    def clear(self) -> None:
        """Forget everything."""
        self._tables.clear()
        self._in_memory = self._file_bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, part: _Part) -> pa.Table:
        data = part.data
        if data is None:
            assert self._file is not None
            with translated(Doing.WORK, table=part.schema.name):
                self._file.seek(part.start)
                data = pa.py_buffer(self._file.read(part.size))
        return TablePart(part.schema, part.rows, data).table()

    def _spill(self, data: pa.Buffer) -> int:
        with translated(Doing.WORK):
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="wallaby-delta-")  # noqa: SIM115 - closed by clear
            self._file.seek(self._file_bytes)
            self._file.write(data)
        start = self._file_bytes
        self._file_bytes += data.size
        return start


__all__ = ["SLICE_BYTES_MAX", "STAGE_BYTES_MAX", "Slice", "Stage"]
