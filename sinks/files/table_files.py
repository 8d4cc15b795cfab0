"""A table's files of one commit: changes are gathered into log rows, which go to the files of their folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.ipc

from sinks.files.config import LogOptions
from sinks.files.log_file import LogFile
from sinks.files.split import split
from wallaby.flow import Unrepresentable
from wallaby.schema import TableSchema
from wallaby.transform.append import append_rows, append_schema
from wallaby.transform.outliers import refuse_outliers
from wallaby.window import TablePart

GATHER_BYTES_MAX: Final = 32 << 20
"""Bytes of changes kept per table before they become log rows."""
OPEN_FILES_MAX: Final = 64
"""Files of a table that are open at once: rows of further folders wait."""
WAITING_BYTES_MAX: Final = 64 << 20
"""Rows kept per table for folders without an open file, so that many folders get a file each per commit and not one per
window. Beyond it they are written, and each ends the file written to longest ago. They may keep as much again."""
_DIRECT_ROWS: Final = 65_536
"""Windows from this size on become log rows at once, without a copy."""


class TableFiles:
    """The files of one table and shape. After any error: `discard`.

    ``place`` gives each file its path, ``origin`` is what the footer of every file says.
    """

    def __init__(
        self,
        schema: TableSchema,
        options: LogOptions,
        *,
        place: Callable[[], Path],
        origin: dict[str, str],
        fsync: bool,
    ) -> None:
        self.schema = schema
        self._options = options
        self._place = place
        self._origin = origin
        self._fsync = fsync
        self._arrow_schema = append_schema(schema, keep_outliers=options.keeps_outliers)
        self._open: dict[str, LogFile] = {}
        self._finished: list[LogFile] = []
        self._gathered: list[pa.Table] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._waiting: dict[str, list[pa.Table]] = {}
        self._waiting_bytes = 0
        self._encoding_bytes = 0
        if not options.partition_by:
            self._file("")

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
        later: list[tuple[str, pa.Table]] = []
        for folder, own in split(rows, self._options.partitions):
            if folder in self._waiting or (folder not in self._open and len(self._open) >= OPEN_FILES_MAX):
                later.append((folder, own))
            else:
                self._put(folder, own)
        if later:
            self._wait(later, rows)
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._put_waiting()

    @property
    def held_bytes(self) -> int:
        """Bytes of rows in memory."""
        return self._gathered_bytes + self._waiting_bytes + self._encoding_bytes

    def release(self) -> None:
        """Keep no rows in memory; more may come."""
        self.flush()
        self._put_waiting()
        for file in self._open.values():
            file.release()
        self._encoding_bytes = 0

    def finish(self) -> None:
        """No more rows come, though the commit does not yet: needs no memory from now on."""
        self.flush()
        self._put_waiting()
        for folder in tuple(self._open):
            self._finish(folder)

    def seal(self, positions: dict[str, str]) -> list[LogFile]:
        """Finish all files; the footers of those that are finished by now say ``positions``, too."""
        self.flush()
        self._put_waiting()
        for file in self._open.values():
            file.seal(self._origin | positions)
        self._encoding_bytes = 0
        self._finished += self._open.values()
        self._open.clear()
        return [file for file in self._finished if file.rows]

    def discard(self) -> None:
        """Close and remove all files, whatever state they are in."""
        self._gathered.clear()
        self._waiting.clear()
        files = [*self._open.values(), *self._finished]
        self._open.clear()
        self._finished.clear()
        for file in files:
            file.discard()

    def _write_changes(self, changes: pa.Table) -> None:
        if self._options.unrepresentable is Unrepresentable.REFUSE:
            refuse_outliers(self.schema, changes)
        self.write_rows(append_rows(self.schema, changes, keep_outliers=self._options.keeps_outliers))

    def _wait(self, later: list[tuple[str, pa.Table]], rows: pa.Table) -> None:
        size = sum(own.nbytes for _, own in later)
        # What is whole was not copied, and may lie in a buffer that is not ours; a part keeps all it was cut from.
        is_copied = len(later[0][1]) == len(rows) or 2 * size < rows.nbytes
        for folder, own in later:
            self._waiting.setdefault(folder, []).append(_copied(own) if is_copied else own)
        self._waiting_bytes += size

    def _put_waiting(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        for folder, tables in waiting.items():
            self._put(folder, pa.concat_tables(tables))

    def _put(self, folder: str, rows: pa.Table) -> None:
        file = self._file(folder)
        held = file.held_bytes
        file.write(rows)
        self._encoding_bytes += file.held_bytes - held
        if file.is_large:
            self._finish(folder)

    def _file(self, folder: str) -> LogFile:
        file = self._open.pop(folder, None)
        if file is None:
            if len(self._open) >= OPEN_FILES_MAX:
                self._finish(next(iter(self._open)))
            file = LogFile(
                self._place(), self.schema, self._arrow_schema, self._options, folder=folder, fsync=self._fsync
            )
        # Last in the dictionary: the first is the one written to longest ago.
        self._open[folder] = file
        return file

    def _finish(self, folder: str) -> None:
        file = self._open[folder]
        self._encoding_bytes -= file.held_bytes
        file.seal(self._origin)
        self._finished.append(self._open.pop(folder))


def _copied(rows: pa.Table) -> pa.Table:
    batches = [pa.ipc.read_record_batch(batch.serialize(), batch.schema) for batch in rows.to_batches()]
    return pa.Table.from_batches(batches, rows.schema)


__all__ = ["GATHER_BYTES_MAX", "OPEN_FILES_MAX", "WAITING_BYTES_MAX", "TableFiles"]
