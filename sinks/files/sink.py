"""The sink contract over files behind the storage port, see `sinks.files.layout` for what lies where."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sinks.files.config import CAPABILITIES, LogOptions
from sinks.files.ddl import require_log
from sinks.files.errors import translated
from sinks.files.layout import FORMAT_KEY, FORMAT_VERSION
from sinks.files.manifests import Entry, Kind, ManifestLog, live_files, next_entry
from sinks.files.storage import Storage
from sinks.files.writer import FilesWriter
from wallaby.errors import ConfigError, Refused, Transient
from wallaby.lsn import START, Position
from wallaby.record import require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, SinkWriter, error_finding
from wallaby.window import LaneId

_APPEND_ATTEMPTS_MAX: Final = 100


class FilesSink:
    """See `wallaby.sink.Sink`. Holds no lock and no open file between commits."""

    def __init__(self, options: LogOptions, storage: Storage, *, destination: str) -> None:
        self._options = options
        self._destination = destination
        self._storage = storage
        self._schemas: dict[TableName, TableSchema] = {}
        self._sources: dict[TableName, TableSchema] = {}
        self._writers: dict[LaneId, FilesWriter] = {}

    def __repr__(self) -> str:
        return f"FilesSink({self._destination!r}, {str(self._storage)!r})"

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return self._options.commit_interval // timedelta(milliseconds=1)

    def open(self) -> None:
        """Nothing to connect to; `check` and the first write tell whether the storage is there."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()
        self._storage.close()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        found = self._storage.findings()
        if not found:
            try:
                _require_known_format(self._storage)
            except Refused as error:
                found.append(error_finding(str(self._storage), error.message, error.advice, "format-version"))
        sources: dict[TableName, TableSchema] = {}
        for schema in tables:
            subject = f"table {schema.name}"
            try:
                self._claim(sources, schema)
                require_log(schema, self._options)
            except Refused as error:
                found.append(error_finding(subject, error.message, error.advice, "name-collision"))
            except ConfigError as error:
                found.append(error_finding(subject, error.message, error.advice, "table-shape"))
        return found

    def ensure_table(self, schema: TableSchema) -> None:
        target = self._target(schema)
        self._claim(self._sources, schema)
        require_log(target, self._options)
        self._schemas[target.name] = target

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        """The lane's files of the table and those of its replays are void with one entry each, then removed.

        Files of others are never touched.
        """
        name = self._target_name(table)
        self._reset_table(name, lane, epoch)
        with translated(path=str(self._storage)):
            has_replays = ManifestLog(self._storage, lane.beside).last().sequence > 0
        if has_replays:
            self._reset_table(name, lane.beside, epoch)

    def _reset_table(self, name: TableName, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        log = self._prepared(lane)
        reset = self._append(log, lane, epoch, Kind.RESET_TABLE, tables=(name,))
        # What follows the entry is a successor's, which may have copied the table again by now.
        earlier = (entry for entry in log.all() if entry.sequence < reset.sequence)
        gone = [file for entry in earlier for file in entry.files if file.name == name]
        with translated(table=name):
            self._storage.remove(dict.fromkeys(key for file in gone for key in (file.path, file.staged) if key))

    def recover(self, lane: LaneId, epoch: int) -> Position:
        self._abandon(lane)
        log = self._prepared(lane)
        last = log.last()
        require_epoch(last.record, lane, epoch)
        if last.epoch < epoch:
            last = self._append(log, lane, epoch, Kind.FENCE)
        # After the fence: no older writer can add to the log any more, so what it does not name is refuse.
        self._storage.tidy(lane, epoch, lambda sequence: live_files(log.since(sequence)))
        return last.upto

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        log = self._prepared(lane)
        self._append(log, lane, epoch, Kind.RESET_LANE, upto=START)

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        self._abandon(lane)
        log = self._prepared(lane)
        writer = FilesWriter(
            self._storage,
            log,
            self._options,
            lane=lane,
            epoch=epoch,
            schemas=self._schemas,
            target=self._target,
        )
        self._writers[lane] = writer
        return writer

    def _target_name(self, source: TableName) -> TableName:
        schema, table = self._options.schema_, self._options.table
        if table and "." in table and not schema:
            schema, _, table = table.partition(".")
        return TableName(schema or source.schema, table or source.name)

    def _target(self, schema: TableSchema) -> TableSchema:
        return replace(schema, name=self._target_name(schema.name))

    def _claim(self, sources: dict[TableName, TableSchema], schema: TableSchema) -> None:
        """Note which table a log is of; `Refused` when it is another's. One that was renamed stays the same."""
        target = self._target_name(schema.name)
        other = sources.setdefault(target, schema)
        if other.name != schema.name and other.oid != schema.oid:
            raise Refused(
                f"{schema.name} and {other.name} would both be written to {target} (name-collision)",
                advice="One log holds one table: leave out the options schema and table, or give each its destination",
                table=schema.name,
            )
        sources[target] = schema

    def _abandon(self, lane: LaneId) -> None:
        """A position is asked for or changed: what an earlier writer left open is not part of it."""
        if (writer := self._writers.pop(lane, None)) is not None:
            writer.abort()

    def _prepared(self, lane: LaneId) -> ManifestLog:
        self._storage.require()
        _require_format(self._storage)
        log = ManifestLog(self._storage, lane)
        log.prepare()
        return log

    def _append(self, log: ManifestLog, lane: LaneId, epoch: int, kind: Kind, **changes: Any) -> Entry:
        """Add an entry that concerns no rows, whatever an older epoch is adding meanwhile."""
        for _ in range(_APPEND_ATTEMPTS_MAX):
            last = log.last()
            require_epoch(last.record, lane, epoch)
            entry = next_entry(last, kind, epoch=epoch, **changes)
            if log.append(entry):
                return entry
        raise Transient("the lane's log grows faster than it can be taken over", lane=lane)


def _require_format(storage: Storage) -> None:
    """Mark the root as ours, or read the mark; `Refused` for a storage that lets two writers make the same key."""
    mark = json.dumps({"version": FORMAT_VERSION}).encode()
    with translated(path=str(storage)):
        is_made = storage.create(FORMAT_KEY, mark)
    _require_known_format(storage)
    with translated(path=str(storage)):
        if is_made and storage.create(FORMAT_KEY, mark):
            raise Refused(
                "the storage makes a key that is there already: commits would not be safe",
                advice="Use a store that can make an object only if it is absent",
                path=str(storage),
            )


def _require_known_format(storage: Storage) -> None:
    with translated(path=str(storage)):
        if not storage.exists(FORMAT_KEY):
            return
        content = storage.read(FORMAT_KEY)
    try:
        version = json.loads(content)["version"]
    except (ValueError, KeyError, TypeError):
        version = "unknown"
    if version != FORMAT_VERSION:
        raise Refused(
            f"the files there have format {version}, this wallaby knows {FORMAT_VERSION}",
            advice="Use the wallaby that wrote them, or another place",
            path=str(storage),
        )


__all__ = ["FilesSink"]
