"""The catalog of one destination: connecting, loading tables, and committing without pyiceberg's own retries.

pyiceberg rebases a rejected commit onto what came between and sends it again (``commit.retry.num-retries``), which lets
a stale writer win. Commits here go to the catalog directly, once: a requirement that does not hold is a `Conflict`, and
who gets one looks at the record before anything else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import AssertTableUUID, TableRequirement, TableUpdate

from sinks.files.layout import encode_name
from sinks.iceberg.config import CatalogType, IcebergOptions
from sinks.iceberg.errors import Doing, translated
from wallaby.errors import Transient

FORMAT_VERSION: Final = 2
"""Version 2 has row-level deletes; pyiceberg does not write version 3."""
_METADATA_VERSIONS_MAX: Final = 20
_SIGNED: Final = "rest.sigv4-enabled"
_PROPERTIES: Final = {
    "format-version": str(FORMAT_VERSION),
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": str(_METADATA_VERSIONS_MAX),
}


class CatalogSession:
    """Connects when first used. Not for several threads."""

    def __init__(self, options: IcebergOptions) -> None:
        self._options = options
        self._catalog: Catalog | None = None
        self._namespaces: set[str] = set()

    def catalog(self) -> Catalog:
        """The open catalog; connects. `Transient` or `Refused` when it cannot be reached."""
        if self._catalog is None:
            _require_folder(self._options)
            with translated(Doing.READ, catalog=self._options.catalog_name):
                self._catalog = load_catalog(self._options.catalog_name, **catalog_properties(self._options))
        return self._catalog

    def close(self) -> None:
        """Disconnect. Idempotent."""
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    def find(self, namespace: str, table: str) -> Table | None:
        """The table as it is now; None when there is none."""
        catalog = self.catalog()
        with translated(Doing.READ, table=f"{namespace}.{table}"):
            try:
                return catalog.load_table((namespace, table))
            except (NoSuchTableError, NoSuchNamespaceError):
                return None

    def create(
        self,
        namespace: str,
        table: str,
        schema: Schema,
        *,
        spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        order: SortOrder = UNSORTED_SORT_ORDER,
        properties: dict[str, str],
    ) -> Table:
        """A new table, or the one somebody made meanwhile."""
        catalog = self.catalog()
        with translated(Doing.WRITE, table=f"{namespace}.{table}"):
            self._ensure_namespace(catalog, namespace)
            return catalog.create_table_if_not_exists(
                (namespace, table),
                schema,
                location=self._location(namespace, table),
                partition_spec=spec,
                sort_order=order,
                properties=_PROPERTIES | properties,
            )

    def _ensure_namespace(self, catalog: Catalog, namespace: str) -> None:
        if namespace in self._namespaces:
            return
        try:
            if not catalog.namespace_exists((namespace,)):
                catalog.create_namespace((namespace,))
        except NamespaceAlreadyExistsError:
            pass
        self._namespaces.add(namespace)

    def _location(self, namespace: str, table: str) -> str | None:
        """Names as file names; a REST catalog has its own ways."""
        if self._options.catalog_type is CatalogType.REST:
            return None
        return f"{warehouse(self._options).rstrip('/')}/{encode_name(namespace)}/{encode_name(table)}"


def commit(table: Table, updates: Iterable[TableUpdate], requirements: Iterable[TableRequirement]) -> None:
    """Commit to ``table`` as it was loaded, which then is what it became.

    `Conflict` when a requirement does not hold, `OutcomeUnknown` when the catalog's answer is lost.
    """
    where = ".".join(table.name())
    with translated(Doing.COMMIT, table=where), warnings.catch_warnings():
        # An old metadata file that cannot be removed is refuse, not a failure.
        warnings.filterwarnings("ignore", message="Failed to delete old metadata")
        table._do_commit(
            updates=tuple(updates),
            requirements=(AssertTableUUID(uuid=table.metadata.table_uuid), *requirements),
        )


def catalog_properties(options: IcebergOptions) -> dict[str, str]:
    """pyiceberg's properties for the options."""
    named = {
        "type": options.catalog_type.value,
        "uri": _driven(options.catalog_uri),
        "warehouse": warehouse(options),
        "credential": options.catalog_credential,
        "token": options.catalog_token,
        "s3.endpoint": options.endpoint,
        "s3.region": options.region,
        "s3.access-key-id": options.access_key,
        "s3.secret-access-key": options.secret_key,
        "s3.session-token": options.session_token,
    }
    if options.catalog_type is CatalogType.GLUE:
        named |= {
            "glue.region": options.region,
            "glue.access-key-id": options.access_key,
            "glue.secret-access-key": options.secret_key,
            "glue.session-token": options.session_token,
        }
    if options.catalog_type is CatalogType.REST and options.catalog_properties.get(_SIGNED, "").lower() == "true":
        # Requests to the catalog are signed by the keys that open its warehouse: S3 Tables, Glue's REST catalog.
        named |= {
            "client.region": options.region,
            "client.access-key-id": options.access_key,
            "client.secret-access-key": options.secret_key,
            "client.session-token": options.session_token,
        }
    return {name: value for name, value in named.items() if value} | options.catalog_properties


def warehouse(options: IcebergOptions) -> str:
    """The warehouse as tables name it: a path is an absolute one, for readers that are elsewhere."""
    place = options.warehouse
    if not place or options.catalog_type is CatalogType.REST or urlparse(place).scheme:
        return place
    return f"file://{Path(place).absolute()}"


def _driven(uri: str) -> str:
    """A PostgreSQL address without a driver gets the one wallaby has."""
    scheme, separator, rest = uri.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else uri


def _require_folder(options: IcebergOptions) -> None:
    """SQLite creates the catalog's file, not its folder."""
    address = urlparse(options.catalog_uri)
    if address.scheme == "sqlite" and address.path.strip("/"):
        folder = Path(address.path.removeprefix("/")).parent
        if not folder.is_dir():
            raise Transient("the folder of the catalog's file does not exist", advice=f"Create {folder}", path=folder)


__all__ = ["FORMAT_VERSION", "CatalogSession", "catalog_properties", "commit", "warehouse"]
