"""The lane's log: one small JSON file per commit, created only if its number is free. The log is the position record.

Entry ``n`` is ``<n>.json``, and the storage makes it only if it is absent, so exactly one of any number of racing
writers gets number ``n``; the others see that the lane moved on. A newer epoch announces itself by an entry of its own
(``fence``): a leftover writer of an older epoch then finds its number taken, however long it slept. There is no moment
in between, which is why no lock and no separate epoch file exists.

Old entries are gathered into immutable archives of `ARCHIVE_ENTRIES`, then removed, so the folder stays small. A writer
that slept through that could find its number free again. It therefore looks, after making its entry, for the archive
that would hold the number: archives are made before entries are removed, so either making it fails or the archive is
seen. Entries numbered at or below the last archive's end are not part of the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from sinks.files.errors import outcome_unknown, translated
from sinks.files.layout import FORMAT_VERSION, LaneFolders
from sinks.files.storage import DataFile, Storage
from wallaby.errors import Refused, Transient
from wallaby.lsn import START, Position
from wallaby.record import LaneRecord
from wallaby.schema import TableName
from wallaby.window import LaneId

ARCHIVE_ENTRIES: Final = 256
"""Entries per archive: bounds the log folder."""
_READ_ATTEMPTS_MAX: Final = 100


class Kind(StrEnum):
    """What an entry records."""

    COMMIT = "commit"
    """Rows became durable, the position moved."""
    TRUNCATE = "truncate"
    """``tables`` were emptied at the source; each has one row saying so."""
    SCHEMA = "schema"
    """``tables`` changed shape at the source; later files have the new columns."""
    FENCE = "fence"
    """A newer epoch took the lane."""
    RESET_TABLE = "reset-table"
    """The lane's earlier files of ``tables`` are void."""
    RESET_LANE = "reset-lane"
    """The position went back to the start, on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a lane's log. ``sequence`` counts from 1 without gaps."""

    sequence: int
    kind: Kind
    epoch: int
    after: Position
    upto: Position
    rows: int = 0
    committed_at_us: int = 0
    files: tuple[DataFile, ...] = ()
    tables: tuple[TableName, ...] = ()

    @property
    def record(self) -> LaneRecord:
        """Where the lane stands after this entry."""
        return LaneRecord(self.upto, self.epoch)

    def to_json(self) -> str:
        """One line."""
        content: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "sequence": self.sequence,
            "kind": self.kind.value,
            "epoch": self.epoch,
            "after": str(self.after),
            "upto": str(self.upto),
            "rows": self.rows,
            "committed_at_us": self.committed_at_us,
            "files": [asdict(file) for file in self.files],
            "tables": [[table.schema, table.name] for table in self.tables],
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Entry:
        """`Refused` for a version we do not know or a line we cannot read."""
        try:
            content = json.loads(line)
            if content["version"] != FORMAT_VERSION:
                raise Refused(
                    f"a manifest has version {content['version']}, this wallaby knows {FORMAT_VERSION}",
                    advice="Use the newer wallaby, or another directory",
                )
            return cls(
                sequence=content["sequence"],
                kind=Kind(content["kind"]),
                epoch=content["epoch"],
                after=Position.parse(content["after"]),
                upto=Position.parse(content["upto"]),
                rows=content["rows"],
                committed_at_us=content["committed_at_us"],
                files=tuple(DataFile(**file) for file in content["files"]),
                tables=tuple(TableName(*table) for table in content["tables"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(
                f"a manifest cannot be read ({type(error).__name__})",
                advice="It was changed or cut by something else; restore it or copy the tables again",
            ) from error


EMPTY: Final = Entry(sequence=0, kind=Kind.FENCE, epoch=0, after=START, upto=START)
"""What a lane without a log stands at."""


class ManifestLog:
    """The log of one lane, for one writer or any number of readers."""

    def __init__(self, storage: Storage, lane: LaneId) -> None:
        self._storage = storage
        self._lane = lane
        self._folders = LaneFolders(lane)

    def last(self) -> Entry:
        """The newest entry, or `EMPTY`."""
        for _ in range(_READ_ATTEMPTS_MAX):
            try:
                return self._last_once()
            except FileNotFoundError:
                continue
        raise self._unreadable()

    def all(self) -> tuple[Entry, ...]:
        """The whole log in order. `Transient` when it has a gap."""
        return self.since(1)

    def since(self, sequence: int) -> tuple[Entry, ...]:
        """The entries from that number on, in order; older ones are not read. `Transient` when there is a gap."""
        # The writer may move entries into an archive between our listing and our reading: then list again.
        for _ in range(_READ_ATTEMPTS_MAX):
            try:
                entries = self._read_once(sequence)
            except FileNotFoundError:
                continue
            if [entry.sequence for entry in entries] == list(range(sequence, sequence + len(entries))):
                return entries
        raise self._unreadable()

    def prepare(self) -> None:
        """Make the lane's folders; finish or remove what crashed writers left half made."""
        self._storage.prepare(self._lane)
        with translated(folder=self._folders.log):
            self._finish_archiving()

    def append(self, entry: Entry) -> bool:
        """Add the entry if its number is free: True, durable; False, nothing happened and the log moved on.

        `Transient`: nothing happened. `OutcomeUnknown`: it is in the log now but may not survive a power cut, or it
        may be in the log.
        """
        final = self._entry(entry.sequence)
        with translated(folder=self._folders.log):
            is_made = self._storage.create(final, f"{entry.to_json()}\n".encode())
        if not is_made:
            return False
        with outcome_unknown(folder=self._folders.log):
            if self._storage.exists(self._archive_of(entry.sequence)):
                self._storage.remove([final])
                return False
            self._storage.sync(self._folders.log)
        if entry.sequence % ARCHIVE_ENTRIES == 0:
            with outcome_unknown(folder=self._folders.archive):
                self._archive(entry.sequence)
        return True

    def _archive(self, upto: int) -> None:
        keys = [self._entry(number) for number in range(upto - ARCHIVE_ENTRIES + 1, upto + 1)]
        self._storage.create(self._archive_of(upto), b"".join(map(self._storage.read, keys)))
        self._storage.sync(self._folders.archive)
        self._storage.remove(keys)

    def _finish_archiving(self) -> None:
        """A writer may die between an archive's last entry and the archive, or before its entries are removed."""
        tail = self._numbered(self._folders.log, ".json")
        for end in sorted({-(-number // ARCHIVE_ENTRIES) * ARCHIVE_ENTRIES for number, _ in tail}):
            if not self._storage.exists(self._archive_of(end)):
                if end > tail[-1][0]:
                    return
                try:
                    self._archive(end)
                except FileNotFoundError:
                    # Another process archives the same entries, or some are missing: readers tell which.
                    continue
            self._storage.remove([key for number, key in tail if end - ARCHIVE_ENTRIES < number <= end])

    def _entry(self, sequence: int) -> str:
        return f"{self._folders.log}/{sequence:020d}.json"

    def _archive_of(self, sequence: int) -> str:
        return f"{self._folders.archive}/{-(-sequence // ARCHIVE_ENTRIES) * ARCHIVE_ENTRIES:020d}.jsonl"

    def _last_once(self) -> Entry:
        tail, archives = self._listing()
        archived_upto = archives[-1][0] if archives else 0
        if tail and tail[-1][0] > archived_upto:
            return Entry.from_json(self._text(tail[-1][1]))
        return Entry.from_json(self._text(archives[-1][1]).splitlines()[-1]) if archives else EMPTY

    def _read_once(self, sequence: int) -> tuple[Entry, ...]:
        tail, archives = self._listing()
        first = max(archives[-1][0] + 1 if archives else 1, sequence)
        wanted = [key for end, key in archives if end >= sequence]
        entries = [Entry.from_json(line) for key in wanted for line in self._text(key).splitlines()]
        entries += [Entry.from_json(self._text(key)) for number, key in tail if number >= first]
        return tuple(entry for entry in entries if entry.sequence >= sequence)

    def _text(self, key: str) -> str:
        return self._storage.read(key).decode()

    def _listing(self) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """Single entries, then archives: in this order nothing can be in neither."""
        return self._numbered(self._folders.log, ".json"), self._numbered(self._folders.archive, ".jsonl")

    def _numbered(self, folder: str, suffix: str) -> list[tuple[int, str]]:
        names = [name for name in self._storage.names(folder) if name.endswith(suffix)]
        numbers = [name.removesuffix(suffix) for name in names]
        return sorted((int(number), f"{folder}/{number}{suffix}") for number in numbers if number.isdigit())

    def _unreadable(self) -> Transient:
        return Transient(
            "the lane's log has a gap, or changes faster than it can be read",
            advice="If nothing writes there, manifests were removed: restore them or copy the tables again",
            folder=self._folders.log,
        )


def live_files(entries: Iterable[Entry]) -> tuple[DataFile, ...]:
    """The files of a log, whole or from an entry on, that count, in commit order: those of reset tables do not."""
    live: list[DataFile] = []
    for entry in entries:
        if entry.kind is Kind.RESET_TABLE:
            live = [file for file in live if file.name not in entry.tables]
        live += entry.files
    return tuple(live)


def next_entry(last: Entry, kind: Kind, **changes: Any) -> Entry:
    """The entry after ``last``: same epoch and position unless ``changes`` say otherwise."""
    fresh = Entry(sequence=last.sequence + 1, kind=kind, epoch=last.epoch, after=last.upto, upto=last.upto)
    return replace(fresh, **changes)


__all__ = [
    "ARCHIVE_ENTRIES",
    "EMPTY",
    "Entry",
    "Kind",
    "ManifestLog",
    "live_files",
    "next_entry",
]
