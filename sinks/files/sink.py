"""The files destination: the sink contract over a directory, see `sinks.files.layout` for what lies where."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sinks.files.config import CAPABILITIES, FilesOptions
from sinks.files.ddl import file_schema
from sinks.files.errors import translated
from sinks.files.layout import FORMAT_VERSION, OWN_FOLDER, LaneFolders
from sinks.files.manifests import Entry, Kind, ManifestLog, live_files, next_entry
from sinks.files.writer import FilesWriter, put_in_place
from wallaby.errors import ConfigError, Refused, Transient
from wallaby.lsn import START, Position
from wallaby.record import require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, Severity, SinkWriter
from wallaby.window import LaneId

_APPEND_ATTEMPTS_MAX: Final = 100
_FORMAT: Final = "format.json"


class FilesSink:
    """See `wallaby.sink.Sink`. Holds no lock and no open file between commits."""

    def __init__(self, options: FilesOptions, *, destination: str) -> None:
        self._options = options
        self._destination = destination
        self._root = Path(options.path)
        self._schemas: dict[TableName, TableSchema] = {}
        self._writers: dict[LaneId, FilesWriter] = {}

    def __repr__(self) -> str:
        return f"FilesSink({self._destination!r}, {str(self._root)!r})"

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return self._options.commit_interval // timedelta(milliseconds=1)

    def open(self) -> None:
        """Nothing to connect to; `check` and the first write tell whether the directory is there."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        found = folder_findings(self._root)
        for schema in tables:
            try:
                file_schema(schema, keep_outliers=self._options.keeps_outliers)
            except ConfigError as error:
                found.append(_error(f"table {schema.name}", error.message, error.advice, "table-shape"))
        if self._options.table is not None and len({schema.name for schema in tables}) > 1:
            found.append(_error("options.table", "one name for several tables", "Leave table out", "name-collision"))
        return found

    def ensure_table(self, schema: TableSchema) -> None:
        target = self._target(schema)
        file_schema(target, keep_outliers=self._options.keeps_outliers)
        self._schemas[target.name] = target

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        """The lane's files of the table and those of its replays are void with one entry each, then removed.

        Files of others are never touched.
        """
        name = self._target_name(table)
        self._reset_table(name, lane, epoch)
        with translated(path=self._root):
            has_replays = LaneFolders(self._root, lane.beside).log.is_dir()
        if has_replays:
            self._reset_table(name, lane.beside, epoch)

    def _reset_table(self, name: TableName, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        folders, log = self._prepared(lane)
        void = [file for file in live_files(log.all()) if file.name == name]
        self._append(log, lane, epoch, Kind.RESET_TABLE, tables=(name,))
        earlier = [file for entry in log.all() for file in entry.files if file.name == name]
        with translated(table=name):
            for file in (*void, *earlier):
                (folders.root / file.path).unlink(missing_ok=True)
                (folders.root / file.staged).unlink(missing_ok=True)

    def recover(self, lane: LaneId, epoch: int) -> Position:
        self._abandon(lane)
        folders, log = self._prepared(lane)
        last = log.last()
        require_epoch(last.record, lane, epoch)
        if last.epoch < epoch:
            last = self._append(log, lane, epoch, Kind.FENCE)
        # After the fence: no older writer can add to the log any more, so what it does not name is refuse.
        self._tidy(folders, log, epoch)
        return last.upto

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        _, log = self._prepared(lane)
        self._append(log, lane, epoch, Kind.RESET_LANE, upto=START)

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        self._abandon(lane)
        folders, log = self._prepared(lane)
        writer = FilesWriter(folders, log, self._options, epoch=epoch, schemas=self._schemas, target=self._target)
        self._writers[lane] = writer
        return writer

    def _target_name(self, source: TableName) -> TableName:
        schema, table = self._options.schema_, self._options.table
        if table and "." in table and not schema:
            schema, _, table = table.partition(".")
        return TableName(schema or source.schema, table or source.name)

    def _target(self, schema: TableSchema) -> TableSchema:
        return replace(schema, name=self._target_name(schema.name))

    def _abandon(self, lane: LaneId) -> None:
        """A position is asked for or changed: what an earlier writer left open is not part of it."""
        if (writer := self._writers.pop(lane, None)) is not None:
            writer.abort()

    def _prepared(self, lane: LaneId) -> tuple[LaneFolders, ManifestLog]:
        if not self._root.is_dir():
            raise Transient(
                "the directory does not exist",
                advice="Create it, or mount what should be there",
                path=self._root,
            )
        _require_format(self._root)
        folders = LaneFolders(self._root, lane)
        log = ManifestLog(folders, fsync=self._options.fsync)
        log.prepare()
        return folders, log

    def _append(self, log: ManifestLog, lane: LaneId, epoch: int, kind: Kind, **changes: Any) -> Entry:
        """Add an entry that concerns no rows, whatever an older epoch is adding meanwhile."""
        for _ in range(_APPEND_ATTEMPTS_MAX):
            last = log.last()
            require_epoch(last.record, lane, epoch)
            entry = next_entry(last, kind, epoch=epoch, **changes)
            if log.append(entry):
                return entry
        raise Transient("the lane's log grows faster than it can be taken over", lane=lane)

    def _tidy(self, folders: LaneFolders, log: ManifestLog, epoch: int) -> None:
        """Finish the renames of committed files and remove what no manifest names, of this and older epochs."""
        with translated(folder=folders.staging):
            if not folders.staging.is_dir():
                return
            older = [folder for folder in folders.staging.iterdir() if int(folder.name) <= epoch]
            if any(any(folder.iterdir()) for folder in older):
                live = {file.path: file for file in live_files(log.all())}
                committed = [file for file in live.values() if (folders.root / file.staged).exists()]
                put_in_place(folders.root, tuple(committed))
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


def _error(subject: str, message: str, advice: str, code: str) -> Finding:
    return Finding(severity=Severity.ERROR, subject=subject, message=message, advice=advice, code=code)


__all__ = ["FilesSink", "folder_findings"]
