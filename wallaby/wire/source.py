"""Where a decoder reads: a path or an open file, and how far it got."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa

from wallaby.errors import ConfigError, DamagedFile

_CHUNK: Final = 1 << 20
_REMEMBERED: Final = 8


class Source:
    """A binary file that is read once, from where it stands. The file stays open and its owner's."""

    def __init__(self, file: BinaryIO, name: str | None) -> None:
        self.name = name
        self.closed = False
        self._file = file
        self._ahead = b""
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, fewer only at the end."""
        parts = [self._ahead[: size if size >= 0 else None]]
        self._ahead = self._ahead[len(parts[0]) :]
        missing = size - len(parts[0])
        while size < 0 or missing > 0:
            part = self._file.read(-1 if size < 0 else min(missing, _CHUNK))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._tail = (self._tail + data[-_REMEMBERED:])[-_REMEMBERED:]
        return data

    def peek(self, size: int) -> bytes:
        """The next bytes, which `read` gives again."""
        while len(self._ahead) < size:
            part = self._file.read(size - len(self._ahead))
            if not part:
                break
            self._ahead += part
        return self._ahead[:size]

    def last(self, size: int) -> bytes:
        """The last bytes that were read, up to eight of them."""
        return self._tail[-size:]

    def arrow(self) -> pa.NativeFile:
        """As a file of Arrow's."""
        return pa.PythonFile(self, mode="r")

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self._ahead = self._tail = b""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell() - len(self._ahead)

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return self._file.seekable()


@contextmanager
def opened(source: str | Path | BinaryIO, *, sha256: str | None) -> Iterator[Source]:
    """The source, its digest verified first when one is given."""
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            yield _verified(file, str(source), sha256)
        return
    yield _verified(source, None, sha256)


def _verified(file: BinaryIO, name: str | None, sha256: str | None) -> Source:
    if sha256 is not None:
        if not file.seekable():
            raise ConfigError("a digest needs a file that can be read twice", field="sha256", file=name)
        begin, digest = file.tell(), hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        file.seek(begin)
        if digest.hexdigest() != sha256.lower():
            raise DamagedFile("the file is not the one of this digest", advice="Fetch it again", file=name)
    return Source(file, name)


__all__ = ["Source", "opened"]
