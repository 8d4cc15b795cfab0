"""The target tables of one destination: which source table each holds, its shape, and whether wallaby may empty it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable

from sinks.delta import lanes
from sinks.delta.config import DeltaOptions
from sinks.delta.ddl import ATTNUM, Change, change, made_anew, target_table, wanted_fields
from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.folder import TableFolder
from sinks.delta.history import holds_only_copies
from sinks.delta.lanes import Mark, Marks
from sinks.delta.log import SIDECARS, Log, is_left_to_the_engine
from sinks.delta.marking import Marker, commit_entry
from sinks.delta.rewrite import reshape
from sinks.delta.store import NO_HOOKS, Store, commit_properties, delta_schema, hours, shape
from sinks.row_index import ArrayMemory
from wallaby.errors import ConfigError, Refused, Transient
from wallaby.lsn import START
from wallaby.record import LaneRecord, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Finding, Severity, WriteMode
from wallaby.transform.history import NO_VERSIONS, VERSIONS, holds_versions, require_only_copied
from wallaby.transform.target import collision, require_fit, shape_finding
from wallaby.window import LaneId

HANDLES_MAX: Final = 256
"""Tables kept open: each holds the list of its files."""
ATTEMPTS_MAX: Final = 8
"""Commits of others met while one of ours is tried, before it is given up."""
SOURCE: Final = "wallaby.source"
_RESETTABLE: Final = "wallaby.resettable"


class Tables:
    """Opens targets when they are needed and keeps the newest of them open."""

    def __init__(self, store: Store) -> None:
        self.options: DeltaOptions = store.options
        self._store = store
        self._open: OrderedDict[TableName, DeltaTable] = OrderedDict()
        self.marks = Marks()
        self._logs: OrderedDict[str, tuple[TableFolder, Log]] = OrderedDict()
        self._memory = ArrayMemory(store.options.key_cache_size)

    def opened(self, source: TableName) -> DeltaTable | None:
        """The newest version of the target of ``source``; None when there is none."""
        target = target_table(source, self.options)
        table = self._open.get(target)
        if table is None:
            table = self._store.open(self._store.uri(target), table=source)
            return None if table is None else self._kept(target, table)
        self._open.move_to_end(target)
        with translated(Doing.OPEN, table=source):
            table.update_incremental()
        return table

    def forget(self, source: TableName) -> None:
        """Open the target anew next time."""
        self._open.pop(target_table(source, self.options), None)

    def uri(self, source: TableName) -> str:
        return self._store.uri(target_table(source, self.options))

    def marker(self, source: TableName, table: DeltaTable) -> Marker | None:
        """What commits by deletion vectors to the loaded version of ``table``; None where that is not asked for, or the
        table has what only the engine keeps."""
        if not self.options.deletion_vectors or self._obstacle(source, table) is not None:
            return None
        folder, log = self._log(source, table)
        if not log.is_ready:
            return None
        return Marker(table, log, folder, self._memory, file_bytes=self.options.target_file_size)

    def _log(self, source: TableName, table: DeltaTable) -> tuple[TableFolder, Log]:
        """The log of the target, at the loaded version."""
        uri = self.uri(source)
        if uri not in self._logs:
            folder = self._store.folder(uri, table=source)
            self._logs[uri] = folder, Log(folder)
            if len(self._logs) > HANDLES_MAX:
                self._logs.popitem(last=False)
        self._logs.move_to_end(uri)
        folder, log = self._logs[uri]
        with translated(Doing.OPEN, table=source):
            log.follow(table.version(), table_id=str(table.metadata().id))
        return folder, log

    def _obstacle(self, source: TableName, table: DeltaTable) -> str | None:
        """The first thing about the loaded version that commits by deletion vectors would not respect."""
        if is_left_to_the_engine(table):
            return f"the table uses {SIDECARS}"
        return self._log(source, table)[1].obstacle()

    def ensure(self, schema: TableSchema, *, fence: Callable[[], None]) -> None:
        """Create the target, or bring it to ``schema``: a mirror's columns are renamed, dropped, added and widened as
        the source's were. Twice is once. ``fence`` raises where the caller may not change what exists."""
        wanted = wanted_fields(schema, self.options)
        self._retried(schema.name, lambda: self._ensure(schema, wanted, fence))

    def reset(self, source: TableName, lane: LaneId, mark: Mark, epoch: int) -> None:
        """Empty the target and take its record; `Refused` when it held rows before wallaby came, or holds a history no
        copy brings back."""

        def work() -> None:
            table = self.opened(source)
            if table is None:
                return
            require_epoch(lanes.read(table, lane).record, lane, epoch)
            self.require_resettable(source, table)
            empty = Mark(LaneRecord(START, epoch), mark.copy)
            self.truncate(table, source, lane, empty, details={"wallaby.lane": str(lane)})

        self._retried(source, work)

    def require_resettable(self, source: TableName, table: DeltaTable) -> None:
        """`Refused` as `reset`."""
        resettable = _configuration(table, source).get(_RESETTABLE)
        if resettable != "true" if resettable is not None else not is_empty(table):
            raise Refused(
                "the target table held rows before wallaby first saw it, so it is not emptied",
                advice="Empty or remove the table yourself, or choose another schema with the option schema",
                table=source,
            )
        versions = self.options.version_columns
        if self.options.write_mode is WriteMode.HISTORY and set(versions.names) <= set(shape(table).names):
            require_only_copied(holds_only_copies(table, versions, name=source), source)

    def truncate(
        self, table: DeltaTable, source: TableName, lane: LaneId, mark: Mark, *, details: dict[str, str]
    ) -> None:
        """Remove every row of the loaded version and write the record, in one commit."""
        with translated(Doing.WORK, table=source):
            table.create_write_transaction(
                [],
                "overwrite",
                table.schema(),
                partition_by=table.metadata().partition_columns or None,
                commit_properties=commit_properties(lanes.transactions(lane, mark), details),
                post_commithook_properties=NO_HOOKS,
            )

    def findings(self, schemas: tuple[TableSchema, ...]) -> list[Finding]:
        """What does not fit: names that collide, existing tables of another shape or another source."""
        found: list[Finding] = []
        targets: dict[TableName, TableName] = {}
        for schema in schemas:
            target = target_table(schema.name, self.options)
            try:
                if (other := targets.setdefault(target, schema.name)) != schema.name:
                    raise collision(target, schema.name, other)
                wanted = wanted_fields(schema, self.options)
                if (table := self.opened(schema.name)) is not None:
                    self._require_ours(table, schema.name)
                    require_fit(self._change(table, wanted, schema).unfit, schema.name)
                    found += self._obstacles(table, schema.name)
            except (Refused, ConfigError) as error:
                found.append(shape_finding(schema.name, error))
        return found

    def _obstacles(self, table: DeltaTable, source: TableName) -> list[Finding]:
        """What keeps a table from having deletion vectors, where they are asked for."""
        reason = self._obstacle(source, table) if self.options.deletion_vectors else None
        if reason is None:
            return []
        return [
            Finding(
                severity=Severity.WARNING,
                subject=f"table {source}",
                message=f"{reason}: its files are written anew where rows change",
                advice="Drop that from the table, or switch deletion_vectors off",
                code="deletion-vectors",
            )
        ]

    def _ensure(self, schema: TableSchema, wanted: pa.Schema, fence: Callable[[], None]) -> None:
        table = self.opened(schema.name)
        if table is None:
            target = target_table(schema.name, self.options)
            made = self._store.create(
                self._store.uri(target), wanted, configuration=self._configuration_of(schema), table=schema.name
            )
            self.marks.forget(made.table_uri)
            table = self._kept(target, made)
        self._require_ours(table, schema.name)
        plan = self._change(table, wanted, schema)
        require_fit(plan.unfit, schema.name)
        self._adopt(table, schema)
        if plan.columns or plan.added:
            fence()
        properties = commit_properties([], {})
        if plan.columns:
            reshape(table, plan.columns, properties, name=schema.name)
        elif plan.added:
            with translated(Doing.WORK, table=schema.name):
                table.alter.add_columns(
                    list(delta_schema(pa.schema(plan.added)).fields),
                    commit_properties=properties,
                    post_commithook_properties=NO_HOOKS,
                )
        if self.options.write_mode is WriteMode.HISTORY:
            self._renumber(table, schema)
        if self.options.deletion_vectors:
            self._allow_vectors(table, schema.name, fence)

    def _allow_vectors(self, table: DeltaTable, source: TableName, fence: Callable[[], None]) -> None:
        """Note on the table that it may have deletion vectors. Twice is once.

        The engine would do it, too, but asks readers for a feature more that is not needed (deltalake 1.6).
        """
        if self._obstacle(source, table) is not None:
            return
        folder, log = self._log(source, table)
        if not log.is_ready:
            fence()
            commit_entry(folder, log, table, log.upgrade(), "SET TBLPROPERTIES")

    def _renumber(self, table: DeltaTable, schema: TableSchema) -> None:
        """A history's columns have the numbers the source gives now, where those were unknown or another table's."""
        numbers = {column.name: column.attnum for column in schema.columns if column.attnum}
        for field in shape(table):
            known = (field.metadata or {}).get(ATTNUM)
            if field.name in numbers and known is not None and int(known) != numbers[field.name]:
                self._note_number(table, field.name, numbers[field.name], schema.name)

    def _note_number(self, table: DeltaTable, column: str, number: int, name: TableName) -> None:
        with translated(Doing.WORK, table=name):
            table.alter.set_column_metadata(column, {ATTNUM.decode(): str(number)}, post_commithook_properties=NO_HOOKS)

    def _change(self, table: DeltaTable, wanted: pa.Schema, schema: TableSchema) -> Change:
        existing = shape(table)
        mode = self.options.write_mode
        is_history = mode is WriteMode.HISTORY
        if is_history != holds_versions(existing.names, schema, self.options.version_columns) and not is_empty(table):
            return Change(unfit=(NO_VERSIONS if is_history else VERSIONS,))
        plan = change(existing, wanted, schema, mode=mode)
        is_ours = _configuration(table, schema.name).get(_RESETTABLE) == "true"
        if (plan.unfit or plan.columns) and is_ours and not table.file_uris():
            # Emptied before a new copy: what the columns were before matters no more.
            return made_anew(existing, wanted)
        return plan

    def _adopt(self, table: DeltaTable, schema: TableSchema) -> None:
        """Note on a table somebody else made whose it is, and which of its columns are the source's. Twice is once."""
        where = {"table": schema.name}
        if SOURCE not in _configuration(table, schema.name):
            resettable = "true" if is_empty(table) else "false"
            notes = {SOURCE: _source_text(schema.name), _RESETTABLE: resettable}
            with translated(Doing.WORK, **where):
                table.alter.set_table_properties(notes, raise_if_not_exists=False, post_commithook_properties=NO_HOOKS)
        numbers = {column.name: column.attnum for column in schema.columns}
        for field in shape(table):
            if field.name in numbers and ATTNUM not in (field.metadata or {}):
                self._note_number(table, field.name, numbers[field.name], schema.name)

    def _configuration_of(self, schema: TableSchema) -> dict[str, str]:
        options = self.options
        return {
            SOURCE: _source_text(schema.name),
            _RESETTABLE: "true",
            "delta.targetFileSize": str(options.target_file_size),
            "delta.logRetentionDuration": hours(options.retention),
            "delta.deletedFileRetentionDuration": hours(options.retention),
            **({"delta.enableChangeDataFeed": "true"} if options.change_data_feed else {}),
        }

    def _require_ours(self, table: DeltaTable, source: TableName) -> None:
        noted = _configuration(table, source).get(SOURCE)
        if noted is not None and noted != _source_text(source):
            schema, name = json.loads(noted)
            raise collision(target_table(source, self.options), source, TableName(schema, name))

    def _kept(self, target: TableName, table: DeltaTable) -> DeltaTable:
        self._open[target] = table
        if len(self._open) > HANDLES_MAX:
            self._open.popitem(last=False)
        return table

    def _retried(self, source: TableName, work: Callable[[], None]) -> None:
        """``work`` against the newest version, again while others commit in between."""
        for _ in range(ATTEMPTS_MAX):
            try:
                work()
            except Conflict:
                self.forget(source)
                continue
            return
        raise busy(source)


def is_empty(table: DeltaTable) -> bool:
    """True when the loaded version holds no rows, or its files do not say otherwise."""
    return not table.file_uris() or table.count() == 0


def busy(source: TableName) -> Transient:
    """Others commit to the table faster than we do."""
    return Transient(
        "others commit to the table all the time",
        advice="Run their compactions and updates less often, or in windows",
        table=source,
    )


def _configuration(table: DeltaTable, source: TableName) -> dict[str, Any]:
    with translated(Doing.OPEN, table=source):
        return dict(table.metadata().configuration)


def _source_text(source: TableName) -> str:
    return json.dumps([source.schema, source.name])


__all__ = ["ATTEMPTS_MAX", "HANDLES_MAX", "Tables", "busy", "is_empty"]
