"""Cells PostgreSQL did not send (unchanged TOAST): which version of the row has their value, and how to fill them in.

An UPDATE that leaves a TOASTed value as it was sends a mark instead of the value. Such a *gap* has the value the row
had before, and that is found in one of two places: in an earlier version of the same row inside the batch, which
`Gaps` finds by following the row through changes of its key, or outside the batch, as `Known` values somebody read or
remembered.

The versions of one row in a batch that lie behind each other without a value in between are filled with *one* value,
or not at all. That is more than tidiness: a mirror that meets an unfilled gap takes the value of the version before
it, so a version filled on its own, from a key another row has taken meanwhile, would hand a foreign value down.

A value that repeats in every version of a busy row multiplies; ``bytes_max`` bounds what filling adds, but for the one
value that reaches it. A gap beyond it stays a gap, which loses nothing: it still says "as before".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.schema import TableSchema
from wallaby.transform.columns import Changes, lists_of, single, value_bytes
from wallaby.transform.grouping import Ids
from wallaby.transform.lineage import Lineage
from wallaby.window import BEFORE_OUTLIER_BIT, OP_UPDATE, OUTLIER_TYPE, UNCHANGED_TYPE


def count_gaps(batches: Sequence[pa.RecordBatch]) -> int:
    """How many cells of ``batches`` (change layout) PostgreSQL did not send."""
    marks = (batch.column("unchanged") for batch in batches)
    return sum(pc.sum(pc.list_value_length(mark)).as_py() or 0 for mark in marks if mark.null_count < len(mark))


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gaps of one table's changes (change layout, stream order), without those of key columns, by row."""

    changes: pa.Table
    batch: Changes
    lineage: Lineage
    row: Ids
    column: Ids
    source: Ids
    """Per gap, the change whose new row has the value; -1 when none of the batch has."""
    root: Ids
    """Per change, the first change of the batch that made a version of the same row."""
    newest: Ids
    """Per change, the last one."""
    is_alive: npt.NDArray[np.bool_]
    """Per change, whether its new row exists after the batch."""
    key_gaps: int
    """Gaps of key columns: their value is in ``before``."""

    @classmethod
    def of(cls, schema: TableSchema, changes: pa.Table) -> Self:
        """``schema`` has a key. `Refused` when a key value is outside its Arrow type."""
        assert schema.has_key, schema.name
        batch = Changes.of(schema, changes)
        lineage = Lineage.of(batch)
        earlier = lineage.predecessors()
        root = lineage.roots(earlier)
        here = np.arange(batch.rows, dtype=np.int64)
        last_of_root = np.zeros(batch.rows, np.int64)
        last_of_root[root] = here  # of several, the last one stays
        is_alive = np.zeros(batch.rows, np.bool_)
        is_alive[lineage.final] = True
        row, column = batch.unchanged_cells() if batch.has_unchanged is not None else (here[:0], here[:0])
        is_key = np.isin(column, np.array(schema.key, np.int64))
        row, column = row[~is_key], column[~is_key]
        source = np.full(len(row), -1, np.int64)
        for lacking in np.unique(column).tolist():
            cells = np.flatnonzero(column == lacking)
            has_value = ~lineage.is_delete
            has_value[row[cells]] = False
            source[cells] = lineage.newest_with(has_value, earlier)[row[cells]]
        return cls(
            changes=changes,
            batch=batch,
            lineage=lineage,
            row=row,
            column=column,
            source=source,
            root=root,
            newest=last_of_root[root],
            is_alive=is_alive,
            key_gaps=int(is_key.sum()),
        )

    def __len__(self) -> int:
        return len(self.row)

    def keys(self, places: Ids) -> list[pa.Array]:
        """The key columns at ``places`` of the lineage."""
        return [column.take(pa.array(places)) for column in self.lineage.keys]

    def value_columns(self) -> list[int]:
        """The columns that are no key."""
        return [i for i in range(len(self.batch.schema.columns)) if i not in self.batch.schema.key]


@dataclass(frozen=True, slots=True)
class Known:
    """Values of some rows from outside a batch: entry i of every array belongs to row i."""

    rows: int
    values: Mapping[int, pa.Array] = field(default_factory=dict)
    """By index of the table's column, of the type it has in ``after``."""
    texts: Mapping[int, pa.Array] = field(default_factory=dict)
    """Strings: PostgreSQL's text where the value is outside its Arrow type, else null. A column may be absent."""


