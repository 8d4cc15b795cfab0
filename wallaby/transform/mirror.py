"""What a window of changes does to a mirror of its table: per-key compaction in columns.

A mirror does not care for the way, only for where each row ends. `plan` folds the changes of one table and schema
version, in stream order, into sets a destination can apply with a handful of set-based statements.

With a key (`MirrorPlan`) a sink applies, in this order, all in the transaction of the commit:

1. moved patches (``patch.moves``): read the missing columns from the target at ``patch.origin`` *before any write*,
   fill them in (`complete` does it in Arrow), and treat the result as upserts;
2. ``deletes``, by key;
3. unmoved patches: ``UPDATE`` of the columns not in ``patch.missing``, by key;
4. ``upserts``: insert, or replace the whole row of that key.

Equal rows are the identity of a table with replica identity full and no key (`MultisetPlan`): delete ``__count``
copies of each row of ``deletes``, then insert ``__count`` copies of each row of ``inserts``. A table with neither can
only grow (`InsertPlan`).

Row tables hold every column of ``after`` in order, with the field types and metadata of the change layout, and one
more column, the last: ``__outliers`` (`wallaby.window.OUTLIER_TYPE`, column indexes of the row itself, null when none).
Address it by position: a source column may have the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import RowRefused
from wallaby.schema import TableSchema
from wallaby.transform.columns import Changes, single
from wallaby.transform.grouping import Ids, dense, group_ids, last_of_each
from wallaby.transform.lineage import Lineage
from wallaby.transform.outliers import Outliers
from wallaby.window import OP_DELETE, OP_UPDATE, OUTLIER_TYPE

OUTLIERS: Final = "__outliers"
"""Name of the last column of row tables (before ``__count`` in a `MultisetPlan`)."""
COUNT: Final = "__count"
"""Name of the last column of a `MultisetPlan`'s tables: int64, at least 1."""


MISSING_ROWS_ADVICE: Final = (
    "If an update brought the rows into where, or into the publication's row filter, without a TOASTed value that "
    "PostgreSQL did not send again: set source.options.toast_fetch to source. Else somebody removed rows from the "
    "target: copy the table again"
)


@dataclass(frozen=True, slots=True)
class Patch:
    """Updated rows for which PostgreSQL did not send the same columns (unchanged TOAST) and the window holds no value.

    The values are in the destination, in the row whose key before the window was ``origin``.
    """

    missing: tuple[int, ...]
    """Indexes into ``schema.columns``, ascending; never key columns."""
    rows: pa.Table
    """All columns, the missing ones null, and ``__outliers``."""
    origin: pa.Table
    """The key columns each row had in the destination before the window; as many rows as ``rows``."""
    moves: bool
    """True when every row's ``origin`` differs from its key in ``rows``; False when each is the same."""


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """The net effect of a window on a table with a key. No key is in two of upserts, patches' rows, and deletes."""

    schema: TableSchema
    upserts: pa.Table
    """Complete rows: all columns, then ``__outliers``."""
    deletes: pa.Table
    """Key columns: keys that may exist in the destination and must not afterwards."""
    patches: tuple[Patch, ...]
    inserted: npt.NDArray[np.bool_] | None = None
    """Per row of ``upserts``: its last change was an insert or copy, so its key is most likely new to the destination
    (not when the window deleted it before). None when this is not known."""


@dataclass(frozen=True, slots=True)
class MultisetPlan:
    """The net effect on a table whose rows are their own identity: all columns, ``__outliers``, ``__count``.

    Rows equal in every column (nulls and outliers equal) are one entry, except that a window of inserts only is not
    searched for repeated rows. No row is in both tables.
    """

    schema: TableSchema
    inserts: pa.Table
    deletes: pa.Table


@dataclass(frozen=True, slots=True)
class InsertPlan:
    """New rows of a table without any identity: all columns, then ``__outliers``."""

    schema: TableSchema
    rows: pa.Table


Plan = MirrorPlan | MultisetPlan | InsertPlan


def plan(schema: TableSchema, changes: pa.Table) -> Plan:
    """The net effect of ``changes`` (change layout, stream order, one schema version), as its identity demands.

    `MirrorPlan` with a key, `MultisetPlan` for replica identity full without one, `InsertPlan` otherwise. `RowRefused`
    when the changes cannot be mirrored: a key value outside its Arrow type, or an update or delete without an identity.
    """
    if schema.is_keyless_full:
        return plan_multiset(schema, changes)
    if schema.has_key:
        return plan_mirror(schema, changes)
    return InsertPlan(schema, plan_inserts(schema, changes))


