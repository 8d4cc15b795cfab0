"""A table written anew in one commit: its rows stream from the old files into new ones, batch by batch.

For what Delta cannot do in place: renamed, dropped and widened columns, and deletes from a table without a key. Readers
see the old version until the new one is complete, and old versions keep their files. It costs what the table weighs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, write_deltalake

from sinks.delta.ddl import NewColumn
from sinks.delta.errors import Doing, translated
from sinks.delta.log import FEATURE
from sinks.delta.store import NO_HOOKS, shape
from sinks.delta.types import converted
from wallaby.content import row_texts
from wallaby.errors import Refused, RowRefused, WallabyError
from wallaby.schema import TableName, quote_identifier

SCAN_ROWS_MAX: Final = 65_536
"""Rows of an old file in memory at once."""
BATCHES_AHEAD_MAX: Final = 2
"""Batches read before the engine asks for them."""


def reshape(
    table: DeltaTable, columns: tuple[NewColumn, ...], properties: CommitProperties, *, name: TableName
) -> None:
    """Every row of ``table`` in ``columns``, which become the table's."""
    fields = pa.schema([column.field for column in columns])

    def reshaped() -> Iterator[pa.RecordBatch]:
        origins = [column.origin for column in columns if column.origin is not None]
        for batch in scan(table, origins, name=name):
            rows = pa.Table.from_batches([batch])
            arrays = [_values(column, rows, batch.num_rows, name) for column in columns]
            yield from pa.Table.from_arrays(arrays, schema=fields).to_batches()

    overwrite(table, fields, reshaped(), properties, name=name, is_new_schema=True)


def _values(column: NewColumn, rows: pa.Table, count: int, name: TableName) -> pa.ChunkedArray:
    if column.origin is not None:
        return converted(rows.column(column.origin), column.field.type)
    if column.missing is None:
        return pa.chunked_array([pa.nulls(count, column.field.type)])
    try:
        value = _constant(column.missing, column.field.type)
    except pa.ArrowException:
        # Without a cause on purpose: Arrow's text quotes the value.
        raise Refused(
            "the column's default for older rows cannot be read as its type in Delta",
            advice="Copy the table again",
            table=name,
            column=column.field.name,
        ) from None
    return pa.chunked_array([pa.repeat(value, count)])


def _constant(text: str, kind: pa.DataType) -> pa.Scalar:
    if kind == pa.bool_():
        return pa.scalar(text in ("t", "true"), kind)
    return pa.array([text], pa.string()).cast(kind)[0]


def without(
    table: DeltaTable, deletes: pa.Table, counts: npt.NDArray[np.int64], inserts: pa.Table, *, name: TableName
) -> Callable[[CommitProperties], None]:
    """Takes ``counts[i]`` copies of row ``i`` of ``deletes`` away and adds ``inserts``, when called, in one commit.

    ``deletes`` has the columns rows are compared by, ``inserts`` all of the table's; both in the table's types.
    `RowRefused`, with nothing changed, when the table holds fewer copies.
    """
    fields = inserts.schema

    def kept() -> Iterator[pa.RecordBatch]:
        for rows in _remaining(table, fields.names, deletes, counts, name):
            yield from rows.cast(fields).to_batches()
        yield from inserts.to_batches()

    return lambda properties: overwrite(table, fields, kept(), properties, name=name, is_new_schema=False)


def require_copies(table: DeltaTable, deletes: pa.Table, counts: npt.NDArray[np.int64], *, name: TableName) -> None:
    """`RowRefused` where `without` would give it; reads the table and writes nothing."""
    for _ in _remaining(table, deletes.column_names, deletes, counts, name):
        pass


def _remaining(
    table: DeltaTable, columns: list[str], deletes: pa.Table, counts: npt.NDArray[np.int64], name: TableName
) -> Iterator[pa.Table]:
    """The table's rows without the deleted ones, batch by batch; `RowRefused` at the end when some were not found."""
    wanted = pa.concat_arrays(row_texts(deletes).chunks)
    left = counts.copy()
    for batch in scan(table, columns, name=name):
        rows = pa.Table.from_batches([batch])
        compared = rows.select(deletes.column_names).cast(deletes.schema)
        found = pc.index_in(pa.concat_arrays(row_texts(compared).chunks), value_set=wanted)
        is_gone = _taken_away(found.fill_null(-1).to_numpy(zero_copy_only=False), left)
        yield rows.filter(pa.array(~is_gone))
    if left.any():
        raise RowRefused(
            f"{int(left.sum())} rows to be removed are not in the target",
            advice="Somebody changed rows of the target; copy the table again",
            table=name,
        )


