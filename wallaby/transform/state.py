"""The rows a table has, worked out from its append log: what proves that a log lost nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import Refused
from wallaby.schema import TableSchema
from wallaby.transform.append import COMMIT_LSN, COMMITTED_AT, OP, OP_TRUNCATE, ORDINAL, OUTLIERS, UNCHANGED, XID
from wallaby.transform.columns import lists_of, single
from wallaby.transform.mirror import COUNT, InsertPlan, MirrorPlan, MultisetPlan, plan
from wallaby.window import OP_COPY, OP_DELETE, OP_INSERT, OP_UPDATE, OUTLIER_TYPE, UNCHANGED_TYPE


def derive_state(schema: TableSchema, log: pa.Table) -> pa.Table:
    """The current rows, ``schema``'s columns in order, in no particular row order; equal to the source's table.

    ``log`` is a whole append log of the table (`wallaby.transform.append`) in any order; columns it lacks (added after
    its last row was written) are null. A log with ``__outliers`` gives rows with a last column ``__outliers`` as in a
    `MirrorPlan`. `Refused` when the log contradicts itself, as one with lost rows does.
    """
    log = _since_last_truncate(_sorted(log))
    net = plan(schema, _change_layout(schema, log))
    match net:
        case MirrorPlan():
            if net.patches:
                raise _broken(schema, "updates rows it never saw written")
            rows = net.upserts
        case MultisetPlan():
            if len(net.deletes):
                raise _broken(schema, "deletes rows it never saw written")
            counts = net.inserts[COUNT].to_numpy()
            rows = net.inserts.drop_columns([COUNT]).take(pa.array(np.repeat(np.arange(len(counts)), counts)))
        case InsertPlan():
            rows = net.rows
    return rows if OUTLIERS in log.column_names else rows.select(range(len(schema.columns)))


def _sorted(log: pa.Table) -> pa.Table:
    """In stream order, copied rows first: a transaction may carry the LSN of the snapshot it followed."""
    is_streamed = pc.not_equal(log[OP], "r")
    keys = pa.table([is_streamed.cast(pa.uint8()), *(log[name] for name in _ORDER)], names=["streamed", *_ORDER])
    by = [(name, "ascending") for name in keys.column_names]
    return log.take(pc.sort_indices(keys, sort_keys=by))


_ORDER = (COMMIT_LSN, ORDINAL, OP)


def _since_last_truncate(log: pa.Table) -> pa.Table:
    cuts = np.flatnonzero(pc.equal(log[OP], OP_TRUNCATE).to_numpy())
    return log.slice(int(cuts[-1]) + 1) if len(cuts) else log


def _change_layout(schema: TableSchema, log: pa.Table) -> pa.Table:
    """The log's rows as the changes they were: a ``d`` and a ``u`` of one place are one update again."""
    op = _letters(log)
    lsn, ordinal = log[COMMIT_LSN].to_numpy(), log[ORDINAL].to_numpy()
    follows = np.zeros(len(log), np.bool_)
    follows[1:] = (lsn[1:] == lsn[:-1]) & (ordinal[1:] == ordinal[:-1]) & (op[1:] == OP_UPDATE) & (op[:-1] == OP_DELETE)
    is_old_half = np.zeros(len(log), np.bool_)
    is_old_half[:-1] = follows[1:]
    kept = np.flatnonzero(~is_old_half)
    at = pa.array(kept)
    has_old = (op == OP_DELETE) | follows
    old = pa.array(np.where(follows, np.arange(len(log)) - 1, np.arange(len(log)))[kept])
    columns = [_column(log, column.name) for column in schema.columns]
    is_deleted = (op == OP_DELETE)[kept]
    return pa.table(
        {
            "op": pa.array(op[kept]),
            "commit_lsn": single(log[COMMIT_LSN]).take(at),
            "ordinal": single(log[ORDINAL]).take(at),
            "xid": single(log[XID]).take(at),
            "committed_at": single(log[COMMITTED_AT]).take(at),
            "unchanged": _indexes(schema, log).take(at),
            "before": _struct([(columns[i][0], columns[i][1].take(old)) for i in schema.key], ~has_old[kept]),
            "after": _struct([(field, values.take(at)) for field, values in columns], is_deleted),
            "outliers": _outliers(schema, log).take(at),
        }
    )


def _letters(log: pa.Table) -> npt.NDArray[np.uint8]:
    codes = pc.index_in(single(log[OP]), pa.array(["r", "i", "u", "d"]))
    return np.array([OP_COPY, OP_INSERT, OP_UPDATE, OP_DELETE], np.uint8)[codes.to_numpy()]


def _column(log: pa.Table, name: str) -> tuple[pa.Field, pa.Array]:
    at = log.schema.get_field_index(name)
    if at < 0:
        return pa.field(name, pa.null()), pa.nulls(len(log))
    return log.schema.field(at), single(log.column(at))


def _struct(columns: list[tuple[pa.Field, pa.Array]], absent: npt.NDArray[np.bool_]) -> pa.Array:
    if not columns:
        return pa.nulls(len(absent), pa.struct([]))
    fields = [field.with_nullable(True) for field, _ in columns]
    return pa.StructArray.from_arrays([values for _, values in columns], fields=fields, mask=pa.array(absent))


def _indexes(schema: TableSchema, log: pa.Table) -> pa.Array:
    """``unchanged`` with column indexes for names; a column dropped since is left out."""
    lists = single(log[UNCHANGED])
    rows, found = _known(schema, lists, pc.list_flatten(lists))
    return lists_of(rows, found.cast(pa.uint16()), len(log), UNCHANGED_TYPE)


def _outliers(schema: TableSchema, log: pa.Table) -> pa.Array:
    if OUTLIERS not in log.column_names:
        return pa.nulls(len(log), OUTLIER_TYPE)
    lists = single(log[OUTLIERS])
    flat = pc.list_flatten(lists)
    known = pc.is_in(flat.field(0), pa.array([column.name for column in schema.columns], pa.string()))
    rows, found = _known(schema, lists, flat.field(0))
    cells = pa.StructArray.from_arrays(
        [found.cast(pa.uint16()), flat.field(1).filter(known)], fields=list(OUTLIER_TYPE.value_type)
    )
    return lists_of(rows, cells, len(log), OUTLIER_TYPE)


def _known(schema: TableSchema, lists: pa.Array, names: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Row and column index of every cell whose column still exists."""
    index = pc.index_in(names, pa.array([column.name for column in schema.columns], pa.string()))
    rows = pc.list_parent_indices(lists).filter(index.is_valid())
    return rows.to_numpy(zero_copy_only=False).astype(np.int64), index.drop_null()


def _broken(schema: TableSchema, what: str) -> Refused:
    return Refused(
        f"the append log {what}", advice="Rows of the log were lost; copy the table again", table=schema.name
    )
