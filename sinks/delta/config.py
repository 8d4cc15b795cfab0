"""Options of a Delta Lake destination."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field

from wallaby.errors import ConfigError
from wallaby.flow import HistoryOptions, TypeOptions, Unrepresentable
from wallaby.flow.bucket import BucketOptions
from wallaby.flow.duration import Duration
from wallaby.flow.options import MaintenanceOptions
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
"""A Delta commit is of one table: every table keeps its own record (specs/decisions/0028), and a transaction over
several tables appears one table after the other."""
RETENTION_MIN: Final = timedelta(hours=1)
"""Old files stay as long as a reader may take that began before they were replaced; Delta counts in hours."""


class DeltaOptions(HistoryOptions, TypeOptions, MaintenanceOptions, BucketOptions):
    """Where the tables are, how they are laid out and how they are looked after."""

    secret_fields: ClassVar[frozenset[str]] = BucketOptions.secret_fields

    path: str = Field(min_length=1)
    """The folder of all tables, a local directory or ``s3://bucket/prefix``: a table is ``<path>/<schema>/<table>``."""
    commit_interval: Duration = timedelta(seconds=1)
    """A version and a file per table and commit: one second keeps their number bearable."""
    partition_by: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Columns new tables are partitioned by (text, whole numbers, dates, booleans); every table has them."""
    change_data_feed: bool = False
    """New tables keep Delta's change data feed: every change is written once more."""
    deletion_vectors: bool = False
    """A mirror's changed rows are marked in their files, not written anew with them. Every reader must know deletion
    vectors, and the table keeps them: so it has to be asked for."""
    key_cache_size: ByteSize = 128 << 20
    """With ``deletion_vectors``, memory for the keys of data files, 12 bytes a row and 1 KiB a file. A table of which
    it does not hold the keys is read at each commit: the key columns of all files that may hold a changed key."""
    target_file_size: ByteSize = 32 << 20
    """Size of data files. An update rewrites whole files: small ones keep a mirror cheap, large ones read faster."""
    compact_files: int = Field(default=16, ge=2, le=10_000)
    """Small files of a partition that are put together."""
    z_order_by: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Columns whose near values a compaction puts into the same files; it then writes a whole partition anew."""
    checkpoint_every: int = Field(default=50, ge=1, le=1_000_000)
    """Commits to a table between two checkpoints of its log, without which opening it takes longer and longer."""
    vacuum: bool = True
    """Files no version of the last ``retention`` needs, and those no version knows, are removed."""
    retention: Duration = timedelta(days=7)
    """How long readers may stay on an old version, and how far back time travel reaches."""

    @property
    def keeps_outliers(self) -> bool:
        """True when the log has a column for values no Delta type holds."""
        return self.write_mode is WriteMode.APPEND and self.unrepresentable is Unrepresentable.TEXT

    @property
    def partitions(self) -> tuple[str, ...]:
        """Columns new tables are partitioned by, in order: a history first by whether a version still holds."""
        if self.write_mode is not WriteMode.HISTORY:
            return self.partition_by
        is_current = self.version_columns.is_current
        return (is_current, *(name for name in self.partition_by if name != is_current))

    @property
    def is_remote(self) -> bool:
        """True for a bucket, False for a directory."""
        return self.path.startswith("s3://")


def read_options(options: Mapping[str, Any]) -> DeltaOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    read = DeltaOptions.parse(options)
    read.require_mode(CAPABILITIES)
    if "://" in read.path and not read.is_remote:
        raise ConfigError("must be a directory or s3://bucket/prefix", advice="Other stores come later", field="path")
    if read.is_remote and not read.path.removeprefix("s3://").split("/")[0]:
        raise ConfigError("names no bucket", advice="Write s3://bucket/prefix", field="path")
    read.require_bucket(is_bucket=read.is_remote, field="path")
    if read.retention < RETENTION_MIN:
        raise ConfigError("must be an hour at least", advice="A day or more suits readers", field="retention")
    read.require_maintenance()
    if read.deletion_vectors:
        _require_marks(read)
    if read.write_mode is not WriteMode.APPEND and read.unrepresentable is Unrepresentable.TEXT:
        raise ConfigError(
            f"text needs a column of its own, which a {read.write_mode.value} does not have",
            advice="Use write_mode append, or unrepresentable refuse or null",
            field="unrepresentable",
        )
    return read


def _require_marks(read: DeltaOptions) -> None:
    if read.write_mode is not WriteMode.MIRROR:
        raise ConfigError("is for mirrors", advice="Remove it, or use write_mode mirror", field="deletion_vectors")
    if read.change_data_feed:
        raise ConfigError(
            "cannot be kept by commits with deletion vectors",
            advice="Choose one of change_data_feed and deletion_vectors",
            field="change_data_feed",
        )


__all__ = ["CAPABILITIES", "DeltaOptions", "read_options"]
