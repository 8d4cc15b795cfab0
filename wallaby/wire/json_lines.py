"""JSON Lines: one object per row, every column a member, values as `wallaby.wire.json` writes them.

The file does not know its columns' types: a reader gives the schema. Nor does it know where it ends: uncompressed and
cut off between two lines it looks whole, which its digest or a compression tells.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from wallaby.errors import ConfigError
from wallaby.flow import WireFormat
from wallaby.wire.errors import detecting, refusing
from wallaby.wire.json import json_texts, quoted_name
from wallaby.wire.json_values import from_texts, text_type
from wallaby.wire.nesting import columnless
from wallaby.wire.options import WireOptions
from wallaby.wire.packing import PackedOutput, unpacked
from wallaby.wire.port import ByteSink
from wallaby.wire.rows import Cells, Octets, Presence, Spans, as_octets, constant, joined, spans, validity
from wallaby.wire.source import Source

FORMAT: Final = WireFormat.JSON
_WRITE_ROWS: Final = 16_384
_READ_ROWS: Final = 16_384
_READ_BYTES: Final = 32 << 20
_LINE_BYTES_MAX: Final = 8 << 30
"""A value has a gigabyte at most, and six times that as JSON of control characters."""


class JsonWriter:
    """See `wallaby.wire.port.RecordWriter`."""

    def __init__(self, sink: ByteSink, schema: pa.Schema, options: WireOptions) -> None:
        self._table = options.table
        self._output = PackedOutput(sink, options.codec(FORMAT))

    @property
    def bytes_written(self) -> int:
        return self._output.bytes

    def add(self, batch: pa.RecordBatch) -> None:
        for start in range(0, batch.num_rows, _WRITE_ROWS):
            with refusing(FORMAT, self._table):
                self._output.write(lines(batch.slice(start, _WRITE_ROWS)))

    @property
    def held_bytes(self) -> int:
        return 0

    def release(self) -> None:
        """Each batch is written at once."""

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        self._output.finish()

    def abandon(self) -> None:
        self._output.abandon()


def lines(rows: pa.RecordBatch) -> Octets:
    """Each row as a JSON object and a line end: every column is a member, null as ``null``."""
    columns: list[Cells] = []
    for i, (name, column) in enumerate(zip(rows.schema.names, rows.columns, strict=True)):
        texts = json_texts(column)
        lead = f"{',' if i else '{'}{quoted_name(name)}:".encode()
        presence = Presence(valid=validity(texts), lead=as_octets(lead), absent=as_octets(lead + b"null"))
        columns.append(Spans(spans(texts), presence))
    end = constant(b"}\n" if columns else b"{}\n")
    return joined([*columns, end], rows.num_rows).data


def read_json(source: Source, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, which must have exactly the columns of ``schema``."""
    if schema is None:
        raise ConfigError(
            "a JSON file does not say of what types its columns are",
            field="schema",
            advice="Give the Arrow schema it was written with",
        )
    with detecting(FORMAT, file=source.name):
        file = io.BufferedReader(unpacked(source), 1 << 20)
    while True:
        with detecting(FORMAT, file=source.name):
            rows = _next_rows(file, schema.names)
            if not rows:
                return
            batch = _batch(rows, schema)
        yield batch


def _next_rows(file: io.BufferedReader, names: list[str]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    size = 0
    while len(rows) < _READ_ROWS and size < _READ_BYTES:
        line = file.readline(_LINE_BYTES_MAX)
        if not line:
            break
        if not line.endswith(b"\n"):
            raise ValueError("a line has no end")
        size += len(line)
        rows.append(_row(line, names))
    return rows


def _row(line: bytes, names: list[str]) -> list[Any]:
    row = parsed_object(line)
    if len(row) != len(names):
        raise ValueError("a row has other columns")
    return [row[name] for name in names]


def parsed_object(text: bytes) -> dict[str, Any]:
    """An object's members, numbers as texts and objects in it as lists of pairs. ValueError when it is none."""
    members = json.loads(
        text, parse_int=str, parse_float=str, parse_constant=_refuse_constant, object_pairs_hook=_Members
    )
    if not isinstance(members, _Members):
        raise ValueError("a row is no object")
    row = dict(members)
    if len(row) != len(members):
        raise ValueError("a member comes twice")
    return row


class _Members(list[tuple[str, Any]]):
    """An object's members in order: an hstore keeps its own."""


def _refuse_constant(name: str) -> None:
    raise ValueError("not a number is no JSON")


def _batch(rows: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    cells = list(zip(*rows, strict=True)) if schema.names else []
    if not cells:
        return columnless(len(rows))
    columns = [
        from_texts(pa.array(values, text_type(field.type)), field.type)
        for values, field in zip(cells, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


__all__ = ["JsonWriter", "lines", "parsed_object", "read_json"]
