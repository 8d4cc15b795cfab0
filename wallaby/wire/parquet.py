"""Parquet: rows are gathered into row groups, pages carry checksums, types Parquet lacks are stand-ins.

What stands in for what: `wallaby.wire.parquet_types`. The Arrow schema travels in the footer, as Arrow's writers put it
there, so that readers who know Arrow get the columns' metadata back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from wallaby.errors import RowRefused
from wallaby.flow import WireFormat
from wallaby.wire.errors import detecting, refusing
from wallaby.wire.nesting import decoded
from wallaby.wire.options import Compression, WireOptions
from wallaby.wire.parquet_types import from_parquet, parquet_schema, to_parquet
from wallaby.wire.port import ByteSink, CountedOutput
from wallaby.wire.source import Source

FORMAT: Final = WireFormat.PARQUET
GATHER_BYTES_MAX: Final = 32 << 20
"""Bytes of rows kept before they become a row group."""
_DIRECT_ROWS: Final = 65_536
"""Batches from this size on become a row group at once, without a copy."""
_DICTIONARY_ROWS_MIN: Final = 4_096
"""A file whose only row group has fewer is written without dictionaries: they cost a third of the time, a page for each
column, and make such a file larger."""
READ_ROWS: Final = 65_536
"""Rows of a batch that is read."""


class ParquetWriter:
    """See `wallaby.wire.port.RecordWriter`."""

    def __init__(self, sink: ByteSink, schema: pa.Schema, options: WireOptions) -> None:
        self._codec = options.codec(FORMAT)
        self._table = options.table
        self._output = CountedOutput(sink)
        self._rows_max = options.row_group_rows
        self._schema = parquet_schema(schema)
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._made_writer: pq.ParquetWriter | None = None

    @property
    def bytes_written(self) -> int:
        return self._output.bytes

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_columns == 0 and batch.num_rows:
            raise RowRefused("Parquet cannot hold rows without any column", table=self._table)
        if batch.num_rows >= _DIRECT_ROWS:
            self.release()
            self._write(batch, has_dictionaries=True)
            return
        copy = batch.serialize()
        self._gathered.append(pa.ipc.read_record_batch(copy, batch.schema))
        self._gathered_rows += batch.num_rows
        self._gathered_bytes += copy.size
        if self._gathered_rows >= self._rows_max or self._gathered_bytes >= GATHER_BYTES_MAX:
            self.release()

    @property
    def held_bytes(self) -> int:
        return self._gathered_bytes

    def release(self) -> None:
        self._flush(has_dictionaries=True)

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        self._flush(has_dictionaries=self._gathered_rows >= _DICTIONARY_ROWS_MIN)
        with refusing(FORMAT, self._table):
            writer = self._writer(has_dictionaries=False)
            if metadata:
                writer.add_key_value_metadata(dict(metadata))
            writer.close()

    def abandon(self) -> None:
        self._gathered.clear()
        self._output.drop()
        if self._made_writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._made_writer.close()

    def _flush(self, *, has_dictionaries: bool) -> None:
        gathered, self._gathered = self._gathered, []
        self._gathered_rows = self._gathered_bytes = 0
        if gathered:
            self._write(*gathered, has_dictionaries=has_dictionaries)

    def _write(self, *batches: pa.RecordBatch, has_dictionaries: bool) -> None:
        with refusing(FORMAT, self._table):
            rows = to_parquet(pa.Table.from_batches(batches), self._schema)
            writer = self._writer(has_dictionaries=has_dictionaries)
            writer.write_table(rows, row_group_size=self._rows_max)

    def _writer(self, *, has_dictionaries: bool) -> pq.ParquetWriter:
        """Made with the first row group, which decides: more follow, or it is large, or it is the whole file."""
        if self._made_writer is None:
            with refusing(FORMAT, self._table):
                self._made_writer = pq.ParquetWriter(
                    pa.PythonFile(self._output, mode="w"),
                    self._schema,
                    compression=None if self._codec is Compression.NONE else self._codec.value,
                    use_dictionary=has_dictionaries,
                    write_page_checksum=True,
                )
        return self._made_writer


def read_parquet(source: Source) -> Iterator[pa.RecordBatch]:
    """The rows in the types they were written in, up to `READ_ROWS` at a time."""
    with detecting(FORMAT, file=source.name):
        file = pq.ParquetFile(source.arrow(), page_checksum_verification=True)
        decoded(file.schema_arrow)
        batches = file.iter_batches(READ_ROWS)
    rows = 0
    while True:
        with detecting(FORMAT, file=source.name):
            batch = next(batches, None)
            if batch is None:
                break
            batch.validate(full=True)
            made = from_parquet(pa.Table.from_batches([batch])).combine_chunks().to_batches()
        for one in made:
            rows += one.num_rows
            yield one
    with detecting(FORMAT, file=source.name):
        if rows != file.metadata.num_rows:
            raise ValueError("rows are missing")


__all__ = ["GATHER_BYTES_MAX", "ParquetWriter", "read_parquet"]
