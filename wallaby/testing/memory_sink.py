"""A destination in memory: the shortest sink that keeps the whole contract, and the one to read before writing another.

`MemoryDestination` is the disk: it survives the `MemorySink` objects opened on it, as a database survives a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from wallaby.errors import ConfigError, Refused, RowRefused, Superseded
from wallaby.lsn import START, Lsn, Position
from wallaby.memory import unwritten
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, Severity, WriteMode
from wallaby.testing.versions import apply_history, truncate_history
from wallaby.transform.append import append_rows, append_truncate
from wallaby.transform.columns import single
from wallaby.transform.grouping import dense, group_ids
from wallaby.transform.history import (
    NO_VERSIONS,
    VERSIONS,
    history_schema,
    holds_versions,
    plan_history,
    plan_truncate,
    require_only_copied,
    version_fields,
)
from wallaby.transform.mirror import COUNT, OUTLIERS, InsertPlan, MirrorPlan, MultisetPlan, complete, plan
from wallaby.transform.moves import NO_MOVES, KnownColumn, column_moves, known_numbers
from wallaby.versions import VersionColumns
from wallaby.window import OUTLIER_TYPE, Barrier, BarrierKind, CommitToken, LaneId, Receipt, Window

_VERSIONS = VersionColumns()

CAPABILITIES = Capabilities(
    modes=frozenset(WriteMode),
    atomic_position=True,
    keyed_upsert=True,
    whole_transactions=True,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=True,
)


@dataclass(slots=True)
class Target:
    """One table in the destination. ``rows`` has the schema's columns and ``__outliers``, or is an append log.

    A history has besides the columns of versions, and behind them what the source has dropped.
    """

    schema: TableSchema
    rows: pa.Table
    is_ours: bool = True
    """Made by us, or empty when first seen: may be emptied."""


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """Where a lane stands, and the newest epoch that may move it."""

    epoch: int
    position: Position


@dataclass(slots=True)
class MemoryDestination:
    """What would be on disk. A commit replaces ``targets`` and ``lanes`` in one assignment each, nothing in between."""

    targets: Mapping[TableName, Target] = field(default_factory=dict)
    lanes: Mapping[LaneId, LaneRecord] = field(default_factory=dict)
    not_null: Mapping[TableName, str] = field(default_factory=dict)
    """A constraint somebody put on a target: this column must not be null."""


class MemorySink:
    """A `wallaby.sink.Sink` over a `MemoryDestination`."""

    def __init__(self, destination: MemoryDestination, *, mode: WriteMode = WriteMode.MIRROR) -> None:
        if mode not in CAPABILITIES.modes:
            raise ConfigError(f"mode {mode} is unknown", field="mode")
        self.destination = destination
        self.mode = mode

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return 0

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        findings = []
        for schema in tables:
            target = self.destination.targets.get(schema.name)
            try:
                if target is None:
                    self._empty(schema)
                else:
                    self._reshaped(target, schema)
            except (Refused, ConfigError) as error:
                findings.append(
                    Finding(
                        severity=Severity.ERROR,
                        subject=f"table {schema.name}",
                        message=error.message,
                        advice=error.advice,
                        code="table-shape",
                    )
                )
        return findings

    def ensure_table(self, schema: TableSchema) -> None:
        targets = dict(self.destination.targets)
        target = targets.get(schema.name)
        if target is None:
            targets[schema.name] = Target(schema, self._empty(schema))
        else:
            targets[schema.name] = self._reshaped(target, schema)
        self.destination.targets = targets

    def require_resettable(self, table: TableName) -> None:
        target = self.destination.targets.get(table)
        if target is None:
            return
        if not target.is_ours and len(target.rows):
            raise Refused(
                "the target holds rows that were there before wallaby",
                advice="Empty the target yourself if its rows are not needed",
                table=table,
            )
        if self.mode is WriteMode.HISTORY:
            opened_by = single(target.rows[_VERSIONS.opened_by]).to_pylist()
            is_current = single(target.rows[_VERSIONS.is_current]).to_pylist()
            require_only_copied(all(is_current) and set(opened_by) <= {"r"}, table)

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        self._fenced(lane, epoch)
        target = self.destination.targets.get(table)
        if target is None:
            return
        self.require_resettable(table)
        emptied = replace(target, rows=self._empty(target.schema))
        self.destination.targets = {**self.destination.targets, table: emptied}

    def recover(self, lane: LaneId, epoch: int) -> Position:
        record = self._fenced(lane, epoch)
        self.destination.lanes = {**self.destination.lanes, lane: LaneRecord(epoch, record.position)}
        return record.position

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self._fenced(lane, epoch)
        self.destination.lanes = {**self.destination.lanes, lane: LaneRecord(epoch, START)}

    def writer(self, lane: LaneId, epoch: int) -> MemoryWriter:
        return MemoryWriter(self, lane, epoch)

    def record(self, lane: LaneId) -> LaneRecord:
        """The lane's record, before its first commit too."""
        return self.destination.lanes.get(lane, LaneRecord(0, START))

    def _fenced(self, lane: LaneId, epoch: int) -> LaneRecord:
        record = self.record(lane)
        if record.epoch > epoch:
            raise Superseded("a writer of a newer epoch owns the lane", lane=lane, epoch=epoch, owner=record.epoch)
        return record

    def _empty(self, schema: TableSchema) -> pa.Table:
        if self.mode is WriteMode.APPEND:
            return append_truncate(schema, _NO_BARRIER, keep_outliers=True).slice(0, 0)
        fields = [*arrow_schema(schema), pa.field(OUTLIERS, OUTLIER_TYPE)]
        if self.mode is WriteMode.HISTORY:
            history_schema(schema, _VERSIONS)
            fields += version_fields(_VERSIONS)
        return pa.schema(fields).empty_table()

    def _reshaped(self, target: Target, schema: TableSchema) -> Target:
        if target.is_ours and not len(target.rows):
            return replace(target, schema=schema, rows=self._empty(schema))
        is_history = self.mode is WriteMode.HISTORY
        if is_history != holds_versions(target.rows.column_names, schema, _VERSIONS) and len(target.rows):
            raise Refused(
                NO_VERSIONS if is_history else VERSIONS,
                advice="Drop or rename the target, or copy the table again",
                table=schema.name,
            )
        known = [KnownColumn(column.name, column.attnum, column.type.name) for column in target.schema.columns]
        now = [KnownColumn(column.name, column.attnum, column.type.name) for column in schema.columns]
        is_log = self.mode is WriteMode.APPEND
        moves = NO_MOVES if is_log or target.schema.oid != schema.oid else column_moves(known, now)
        dropped = moves.dropped
        if self.mode is WriteMode.HISTORY:
            names = [column.name for column in schema.columns]
            moves = moves.keeping(target.rows.column_names, owned=[column.name for column in known], wanted=names)
            dropped = ()
        misfits = [f"column {old} went as {new} came: renamed, or another?" for old, new in moves.unclear]
        if not target.is_ours:
            types = {column.name: column.type for column in target.schema.columns}
            misfits += [
                f"column {column.name} has type {types[column.name].name}, not {column.type.name}"
                for column in schema.columns
                if column.name in types and types[column.name].oid != column.type.oid
            ]
        origins = {new: old for old, new in moves.renamed}
        missing = {column.name: column.missing for column in schema.columns} if not is_log else {}
        rows = target.rows.drop_columns([name for name in dropped if name in target.rows.column_names])
        aside = dict(moves.aside)
        rows = rows.rename_columns([aside.get(name, name) for name in rows.column_names])
        columns: list[pa.Array] = []
        fields = self._empty(schema).schema
        if self.mode is WriteMode.HISTORY:
            gone = set(rows.column_names) - {origins.get(name, name) for name in fields.names}
            fields = pa.schema([*fields, *(field for field in rows.schema if field.name in gone)])
        for wanted in fields:
            origin = origins.get(wanted.name, wanted.name)
            try:
                if origin in rows.column_names:
                    column = single(rows[origin])
                else:
                    column = pa.repeat(pa.scalar(missing.get(wanted.name), pa.string()), len(rows))
                columns.append(column if column.type == wanted.type else column.cast(wanted.type))
            except pa.ArrowException:
                misfits.append(f"column {wanted.name} cannot become {wanted.type}")
        if misfits:
            raise Refused(
                "the target has another shape: " + "; ".join(misfits),
                advice="Drop or rename the target, or copy the table again",
                table=schema.name,
            )
        numbers = known_numbers({column.name: column.attnum for column in known}, moves)
        noted = tuple(replace(c, attnum=c.attnum or numbers.get(c.name, 0)) for c in schema.columns)
        schema = replace(schema, columns=noted)
        return replace(target, schema=schema, rows=pa.Table.from_arrays(columns, schema=fields))


