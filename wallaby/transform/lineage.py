"""Which version of a row came from which: keys, moves and predecessors inside one batch of a table with a key.

Each change is one or two *events* on keys: a row comes to stand at a key, or leaves it. A move (an update that changes
the key) is leave-old, then stand-at-new. Events of a key, in stream order, tell everything:

* the last event says whether the key exists after the window, and with which version of the row;
* the event before an update's (at its old key when it moves) is the version the update was made from: none, or a
  leave, means the row as it was in the destination before the window.

The second point holds because a replica identity is unique at every moment (PostgreSQL refuses a deferrable index as
one), so at most one row stands at a key when the next event of that key happens.

Finding the newest version that has some column, or the first version of the window, follows predecessors; chains of
a hot row may be as long as the window, so they are followed by pointer doubling: log2(length) gathers over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import RowRefused
from wallaby.memory import unwritten
from wallaby.transform.columns import Changes
from wallaby.transform.grouping import Ids, group_ids, grouped, last_of_each
from wallaby.window import OP_DELETE, OP_UPDATE


@dataclass(frozen=True, slots=True)
class Lineage:
    """Keys of a batch. *Places* index ``keys`` and ``ids``: first one per change, then the old keys of moves."""

    rows: int
    keys: tuple[pa.Array, ...]
    ids: Ids
    """Equal exactly for places of equal keys."""
    moved: Ids
    """The changes that move a row, ascending; place ``rows + k`` is the old key of change ``moved[k]``."""
    is_update: npt.NDArray[np.bool_]
    is_delete: npt.NDArray[np.bool_]
    final: Ids
    """Changes whose new row exists after the window, ascending."""
    deleted: Ids
    """Places of the keys at which no row stands after the window."""

    @classmethod
    def of(cls, batch: Changes) -> Lineage:
        """`RowRefused` when a key value is outside its Arrow type."""
        after = batch.after_columns()
        before = batch.before_columns()
        is_delete = batch.op == OP_DELETE
        is_update = batch.op == OP_UPDATE
        keys = [after[i] for i in batch.schema.key]
        if is_delete.any():
            keys = [_either(is_delete, old, new) for old, new in zip(before, keys, strict=True)]
        with_old = np.flatnonzero(is_update & batch.has_before)
        moved = with_old[:0]
        if len(with_old):
            at = pa.array(with_old)
            keys = [pa.concat_arrays([new, old.take(at)]) for new, old in zip(keys, before, strict=True)]
        _refuse_nulls(batch, keys)
        ids = group_ids(keys, batch.rows + len(with_old))
        if len(with_old):
            changed = ids[batch.rows :] != ids[with_old]
            moved = with_old[changed]
            kept = np.concatenate([np.ones(batch.rows, np.bool_), changed])
            if not changed.all():
                ids = ids[kept]
                keys = [column.filter(pa.array(kept)) for column in keys]
        events = events_in_order(batch.rows, moved)
        last = last_of_each(ids) if events is None else events[last_of_each(ids[events])]
        leaves = (last >= batch.rows) | is_delete[np.minimum(last, batch.rows - 1)] if len(last) else last == -1
        final = last[~leaves] if events is None else np.sort(last[~leaves])
        return cls(batch.rows, tuple(keys), ids, moved, is_update, is_delete, final, last[leaves])

    def newest_with(self, has_value: npt.NDArray[np.bool_], earlier: Ids) -> Ids:
        """Per change, the newest version up to it for which ``has_value``; -1 when none in the window has.

        ``earlier`` is what `predecessors` returned.
        """
        here = np.arange(self.rows, dtype=np.int64)
        found = _followed(np.where(has_value | (earlier < 0), here, earlier))
        return np.where(has_value[found], found, -1)

    def origin(self, changes: Ids, earlier: Ids) -> Ids:
        """The places of the keys at which the rows of ``changes`` stood before the window."""
        return self.old_places()[self.roots(earlier)[changes]]

    def roots(self, earlier: Ids) -> Ids:
        """Per change, the first change of the batch that made a version of the same row."""
        return _followed(np.where(earlier < 0, np.arange(self.rows, dtype=np.int64), earlier))

    def old_places(self) -> Ids:
        """Per change, the place of the key at which its row stood before it."""
        place = np.arange(self.rows, dtype=np.int64)
        place[self.moved] = self.rows + np.arange(len(self.moved))
        return place

    def predecessors(self) -> Ids:
        """Per change, the change that made the row version it was made from; -1 when none in the batch did."""
        events = events_in_order(self.rows, self.moved)
        ids = self.ids if events is None else self.ids[events]
        order, starts = grouped(ids)
        place = order if events is None else events[order]
        before = np.full(len(self.ids), -1, np.int64)
        before[place[1:]] = np.where(starts[1:], -1, place[:-1])
        # A place stands for a new row unless it is an old key or the change is a delete.
        is_row = np.zeros(len(self.ids) + 1, np.bool_)
        is_row[: self.rows] = ~self.is_delete
        earlier = np.where(is_row[before], before, -1)
        result = np.where(self.is_update, earlier[: self.rows], -1)
        result[self.moved] = earlier[self.rows :]
        return result


def events_in_order(rows: int, moved: Ids) -> Ids | None:
    """Places in event order: the old key of a move just before its change. None when that is 0, 1, 2, …"""
    if len(moved) == 0:
        return None
    order = unwritten(rows + len(moved), np.int64)
    slot_of_old = moved + np.arange(len(moved))
    is_old = np.zeros(len(order), np.bool_)
    is_old[slot_of_old] = True
    order[is_old] = rows + np.arange(len(moved))
    order[~is_old] = np.arange(rows)
    return order


def _followed(pointer: Ids) -> Ids:
    """Where each chain of pointers ends (at a change that points at itself)."""
    while True:
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            return pointer
        pointer = further


def _either(choose_left: npt.NDArray[np.bool_], left: pa.Array, right: pa.Array) -> pa.Array:
    if isinstance(right.type, pa.BaseExtensionType):
        return right.type.wrap_array(_either(choose_left, left.storage, right.storage))
    return pc.if_else(pa.array(choose_left), left, right)


def _refuse_nulls(batch: Changes, keys: list[pa.Array]) -> None:
    for index, column in zip(batch.schema.key, keys, strict=True):
        if column.null_count:
            raise RowRefused(
                "a key holds a value its Arrow type cannot (a date without end, a numeric that is no number), so the "
                "row cannot be found again in the destination",
                advice="Replicate the table in append mode, or give it a replica identity without that column",
                table=batch.schema.name,
                column=batch.schema.columns[index].name,
            )
