"""The port to where files lie: a directory (`sinks.files.directory`) or a bucket (`sinks.objects.storage`).

Keys are relative to the root, with ``/``. Two things matter to exactly-once: `Storage.create` lets exactly one of any
number of racing writers make a key, whole and durable; and what `Storage.bring` brought counts only when a manifest
names it. In between the kinds differ. A directory's files wait under staged names and are renamed after the commit, so
that a glob finds committed rows only. A bucket has no rename: its objects lie at their final keys before the manifest
does, and an intent written first tells `Storage.tidy` which of them nobody came to name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from wallaby.schema import TableName
from wallaby.sink import Finding
from wallaby.window import LaneId


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A committed file; paths are relative to the root. In a directory it is ``staged`` until the rename after the

    commit; in a bucket never. ``arrow_schema`` is base64 of the Arrow schema, for formats that do not carry it.
    """

    path: str
    staged: str
    schema: str
    table: str
    rows: int
    bytes: int
    sha256: str
    format: str = "parquet"
    arrow_schema: str = ""

    @property
    def name(self) -> TableName:
        return TableName(self.schema, self.table)


class Storage(Protocol):
    """Every method may raise `Transient` for a store that does not answer or refuses."""

    def __str__(self) -> str:
        """The place, for people."""
        ...

    def close(self) -> None:
        """Let go of connections and scratch space. Idempotent."""
        ...

    def require(self) -> None:
        """`Transient` when the root is not there: nothing is written where a disk is not mounted."""
        ...

    def findings(self) -> list[Finding]:
        """What keeps the root from being written. Changes nothing."""
        ...

    def prepare(self, lane: LaneId) -> None:
        """Make the lane's folders and remove what crashed writers left half made."""
        ...

    def names(self, folder: str) -> list[str]:
        """Of the files directly in the folder; empty when there is none."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in the folder; empty when there is none."""
        ...

    def exists(self, key: str) -> bool: ...

    def read(self, key: str) -> bytes:
        """The whole content. FileNotFoundError when there is no such key."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Make the key, whole and durable, if it is absent: True; False when it is there already.

        `OutcomeUnknown` when the answer was lost.
        """
        ...

    def sync(self, folder: str) -> None:
        """Make the names in the folder survive a power cut."""
        ...

    def remove(self, keys: Iterable[str]) -> None:
        """Absent keys are fine."""
        ...

    @property
    def syncs_scratch(self) -> bool:
        """True when finished files in scratch folders must survive a power cut."""
        ...

    def scratch(self, lane: LaneId, epoch: int) -> Path:
        """A local folder for the lane's files in the making, which exists."""
        ...

    def staged_name(self, made: Path) -> str:
        """What `DataFile.staged` of the file is."""
        ...

    def bring(self, lane: LaneId, epoch: int, files: Sequence[tuple[Path, DataFile]], *, sequence: int) -> None:
        """Before the manifest, which will have the number: the finished files are durable where it will find them."""
        ...

    def settle(self, lane: LaneId, epoch: int, files: Sequence[DataFile]) -> None:
        """After the manifest: the files have their final names. Twice is once."""
        ...

    def tidy(self, lane: LaneId, epoch: int, live: Callable[[int], Iterable[DataFile]]) -> None:
        """Settle the live files and remove what else the lane brought, of this and older epochs.

        ``live`` gives those of manifests from a number on: to read all takes long where there are many.
        What an older writer brings afterwards a later call removes.
        Only after the lane's log has an entry of ``epoch``: no older writer can commit then.
        """
        ...

    def fetch(self, file: DataFile) -> BinaryIO:
        """A committed file, open for reading. FileNotFoundError when it is gone."""
        ...


__all__ = ["DataFile", "Storage"]
