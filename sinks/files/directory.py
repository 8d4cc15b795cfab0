"""A directory as the root of logs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

from sinks.files.errors import translated
from sinks.files.layout import FORMAT_VERSION, OWN_FOLDER, LaneFolders
from sinks.files.manifests import DataFile, ManifestLog, live_files
from sinks.files.root import error_finding as _error
from sinks.files.store import LocalStore
from sinks.files.writer import InPlace, put_in_place
from wallaby.errors import Refused, Transient
from wallaby.sink import Finding
from wallaby.window import LaneId

_FORMAT: Final = "format.json"


class Directory:
    """See `sinks.files.root.Root`. Uncommitted files are staged inside."""

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self._root = root
        self._fsync = fsync
        self.store = LocalStore(root, fsync=fsync)

    def __repr__(self) -> str:
        return repr(str(self._root))

    def close(self) -> None:
        """Nothing is held."""

    def findings(self) -> list[Finding]:
        return folder_findings(self._root)

    def require(self) -> None:
        if not self._root.is_dir():
            raise Transient(
                "the directory does not exist",
                advice="Create it, or mount what should be there",
                path=self._root,
            )
        _require_format(self._root)

    def places(self, lane: LaneId, epoch: int) -> InPlace:
        return InPlace(LaneFolders(self._root, lane), epoch, fsync=self._fsync)

    def remove(self, files: tuple[DataFile, ...]) -> None:
        with translated(path=self._root):
            self.store.remove(name for file in files for name in (file.path, file.staged))

    def tidy(self, lane: LaneId, log: ManifestLog, epoch: int) -> None:
        """Finish the renames of committed files and remove what no manifest names, of this and older epochs."""
        folders = LaneFolders(self._root, lane)
        with translated(folder=folders.staging):
            if not folders.staging.is_dir():
                return
            older = [folder for folder in folders.staging.iterdir() if int(folder.name) <= epoch]
            if any(any(folder.iterdir()) for folder in older):
                live = {file.path: file for file in live_files(log.all())}
                committed = [file for file in live.values() if (self._root / file.staged).exists()]
                put_in_place(self._root, tuple(committed))
            for folder in older:
                shutil.rmtree(folder)


def folder_findings(root: Path) -> list[Finding]:
    """What keeps the directory from being written, seen from outside."""
    if not root.exists():
        return [_error(str(root), "does not exist", "Create the directory, or mount it", "missing-folder")]
    if not root.is_dir():
        return [_error(str(root), "is not a directory", "Name a directory", "not-a-directory")]
    if not os.access(root, os.W_OK | os.X_OK):
        return [_error(str(root), "cannot be written", "Give this user write permission", "read-only")]
    own = root / OWN_FOLDER
    if own.is_dir() and not os.access(own, os.W_OK | os.X_OK):
        return [_error(str(own), "cannot be written", "Give this user write permission", "read-only")]
    if not (own / _FORMAT).exists() and any(entry.name != OWN_FOLDER for entry in root.iterdir()):
        return [_error(str(root), "holds files that are not wallaby's", "Name an empty directory", "foreign-files")]
    try:
        _require_known_format(root)
    except Refused as error:
        return [_error(str(root), error.message, error.advice, "format-version")]
    return []


def _require_format(root: Path) -> None:
    """Mark the directory as ours, or read the mark."""
    file = root / OWN_FOLDER / _FORMAT
    if not file.exists():
        with translated(path=root):
            file.parent.mkdir(exist_ok=True)
            prepared = file.with_name(f".{_FORMAT}.{os.getpid()}")
            prepared.write_text(json.dumps({"version": FORMAT_VERSION}))
            os.replace(prepared, file)
    _require_known_format(root)


def _require_known_format(root: Path) -> None:
    file = root / OWN_FOLDER / _FORMAT
    if not file.exists():
        return
    with translated(path=root):
        text = file.read_text()
    try:
        version = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError):
        version = "unknown"
    if version != FORMAT_VERSION:
        raise Refused(
            f"the directory has format {version}, this wallaby knows {FORMAT_VERSION}",
            advice="Use the wallaby that wrote it, or another directory",
            path=root,
        )


__all__ = ["Directory", "folder_findings"]
