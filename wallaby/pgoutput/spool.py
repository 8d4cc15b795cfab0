"""Where the bytes of transactions wait that are not committed yet: in memory, then in files, bounded by bytes.

A waiting transaction is kept as the bytes it came in, not as decoded rows. Its tables may be known to nobody but itself
before it commits (``CREATE TABLE`` in the same transaction), what it rolls back is never decoded, and when it commits
it takes exactly the way of any other transaction. See decision 0005.

The files have no name: the operating system removes them when the process ends, however it ends. What we dislike: an
operator sees their size only as used space of the file system.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from wallaby.errors import StreamingUnfit
from wallaby.memory import unwritten

Bytes = npt.NDArray[np.uint8]

_ADVICE: Final = (
    "The stream is opened again without streaming, so that the server keeps unfinished transactions on its own disk. "
    "To stream them, raise source.options.spool_disk or point spool_directory to a larger disk"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """How much may wait, over all transactions of one stream, and where the files lie."""

    memory_bytes: int = 64 << 20
    disk_bytes_max: int = 16 << 30
    directory: str | None = None
    """None: the system's directory for temporary files."""


@dataclass(slots=True)
class _Piece:
    """Whole frames that came in one go: in memory, or at ``offset`` of the transaction's file."""

    size: int
    owner: int
    """The one (sub-)transaction all of it belongs to; negative when there are several."""
    data: Bytes | None
    offset: int = 0


class Spool:
    """The budget shared by all `WaitingBytes` of one stream."""

    def __init__(self, limits: SpoolLimits | None = None) -> None:
        self.limits = limits or SpoolLimits()
        self.memory_bytes = 0
        """Bytes that wait in memory now."""
        self.disk_bytes = 0
        """Bytes that wait in files now."""
        self._waiting: dict[int, WaitingBytes] = {}

    def open(self) -> WaitingBytes:
        """Room for one more transaction."""
        return WaitingBytes(self)

    def close(self) -> None:
        """Forget everything. Idempotent."""
        for waiting in list(self._waiting.values()):
            waiting.close()

    def _added(self, waiting: WaitingBytes, size: int) -> None:
        self._waiting[id(waiting)] = waiting
        self.memory_bytes += size
        while self.memory_bytes > self.limits.memory_bytes:
            largest = max(self._waiting.values(), key=lambda one: one.memory_bytes)
            largest.move_to_disk()

    def _reserve_disk(self, size: int) -> None:
        if self.disk_bytes + size > self.limits.disk_bytes_max:
            raise StreamingUnfit(
                f"unfinished transactions need more than the {self.limits.disk_bytes_max:,} bytes they may take",
                advice=_ADVICE,
            )
        self.disk_bytes += size

    def _forget(self, waiting: WaitingBytes) -> None:
        self._waiting.pop(id(waiting), None)


class WaitingBytes:
    """The frames of one transaction, in the order they came."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._pieces: list[_Piece] = []
        self._file: IO[bytes] | None = None
        self.memory_bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that wait, wherever they lie."""
        return sum(piece.size for piece in self._pieces)

    def append(self, data: Bytes, owner: int) -> None:
        """Copy whole frames, all of the (sub-)transaction ``owner`` or (negative) of several.

        `StreamingUnfit` when the limit of bytes or the disk itself does not allow it.
        """
        if not len(data):
            return
        self._pieces.append(_Piece(len(data), owner, data.copy()))
        self.memory_bytes += len(data)
        self._spool._added(self, len(data))

    def drop(self, owner: int) -> None:
        """Forget the pieces that belong to ``owner`` alone: it was rolled back."""
        kept = [piece for piece in self._pieces if piece.owner != owner]
        for piece in self._pieces:
            if piece.owner == owner:
                self._let_go(piece)
        self._pieces = kept
        if self._file is not None:
            ends = [piece.offset + piece.size for piece in kept if piece.data is None]
            self._file.truncate(max(ends, default=0))

    def pieces(self) -> Iterator[Bytes]:
        """Each piece, read-only, once, in order; it is forgotten when the next is asked for."""
        while self._pieces:
            piece = self._pieces[0]
            data = piece.data if piece.data is not None else self._read(piece)
            data.flags.writeable = False
            yield data
            if self._pieces and self._pieces[0] is piece:
                self._let_go(self._pieces.pop(0))
        self.close()

    def move_to_disk(self) -> None:
        """Write every piece that lies in memory to the transaction's file."""
        try:
            if self._file is None:
                # Unbuffered: a full disk is met here, where the piece is still in memory, and not at some later write.
                self._file = tempfile.TemporaryFile(  # noqa: SIM115  (closed in close)
                    dir=self._spool.limits.directory, prefix="wallaby-spool-", buffering=0
                )
            self._write(self._file)
        except OSError as error:
            raise StreamingUnfit(
                f"unfinished transactions cannot be written to disk: {os.strerror(error.errno or 0)}", advice=_ADVICE
            ) from error

    def close(self) -> None:
        """Forget everything. Idempotent."""
        for piece in self._pieces:
            self._let_go(piece)
        self._pieces = []
        if self._file is not None:
            self._file.close()
            self._file = None
        self._spool._forget(self)

    def _write(self, file: IO[bytes]) -> None:
        offset = file.seek(0, os.SEEK_END)
        for piece in self._pieces:
            if piece.data is None:
                continue
            self._spool._reserve_disk(piece.size)
            left = piece.data.data
            while left:
                left = left[file.write(left) :]
            piece.data, piece.offset = None, offset
            offset += piece.size
            self.memory_bytes -= piece.size
            self._spool.memory_bytes -= piece.size

    def _read(self, piece: _Piece) -> Bytes:
        assert self._file is not None
        data = unwritten(piece.size, np.uint8)
        self._file.seek(piece.offset)
        view, done = data.data, 0
        while done < piece.size:
            count = os.readv(self._file.fileno(), [view[done:]])
            assert count > 0, "the spool file is shorter than what was written to it"
            done += count
        return data

    def _let_go(self, piece: _Piece) -> None:
        if piece.data is None:
            self._spool.disk_bytes -= piece.size
        else:
            self.memory_bytes -= piece.size
            self._spool.memory_bytes -= piece.size
