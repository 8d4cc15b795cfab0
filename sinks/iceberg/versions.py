"""Histories: ending the versions that are open, at a cost that follows the changed keys.

A version that ends is a row that changes, and data files never do: a position delete takes the open row away, and the
row is written again, ended. Only open rows are looked for (`LiveFiles.find` with ``only``), so that the past of a row,
however long, costs nothing; and of a file only the row groups that hold one are read. What ends is written to files of
its own: whoever asks for current rows skips those by their bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.expressions import EqualTo, NotEqualTo, Or
from pyiceberg.io.pyarrow import _to_requested_schema, pyarrow_to_schema
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from sinks.iceberg.errors import Doing, translated
from sinks.iceberg.files import stored_rows
from sinks.iceberg.keys import Found, LiveFiles, Positions, held_columns
from wallaby.schema import TableSchema
from wallaby.transform.columns import single
from wallaby.transform.history import HistoryPlan, closed
from wallaby.transform.mirror import complete
from wallaby.versions import VersionColumns

ROW_GROUP_ROWS: Final = 1 << 16
"""Rows per row group in the files of a history: what is read to end one version."""
ENDED_BYTES_MAX: Final = 64 << 20
"""Bytes of open versions in memory before those a TRUNCATE ends are written; more by a row group at most."""


class OpenVersions:
    """The open versions of one history, in the files of a commit that is being put together."""

    def __init__(self, live: LiveFiles, columns: VersionColumns) -> None:
        self._live = live
        self._columns = columns

    def end(self, plan: HistoryPlan) -> tuple[pa.Table | None, pa.Table]:
        """Take away what ``plan`` ends. Gives the rows to be written: ended ones in the table's types, and new ones.

        `RowRefused` when a new version lacks a value that no open one has.
        """
        schema = plan.schema
        names = tuple(schema.columns[i].name for i in schema.key)
        keys = [single(plan.closes.column(number)) for number in range(len(names))]
        found = self._live.find(names, keys, only=self._columns.is_current)
        rows = [self._rows(one) for one in found]
        added = [plan.versions, *(complete(schema, patch, held_columns(schema, patch, rows)) for patch in plan.patches)]
        self._live.take_away(found)
        ended = [closed(table, plan.closes, one.keys, self._columns) for table, one in zip(rows, found, strict=True)]
        return pa.concat_tables(ended, promote_options="permissive") if ended else None, _stored(schema, added)

    def end_all(self, closes: pa.Table, *, bytes_max: int = ENDED_BYTES_MAX) -> Iterator[pa.Table]:
        """Take every open version away; gives the rows ended as the one row of ``closes`` says, file by file, of each
        so many row groups at once that they reach ``bytes_max``."""
        for file in list(self._live.files):
            flags = single(self._live.scan(file, (self._columns.is_current,)).column(0))
            is_open = pc.fill_null(flags, False).to_numpy(zero_copy_only=False)
            is_open[self._live.deleted(file)] = False
            places = np.flatnonzero(is_open)
            if not len(places):
                continue
            waiting: list[pa.Table] = []
            for rows in read_row_groups(self._live.table, file, places):
                waiting.append(closed(rows, closes, np.zeros(rows.num_rows, np.int64), self._columns))
                if sum(table.nbytes for table in waiting) >= bytes_max:
                    yield pa.concat_tables(waiting)
                    waiting.clear()
            if waiting:
                yield pa.concat_tables(waiting)
            self._live.take_away([Found(file, places, np.zeros(len(places), np.int64))])

    def _rows(self, found: Found) -> pa.Table:
        return read_rows(self._live.table, found.file, found.positions)


def holds_only_copies(table: Table, columns: VersionColumns) -> bool:
    """True when no row of a history says more than a copy would: nothing has ended, and only copies have begun."""
    names = set(table.schema().column_names)
    if not set(columns.names) <= names:
        return True
    more = Or(NotEqualTo(columns.opened_by, "r"), EqualTo(columns.is_current, False))
    with translated(Doing.READ, table=".".join(table.name())):
        return table.scan(row_filter=more, selected_fields=(columns.is_current,), limit=1).to_arrow().num_rows == 0


def read_rows(table: Table, file: DataFile, positions: Positions) -> pa.Table:
    """The rows of ``file`` at ``positions`` (ascending, at least one), all columns in the table's present shape."""
    return pa.concat_tables(read_row_groups(table, file, positions))


def read_row_groups(table: Table, file: DataFile, positions: Positions) -> Iterator[pa.Table]:
    """As `read_rows`, one row group after the other.

    Reads those that hold the rows and no others; pyiceberg's own scans read files whole.
    """
    with translated(Doing.READ, table=".".join(table.name())), table.io.new_input(file.file_path).open() as stream:
        parquet = pq.ParquetFile(stream if hasattr(stream, "read_at") else pa.PythonFile(stream))
        groups = range(parquet.num_row_groups)
        counts = np.array([parquet.metadata.row_group(number).num_rows for number in groups], np.int64)
        starts = np.cumsum(counts) - counts
        group = np.searchsorted(starts, positions, "right") - 1
        present = pyarrow_to_schema(parquet.schema_arrow, table.name_mapping(), downcast_ns_timestamp_to_us=True)
        for number in np.unique(group).tolist():
            places = positions[group == number] - starts[number]
            [batch] = parquet.read_row_group(number).take(pa.array(places)).combine_chunks().to_batches()
            shaped = _to_requested_schema(
                table.schema(), present, batch, downcast_ns_timestamp_to_us=True, allow_timestamp_tz_mismatch=True
            )
            yield pa.Table.from_batches([shaped])


def _stored(schema: TableSchema, added: list[pa.Table]) -> pa.Table:
    """New versions in the types Iceberg holds, without ``__outliers``."""
    rows = pa.concat_tables(added)
    width = len(schema.columns)
    kept = [*range(width), *range(width + 1, rows.num_columns)]
    return stored_rows((rows.schema.names[i] for i in kept), (rows.column(i) for i in kept))


__all__ = ["ENDED_BYTES_MAX", "ROW_GROUP_ROWS", "OpenVersions", "holds_only_copies", "read_row_groups", "read_rows"]
