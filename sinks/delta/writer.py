"""One lane's writes: kept until the commit, then one Delta commit per table and one for the lane's record.

Every commit to a table moves the lane's record *of that table* with its rows; the lane's own record follows when all
tables have theirs. Whatever stops in between, the lane's record has not moved: the stream comes again, and a table that
is further drops the changes it has (`sinks.delta.lanes`).

Rows are refused before anything of their table is durable, so that they can be set aside with all changes of their key:
a table's changes that need several commits are looked at whole before the first. What only the table itself can tell,
whether a row to be changed is there, is not known of later ones; it stops the flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from sinks.delta import lanes
from sinks.delta.config import DeltaOptions
from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.history import history_commit, truncate_commit
from sinks.delta.lanes import RESTORED, Lanes, Mark
from sinks.delta.mirror import Commit, appended, commit_of, rehearse, row_tables
from sinks.delta.stage import Slice, Stage
from sinks.delta.store import commit_properties, shape
from sinks.delta.tables import ATTEMPTS_MAX, Tables, busy
from sinks.delta.types import converted, place_outliers
from sinks.delta.upkeep import Upkeep
from wallaby.errors import Refused, RowRefused
from wallaby.flow import Unrepresentable
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.resume import drop_applied
from wallaby.record import LaneRecord, must_apply, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import WriteMode
from wallaby.transform import append, history, mirror
from wallaby.transform.columns import single
from wallaby.window import BEFORE_OUTLIER_BIT, OP_COPY, Barrier, BarrierKind, CommitToken, LaneId, Receipt, Window


class DeltaWriter:
    """See `wallaby.sink.SinkWriter`."""

    def __init__(
        self, records: Lanes, tables: Tables, upkeep: Upkeep, lane: LaneId, *, stage: Stage | None = None
    ) -> None:
        self._records = records
        self._tables = tables
        self._upkeep = upkeep
        self._options: DeltaOptions = tables.options
        self._lane = lane
        self._stage = Stage() if stage is None else stage

    def write(self, window: Window) -> None:
        assert window.barrier is None, "barriers go to apply_barrier"
        for part in window.parts:
            self._stage.add(part)

    def commit(self, token: CommitToken) -> Receipt:
        def work(mark: Mark) -> None:
            for table in self._stage.tables():
                self._require_values(table, mark, token.after)
                first = next(self._stage.slices(table))
                # Changes of a replay have no place in the lane's stream: no record could say which a table has.
                is_replay = not first.is_last and (_end(first.changes) or token.upto) > token.upto
                for piece in self._stage.slices(table, is_whole=is_replay):
                    self._apply(piece, token, mark)

        return self._settle(token, work)

    def rehearse(self) -> None:
        """See `wallaby.sink.Rehearsing`. Nothing is written: what is staged stays for the commit."""
        mark = self._records.read(self._lane)
        for name in self._stage.tables():
            table = self._opened(name)
            at = self._noted(name, table, self._lane).seen_from(mark).position
            self._require_values(name, mark, mark.record.position)
            piece = next(self._stage.slices(name))
            changes = _beyond(piece.changes, at, mark.record.position)
            if changes.num_rows:
                self._rehearse(piece.schema, changes, table)

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        assert not self._stage, "a barrier with uncommitted rows before it"

        def work(mark: Mark) -> None:
            match barrier.kind:
                case BarrierKind.TRUNCATE:
                    for table in barrier.tables:
                        self._truncate(table, barrier, token, mark)
                case BarrierKind.SCHEMA:
                    for schema in barrier.schemas:
                        self._tables.ensure(schema, fence=lambda: self._require_epoch(token))
                case _:
                    assert_never(barrier.kind)

        return self._settle(token, work)

    def abort(self) -> None:
        self._stage.clear()

    def _settle(self, token: CommitToken, work: Callable[[Mark], None]) -> Receipt:
        """Apply to the tables, then move the lane's record; or find that this was done before."""
        assert token.lane == self._lane
        try:
            mark = self._records.read(token.lane)
            if must_apply(mark.record, token, restored=RESTORED):
                work(mark)
                self._move(token, mark)
        finally:
            self.abort()
        self._upkeep.committed_lane()
        return Receipt(token.lane, token.upto, token.rows)

    def _move(self, token: CommitToken, mark: Mark) -> None:
        moved = Mark(LaneRecord(token.upto, token.epoch), mark.copy)
        try:
            self._records.move(token.lane, mark, moved, details=lanes.metadata(token))
        except Conflict:
            # Another writer of the lane was first. With the same window it did the same: the tables took it once.
            found = self._records.read(token.lane)
            if must_apply(found.record, token, restored=RESTORED):
                raise

    def _require_epoch(self, token: CommitToken) -> None:
        require_epoch(self._records.read(token.lane).record, token.lane, token.epoch)

    def _apply(self, piece: Slice, token: CommitToken, mark: Mark) -> None:
        """One slice of a table's changes, as one commit, unless the table has them already."""
        name = piece.schema.name
        upto = token.upto if piece.is_last else _end(piece.changes)

        def work(table: DeltaTable, at: Position) -> Commit | None:
            changes = _beyond(piece.changes, at, token.after)
            return self._commit_of(piece.schema, changes, table) if changes.num_rows else None

        try:
            self._in_turn(name, token, mark, upto, work)
        except RowRefused as error:
            if piece.is_first:
                raise
            # Earlier changes of the same key may be in the table already: it cannot be set aside with all of them.
            raise Refused(error.message, advice=error.advice, **error.where) from error

    def _in_turn(
        self,
        name: TableName,
        token: CommitToken,
        mark: Mark,
        upto: Position | None,
        work: Callable[[DeltaTable, Position], Commit | None],
    ) -> None:
        """Commit ``work`` with the table's record moved to ``upto`` (None: left where it is); again, from the newest
        version, when somebody else committed first."""
        for _ in range(ATTEMPTS_MAX):
            table = self._opened(name)
            noted = self._noted(name, table, token.lane)
            require_epoch(noted.record, token.lane, token.epoch)
            at = noted.seen_from(mark).position
            if at >= token.upto and at > token.after:
                return
            commit = work(table, at)
            if commit is None:
                return
            moved = Mark(LaneRecord(max(at, upto or at), token.epoch), mark.copy)
            over = table.version()
            try:
                commit(commit_properties(lanes.transactions(token.lane, moved), lanes.metadata(token)))
            except Conflict:
                self._tables.forget(name)
                self._require_epoch(token)
                continue
            except BaseException:
                self._tables.forget(name)
                raise
            self._tables.marks.wrote(table, token.lane, moved, over=over)
            self._upkeep.committed(name, self._tables.uri(name))
            return
        raise busy(name)

    def _opened(self, name: TableName) -> DeltaTable:
        table = self._tables.opened(name)
        if table is None:
            raise Refused(
                "the target table is gone",
                advice="Somebody removed it: copy the table again with --resnapshot",
                table=name,
            )
        return table

    def _noted(self, name: TableName, table: DeltaTable, lane: LaneId) -> Mark:
        try:
            return self._tables.marks.read(table, lane)
        except BaseException:
            self._tables.forget(name)
            raise

    def _require_values(self, name: TableName, mark: Mark, after: Position) -> None:
        """`RowRefused` when the table's changes need several commits and one of them has a value without a place."""
        for piece in self._stage.slices(name):
            if piece.is_first and piece.is_last:
                return
            table = self._opened(name)
            if self._may_be_refused(piece, table):
                at = self._noted(name, table, self._lane).seen_from(mark).position
                changes = _beyond(piece.changes, at, after)
                shaped = self._shaping(piece.schema, changes, table)
                for rows in self._row_tables(piece.schema, changes) if changes.num_rows else ():
                    shaped(rows)

    def _may_be_refused(self, piece: Slice, table: DeltaTable) -> bool:
        """False where no value, and no column that was not sent, can be a reason."""
        is_plain = all(piece.changes[name].null_count == piece.changes.num_rows for name in ("outliers", "unchanged"))
        has_identity = piece.schema.has_key or self._options.write_mode is WriteMode.APPEND
        return not is_plain or not has_identity or bool(_text_partitions(table, piece.schema.name))

    def _row_tables(self, schema: TableSchema, changes: pa.Table) -> list[pa.Table]:
        match self._options.write_mode:
            case WriteMode.APPEND:
                return [append.append_rows(schema, changes, keep_outliers=True)]
            case WriteMode.MIRROR:
                return row_tables(mirror.plan(schema, changes))
            case WriteMode.HISTORY:
                plan = history.plan_history(schema, changes, self._options.version_columns)
                return [plan.versions, *(patch.rows for patch in plan.patches)]
            case never:
                assert_never(never)

    def _rehearse(self, schema: TableSchema, changes: pa.Table, table: DeltaTable) -> None:
        if self._options.write_mode is WriteMode.MIRROR:
            marker = self._tables.marker(schema.name, table)
            rehearse(mirror.plan(schema, changes), table, self._shaping(schema, changes, table), marker)
        else:
            self._commit_of(schema, changes, table)

    def _commit_of(self, schema: TableSchema, changes: pa.Table, table: DeltaTable) -> Commit | None:
        shaped = self._shaping(schema, changes, table)
        match self._options.write_mode:
            case WriteMode.APPEND:
                return appended(table, shaped(append.append_rows(schema, changes, keep_outliers=True)), schema.name)
            case WriteMode.MIRROR:
                return commit_of(mirror.plan(schema, changes), table, shaped, self._tables.marker(schema.name, table))
            case WriteMode.HISTORY:
                columns = self._options.version_columns
                return history_commit(history.plan_history(schema, changes, columns), table, shaped, columns)
            case never:
                assert_never(never)

    def _shaping(self, schema: TableSchema, changes: pa.Table, table: DeltaTable) -> Callable[[pa.Table], pa.Table]:
        with translated(Doing.OPEN, table=schema.name):
            fields = shape(table)
        partitions = _text_partitions(table, schema.name)

        def shaped(rows: pa.Table) -> pa.Table:
            made = self._shaped(schema, rows, fields, changes)
            _require_partitions_hold(schema, made, partitions)
            return made

        return shaped

    def _shaped(self, schema: TableSchema, rows: pa.Table, fields: pa.Schema, changes: pa.Table) -> pa.Table:
        """``rows`` (the source's columns by place, then our own by name) with all columns of the target, in its types.

        `RowRefused` for a value Delta does not hold, if so asked, and for one that would change as a partition.
        """
        width = len(schema.columns)
        at = rows.schema.names.index(mirror.OUTLIERS, width)
        lists = rows.column(at)
        names = [column.name for column in schema.columns] + rows.schema.names[width:]
        # The first of a name: the source may call a column as the plan calls its outliers.
        place = {name: i for i, name in reversed(list(enumerate(names)))}
        lacking = [name for name in names[:width] if name not in fields.names]
        if lacking:
            raise Refused(
                "the target table lacks a column",
                advice="Undo the change made to the table, or copy it again",
                table=schema.name,
                column=lacking[0],
            )
        columns = [converted(rows.column(i), fields.field(name).type) for i, name in enumerate(names[:width])]
        typed = pa.Table.from_arrays(columns, names=[f"c{i}" for i in range(width)])
        typed, unheld = place_outliers(schema, typed, lists)
        if unheld is not None and self._options.unrepresentable is Unrepresentable.REFUSE:
            raise RowRefused(
                "Delta has no place for a value of this column (not a number, a far-away date, an odd array)",
                advice="Change the value on the source, or choose unrepresentable: null"
                + (" or text" if self._options.write_mode is WriteMode.APPEND else ""),
                table=schema.name,
                column=schema.columns[unheld].name,
                commit_lsn=_first_outlier(changes, unheld),
            )
        arrays = []
        for field in fields:
            i = place.get(field.name)
            if i is None:
                arrays.append(pa.chunked_array([pa.nulls(rows.num_rows, field.type)]))
            else:
                arrays.append(typed.column(i) if i < width else converted(rows.column(i), field.type))
        return pa.Table.from_arrays(arrays, schema=fields.remove_metadata())

    def _truncate(self, name: TableName, barrier: Barrier, token: CommitToken, mark: Mark) -> None:
        if self._tables.opened(name) is None:
            return
        mode, versions = self._options.write_mode, self._options.version_columns

        def work(table: DeltaTable, at: Position) -> Commit:
            if mode is WriteMode.HISTORY:
                return truncate_commit(history.plan_truncate(barrier, versions), table, versions, name=name)
            if mode is WriteMode.MIRROR:
                moved = Mark(LaneRecord(max(at, token.upto), token.epoch), mark.copy)
                return lambda _: self._tables.truncate(table, name, token.lane, moved, details=lanes.metadata(token))
            fields = shape(table)
            row = append.append_truncate(TableSchema(oid=0, name=name, columns=()), barrier)
            arrays = [
                converted(row.column(field.name), field.type)
                if field.name in row.column_names
                else pa.chunked_array([pa.nulls(1, field.type)])
                for field in fields
            ]
            return appended(table, pa.Table.from_arrays(arrays, schema=fields.remove_metadata()), name)

        self._in_turn(name, token, mark, token.upto, work)


