"""A directory of the local machine, or a mounted one, as `sinks.files.storage.Storage`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from sinks.files.errors import translated
from sinks.files.layout import FORMAT_KEY, OWN_FOLDER, LaneFolders
from sinks.files.storage import DataFile
from wallaby.errors import Transient
from wallaby.sink import Finding, error_finding
from wallaby.window import LaneId

_PREPARED: Final = ".new-"
_READ_ATTEMPTS_MAX: Final = 10


class Directory:
    """See `sinks.files.storage.Storage`."""

    def __init__(self, root: str | Path, *, fsync: bool = True) -> None:
        self._root = Path(root)
        self._fsync = fsync

    def __str__(self) -> str:
        return str(self._root)

    def close(self) -> None:
        """Nothing is held."""

    def require(self) -> None:
        if not self._root.is_dir():
            raise Transient(
                "the directory does not exist", advice="Create it, or mount what should be there", path=self._root
            )

    def findings(self) -> list[Finding]:
        root = self._root
        if not root.exists():
            return [error_finding(str(root), "does not exist", "Create the directory, or mount it", "missing-folder")]
        if not root.is_dir():
            return [error_finding(str(root), "is not a directory", "Name a directory", "not-a-directory")]
        own = root / OWN_FOLDER
        for folder in (root, own):
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
                advice = "Give this user write permission"
                return [error_finding(str(folder), "cannot be written", advice, "read-only")]
        if not (root / FORMAT_KEY).exists() and any(entry.name != OWN_FOLDER for entry in root.iterdir()):
            message, advice = "holds files that are not wallaby's", "Name an empty directory"
            return [error_finding(str(root), message, advice, "foreign-files")]
        return []

    def prepare(self, lane: LaneId) -> None:
        folders = LaneFolders(lane)
        with translated(folder=folders.log):
            (self._root / folders.archive).mkdir(parents=True, exist_ok=True)
            for folder in (folders.log, folders.archive):
                for leftover in (self._root / folder).glob(f"{_PREPARED}*"):
                    leftover.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        return self._entries(folder, are_folders=False)

    def folders(self, folder: str) -> list[str]:
        return self._entries(folder, are_folders=True)

    def exists(self, key: str) -> bool:
        return (self._root / key).exists()

    def read(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def create(self, key: str, content: bytes) -> bool:
        # Made whole under another name and then linked: linking fails when the name exists.
        final = self._root / key
        final.parent.mkdir(parents=True, exist_ok=True)
        descriptor, prepared = tempfile.mkstemp(prefix=_PREPARED, dir=final.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if self._fsync:
                    os.fsync(file.fileno())
            try:
                os.link(prepared, final)
            except FileExistsError:
                return False
        finally:
            Path(prepared).unlink(missing_ok=True)
        return True

    def sync(self, folder: str) -> None:
        """Make the folder's names durable, if so asked."""
        if self._fsync:
            descriptor = os.open(self._root / folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self._root / key).unlink(missing_ok=True)

    @property
    def syncs_scratch(self) -> bool:
        return self._fsync

    def scratch(self, lane: LaneId, epoch: int) -> Path:
        folder = self._root / LaneFolders(lane).staging_of(epoch)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def staged_name(self, made: Path) -> str:
        return str(made.relative_to(self._root))

    def bring(self, lane: LaneId, epoch: int, files: Sequence[tuple[Path, DataFile]], *, sequence: int) -> None:
        with translated(lane=lane):
            self.sync(LaneFolders(lane).staging_of(epoch))

    def settle(self, lane: LaneId, epoch: int, files: Sequence[DataFile]) -> None:
        for file in files:
            final = self._root / file.path
            try:
                os.replace(self._root / file.staged, final)
            except FileNotFoundError:
                if final.exists():
                    continue
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._root / file.staged, final)

    def tidy(self, lane: LaneId, epoch: int, live: Callable[[int], Iterable[DataFile]]) -> None:
        staging = self._root / LaneFolders(lane).staging
        with translated(folder=staging):
            if not staging.is_dir():
                return
            older = [folder for folder in staging.iterdir() if int(folder.name) <= epoch]
            if any(any(folder.iterdir()) for folder in older):
                by_path = {file.path: file for file in live(1)}
                staged = [file for file in by_path.values() if (self._root / file.staged).exists()]
                self.settle(lane, epoch, staged)
            for folder in older:
                shutil.rmtree(folder)

    def fetch(self, file: DataFile) -> BinaryIO:
        # Between commit and rename the file has its staged name; the rename may fall between our two looks.
        for _ in range(_READ_ATTEMPTS_MAX):
            for name in (file.path, file.staged):
                try:
                    return (self._root / name).open("rb")
                except FileNotFoundError:
                    continue
        raise FileNotFoundError(f"a committed file is missing: {file.path}")

    def _entries(self, folder: str, *, are_folders: bool) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(_PREPARED) and entry.is_dir() == are_folders
                ]
        except FileNotFoundError:
            return []


__all__ = ["Directory"]
