"""One file in the making: rows are encoded, bytes are hashed on their way to the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from sinks.files.config import LogOptions
from sinks.files.errors import translated
from wallaby.schema import TableSchema
from wallaby.wire import writer


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
    """A file of one table, shape and ``folder`` below the table's. After any error: `discard`.

    ``arrow_schema`` is that of the log's rows.
    """

    def __init__(
        self,
        path: Path,
        schema: TableSchema,
        arrow_schema: pa.Schema,
        options: LogOptions,
        *,
        folder: str,
        fsync: bool,
    ) -> None:
        self.path = path
        self.schema = schema
        self.folder = folder
        self.rows = 0
        self.arrow_schema = arrow_schema
        self._size = options.target_file_size
        self._fsync = fsync
        with translated(table=schema.name):
            self._file = _HashedFile(path)
            self._writer = writer(self._file, self.arrow_schema, options.format, options.wire(schema))

    @property
    def bytes(self) -> int:
        """Bytes in the file; complete after `seal`."""
        return self._writer.bytes_written

    @property
    def is_large(self) -> bool:
        """True when the file has the size that files shall have."""
        return self.bytes >= self._size

    @property
    def sha256(self) -> str:
        return self._file.digest.hexdigest()

    def write(self, rows: pa.Table) -> None:
        """Take log rows."""
        with translated(table=self.schema.name):
            for batch in rows.to_batches():
                self._writer.add(batch)
        self.rows += rows.num_rows

    @property
    def held_bytes(self) -> int:
        """Bytes of rows in memory."""
        return self._writer.held_bytes

    def release(self) -> None:
        """Keep no rows in memory; more may come."""
        with translated(table=self.schema.name):
            self._writer.release()

    def seal(self, metadata: Mapping[str, str]) -> None:
        """Finish the file with ``metadata`` in its footer, durable if so asked."""
        with translated(table=self.schema.name):
            self._writer.finish(metadata)
            if self._fsync:
                self._file.sync()
            self._file.close()

    def discard(self) -> None:
        """Close and remove the file, whatever state it is in."""
        self._writer.abandon()
        with translated(table=self.schema.name):
            self._file.close()
            self.path.unlink(missing_ok=True)


__all__ = ["LogFile"]
