"""One lane's writes: windows gathered, folded per key, applied with a few statements, committed with the position.

Small windows of one commit are gathered (`GATHER_BYTES_MAX`) and folded together, which spares a scan of the target per
window; beyond that they are applied to the open transaction, which DuckDB spills to disk. So memory is bounded and
nothing is visible before the commit, however long the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sinks.duckdb import lanes
from sinks.duckdb.ddl import TargetName
from sinks.duckdb.errors import Conflict
from sinks.duckdb.session import Session
from sinks.duckdb.tables import Tables
from sinks.duckdb.types import for_scan, place_outliers
from wallaby.errors import OutcomeUnknown, RowRefused, Transient
from wallaby.flow import Unrepresentable
from wallaby.record import LaneRecord, must_apply
from wallaby.schema import Column, TableName, TableSchema, quote_identifier
from wallaby.sink import WriteMode
from wallaby.transform import append, history, mirror
from wallaby.window import Barrier, BarrierKind, CommitToken, LaneId, Receipt, TablePart, Window

GATHER_BYTES_MAX: Final = 32 << 20
"""Bytes of changes kept before they are applied: about half a million narrow rows, folded at once."""
_ROWS: Final = "wallaby_rows"
_KEYS: Final = "wallaby_keys"
_MOVED: Final = "wallaby_moved"


@dataclass(slots=True)
class _Gathered:
    schema: TableSchema
    changes: list[pa.Table] = field(default_factory=list)


class DuckDBWriter:
    """See `wallaby.sink.SinkWriter`. Between first write and commit the open DuckDB transaction belongs to it."""

    def __init__(self, session: Session, tables: Tables, lane: LaneId, epoch: int) -> None:
        self._session = session
        self._tables = tables
        self._options = tables.options
        self._lane = lane
        self._epoch = epoch
        self._gathered: dict[TableName, _Gathered] = {}
        self._gathered_bytes = 0

    def write(self, window: Window) -> None:
        assert window.barrier is None, "barriers go to apply_barrier"
        has_outliers = False
        for part in window.parts:
            has_outliers |= self._gather(part)
        if has_outliers or self._gathered_bytes > GATHER_BYTES_MAX:
            self._apply_gathered()

    def commit(self, token: CommitToken) -> Receipt:
        def work() -> None:
            self._apply_gathered()

        return self._settle(token, work)

    def rehearse(self) -> None:
        """See `wallaby.sink.Rehearsing`."""
        self._apply_gathered()

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        assert not self._gathered, "a barrier with uncommitted rows before it"

        def work() -> None:
            match barrier.kind:
                case BarrierKind.TRUNCATE:
                    for table in barrier.tables:
                        self._truncate(table, barrier)
                case BarrierKind.SCHEMA:
                    for schema in barrier.schemas:
                        self._tables.ensure(schema)
                case _:
                    assert_never(barrier.kind)

        return self._settle(token, work)

    def abort(self) -> None:
        self._gathered.clear()
        self._gathered_bytes = 0
        self._session.rollback()

    def _settle(self, token: CommitToken, work: Callable[[], None]) -> Receipt:
        assert token.lane == self._lane
        try:
            self._session.begin()
            if must_apply(lanes.read(self._session, token.lane), token, restored=lanes.RESTORED):
                work()
                record = LaneRecord(token.upto, token.epoch)
                lanes.store(self._session, token.lane, record, rows=token.rows, committed_at_us=token.committed_at_us)
                self._session.note(token)
                self._session.commit()
        except (Conflict, OutcomeUnknown) as error:
            self.abort()
            self._find_out(token, error)
        except BaseException:
            self.abort()
            raise
        else:
            self._gathered.clear()
            self._gathered_bytes = 0
            self._session.rollback()
        return Receipt(token.lane, token.upto, token.rows)

    def _find_out(self, token: CommitToken, error: Conflict | OutcomeUnknown) -> None:
        """Return if the commit happened after all, by us or another.

        `Transient`: it did not and never will. Errors of `must_apply`: nor can it any more. ``error``: nobody knows.
        """
        try:
            with self._session.transaction():
                is_open = must_apply(lanes.read(self._session, token.lane), token, restored=lanes.RESTORED)
        except (Transient, OutcomeUnknown):
            raise error from None
        if is_open and isinstance(error, OutcomeUnknown) and self._session.can_tell:
            raise Transient(error.message, advice=error.advice, **error.where) from None
        if is_open:
            raise error

    def _gather(self, part: TablePart) -> bool:
        gathered = self._gathered.get(part.schema.name)
        if gathered is not None and gathered.schema.fingerprint != part.schema.fingerprint:
            self._apply_gathered()
            gathered = None
        if gathered is None:
            gathered = self._gathered[part.schema.name] = _Gathered(part.schema)
        # A copy: the part's buffer is shared memory of the transport and must not be held beyond this call.
        changes = TablePart(part.schema, part.rows, pa.py_buffer(bytes(part.data))).table()
        gathered.changes.append(changes)
        self._gathered_bytes += part.nbytes
        outliers = changes.column("outliers")
        return bool(outliers.null_count < len(outliers))

    def _apply_gathered(self) -> None:
        self._session.begin()
        waiting, self._gathered, self._gathered_bytes = self._gathered, {}, 0
        for gathered in waiting.values():
            changes = pa.concat_tables(gathered.changes)
            target = self._tables.target(gathered.schema.name)
            self._session.touch(target)
            match self._options.write_mode:
                case WriteMode.APPEND:
                    self._append(gathered.schema, target, changes)
                case WriteMode.MIRROR:
                    self._mirror(gathered.schema, target, changes)
                case WriteMode.HISTORY:
                    self._history(gathered.schema, target, changes)
                case never:
                    assert_never(never)

    def _append(self, schema: TableSchema, target: TargetName, changes: pa.Table) -> None:
        rows = append.append_rows(schema, changes, keep_outliers=True)
        rows = self._placed(schema, rows)
        if not self._options.keeps_outliers:
            rows = rows.select(range(rows.num_columns - 1))
        own = rows.schema.names[len(schema.columns) :]
        with self._session.named(**{_ROWS: self._scan(rows, (*schema.columns, *([None] * len(own))))}):
            self._insert(target, [*(column.name for column in schema.columns), *own])

    def _history(self, schema: TableSchema, target: TargetName, changes: pa.Table) -> None:
        """The three steps of `wallaby.transform.history`."""
        versions = self._options.version_columns
        plan = history.plan_history(schema, changes, versions)
        is_current = quote_identifier(versions.is_current)
        for number, patch in enumerate(plan.patches):
            self._fetch_moved(schema, target, patch, into=f"{_MOVED}{number}", only=f" AND t.{is_current}")
        width = len(schema.key)
        key_columns = tuple(schema.columns[i] for i in schema.key)
        ends = ", ".join(f"{quote_identifier(name)} = k.c{width + n}" for n, name in enumerate(versions.closing))
        joined = " AND ".join(f"t.{_name(schema, i)} = k.c{n}" for n, i in enumerate(schema.key))
        with self._session.named(**{_KEYS: self._scan(plan.closes, (*key_columns, *[None] * len(versions.closing)))}):
            self._session.query(
                f"{_held_apart(_KEYS)} UPDATE {target.sql} t SET {is_current} = false, {ends}"
                f" FROM keys_ k WHERE {joined} AND t.{is_current}",
                table=schema.name,
            )
        names = [*(column.name for column in schema.columns), *versions.names]
        for number in range(len(plan.patches)):
            self._insert(target, names, rows=f"temp.{_MOVED}{number}")
            self._session.query(f"DROP TABLE temp.{_MOVED}{number}")
        if plan.versions.num_rows:
            with self._rows(schema, plan.versions):
                self._insert(target, names)

    def _mirror(self, schema: TableSchema, target: TargetName, changes: pa.Table) -> None:
        match mirror.plan(schema, changes):
            case mirror.MirrorPlan() as plan:
                self._apply_mirror(plan, target)
            case mirror.MultisetPlan() as plan:
                self._apply_multiset(plan, target)
            case mirror.InsertPlan() as plan:
                with self._rows(schema, plan.rows):
                    self._insert(target, [column.name for column in schema.columns])
            case never:
                assert_never(never)

    def _apply_mirror(self, plan: mirror.MirrorPlan, target: TargetName) -> None:
        """The four steps of `wallaby.transform.mirror`; an upsert is a delete and an insert (specs/decisions/0010)."""
        schema = plan.schema
        moves = [patch for patch in plan.patches if patch.moves]
        for number, patch in enumerate(moves):
            self._fetch_moved(schema, target, patch, into=f"{_MOVED}{number}")
        keys = [plan.deletes, *(rows.select(list(schema.key)) for rows in (plan.upserts, *(p.rows for p in moves)))]
        self._delete_keys(schema, target, [table for table in keys if table.num_rows])
        for patch in plan.patches:
            if not patch.moves:
                self._patch(schema, target, patch)
        names = [column.name for column in schema.columns]
        for number in range(len(moves)):
            self._insert(target, names, rows=f"temp.{_MOVED}{number}")
            self._session.query(f"DROP TABLE temp.{_MOVED}{number}")
        if plan.upserts.num_rows:
            with self._rows(schema, plan.upserts):
                self._insert(target, names)

    def _fetch_moved(
        self, schema: TableSchema, target: TargetName, patch: mirror.Patch, *, into: str, only: str = ""
    ) -> None:
        """Rows whose key changed, the columns PostgreSQL did not send read from where the row was: before any write.

        ``only`` is a further condition on the target's row ``t``.
        """
        width = len(schema.columns)
        own = patch.rows.columns[width + 1 :]
        last = width + len(own)
        wanted = ", ".join(f"t.{_name(schema, i)} AS c{i}" if i in patch.missing else f"r.c{i}" for i in range(last))
        joined = " AND ".join(f"t.{_name(schema, i)} = k.c{n}" for n, i in enumerate(schema.key))
        rows = self._placed(schema, patch.rows)
        numbers = pa.array(np.arange(rows.num_rows))
        rows = pa.Table.from_arrays([*rows.columns[:width], *own, numbers], names=[str(i) for i in range(last + 1)])
        keys = pa.Table.from_arrays(
            [*patch.origin.columns, numbers], names=[str(i) for i in range(len(schema.key) + 1)]
        )
        key_columns = tuple(schema.columns[i] for i in schema.key)
        moved = self._scan(rows, (*schema.columns, *[None] * (len(own) + 1)))
        with self._session.named(**{_ROWS: moved, _KEYS: self._scan(keys, (*key_columns, None))}):
            found = self._session.count(
                f"CREATE OR REPLACE TEMP TABLE {into} AS {_held_apart(_ROWS, _KEYS)} SELECT {wanted} FROM rows_ r"
                f" JOIN keys_ k ON k.c{len(schema.key)} = r.c{last} JOIN {target.sql} t ON {joined}{only}",
                table=schema.name,
            )
        _require_found(schema, found, patch.rows.num_rows)

    def _delete_keys(self, schema: TableSchema, target: TargetName, keys: list[pa.Table]) -> None:
        if not keys:
            return
        names = [str(i) for i in range(len(schema.key))]
        together = pa.concat_tables([pa.Table.from_arrays(table.columns, names=names) for table in keys])
        with self._session.named(**{_KEYS: self._scan(together, tuple(schema.columns[i] for i in schema.key))}):
            joined = " AND ".join(f"t.{_name(schema, i)} = k.c{n}" for n, i in enumerate(schema.key))
            self._session.query(
                f"{_held_apart(_KEYS)} DELETE FROM {target.sql} t USING keys_ k WHERE {joined}", table=schema.name
            )

    def _patch(self, schema: TableSchema, target: TargetName, patch: mirror.Patch) -> None:
        sent = [i for i in range(len(schema.columns)) if i not in patch.missing and i not in schema.key]
        # With nothing but the key sent there is nothing to set; setting the key to itself still counts the rows.
        changed = ", ".join(f"{_name(schema, i)} = r.c{i}" for i in sent or schema.key)
        joined = " AND ".join(f"t.{_name(schema, i)} = r.c{i}" for i in schema.key)
        with self._rows(schema, patch.rows):
            found = self._session.count(
                f"{_held_apart(_ROWS)} UPDATE {target.sql} t SET {changed} FROM rows_ r WHERE {joined}",
                table=schema.name,
            )
        _require_found(schema, found, patch.rows.num_rows)

    def _apply_multiset(self, plan: mirror.MultisetPlan, target: TargetName) -> None:
        schema = plan.schema
        width = len(schema.columns)
        if plan.deletes.num_rows:
            with self._rows(schema, plan.deletes):
                same = [_same(f"t.{_name(schema, i)}", f"r.c{i}", plan.deletes.schema.types[i]) for i in range(width)]
                found = self._session.count(
                    f"{_held_apart(_ROWS)} DELETE FROM {target.sql} WHERE rowid IN ("
                    f"SELECT id FROM (SELECT t.rowid AS id, r.c{width} AS n,"
                    f" row_number() OVER (PARTITION BY r.c{width + 1}) AS copy"
                    f" FROM {target.sql} t JOIN rows_ r ON {' AND '.join(same)}) WHERE copy <= n)",
                    table=schema.name,
                )
            _require_found(schema, found, pc.sum(plan.deletes.column(width + 1)).as_py())
        if plan.inserts.num_rows:
            with self._rows(schema, plan.inserts):
                source = f"(SELECT {_ROWS}.* FROM {_ROWS}, range(c{width}))"
                self._insert(target, [column.name for column in schema.columns], rows=source)

    def _truncate(self, table: TableName, barrier: Barrier) -> None:
        target = self._tables.target(table)
        if not self._tables.exists(target):
            return
        if self._options.write_mode is WriteMode.MIRROR:
            self._session.query(f"DELETE FROM {target.sql}", table=table)
            return
        if self._options.write_mode is WriteMode.HISTORY:
            versions = self._options.version_columns
            ends = zip(versions.closing, ("make_timestamptz(?)", "?", "?", "?"), strict=True)
            sets = ", ".join(f"{quote_identifier(name)} = {value}" for name, value in ends)
            is_current = quote_identifier(versions.is_current)
            place = (barrier.committed_at_us, history.CLOSED_BY_TRUNCATE, int(barrier.commit_lsn), barrier.ordinal)
            statement = f"UPDATE {target.sql} SET {is_current} = false, {sets} WHERE {is_current}"
            self._session.query(statement, place, table=table)
            return
        self._session.query(
            f"INSERT INTO {target.sql} ({append.OP}, {append.COMMIT_LSN}, {append.ORDINAL}, {append.XID},"
            f" {append.COMMITTED_AT}) VALUES (?, ?, ?, ?, make_timestamptz(?))",
            (append.OP_TRUNCATE, int(barrier.commit_lsn), barrier.ordinal, barrier.xid, barrier.committed_at_us),
            table=table,
        )

    def _insert(self, target: TargetName, names: list[str], *, rows: str = _ROWS) -> None:
        columns = ", ".join(quote_identifier(name) for name in names)
        values = ", ".join(f"c{i}" for i in range(len(names)))
        self._session.query(f"INSERT INTO {target.sql} ({columns}) SELECT {values} FROM {rows}", table=target)

    @contextmanager
    def _rows(self, schema: TableSchema, rows: pa.Table) -> Iterator[None]:
        """A plan's row table under the name `_ROWS`: its columns, then ``__count`` if any, then a number per row."""
        width = len(schema.columns)
        placed = self._placed(schema, rows)
        arrays = [*placed.columns[:width], *placed.columns[width + 1 :], pa.array(np.arange(rows.num_rows))]
        numbered = pa.Table.from_arrays(arrays, names=[str(i) for i in range(len(arrays))])
        columns = (*schema.columns, *([None] * (len(arrays) - width)))
        with self._session.named(**{_ROWS: self._scan(numbered, columns)}):
            yield

    def _scan(self, rows: pa.Table, columns: tuple[Column | None, ...]) -> pa.Table:
        return for_scan(rows, columns, storage=self._session.storage)

    def _placed(self, schema: TableSchema, rows: pa.Table) -> pa.Table:
        """Values Arrow does not hold put in place; `RowRefused` for one DuckDB does not hold either, if so asked."""
        at = rows.schema.names.index(mirror.OUTLIERS, len(schema.columns))
        placed, unheld = place_outliers(schema, rows, rows.column(at))
        if unheld is not None and self._options.unrepresentable is Unrepresentable.REFUSE:
            raise RowRefused(
                f"{self._session.storage.name} has no place for a value of this column"
                " (not a number, a far-away date, an odd array)",
                advice="Change the value on the source, or choose unrepresentable: null"
                + (" or text" if self._options.write_mode is WriteMode.APPEND else ""),
                table=schema.name,
                column=schema.columns[unheld].name,
            )
        return placed