def _taken_away(found: npt.NDArray[np.int64], left: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows of a batch go, as ``found`` numbers them among the deletes; ``left`` is counted down."""
    rows = np.flatnonzero(found >= 0)
    order = rows[np.argsort(found[rows], kind="stable")]
    numbers = found[order]
    first = np.searchsorted(numbers, numbers)
    is_gone = np.zeros(len(found), np.bool_)
    gone = order[np.arange(len(order)) - first < left[numbers]]
    is_gone[gone] = True
    np.subtract.at(left, found[gone], 1)
    return is_gone


def scan(
    table: DeltaTable, columns: list[str], *, name: TableName, files: str | None = None
) -> Iterator[pa.RecordBatch]:
    """The loaded version's rows in batches, in no order; ``files`` is a predicate that leaves files out by their
    statistics, not rows."""
    with translated(Doing.WORK, table=name):
        if has_vectors(table):
            yield from _queried(table, columns, files)
            return
        dataset = table.to_pyarrow_dataset(file_pruning_predicate=files)
        scanner = dataset.scanner(columns=columns, batch_size=SCAN_ROWS_MAX, batch_readahead=1, fragment_readahead=1)
        yield from scanner.to_batches()


def has_vectors(table: DeltaTable) -> bool:
    """True when rows of the table may be marked as gone, which the engine tells to its own queries only."""
    return FEATURE in (table.protocol().reader_features or ())


def _queried(table: DeltaTable, columns: list[str], files: str | None) -> Iterator[pa.RecordBatch]:
    selected = ", ".join(quote_identifier(column) for column in columns) or "1"
    query = f"SELECT {selected} FROM target" + (f" WHERE {files}" if files else "")
    fields = shape(table)
    wanted = pa.schema([fields.field(column) for column in columns]).remove_metadata()
    for batch in pa.RecordBatchReader.from_stream(QueryBuilder().register("target", table).execute(query)):
        rows = pa.Table.from_batches([batch])
        yield from rows.cast(wanted).to_batches() if columns else [batch]


def overwrite(
    table: DeltaTable,
    fields: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    properties: CommitProperties,
    *,
    name: TableName,
    is_new_schema: bool,
) -> None:
    """The rows of ``batches`` instead of all the loaded version holds, in one commit. Raises what they raise."""
    source = _Apart(batches)
    partitions: Any = table.metadata().partition_columns or None
    try:
        with translated(Doing.WORK, table=name):
            write_deltalake(
                table,
                pa.RecordBatchReader.from_batches(fields, source),
                mode="overwrite",
                schema_mode="overwrite" if is_new_schema else None,
                partition_by=partitions,
                commit_properties=properties,
                post_commithook_properties=NO_HOOKS,
            )
    except WallabyError:
        # On its way through the engine our own error became text.
        if source.error is not None:
            raise source.error from None
        raise
    finally:
        source.close()


class _Apart:
    """An iterator driven by a thread of its own, a few batches ahead.

    The engine asks for rows from within its runtime, where its own reader of files must not be called.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.error: BaseException | None = None
        self._batches = batches
        self._ready: queue.Queue[pa.RecordBatch | None] = queue.Queue(BATCHES_AHEAD_MAX)
        self._is_closed = self._is_drained = False
        self._thread = threading.Thread(target=self._run, name="wallaby-delta-rewrite", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        batch = None if self._is_drained else self._take()
        if batch is not None:
            return batch
        if self.error is not None:
            raise self.error
        raise StopIteration

    def close(self) -> None:
        """Stop reading, wherever it is."""
        self._is_closed = True
        while not self._is_drained:
            self._take()
        self._thread.join()

    def _take(self) -> pa.RecordBatch | None:
        batch = self._ready.get()
        self._is_drained = batch is None
        return batch

    def _run(self) -> None:
        try:
            for batch in self._batches:
                self._ready.put(batch)
                if self._is_closed:
                    break
        except BaseException as error:  # noqa: BLE001 - raised where the batches are wanted
            self.error = error
        self._ready.put(None)


__all__ = ["SCAN_ROWS_MAX", "has_vectors", "overwrite", "require_copies", "reshape", "scan", "without"]
