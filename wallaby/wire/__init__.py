"""Record batches as files and messages, and back: one codec per format behind one port.

A destination writes with `writer`, a consumer reads with `read`; ``docs/wire.md`` is theirs. What is read has the
content (`wallaby.content`) of what was written, in the Arrow types it was written in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, assert_never

from wallaby.flow import WireFormat
from wallaby.wire.options import COMPRESSIONS, ArrowLayout, Compression, ProtoPayload, WireOptions
from wallaby.wire.port import ByteSink, RecordWriter

if TYPE_CHECKING:  # Arrow is large, and who only reads flow files needs none of it
    import pyarrow as pa

    from wallaby.wire.source import Source

# Codecs are imported where they are chosen: a process pays for those it uses.


def writer(sink: ByteSink, schema: pa.Schema, format: WireFormat, options: WireOptions | None = None) -> RecordWriter:
    """A writer of batches of ``schema`` into ``sink``, which is written from its start to its end and never closed.

    `ConfigError` for a compression the format does not know.
    """
    return _writer(format)(sink, schema, options or WireOptions())


def read(
    source: str | Path | BinaryIO,
    format: WireFormat | str,
    *,
    schema: pa.Schema | None = None,
    sha256: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """The batches of a file, in the order they were written; a file that is given open stays open.

    JSON needs the ``schema`` that it was written with, the other formats carry it. With ``sha256`` (hexadecimal) the
    whole file is verified before its first row is given. Without, a format notices of damage what it can by itself
    (``docs/wire.md``), and `wallaby.errors.DamagedFile` may come after some rows.
    """
    from wallaby.wire.source import opened

    with opened(source, sha256=sha256) as found:
        yield from _batches(found, WireFormat(format), schema)


def _writer(format: WireFormat) -> Callable[[ByteSink, pa.Schema, WireOptions], RecordWriter]:
    match format:
        case WireFormat.ARROW:
            from wallaby.wire.arrow import ArrowWriter

            return ArrowWriter
        case WireFormat.PARQUET:
            from wallaby.wire.parquet import ParquetWriter

            return ParquetWriter
        case WireFormat.AVRO:
            from wallaby.wire.avro import AvroWriter

            return AvroWriter
        case WireFormat.JSON:
            from wallaby.wire.json_lines import JsonWriter

            return JsonWriter
        case WireFormat.PROTO:
            from wallaby.wire.protobuf import ProtobufWriter

            return ProtobufWriter
        case _:
            assert_never(format)


def _batches(source: Source, format: WireFormat, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    match format:
        case WireFormat.ARROW:
            from wallaby.wire.arrow import read_arrow

            return read_arrow(source)
        case WireFormat.PARQUET:
            from wallaby.wire.parquet import read_parquet

            return read_parquet(source)
        case WireFormat.AVRO:
            from wallaby.wire.avro_reader import read_avro

            return read_avro(source)
        case WireFormat.JSON:
            from wallaby.wire.json_lines import read_json

            return read_json(source, schema)
        case WireFormat.PROTO:
            from wallaby.wire.protobuf_reader import read_protobuf

            return read_protobuf(source)
        case _:
            assert_never(format)


__all__ = [
    "COMPRESSIONS",
    "ArrowLayout",
    "ByteSink",
    "Compression",
    "ProtoPayload",
    "RecordWriter",
    "WireFormat",
    "WireOptions",
    "read",
    "writer",
]
