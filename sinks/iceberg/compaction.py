"""Compaction of an Iceberg table beside a lane that commits all the time.

Reading and writing files takes long, a lane commits every second, and every commit is a compare-and-set on the table's
snapshot: a compaction that began anew whenever a lane was faster would never end. So only its last step is tried again.
The new files hold the rows the table had when the work began. What was deleted meanwhile is a few positions in the old
files, and for every row of those it is known where it went: the same commit that puts the new files in the old ones'
place deletes those rows in the new ones. Rows that came meanwhile are in files the compaction has nothing to do with.

It gives up when one of its files is gone, as a truncate or somebody else's compaction does, or the table's columns
changed. Killed anywhere before its commit it leaves files nobody knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from sinks.iceberg.catalogs import CatalogSession, commit
from sinks.iceberg.due import Compaction
from sinks.iceberg.errors import Conflict
from sinks.iceberg.files import remove, sorted_places, write_file, write_position_deletes
from sinks.iceberg.keys import LiveFiles, Memory, Positions
from sinks.iceberg.snapshots import Change, prepare
from wallaby.errors import OutcomeUnknown

CARE: Final = "wallaby.care"
"""Marks snapshots that hold the rows of their parent."""
ATTEMPTS_MAX: Final = 20
_OWN: Final = "wallaby."


@dataclass(slots=True)
class _Moved:
    """Where the rows of one old file went: by place in it, the new file's number (-1: gone) and the place there."""

    files: npt.NDArray[np.int32]
    places: Positions
    deleted: Positions
    """Rows that were gone when the file was read."""


@dataclass(slots=True)
class _Pending:
    """Rows on their way into the next new file."""

    parts: list[tuple[str, Positions, pa.Table]] = field(default_factory=list)
    size: int = 0


class Compactor:
    """One compaction of one table, as it was loaded."""

    def __init__(
        self, session: CatalogSession, table: Table, memory: Memory, plan: Compaction, *, target_bytes: int
    ) -> None:
        self._session = session
        self._table = table
        self._memory = memory
        self._plan = plan
        self._target_bytes = target_bytes
        self._moved: dict[str, _Moved] = {}
        self._new: list[DataFile] = []

    def run(self) -> bool:
        """Do it. False when others were in the way, and nothing happened."""
        live = LiveFiles(self._table, self._memory)
        if not self._is_there(live):
            return False
        try:
            self._rewrite(live)
            return self._commit(live)
        except OutcomeUnknown:
            raise  # the files may be in a snapshot: they stay
        except BaseException:
            self._discard()
            raise

    def _rewrite(self, live: LiveFiles) -> None:
        files = {file.file_path: file for file in live.committed}
        pending = _Pending()
        for path in self._plan.paths:
            rows = live.scan(files[path])
            deleted = live.deleted(files[path])
            self._moved[path] = _Moved(np.full(rows.num_rows, -1, np.int32), np.zeros(rows.num_rows, np.int64), deleted)
            kept = np.setdiff1d(np.arange(rows.num_rows, dtype=np.int64), deleted, assume_unique=True)
            if not len(kept):
                continue
            chosen = rows.take(pa.array(kept)) if len(deleted) else rows
            pending.parts.append((path, kept, chosen))
            pending.size += chosen.nbytes
            if pending.size >= self._target_bytes:
                self._flush(pending)
                pending = _Pending()
        if pending.parts:
            self._flush(pending)

    def _flush(self, pending: _Pending) -> None:
        """Write one new file, and note where its rows come from."""
        rows = pa.concat_tables([part for _, _, part in pending.parts])
        at = np.arange(rows.num_rows, dtype=np.int64)
        if (order := sorted_places(self._table, rows)) is not None:
            rows = rows.take(pa.array(order))
            at[order] = np.arange(rows.num_rows, dtype=np.int64)
        number, start = len(self._new), 0
        self._new.append(write_file(self._table, rows))
        for path, kept, _ in pending.parts:
            moved = self._moved[path]
            moved.files[kept] = number
            moved.places[kept] = at[start : start + len(kept)]
            start += len(kept)

    def _commit(self, live: LiveFiles) -> bool:
        for _ in range(ATTEMPTS_MAX):
            table = live.table
            deletes, change = self._change(live)
            summary = _of_parent(table) | {CARE: "compact"}
            try:
                commit(table, *prepare(table, change, summary=summary, properties={}))
                return True
            except Conflict:
                remove(table, (file.file_path for file in deletes))
                fresh = self._session.find(*self._name)
                if fresh is None or not self._may_go_on(fresh):
                    break
                live = LiveFiles(fresh, self._memory)
                if not self._is_there(live):
                    break
        self._discard()
        return False

    @property
    def _name(self) -> tuple[str, str]:
        namespace, name = self._table.name()[-2:]
        return namespace, name

    def _is_there(self, live: LiveFiles) -> bool:
        return set(self._plan.paths) <= {file.file_path for file in live.committed}

    def _may_go_on(self, table: Table) -> bool:
        was, now = self._table.metadata, table.metadata
        return (was.table_uuid, was.current_schema_id, was.default_spec_id) == (
            now.table_uuid,
            now.current_schema_id,
            now.default_spec_id,
        )

    def _change(self, live: LiveFiles) -> tuple[list[DataFile], Change]:
        """The commit upon what the table is now, and the delete files written for it."""
        files = {file.file_path: file for file in live.committed}
        gone = set(self._plan.paths)
        new = {file.file_path: file for file in self._new}
        deletes = write_position_deletes(self._table, self._deleted_since(live, files), new)
        replaced: list[DataFile] = []
        if self._plan.merges_deletes:
            replaced = [file for file in live.delete_files if (file.spec_id, file.partition) == self._plan.group]
            left = {
                path: places
                for path, file in files.items()
                if path not in gone
                and (file.spec_id, file.partition) == self._plan.group
                and len(places := live.deleted(file))
            }
            deletes = [*deletes, *write_position_deletes(self._table, left, files)]
        change = Change(
            added=(*self._new, *deletes),
            removed=frozenset(gone | {file.file_path for file in replaced}),
            keeps_rows=True,
        )
        return deletes, change

    def _deleted_since(self, live: LiveFiles, files: Mapping[str, DataFile]) -> dict[str, Positions]:
        """Rows of the new files that were deleted, in the old ones, since those were read."""
        found: dict[str, list[Positions]] = defaultdict(list)
        for path in self._plan.paths:
            moved = self._moved[path]
            late = np.setdiff1d(live.deleted(files[path]), moved.deleted, assume_unique=True)
            for number in np.unique(moved.files[late]):
                found[self._new[number].file_path].append(moved.places[late[moved.files[late] == number]])
        return {path: np.sort(np.concatenate(places)) for path, places in found.items()}

    def _discard(self) -> None:
        remove(self._table, (file.file_path for file in self._new))
        self._new.clear()


def _of_parent(table: Table) -> dict[str, str]:
    """What the present snapshot says of how far it goes: the one that holds the same rows says the same."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    return {name: value for name, value in summary.items() if name.startswith(_OWN)}


def keeps_rows_since(table: Table, snapshot_id: int | None) -> bool:
    """True when every snapshot of ``table`` after ``snapshot_id`` holds the rows of the one before it."""
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != snapshot_id:
        if snapshot.summary is None or snapshot.summary.get(CARE) is None or snapshot.parent_snapshot_id is None:
            return False
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id)
    return snapshot is not None


__all__ = ["ATTEMPTS_MAX", "CARE", "Compactor", "keeps_rows_since"]
