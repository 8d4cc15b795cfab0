"""History mode: every version a row ever had is a row of the target, with the interval in which it held (SCD type 2).

Each change of a table with a key is one or two *events* on keys (`wallaby.transform.lineage`): a row comes to stand at
a key, or leaves it. A version begins with every row that comes to stand; it ends with the next event of its key,
whichever that is. So one pass over the events of a batch, grouped by key, gives all there is to know:

* a version per change that is not a delete, which is closed already if its key has a later event in the batch;
* per key, its first event: the change that closes the version the target holds open, if it does hold one.

`plan_history` says that in columns. A destination then does, in the transaction of the commit:

1. read what `HistoryPlan.patches` lack from the open versions at their ``origin``, before any write;
2. close the open versions of the keys of `HistoryPlan.closes`: set four columns and ``is_current`` (`closed` does it in
   Arrow, for destinations that write rows anew);
3. insert `HistoryPlan.versions` and the patched ones.

What comes out does not depend on how the stream was cut into batches: a version that is closed in a later batch gets
the very values it would have got in its own. Nothing is compared and nothing folded: an update that changes nothing is
a version too, as the source sent it, and an interval that is empty, because a transaction touched a row twice, is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import ConfigError, Refused
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableName, TableSchema
from wallaby.transform.append import op_letters
from wallaby.transform.columns import Changes, single
from wallaby.transform.grouping import Ids, grouped
from wallaby.transform.lineage import Lineage, events_in_order
from wallaby.transform.mirror import Patch, fill_unchanged, patches_of, row_table
from wallaby.transform.outliers import Outliers
from wallaby.versions import VersionColumns
from wallaby.window import OP_COPY, OP_DELETE, Barrier

CLOSED_BY_TRUNCATE: Final = "t"
NO_VERSIONS: Final = "it holds rows that are no versions of a history"
"""Why a history is not put there."""
VERSIONS: Final = "it holds versions of a history, which another write_mode would destroy"
"""Why nothing else is put there."""
_TIME: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class HistoryPlan:
    """What a batch of changes adds to a table's history. Row tables hold every column of the source in order, then
    ``__outliers`` (as in `wallaby.transform.mirror`), then the columns of `version_fields`."""

    schema: TableSchema
    versions: pa.Table
    """Complete new versions, in stream order."""
    patches: tuple[Patch, ...]
    """New versions that lack columns PostgreSQL did not send: they have the values of the version that is open at
    ``origin`` before anything is written. Several rows may have one origin."""
    closes: pa.Table
    """One row per key of the batch: the key columns, then the columns of `close_fields`. The version open in the target
    ends so; there may be none."""


def version_fields(columns: VersionColumns) -> tuple[pa.Field, ...]:
    """The columns a history has after the source's, in order."""
    kinds = {
        columns.valid_from: (_TIME, False),
        columns.valid_to: (_TIME, True),
        columns.is_current: (pa.bool_(), False),
        columns.opened_by: (pa.string(), False),
        columns.closed_by: (pa.string(), True),
        columns.valid_from_lsn: (pa.uint64(), False),
        columns.valid_from_ordinal: (pa.uint64(), False),
        columns.valid_to_lsn: (pa.uint64(), True),
        columns.valid_to_ordinal: (pa.uint64(), True),
    }
    return tuple(pa.field(name, kinds[name][0], nullable=kinds[name][1]) for name in columns.names)


def close_fields(columns: VersionColumns) -> tuple[pa.Field, ...]:
    """What is set when a version ends, besides ``is_current``."""
    return tuple(field for field in version_fields(columns) if field.name in columns.closing)


def history_schema(schema: TableSchema, columns: VersionColumns) -> pa.Schema:
    """The history's Arrow schema: the source's columns, then those of `version_fields`.

    `Refused` for a table without a key, whose rows have no identity over time; `ConfigError` when a source column has
    the name of one of the history's own.
    """
    if not schema.has_key:
        raise Refused(
            "a table without a key has no history: nothing tells which row another one was before",
            advice="Give the table a primary key, or use write_mode: append",
            table=schema.name,
        )
    taken = set(columns.names).intersection(column.name for column in schema.columns)
    if taken:
        raise ConfigError(
            "history mode needs a column name that the source table uses itself",
            advice="Give the history's column another name with the option history_columns",
            table=schema.name,
            column=", ".join(sorted(taken)),
        )
    return pa.schema([*arrow_schema(schema), *version_fields(columns)])


def holds_versions(names: Iterable[str], schema: TableSchema, columns: VersionColumns) -> bool:
    """True when a target of ``schema`` with the columns ``names`` is a history: to a mirror its versions would be rows
    of the present, which it replaces and deletes."""
    own = set(columns.names)
    return own <= set(names) and own.isdisjoint(column.name for column in schema.columns)


def plan_history(schema: TableSchema, changes: pa.Table, columns: VersionColumns) -> HistoryPlan:
    """The versions ``changes`` (change layout, stream order, one schema version) begin and end.

    `RowRefused` when a key value is outside its Arrow type.
    """
    batch = Changes.of(schema, changes)
    lineage = Lineage.of(batch)
    events = _Events.of(batch, lineage)
    opened = np.flatnonzero(~lineage.is_delete)
    moments = _Moments.of(batch, changes)
    own = _version_columns(batch, moments, events, opened, columns)
    firsts = events.first
    closes = pa.Table.from_arrays(
        [
            *(column.take(pa.array(firsts)) for column in lineage.keys),
            *_close_columns(moments, events.change[firsts], events.letter[firsts]),
        ],
        schema=pa.schema([*batch.key_schema, *close_fields(columns)]),
    )
    outliers = Outliers.of(batch.outliers)
    if batch.has_unchanged is None or not batch.has_unchanged[opened].any():
        entry, place = outliers.of_rows(opened, batch.rows)
        rows = row_table(batch, opened, {}, outliers.moved(entry, place, len(opened)))
        return HistoryPlan(schema, _beside(rows, own), (), closes)
    filled = fill_unchanged(batch, lineage, outliers, opened)
    filled = replace(filled, rows=_beside(filled.rows, own))
    patches = patches_of(batch, lineage, filled, opened, is_new=True)
    versions = filled.rows.filter(pa.array(~filled.is_missing.any(axis=1))) if patches else filled.rows
    return HistoryPlan(schema, versions, patches, closes)


