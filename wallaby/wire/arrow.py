"""Arrow IPC, as a stream or a file. Batches stay as they come; every type is held exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import pyarrow as pa
import pyarrow.ipc as ipc

from wallaby.flow import WireFormat
from wallaby.wire.errors import damaged, detecting, refusing
from wallaby.wire.nesting import decoded
from wallaby.wire.options import ArrowLayout, Compression, WireOptions
from wallaby.wire.port import ByteSink, CountedOutput
from wallaby.wire.source import Source

FORMAT: Final = WireFormat.ARROW
_FILE_MAGIC: Final = b"ARROW1"
_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The last message of a stream. Arrow takes a stream that just stops for a whole one."""


class ArrowWriter:
    """See `wallaby.wire.port.RecordWriter`. Each batch is one message, written at once."""

    def __init__(self, sink: ByteSink, schema: pa.Schema, options: WireOptions) -> None:
        codec = options.codec(FORMAT)
        self._table = options.table
        self._output = CountedOutput(sink)
        make = ipc.new_file if options.arrow_layout is ArrowLayout.FILE else ipc.new_stream
        with refusing(FORMAT, self._table):
            self._writer = make(
                pa.PythonFile(self._output, mode="w"),
                schema,
                options=ipc.IpcWriteOptions(compression=None if codec is Compression.NONE else codec.value),
            )

    @property
    def bytes_written(self) -> int:
        return self._output.bytes

    def add(self, batch: pa.RecordBatch) -> None:
        with refusing(FORMAT, self._table):
            self._writer.write_batch(batch)

    @property
    def held_bytes(self) -> int:
        return 0

    def release(self) -> None:
        """Each batch is written at once."""

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        with refusing(FORMAT, self._table):
            self._writer.close()

    def abandon(self) -> None:
        self._output.drop()
        with suppress(OSError, pa.ArrowException):
            self._writer.close()


def read_arrow(source: Source) -> Iterator[pa.RecordBatch]:
    """The batches of an IPC stream or file, whichever it is."""
    if source.peek(len(_FILE_MAGIC)) == _FILE_MAGIC:
        yield from _read_file(source)
        return
    with detecting(FORMAT, file=source.name):
        reader = ipc.open_stream(source.arrow())
        decoded(reader.schema)
    while True:
        with detecting(FORMAT, file=source.name):
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            batch.validate(full=True)
        yield batch
    if source.last(len(_END)) != _END or source.read(1):
        raise damaged(FORMAT, "its end is missing", file=source.name)


def _read_file(source: Source) -> Iterator[pa.RecordBatch]:
    with detecting(FORMAT, file=source.name):
        reader = ipc.open_file(source.arrow())
        decoded(reader.schema)
        count = reader.num_record_batches
    for i in range(count):
        with detecting(FORMAT, file=source.name):
            batch = reader.get_batch(i)
            batch.validate(full=True)
        yield batch


__all__ = ["ArrowWriter", "read_arrow"]
