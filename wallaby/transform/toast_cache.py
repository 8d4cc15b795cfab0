"""The last known values of TOASTable columns, per table and key, in bounded memory.

What the stream sends of a row is remembered under the row's key; when a later change leaves a value out, it is here,
or it was forgotten: never something else. A row is forgotten when it is deleted, when its key changes (and is
remembered under the new one), when its table is truncated or changes its shape, and, oldest first, when memory runs
out.

Per table there is a row of *runs*, oldest first: immutable Arrow columns ordered by the hash of the key. A batch of
changes adds one run, the newest entry of a key counts, and an entry may say "gone". Neighbouring runs of like size are
merged, so their number stays logarithmic; a merge keeps the newest entry of each key. The oldest runs are dropped when
all of them together exceed the limit; no run grows beyond an eighth of it by merging, so that is also how much is
forgotten at once. A value read from a run that will soon be dropped is written again: what is used stays.

Only columns without a fixed length are remembered, by type and not by what the catalog says of their storage: that may
change while values written before stay as they are. PostgreSQL moves no value of up to 20 bytes out of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from wallaby.pgtypes.layout import Family, layout_of
from wallaby.schema import Column, TableName, TableSchema, TypeKind
from wallaby.transform.columns import value_bytes
from wallaby.transform.grouping import Ids
from wallaby.transform.key_hash import key_hashes
from wallaby.transform.outliers import Outliers
from wallaby.transform.toast_runs import Mask, Run, Runs, joined, rows_at
from wallaby.transform.unchanged import Filled, Gaps, Known, fill, within
from wallaby.window import OP_UPDATE

MOVED_OUT_BYTES_MIN: Final = 21
"""Shorter text and bytes stay in the row: the pointer that would replace them is not smaller."""
_RUN_SHARE: Final = 8
_RUN_BYTES_MAX: Final = 512 << 20
"""Arrow's text columns end at 2 GiB."""
_FIXED: Final = frozenset(
    {
        *(Family.BOOL, Family.INT2, Family.INT4, Family.INT8, Family.OID, Family.FLOAT4, Family.FLOAT8, Family.CHAR),
        *(Family.UUID, Family.DATE, Family.TIME, Family.TIMESTAMP, Family.TIMESTAMPTZ, Family.INTERVAL),
    }
)


def toastable(schema: TableSchema) -> tuple[int, ...]:
    """The columns that are no key and whose type has no fixed length."""
    return tuple(i for i, column in enumerate(schema.columns) if not column.is_key and not _is_fixed(column))


def _is_fixed(column: Column) -> bool:
    is_name = column.type.schema == "pg_catalog" and column.type.name == "name"
    return is_name or column.type.kind is TypeKind.ENUM or layout_of(column.type, column.typmod).family in _FIXED


