"""The net effect of changes on a mirror, as one Delta commit that marks old rows and adds new ones.

The engine reads tables with deletion vectors and does not write them, so this commit is made here, beside it: data
files, a file of vectors, and last the entry of the log, which only one writer can make. It is made for the one version
that was read. If somebody else made the next one, whoever it was, nothing of ours has happened, and all of it is done
again upon what is there then: which rows a commit marks depends on what the table holds.

What a commit costs follows the changed rows: the new ones, and the vectors of the files of old ones. The keys of files
are read once (`sinks.delta.live_rows`).

Marked rows stay in their files until those are written anew. The engine's compaction does it for small ones. For others
a commit does: files of which more is gone than there, as many as make up one new file. So a row is written again for
each that went, at most, and a table's files are never much larger than twice what is in them.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from sinks.delta.data_files import Written, write_rows
from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.folder import TableFolder
from sinks.delta.live_rows import Found, LiveRows
from sinks.delta.log import Action, DataFile, Log, entry_path
from sinks.delta.mirror import Commit, Shaped, appended, as_keys, filled, lies_outside
from sinks.delta.store import shape
from sinks.delta.vectors import Positions, payload_of, vector_file
from sinks.row_index import ArrayMemory, index_of
from wallaby.errors import Refused, WallabyError
from wallaby.transform import mirror
from wallaby.transform.columns import single

_ENGINE: Final = "wallaby"


@dataclass(frozen=True, slots=True)
class _Marked:
    """A file of which rows are gone afterwards."""

    file: DataFile
    positions: Positions
    """All of them, ascending."""
    rows: int
    """How many the file has; more than are gone."""


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a commit does."""

    rows: pa.Table
    """New ones, and those of files that are written anew."""
    marked: tuple[_Marked, ...]
    removed: tuple[DataFile, ...]


