"""Avro Object Container Files: rows encoded in columns, gathered into blocks, compressed by block.

A file is a header (the Avro schema, the codec, and the Arrow schema for readers that want the columns' types back), and
blocks, each ended by the header's mark. A block tells how many bytes it has; the file does not tell where it ends: cut
off between two blocks it looks whole, which its digest tells. Of the codecs only snappy comes with a checksum.

The mark is made of the header: the same rows make the same file, and a header that was changed does not fit its mark.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from wallaby.flow import WireFormat
from wallaby.wire.avro_cells import encoded
from wallaby.wire.avro_schema import avro_schema
from wallaby.wire.errors import refusing
from wallaby.wire.options import Compression, WireOptions
from wallaby.wire.port import ByteSink, CountedOutput
from wallaby.wire.varint import varint

FORMAT: Final = WireFormat.AVRO
MAGIC: Final = b"Obj\x01"
MARK_BYTES: Final = 16
ARROW_SCHEMA: Final = "wallaby.arrow_schema"
CODECS: Final = {
    Compression.ZSTD: "zstandard",
    Compression.SNAPPY: "snappy",
    Compression.DEFLATE: "deflate",
    Compression.NONE: "null",
}
"""Avro's names."""
BLOCK_BYTES: Final = 1 << 20
"""A block is written when it has this much."""
_PIECE_BYTES: Final = 4 << 20
"""Rows of about this size are encoded at once."""
_DEFLATE_LEVEL: Final = 4


class AvroWriter:
    """See `wallaby.wire.port.RecordWriter`."""

    def __init__(self, sink: ByteSink, schema: pa.Schema, options: WireOptions) -> None:
        self._codec = options.codec(FORMAT)
        self._table = options.table
        self._output = CountedOutput(sink)
        header = {
            "avro.schema": json.dumps(avro_schema(schema, options.table)),
            "avro.codec": CODECS[self._codec],
            ARROW_SCHEMA: base64.b64encode(schema.serialize()).decode(),
        }
        self._mark = mark_of(header)
        self._gathered: list[memoryview] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._output.write(MAGIC + _map(header) + self._mark)

    @property
    def bytes_written(self) -> int:
        return self._output.bytes

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows == 0:
            return
        step = max(1, _PIECE_BYTES * batch.num_rows // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, step):
            with refusing(FORMAT, self._table):
                rows = encoded(batch.slice(start, step))
            self._gathered.append(rows.data.data)
            self._gathered_rows += len(rows)
            self._gathered_bytes += len(rows.data)
            if self._gathered_bytes >= BLOCK_BYTES:
                self._flush()

    @property
    def held_bytes(self) -> int:
        return 0

    def release(self) -> None:
        """A block is all that is gathered."""

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        self._flush()

    def abandon(self) -> None:
        self._gathered.clear()
        self._gathered_rows = self._gathered_bytes = 0
        self._output.drop()

    def _flush(self) -> None:
        if not self._gathered_rows:
            return
        data = b"".join(self._gathered) if len(self._gathered) > 1 else self._gathered[0]
        packed = _packed(data, self._codec)
        self._output.write(number(self._gathered_rows) + number(len(packed)))
        self._output.write(packed)
        self._output.write(self._mark)
        self._gathered.clear()
        self._gathered_rows = self._gathered_bytes = 0


def mark_of(header: Mapping[str, str]) -> bytes:
    """What ends the header and every block."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).digest()[:MARK_BYTES]


def _packed(data: bytes | memoryview, codec: Compression) -> bytes | memoryview:
    match codec:
        case Compression.NONE:
            return data
        case Compression.DEFLATE:
            packer = zlib.compressobj(_DEFLATE_LEVEL, wbits=-15)
            return packer.compress(data) + packer.flush()
        case Compression.SNAPPY:
            return pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big")
        case _:
            return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def number(value: int) -> bytes:
    """A long that is not negative."""
    return varint(value << 1)


def _map(entries: Mapping[str, str]) -> bytes:
    words = [word.encode() for entry in entries.items() for word in entry]
    return number(len(entries)) + b"".join(number(len(word)) + word for word in words) + b"\x00"


__all__ = ["ARROW_SCHEMA", "CODECS", "MAGIC", "MARK_BYTES", "AvroWriter", "mark_of", "number"]
