"""The Iceberg destination: the sink contract over the tables of one catalog."""

from __future__ import annotations

from datetime import timedelta

from sinks.iceberg.access import catalog_findings
from sinks.iceberg.catalogs import CatalogSession, commit
from sinks.iceberg.config import CAPABILITIES, IcebergOptions
from sinks.iceberg.errors import Conflict
from sinks.iceberg.keys import Memory
from sinks.iceberg.lanes import LaneTable, Record, table_property
from sinks.iceberg.snapshots import Change, prepare
from sinks.iceberg.tables import Tables
from sinks.iceberg.warehouse import warehouse_findings
from sinks.iceberg.writer import IcebergWriter
from wallaby.errors import Transient, WallabyError
from wallaby.lsn import START, Position
from wallaby.record import require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, Severity, SinkWriter
from wallaby.window import LaneId

_ATTEMPTS_MAX = 20


class IcebergSink:
    """See `wallaby.sink.Sink`. Holds a connection to the catalog, no lock, and no open file between calls."""

    def __init__(self, options: IcebergOptions, *, destination: str) -> None:
        self._options = options
        self._destination = destination
        self._session = CatalogSession(options)
        self._tables = Tables(self._session, options)
        self._memory = Memory(options.key_cache_size)
        self._writers: dict[LaneId, IcebergWriter] = {}

    def __repr__(self) -> str:
        return f"IcebergSink({self._destination!r}, catalog {self._options.catalog_name!r})"

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return self._options.commit_interval // timedelta(milliseconds=1)

    def open(self) -> None:
        """Nothing is connected to before the first call that needs it."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()
        self._session.close()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        try:
            self._session.find(self._options.state_namespace, "lanes")
            unwritable = catalog_findings(self._session.catalog())
        except WallabyError as error:
            code = "destination-unreachable" if isinstance(error, Transient) else "catalog"
            return [
                Finding(
                    severity=Severity.ERROR,
                    subject=f"catalog {self._options.catalog_name}",
                    message=error.message,
                    advice=error.advice,
                    code=code,
                )
            ]
        found = [*unwritable, *warehouse_findings(self._options)]
        if any(one.severity is Severity.ERROR for one in found):
            return found
        return [*found, *self._tables.findings(tables)]

    def ensure_table(self, schema: TableSchema) -> None:
        self._tables.ensure(schema, self._require_owner)
        for writer in self._writers.values():
            writer.reload(schema.name)

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        for _ in range(_ATTEMPTS_MAX):
            found = self._tables.load(table)
            record = self._lane(lane).require_epoch(epoch).record
            if found is None:
                return
            self._tables.require_resettable(found, table)
            properties = {
                table_property(lane): Record(START, epoch, record.generation).to_json(),
                **self._tables.reset_properties(),
            }
            try:
                commit(found, *prepare(found, Change(removes_everything=True), summary={}, properties=properties))
            except Conflict:
                continue
            return
        raise Transient("others commit to the table faster than it can be emptied", table=table)

    def require_resettable(self, table: TableName) -> None:
        """See `wallaby.sink.Guarding`."""
        if (found := self._tables.load(table)) is not None:
            self._tables.require_resettable(found, table)

    def recover(self, lane: LaneId, epoch: int) -> Position:
        self._abandon(lane)

        def fenced(record: Record) -> Record | None:
            require_epoch(record.of_lane, lane, epoch)
            return Record(record.position, epoch, record.generation) if record.epoch < epoch else None

        return self._lane(lane).change(fenced).position

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)

        def forgotten(record: Record) -> Record:
            require_epoch(record.of_lane, lane, epoch)
            return Record(START, epoch, record.generation + 1)

        self._lane(lane).change(forgotten)

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        self._abandon(lane)
        writer = self._writers[lane] = IcebergWriter(
            self._tables, self._lane(lane), self._memory, lane=lane, epoch=epoch
        )
        return writer

    def _lane(self, lane: LaneId) -> LaneTable:
        return LaneTable(self._session, lane, self._options.state_namespace)

    def _require_owner(self) -> None:
        for writer in self._writers.values():
            writer.require_owner()

    def _abandon(self, lane: LaneId) -> None:
        """A position is asked for or changed: what an earlier writer left open is not part of it."""
        if (writer := self._writers.pop(lane, None)) is not None:
            writer.abort()


__all__ = ["IcebergSink"]
