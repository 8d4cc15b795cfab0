"""Values the Arrow type cannot hold, carried beside the columns: finding, moving and refusing them in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.errors import RowRefused
from wallaby.lsn import Lsn
from wallaby.schema import TableSchema
from wallaby.window import BEFORE_OUTLIER_BIT, OUTLIER_TYPE


@dataclass(frozen=True, slots=True)
class Outliers:
    """The outliers of one side (``before`` or ``after``) of a batch, flat: row, column index, text; ordered by row."""

    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    text: pa.Array

    @classmethod
    def of(cls, lists: pa.Array, *, before: bool = False) -> Self:
        """Those of the ``outliers`` column ``lists`` (type `OUTLIER_TYPE`) that belong to the asked side."""
        if lists.null_count == len(lists):
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), pa.array([], pa.string()))
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = pc.list_flatten(lists)
        marked = flat.field(0).to_numpy(zero_copy_only=False).astype(np.int64)
        wanted = ((marked & BEFORE_OUTLIER_BIT) != 0) == before
        kept = np.flatnonzero(wanted)
        return cls(rows[kept], marked[kept] & ~BEFORE_OUTLIER_BIT, flat.field(1).take(pa.array(kept)))

    def __len__(self) -> int:
        return len(self.row)

    def moved(self, entry: npt.NDArray[np.int64], row: npt.NDArray[np.int64], rows: int) -> pa.Array:
        """An ``outliers`` column of ``rows`` rows in which outlier ``entry[i]`` belongs to row ``row[i]``."""
        if len(entry) == 0:
            return pa.nulls(rows, OUTLIER_TYPE)
        order = np.lexsort((self.column[entry], row))
        entry, row = entry[order], row[order]
        counts = np.bincount(row, minlength=rows)
        offsets = np.zeros(rows + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        cells = pa.StructArray.from_arrays(
            [pa.array(self.column[entry].astype(np.uint16)), self.text.take(pa.array(entry))],
            fields=list(OUTLIER_TYPE.value_type),
        )
        return pa.ListArray.from_arrays(pa.array(offsets), cells, type=OUTLIER_TYPE, mask=pa.array(counts == 0))

    def of_rows(self, rows: npt.NDArray[np.int64], total: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The outliers of ``rows`` (distinct, out of ``total``): entry numbers, and each one's place in ``rows``."""
        place = np.full(total, -1, np.int64)
        place[rows] = np.arange(len(rows))
        entry = np.flatnonzero(place[self.row] >= 0) if len(self.row) else np.zeros(0, np.int64)
        return entry, place[self.row[entry]]


def refuse_outliers(schema: TableSchema, changes: pa.Table) -> None:
    """Raise `RowRefused` with table, column and commit LSN when any value of ``changes`` is outside its Arrow type.

    For sinks that cannot store such values; one whose flow says otherwise does not call it.
    """
    first = 0
    for chunk in changes["outliers"].chunks:
        if chunk.null_count < len(chunk):
            counts = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
            found = np.flatnonzero(counts)
            if len(found):
                at = int(found[0])
                column = chunk[at][0]["column"].as_py() & ~BEFORE_OUTLIER_BIT
                raise RowRefused(
                    "the destination cannot store a value its column type does not hold (a numeric that is no number, "
                    "a date without end or out of range, an array of another shape)",
                    advice="Change the value on the source, leave the column out of the publication, or choose a "
                    "destination that keeps such values exactly, such as postgres",
                    table=schema.name,
                    column=schema.columns[column].name,
                    commit_lsn=Lsn(changes["commit_lsn"][first + at].as_py()),
                )
        first += len(chunk)