class MemoryWriter:
    """A `wallaby.sink.SinkWriter`: keeps windows, works out their net effect at the commit."""

    def __init__(self, sink: MemorySink, lane: LaneId, epoch: int) -> None:
        self._sink = sink
        self._lane = lane
        self._epoch = epoch
        self._staged: dict[TableName, tuple[TableSchema, list[pa.Table]]] = {}

    def write(self, window: Window) -> None:
        for part in window.parts:
            _, tables = self._staged.setdefault(part.schema.name, (part.schema, []))
            tables.append(part.table())

    def commit(self, token: CommitToken) -> Receipt:
        if self._is_applied(token):
            self.abort()
            return Receipt(token.lane, token.upto, token.rows)
        self._finish(token, self._outcome())
        self.abort()
        return Receipt(token.lane, token.upto, token.rows)

    def rehearse(self) -> None:
        """See `wallaby.sink.Rehearsing`."""
        self._outcome()

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        assert not self._staged, "a barrier comes with nothing written"
        if self._is_applied(token):
            return Receipt(token.lane, token.upto, token.rows)
        targets = dict(self._sink.destination.targets)
        match barrier.kind:
            case BarrierKind.TRUNCATE:
                for name in barrier.tables:
                    if name in targets:
                        targets[name] = replace(targets[name], rows=self._truncated(targets[name], barrier))
            case BarrierKind.SCHEMA:
                for schema in barrier.schemas:
                    if schema.name in targets:
                        targets[schema.name] = self._sink._reshaped(targets[schema.name], schema)
        self._finish(token, targets)
        return Receipt(token.lane, token.upto, token.rows)

    def abort(self) -> None:
        self._staged = {}

    def _outcome(self) -> dict[TableName, Target]:
        """The targets as they are after a commit."""
        targets = dict(self._sink.destination.targets)
        for name, (schema, tables) in self._staged.items():
            rows = self._applied(targets[name], schema, pa.concat_tables(tables))
            self._require_taken(name, rows)
            targets[name] = replace(targets[name], rows=rows)
        return targets

    def _require_taken(self, name: TableName, rows: pa.Table) -> None:
        column = self._sink.destination.not_null.get(name)
        if column is not None and rows[column].null_count:
            raise RowRefused("a column of the target must not be null", table=name, column=column)

    def _is_applied(self, token: CommitToken) -> bool:
        record = self._sink.record(self._lane)
        if record.epoch > self._epoch:
            raise Superseded(
                "a writer of a newer epoch owns the lane", lane=self._lane, epoch=self._epoch, owner=record.epoch
            )
        if record.position == token.after:
            return False
        if record.position == token.upto:
            return True
        if record.position > token.after:
            raise Superseded("another writer moved the lane", lane=self._lane, position=record.position)
        raise Refused(
            "the destination went back in time",
            advice="It was restored from a backup? Copy the tables again",
            lane=self._lane,
            position=record.position,
            expected=token.after,
        )

    def _finish(self, token: CommitToken, targets: Mapping[TableName, Target]) -> None:
        destination = self._sink.destination
        destination.targets = targets
        destination.lanes = {**destination.lanes, self._lane: LaneRecord(self._epoch, token.upto)}

    def _truncated(self, target: Target, barrier: Barrier) -> pa.Table:
        if self._sink.mode is WriteMode.APPEND:
            row = append_truncate(target.schema, barrier, keep_outliers=True)
            return pa.concat_tables([target.rows, row])
        if self._sink.mode is WriteMode.HISTORY:
            return truncate_history(target.rows, plan_truncate(barrier, _VERSIONS), _VERSIONS)
        return target.rows.slice(0, 0)

    def _applied(self, target: Target, schema: TableSchema, changes: pa.Table) -> pa.Table:
        if self._sink.mode is WriteMode.APPEND:
            return pa.concat_tables([target.rows, append_rows(schema, changes, keep_outliers=True)])
        if self._sink.mode is WriteMode.HISTORY:
            return apply_history(target.rows, plan_history(schema, changes, _VERSIONS), _VERSIONS)
        return apply_plan(target.rows, plan(schema, changes))


