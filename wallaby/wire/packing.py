"""Whole-file compression for formats that have none of their own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from wallaby.wire.options import Compression
from wallaby.wire.port import ByteSink, CountedOutput
from wallaby.wire.source import Source

_GZIP_LEVEL: Final = 4
"""Half the time of zlib's own choice, and a few percent larger."""
_GZIP_BITS: Final = 31
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class PackedOutput:
    """Bytes on their way to a sink, compressed as one stream: cut off, it does not unpack to its end."""

    def __init__(self, sink: ByteSink, compression: Compression) -> None:
        self._output = CountedOutput(sink)
        self._put: Callable[[Any], object] = self._output.write
        self._end: Callable[[], object] = self._output.flush
        if compression is Compression.GZIP:
            packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_BITS)
            self._put = lambda data: self._output.write(packer.compress(data))
            self._end = lambda: self._output.write(packer.flush())
        elif compression is Compression.ZSTD:
            stream = pa.CompressedOutputStream(pa.PythonFile(self._output, mode="w"), "zstd")
            self._put, self._end = stream.write, stream.close

    @property
    def bytes(self) -> int:
        """Bytes the sink took."""
        return self._output.bytes

    def write(self, data: Any) -> None:
        self._put(data)

    def finish(self) -> None:
        self._end()
        self._end = self._output.flush

    def abandon(self) -> None:
        self._output.drop()
        with suppress(OSError, pa.ArrowException):
            self.finish()


def unpacked(source: Source) -> pa.NativeFile:
    """The source as the bytes that were packed, by the mark at its beginning."""
    head = source.peek(4)
    for magic, codec in _MAGIC.items():
        if head.startswith(magic):
            return pa.CompressedInputStream(source.arrow(), codec)
    return source.arrow()


__all__ = ["PackedOutput", "unpacked"]
