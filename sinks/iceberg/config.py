"""Options of an Iceberg destination."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field

from wallaby import secret
from wallaby.errors import ConfigError
from wallaby.flow.duration import Duration
from wallaby.flow.options import HistoryOptions, MaintenanceOptions, TypeOptions, Unrepresentable
from wallaby.flow.size import ByteSize
from wallaby.flow.tables import split_list
from wallaby.sink import Capabilities, WriteMode

CAPABILITIES: Final = Capabilities(
    modes=frozenset(WriteMode),
    atomic_position=True,
    keyed_upsert=True,
    whole_transactions=False,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=False,
)
"""An Iceberg commit is one table's: readers may see the tables of one transaction a moment apart, each whole."""

ORPHAN_AGE_MIN: Final = timedelta(hours=1)


class CatalogType(StrEnum):
    """Which catalog holds the tables."""

    SQL = "sql"
    """A SQLite file or a PostgreSQL database."""
    REST = "rest"
    """An Iceberg REST catalog, such as Polaris, Lakekeeper, Nessie, Unity Catalog or S3 Tables."""
    GLUE = "glue"
    """The AWS Glue Data Catalog."""


class MirrorStrategy(StrEnum):
    """How a mirror takes rows away that were updated or deleted."""

    POSITION_DELETES = "position-deletes"
    """Merge-on-read: a small file says which rows of which files are gone. The cost follows the changed rows."""
    COPY_ON_WRITE = "copy-on-write"
    """Files that lose a row are written again without it: nothing to merge for readers, dear for scattered updates."""


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _properties(value: Any) -> Any:
    """A mapping, or what a flow file has: ``name=value``, as a list or as text separated by commas."""
    if isinstance(value, Mapping):
        return dict(value)
    found = {}
    for entry in split_list(value):
        name, equals, text = entry.partition("=")
        if not name.strip() or not equals:
            raise ValueError("entries must be name=value")
        found[name.strip()] = text.strip()
    return found