def plan_mirror(schema: TableSchema, changes: pa.Table) -> MirrorPlan:
    """Per key, where the window leaves it; as if the changes had been applied one by one. See `plan`."""
    batch = Changes.of(schema, changes)
    lineage = Lineage.of(batch)
    deletes = pa.Table.from_arrays(
        [column.take(pa.array(lineage.deleted)) for column in lineage.keys], schema=batch.key_schema
    )
    outliers = Outliers.of(batch.outliers)
    final = lineage.final
    partial = np.flatnonzero(batch.has_unchanged[final]) if batch.has_unchanged is not None else final[:0]
    if len(partial) == 0:
        entry, place = outliers.of_rows(final, batch.rows)
        carried = outliers.moved(entry, place, len(final))
        inserted = batch.op[final] != OP_UPDATE
        return MirrorPlan(schema, row_table(batch, final, {}, carried), deletes, (), inserted)
    filled = fill_unchanged(batch, lineage, outliers, final)
    complete_rows = np.flatnonzero(~filled.is_missing.any(axis=1))
    upserts = filled.rows
    if len(complete_rows) < len(final):
        upserts = upserts.take(pa.array(complete_rows))
    return MirrorPlan(schema, upserts, deletes, patches_of(batch, lineage, filled, final))


def plan_multiset(schema: TableSchema, changes: pa.Table) -> MultisetPlan:
    """Per distinct row, how many copies come or go. See `plan`."""
    batch = Changes.of(schema, changes)
    new = np.flatnonzero(batch.op != OP_DELETE)
    old = np.flatnonzero((batch.op == OP_DELETE) | (batch.op == OP_UPDATE))
    if len(old) and not batch.has_before[old].all():
        raise _no_identity(schema)
    new_rows = _taken(batch, new, batch.after_columns())
    carried_new, carried_old = batch.row_outliers(new), batch.row_outliers(old, before=True)
    columns = [*new_rows, carried_new]
    if len(old):
        old_rows = [column.take(pa.array(old)) for column in batch.before_columns()]
        columns = [pa.concat_arrays(pair) for pair in zip(columns, [*old_rows, carried_old], strict=True)]
    total = len(new) + len(old)
    if len(old) == 0:
        ids, groups = np.arange(total, dtype=np.int64), total
    else:
        ids, groups = dense(group_ids(columns, total))
    weights = np.ones(total, np.int64)
    weights[len(new) :] = -1
    net = np.zeros(groups, np.int64)
    np.add.at(net, ids, weights)
    last = last_of_each(ids)
    count = net[ids[last]]
    row_schema = batch.row_schema.append(pa.field(COUNT, pa.int64(), nullable=False))

    def counted(chosen: npt.NDArray[np.bool_]) -> pa.Table:
        at = pa.array(last[chosen])
        return pa.Table.from_arrays(
            [*(column.take(at) for column in columns), pa.array(np.abs(count[chosen]))], schema=row_schema
        )

    return MultisetPlan(schema, inserts=counted(count > 0), deletes=counted(count < 0))


def plan_inserts(schema: TableSchema, changes: pa.Table) -> pa.Table:
    """The inserted and copied rows with ``__outliers``; `RowRefused` when ``changes`` holds an update or delete."""
    batch = Changes.of(schema, changes)
    if bool(((batch.op == OP_DELETE) | (batch.op == OP_UPDATE)).any()):
        raise _no_identity(schema)
    everything = np.arange(batch.rows)
    return row_table(batch, everything, {}, batch.row_outliers(everything))


def complete(schema: TableSchema, patch: Patch, found: pa.Table) -> pa.Table:
    """The patch's rows with the missing columns filled: rows for step 4 of `MirrorPlan`.

    ``found`` is what the target holds at ``patch.origin``: the key columns and the missing columns by name, in any row
    order, with the row types of the plan, optionally ``__outliers`` as its last column (indexes of ``schema.columns``).
    `RowRefused` when a row of ``origin`` is not found: the target lost rows.
    """
    rows, origin = patch.rows.combine_chunks(), patch.origin.combine_chunks()
    wanted = len(origin)
    names = [schema.columns[i].name for i in schema.key]
    joined = [
        pa.chunked_array([*origin.column(i).chunks, *found[name].cast(origin.schema.field(i).type).chunks])
        for i, name in enumerate(names)
    ]
    ids, groups = dense(group_ids([single(column) for column in joined], wanted + len(found)))
    place = np.full(groups, -1, np.int64)
    place[ids[wanted:]] = np.arange(len(found))
    source = place[ids[:wanted]]
    if bool((source < 0).any()):
        raise RowRefused(
            f"{int((source < 0).sum())} rows to be updated are not in the destination's table",
            advice=MISSING_ROWS_ADVICE,
            table=schema.name,
        )
    at = pa.array(source)
    for i in patch.missing:
        values = found[schema.columns[i].name].take(at).cast(rows.schema.field(i).type)
        rows = rows.set_column(i, rows.schema.field(i), values)
    if found.num_columns and found.column_names[-1] == OUTLIERS and found.schema.types[-1] == OUTLIER_TYPE:
        own = Outliers.of(single(rows.column(len(schema.columns))))
        theirs = Outliers.of(single(found.column(found.num_columns - 1).take(at)))
        kept = np.flatnonzero(np.isin(theirs.column, patch.missing))
        both = Outliers(
            np.concatenate([own.row, theirs.row[kept]]),
            np.concatenate([own.column, theirs.column[kept]]),
            pa.concat_arrays([own.text, theirs.text.take(pa.array(kept))]),
        )
        merged = both.moved(np.arange(len(both)), both.row, wanted)
        rows = rows.set_column(len(schema.columns), rows.schema.field(len(schema.columns)), merged)
    return rows


