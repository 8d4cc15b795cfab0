"""One table's memory: immutable runs of Arrow columns ordered by the hash of the key, searched newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.schema import TableSchema
from wallaby.transform.columns import value_bytes
from wallaby.transform.grouping import Ids, group_ids, last_of_each
from wallaby.transform.key_hash import Hashes, key_hashes
from wallaby.transform.unchanged import Known

Mask = npt.NDArray[np.bool_]

_RUN_BYTES: Final = 4096
"""What a run costs beside its columns, generously."""


@dataclass(frozen=True, slots=True)
class Run:
    """Entries ordered by ``hashes``; each key at most once. Column k of ``is_known`` is the table's k-th toastable.

    Of a row that is gone nothing is known; the entry only hides older ones.
    """

    number: int
    hashes: Hashes
    keys: tuple[pa.Array, ...]
    known: Known
    is_known: Mask
    is_gone: Mask

    @property
    def nbytes(self) -> int:
        arrays = [*self.keys, *self.known.values.values(), *self.known.texts.values()]
        own = self.hashes.nbytes + self.is_known.nbytes + self.is_gone.nbytes
        return _RUN_BYTES + own + sum(array.nbytes for array in arrays)


@dataclass(slots=True)
class Runs:
    """One table's runs, oldest first."""

    schema: TableSchema
    columns: tuple[int, ...]
    runs: list[Run] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self.runs)

    def find(self, keys: Sequence[pa.Array], count: int) -> tuple[Ids, Ids]:
        """Run and row of each key's newest entry, also one that says the row is gone; -1 where there is none."""
        hashes = key_hashes(keys, count)
        at_run, at_row = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        pending = np.arange(count, dtype=np.int64)
        for k in reversed(range(len(self.runs))):
            run = self.runs[k]
            row = _rows_of(run, keys, hashes, pending)
            is_hit = row >= 0
            at_run[pending[is_hit]], at_row[pending[is_hit]] = k, row[is_hit]
            pending = pending[~is_hit]
        return at_run, at_row

    def sizes(self, at_run: Ids, at_row: Ids) -> Ids:
        """What the values of each entry take; 0 where there is none."""
        sizes = np.zeros(len(at_run), np.int64)
        for k, run in enumerate(self.runs):
            hits = np.flatnonzero(at_run == k)
            for column in run.known.values.values():
                sizes[hits] += value_bytes(column)[at_row[hits]]
        return sizes

    def may_hold(self, hashes: Hashes) -> Mask:
        """False for keys that no run has an entry of."""
        found = np.zeros(len(hashes), np.bool_)
        for run in self.runs:
            at = np.searchsorted(run.hashes, hashes)
            found |= run.hashes[np.minimum(at, len(run.hashes) - 1)] == hashes
        return found

    def add(self, run: Run, *, bytes_max: int) -> None:
        runs = self.runs
        runs.append(run)
        while (
            len(runs) > 1 and runs[-2].nbytes < 2 * runs[-1].nbytes and runs[-2].nbytes + runs[-1].nbytes <= bytes_max
        ):
            newer, older = runs.pop(), runs.pop()
            merged = _merged(older, newer, is_oldest=not runs)
            if len(merged.hashes):
                runs.append(merged)


def _rows_of(run: Run, keys: Sequence[pa.Array], hashes: Hashes, which: Ids) -> Ids:
    """Per key of ``which``, its row in the run, or -1: found by hash, then compared."""
    row = np.full(len(which), -1, np.int64)
    at = np.searchsorted(run.hashes, hashes[which], side="left")
    end = np.searchsorted(run.hashes, hashes[which], side="right")
    trying = np.flatnonzero(at < end)
    while len(trying):
        mine, theirs = pa.array(which[trying]), pa.array(at[trying])
        pairs = [pa.concat_arrays([key.take(mine), own.take(theirs)]) for key, own in zip(keys, run.keys, strict=True)]
        ids = group_ids(pairs, 2 * len(trying))
        is_equal = ids[: len(trying)] == ids[len(trying) :]
        row[trying[is_equal]] = at[trying[is_equal]]
        trying = trying[~is_equal]
        at[trying] += 1
        trying = trying[at[trying] < end[trying]]
    return row


def _merged(older: Run, newer: Run, *, is_oldest: bool) -> Run:
    """Both runs' entries, the newer of each key; below the oldest run nothing is left that an entry could end."""
    keys = [pa.concat_arrays(pair) for pair in zip(older.keys, newer.keys, strict=True)]
    hashes = np.concatenate([older.hashes, newer.hashes])
    is_gone = np.concatenate([older.is_gone, newer.is_gone])
    kept = last_of_each(group_ids(keys, len(hashes)))
    if is_oldest:
        kept = kept[~is_gone[kept]]
    order = kept[np.argsort(hashes[kept], kind="stable")]
    at = pa.array(order)
    return Run(
        number=newer.number,
        hashes=hashes[order],
        keys=tuple(key.take(at) for key in keys),
        known=rows_at(joined([older.known, newer.known]), at),
        is_known=np.concatenate([older.is_known, newer.is_known])[order],
        is_gone=is_gone[order],
    )


def rows_at(known: Known, at: pa.Array) -> Known:
    return Known(
        len(at),
        {i: column.take(at) for i, column in known.values.items()},
        {i: column.take(at) for i, column in known.texts.items()},
    )


def joined(parts: Sequence[Known]) -> Known:
    """One after the other; all have the same value columns."""
    some = parts[0]
    values = {i: pa.concat_arrays([part.values[i] for part in parts]) for i in some.values}
    with_text = {i for part in parts for i in part.texts}
    texts = {
        i: pa.concat_arrays([part.texts.get(i, pa.nulls(part.rows, pa.string())) for part in parts]) for i in with_text
    }
    return Known(sum(part.rows for part in parts), values, texts)
