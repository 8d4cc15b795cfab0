"""The rows of a mirror by their keys: in which file each is, at which place, and whether it is still there.

Keys are found by `sinks.row_index`. A file whose bounds say that it holds none of them is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinks.delta.errors import Doing, translated
from sinks.delta.folder import TableFolder
from sinks.delta.log import DataFile, Log
from sinks.delta.vectors import identity, place_of, positions_in
from sinks.row_index import ArrayMemory, Arrays, Asked, Positions, are_equal, index_of
from wallaby.transform.columns import single

_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one file: their places in the file, ascending, and which of the asked keys each has."""

    file: DataFile
    positions: Positions
    keys: Positions


class LiveRows:
    """The rows of the version a log stands at. ``fields`` are the table's columns in Arrow, ``partitions`` some."""

    def __init__(
        self, log: Log, folder: TableFolder, memory: ArrayMemory, fields: pa.Schema, partitions: tuple[str, ...]
    ) -> None:
        self._log = log
        self._folder = folder
        self._memory = memory
        self._fields = fields
        self._partitions = partitions

    def find(self, keys: pa.Table) -> list[Found]:
        """The live rows whose columns equal one of ``keys``: without nulls, in the table's names and types."""
        if not keys.num_rows:
            return []
        names, columns = keys.column_names, [single(column) for column in keys.columns]
        asked = Asked.of(columns)
        found = []
        for file in self._log.files:
            if not _may_hold(file, keys.schema.field(0), asked):
                continue
            hashes, places = self._memory.get(self.index_name(file.key, keys.schema), partial(self._index, file, names))
            one = self._live(Found(file, *asked.among(hashes, places)))
            if len(one.positions) and not asked.is_exact:
                one = self._compared(one, names, columns)
            if len(one.positions):
                found.append(one)
        return found

    def index_name(self, file: str, keys: pa.Schema) -> tuple[str, ...]:
        """What the index of a file is held by."""
        return (self._folder.root, file, "keys", *keys.names, *(str(kind) for kind in keys.types))

    def read(self, names: list[str], found: list[Found]) -> pa.Table:
        """Columns of found rows, one file after the other."""
        parts = [part for one in found for part in self.taken(one.file, names, one.positions)]
        return pa.concat_tables([self._shape(names).empty_table(), *parts])

    def taken(self, file: DataFile, names: list[str], positions: Positions) -> Iterator[pa.Table]:
        """Columns of the rows at ``positions``, ascending. Files of others may be large: of those without such rows no
        row group is read, and of others one after the other."""
        with translated(Doing.WORK, table=self._folder.table), self._folder.open(file.path) as source:
            parquet = pq.ParquetFile(source)
            first = 0
            for group in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(group).num_rows
                start, end = np.searchsorted(positions, [first, first + count])
                if start < end:
                    rows = self._rows(file, names, parquet, partial(parquet.read_row_group, group), count)
                    yield rows.take(pa.array(positions[start:end] - first))
                first += count

    def scan(self, file: DataFile, names: list[str]) -> pa.Table:
        """Columns of all rows of a file, those that are gone, too, in file order and the table's types."""
        with translated(Doing.WORK, table=self._folder.table), self._folder.open(file.path) as source:
            parquet = pq.ParquetFile(source)
            return self._rows(file, names, parquet, parquet.read, parquet.metadata.num_rows)

    def _rows(
        self, file: DataFile, names: list[str], parquet: pq.ParquetFile, read: Callable[..., pa.Table], count: int
    ) -> pa.Table:
        """What ``read`` reads of a file, ``count`` rows, in the table's types."""
        stored = set(parquet.schema_arrow.names) - set(self._partitions)
        # A name with a dot brings others along: what is wanted is taken out by its whole name.
        rows = read(columns=[name for name in names if name in stored])
        arrays = [self._column(file, name, rows, stored, count) for name in names]
        return pa.Table.from_arrays(arrays, schema=self._shape(names))

    def rows_of(self, file: DataFile) -> int:
        """How many rows a file has, those that are gone, too."""
        return self.stored_rows(file) if file.rows is None else file.rows

    def stored_rows(self, file: DataFile) -> int:
        """As `rows_of`, by the file itself."""
        with translated(Doing.WORK, table=self._folder.table), self._folder.open(file.path) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)

    def gone(self, file: DataFile) -> Positions:
        """The rows of a file that are gone, ascending."""
        if file.vector is None:
            return _NONE
        name = (self._folder.root, file.key, "gone", identity(file.vector))
        return self._memory.get(name, partial(self._vector, file.vector))[0].astype(np.int64)

    def _vector(self, descriptor: Mapping[str, Any]) -> Arrays:
        place = place_of(descriptor)
        assert place is not None, "vectors outside the table are an obstacle"
        stored = b""
        if place.path:
            with translated(Doing.WORK, table=self._folder.table), self._folder.open(place.path) as source:
                source.seek(place.offset)
                stored = source.read(place.stored_size)
        return (positions_in(place.payload(stored)).astype(np.uint32),)

    def _column(
        self, file: DataFile, name: str, read: pa.Table, stored: set[str], count: int
    ) -> pa.ChunkedArray | pa.Array:
        kind = self._fields.field(name).type
        if name in stored:
            return read.column(read.schema.get_field_index(name)).cast(kind)
        value = file.add["partitionValues"].get(name) if name in self._partitions else None
        # An empty text is the log's other way of saying null.
        return pa.nulls(count, kind) if not value else pa.repeat(partition_value(value, kind), count)

    def _shape(self, names: list[str]) -> pa.Schema:
        return pa.schema([self._fields.field(name) for name in names]).remove_metadata()

    def _index(self, file: DataFile, names: list[str]) -> Arrays:
        rows = self.scan(file, names)
        return index_of([single(column) for column in rows.columns], np.ones(rows.num_rows, np.bool_))

    def _live(self, found: Found) -> Found:
        """Those that are not gone, in the order of the file."""
        gone = self.gone(found.file)
        if len(gone):
            at = np.minimum(np.searchsorted(gone, found.positions), len(gone) - 1)
            is_live = gone[at] != found.positions
            found = Found(found.file, found.positions[is_live], found.keys[is_live])
        order = np.argsort(found.positions, kind="stable")
        return Found(found.file, found.positions[order], found.keys[order])

    def _compared(self, found: Found, names: list[str], keys: list[pa.Array]) -> Found:
        """Only those whose keys are equal, not just their hashes."""
        held = [single(column) for column in self.read(names, [found]).columns]
        is_equal = are_equal(held, [key.take(pa.array(found.keys)) for key in keys])
        return Found(found.file, found.positions[is_equal], found.keys[is_equal])


def partition_value(text: str, kind: pa.DataType) -> pa.Scalar:
    """A partition's value out of what the log has."""
    return pa.array([text], pa.string()).cast(kind)[0]


def partition_texts(values: pa.Array) -> list[str | None]:
    """Partitions' values as the log has them."""
    texts: list[str | None] = values.cast(pa.string()).to_pylist()
    return texts


def _may_hold(file: DataFile, first: pa.Field, asked: Asked) -> bool:
    """False when the file's bounds of the first key column say that none of the asked keys is in it.

    Bounds of text may be cut off, and are not looked at.
    """
    low, high = file.lowest.get(first.name), file.highest.get(first.name)
    if low is None or high is None:
        return True
    if pa.types.is_integer(first.type):
        return asked.may_be_between(int(low), int(high))
    if first.type == pa.date32():
        try:
            return asked.may_be_between(_days(low), _days(high))
        except pa.ArrowException:
            return True  # a year Arrow does not read
    return True


def _days(text: str) -> int:
    return int(pa.array([text], pa.string()).cast(pa.date32()).cast(pa.int32())[0].as_py())


__all__ = ["Found", "LiveRows", "partition_texts", "partition_value"]