@dataclass(frozen=True, slots=True)
class Filled:
    """New rows with what the window knows of their unchanged columns."""

    rows: pa.Table
    columns: Ids
    """The columns that any of the rows did not get, ascending."""
    is_missing: npt.NDArray[np.bool_]
    """Rows × ``columns``: neither the row nor an earlier one of the window has the value."""
    earlier: Ids
    """What `Lineage.predecessors` said."""


def fill_unchanged(batch: Changes, lineage: Lineage, outliers: Outliers, wanted: Ids) -> Filled:
    """The new rows of the changes ``wanted`` (ascending), unchanged columns from earlier versions in the batch."""
    entry, place = outliers.of_rows(wanted, batch.rows)
    unchanged_row, unchanged_column = batch.unchanged_cells()
    is_wanted = np.zeros(batch.rows, np.bool_)
    is_wanted[wanted] = True
    # Key columns are never fetched from elsewhere: `Changes` took them from ``before``.
    columns = np.flatnonzero(np.bincount(unchanged_column[is_wanted[unchanged_row]]))
    columns = np.setdiff1d(columns, np.array(batch.schema.key))
    is_missing = np.zeros((len(wanted), len(columns)), np.bool_)
    sources: dict[int, pa.Array] = {}
    earlier = lineage.predecessors()
    for k, column in enumerate(columns.tolist()):
        lacks = np.zeros(batch.rows, np.bool_)
        lacks[unchanged_row[unchanged_column == column]] = True
        source = lineage.newest_with(~lacks, earlier)[wanted]
        is_missing[:, k] = source < 0
        sources[column] = pa.array(source, mask=source < 0)
        if len(outliers):
            of_column = np.flatnonzero(outliers.column == column)
            entry_of = np.full(batch.rows, -1, np.int64)
            entry_of[outliers.row[of_column]] = of_column
            found = np.where((source >= 0) & (source != wanted), entry_of[source], -1)
            took = np.flatnonzero(found >= 0)
            entry, place = np.concatenate([entry, found[took]]), np.concatenate([place, took])
    carried = outliers.moved(entry, place, len(wanted))
    return Filled(row_table(batch, wanted, sources, carried), columns, is_missing, earlier)


def patches_of(
    batch: Changes, lineage: Lineage, filled: Filled, wanted: Ids, *, is_new: bool = False
) -> tuple[Patch, ...]:
    """The rows of ``filled`` (made for the changes ``wanted``) that lack columns, by what they lack.

    ``is_new``: each is a row beside its origin, so all of them count as moved.
    """
    lacking = np.flatnonzero(filled.is_missing.any(axis=1))
    if len(lacking) == 0:
        return ()
    origin = lineage.origin(wanted[lacking], filled.earlier)
    moves = (lineage.ids[origin] != lineage.ids[wanted[lacking]]) | is_new
    shape_of, count = _numbered(np.concatenate([filled.is_missing[lacking], moves[:, None]], axis=1))
    patches = []
    for number in range(count):
        chosen = np.flatnonzero(shape_of == number) if count > 1 else np.arange(len(lacking))
        shape = filled.is_missing[lacking[chosen[0]]]
        keys = [column.take(pa.array(origin[chosen])) for column in lineage.keys]
        patches.append(
            Patch(
                missing=tuple(filled.columns[shape].tolist()),
                rows=filled.rows.take(pa.array(lacking[chosen])),
                origin=pa.Table.from_arrays(keys, schema=batch.key_schema),
                moves=bool(moves[chosen[0]]),
            )
        )
    return tuple(patches)


def _numbered(shapes: npt.NDArray[np.bool_]) -> tuple[Ids, int]:
    """Which rows of ``shapes`` are equal, numbered from 0."""
    number = np.zeros(len(shapes), np.int64)
    count = 1
    for column in range(shapes.shape[1]):
        if shapes[:, column].any():
            number, count = dense(number * 2 + shapes[:, column])
    return number, count


def row_table(batch: Changes, rows: Ids, sources: dict[int, pa.Array], outliers: pa.Array) -> pa.Table:
    """A row table of the given changes; a column with an entry in ``sources`` takes its values from those changes."""
    columns = _taken(batch, rows, batch.after_columns(), sources)
    return pa.Table.from_arrays([*columns, outliers], schema=batch.row_schema)


def _taken(
    batch: Changes, rows: Ids, columns: list[pa.Array], sources: dict[int, pa.Array] | None = None
) -> list[pa.Array]:
    sources = sources or {}
    is_all = len(rows) == batch.rows
    at = pa.array(rows)
    return [
        column if is_all and i not in sources else column.take(sources.get(i, at)) for i, column in enumerate(columns)
    ]


def _no_identity(schema: TableSchema) -> RowRefused:
    return RowRefused(
        "an update or delete of a table without a replica identity cannot be mirrored",
        advice="Give the table a primary key, or set REPLICA IDENTITY FULL, and copy it again",
        table=schema.name,
    )
