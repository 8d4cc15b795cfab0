"""The DuckDB destination: the sink contract over one file and one connection."""

from __future__ import annotations

from pathlib import Path

from sinks.duckdb.config import CAPABILITIES, DuckDBOptions
from sinks.duckdb.engine import EngineSink
from sinks.duckdb.session import FileSession, is_writable
from wallaby.errors import WallabyError
from wallaby.schema import TableSchema
from wallaby.sink import Capabilities, Finding, error_finding

_MAGIC = b"DUCK"
_MAGIC_OFFSET = 8


class DuckDBSink(EngineSink[FileSession]):
    """See `wallaby.sink.Sink`. Holds the file's lock from the first use of the file until ``close``."""

    def __init__(self, options: DuckDBOptions, *, destination: str) -> None:
        super().__init__(FileSession(options), options, destination=destination)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def open(self) -> None:
        """Connect to the file if it exists; a new one is made by the first call that writes."""
        if self._session.path.exists():
            self._session.connect()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        path = self._session.path
        found = file_findings(path)
        if found:
            return found
        was_connected = self._session.is_connected
        if path.exists():
            try:
                self._session.connect()
            except WallabyError as error:
                return [error_finding(str(path), error.message, error.advice, "locked")]
        try:
            return self._tables.findings(tables, can_read=path.exists())
        finally:
            if not was_connected:
                self._session.close()


def file_findings(path: Path, *, is_duckdb: bool = True) -> list[Finding]:
    """What keeps the file from being opened for writing, seen from outside."""
    if not path.parent.is_dir():
        return [error_finding(str(path), "the folder does not exist", f"Create {path.parent}", "missing-folder")]
    if path.is_dir():
        return [error_finding(str(path), "is a folder", "Name a file inside it", "not-a-database")]
    if not is_writable(path):
        return [error_finding(str(path), "cannot be written", "Give this user write permission", "read-only")]
    if not is_writable(path.parent):
        return [
            error_finding(str(path.parent), "cannot be written, but the log goes there", "Give permission", "read-only")
        ]
    if is_duckdb and path.exists() and path.stat().st_size and not _is_database(path):
        return [error_finding(str(path), "is not a DuckDB database", "Name another file", "not-a-database")]
    return []


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_MAGIC_OFFSET + len(_MAGIC))[_MAGIC_OFFSET:] == _MAGIC


__all__ = ["DuckDBSink", "file_findings"]
