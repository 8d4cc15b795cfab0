"""Finding the rows of given keys in a table's files, at a cost that follows the keys and not the table.

What is learnt of a data file (`sinks.row_index`), and which of its rows position delete files have taken away, is kept
in a memory of bounded size; what does not fit is read again. A file whose bounds say that it holds none of the keys is
not looked into.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import DateType, IcebergType, IntegerType, LongType

from sinks.iceberg.errors import Doing, translated
from sinks.iceberg.types import from_stored
from sinks.row_index import ArrayMemory, Asked, Positions, are_equal, are_true, index_of
from wallaby.errors import Refused
from wallaby.schema import TableSchema
from wallaby.transform.columns import single
from wallaby.transform.grouping import group_ids
from wallaby.transform.mirror import Patch

MANIFEST_ENTRIES_MAX: Final = 20_000
"""Entries of manifests kept in memory, over all tables: a few tens of megabytes."""

_FALSE: Final = b"\x00"
"""A bound of a boolean column."""
_NONE: Final = np.zeros(0, np.int64)
_ORDERED: Final = (IntegerType, LongType, DateType)


class Memory(ArrayMemory):
    """Arrays by name, at most ``bytes_max`` of them, and what manifests say; the longest unused go first."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._entries: OrderedDict[str, list[ManifestEntry]] = OrderedDict()
        self._entry_count = 0

    def entries(self, io: FileIO, manifest: ManifestFile) -> list[ManifestEntry]:
        """The live entries of a manifest, which never changes; not to be changed."""
        path = manifest.manifest_path
        if path in self._entries:
            self._entries.move_to_end(path)
            return self._entries[path]
        found = self._entries[path] = manifest.fetch_manifest_entry(io, discard_deleted=True)
        self._entry_count += len(found)
        while self._entry_count > MANIFEST_ENTRIES_MAX:
            _, dropped = self._entries.popitem(last=False)
            self._entry_count -= len(dropped)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one file: their places in the file, ascending, and which of the asked keys each has."""

    file: DataFile
    positions: Positions
    keys: Positions


class LiveFiles:
    """The data files of one snapshot, with those a commit has added so far and the rows it has taken away."""

    def __init__(self, table: Table, memory: Memory) -> None:
        self.table = table
        self._memory = memory
        self._deletes: list[ManifestEntry] = []
        self._taken: dict[str, list[Positions]] = defaultdict(list)
        self._added: list[DataFile] = []
        self._committed: list[tuple[DataFile, int]] = []
        snapshot = table.current_snapshot()
        with translated(Doing.READ, table=".".join(table.name())):
            for manifest in snapshot.manifests(table.io) if snapshot else ():
                for entry in memory.entries(table.io, manifest):
                    self._remember(entry)
        self._gone: dict[str, list[Positions]] | None = None

    def rebase(self, table: Table) -> bool:
        """Go on upon ``table``, which holds the same rows in other files. False, and nothing is changed, when a file is
        gone of which this commit takes rows away."""
        fresh = LiveFiles(table, self._memory)
        if self._taken.keys() - {file.file_path for file in (*fresh.committed, *self._added)}:
            return False
        self.table, self._committed = table, fresh._committed
        self._deletes, self._gone = fresh._deletes, fresh._gone
        return True

    @property
    def added(self) -> tuple[DataFile, ...]:
        """The files added so far."""
        return tuple(self._added)

    @property
    def committed(self) -> tuple[DataFile, ...]:
        """The data files of the snapshot."""
        return tuple(file for file, _ in self._committed)

    @property
    def delete_files(self) -> tuple[DataFile, ...]:
        """The position delete files of the snapshot."""
        return tuple(entry.data_file for entry in self._deletes)

    @property
    def taken(self) -> dict[str, Positions]:
        """By path, the rows taken away so far, ascending."""
        return {path: np.unique(np.concatenate(places)) for path, places in self._taken.items()}

    @property
    def files(self) -> Iterator[DataFile]:
        """All live data files."""
        yield from (file for file, _ in self._committed)
        yield from self._added

    def add(self, files: Iterable[DataFile]) -> None:
        """Files this commit adds: from now on they are looked into, too."""
        self._added += files

    def take_away(self, found: Iterable[Found]) -> None:
        """Rows this commit deletes: from now on they are not found any more."""
        for one in found:
            if len(one.positions):
                self._taken[one.file.file_path].append(one.positions)

    def find(self, names: tuple[str, ...], keys: list[pa.Array], *, only: str | None = None) -> list[Found]:
        """The live rows whose columns ``names`` equal one of ``keys`` (arrays of one length, no nulls).

        ``only`` names a boolean column that must be true, too; files whose bounds say that it nowhere is are left out.
        """
        if not len(keys[0]):
            return []
        asked = Asked.of(keys)
        fields = [self.table.schema().find_field(name) for name in names]
        has_bounds = asked.numbers is not None and isinstance(fields[0].field_type, _ORDERED)
        flag = None if only is None else self.table.schema().find_field(only)
        marks = ("keys" if flag is None else f"keys of {flag.field_id}", *(str(field.field_id) for field in fields))
        found = []
        for file in self.files:
            if flag is not None and (file.upper_bounds or {}).get(flag.field_id) == _FALSE:
                continue
            if has_bounds and not _may_hold(file, fields[0].field_id, fields[0].field_type, asked):
                continue
            types = [key.type for key in keys]
            held, places = self._memory.get((file.file_path, *marks), partial(self._hashed, file, names, types, only))
            one = Found(file, *asked.among(held, places))
            if not len(one.positions):
                continue
            one = self._live(one if asked.is_exact else self._compared(one, names, keys))
            if len(one.positions):
                found.append(one)
        return found

    def find_rows(self, names: tuple[str, ...], rows: list[pa.Array]) -> Iterator[Found]:
        """Per file the live rows equal in all of ``names`` to one of ``rows`` (nulls equal), which are ``keys``."""
        for file in self.files:
            read = self.scan(file, names)
            with translated(Doing.READ, table=".".join(self.table.name())):
                held = [single(from_stored(column, row.type)) for column, row in zip(read.columns, rows, strict=True)]
            total = len(held[0])
            ids = group_ids([pa.concat_arrays(pair) for pair in zip(held, rows, strict=True)], total + len(rows[0]))
            order = np.argsort(ids[total:], kind="stable")
            wanted = ids[total:][order]
            at = np.searchsorted(wanted, ids[:total])
            is_found = (at < len(wanted)) & (wanted[np.minimum(at, len(wanted) - 1)] == ids[:total])
            yield self._live(Found(file, np.flatnonzero(is_found), order[at[is_found]]))

    def read(self, names: tuple[str, ...], found: Found) -> pa.Table:
        """The columns ``names`` of the found rows, in the table's own types and the order of ``found``."""
        return self.scan(found.file, names).take(pa.array(found.positions))

    def scan(self, file: DataFile, names: tuple[str, ...] | None = None) -> pa.Table:
        """Columns of all rows of a file, deleted ones too, in file order and the table's present shape."""
        schema = self.table.schema()
        if names is not None:
            ids = {name: schema.find_field(name).field_id for name in names}
            schema = Schema(*(field for field in schema.fields if field.field_id in set(ids.values())))
        with translated(Doing.READ, table=".".join(self.table.name())):
            scan = ArrowScan(self.table.metadata, self.table.io, schema, AlwaysTrue())
            rows = scan.to_table([FileScanTask(file)])
        return rows if names is None else rows.select([rows.schema.names.index(name) for name in names])

    def deleted(self, file: DataFile) -> Positions:
        """The rows of ``file`` that are gone, by what is committed and by this commit."""
        places = [*self._committed_deletes().get(file.file_path, ()), *self._taken.get(file.file_path, ())]
        return np.unique(np.concatenate(places)) if places else _NONE

    def _remember(self, entry: ManifestEntry) -> None:
        match entry.data_file.content:
            case DataFileContent.DATA:
                self._committed.append((entry.data_file, entry.sequence_number or 0))
            case DataFileContent.POSITION_DELETES:
                self._deletes.append(entry)
            case _:
                raise Refused(
                    "the table has equality deletes, which wallaby cannot apply",
                    advice="Another writer made them: compact the table with its own tool, or copy it again",
                    table=".".join(self.table.name()),
                )

    def _live(self, found: Found) -> Found:
        gone = self.deleted(found.file)
        if len(gone):
            is_live = ~np.isin(found.positions, gone)
            found = Found(found.file, found.positions[is_live], found.keys[is_live])
        order = np.argsort(found.positions, kind="stable")
        return Found(found.file, found.positions[order], found.keys[order])

    def _compared(self, found: Found, names: tuple[str, ...], keys: list[pa.Array]) -> Found:
        """Only those whose keys are equal, not just their hashes."""
        rows = self.read(names, found)
        held = [_as_key(rows.column(number), key.type) for number, key in enumerate(keys)]
        is_equal = are_equal(held, [key.take(pa.array(found.keys)) for key in keys])
        return Found(found.file, found.positions[is_equal], found.keys[is_equal])

    def _hashed(
        self, file: DataFile, names: tuple[str, ...], types: list[pa.DataType], only: str | None
    ) -> tuple[npt.NDArray[np.generic], ...]:
        """The file's key hashes, sorted, and the place of each; of the rows where ``only`` is true."""
        rows = self.scan(file, names if only is None else (*names, only))
        columns = [_as_key(rows.column(number), kind) for number, kind in enumerate(types)]
        is_valid = np.ones(rows.num_rows, np.bool_) if only is None else are_true(rows.column(len(names)))
        return index_of(columns, is_valid)

    def _committed_deletes(self) -> dict[str, list[Positions]]:
        if self._gone is None:
            gone: dict[str, list[Positions]] = defaultdict(list)
            with translated(Doing.READ, table=".".join(self.table.name())):
                for entry in self._deletes:
                    for path, places in self._read_deletes(entry.data_file):
                        gone[path].append(places)
            self._gone = gone
        return self._gone

    def _read_deletes(self, file: DataFile) -> Iterator[tuple[str, Positions]]:
        """The places a position delete file names, by path of the data file."""

        def read() -> tuple[npt.NDArray[np.generic], ...]:
            with self.table.io.new_input(file.file_path).open() as stream:
                rows = pq.read_table(pa.PythonFile(stream) if not hasattr(stream, "read_at") else stream)
            paths = single(rows.column("file_path")).dictionary_encode()
            places = single(rows.column("pos")).to_numpy(zero_copy_only=False).astype(np.int64)
            numbers = paths.indices.to_numpy(zero_copy_only=False)
            return np.array(paths.dictionary.to_pylist(), np.str_), numbers.astype(np.int32), places

        names, numbers, places = self._memory.get((file.file_path, "deletes"), read)
        for number, name in enumerate(names.tolist()):
            yield name, places[numbers == number].astype(np.int64)