class Marker:
    """Applies plans to the loaded version of ``table``, at which ``log`` stands."""

    def __init__(
        self, table: DeltaTable, log: Log, folder: TableFolder, memory: ArrayMemory, *, file_bytes: int
    ) -> None:
        self._table = table
        self._log = log
        self._folder = folder
        self._memory = memory
        self._file_bytes = file_bytes
        self._fields = shape(table)
        self._partitions = tuple(table.metadata().partition_columns)
        self._live = LiveRows(log, folder, memory, self._fields, self._partitions)

    def commit_of(self, plan: mirror.MirrorPlan, shaped: Shaped) -> Commit | None:
        """As `sinks.delta.mirror.commit_of`; when called, `Conflict` if the version is not the newest any more."""
        names = [plan.schema.columns[i].name for i in plan.schema.key]
        upserts = shaped(plan.upserts)
        patched = [self._completed(plan, patch, shaped(patch.rows), names) for patch in plan.patches]
        rows = pa.concat_tables([upserts, *patched])
        keys = pa.concat_tables([rows.select(names), as_keys(plan.deletes, upserts, names)])
        if not keys.num_rows:
            return None
        found = [] if lies_outside(self._table, keys, names[0]) else self._live.find(keys)
        if not found:
            # No file holds any of the keys: deletes have nothing to delete.
            return appended(self._table, rows, plan.schema.name) if rows.num_rows else None
        effect = self._effect(self._with_others(plan, rows, found), found)
        version = self._log.version

        def commit(properties: CommitProperties) -> None:
            assert self._log.version == version, f"made for version {version}, called at {self._log.version}"
            self._commit(effect, properties, names)

        return commit

    def _completed(self, plan: mirror.MirrorPlan, patch: mirror.Patch, rows: pa.Table, names: list[str]) -> pa.Table:
        """``rows``, which are the patch's, with what PostgreSQL did not send: read from where each was."""
        origin = as_keys(patch.origin, rows, names)
        wanted = [*names, *(plan.schema.columns[i].name for i in patch.missing)]
        return filled(plan.schema, patch, rows, origin, self._live.read(wanted, self._live.find(origin)))

    def _with_others(self, plan: mirror.MirrorPlan, rows: pa.Table, found: list[Found]) -> pa.Table:
        """``rows`` with what their old ones hold in columns that are not the source's: somebody else's."""
        own = {column.name for column in plan.schema.columns}
        others = [name for name in rows.column_names if name not in own]
        if not others:
            return rows
        held = self._live.read(others, found)
        keys = np.concatenate([one.keys for one in found])
        place = np.full(max(rows.num_rows, int(keys.max()) + 1), -1, np.int64)
        place[keys] = np.arange(len(keys))
        place = place[: rows.num_rows]
        at = pa.array(place, mask=place < 0)
        for name in others:
            number = rows.schema.get_field_index(name)
            rows = rows.set_column(number, rows.schema.field(number), held[name].take(at))
        return rows

    def _effect(self, rows: pa.Table, found: list[Found]) -> _Effect:
        places = {one.file.key: np.unique(one.positions) for one in found}
        marked: list[_Marked] = []
        removed: list[DataFile] = []
        sparse: list[tuple[int, DataFile]] = []
        for file in self._log.files:
            new = places.get(file.key)
            if new is None and not file.marked:
                continue
            count = self._live.rows_of(file)
            left = count - file.marked - (0 if new is None else len(new))
            if left <= 0:
                self._require_rows(file, count - left)
                removed.append(file)
            elif 2 * left < count:
                sparse.append((left, file))
            elif new is not None:
                marked.append(_Marked(file, np.union1d(self._live.gone(file), new), count))
        budget = self._file_bytes
        for left, file in sorted(sparse, key=lambda one: one[0]):
            new, count = places.get(file.key), self._live.rows_of(file)
            weight = int(file.add["size"]) * left // count
            if weight <= budget:
                budget -= weight
                removed.append(file)
                rows = pa.concat_tables([rows, *self._remaining(file, new)])
            elif new is not None:
                marked.append(_Marked(file, np.union1d(self._live.gone(file), new), count))
        return _Effect(rows, tuple(marked), tuple(removed))

    def _require_rows(self, file: DataFile, count: int) -> None:
        """A file goes as a whole when all its rows are gone: by what it holds, not by what the log says of it."""
        if self._live.stored_rows(file) != count:
            raise Refused(
                "the table's log does not count the rows of a file as the file does",
                advice="Another writer damaged the table: copy it again with --resnapshot",
                table=self._folder.table,
            )

    def _remaining(self, file: DataFile, new: Positions | None) -> Iterator[pa.Table]:
        is_kept = np.ones(self._live.stored_rows(file), np.bool_)
        is_kept[self._live.gone(file)] = False
        if new is not None:
            is_kept[new] = False
        return self._live.taken(file, self._fields.names, np.flatnonzero(is_kept))

    def _commit(self, effect: _Effect, properties: CommitProperties, names: list[str]) -> None:
        now_ms = time.time_ns() // 1_000_000
        made: list[str] = []
        try:
            written = []
            for one in write_rows(
                self._folder, effect.rows, self._partitions, file_bytes=self._file_bytes, now_ms=now_ms
            ):
                made.append(one.add["path"])
                written.append(one)
            descriptors = self._write_vectors(effect, made)
            actions = _actions(effect, [one.add for one in written], descriptors, now_ms)
            said = _commit_info(properties, effect, written, self._log.version, now_ms)
            entry = [said, *_transactions(properties, now_ms), *actions]
        except BaseException:
            self._discard(made)
            raise
        # From here on the outcome may be unknown: what was written stays, and is nobody's until the log says so.
        if not self._folder.create(entry_path(self._log.version + 1), log_lines(entry)):
            self._discard(made)
            raise Conflict("somebody else committed to the table", advice="It is tried again", table=self._folder.table)
        self._log.advance(actions)
        for one in written:
            self._remember(one, names)
        with translated(Doing.WORK, table=self._folder.table):
            self._table.update_incremental()

    def _write_vectors(self, effect: _Effect, made: list[str]) -> list[dict[str, Any]]:
        if not effect.marked:
            return []
        payloads = [payload_of(one.positions) for one in effect.marked]
        path, content, descriptors = vector_file(payloads, [len(one.positions) for one in effect.marked])
        made.append(path)
        self._folder.write(path, lambda file: file.write(content))
        return descriptors

    def _discard(self, made: list[str]) -> None:
        # What cannot be removed is found by a vacuum.
        with suppress(WallabyError):
            self._folder.remove(made)

    def _remember(self, one: Written, names: list[str]) -> None:
        """The keys of a file just written need not be read."""
        columns = [single(one.rows.column(name)) for name in names]
        fields = pa.schema([one.rows.schema.field(name) for name in names])
        arrays = index_of(columns, np.ones(one.rows.num_rows, np.bool_))
        self._memory.put(self._live.index_name(one.add["path"], fields), arrays)


