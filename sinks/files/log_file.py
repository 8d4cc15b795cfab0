"""One file in the making: changes are gathered into log rows, bytes are hashed on their way to the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from sinks.files.config import LogOptions
from sinks.files.errors import translated
from wallaby.flow import Unrepresentable
from wallaby.schema import TableSchema
from wallaby.transform.append import append_rows, append_schema
from wallaby.transform.outliers import refuse_outliers
from wallaby.window import TablePart
from wallaby.wire import writer

GATHER_BYTES_MAX: Final = 32 << 20
"""Bytes of changes kept per file before they become log rows."""
_DIRECT_ROWS: Final = 65_536
"""Windows from this size on become log rows at once, without a copy."""


class _HashedFile:
    """A file that hashes what it takes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self.digest = hashlib.sha256()

    def write(self, data: memoryview) -> int:
        done = self._file.write(data)
        self.digest.update(data[:done])
        return done

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class LogFile:
    """A staged file of one table and shape. After any error: `discard`."""

    def __init__(self, path: Path, schema: TableSchema, options: LogOptions, *, fsync: bool) -> None:
        self.path = path
        self.schema = schema
        self.rows = 0
        self._options = options
        self._fsync = fsync
        self._arrow = append_schema(schema, keep_outliers=options.keeps_outliers)
        self._gathered: list[pa.Table] = []
        self._gathered_rows = self._gathered_bytes = 0
        with translated(table=schema.name):
            self._file = _HashedFile(path)
            self._writer = writer(self._file, self._arrow, options.format, options.wire(schema))

    @property
    def bytes(self) -> int:
        """Bytes in the file; complete after `seal`."""
        return self._writer.bytes_written

    @property
    def arrow_schema(self) -> pa.Schema:
        """Of the rows in the file."""
        return self._arrow

    @property
    def is_large(self) -> bool:
        """True when the file has the size that files shall have."""
        return self.bytes >= self._options.target_file_size

    @property
    def sha256(self) -> str:
        return self._file.digest.hexdigest()

    def write(self, part: TablePart) -> None:
        """Take the part. Its buffer is not held afterwards."""
        if part.rows >= _DIRECT_ROWS:
            self.flush()
            self._write_changes(part.table())
            return
        copied = TablePart(part.schema, part.rows, pa.py_buffer(bytes(part.data))).table()
        self._gathered.append(copied)
        self._gathered_rows += part.rows
        self._gathered_bytes += part.nbytes
        outliers = copied.column("outliers")
        is_full = self._gathered_rows >= self._options.row_group_rows or self._gathered_bytes >= GATHER_BYTES_MAX
        # Outliers may be refused: better by the call that brought them.
        if is_full or outliers.null_count < len(outliers):
            self.flush()

    def flush(self) -> None:
        """Make log rows of what is gathered."""
        gathered, self._gathered = self._gathered, []
        self._gathered_rows = self._gathered_bytes = 0
        if gathered:
            self._write_changes(pa.concat_tables(gathered))

    def write_rows(self, rows: pa.Table) -> None:
        """Rows that are log rows already."""
        with translated(table=self.schema.name):
            for batch in rows.to_batches():
                self._writer.add(batch)
        self.rows += rows.num_rows

    def seal(self, metadata: Mapping[str, str]) -> None:
        """Finish the file with ``metadata`` in its footer, durable if so asked."""
        self.flush()
        with translated(table=self.schema.name):
            self._writer.finish(metadata)
            if self._fsync:
                self._file.sync()
            self._file.close()

    def discard(self) -> None:
        """Close and remove the file, whatever state it is in."""
        self._gathered.clear()
        self._writer.abandon()
        with translated(table=self.schema.name):
            self._file.close()
            self.path.unlink(missing_ok=True)

    def _write_changes(self, changes: pa.Table) -> None:
        if self._options.unrepresentable is Unrepresentable.REFUSE:
            refuse_outliers(self.schema, changes)
        self.write_rows(append_rows(self.schema, changes, keep_outliers=self._options.keeps_outliers))


__all__ = ["GATHER_BYTES_MAX", "LogFile"]
