"""One lane's writes: Parquet files under staging, then one manifest that makes them all count, then their final names.

A commit is: finish and fsync the files; link the manifest (the only step that decides); rename the files into place. A
crash before the link leaves files nobody looks at, a crash after it leaves files under their staged names, which the
manifest gives too; ``recover`` removes the former and renames the latter.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, assert_never

from sinks.files.config import LogOptions
from sinks.files.errors import outcome_unknown, translated
from sinks.files.layout import LaneFolders, data_file
from sinks.files.manifests import DataFile, Entry, Kind, ManifestLog, next_entry
from sinks.files.parquet import ParquetFile
from sinks.files.store import sync_folder
from wallaby.errors import OutcomeUnknown, Transient
from wallaby.record import must_apply, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.transform.append import append_truncate
from wallaby.window import Barrier, BarrierKind, CommitToken, Receipt, TablePart, Window

_RESTORED: Final = "manifests were removed"


class Places(Protocol):
    """Where one writer's files lie before and after its commits."""

    @property
    def fsync(self) -> bool:
        """Whether files in the making must survive the machine."""
        ...

    def staging(self) -> Path:
        """A local folder, which exists, for files in the making."""
        ...

    def staged(self, file: ParquetFile, final: str) -> str:
        """Where the file is from its sealing until `settle`, relative to the root."""
        ...

    def publish(self, files: list[tuple[ParquetFile, DataFile]]) -> None:
        """Before the manifest: the files are durable where it will say they are."""
        ...

    def settle(self, files: tuple[DataFile, ...]) -> None:
        """After the manifest: the files get their final names. Twice is once."""
        ...


class FilesWriter:
    """See `wallaby.sink.SinkWriter`.

    ``schemas`` are the shapes the sink knows, by target name, shared with it; ``target`` gives a shape its target name.
    """

    def __init__(
        self,
        places: Places,
        log: ManifestLog,
        options: LogOptions,
        *,
        schemas: dict[TableName, TableSchema],
        target: Callable[[TableSchema], TableSchema],
    ) -> None:
        self._places = places
        self._log = log
        self._options = options
        self._schemas = schemas
        self._target = target
        self._last: Entry = log.last()
        self._open: dict[TableName, ParquetFile] = {}
        self._finished: list[ParquetFile] = []
        self._numbers = itertools.count()

    def write(self, window: Window) -> None:
        assert window.barrier is None, "barriers go to apply_barrier"
        for part in window.parts:
            self._file_for(part).write(part)

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
        self._finished.clear()
        self._last = entry
        with outcome_unknown(lane=token.lane):
            self._places.settle(entry.files)
        return receipt

    def _seal(self, token: CommitToken) -> tuple[DataFile, ...]:
        """Finish the staged files and name their final places."""
        self._finished += self._open.values()
        self._open.clear()
        sealed: list[tuple[ParquetFile, DataFile]] = []
        for number, file in enumerate(self._finished):
            file.seal(_footer(token, file.schema))
            name = data_file(
                file.schema.name,
                token.lane,
                after=token.after,
                upto=token.upto,
                mark=(token.epoch, self._last.sequence + 1, number, file.sha256),
            )
            content = DataFile(
                path=name,
                staged=self._places.staged(file, name),
                schema=file.schema.name.schema,
                table=file.schema.name.name,
                rows=file.rows,
                bytes=file.bytes,
                sha256=file.sha256,
            )
            sealed.append((file, content))
        if sealed:
            self._places.publish(sealed)
        return tuple(content for _, content in sealed)

    def _write_truncates(self, barrier: Barrier) -> None:
        for table in map(self._target_name, barrier.tables):
            # Without a known shape the row has the log's own columns only: they say it all.
            schema = self._schemas.get(table) or TableSchema(oid=0, name=table, columns=())
            file = self._open[table] = self._new_file(schema)
            file.write_rows(append_truncate(schema, barrier, keep_outliers=self._options.keeps_outliers))

    def _target_name(self, table: TableName) -> TableName:
        return self._target(TableSchema(oid=0, name=table, columns=())).name

    def _file_for(self, part: TablePart) -> ParquetFile:
        schema = self._target(part.schema)
        file = self._open.get(schema.name)
        if file is not None and file.schema.fingerprint != schema.fingerprint:
            self._finished.append(self._open.pop(schema.name))
            file = None
        if file is None:
            self._schemas[schema.name] = schema
            file = self._open[schema.name] = self._new_file(schema)
        return file

    def _new_file(self, schema: TableSchema) -> ParquetFile:
        folder = self._places.staging()
        path = folder / f"{os.getpid()}-{id(self)}-{next(self._numbers)}.part"
        return ParquetFile(path, schema, self._options, fsync=self._places.fsync)


class InPlace:
    """A directory: files are staged in it and renamed."""

    def __init__(self, folders: LaneFolders, epoch: int, *, fsync: bool) -> None:
        self._root = folders.root
        self._staging = folders.staging_of(epoch)
        self.fsync = fsync

    def staging(self) -> Path:
        with translated(folder=self._staging):
            self._staging.mkdir(parents=True, exist_ok=True)
        return self._staging

    def staged(self, file: ParquetFile, final: str) -> str:
        return str(file.path.relative_to(self._root))

    def publish(self, files: list[tuple[ParquetFile, DataFile]]) -> None:
        if self.fsync:
            with translated(folder=self._staging):
                sync_folder(self._staging)

    def settle(self, files: tuple[DataFile, ...]) -> None:
        put_in_place(self._root, files)


def put_in_place(root: Path, files: tuple[DataFile, ...]) -> None:
    """Give committed files their final names. Twice is once."""
    for file in files:
        final = root / file.path
        try:
            os.replace(root / file.staged, final)
        except FileNotFoundError:
            if final.exists():
                continue
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(root / file.staged, final)


def _footer(token: CommitToken, schema: TableSchema) -> dict[str, str]:
    content: dict[str, Any] = {
        "flow": token.lane.flow,
        "destination": token.lane.destination,
        "lane": token.lane.index,
        "epoch": token.epoch,
        "after": token.after,
        "upto": token.upto,
        "schema": schema.name.schema,
        "table": schema.name.name,
        "schema_version": schema.version,
    }
    return {f"wallaby.{name}": str(value) for name, value in content.items()}


__all__ = ["FilesWriter", "InPlace", "Places", "put_in_place"]