@dataclass(frozen=True, slots=True)
class Question:
    """Rows to be read at the source, once each: the newest version of a row that still exists after the batch."""

    change: Ids
    """Ascending. The row is the one that stands at this change's new key."""
    of_gap: Ids
    """Per gap, which of them it belongs to; -1 when its row is gone already, or its value is in the batch."""
    of_row: Ids
    """Per change, which of them replaces its new row; -1 for none."""
    columns: tuple[int, ...]
    """What to read."""


def ask_for_gaps(gaps: Gaps) -> Question:
    """What fills the gaps that the batch itself cannot."""
    newest = gaps.newest[gaps.row]
    is_open = (gaps.source < 0) & gaps.is_alive[newest]
    change, number = np.unique(newest[is_open], return_inverse=True)
    of_gap = np.full(len(gaps), -1, np.int64)
    of_gap[is_open] = number
    columns = tuple(np.unique(gaps.column[is_open]).tolist())
    return Question(change, of_gap, np.full(gaps.batch.rows, -1, np.int64), columns)


def ask_for_updates(gaps: Gaps) -> Question:
    """The whole row of every update, as far as it has not moved to another key later in the batch."""
    is_asked = (gaps.batch.op == OP_UPDATE) & gaps.is_alive[gaps.newest]
    change, number = np.unique(gaps.newest[is_asked], return_inverse=True)
    of_change = np.full(gaps.batch.rows, -1, np.int64)
    of_change[is_asked] = number
    ids = gaps.lineage.ids[: gaps.batch.rows]
    of_gap = np.where(gaps.source < 0, of_change[gaps.row], -1)
    of_row = np.where(ids == ids[gaps.newest], of_change, -1)
    return Question(change, of_gap, of_row, tuple(gaps.value_columns()))


@dataclass(frozen=True, slots=True)
class Filled:
    """The changes with gaps filled, and how many were filled and are left, key columns among the filled ones."""

    batch: pa.RecordBatch
    filled: int
    unfilled: int
    nbytes: int
    """What filling added."""


def fill(
    gaps: Gaps, known: Known | None = None, entry: Ids | None = None, replaced: Ids | None = None, *, bytes_max: int
) -> Filled:
    """Fill what the batch knows, and what ``known`` does.

    ``entry`` is, per gap, the row of ``known`` with its value, -1 for none; ``replaced``, per change, the row of
    ``known`` that takes the place of the change's new row, all columns but the key's.
    """
    rows = gaps.batch.rows
    known = known or Known(0)
    entry = np.full(len(gaps), -1, np.int64) if entry is None else entry
    pools = _pools(gaps, known)
    edits: dict[int, tuple[Ids, Ids]] = {}
    spent = 0
    is_replaced = np.zeros(rows, np.bool_)
    if replaced is not None and (replaced >= 0).any():
        at = np.flatnonzero(replaced >= 0)
        cost = sum(
            (value_bytes(known.values[i])[replaced[at]] for i in gaps.value_columns()), np.zeros(len(at), np.int64)
        )
        is_room = within(cost, bytes_max)
        at, spent = at[is_room], int(cost[is_room].sum())
        is_replaced[at] = True
        edits = dict.fromkeys(gaps.value_columns(), (at, rows + replaced[at]))
    place = np.where(gaps.source >= 0, gaps.source, np.where(entry >= 0, rows + entry, -1))
    place[is_replaced[gaps.row]] = -1
    cost = np.zeros(len(gaps), np.int64)
    for i in np.unique(gaps.column[place >= 0]).tolist():
        cells = np.flatnonzero((gaps.column == i) & (place >= 0))
        cost[cells] = value_bytes(pools[i])[place[cells]]
    is_filled = (place >= 0) & within(cost, bytes_max - spent)
    spent += int(cost[is_filled].sum())
    for i in np.unique(gaps.column[is_filled]).tolist():
        cells = np.flatnonzero((gaps.column == i) & is_filled)
        at, taken = edits.get(i, (cells[:0], cells[:0]))
        edits[i] = (np.concatenate([at, gaps.row[cells]]), np.concatenate([taken, place[cells]]))
    is_left = ~is_filled & ~is_replaced[gaps.row]
    unfilled = int(is_left.sum())
    filled = len(gaps) - unfilled + gaps.key_gaps
    return Filled(_edited(gaps, known, pools, edits, is_replaced, is_left), filled, unfilled, spent)


