"""Append mode: every change is a row of a log, from which the table's state can be derived (`wallaby.transform.state`).

A log row has the source's columns and then:

==================  =====================  ====================================================================
``__op``            string                 ``r`` copied, ``i`` inserted, ``u`` updated, ``d`` deleted, ``t``: all rows
                                           before are gone (TRUNCATE)
``__commit_lsn``    uint64                 where the transaction's commit record starts
``__ordinal``       uint64                 place inside the transaction
``__xid``           uint32                 transaction id, 0 for copied rows
``__committed_at``  timestamp[us, UTC]     commit time on the source
``__unchanged``     list<string>           columns PostgreSQL did not send (unchanged TOAST): null, and *not* data
``__outliers``      list of structs        only when asked for: column name and PostgreSQL text of the values the
                                           column's type cannot hold
==================  =====================  ====================================================================

A deleted row has its key (or the whole old row, without a key) in the source columns and null elsewhere; a delete that
brings an ``after`` (`wallaby.transform.metadata` gives it one) has that. A changed key
is two rows of equal position: ``d`` with the old key, then ``u`` with the new row; so is every update of a table with
replica identity full and no key. ``(__commit_lsn, __ordinal, __op)`` orders the changes of the stream totally. Copied
rows come before all of them: the first transaction after a snapshot may carry the snapshot's own LSN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import ConfigError
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableSchema
from wallaby.transform.columns import Changes, single, valid
from wallaby.transform.grouping import Ids, group_ids
from wallaby.transform.outliers import Outliers, refuse_outliers
from wallaby.window import OP_COPY, OP_DELETE, OP_INSERT, OP_UPDATE, Barrier

OP: Final = "__op"
COMMIT_LSN: Final = "__commit_lsn"
ORDINAL: Final = "__ordinal"
XID: Final = "__xid"
COMMITTED_AT: Final = "__committed_at"
UNCHANGED: Final = "__unchanged"
OUTLIERS: Final = "__outliers"

LOG_FIELDS: Final = (
    pa.field(OP, pa.string(), nullable=False),
    pa.field(COMMIT_LSN, pa.uint64(), nullable=False),
    pa.field(ORDINAL, pa.uint64(), nullable=False),
    pa.field(XID, pa.uint32(), nullable=False),
    pa.field(COMMITTED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field(UNCHANGED, pa.list_(pa.string())),
)
LOG_OUTLIER_TYPE: Final = pa.list_(pa.struct([pa.field("column", pa.string()), pa.field("text", pa.string())]))
OUTLIERS_FIELD: Final = pa.field(OUTLIERS, LOG_OUTLIER_TYPE)
OP_TRUNCATE: Final = "t"


def append_schema(schema: TableSchema, *, keep_outliers: bool = False) -> pa.Schema:
    """The log's Arrow schema: the source's columns (all nullable), then the log's own, in the order above.

    `ConfigError` when a source column has the name of one of the log's own.
    """
    own = (*LOG_FIELDS, OUTLIERS_FIELD) if keep_outliers else LOG_FIELDS
    taken = {field.name for field in own}.intersection(column.name for column in schema.columns)
    if taken:
        raise ConfigError(
            "append mode needs a column name that the source table uses itself",
            advice="Rename the source column, or leave it out with a column list",
            table=schema.name,
            column=", ".join(sorted(taken)),
        )
    return pa.schema([*arrow_schema(schema), *own])


def append_rows(schema: TableSchema, changes: pa.Table, *, keep_outliers: bool = False) -> pa.Table:
    """The log rows of ``changes`` (change layout, stream order), in stream order, in the shape of `append_schema`."""
    target = append_schema(schema, keep_outliers=keep_outliers)
    batch = Changes.of(schema, changes)
    after = batch.after_columns()
    old_of = dict(zip(schema.key, batch.before_columns(), strict=True))
    pairs = [(after[i], old) for i, old in old_of.items()]
    split = split_updates(batch.op, batch.has_before, pairs, is_keyless=schema.is_keyless_full)
    change, is_old = with_old_halves(batch.rows, split)
    takes_old = is_old | ((batch.op == OP_DELETE) & ~valid(batch.after))[change]
    columns = _row_columns(after, old_of, batch.rows, change, takes_old)
    letters = op_letters(np.where(is_old, OP_DELETE, batch.op[change]))
    at = None if len(split) == 0 else pa.array(change)

    def place(name: str) -> pa.Array:
        column = single(changes[name])
        return column if at is None else column.take(at)

    own = [letters, *(place(name) for name in ("commit_lsn", "ordinal", "xid", "committed_at"))]
    own.append(_unchanged_names(batch, change, takes_old))
    if keep_outliers:
        own.append(_outlier_names(batch, change, takes_old))
    arrays = [
        array.cast(field.type) if array.type != field.type else array
        for array, field in zip([*columns, *own], target, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=target)


def append_truncate(schema: TableSchema, barrier: Barrier, *, keep_outliers: bool = False) -> pa.Table:
    """The one log row that says: all rows of the table are gone."""
    target = append_schema(schema, keep_outliers=keep_outliers)
    own = {
        OP: OP_TRUNCATE,
        COMMIT_LSN: int(barrier.commit_lsn),
        ORDINAL: barrier.ordinal,
        XID: barrier.xid,
        COMMITTED_AT: barrier.committed_at_us,
    }
    return pa.Table.from_arrays([pa.array([own.get(field.name)], field.type) for field in target], schema=target)


_LETTER_CODES: Final = (OP_DELETE, OP_INSERT, OP_COPY, OP_UPDATE)
assert tuple(sorted(_LETTER_CODES)) == _LETTER_CODES, _LETTER_CODES


def split_updates(
    op: npt.NDArray[np.uint8],
    has_before: npt.NDArray[np.bool_],
    keys: Sequence[tuple[pa.Array, pa.Array]],
    *,
    is_keyless: bool,
) -> Ids:
    """The updates that are logged as a ``d`` and a ``u`` row, ascending; ``keys`` are the new and old key columns.

    ``is_keyless``: the whole row is the key (replica identity full), and every update is two rows.
    """
    candidates = np.flatnonzero((op == OP_UPDATE) & has_before)
    if is_keyless or len(candidates) == 0:
        return candidates
    at = pa.array(candidates)
    both = [pa.concat_arrays([new.take(at), old.take(at)]) for new, old in keys]
    ids = group_ids(both, 2 * len(candidates))
    differs = ids[: len(candidates)] != ids[len(candidates) :]
    for column in both:
        if column.null_count:  # an outlier: whether it changed is not worth knowing, two rows are always right
            is_null = column.is_null().to_numpy(zero_copy_only=False)
            differs |= is_null[: len(candidates)] | is_null[len(candidates) :]
    return candidates[differs]


def with_old_halves(rows: int, split: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """The change each row of a log is of, and which rows are the old half of an update of ``split`` (ascending).

    An old half stands just before its change.
    """
    change = np.insert(np.arange(rows), split, split)
    is_old = np.zeros(len(change), np.bool_)
    is_old[split + np.arange(len(split))] = True
    return change, is_old


def op_letters(codes: npt.NDArray[np.uint8], absent: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """What is done to a row, as text of one letter; null where ``absent``."""
    places = np.searchsorted(_LETTER_CODES, codes).astype(np.int8)
    letters = pa.array([chr(code) for code in _LETTER_CODES])
    return pa.DictionaryArray.from_arrays(pa.array(places, mask=absent), letters).dictionary_decode()


def _row_columns(
    after: list[pa.Array], old_of: dict[int, pa.Array], rows: int, change: Ids, takes_old: npt.NDArray[np.bool_]
) -> list[pa.Array]:
    if not takes_old.any():
        return after if len(change) == rows else [column.take(pa.array(change)) for column in after]
    from_new = pa.array(change, mask=takes_old)
    from_both = pa.array(np.where(takes_old, change + rows, change))
    return [
        pa.concat_arrays([column, old_of[i]]).take(from_both) if i in old_of else column.take(from_new)
        for i, column in enumerate(after)
    ]


def _unchanged_names(batch: Changes, change: Ids, takes_old: npt.NDArray[np.bool_]) -> pa.Array:
    kind = pa.list_(pa.string())
    if batch.has_unchanged is None:
        return pa.nulls(len(change), kind)
    row, column = batch.unchanged_cells()
    # What `Changes` took from ``before`` is known after all.
    known = np.isin(column, np.array(batch.schema.key, np.int64))
    cells = Outliers(row[~known], column[~known], pa.nulls(int((~known).sum()), pa.string()))
    lists = _expanded(cells, batch.rows, change, takes_old)
    return _with_names(batch, lists, kind, lambda flat, names: names)


def _outlier_names(batch: Changes, change: Ids, takes_old: npt.NDArray[np.bool_]) -> pa.Array:
    everything = np.arange(batch.rows)
    new = batch.row_outliers(everything)
    old = batch.row_outliers(everything, before=True)
    both = pa.concat_arrays([new, old]).take(pa.array(np.where(takes_old, change + batch.rows, change)))
    return _with_names(
        batch,
        both,
        LOG_OUTLIER_TYPE,
        lambda flat, names: pa.StructArray.from_arrays(
            [names, flat.field(1)], fields=list(LOG_OUTLIER_TYPE.value_type)
        ),
    )


def _expanded(cells: Outliers, rows: int, change: Ids, takes_old: npt.NDArray[np.bool_]) -> pa.Array:
    return cells.moved(np.arange(len(cells)), cells.row, rows).take(pa.array(change, mask=takes_old))


def _with_names(
    batch: Changes, lists: pa.ListArray, kind: pa.DataType, cells: Callable[[pa.StructArray, pa.Array], pa.Array]
) -> pa.Array:
    """``lists`` (of `OUTLIER_TYPE`) with column names for column indexes, its elements made by ``cells``."""
    flat = pc.list_flatten(lists)
    names = pa.array([column.name for column in batch.schema.columns], pa.string())
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    elements = cells(flat, names.take(flat.field(0)))
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=kind, mask=pa.array(counts == 0))


__all__ = [
    "COMMITTED_AT",
    "COMMIT_LSN",
    "LOG_FIELDS",
    "LOG_OUTLIER_TYPE",
    "OP",
    "OP_TRUNCATE",
    "ORDINAL",
    "OUTLIERS",
    "OUTLIERS_FIELD",
    "UNCHANGED",
    "XID",
    "append_rows",
    "append_schema",
    "append_truncate",
    "op_letters",
    "refuse_outliers",
    "split_updates",
    "with_old_halves",
]
