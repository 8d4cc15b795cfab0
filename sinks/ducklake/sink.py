"""The DuckLake destination: the sink contract over a lake's catalog."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psycopg

from sinks.duckdb.engine import EngineSink
from sinks.duckdb.sink import file_findings
from sinks.ducklake.bucket import bucket_findings
from sinks.ducklake.config import CAPABILITIES, Catalog, CatalogKind, DuckLakeOptions
from sinks.ducklake.session import ENGINE, LakeSession
from wallaby.errors import Refused, WallabyError
from wallaby.schema import TableSchema
from wallaby.sink import Capabilities, Finding, Severity, error_finding

_CONNECT_TIMEOUT_SECONDS: Final = 10


class DuckLakeSink(EngineSink[LakeSession]):
    """See `wallaby.sink.Sink`. A catalog in a DuckDB file is locked from its first use until ``close``."""

    def __init__(self, options: DuckLakeOptions, *, destination: str, engine: str = ENGINE) -> None:
        super().__init__(LakeSession(options, engine=engine), options, destination=destination)
        self._options = options

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def open(self) -> None:
        """Connect to a lake whose catalog file exists; a new one is made by the first call that writes."""
        path = self._options.catalog_place.path
        if path is not None and path.exists():
            self._session.connect_to_lake()

    def ensure_table(self, schema: TableSchema) -> None:
        super().ensure_table(schema)
        self._session.upkeep.watch(self._tables.target(schema.name))
        if not self._session.in_transaction:
            self._session.upkeep.merge_notes(self._session)

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        found, exists = _catalog_findings(self._options.catalog_place)
        found += _data_findings(self._options)
        if any(finding.severity is Severity.ERROR for finding in found):
            return found
        was_connected = self._session.is_connected
        try:
            exists = exists and self._session.connect_to_lake()
            if not exists and self._options.data_path is None:
                return [
                    error_finding("data_path", "a new lake needs it", "Set the option data_path", "missing-data-path")
                ]
            return found + self._tables.findings(tables, can_read=exists)
        except WallabyError as error:
            code = "catalog" if isinstance(error, Refused) else "locked"
            return [error_finding(self._session.place, error.message, error.advice, code)]
        finally:
            if not was_connected:
                self._session.close()


def _catalog_findings(catalog: Catalog) -> tuple[list[Finding], bool]:
    """What keeps the catalog from being opened for writing; and, if nothing does, whether it is there."""
    if catalog.path is not None:
        return file_findings(catalog.path, is_duckdb=catalog.kind is CatalogKind.DUCKDB), catalog.path.exists()
    try:
        with psycopg.connect(catalog.address, connect_timeout=_CONNECT_TIMEOUT_SECONDS) as connection:
            row = connection.execute(
                "SELECT current_setting('transaction_read_only') = 'on',"
                " to_regclass('ducklake_metadata') IS NOT NULL,"
                " coalesce(has_table_privilege(to_regclass('ducklake_snapshot'), 'INSERT'),"
                " has_schema_privilege(current_schema(), 'CREATE'), false)"
            ).fetchone()
    except psycopg.Error as error:
        # Without DuckDB's or libpq's words: they may name the login.
        message = f"does not answer, or refuses the login ({type(error).__name__})"
        return [
            error_finding(catalog.place, message, "Check address, login and pg_hba.conf", "destination-unreachable")
        ], False
    assert row is not None, "a query without FROM returns one row"
    is_read_only, exists, may_write = row
    if is_read_only:
        return [
            error_finding(catalog.place, "is read-only", "Name the primary server", "destination-read-only")
        ], exists
    if not may_write and exists:
        advice = "GRANT SELECT, INSERT, UPDATE, DELETE on its tables, and CREATE on their schema"
        return [error_finding(catalog.place, "the role may read it and not write it", advice, "read-only")], exists
    if not may_write:
        return [
            error_finding(catalog.place, "nothing can be made in it", "GRANT CREATE on its schema", "read-only")
        ], exists
    return [], exists


def _data_findings(options: DuckLakeOptions) -> list[Finding]:
    """What keeps the data path from being written. DuckLake makes the folder itself, but not its parents."""
    if options.is_remote:
        return bucket_findings(options)
    if options.data_path is None:
        return []
    path = Path(options.data_path)
    nearest = path if path.is_dir() else path.parent
    if path.exists() and not path.is_dir():
        return [error_finding(str(path), "is not a folder", "Name a folder", "not-a-folder")]
    if not nearest.is_dir():
        return [error_finding(str(nearest), "the folder does not exist", f"Create {nearest}", "missing-folder")]
    if not os.access(nearest, os.W_OK):
        return [error_finding(str(nearest), "cannot be written", "Give this user write permission", "read-only")]
    return []


__all__ = ["DuckLakeSink"]
