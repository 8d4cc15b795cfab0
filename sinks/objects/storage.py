"""An object store as `sinks.files.storage.Storage`.

Objects are uploaded, several at a time and large ones in parts, once a commit knows their keys; until then rows wait in
a local scratch folder. Before the first object an intent is written that lists them all; it goes when the manifest is
there. Whatever a dead writer left is in an intent, and `tidy` removes what no manifest names. The intent itself stays
for `INTENT_AGE_MIN`: its writer may live still, and upload more of what it lists after we have looked, or the store may
carry out a request whose sender gave up on it. A later `tidy` finds that, too.

A conditional creation whose answer is lost is repeated by the store's library and then fails on the object it made
itself. Each creation therefore has a mark in the object's metadata, by which it knows its own.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from sinks.files.layout import FORMAT_KEY, OWN_FOLDER, LaneFolders, encode_name
from sinks.files.storage import DataFile
from sinks.objects.parallel import each
from sinks.objects.store import Listing, ObjectStore
from wallaby.errors import OutcomeUnknown, Refused, Transient
from wallaby.scratch import ScratchFolder
from wallaby.sink import Finding, error_finding
from wallaby.window import LaneId

INTENT_AGE_MIN: Final = timedelta(days=1)
"""An intent nobody settled lists refuse for so long: longer than an upload lasts, and than clocks differ."""
_FETCH_BYTES_MAX: Final = 64 << 20
"""Of a file that is read, kept in memory; more goes to a nameless file."""


class ObjectStorage:
    """See `sinks.files.storage.Storage`."""

    def __init__(self, store: ObjectStore, *, prefix: str = "") -> None:
        self._store = store
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._scratch: ScratchFolder | None = None

    def __str__(self) -> str:
        return f"{self._store}/{self._prefix}"

    def close(self) -> None:
        self._store.close()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def require(self) -> None:
        self._store.first(self._prefix)

    def findings(self) -> list[Finding]:
        try:
            found = self._store.first(self._prefix)
            is_ours = self.exists(FORMAT_KEY)
        except (Transient, Refused) as error:
            return [error_finding(str(self), error.message, error.advice, "destination-unreachable")]
        if not is_ours and any(name != OWN_FOLDER for name in (*found.names, *found.folders)):
            message, advice = "holds objects that are not wallaby's", "Name an empty prefix"
            return [error_finding(str(self), message, advice, "foreign-files")]
        return []

    def prepare(self, lane: LaneId) -> None:
        """Keys need no folders, and no object is ever half made."""

    def names(self, folder: str) -> list[str]:
        return list(self._list(folder).names)

    def folders(self, folder: str) -> list[str]:
        return list(self._list(folder).folders)

    def exists(self, key: str) -> bool:
        try:
            self._store.mark(self._prefix + key)
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        return self._store.read(self._prefix + key)

    def create(self, key: str, content: bytes) -> bool:
        mark = uuid.uuid4().hex
        return self._store.create(self._prefix + key, content, mark) or self._is_marked(key, mark)

    def sync(self, folder: str) -> None:
        """The store answers when an object is durable."""

    def remove(self, keys: Iterable[str]) -> None:
        if wanted := [self._prefix + key for key in keys]:
            self._store.delete(wanted)

    @property
    def syncs_scratch(self) -> bool:
        return False

    def scratch(self, lane: LaneId, epoch: int) -> Path:
        if self._scratch is None:
            self._scratch = ScratchFolder("wallaby-objects-")
        own = (encode_name(lane.flow), encode_name(lane.destination), str(lane.index))
        folder = self._scratch.path.joinpath(*own)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def staged_name(self, made: Path) -> str:
        return ""

    def bring(self, lane: LaneId, epoch: int, files: Sequence[tuple[Path, DataFile]], *, sequence: int) -> None:
        paths = [file.path for _, file in files]
        self.create(_intent(lane, epoch, paths), _Intent(time.time(), sequence, paths).encoded())
        each(self._upload, files)

    def settle(self, lane: LaneId, epoch: int, files: Sequence[DataFile]) -> None:
        if files:
            self.remove([_intent(lane, epoch, [file.path for file in files])])

    def tidy(self, lane: LaneId, epoch: int, live: Callable[[int], Iterable[DataFile]]) -> None:
        # What a commit without an answer left here is not needed: objects are whole in the bucket or not there.
        for made in self.scratch(lane, epoch).iterdir():
            made.unlink()
        staging = LaneFolders(lane).staging
        folders = [f"{staging}/{folder}" for folder in self.folders(staging) if int(folder) <= epoch]
        intents = [f"{folder}/{name}" for folder, names in each(self.names, folders) for name in names]
        read = {key: intent for key, intent in each(self._intent, intents) if intent is not None}
        if read:
            # After the intents were listed: one that went meanwhile was settled, and its manifest is there.
            named = {file.path for file in live(min(intent.sequence for intent in read.values()))}
            brought = dict.fromkeys(path for intent in read.values() for path in intent.paths)
            self.remove([path for path in brought if path not in named])
            latest = time.time() - INTENT_AGE_MIN.total_seconds()
            self.remove([key for key, intent in read.items() if intent.written_s <= latest])

    def fetch(self, file: DataFile) -> BinaryIO:
        content = tempfile.SpooledTemporaryFile(_FETCH_BYTES_MAX)  # noqa: SIM115 - it is the caller's
        try:
            self._store.download(self._prefix + file.path, content)  # type: ignore[arg-type]  # it has all of BinaryIO
        except BaseException:
            content.close()
            raise
        content.seek(0)
        return content  # type: ignore[return-value]  # as above

    def _intent(self, key: str) -> _Intent | None:
        """None for one that is gone: its writer, of an older epoch, lived long enough to settle it."""
        try:
            return _Intent.decoded(self.read(key))
        except FileNotFoundError:
            return None

    def _list(self, folder: str) -> Listing:
        return self._store.list(f"{self._prefix}{folder}/" if folder else self._prefix)

    def _upload(self, file: tuple[Path, DataFile]) -> None:
        made, named = file
        self._store.upload(made, self._prefix + named.path)

    def _is_marked(self, key: str, mark: str) -> bool:
        try:
            return self._store.mark(self._prefix + key) == mark
        except FileNotFoundError:
            # Made and removed: entries are, once an archive has them, and that may have been ours.
            where: dict[str, Any] = {"key": key}
        except Transient as error:
            where = error.where
        raise OutcomeUnknown(
            "the store did not say who made an object", advice="The manifests decide: recover", **where
        ) from None


@dataclass(frozen=True, slots=True)
class _Intent:
    """What an intent says."""

    written_s: float
    """Seconds since 1970, by its writer's clock."""
    sequence: int
    """Of the manifest that was to follow: no older one names the paths."""
    paths: Sequence[str]

    def encoded(self) -> bytes:
        content = {"written_s": self.written_s, "sequence": self.sequence, "paths": [*self.paths]}
        return json.dumps(content).encode()

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        said = json.loads(content)
        if isinstance(said, list):
            # As they were before they said when.
            return cls(0, 1, said)
        return cls(said["written_s"], said.get("sequence", 1), said["paths"])


def _intent(lane: LaneId, epoch: int, paths: Sequence[str]) -> str:
    """The key of the list of what a commit brings: the same whenever it brings the same."""
    name = hashlib.sha256("\0".join(paths).encode()).hexdigest()[:32]
    return f"{LaneFolders(lane).staging_of(epoch)}/{name}.json"


__all__ = ["INTENT_AGE_MIN", "ObjectStorage"]
