"""One lane's writes: windows gathered, folded into files, and committed table by table, each with its record.

The order of a commit is what makes it safe (specs/decisions/0027): a table is loaded, then the lane's record is looked
at, then the table is committed on the condition that nobody changed it since it was loaded, and the lane's record moves
last, on the condition that nobody moved it. A successor announces itself in the lane's record first. So a leftover that
looked before can only commit to tables its successor has not touched yet; what it commits is right, the table's record
says how far it goes, and the successor drops those changes when it comes to them.

A table somebody else committed to is loaded again: our record unchanged, it was a user's own append or a compaction,
and the changes are folded anew onto what is there now. Changes that no longer are in memory cannot be; then the lane
starts again from its record, which is where it would be after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

import pyarrow as pa
from pyiceberg.table import Table

from sinks.iceberg.catalogs import commit
from sinks.iceberg.config import IcebergOptions
from sinks.iceberg.errors import Conflict
from sinks.iceberg.keys import Memory
from sinks.iceberg.lanes import RECORD, RESTORED, LaneTable, Record, Standing, table_property, table_record
from sinks.iceberg.snapshots import prepare
from sinks.iceberg.stage import Stage, is_nothing
from sinks.iceberg.tables import Tables
from wallaby.errors import OutcomeUnknown, Refused, Superseded, Transient
from wallaby.flow import Unrepresentable
from wallaby.lsn import Lsn
from wallaby.record import must_apply, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.transform.outliers import refuse_outliers
from wallaby.window import Barrier, BarrierKind, CommitToken, LaneId, Receipt, TablePart, Window

_ATTEMPTS_MAX: Final = 20


@dataclass(slots=True)
class _Gathered:
    """Changes of one table, in stream order; several schema versions follow each other."""

    waiting: list[tuple[TableSchema, list[pa.Table]]] = field(default_factory=list)
    """Not in files yet."""
    folded: list[tuple[TableSchema, list[pa.Table]]] = field(default_factory=list)
    """In files, and kept until the commit."""


class IcebergWriter:
    """See `wallaby.sink.SinkWriter`."""

    def __init__(
        self,
        tables: Tables,
        lane_table: LaneTable,
        memory: Memory,
        *,
        lane: LaneId,
        epoch: int,
    ) -> None:
        self._tables = tables
        self._options: IcebergOptions = tables.options
        self._lane_table = lane_table
        self._memory = memory
        self._lane = lane
        self._epoch = epoch
        self._generation: int | None = None
        self._loaded: dict[TableName, Table] = {}
        """Tables as this writer's last commit left them."""
        self._gathered: dict[TableName, _Gathered] = {}
        self._gathered_bytes = 0
        self._stages: dict[TableName, Stage] = {}
        self._released: set[TableName] = set()
        """Tables with changes that are in files only."""

    def write(self, window: Window) -> None:
        assert window.barrier is None, "barriers go to apply_barrier"
        for part in window.parts:
            self._gather(part)
        if self._gathered_bytes > self._options.write_buffer_size:
            self._fold_gathered()

    def commit(self, token: CommitToken) -> Receipt:
        def work() -> None:
            for table in dict.fromkeys((*self._stages, *self._gathered)):
                self._commit_table(table, token)

        return self._settle(token, work)

    def rehearse(self) -> None:
        """See `wallaby.sink.Rehearsing`. Writes the files of the commit, which nobody knows of before it."""
        self._fold_gathered(keep=True)

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        assert not self._gathered, "a barrier with uncommitted rows before it"
        assert not self._stages, "a barrier with uncommitted rows before it"

        def work() -> None:
            match barrier.kind:
                case BarrierKind.TRUNCATE:
                    for table in barrier.tables:
                        self._commit_table(table, token, barrier)
                case BarrierKind.SCHEMA:
                    for schema in barrier.schemas:
                        self._tables.ensure(schema, self.require_owner)
                        self._loaded.pop(schema.name, None)
                case _:
                    assert_never(barrier.kind)

        return self._settle(token, work)

    def abort(self) -> None:
        stages = list(self._stages.values())
        self._forget()
        for stage in stages:
            stage.discard()

    def require_owner(self) -> None:
        """`Superseded` when a newer epoch owns the lane."""
        self._lane_table.require_epoch(self._epoch)

    def reload(self, table: TableName) -> None:
        """The table's shape may have changed: what is written from now on has the new one."""
        self._loaded.pop(table, None)
        if (stage := self._stages.get(table)) is None:
            return
        fresh = self._stage(table)
        if fresh.record != stage.record or not stage.rebase(fresh.table):
            raise Transient("the table was changed by another writer during a commit", table=table)

    def _settle(self, token: CommitToken, work: Callable[[], None]) -> Receipt:
        assert token.lane == self._lane
        receipt = Receipt(token.lane, token.upto, token.rows)
        try:
            # Tables first: what is loaded before the lane's record is looked at was not changed by a successor.
            self._fold_gathered(keep=True)
            standing = self._lane_table.read()
            if must_apply(standing.record.of_lane, token, restored=RESTORED):
                self._require_generation(standing.record)
                work()
                self._move(standing, token)
        except OutcomeUnknown:
            # What was written may be in a snapshot: it stays.
            self._forget()
            self._loaded.clear()
            raise
        except BaseException:
            self.abort()
            self._loaded.clear()
            raise
        self.abort()
        return receipt

    def _move(self, standing: Standing, token: CommitToken) -> None:
        try:
            self._lane_table.move(standing, Record(token.upto, token.epoch, standing.record.generation))
        except Conflict:
            # Who moved it? The rules of a commit say what that means for this one.
            found = self._lane_table.read()
            if must_apply(found.record.of_lane, token, restored=RESTORED):
                raise Transient("the lane's record changed without moving", lane=token.lane) from None

    def _require_generation(self, record: Record) -> None:
        if self._generation not in (None, record.generation):
            raise Superseded("the lane's position was forgotten meanwhile", lane=self._lane)

    def _commit_table(self, name: TableName, token: CommitToken, barrier: Barrier | None = None) -> None:
        for _ in range(_ATTEMPTS_MAX):
            if barrier is not None and self._tables.load(name) is None:
                return
            stage = self._stages.get(name) or self._stage(name)
            if stage.record >= token.upto:
                self._drop(name)
                return
            if stage.record.is_snapshot and stage.record > token.after:
                raise Superseded("another writer is copying the table", table=name, lane=token.lane)
            if barrier is not None:
                stage.truncate(name, barrier)
            if is_nothing(change := stage.change()):
                self._drop(name)
                return
            record = Record(token.upto, token.epoch, self._known_generation())
            updates, requirements = prepare(
                stage.table,
                change,
                summary=_summary(token, record, stage.newest),
                properties={table_property(self._lane): record.to_json()},
            )
            try:
                commit(stage.table, updates, requirements)
            except Conflict:
                if barrier is None:
                    self._start_again(name, stage, token)
                else:
                    self._loaded.pop(name, None)
                    stage.discard()
                    self.require_owner()
                continue
            self._stages.pop(name, None)
            self._gathered.pop(name, None)
            self._released.discard(name)
            self._loaded[name] = stage.table
            stage.tidy(change)
            return
        raise Transient("others commit to the table faster than wallaby can", table=name, lane=self._lane)

    def _drop(self, name: TableName) -> None:
        """The table holds the changes already."""
        if (stage := self._stages.pop(name, None)) is not None:
            stage.discard()
        self._gathered.pop(name, None)

    def _start_again(self, name: TableName, stale: Stage, token: CommitToken) -> None:
        """Somebody committed to the table: load it again, and put the changes onto what it is now."""
        self._loaded.pop(name, None)
        stage = self._stage(name)
        self.require_owner()
        if stage.record == stale.record and stale.rebase(stage.table):
            self._stages[name] = stale
            return
        if name in self._released:
            raise Transient(
                "the table was changed by another writer during a large commit",
                advice="The changes are sent again; keep other writers away if it happens often",
                table=name,
                lane=token.lane,
            )
        stale.discard()
        self._stages.pop(name, None)
        if name in self._gathered:
            self._stages[name] = stage
            for schema, changes in self._gathered[name].folded:
                stage.fold(schema, changes)

    def _stage(self, name: TableName) -> Stage:
        table = self._loaded.get(name) or self._tables.load(name)
        if table is None:
            raise Refused(
                "the target table is gone",
                advice="Somebody dropped it: copy the tables again with --resnapshot",
                table=name,
            )
        record = table_record(table, self._lane, generation=self._known_generation())
        require_epoch(record.of_lane, self._lane, self._epoch)
        return Stage(table, record.position, self._options, self._memory)

    def _known_generation(self) -> int:
        if self._generation is None:
            self._generation = self._lane_table.read().record.generation
        return self._generation

    def _gather(self, part: TablePart) -> None:
        gathered = self._gathered.setdefault(part.schema.name, _Gathered())
        # A copy: the part's buffer is shared memory of the transport and must not be held beyond this call.
        changes = TablePart(part.schema, part.rows, pa.py_buffer(bytes(part.data))).table()
        if self._options.unrepresentable is Unrepresentable.REFUSE:
            refuse_outliers(part.schema, changes)
        waiting = gathered.waiting
        if not waiting or waiting[-1][0].fingerprint != part.schema.fingerprint:
            waiting.append((part.schema, []))
        waiting[-1][1].append(changes)
        self._gathered_bytes += part.nbytes

    def _fold_gathered(self, *, keep: bool = False) -> None:
        """Write what is gathered to files; with ``keep`` the changes stay until the table is committed."""
        for name, gathered in self._gathered.items():
            if (stage := self._stages.get(name)) is None:
                stage = self._stages[name] = self._stage(name)
            for schema, changes in gathered.waiting:
                stage.fold(schema, changes)
            gathered.folded += gathered.waiting
            gathered.waiting = []
        if not keep:
            self._released.update(self._gathered)
            self._gathered = {}
            self._gathered_bytes = 0

    def _forget(self) -> None:
        self._stages.clear()
        self._released.clear()
        self._gathered.clear()
        self._gathered_bytes = 0


def _summary(token: CommitToken, record: Record, newest: Lsn) -> dict[str, str]:
    """What a snapshot says of itself: a reader finds the table as of a position with it. ``newest`` is its rows' newest
    commit, which says of copied rows what their position does not."""
    content = {
        "flow": token.lane.flow,
        "destination": token.lane.destination,
        "lane": str(token.lane.index),
        "after": str(token.after),
        "upto": str(token.upto),
        "lsn": str(newest if token.upto.is_snapshot else token.upto.lsn),
        "committed-at-us": str(token.committed_at_us),
    }
    return {f"wallaby.{name}": value for name, value in content.items()} | {RECORD: record.to_json()}


__all__ = ["IcebergWriter"]