def held_columns(schema: TableSchema, patch: Patch, parts: list[pa.Table]) -> pa.Table:
    """What ``parts`` of the table's rows hold of a patch's key columns and of those it lacks, in the source's types."""
    columns = (*schema.key, *patch.missing)
    names = [schema.columns[i].name for i in columns]
    kinds = [patch.rows.schema.field(i).type for i in columns]
    with translated(Doing.READ, table=schema.name):
        arrays = [
            pa.chunked_array([c for part in parts for c in from_stored(part.column(name), kind).chunks], kind)
            for name, kind in zip(names, kinds, strict=True)
        ]
    return pa.table(arrays, names=names)


def _as_key(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A table's column in the type of a key, which may be a narrower integer: those are equal as numbers."""
    return single(column) if pa.types.is_integer(kind) else single(from_stored(column, kind))


def _may_hold(file: DataFile, field_id: int, kind: IcebergType, asked: Asked) -> bool:
    """False when the file's bounds of the first key column say that none of ``asked`` is in it."""
    lower, upper = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
    if lower is None or upper is None:
        return True
    # A bound written while the column was narrower has fewer bytes.
    low, high = (from_bytes(IntegerType() if len(bound) == 4 else kind, bound) for bound in (lower, upper))
    return asked.may_be_between(low, high)


__all__ = ["Found", "LiveFiles", "Memory", "Positions", "held_columns"]