def within(cost: Ids, bytes_max: int) -> npt.NDArray[np.bool_]:
    """Those that fit, one after the other; the last may go beyond, so that a value larger than the limit is one too."""
    return np.cumsum(cost) - cost < bytes_max


def _pools(gaps: Gaps, known: Known) -> list[pa.Array]:
    """Per column, the new rows' values and behind them those of ``known``."""
    return [
        pa.concat_arrays([column, known.values[i]]) if i in known.values else column
        for i, column in enumerate(gaps.batch.after_columns())
    ]


def _edited(
    gaps: Gaps,
    known: Known,
    pools: list[pa.Array],
    edits: Mapping[int, tuple[Ids, Ids]],
    is_replaced: npt.NDArray[np.bool_],
    is_left: npt.NDArray[np.bool_],
) -> pa.RecordBatch:
    changes, rows = gaps.changes, gaps.batch.rows
    columns = []
    for i, pool in enumerate(pools):
        at, place = edits.get(i, (np.zeros(0, np.int64), np.zeros(0, np.int64)))
        if len(at):
            index = np.arange(rows, dtype=np.int64)
            index[at] = place
            columns.append(pool.take(pa.array(index)))
        else:
            columns.append(pool.slice(0, rows))
    after = gaps.batch.after
    mask = after.is_null() if after.null_count else None
    replacing = {
        "unchanged": lists_of(
            gaps.row[is_left], pa.array(gaps.column[is_left].astype(np.uint16)), rows, UNCHANGED_TYPE
        ),
        "after": pa.StructArray.from_arrays(columns, fields=list(after.type), mask=mask),
        "outliers": _outliers(gaps, known, edits, is_replaced),
    }
    arrays = [replacing[name] if name in replacing else single(changes[name]) for name in changes.column_names]
    return pa.RecordBatch.from_arrays(arrays, schema=changes.schema)


def _outliers(
    gaps: Gaps, known: Known, edits: Mapping[int, tuple[Ids, Ids]], is_replaced: npt.NDArray[np.bool_]
) -> pa.Array:
    rows, lists = gaps.batch.rows, gaps.batch.outliers
    row = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = pc.list_flatten(lists)
    marked = flat.field(0).to_numpy(zero_copy_only=False).astype(np.int64)
    text = flat.field(1)
    is_kept = ~is_replaced[row] | (marked & BEFORE_OUTLIER_BIT != 0) | np.isin(marked, gaps.batch.schema.key)
    kept = np.flatnonzero(is_kept)
    found = [(row[kept], marked[kept], text.take(pa.array(kept)))]
    for i, (at, place) in edits.items():
        entry_of = np.full(rows, -1, np.int64)
        own = np.flatnonzero(marked == i)
        entry_of[row[own]] = own
        is_own = place < rows
        entry = np.where(is_own, entry_of[np.where(is_own, place, 0)], -1)
        took = np.flatnonzero(entry >= 0)
        found.append((at[took], np.full(len(took), i, np.int64), text.take(pa.array(entry[took]))))
        if i in known.texts and not is_own.all():
            theirs = known.texts[i].take(pa.array(place[~is_own] - rows))
            took = np.flatnonzero(theirs.is_valid().to_numpy(zero_copy_only=False))
            found.append((at[~is_own][took], np.full(len(took), i, np.int64), theirs.take(pa.array(took))))
    row, marked = (np.concatenate([part[k] for part in found]) for k in (0, 1))
    if len(row) == 0:
        return pa.nulls(rows, OUTLIER_TYPE)
    order = np.lexsort((marked, row))
    texts = pa.concat_arrays([part[2] for part in found]).take(pa.array(order))
    cells = pa.StructArray.from_arrays(
        [pa.array(marked[order].astype(np.uint16)), texts], fields=list(OUTLIER_TYPE.value_type)
    )
    return lists_of(row[order], cells, rows, OUTLIER_TYPE)
