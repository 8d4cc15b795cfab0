"""Writing data files and position delete files: nobody has heard of them before a snapshot names them."""

from __future__ import annotations

import uuid
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortDirection

from sinks.iceberg.errors import Doing, translated
from sinks.iceberg.keys import Positions
from sinks.iceberg.types import to_stored
from wallaby.errors import RowRefused

_PATH_ID: Final = 2147483546
_PLACE_ID: Final = 2147483545
"""Field ids the format reserves for the columns of position delete files."""
_FIRST_DAY: Final = -719_162
_LAST_DAY: Final = 2_932_896
"""Of the years 1 to 9999, as days after 1970."""
_DAY_US: Final = 86_400_000_000
_TARGET_SIZE: Final = "write.target-file-size-bytes"
_NO_LIMIT: Final = 1 << 60
DELETES_SCHEMA: Final = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": str(_PATH_ID)}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": str(_PLACE_ID)}),
    ]
)


def stored_rows(names: Iterable[str], columns: Iterable[pa.ChunkedArray]) -> pa.Table:
    """Columns in the types Iceberg holds. `RowRefused` for a value beyond them."""
    with translated(Doing.ROWS):
        return pa.table([to_stored(column) for column in columns], names=list(names))


def write_rows(table: Table, rows: pa.Table) -> list[DataFile]:
    """Data files of ``rows`` (types of `stored_rows`, columns by name), split by partition and size, sorted inside.

    `RowRefused` for a value that no bound or partition can have.
    """
    if not rows.num_rows:
        return []
    _require_years(table, rows)
    with translated(Doing.ROWS, table=".".join(table.name())), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pyiceberg")
        rows = _sorted(table, rows)
        files = list(_dataframe_to_data_files(table.metadata, rows, table.io, uuid.uuid4()))
    return [_of_spec(file, table.metadata.default_spec_id) for file in files]


def write_file(table: Table, rows: pa.Table) -> DataFile:
    """One data file of ``rows`` (types of the table, all of one partition), in their order, whatever its size."""
    sizes = {_TARGET_SIZE: str(_NO_LIMIT)}
    metadata = table.metadata.model_copy(update={"properties": dict(table.metadata.properties) | sizes})
    with translated(Doing.ROWS, table=".".join(table.name())), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pyiceberg")
        [file] = _dataframe_to_data_files(metadata, rows, table.io, uuid.uuid4())
    return _of_spec(file, table.metadata.default_spec_id)


def sorted_places(table: Table, rows: pa.Table) -> npt.NDArray[np.int64] | None:
    """The places of ``rows`` in the order the table asks for; None when it asks for none."""
    keys = _sort_keys(table)
    if not keys:
        return None
    return pc.sort_indices(rows, sort_keys=keys).to_numpy().astype(np.int64)


def _require_years(table: Table, rows: pa.Table) -> None:
    """pyiceberg computes bounds and partitions with Python's dates, and fails after the file is written."""
    for number, kind in enumerate(rows.schema.types):
        unit = 1 if pa.types.is_date32(kind) else _DAY_US if pa.types.is_timestamp(kind) else 0
        if not unit:
            continue
        ends = pc.min_max(rows.column(number).cast(pa.int32() if unit == 1 else pa.int64()))
        low, high = ends["min"].as_py(), ends["max"].as_py()
        if low is not None and (low < _FIRST_DAY * unit or high >= (_LAST_DAY + 1) * unit):
            raise RowRefused(
                "Iceberg tables hold dates and times of the years 1 to 9999 here, and this one is outside them",
                advice="Change the value on the source, or leave the column out of the publication",
                table=".".join(table.name()),
                column=rows.schema.names[number],
            )


def _sorted(table: Table, rows: pa.Table) -> pa.Table:
    places = sorted_places(table, rows)
    return rows if places is None else rows.take(pa.array(places))


def _sort_keys(table: Table) -> list[tuple[str, str]]:
    """The table's order as far as it is an order of columns."""
    keys = [
        (table.schema().find_column_name(field.source_id), field.direction)
        for field in table.sort_order().fields
        if str(field.transform) == "identity"
    ]
    return [(name, "descending" if way is SortDirection.DESC else "ascending") for name, way in keys if name]


def write_position_deletes(
    table: Table, taken: Mapping[str, Positions], files: Mapping[str, DataFile]
) -> list[DataFile]:
    """A delete file per partition for the rows ``taken`` (by path, ascending) of ``files`` (by path)."""
    groups: dict[tuple[int, object], list[str]] = defaultdict(list)
    for path in sorted(taken):
        groups[files[path].spec_id, files[path].partition].append(path)
    with translated(Doing.WRITE, table=".".join(table.name())):
        return [_deletes(table, {path: taken[path] for path in paths}, files[paths[0]]) for paths in groups.values()]


def _deletes(table: Table, taken: Mapping[str, Positions], sample: DataFile) -> DataFile:
    names = pa.array(list(taken), pa.string())
    counts = [len(places) for places in taken.values()]
    paths = names.take(pa.array(np.repeat(np.arange(len(counts)), counts)))
    rows = pa.table([paths, pa.array(np.concatenate(list(taken.values())))], schema=DELETES_SCHEMA)
    place = table.location_provider().new_data_location(f"{uuid.uuid4()}-deletes.parquet")
    output = table.io.new_output(place)
    with output.create(overwrite=False) as stream:
        pq.write_table(rows, stream, compression="zstd")
    first, last = names[0].as_py().encode(), names[-1].as_py().encode()
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=place,
        file_format=FileFormat.PARQUET,
        partition=sample.partition,
        record_count=rows.num_rows,
        file_size_in_bytes=len(output),
        lower_bounds={_PATH_ID: first},
        upper_bounds={_PATH_ID: last},
    )
    return _of_spec(file, sample.spec_id)


def _of_spec(file: DataFile, spec_id: int) -> DataFile:
    """The number of the partition spec is not part of a file's entry: its manifest says it."""
    file.spec_id = spec_id
    return file


def remove(table: Table, paths: Iterable[str]) -> None:
    """Delete files no snapshot names; what cannot be deleted stays as refuse."""
    for path in paths:
        # A file system may raise anything; what stays is found by the removal of orphans.
        with suppress(Exception):
            table.io.delete(path)


__all__ = [
    "DELETES_SCHEMA",
    "remove",
    "sorted_places",
    "stored_rows",
    "write_file",
    "write_position_deletes",
    "write_rows",
]
