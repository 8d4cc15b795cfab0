"""The receive buffer: frames in a row, parsed where they lie, moved only when room runs out."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wallaby.errors import DecodeError
from wallaby.memory import unwritten

FRAME_HEADER: Final = 4
"""Each frame is a little-endian uint32 length and that many bytes of one CopyData payload."""
MESSAGE_BYTES_MAX: Final = 1_181_116_006
"""1.1 GiB. A field holds at most 1 GiB; no message PostgreSQL can build is larger than this."""


class Arena:
    """Bytes ``data[begin:end]`` are frames received and not yet consumed.

    Only whole frames ever lie between ``begin`` and ``end``. A view of ``data`` is valid until the next receive after
    its bytes were consumed: nothing moves while a reader looks, because only receiving makes room.
    """

    __slots__ = ("_capacity", "begin", "data", "end")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.data: NDArray[np.uint8] = unwritten(capacity, np.uint8)
        self.begin = 0
        self.end = 0

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def room(self) -> int:
        """Bytes free behind ``end``."""
        return len(self.data) - self.end

    def consume(self, count: int) -> None:
        """Forget the first ``count`` bytes; the reader is done with them."""
        assert 0 <= count <= len(self), f"consumed {count} of {len(self)} bytes"
        self.begin += count
        if self.begin == self.end:
            self.begin = self.end = 0

    def make_room(self, wanted: int = 0) -> None:
        """Called by the receiver before it fills: move what is left to the front, and fit one message of ``wanted``.

        Grows only when the arena is empty, for a single message beyond its capacity, and shrinks back when that is
        consumed. `DecodeError` for a message beyond 1.1 GiB.
        """
        if wanted > MESSAGE_BYTES_MAX:
            raise DecodeError("the server sent a message larger than any it can build", bytes=wanted)
        if len(self) == 0:
            self._resize(max(self._capacity, wanted + FRAME_HEADER))
        elif self.begin > 0 and self.room < max(wanted + FRAME_HEADER, self._capacity // 2):
            left = self.data[self.begin : self.end]
            target = self.data[: len(left)]
            target[:] = left.copy() if len(left) > self.begin else left
            self.begin, self.end = 0, len(left)

    def _resize(self, size: int) -> None:
        self.begin = self.end = 0
        if size != len(self.data):
            self.data = unwritten(size, np.uint8)
