"""What a history must hold: worked out one change at a time, and what a plan does to a history in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from wallaby.schema import TableSchema
from wallaby.testing.changes import COPY_LSN, COPY_TIME_US, Change, NewShape, Stream, Truncate
from wallaby.testing.history import Row, row_table
from wallaby.transform.columns import single
from wallaby.transform.grouping import Ids, dense, group_ids
from wallaby.transform.history import HistoryPlan, closed, version_fields
from wallaby.transform.mirror import OUTLIERS, complete
from wallaby.versions import VersionColumns
from wallaby.window import OP_DELETE, OUTLIER_TYPE


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a row: its cells, how it began, and how it ended (None while it holds)."""

    row: Row
    begun: tuple[str, int, int, int]
    """Letter, time, LSN, ordinal."""
    ended: tuple[str, int, int, int] | None = None


def expected_versions(
    stream: Stream, schema: TableSchema, columns: VersionColumns, *, transactions: int | None = None
) -> pa.Table:
    """The history of a table after the copy and the first ``transactions`` of ``stream`` (all by default).

    The source's columns, ``__outliers``, and the columns of a history, in no particular order.
    """
    model = _Model(schema)
    for copied, rows in stream.copies:
        if copied.name == schema.name:
            for row in rows:
                model.apply(row, (COPY_TIME_US, COPY_LSN, 0))
    for transaction in stream.transactions[:transactions]:
        for ordinal, step in enumerate(transaction.steps):
            place = (transaction.committed_at_us, int(transaction.commit_lsn), ordinal)
            if isinstance(step, Truncate):
                if schema.name in step.tables:
                    model.truncate(place)
            elif not isinstance(step, NewShape) and step[0].name == schema.name:
                model.apply(step[1], place)
    return version_table(schema, model.versions, columns)


def version_table(schema: TableSchema, versions: list[Version], columns: VersionColumns) -> pa.Table:
    """Versions as a history has them, with ``__outliers`` after the source's columns."""
    rows = row_table(schema, [version.row for version in versions])
    cells: list[tuple[Any, ...]] = []
    for version in versions:
        opened_by, valid_from, from_lsn, from_ordinal = version.begun
        closed_by, valid_to, to_lsn, to_ordinal = version.ended or (None, None, None, None)
        is_current = version.ended is None
        cells.append(
            (valid_from, valid_to, is_current, opened_by, closed_by, from_lsn, from_ordinal, to_lsn, to_ordinal)
        )
    for number, field in enumerate(version_fields(columns)):
        rows = rows.append_column(field, pa.array([cell[number] for cell in cells], field.type))
    return rows


class _Model:
    """A table's versions, one change after the other."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.versions: list[Version] = []
        self._open: dict[Row, int] = {}

    def apply(self, change: Change, place: tuple[int, int, int]) -> None:
        key = None if change.after is None else tuple(change.after[i] for i in self.schema.key)
        old = change.before if change.before is not None and len(change.before) == len(self.schema.key) else key
        assert old is not None
        was = self.versions[self._open[old]].row if old in self._open else None
        if old != key:
            self._close(old, chr(OP_DELETE), place)
        if key is None or change.after is None:
            return
        if change.op != OP_DELETE:
            self._close(key, chr(change.op), place)
        names = [column.name for column in self.schema.columns]
        cells = list(change.after)
        for name in change.unchanged:
            assert was is not None, "a row the model never saw"
            cells[names.index(name)] = was[names.index(name)]
        self._open[key] = len(self.versions)
        self.versions.append(Version(tuple(cells), (chr(change.op), *place)))

    def truncate(self, place: tuple[int, int, int]) -> None:
        for key in list(self._open):
            self._close(key, "t", place)

    def _close(self, key: Row, letter: str, place: tuple[int, int, int]) -> None:
        if key in self._open:
            at = self._open.pop(key)
            self.versions[at] = replace(self.versions[at], ended=(letter, *place))


def current_rows(schema: TableSchema, history: pa.Table, columns: VersionColumns) -> pa.Table:
    """The rows that hold now: the source's columns, and ``__outliers`` where the history has it."""
    rows = history.filter(single(history[columns.is_current]))
    names = [column.name for column in schema.columns]
    if OUTLIERS in rows.column_names and rows.schema.field(OUTLIERS).type == OUTLIER_TYPE:
        names.append(OUTLIERS)
    return rows.select(names)


def apply_history(history: pa.Table, plan: HistoryPlan, columns: VersionColumns) -> pa.Table:
    """``history`` (as in `HistoryPlan`, maybe with more columns behind) after what ``plan`` says."""
    key = [plan.schema.columns[i].name for i in plan.schema.key]
    is_open = single(history[columns.is_current]).to_numpy(zero_copy_only=False)
    open_rows = history.filter(pa.array(is_open))
    added = [plan.versions]
    for patch in plan.patches:
        wanted = [*key, *(plan.schema.columns[i].name for i in patch.missing), OUTLIERS]
        origins = open_rows.filter(pa.array(_places(open_rows, patch.origin, key) >= 0))
        added.append(complete(plan.schema, patch, origins.select(wanted)))
    which = _places(open_rows, plan.closes, key)
    ended = closed(open_rows.filter(pa.array(which >= 0)), plan.closes, which[which >= 0], columns)
    kept = open_rows.filter(pa.array(which < 0))
    return pa.concat_tables([history.filter(pa.array(~is_open)), kept, ended, *added], promote_options="default")


def truncate_history(history: pa.Table, closes: pa.Table, columns: VersionColumns) -> pa.Table:
    """``history`` after TRUNCATE, which `wallaby.transform.history.plan_truncate` has put in a row."""
    is_open = single(history[columns.is_current]).to_numpy(zero_copy_only=False)
    ended = history.filter(pa.array(is_open))
    ended = closed(ended, closes, np.zeros(ended.num_rows, np.int64), columns)
    return pa.concat_tables([history.filter(pa.array(~is_open)), ended])


def _places(rows: pa.Table, keys: pa.Table, names: list[str]) -> Ids:
    """For every row, the row of ``keys`` with its key; -1 where there is none."""
    columns = [
        pa.concat_arrays([single(keys.column(i)), single(rows[name]).cast(keys.schema.field(i).type)])
        for i, name in enumerate(names)
    ]
    ids, groups = dense(group_ids(columns, keys.num_rows + rows.num_rows))
    place = np.full(groups, -1, np.int64)
    place[ids[: keys.num_rows]] = np.arange(keys.num_rows)
    return place[ids[keys.num_rows :]]


__all__ = ["Version", "apply_history", "current_rows", "expected_versions", "truncate_history", "version_table"]
