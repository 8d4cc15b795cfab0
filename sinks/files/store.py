"""Where a log's small files are: what a directory and a bucket must both be able to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from sinks.files.errors import outcome_unknown, translated
from wallaby.errors import OutcomeUnknown, Transient

_PREPARED: Final = ".new-"


class Store(Protocol):
    """Small files by their keys: paths relative to the root, with ``/``. Folders need not be made."""

    def prepare(self, folder: str) -> None:
        """Be ready to write into the folder; remove what writers that died left half made in it."""
        ...

    def create(self, key: str, text: str) -> bool:
        """Make the file whole and durable, only if there is none. False: there is one, nothing happened.

        `Transient`: nothing happened. `OutcomeUnknown`: it may be there.
        """
        ...

    def read(self, key: str) -> str:
        """The file's text; FileNotFoundError when there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is such a file, now."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names of the files that lie in the folder itself, in any order; none without the folder."""
        ...

    def remove(self, keys: Iterable[str]) -> None:
        """Remove the files. One that is absent is no error."""
        ...

    def committed(self, folder: str) -> AbstractContextManager[None]:
        """Around what follows a `create` that decided: errors are `OutcomeUnknown` there."""
        ...


class LocalStore:
    """A directory. A file is made under another name and linked: linking fails when the name exists."""

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        self._root = root
        self._fsync = fsync

    def prepare(self, folder: str) -> None:
        with translated(folder=folder):
            path = self._root / folder
            path.mkdir(parents=True, exist_ok=True)
            for leftover in path.glob(f"{_PREPARED}*"):
                leftover.unlink(missing_ok=True)

    def create(self, key: str, text: str) -> bool:
        final = self._root / key
        with translated(folder=final.parent):
            descriptor, prepared = tempfile.mkstemp(prefix=_PREPARED, dir=final.parent)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(text)
                    file.flush()
                    if self._fsync:
                        os.fsync(file.fileno())
                try:
                    os.link(prepared, final)
                except FileExistsError:
                    return False
            finally:
                Path(prepared).unlink(missing_ok=True)
        if self._fsync:
            with outcome_unknown(folder=final.parent):
                sync_folder(final.parent)
        return True

    def read(self, key: str) -> str:
        return (self._root / key).read_text()

    def exists(self, key: str) -> bool:
        return (self._root / key).exists()

    def names(self, folder: str) -> list[str]:
        path = self._root / folder
        with translated(folder=path):
            return os.listdir(path) if path.is_dir() else []

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self._root / key).unlink(missing_ok=True)

    def committed(self, folder: str) -> AbstractContextManager[None]:
        return _committed(self._root / folder)


@contextmanager
def _committed(folder: Path) -> Iterator[None]:
    """What was translated as harmless on its way here is not: the commit took place."""
    try:
        with outcome_unknown(folder=folder):
            yield
    except Transient as error:
        raise OutcomeUnknown(
            "the directory failed right after the commit", advice="The manifests decide: recover", folder=folder
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the folder's names durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["LocalStore", "Store", "sync_folder"]