def _text_partitions(table: DeltaTable, name: TableName) -> tuple[str, ...]:
    """The columns of text a table is partitioned by, whatever the options say by now."""
    with translated(Doing.OPEN, table=name):
        fields = shape(table)
        partitions = table.metadata().partition_columns
    return tuple(column for column in partitions if pa.types.is_string(fields.field(column).type))


def _require_partitions_hold(schema: TableSchema, rows: pa.Table, partitions: tuple[str, ...]) -> None:
    """Delta writes an empty text as the name of a partition and reads it as null."""
    for name in partitions:
        if pc.any(pc.equal(rows.column(name), "")).as_py():
            raise RowRefused(
                "an empty text cannot be a partition in Delta: it would be read as null",
                advice="Partition by another column, or forbid the empty text on the source",
                table=schema.name,
                column=name,
            )


def _beyond(changes: pa.Table, at: Position, after: Position) -> pa.Table:
    """What a table that stands at ``at`` lacks of ``changes``, which begin at ``after``.

    Copied rows have no place in the stream: a copy that is interrupted begins again from empty tables.
    """
    if at <= after or at.is_snapshot:
        return changes
    return pa.Table.from_batches(
        [batch if _is_copied(batch) else drop_applied(batch, at) for batch in changes.to_batches()], changes.schema
    )


def _first_outlier(changes: pa.Table, column: int) -> Lsn | None:
    """The transaction of the first change with a value of ``column`` outside its type."""
    lists = single(changes["outliers"])
    of_column = pc.list_flatten(lists).field(0).to_numpy(zero_copy_only=False) & ~np.uint16(BEFORE_OUTLIER_BIT)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[of_column == column]
    return Lsn(changes["commit_lsn"][int(rows[0])].as_py()) if len(rows) else None


def _is_copied(batch: pa.RecordBatch) -> bool:
    return bool(batch.num_rows and batch.column("op")[0].as_py() == OP_COPY)


def _end(changes: pa.Table) -> Position | None:
    """Where a table stands that has all of ``changes``; None for copied rows."""
    last = changes.num_rows - 1
    if changes["op"][last].as_py() == OP_COPY:
        return None
    return Position(Lsn(changes["commit_lsn"][last].as_py()), changes["ordinal"][last].as_py() + 1)


__all__ = ["DeltaWriter"]
