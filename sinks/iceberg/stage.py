"""What one commit does to one table, gathered window by window: rows folded into new files and rows that go."""

from __future__ import annotations

from typing import assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from sinks.iceberg.compaction import keeps_rows_since
from sinks.iceberg.config import IcebergOptions, MirrorStrategy
from sinks.iceberg.files import remove, stored_rows, write_position_deletes, write_rows
from sinks.iceberg.keys import Found, LiveFiles, Memory, Positions, held_columns
from sinks.iceberg.snapshots import Change
from sinks.iceberg.versions import OpenVersions
from wallaby.errors import RowRefused
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.resume import drop_applied
from wallaby.schema import TableName, TableSchema
from wallaby.sink import WriteMode
from wallaby.transform import append, history, mirror
from wallaby.transform.columns import single
from wallaby.window import Barrier


class Stage:
    """Files of one commit to ``table`` as it was loaded. ``record`` says how far its rows go: earlier changes are
    dropped."""

    def __init__(self, table: Table, record: Position, options: IcebergOptions, memory: Memory) -> None:
        self.table = table
        self.record = record
        self._options = options
        self._memory = memory
        self._live: LiveFiles | None = None
        self._files: list[DataFile] = []
        self._written: list[DataFile] = []
        self._removes_everything = False
        self.newest = Lsn(0)
        """The newest commit among the rows; copied ones have the LSN of the snapshot they were read under."""

    def fold(self, schema: TableSchema, changes: list[pa.Table]) -> None:
        """Write ``changes`` (change layout, stream order, one schema version) into files."""
        rows = pa.concat_tables([self._beyond_record(table) for table in changes])
        if not rows.num_rows:
            return
        self.newest = max(self.newest, Lsn(pc.max(rows.column("commit_lsn")).as_py()))
        match self._options.write_mode:
            case WriteMode.APPEND:
                self._append(append.append_rows(schema, rows, keep_outliers=self._options.keeps_outliers))
            case WriteMode.MIRROR:
                self._mirror(schema, rows)
            case WriteMode.HISTORY:
                self._history(schema, rows)
            case never:
                assert_never(never)

    def truncate(self, table: TableName, barrier: Barrier) -> None:
        """The table's rows are gone: all files of a mirror, a row of a log (its own columns say it all), and the open
        versions of a history have ended."""
        match self._options.write_mode:
            case WriteMode.APPEND:
                shapeless = TableSchema(oid=0, name=table, columns=())
                self._append(append.append_truncate(shapeless, barrier, keep_outliers=self._options.keeps_outliers))
            case WriteMode.MIRROR:
                self._removes_everything = True
            case WriteMode.HISTORY:
                live = self._live = LiveFiles(self.table, self._memory)
                columns = self._options.version_columns
                for ended in OpenVersions(live, columns).end_all(history.plan_truncate(barrier, columns)):
                    live.add(self._note(write_rows(self.table, ended)))
            case never:
                assert_never(never)

    def rebase(self, table: Table) -> bool:
        """Take ``table``, which is what somebody else made of this one, as the base. False: the changes must be folded
        anew, because a mirror's depend on what the table held."""
        if self._live is not None and table.current_snapshot() != self.table.current_snapshot():
            # A compaction: the rows are the same, and so are those this commit takes away if their files still are.
            known = self.table.current_snapshot()
            holds_same = known is not None and keeps_rows_since(table, known.snapshot_id)
            if not holds_same or not self._live.rebase(table):
                return False
        self.table = table
        if self._live is not None:
            self._live.table = table
        return True

    def tidy(self, change: Change) -> None:
        """After the commit of ``change``: remove files that were written and written again."""
        kept = {file.file_path for file in change.added}
        remove(self.table, (file.file_path for file in self._written if file.file_path not in kept))

    def change(self) -> Change:
        """The files as one change. Writes what is left to write."""
        if self._removes_everything:
            return Change(removes_everything=True)
        if self._live is None:
            return Change(added=tuple(self._files))
        files = {file.file_path: file for file in self._live.files}
        taken = self._live.taken
        if self._options.mirror_strategy is MirrorStrategy.POSITION_DELETES:
            deletes = self._note(write_position_deletes(self.table, taken, files))
            return Change(added=(*self._live.added, *deletes))
        rewritten = [file for path in taken for file in self._without_deleted(files[path])]
        kept = [file for file in self._live.added if file.file_path not in taken]
        committed = frozenset(taken) - {file.file_path for file in self._live.added}
        return Change(added=(*kept, *rewritten), removed=committed)

    def discard(self) -> None:
        """Remove the files written so far: they will not be committed."""
        remove(self.table, (file.file_path for file in self._written))
        self._written.clear()

    def _beyond_record(self, changes: pa.Table) -> pa.Table:
        if self.record.is_snapshot:
            return changes
        batches = [drop_applied(batch, self.record) for batch in changes.to_batches()]
        return pa.Table.from_batches(batches, schema=changes.schema)

    def _append(self, rows: pa.Table) -> None:
        stored = stored_rows(rows.schema.names, rows.columns)
        self._files += self._note(write_rows(self.table, stored))

    def _note(self, files: list[DataFile]) -> list[DataFile]:
        self._written += files
        return files

    def _history(self, schema: TableSchema, changes: pa.Table) -> None:
        live = self._live = self._live or LiveFiles(self.table, self._memory)
        columns = self._options.version_columns
        ended, added = OpenVersions(live, columns).end(history.plan_history(schema, changes, columns))
        for rows in (ended, added):
            if rows is not None:
                live.add(self._note(write_rows(self.table, rows)))

    def _mirror(self, schema: TableSchema, changes: pa.Table) -> None:
        live = self._live = self._live or LiveFiles(self.table, self._memory)
        match mirror.plan(schema, changes):
            case mirror.MirrorPlan() as plan:
                self._apply_mirror(plan, live)
            case mirror.MultisetPlan() as plan:
                self._apply_multiset(plan, live)
            case mirror.InsertPlan() as plan:
                self._insert(schema, plan.rows, live)
            case never:
                assert_never(never)

    def _apply_mirror(self, plan: mirror.MirrorPlan, live: LiveFiles) -> None:
        """The four steps of `wallaby.transform.mirror`: an update is a row that goes and one that comes."""
        schema = plan.schema
        names = tuple(schema.columns[i].name for i in schema.key)
        completed = [mirror.complete(schema, patch, _patched(schema, patch, live, names)) for patch in plan.patches]
        rows = [plan.upserts, *completed]
        keys = [plan.deletes, *(table.select(list(schema.key)) for table in rows)]
        together = pa.concat_tables([table.rename_columns(list(names)) for table in keys])
        live.take_away(live.find(names, [single(column) for column in together.columns]))
        self._insert(schema, pa.concat_tables(rows), live)

    def _apply_multiset(self, plan: mirror.MultisetPlan, live: LiveFiles) -> None:
        schema = plan.schema
        width = len(schema.columns)
        if plan.deletes.num_rows:
            names = tuple(column.name for column in schema.columns)
            left = plan.deletes.column(width + 1).to_numpy().astype(np.int64)
            for one in live.find_rows(names, [single(c) for c in plan.deletes.columns[:width]]):
                chosen = _first_of_each(one.keys, left)
                live.take_away([Found(one.file, one.positions[chosen], one.keys[chosen])])
                np.subtract.at(left, one.keys[chosen], 1)
            if left.any():
                raise RowRefused(
                    f"{int(left.sum())} rows to be deleted are not in the destination's table",
                    advice=mirror.MISSING_ROWS_ADVICE,
                    table=schema.name,
                )
        counts = plan.inserts.column(width + 1).to_numpy()
        repeated = plan.inserts.take(pa.array(np.repeat(np.arange(len(counts)), counts)))
        self._insert(schema, repeated, live)

    def _insert(self, schema: TableSchema, rows: pa.Table, live: LiveFiles) -> None:
        width = len(schema.columns)
        stored = stored_rows((column.name for column in schema.columns), rows.columns[:width])
        live.add(self._note(write_rows(self.table, stored)))

    def _without_deleted(self, file: DataFile) -> list[DataFile]:
        assert self._live is not None
        is_kept = np.ones(file.record_count, np.bool_)
        is_kept[self._live.deleted(file)] = False
        rows = self._live.scan(file).filter(pa.array(is_kept))
        return self._note(write_rows(self.table, rows))


def _patched(schema: TableSchema, patch: mirror.Patch, live: LiveFiles, names: tuple[str, ...]) -> pa.Table:
    """What the table holds at the patch's origin: its key columns, and the columns that were not sent."""
    wanted = (*names, *(schema.columns[i].name for i in patch.missing))
    found = live.find(names, [single(column) for column in patch.origin.columns])
    return held_columns(schema, patch, [live.read(wanted, one) for one in found])


def _first_of_each(which: Positions, left: Positions) -> Positions:
    """The places in ``which`` of the first ``left[n]`` entries equal to n, for every n."""
    order = np.argsort(which, kind="stable")
    ordered = which[order]
    starts = np.searchsorted(ordered, ordered, "left")
    return np.sort(order[np.arange(len(ordered)) - starts < left[ordered]])


def is_nothing(change: Change) -> bool:
    """True when committing ``change`` would leave the table as it is."""
    return not change.added and not change.removed and not change.removes_everything


__all__ = ["Stage", "is_nothing"]
