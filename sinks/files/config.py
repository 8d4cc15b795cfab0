"""Options of a destination of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from pydantic import Field

from wallaby.errors import ConfigError
from wallaby.flow import TypeOptions, Unrepresentable
from wallaby.flow.duration import Duration
from wallaby.sink import Capabilities, WriteMode

CAPABILITIES: Final = Capabilities(
    modes=frozenset({WriteMode.APPEND}),
    atomic_position=True,
    keyed_upsert=False,
    whole_transactions=True,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=False,
)
"""Transactions are whole for readers that follow the manifests (`sinks.files.reader`), not for ``*.parquet`` globs."""


class Compression(StrEnum):
    """Codecs every Parquet reader knows."""

    ZSTD = "zstd"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    GZIP = "gzip"
    NONE = "none"


class LogOptions(TypeOptions):
    """How a log of Parquet files is written, wherever it lies."""

    write_mode: WriteMode = WriteMode.APPEND
    """``append`` only: files are immutable, the state is derived from the log."""
    compression: Compression = Compression.ZSTD
    """zstd: the smallest of the fast ones."""
    commit_interval: Duration = timedelta(seconds=1)
    """A file per table and commit: one second keeps the number of files bearable."""
    row_group_rows: int = Field(default=262_144, ge=1_024, le=16_777_216)
    """Rows buffered before a row group is written: bounds memory per table."""

    @property
    def keeps_outliers(self) -> bool:
        """True when the log has a column for values no Parquet type holds."""
        return self.unrepresentable is Unrepresentable.TEXT


class FilesOptions(LogOptions):
    """Where the files go and how they are written."""

    secret_fields: ClassVar[frozenset[str]] = frozenset()

    path: str = Field(min_length=1)
    """The directory; it must exist and is shared with nobody but other flows."""
    fsync: bool = True
    """Files survive a power cut. Off, they survive the death of wallaby, not of the machine."""


def refuse_mirror(options: Mapping[str, Any]) -> None:
    """`ConfigError` for a mirror."""
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
    read.require_mode(CAPABILITIES)
    if "://" in read.path:
        raise ConfigError("must be a local directory", advice="Name a path without a scheme", field="path")
    return read


__all__ = ["CAPABILITIES", "Compression", "FilesOptions", "LogOptions", "read_options", "refuse_mirror"]
