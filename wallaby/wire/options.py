"""How records are written: the compressions of each format, and what the formats want to know beyond the schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from wallaby.errors import ConfigError
from wallaby.flow import WireFormat
from wallaby.schema import TableName


class Compression(StrEnum):
    """Codecs. Which a format knows: `COMPRESSIONS`."""

    ZSTD = "zstd"
    LZ4 = "lz4"
    SNAPPY = "snappy"
    DEFLATE = "deflate"
    GZIP = "gzip"
    NONE = "none"


COMPRESSIONS: Final[Mapping[WireFormat, tuple[Compression, ...]]] = MappingProxyType(
    {
        WireFormat.ARROW: (Compression.ZSTD, Compression.LZ4, Compression.NONE),
        WireFormat.PARQUET: (
            Compression.ZSTD,
            Compression.SNAPPY,
            Compression.LZ4,
            Compression.GZIP,
            Compression.NONE,
        ),
        WireFormat.PROTO: (Compression.ZSTD, Compression.GZIP, Compression.NONE),
        WireFormat.AVRO: (Compression.SNAPPY, Compression.ZSTD, Compression.DEFLATE, Compression.NONE),
        WireFormat.JSON: (Compression.ZSTD, Compression.GZIP, Compression.NONE),
    }
)
"""The first is the default: the smallest of the fast ones. For Avro it is snappy, which alone has a checksum there, and
which more readers know than zstd."""


_SUFFIXES: Final[Mapping[WireFormat, str]] = MappingProxyType(
    {
        WireFormat.ARROW: ".arrows",
        WireFormat.PARQUET: ".parquet",
        WireFormat.AVRO: ".avro",
        WireFormat.JSON: ".jsonl",
        WireFormat.PROTO: ".binpb",
    }
)
_PACKED_SUFFIXES: Final[Mapping[Compression, str]] = MappingProxyType(
    {Compression.ZSTD: ".zst", Compression.GZIP: ".gz"}
)


class ArrowLayout(StrEnum):
    """The two ways to lay out Arrow's IPC messages."""

    STREAM = "stream"
    """Read from the beginning to the end: for messages and pipes."""
    FILE = "file"
    """With a footer, for random access and memory maps."""


class ProtoPayload(StrEnum):
    """What a Protobuf batch carries."""

    RECORDS = "records"
    """A message per row, as the contract has it."""
    ARROW = "arrow"
    """The rows as an Arrow stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """What a codec may be told. The defaults suit every format."""

    compression: Compression | None = None
    """None: the format's default."""
    table: TableName | None = None
    """What Avro and Protobuf call the records, and errors the table."""
    schema_version: int = 0
    """Of the table, for Protobuf."""
    key: tuple[str, ...] = ()
    """The key's columns, for Protobuf's records."""
    arrow_layout: ArrowLayout = ArrowLayout.STREAM
    proto_payload: ProtoPayload = ProtoPayload.RECORDS
    row_group_rows: int = 262_144
    """Parquet gathers this many rows before it writes them: bounds memory per file."""

    def suffix(self, format: WireFormat) -> str:
        """How the names of such files end, with the compression where it is around the whole file."""
        if format is WireFormat.ARROW and self.arrow_layout is ArrowLayout.FILE:
            return ".arrow"
        if format in (WireFormat.JSON, WireFormat.PROTO):
            return _SUFFIXES[format] + _PACKED_SUFFIXES.get(self.codec(format), "")
        return _SUFFIXES[format]

    def codec(self, format: WireFormat) -> Compression:
        """The compression to use; `ConfigError` for one that the format does not know."""
        known = COMPRESSIONS[format]
        if self.compression is None:
            return known[0]
        if self.compression not in known:
            raise ConfigError(
                f"{format} files cannot be compressed with {self.compression}",
                field="compression",
                advice=f"Choose one of {', '.join(known)}",
            )
        return self.compression


__all__ = ["COMPRESSIONS", "ArrowLayout", "Compression", "ProtoPayload", "WireOptions"]
