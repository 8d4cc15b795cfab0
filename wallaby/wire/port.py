"""What every codec is: an encoder of record batches into a file, and where its bytes go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class ByteSink(Protocol):
    """Takes bytes in order; what it does with them is its own affair. Any binary file will do."""

    def write(self, data: memoryview, /) -> int | None:
        """Take the first of the bytes and return how many they were. None: all of them."""
        ...


class RecordWriter(Protocol):
    """Writes record batches of one schema into a file. Memory stays bounded, however much is written.

    After an error the file is worthless: call `abandon`.
    """

    @property
    def bytes_written(self) -> int:
        """Bytes in the file so far. What is gathered or inside a compressor is not among them until `finish`."""
        ...

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the rows. The batch's memory is not needed afterwards.

        `RowRefused` when the format cannot hold a value.
        """
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes of rows gathered in memory; 0 for a format that keeps a block at most."""
        ...

    def release(self) -> None:
        """Write what is gathered; more may come."""
        ...

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write what is left. The file is complete then, and still open: it is the caller's.

        ``metadata`` goes into the footer; of all formats only Parquet has one to put it in.
        """
        ...

    def abandon(self) -> None:
        """Let go of everything and write no more. Twice is once, and after `finish` nothing."""
        ...


class CountedOutput:
    """A `ByteSink` as the file Arrow writes to. Closing it leaves the sink open."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._is_dropping = False
        self.closed = False
        self.bytes = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        if not self._is_dropping:
            while len(view):
                taken = self._sink.write(view)
                view = view[len(view) if taken is None else taken :]
            self.bytes += size
        return size

    def drop(self) -> None:
        """From now on nothing reaches the sink: Arrow insists on finishing what it began."""
        self._is_dropping = True

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


__all__ = ["ByteSink", "CountedOutput", "RecordWriter"]