class ToastCache:
    """Fills the gaps of batches and remembers their values. One thread; batches of a table in stream order.

    Rows whose text and bytes are all shorter than ``value_bytes_min`` are not worth remembering.
    """

    def __init__(self, *, bytes_max: int, value_bytes_min: int = MOVED_OUT_BYTES_MIN) -> None:
        self._bytes_max = bytes_max
        self._value_bytes_min = value_bytes_min
        self._tables: dict[int, Runs] = {}
        self._number = 0

    @property
    def nbytes(self) -> int:
        """What is held now; at most ``bytes_max`` between calls."""
        return sum(table.nbytes for table in self._tables.values())

    def take(self, gaps: Gaps, *, bytes_max: int) -> Filled | None:
        """Fill the gaps of the next changes of their table, adding at most ``bytes_max``, and remember the new rows.

        None when there was nothing to fill.
        """
        schema = gaps.batch.schema
        table = self._tables.get(schema.oid)
        if table is None or table.schema.fingerprint != schema.fingerprint:
            table = self._tables[schema.oid] = Runs(schema, toastable(schema))
        found = self._found(table, gaps, bytes_max)
        self._number += 1
        run = _new_run(self._number, table, gaps, found, self._value_bytes_min)
        filled = fill(gaps, found.known, found.of_gap, bytes_max=bytes_max) if len(gaps) or gaps.key_gaps else None
        if run is not None:
            table.add(run, bytes_max=min(self._bytes_max // _RUN_SHARE, _RUN_BYTES_MAX))
        self._evict()
        return filled

    def forget(self, name: TableName) -> None:
        """Nothing is known of the table any more. Twice is once."""
        self._tables = {oid: table for oid, table in self._tables.items() if table.schema.name != name}

    def _found(self, table: Runs, gaps: Gaps, bytes_max: int) -> _Found:
        """The remembered versions from which the batch's first versions with gaps were made."""
        is_open = (gaps.source < 0) & (gaps.batch.op[gaps.root[gaps.row]] == OP_UPDATE)
        root, number = np.unique(gaps.root[gaps.row[is_open]], return_inverse=True)
        of_gap = np.full(len(gaps), -1, np.int64)
        if len(root) == 0 or not table.runs:
            return _Found(Known(0), of_gap, np.zeros(0, np.bool_))
        at_run, at_row = table.find(gaps.keys(gaps.lineage.old_places()[root]), len(root))
        at_run[~within(table.sizes(at_run, at_row), bytes_max)] = -1
        entry = np.full(len(root), -1, np.int64)
        parts: list[Known] = []
        is_known: list[Mask] = []
        is_old: list[Mask] = []
        done = 0
        for k, run in enumerate(table.runs):
            hits = np.flatnonzero(at_run == k)
            entry[hits] = done + np.arange(len(hits))
            done += len(hits)
            parts.append(rows_at(run.known, pa.array(at_row[hits])))
            is_known.append(run.is_known[at_row[hits]])
            is_old.append(np.full(len(hits), self._is_old(run)))
        slot = np.full(len(gaps.batch.schema.columns), -1, np.int64)
        slot[list(table.columns)] = np.arange(len(table.columns))
        of_gap[is_open] = entry[number]
        hit = np.flatnonzero(of_gap >= 0)
        of_gap[hit] = np.where(np.concatenate(is_known)[of_gap[hit], slot[gaps.column[hit]]], of_gap[hit], -1)
        return _Found(joined(parts), of_gap, np.concatenate(is_old))

    def _is_old(self, run: Run) -> bool:
        newer = sum(
            other.nbytes for table in self._tables.values() for other in table.runs if other.number > run.number
        )
        return newer > self._bytes_max // 2

    def _evict(self) -> None:
        while self.nbytes > self._bytes_max:
            oldest = min(
                (table for table in self._tables.values() if table.runs), key=lambda table: table.runs[0].number
            )
            del oldest.runs[0]


@dataclass(frozen=True, slots=True)
class _Found:
    known: Known
    of_gap: Ids
    """Per gap, the entry of ``known`` that has its value, or -1."""
    is_old: Mask
    """Per entry, whether it will soon be dropped where it is."""


def _new_run(number: int, table: Runs, gaps: Gaps, found: _Found, value_bytes_min: int) -> Run | None:
    """What the batch teaches: the new rows that exist after it, and the keys at which no row stands any more."""
    batch, lineage, final = gaps.batch, gaps.lineage, gaps.lineage.final
    place = _places(table, gaps, found)
    is_supplied = ((place >= 0) & (place < batch.rows)).any(axis=1)
    is_old = ((place >= batch.rows) & np.append(found.is_old, False)[np.maximum(place - batch.rows, -1)]).any(axis=1)
    root = gaps.root[final]
    is_moved = lineage.ids[final] != lineage.ids[lineage.old_places()[root]]
    is_news = is_supplied | is_old | is_moved | (batch.op[root] != OP_UPDATE)
    pools, is_worth = _pools(table, gaps, found.known, value_bytes_min)
    held = np.zeros(len(final), np.bool_)
    for k in range(len(table.columns)):
        held |= (place[:, k] >= 0) & is_worth[k][place[:, k]]
    written = np.flatnonzero(is_news & held)
    gone = np.concatenate([final[is_news & ~held], lineage.deleted])
    keys = gaps.keys(np.concatenate([final[written], gone]))
    hashes = key_hashes(keys, len(written) + len(gone))
    kept = np.ones(len(hashes), np.bool_)
    kept[len(written) :] = table.may_hold(hashes[len(written) :])
    if not kept.any():
        return None
    order = np.flatnonzero(kept)[np.argsort(hashes[kept], kind="stable")]
    at = pa.array(order)
    taken = np.concatenate([place[written], np.full((len(gone), len(table.columns)), -1, np.int64)])[order]
    values, texts = {}, {}
    for k, i in enumerate(table.columns):
        index = pa.array(taken[:, k], mask=taken[:, k] < 0)
        values[i] = pools.values[i].take(index)
        if i in pools.texts:
            texts[i] = pools.texts[i].take(index)
    return Run(
        number=number,
        hashes=hashes[order],
        keys=tuple(key.take(at) for key in keys),
        known=Known(len(order), values, texts),
        is_known=taken >= 0,
        is_gone=order >= len(written),
    )


def _places(table: Runs, gaps: Gaps, found: _Found) -> Ids:
    """Final rows × toastable columns: the change that has the value or, behind those, the entry; -1 when unknown."""
    rows, final = gaps.batch.rows, gaps.lineage.final
    place = np.repeat(final[:, None], len(table.columns), axis=1)
    number = np.full(rows, -1, np.int64)
    number[final] = np.arange(len(final))
    for k, i in enumerate(table.columns):
        cells = np.flatnonzero((gaps.column == i) & (number[gaps.row] >= 0))
        known = np.where(found.of_gap[cells] >= 0, rows + found.of_gap[cells], -1)
        place[number[gaps.row[cells]], k] = np.where(gaps.source[cells] >= 0, gaps.source[cells], known)
    return place


def _pools(table: Runs, gaps: Gaps, known: Known, value_bytes_min: int) -> tuple[Known, list[Mask]]:
    """The toastable columns of the changes' new rows, behind them those of ``known``, and what is worth its memory."""
    rows = gaps.batch.rows
    outliers = Outliers.of(gaps.batch.outliers)
    after = gaps.batch.after_columns()
    values, texts, is_worth = {}, {}, []
    for i in table.columns:
        values[i] = pa.concat_arrays([after[i], known.values[i]]) if known.rows else after[i]
        worth = values[i].is_valid().to_numpy(zero_copy_only=False)
        if layout_of(gaps.batch.schema.columns[i].type).family in (Family.STRING, Family.BYTEA):
            worth &= value_bytes(values[i]) >= value_bytes_min
        own = np.flatnonzero(outliers.column == i)
        if len(own) or i in known.texts:
            entry = np.full(rows, -1, np.int64)
            entry[outliers.row[own]] = own
            theirs = known.texts.get(i, pa.nulls(known.rows, pa.string()))
            texts[i] = pa.concat_arrays([outliers.text.take(pa.array(entry, mask=entry < 0)), theirs])
            worth |= texts[i].is_valid().to_numpy(zero_copy_only=False)
        is_worth.append(worth)
    return Known(rows + known.rows, values, texts), is_worth
