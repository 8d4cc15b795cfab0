"""Options of destinations of files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, field_validator

from sinks.files.partition import Partition
from wallaby.errors import ConfigError
from wallaby.flow import TypeOptions, Unrepresentable, WireFormat
from wallaby.flow.duration import Duration
from wallaby.flow.size import ByteSize
from wallaby.flow.tables import split_list
from wallaby.schema import TableSchema
from wallaby.sink import Capabilities, WriteMode
from wallaby.wire.options import Compression, WireOptions

CAPABILITIES: Final = Capabilities(
    modes=frozenset({WriteMode.APPEND}),
    atomic_position=True,
    keyed_upsert=False,
    whole_transactions=True,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=False,
)
"""Transactions are whole for readers that follow the manifests (`sinks.files.reader`), not for globs."""


class LogOptions(TypeOptions):
    """How a log's files are written, wherever they lie."""

    without_effect: ClassVar[Mapping[str, str]] = {
        name: reason for name, reason in TypeOptions.without_effect.items() if name != "format"
    }

    write_mode: WriteMode = WriteMode.APPEND
    """``append`` only: files are immutable, the state is derived from the log."""
    format: WireFormat = WireFormat.PARQUET
    """``parquet``, ``arrow``, ``avro``, ``json`` or ``proto``."""
    compression: Compression | None = None
    """One the format knows; default: the format's first, zstd (Avro: snappy)."""
    commit_interval: Duration = timedelta(seconds=1)
    """A file per table and commit: one second keeps the number of files bearable."""
    partition_by: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Folders below a table's: columns (text, whole numbers, booleans, dates) and times with a width, such as
    ``region`` and ``__committed_at:day`` (year, month, day or hour, in UTC); every table has them."""
    target_file_size: ByteSize = 128 << 20
    """A commit that writes more of a table writes several files of about this size."""
    row_group_rows: int = Field(default=262_144, ge=1_024, le=16_777_216)
    """Rows buffered before a row group is written: bounds memory per table."""

    @field_validator("partition_by")
    @classmethod
    def _are_partitions(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        labels = [Partition.parse(entry).label for entry in entries]
        if len(set(labels)) < len(labels):
            raise ValueError("must name each folder once")
        return entries

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """`partition_by`, read."""
        return tuple(map(Partition.parse, self.partition_by))

    @property
    def keeps_outliers(self) -> bool:
        """True when the log has a column for values the format has no place for."""
        return self.unrepresentable is Unrepresentable.TEXT

    @property
    def suffix(self) -> str:
        """How the names of the files end."""
        return WireOptions(compression=self.compression).suffix(self.format)

    def wire(self, schema: TableSchema) -> WireOptions:
        """What the codec is told about a file of the table."""
        return WireOptions(
            compression=self.compression,
            table=schema.name,
            schema_version=schema.version,
            key=tuple(schema.columns[index].name for index in schema.key),
            row_group_rows=self.row_group_rows,
        )

    def require_log(self) -> None:
        """`ConfigError` for what no storage can have."""
        self.require_mode(CAPABILITIES)
        WireOptions(compression=self.compression).codec(self.format)


class FilesOptions(LogOptions):
    """Where the files go and how they are written."""

    secret_fields: ClassVar[frozenset[str]] = frozenset()

    path: str = Field(min_length=1)
    """The directory; it must exist and is shared with nobody but other flows."""
    fsync: bool = True
    """Files survive a power cut. Off, they survive the death of wallaby, not of the machine."""


def refuse_mirror(options: Mapping[str, Any]) -> None:
    """`ConfigError` for a mode that would change files."""
    if str(options.get("write_mode", "")).lower() in ("mirror", "target"):
        raise ConfigError(
            "files are never changed once written, so they cannot mirror a table",
            advice="Leave write_mode out (append) and derive the state from the log, or use a duckdb destination",
            field="write_mode",
        )


def read_options(options: Mapping[str, Any]) -> FilesOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    refuse_mirror(options)
    read = FilesOptions.parse(options)
    read.require_log()
    if "://" in read.path:
        raise ConfigError(
            "must be a local directory",
            advice="Name a path without a scheme; buckets are destinations of type s3",
            field="path",
        )
    return read


__all__ = ["CAPABILITIES", "FilesOptions", "LogOptions", "read_options", "refuse_mirror"]
