"""Row predicates and computed columns: what SQL expressions say about the changes of a table.

**A predicate** looks at the new row. A row it is not true for (false, or null) is none of the destination's: an insert
or copied row of it is dropped, and an update to it is the deletion of its old key, whether or not the destination has
a row there. An update to a row it is true for is an update still, and where the destination has no such row, the new
row. A deletion always is one. So a mirror holds, at every commit, the source's rows for which the predicate is true,
and a log tells the same. Where all columns are the key (replica identity full, no key), the old row is looked at as
well: rows are counted there, and a deletion of one that never came would be one too many.

**A computed column** has the expression's value in the new row (and in the old one, where all columns are the key).

Both need the values they read. A cell PostgreSQL did not send (unchanged TOAST) is not known here: a computed column
of which *all* inputs were not sent was not sent either, the destination has its value; anything else is refused, and
so is an input outside its Arrow type, which would be read as null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import Refused
from wallaby.schema import TableSchema
from wallaby.transform.engine import Engine, Expression
from wallaby.transform.grouping import Ids
from wallaby.transform.outliers import Outliers
from wallaby.transform.rows import Cells, Rows, chosen_cells, chosen_outliers, joined_cells, joined_outliers
from wallaby.window import OP_DELETE, OP_INSERT, OP_UPDATE

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Program:
    """The expressions of one version of a table."""

    engine: Engine
    schema: TableSchema
    predicates: tuple[Expression, ...]
    computed: tuple[Expression, ...]

    def applied(self, rows: Rows) -> Rows:
        """The rows for which all predicates are true, and the computed columns behind the others."""
        if self.predicates:
            rows = self._chosen(rows)
        return self._with_computed(rows) if self.computed else rows

    def _chosen(self, rows: Rows) -> Rows:
        passes = self._truth(rows, rows.after, rows.has_after, is_old=False)
        if self.schema.is_keyless_full:
            return _counted(rows, passes, self._truth(rows, rows.before, rows.has_before, is_old=True))
        leaves = (rows.op == OP_UPDATE) & ~passes
        kept = np.flatnonzero(passes | leaves | (rows.op == OP_DELETE))
        return _left(rows, leaves).taken(kept)

    def _truth(self, rows: Rows, columns: Sequence[pa.Array], present: Mask, *, is_old: bool) -> Mask:
        at = np.flatnonzero(present)
        for expression in self.predicates:
            if not is_old:
                self._require_sent(rows, expression, present)
            self._require_held(rows, expression, present, is_old=is_old)
        truth = np.zeros(len(rows), np.bool_)
        found = self._values(self.predicates, columns, at, len(rows))
        truth[at] = np.logical_and.reduce([each.fill_null(False).to_numpy(zero_copy_only=False) for each in found])
        return truth

    def _with_computed(self, rows: Rows) -> Rows:
        first = len(rows.after)
        unsent = [self._unsent(rows, expression) for expression in self.computed]
        for expression in self.computed:
            self._require_held(rows, expression, rows.has_after, is_old=False)
        more = self._spread(rows, rows.after, rows.has_after)
        more = [
            _nulled(column, mask) if mask is not None else column for column, mask in zip(more, unsent, strict=True)
        ]
        result = replace(rows.with_more(more), unchanged=_with_cells(rows.unchanged, unsent, first))
        if not self.schema.is_keyless_full:
            return result
        for expression in self.computed:
            self._require_held(rows, expression, rows.has_before, is_old=True)
        old = self._spread(rows, rows.before, rows.has_before)
        key = (*rows.key, *range(first, first + len(old)))
        return replace(result, before=(*rows.before, *old), key=key)

    def _spread(self, rows: Rows, columns: Sequence[pa.Array], present: Mask) -> list[pa.Array]:
        at = np.flatnonzero(present)
        found = self._values(self.computed, columns, at, len(rows))
        if len(at) == len(rows):
            return found
        place = np.zeros(len(rows), np.int64)
        place[at] = np.arange(len(at))
        index = pa.array(place, mask=~present)
        return [column.take(index) for column in found]

    def _values(
        self, expressions: Sequence[Expression], columns: Sequence[pa.Array], at: Ids, rows: int
    ) -> list[pa.Array]:
        reads = {i for expression in expressions for i in expression.reads}
        if len(at) < rows:
            index = pa.array(at)
            columns = [column.take(index) if i in reads else column for i, column in enumerate(columns)]
        return self.engine.values(self.schema, expressions, columns, rows=len(at))

    def _unsent(self, rows: Rows, expression: Expression) -> Mask | None:
        """The rows of which no input of ``expression`` was sent; `Refused` where some were and some were not."""
        count = _count(rows, expression)
        if count is None:
            return None
        if bool(((count > 0) & (count < len(expression.reads))).any()):
            raise self._unknown(expression)
        return count > 0

    def _require_sent(self, rows: Rows, expression: Expression, present: Mask) -> None:
        count = _count(rows, expression)
        if count is not None and bool((count[present] > 0).any()):
            raise self._unknown(expression)

    def _unknown(self, expression: Expression) -> Refused:
        return Refused(
            "an expression of where or computed_columns reads a value that PostgreSQL did not send (unchanged TOAST)",
            advice="Set source.options.toast_fetch to source, or let the expression read short columns only",
            table=self.schema.name,
            columns=", ".join(self.schema.columns[i].name for i in expression.reads),
        )

    def _require_held(self, rows: Rows, expression: Expression, present: Mask, *, is_old: bool) -> None:
        outliers: Outliers = rows.old_outliers if is_old else rows.outliers
        read = np.isin(outliers.column, np.array(expression.reads, np.int64)) & present[outliers.row]
        if read.any():
            column = int(outliers.column[np.flatnonzero(read)[0]])
            raise Refused(
                "an expression of where or computed_columns reads a value its column type does not hold (a numeric "
                "that is no number, a date without end or out of range, an array of another shape)",
                advice="Change the value on the source, or let the expression read other columns",
                table=self.schema.name,
                column=self.schema.columns[column].name,
            )


def _count(rows: Rows, expression: Expression) -> Ids | None:
    """Per row, how many inputs of ``expression`` were not sent; None when all were in all rows."""
    cells = rows.unchanged
    read = np.isin(cells.column, np.array(expression.reads, np.int64))
    return np.bincount(cells.row[read], minlength=len(rows)) if read.any() else None


def _nulled(column: pa.Array, mask: Mask) -> pa.Array:
    return column.take(pa.array(np.arange(len(column)), mask=mask))


def _with_cells(cells: Cells, unsent: Sequence[Mask | None], first: int) -> Cells:
    more = [(np.flatnonzero(mask), first + k) for k, mask in enumerate(unsent) if mask is not None]
    if not more:
        return cells
    row = np.concatenate([at for at, _ in more])
    column = np.concatenate([np.full(len(at), number, np.int64) for at, number in more])
    return joined_cells(cells, Cells(row, column))


def _left(rows: Rows, leaves: Mask) -> Rows:
    """The updates of ``leaves`` as deletions of the key their row had."""
    if not leaves.any():
        return rows
    from_new = leaves & ~rows.has_before
    op = rows.op.copy()
    op[leaves] = OP_DELETE
    here = np.arange(len(rows))
    index = pa.array(np.where(from_new, here + len(rows), here))
    before = tuple(
        pa.concat_arrays([old, rows.after[i].cast(old.type)]).take(index)
        for i, old in zip(rows.key, rows.before, strict=True)
    )
    of_key = np.isin(rows.outliers.column, np.array(rows.key, np.int64)) & from_new[rows.outliers.row]
    return replace(
        rows,
        op=op,
        has_after=rows.has_after & ~leaves,
        before=before,
        has_before=rows.has_before | leaves,
        unchanged=chosen_cells(rows.unchanged, ~leaves[rows.unchanged.row]),
        outliers=chosen_outliers(rows.outliers, ~leaves[rows.outliers.row]),
        old_outliers=joined_outliers(rows.old_outliers, chosen_outliers(rows.outliers, of_key)),
    )


def _counted(rows: Rows, new: Mask, old: Mask) -> Rows:
    """Where the whole row is the key: what came in, what went out, and both."""
    op = rows.op.copy()
    is_update = rows.op == OP_UPDATE
    op[is_update & ~old] = OP_INSERT
    op[is_update & ~new] = OP_DELETE
    changed = replace(
        rows,
        op=op,
        has_after=new,
        has_before=old,
        outliers=chosen_outliers(rows.outliers, new[rows.outliers.row]),
        old_outliers=chosen_outliers(rows.old_outliers, old[rows.old_outliers.row]),
    )
    return changed.taken(np.flatnonzero(new | old))


__all__ = ["Program"]