def _held_apart(*views: str) -> str:
    """The views as materialised ``rows_`` and ``keys_``.

    Where DuckDB pushes a join's filter down into an Arrow scan it knows some types only, UUID not among them.
    """
    parts = (f"{'rows_' if view == _ROWS else 'keys_'} AS MATERIALIZED (FROM {view})" for view in views)
    return f"WITH {', '.join(parts)}"


def _name(schema: TableSchema, index: int) -> str:
    return quote_identifier(schema.columns[index].name)


def _same(target: str, row: str, arrow: pa.DataType) -> str:
    """Equality of whole values: DuckDB's own calls -0.0 and 0.0 equal, and one month and thirty days."""
    if _has_loose_equality(arrow):
        target, row = f"{target}::VARCHAR", f"{row}::VARCHAR"
    return f"{target} IS NOT DISTINCT FROM {row}"


def _has_loose_equality(arrow: pa.DataType) -> bool:
    if pa.types.is_list(arrow):
        return _has_loose_equality(arrow.value_type)
    return bool(pa.types.is_floating(arrow) or arrow == pa.month_day_nano_interval())


def _require_found(schema: TableSchema, found: int, expected: int) -> None:
    if found != expected:
        raise RowRefused(
            f"{expected} rows to be changed should be in the target, {found} are",
            advice="Somebody changed rows of the target; copy the table again",
            table=schema.name,
        )


__all__ = ["GATHER_BYTES_MAX", "DuckDBWriter"]