def plan_truncate(barrier: Barrier, columns: VersionColumns) -> pa.Table:
    """One row of `close_fields`: how every open version of the table ends."""
    values = (barrier.committed_at_us, CLOSED_BY_TRUNCATE, int(barrier.commit_lsn), barrier.ordinal)
    fields = close_fields(columns)
    return pa.Table.from_arrays(
        [pa.array([value], field.type) for value, field in zip(values, fields, strict=True)],
        schema=pa.schema(fields),
    )


def closed(rows: pa.Table, closes: pa.Table, which: Ids, columns: VersionColumns) -> pa.Table:
    """``rows`` of a history (any types, columns by name), each ended by the row ``which`` of ``closes`` says."""
    at = pa.array(which)
    for name in columns.closing:
        number = rows.schema.get_field_index(name)
        field = rows.schema.field(number)
        rows = rows.set_column(number, field, single(closes[name]).take(at).cast(field.type))
    number = rows.schema.get_field_index(columns.is_current)
    return rows.set_column(number, rows.schema.field(number), pa.array(np.zeros(rows.num_rows, np.bool_)))


def require_only_copied(is_only_copied: bool, table: TableName) -> None:
    """`Refused` when a history holds more than a copy can bring back, and so must not be emptied."""
    if not is_only_copied:
        raise Refused(
            "the target holds history, which a new copy cannot bring back, so it is not emptied",
            advice="Rename the target to keep what it holds, or drop it, then start again: the history begins anew",
            table=table,
        )


@dataclass(frozen=True, slots=True)
class _Events:
    """By place (see `Lineage`): which change an event is of, and which place holds the next event of its key."""

    change: Ids
    next: Ids
    """-1: none in the batch."""
    letter: npt.NDArray[np.uint8]
    """How the event ends the version that stood at its key."""
    first: Ids
    """Places of the first event of every key, in stream order."""

    @classmethod
    def of(cls, batch: Changes, lineage: Lineage) -> _Events:
        total = len(lineage.ids)
        change = np.concatenate([np.arange(batch.rows, dtype=np.int64), lineage.moved])
        letter = batch.op[change]
        letter[batch.rows :] = OP_DELETE
        events = events_in_order(batch.rows, lineage.moved)
        order, starts = grouped(lineage.ids if events is None else lineage.ids[events])
        place = order if events is None else events[order]
        following = np.full(total, -1, np.int64)
        following[place[:-1]] = np.where(starts[1:], -1, place[1:])
        first = np.sort(order[starts])
        return cls(change, following, letter, first if events is None else events[first])


@dataclass(frozen=True, slots=True)
class _Moments:
    """When and where each change was."""

    committed_at: pa.Array
    commit_lsn: pa.Array
    ordinal: pa.Array
    """0 of a copied row: its number in its copy is no place in the stream."""

    @classmethod
    def of(cls, batch: Changes, changes: pa.Table) -> _Moments:
        numbers = single(changes["ordinal"]).to_numpy(zero_copy_only=False)
        ordinal = pa.array(np.where(batch.op == OP_COPY, np.uint64(0), numbers))
        return cls(single(changes["committed_at"]), single(changes["commit_lsn"]), ordinal)


def _version_columns(
    batch: Changes, moments: _Moments, events: _Events, opened: Ids, columns: VersionColumns
) -> list[tuple[pa.Field, pa.Array]]:
    following = events.next[opened]
    is_open = following < 0
    valid_to, closed_by, to_lsn, to_ordinal = _close_columns(
        moments, events.change[following], events.letter[following], is_open
    )
    at = pa.array(opened)
    arrays = [
        moments.committed_at.take(at),
        valid_to,
        pa.array(is_open),
        op_letters(batch.op[opened]),
        closed_by,
        moments.commit_lsn.take(at),
        moments.ordinal.take(at),
        to_lsn,
        to_ordinal,
    ]
    return list(zip(version_fields(columns), arrays, strict=True))


def _close_columns(
    moments: _Moments, change: Ids, letter: npt.NDArray[np.uint8], absent: npt.NDArray[np.bool_] | None = None
) -> list[pa.Array]:
    """The columns of `close_fields` for versions that end with ``change``; null where ``absent``."""
    at = pa.array(change, mask=absent)
    return [
        moments.committed_at.take(at),
        op_letters(letter, absent),
        moments.commit_lsn.take(at),
        moments.ordinal.take(at),
    ]


def _beside(rows: pa.Table, own: list[tuple[pa.Field, pa.Array]]) -> pa.Table:
    return pa.Table.from_arrays(
        [*rows.columns, *(array for _, array in own)], schema=pa.schema([*rows.schema, *(field for field, _ in own)])
    )


__all__ = [
    "CLOSED_BY_TRUNCATE",
    "NO_VERSIONS",
    "VERSIONS",
    "HistoryPlan",
    "close_fields",
    "closed",
    "history_schema",
    "holds_versions",
    "plan_history",
    "plan_truncate",
    "require_only_copied",
    "version_fields",
]