def apply_plan(rows: pa.Table, net: MirrorPlan | MultisetPlan | InsertPlan) -> pa.Table:
    """``rows`` (the schema's columns and ``__outliers``) after the window that ``net`` sums up."""
    match net:
        case InsertPlan():
            return pa.concat_tables([rows, net.rows])
        case MultisetPlan():
            rows = _without_copies(rows, _repeated(net.deletes))
            return pa.concat_tables([rows, _repeated(net.inserts)]).combine_chunks()
        case MirrorPlan():
            upserts = [net.upserts]
            for patch in net.patches:
                if patch.moves:
                    upserts.append(complete(net.schema, patch, rows))
            key = net.schema.key
            rows = _without(rows, net.deletes, key)
            for patch in net.patches:
                if not patch.moves:
                    patched = complete(net.schema, patch, rows)
                    rows = pa.concat_tables([_without(rows, patch.origin, key), patched])
            for table in upserts:
                rows = pa.concat_tables([_without(rows, table.select(list(key)), key), table])
            return rows.combine_chunks()


def _without(rows: pa.Table, keys: pa.Table, key: tuple[int, ...]) -> pa.Table:
    """The rows whose key is not in ``keys``."""
    if not len(rows) or not len(keys):
        return rows
    columns = [pa.concat_arrays([single(rows.column(index)), single(keys.column(i))]) for i, index in enumerate(key)]
    ids, groups = dense(group_ids(columns, len(rows) + len(keys)))
    is_gone = np.zeros(groups, np.bool_)
    is_gone[ids[len(rows) :]] = True
    return rows.filter(pa.array(~is_gone[ids[: len(rows)]]))


def _without_copies(rows: pa.Table, gone: pa.Table) -> pa.Table:
    """``rows`` less one equal row for each row of ``gone``."""
    columns = [pa.concat_arrays([single(gone.column(i)), single(rows.column(i))]) for i in range(rows.num_columns)]
    ids, groups = dense(group_ids(columns, len(rows) + len(gone)))
    debt = np.bincount(ids[: len(gone)], minlength=groups)
    ids = ids[len(gone) :]
    order = np.argsort(ids, kind="stable")
    starts = np.searchsorted(ids[order], np.arange(groups))
    number = unwritten(len(ids), np.int64)
    number[order] = np.arange(len(ids)) - starts[ids[order]]
    keep = number >= debt[ids]
    if int((~keep).sum()) != len(gone):
        raise Refused("rows to be deleted are not in the target", advice="Copy the table again")
    return rows.filter(pa.array(keep))


def _repeated(counted: pa.Table) -> pa.Table:
    counts = counted[COUNT].to_numpy()
    return counted.drop_columns([COUNT]).take(pa.array(np.repeat(np.arange(len(counts)), counts)))


_NO_BARRIER = Barrier(BarrierKind.TRUNCATE, (), (), Lsn(0), 0)
