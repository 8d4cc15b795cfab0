"""One lane's writes: files in the making, then one manifest that makes them all count.

A commit is: finish the files and bring them to the storage; make the manifest (the only step that decides); settle the
files. A crash before the manifest leaves files nobody looks at, a crash after it leaves files that are not settled,
which readers find all the same; ``recover`` removes the former and settles the latter.
"""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, assert_never

from sinks.files.config import LogOptions
from sinks.files.errors import outcome_unknown, translated
from sinks.files.layout import data_file
from sinks.files.log_file import LogFile
from sinks.files.manifests import Entry, Kind, ManifestLog, next_entry
from sinks.files.storage import DataFile, Storage
from sinks.files.table_files import TableFiles
from wallaby.errors import OutcomeUnknown, Transient
from wallaby.record import must_apply, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.transform.append import append_truncate
from wallaby.window import Barrier, BarrierKind, CommitToken, LaneId, Receipt, TablePart, Window
from wallaby.wire import WireFormat

HELD_BYTES_MAX: Final = 256 << 20
"""Rows that all tables of a commit keep in memory: beyond it they become row groups before their time."""
_RESTORED: Final = "manifests were removed"


class FilesWriter:
    """See `wallaby.sink.SinkWriter`.

    ``schemas`` are the shapes the sink knows, by target name, shared with it; ``target`` gives a shape its target name.
    """

    def __init__(
        self,
        storage: Storage,
        log: ManifestLog,
        options: LogOptions,
        *,
        lane: LaneId,
        epoch: int,
        schemas: dict[TableName, TableSchema],
        target: Callable[[TableSchema], TableSchema],
    ) -> None:
        self._storage = storage
        self._lane = lane
        self._log = log
        self._options = options
        self._epoch = epoch
        self._schemas = schemas
        self._target = target
        self._last: Entry = log.last()
        self._open: dict[TableName, TableFiles] = {}
        self._finished: list[TableFiles] = []
        self._numbers = itertools.count()

    def write(self, window: Window) -> None:
        assert window.barrier is None, "barriers go to apply_barrier"
        for part in window.parts:
            self._files_for(part).write(part)
        if self._held_bytes > HELD_BYTES_MAX:
            self._release()

    def commit(self, token: CommitToken) -> Receipt:
        return self._settle(token, Kind.COMMIT)

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        assert not self._open, "a barrier with uncommitted rows before it"
        match barrier.kind:
            case BarrierKind.TRUNCATE:
                return self._settle(token, Kind.TRUNCATE, barrier)
            case BarrierKind.SCHEMA:
                for schema in map(self._target, barrier.schemas):
                    self._schemas[schema.name] = schema
                return self._settle(token, Kind.SCHEMA, barrier)
            case _:
                assert_never(barrier.kind)

    def abort(self) -> None:
        files = [*self._open.values(), *self._finished]
        self._open.clear()
        self._finished.clear()
        for file in files:
            file.discard()

    @property
    def _held_bytes(self) -> int:
        return sum(files.held_bytes for files in self._open.values())

    def _release(self) -> None:
        """Write out the tables that keep most, until half the limit is left, so that the next window does not again."""
        held = self._held_bytes
        for files in sorted(self._open.values(), key=lambda files: files.held_bytes, reverse=True):
            if held <= HELD_BYTES_MAX // 2:
                return
            held -= files.held_bytes
            files.release()

    def _settle(self, token: CommitToken, kind: Kind, barrier: Barrier | None = None) -> Receipt:
        receipt = Receipt(token.lane, token.upto, token.rows)
        try:
            if self._last.upto != token.after or self._last.epoch != token.epoch:
                self._last = self._log.last()
            if not must_apply(self._last.record, token, restored=_RESTORED):
                self.abort()
                return receipt
            if barrier is not None and kind is Kind.TRUNCATE:
                self._write_truncates(barrier)
            try:
                files = self._seal(token)
            except Transient:
                # A successor removes what older epochs staged: then say that, not what became of the files.
                self._last = self._log.last()
                require_epoch(self._last.record, token.lane, token.epoch)
                raise
            entry = next_entry(
                self._last,
                kind,
                epoch=token.epoch,
                upto=token.upto,
                rows=token.rows,
                committed_at_us=token.committed_at_us,
                files=files,
                tables=tuple(map(self._target_name, barrier.tables)) if barrier else (),
            )
            if not self._log.append(entry):
                self._last = self._log.last()
                self._withdraw(files)
                self.abort()
                if must_apply(self._last.record, token, restored=_RESTORED):
                    raise Transient("the lane's log moved on without moving the position", lane=token.lane)
                return receipt
        except OutcomeUnknown:
            # The manifest may be in the log: what it names must stay.
            self._open.clear()
            self._finished.clear()
            raise
        except BaseException:
            self.abort()
            raise
        done, self._finished = self._finished, []
        self._last = entry
        with outcome_unknown(lane=token.lane):
            self._storage.settle(token.lane, token.epoch, entry.files)
            for file in done:
                file.discard()
        return receipt

    def _withdraw(self, files: tuple[DataFile, ...]) -> None:
        """Remove what was brought for nothing, if its keys are certainly nobody else's: they hold our epoch."""
        if self._last.epoch > self._epoch:
            with translated(lane=self._lane):
                self._storage.remove(file.path for file in files)

    def _seal(self, token: CommitToken) -> tuple[DataFile, ...]:
        """Finish the files, name their final places, and bring them to the storage."""
        self._finished += self._open.values()
        self._open.clear()
        positions = {"wallaby.after": str(token.after), "wallaby.upto": str(token.upto)}
        files = [file for table in self._finished for file in table.seal(positions)]
        sequence = self._last.sequence + 1
        sealed: list[tuple[Path, DataFile]] = []
        for number, file in enumerate(files):
            name = data_file(
                file.schema.name,
                token.lane,
                folder=file.folder,
                after=token.after,
                upto=token.upto,
                epoch=token.epoch,
                sequence=sequence,
                number=number,
                sha256=file.sha256,
                suffix=self._options.suffix,
            )
            sealed.append((file.path, self._data_file(file, name)))
        if sealed:
            self._storage.bring(token.lane, token.epoch, sealed, sequence=sequence)
        return tuple(file for _, file in sealed)

    def _data_file(self, file: LogFile, path: str) -> DataFile:
        arrow_schema = ""
        if self._options.format is WireFormat.JSON:
            arrow_schema = base64.b64encode(file.arrow_schema.serialize()).decode()
        return DataFile(
            path=path,
            staged=self._storage.staged_name(file.path),
            schema=file.schema.name.schema,
            table=file.schema.name.name,
            rows=file.rows,
            bytes=file.bytes,
            sha256=file.sha256,
            format=self._options.format.value,
            arrow_schema=arrow_schema,
        )

    def _write_truncates(self, barrier: Barrier) -> None:
        for table in map(self._target_name, barrier.tables):
            # Without a known shape the row has the log's own columns only: they say it all.
            schema = self._schemas.get(table) or TableSchema(oid=0, name=table, columns=())
            files = self._open[table] = self._new_files(schema)
            files.write_rows(append_truncate(schema, barrier, keep_outliers=self._options.keeps_outliers))

    def _target_name(self, table: TableName) -> TableName:
        return self._target(TableSchema(oid=0, name=table, columns=())).name

    def _files_for(self, part: TablePart) -> TableFiles:
        schema = self._target(part.schema)
        files = self._open.get(schema.name)
        if files is not None and files.schema.fingerprint != schema.fingerprint:
            files.finish()
            self._finished.append(self._open.pop(schema.name))
            files = None
        if files is None:
            self._schemas[schema.name] = schema
            files = self._open[schema.name] = self._new_files(schema)
        return files

    def _new_files(self, schema: TableSchema) -> TableFiles:
        with translated(lane=self._lane):
            folder = self._storage.scratch(self._lane, self._epoch)
        return TableFiles(
            schema,
            self._options,
            place=lambda: folder / f"{os.getpid()}-{id(self)}-{next(self._numbers)}.part",
            origin=_origin(self._lane, self._epoch, schema),
            fsync=self._storage.syncs_scratch,
        )


def _origin(lane: LaneId, epoch: int, schema: TableSchema) -> dict[str, str]:
    """What a file's footer says of where it is from, where the format has a footer."""
    content: dict[str, Any] = {
        "flow": lane.flow,
        "destination": lane.destination,
        "lane": lane.index,
        "epoch": epoch,
        "schema": schema.name.schema,
        "table": schema.name.name,
        "schema_version": schema.version,
    }
    return {f"wallaby.{name}": str(value) for name, value in content.items()}


__all__ = ["HELD_BYTES_MAX", "FilesWriter"]
