"""Whether an SQL catalog can be written, seen before anything is. Other catalogs tell at the first write."""

from __future__ import annotations

import os
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import Engine, text

from sinks.iceberg.errors import Doing, translated
from wallaby.sink import Finding, error_finding

_ASKED: Final = text(
    """
    SELECT current_setting('transaction_read_only') = 'on' AS is_read_only,
           bool_and(has_table_privilege(name::regclass, privilege)) AS may_write
    FROM unnest(ARRAY['iceberg_tables', 'iceberg_namespace_properties']) AS name,
         unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS privilege
    """
)


def catalog_findings(catalog: Catalog) -> list[Finding]:
    """A file or database that may be read only. Changes nothing."""
    if not isinstance(catalog, SqlCatalog):
        return []
    with translated(Doing.READ, catalog=catalog.name):
        match catalog.engine.dialect.name:
            case "sqlite":
                return _of_file(catalog.engine)
            case "postgresql":
                return _of_database(catalog.engine)
            case _:
                return []


def _of_file(engine: Engine) -> list[Finding]:
    path = engine.url.database or ""
    # SQLite writes its journal beside the file.
    places = [place for place in (path, os.path.dirname(os.path.abspath(path))) if os.path.exists(place)]
    if all(os.access(place, os.W_OK) for place in places):
        return []
    advice = "Give this user write permission for the catalog's file and its folder"
    return [error_finding("catalog", "the catalog's file cannot be written", advice, "read-only")]


def _of_database(engine: Engine) -> list[Finding]:
    with engine.connect() as connection:
        is_read_only, may_write = connection.execute(_ASKED).one()
    if is_read_only:
        advice = "Connect to the primary, or to a database whose default is not read only"
        return [error_finding("catalog", "the catalog's database is read only", advice, "destination-read-only")]
    if not may_write:
        advice = "Grant INSERT, UPDATE and DELETE on iceberg_tables and iceberg_namespace_properties"
        return [error_finding("catalog", "the role may read the catalog and not write it", advice, "read-only")]
    return []


__all__ = ["catalog_findings"]
