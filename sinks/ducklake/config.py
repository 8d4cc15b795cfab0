"""Options of a DuckLake destination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field

from sinks.duckdb.config import CAPABILITIES as OF_FILES
from sinks.duckdb.config import EngineOptions, require_a_place_for_text
from wallaby.errors import ConfigError
from wallaby.flow.bucket import BucketOptions
from wallaby.flow.duration import Duration

CAPABILITIES: Final = OF_FILES


class CatalogKind(Enum):
    """Where DuckLake keeps what it knows of tables and files."""

    DUCKDB = "duckdb"
    """A file for one process at a time, readers among them."""
    SQLITE = "sqlite"
    """A file for several processes of one machine, one writing at a time."""
    POSTGRES = "postgres"
    """For any number of processes."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """``address`` is a path, or for PostgreSQL a connection string, which may hold a password."""

    kind: CatalogKind
    address: str

    @property
    def path(self) -> Path | None:
        """The catalog's file, if it is one."""
        return None if self.kind is CatalogKind.POSTGRES else Path(self.address)

    @property
    def place(self) -> str:
        """What errors may name."""
        return "the PostgreSQL catalog" if self.kind is CatalogKind.POSTGRES else self.address

    @property
    def attached(self) -> str:
        """As DuckLake's ATTACH wants it."""
        prefix = "" if self.kind is CatalogKind.DUCKDB else f"{self.kind.value}:"
        return f"ducklake:{prefix}{self.address}"


class DuckLakeOptions(EngineOptions, BucketOptions):
    """Where catalog and data are, and how the lake is looked after."""

    without_effect: ClassVar[Mapping[str, str]] = {
        **EngineOptions.without_effect,
        "dsn": "the engine keeps nothing itself: all is in the catalog and the data path",
        "install_extensions": "extensions come with the packages of the extra, never over the network",
    }
    secret_fields: ClassVar[frozenset[str]] = BucketOptions.secret_fields | {"catalog"}

    catalog: str = Field(min_length=1)
    """The catalog: a DuckDB file, ``sqlite:FILE`` or ``postgres:DSN``, with or without ``ducklake:`` before it."""
    catalog_name: str = Field(default="ducklake", min_length=1, max_length=63)
    """What the catalog is called while it is written; readers choose their own name."""
    data_path: str | None = None
    """Folder of the data, a local one or ``s3://bucket/prefix``; a new lake needs it, an old one knows it."""
    override_data_path: bool = False
    """Write to ``data_path`` though the lake knows another one: its data was moved."""
    merge_every: int = Field(default=200, ge=0, le=1_000_000)
    """Commits between two steps that merge small files of this flow's tables; 0: never."""
    merge_files_max: int = Field(default=64, ge=2, le=10_000)
    """Files of a table one step writes at most, so that the next commit does not wait long."""
    retention: Duration = timedelta(0)
    """Snapshots older than this end, with the files only they need, for the whole lake; 0: all are kept."""
    region: str | None = None
    """The bucket's region; default ``us-east-1``."""
    access_key: str | None = None
    """Key of the bucket, or a reference to it; none: the bucket is open to all."""

    @property
    def catalog_place(self) -> Catalog:
        """The catalog, taken apart."""
        text = self.catalog.removeprefix("ducklake:")
        for prefix, kind in (
            ("postgres:", CatalogKind.POSTGRES),
            ("sqlite:", CatalogKind.SQLITE),
            ("duckdb:", CatalogKind.DUCKDB),
        ):
            if text.startswith(prefix) and not text.startswith("postgres://"):
                return Catalog(kind, text.removeprefix(prefix))
        if text.startswith(("postgres://", "postgresql://")):
            return Catalog(CatalogKind.POSTGRES, text)
        return Catalog(CatalogKind.DUCKDB, text)

    @property
    def is_remote(self) -> bool:
        """True when the data is in a bucket."""
        return self.data_path is not None and self.data_path.startswith("s3://")


def read_options(options: Mapping[str, Any]) -> DuckLakeOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    read = DuckLakeOptions.parse(options)
    read.require_mode(CAPABILITIES)
    catalog = read.catalog_place
    if not catalog.address or (catalog.path is not None and "://" in catalog.address):
        raise ConfigError("must be FILE, sqlite:FILE or postgres:DSN", advice="Name where it is", field="catalog")
    if catalog.address.startswith(":memory:"):
        raise ConfigError("must outlive the process: the position is in it", advice="Name a path", field="catalog")
    is_local = read.data_path is not None and not read.is_remote
    if catalog.kind is CatalogKind.POSTGRES and is_local and not Path(str(read.data_path)).is_absolute():
        raise ConfigError("must be absolute: others read the catalog", advice="Begin it with /", field="data_path")
    if read.data_path is not None and "://" in read.data_path and not read.is_remote:
        raise ConfigError("must be a folder or s3://bucket/prefix", advice="Other stores come later", field="data_path")
    if read.is_remote and not str(read.data_path).removeprefix("s3://").split("/")[0]:
        raise ConfigError("names no bucket", advice="Write s3://bucket/prefix", field="data_path")
    if read.override_data_path and read.data_path is None:
        raise ConfigError("needs the new path", advice="Set data_path", field="override_data_path")
    read.require_bucket(is_bucket=read.is_remote, field="data_path")
    require_a_place_for_text(read)
    return read


__all__ = ["CAPABILITIES", "Catalog", "CatalogKind", "DuckLakeOptions", "read_options"]