def commit_entry(folder: TableFolder, log: Log, table: DeltaTable, actions: list[Action], operation: str) -> None:
    """Make the version after the one ``log`` stands at, of ``actions``. `Conflict` when somebody else made it."""
    now_ms = time.time_ns() // 1_000_000
    said: Action = {"commitInfo": {"timestamp": now_ms, "operation": operation, **_origin(log.version)}}
    if not folder.create(entry_path(log.version + 1), log_lines([said, *actions])):
        raise Conflict("somebody else committed to the table", advice="It is tried again", table=folder.table)
    log.advance(actions)
    with translated(Doing.WORK, table=folder.table):
        table.update_incremental()


def log_lines(actions: list[Action]) -> bytes:
    """An entry of the log."""
    return "".join(f"{json.dumps(action, separators=(',', ':'))}\n" for action in actions).encode()


def _actions(
    effect: _Effect, added: list[dict[str, Any]], descriptors: list[dict[str, Any]], now_ms: int
) -> list[Action]:
    actions: list[Action] = [{"remove": _removed(file, now_ms)} for file in effect.removed]
    actions += [{"remove": _removed(one.file, now_ms)} for one in effect.marked]
    for one, descriptor in zip(effect.marked, descriptors, strict=True):
        again = {**one.file.add, "dataChange": True, "deletionVector": descriptor}
        actions.append({"add": {**again, "stats": _loose(one)}})
    return [*actions, *({"add": add} for add in added)]


def _removed(file: DataFile, now_ms: int) -> dict[str, Any]:
    add = file.add
    gone = {"path": add["path"], "deletionTimestamp": now_ms, "dataChange": True, "extendedFileMetadata": True}
    gone |= {"partitionValues": add["partitionValues"], "size": add["size"]}
    return gone | ({"deletionVector": file.vector} if file.vector else {})


def _loose(marked: _Marked) -> str:
    """The file's statistics as they are, but that its bounds may be wider than what is left.

    They are not read and written: decimals would lose digits.
    """
    said = str(marked.file.add.get("stats") or "{}").strip()
    match json.loads(said):
        case {"numRecords": int(), "tightBounds": False}:
            return said
        case {"numRecords": int(), **others} if "tightBounds" not in others:
            return f'{{"tightBounds":false,{said[1:]}'
        case _:
            return json.dumps({"numRecords": marked.rows, "tightBounds": False})


def _commit_info(
    properties: CommitProperties, effect: _Effect, written: list[Written], version: int, now_ms: int
) -> Action:
    counts = {
        "num_added_files": len(written),
        "num_removed_files": len(effect.removed),
        "num_marked_files": len(effect.marked),
        "num_output_rows": sum(one.rows.num_rows for one in written),
    }
    said: Mapping[str, Any] = properties.custom_metadata or {}
    return {
        "commitInfo": {
            "timestamp": now_ms,
            "operation": "MERGE",
            "operationMetrics": counts,
            **_origin(version),
            **said,
        }
    }


def _origin(version: int) -> dict[str, Any]:
    """Also makes every entry another one: by it a writer knows its own (`sinks.delta.folder`)."""
    return {"operationParameters": {}, "readVersion": version, "engineInfo": _ENGINE, "txnId": str(uuid.uuid4())}


def _transactions(properties: CommitProperties, now_ms: int) -> list[Action]:
    return [
        {"txn": {"appId": one.app_id, "version": one.version, "lastUpdated": now_ms}}
        for one in properties.app_transactions or ()
    ]


__all__ = ["Marker", "commit_entry", "log_lines"]