class IcebergOptions(HistoryOptions, TypeOptions, MaintenanceOptions):
    """Which catalog, where the files go, and how tables are laid out."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"catalog_uri"})

    catalog_type: Annotated[CatalogType, BeforeValidator(_lower)] = CatalogType.SQL
    """``sql`` (SQLite or PostgreSQL), ``rest`` or ``glue``."""
    catalog_uri: str = ""
    """Where the catalog is: ``sqlite:///path``, ``postgresql://…`` or ``https://…``. Not needed for Glue."""
    catalog_name: str = Field(default="wallaby", min_length=1)
    """The catalog's name; in an SQL catalog it keeps the tables of several catalogs apart."""
    catalog_credential: str = ""
    """REST: client id and secret, ``id:secret``, as a reference."""
    catalog_token: str = ""
    """REST: a bearer token, as a reference."""
    catalog_properties: Annotated[dict[str, str], BeforeValidator(_properties)] = Field(default_factory=dict)
    """Further properties by pyiceberg's names, a list of ``name=value``: ``rest.sigv4-enabled=true``; no secrets."""
    warehouse: str = ""
    """Where tables are put (a directory, ``s3://bucket/prefix``), or a REST catalog's name of its warehouse."""
    endpoint: str = ""
    """An S3 server other than AWS's own."""
    region: str = ""
    """AWS region of bucket and Glue catalog."""
    access_key: str = ""
    """S3 and Glue, as a reference; default: what the machine's own identity may do."""
    secret_key: str = ""
    """S3 and Glue, as a reference."""
    session_token: str = ""
    """S3 and Glue, as a reference."""
    state_namespace: str = Field(default="wallaby", min_length=1)
    """Namespace of the lanes' position records, a tiny Iceberg table for each; no target may be put there."""
    mirror_strategy: Annotated[MirrorStrategy, BeforeValidator(_lower)] = MirrorStrategy.POSITION_DELETES
    """``position-deletes`` (default: what every verified reader reads, at a cost that follows the changes) or
    ``copy-on-write``."""
    partition_by: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Partition fields of tables wallaby makes: ``column``, ``column:day`` (``hour``, ``month``, ``year``),
    ``column:bucket[16]`` or ``column:truncate[4]``."""
    sort_by: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Order of rows inside each file of tables wallaby makes: ``column`` or ``column:desc``."""
    target_file_size: ByteSize = 128 << 20
    """Arrow bytes per data file, before compression."""
    write_buffer_size: ByteSize = 64 << 20
    """Changes kept in memory before they are written to files: about a million narrow rows, folded at once."""
    key_cache_size: ByteSize = 128 << 20
    """Memory for the keys of data files of mirrors. A table of which it does not hold the keys is read at each commit:
    the key columns of all files that may hold a changed key."""
    commit_interval: Duration = timedelta(seconds=1)
    """A file per table and commit, and a delete file for a mirror: one second keeps their number bearable."""
    compact_files: int = Field(default=16, ge=2, le=10_000)
    """Small files of a partition, or its delete files, that are put together. A file that lost a fifth of its rows is
    written again, too."""
    snapshot_retention: Duration = timedelta(days=1)
    """How far back a reader may ask for the table as of an LSN, and how long a query may take."""
    snapshots_max: int = Field(default=500, ge=1, le=100_000)
    """... but no more snapshots than these: every commit writes them all into the table's metadata, some hundred bytes
    each."""
    orphan_age: Duration = timedelta(days=3)
    """Files no snapshot knows are removed at this age; no commit may take longer."""

    @property
    def keeps_outliers(self) -> bool:
        """True when the log has a column for values no Iceberg type holds."""
        return self.write_mode is WriteMode.APPEND and self.unrepresentable is Unrepresentable.TEXT


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One entry of ``partition_by``. ``argument`` is the number of buckets or characters, 0 without."""

    column: str
    transform: str = "identity"
    argument: int = 0


@dataclass(frozen=True, slots=True)
class SortField:
    """One entry of ``sort_by``."""

    column: str
    is_descending: bool = False


_PARTITION: Final = re.compile(
    r"(?P<column>.+?)(:(?P<transform>identity|year|month|day|hour|(?P<sized>bucket|truncate)\[(?P<n>\d{1,6})\]))?"
)
_SORT: Final = re.compile(r"(?P<column>.+?)(:(?P<direction>asc|desc))?")


def partition_fields(options: IcebergOptions) -> tuple[PartitionField, ...]:
    """``partition_by`` read; `ConfigError` for an entry nobody can read."""
    found = []
    for number, text in enumerate(options.partition_by):
        match = _PARTITION.fullmatch(text)
        if match is None or (match["n"] is not None and int(match["n"]) < 1) or _has_unread(match["column"]):
            raise ConfigError(
                "is not a partition field",
                advice="Write column, column:day, column:bucket[16] or column:truncate[4]",
                field=f"partition_by[{number}]",
            )
        transform = match["sized"] or match["transform"] or "identity"
        found.append(PartitionField(match["column"], transform, int(match["n"] or 0)))
    return tuple(found)


def _has_unread(column: str) -> bool:
    return ":" in column


def sort_fields(options: IcebergOptions) -> tuple[SortField, ...]:
    """``sort_by`` read; `ConfigError` for an entry nobody can read."""
    found = []
    for number, text in enumerate(options.sort_by):
        match = _SORT.fullmatch(text)
        if match is None or _has_unread(match["column"]):
            raise ConfigError("is not a sort field", advice="Write column or column:desc", field=f"sort_by[{number}]")
        found.append(SortField(match["column"], match["direction"] == "desc"))
    return tuple(found)


def read_options(options: Mapping[str, Any]) -> IcebergOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    read = IcebergOptions.parse(options)
    read.require_mode(CAPABILITIES)
    if read.write_mode is not WriteMode.APPEND and read.unrepresentable is Unrepresentable.TEXT:
        raise ConfigError(
            f"text needs a column of its own, which a {read.write_mode.value} does not have",
            advice="Use write_mode append, or unrepresentable refuse or null",
            field="unrepresentable",
        )
    if not read.catalog_uri and read.catalog_type is not CatalogType.GLUE:
        raise ConfigError(
            f"a {read.catalog_type.value} catalog needs an address",
            advice="Set catalog_uri, for example sqlite:///data/catalog.db",
            field="catalog_uri",
        )
    if not read.warehouse and read.catalog_type is not CatalogType.REST:
        raise ConfigError(
            "tables need a place", advice="Set warehouse, for example s3://bucket/lake", field="warehouse"
        )
    if read.warehouse.startswith("file://") and not read.warehouse.startswith("file:///"):
        raise ConfigError(
            "names a host in place of a directory",
            advice="Write a path, or file:/// and an absolute one",
            field="warehouse",
        )
    if read.orphan_age < ORPHAN_AGE_MIN:
        raise ConfigError(
            "must be an hour at least",
            advice="A commit under way has files nobody knows yet; days are safe",
            field="orphan_age",
        )
    read.require_maintenance()
    for name in read.catalog_properties:
        if secret.is_sensitive_name(name):
            raise ConfigError(
                "a secret cannot stand among further properties",
                advice="Use catalog_credential, catalog_token, access_key, secret_key or session_token",
                field=f"catalog_properties.{name}",
            )
    partition_fields(read)
    sort_fields(read)
    return read


__all__ = [
    "CAPABILITIES",
    "CatalogType",
    "IcebergOptions",
    "MirrorStrategy",
    "PartitionField",
    "SortField",
    "partition_fields",
    "read_options",
    "sort_fields",
]
