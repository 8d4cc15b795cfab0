"""Files of ``wallaby.v1.Batch`` messages as record batches: a batch per message."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.ipc
from google.protobuf.message import DecodeError

from wallaby.flow import WireFormat
from wallaby.transform.append import COMMIT_LSN, COMMITTED_AT, OP, ORDINAL, OUTLIERS, UNCHANGED, XID
from wallaby.v1 import data_pb2, types_pb2
from wallaby.wire.errors import damaged, detecting
from wallaby.wire.json import OPERATIONS
from wallaby.wire.json_lines import parsed_object
from wallaby.wire.json_values import from_texts, text_type
from wallaby.wire.nesting import columnless, decoded
from wallaby.wire.packing import unpacked
from wallaby.wire.protobuf import LOG_NAMES, MESSAGE_BYTES_MAX, is_log
from wallaby.wire.source import Source
from wallaby.wire.varint import read_varint

FORMAT: Final = WireFormat.PROTO
_CHECKSUM_BYTES: Final = 6
"""The last field of a message, with its tag."""
_LETTERS: Final = {word: letter for letter, word in OPERATIONS.items()}
_OWN: Final[dict[str, Callable[[data_pb2.Record], Any]]] = {
    OP: lambda record: _LETTERS[record.operation],
    COMMIT_LSN: lambda record: record.commit_lsn,
    ORDINAL: lambda record: record.ordinal,
    XID: lambda record: record.xid,
    COMMITTED_AT: lambda record: record.committed_at_unix_micros,
    UNCHANGED: lambda record: list(record.unchanged) or None,
    OUTLIERS: lambda record: [{"column": one.column, "text": one.text} for one in record.outliers] or None,
}
"""The log's own columns."""


def read_protobuf(source: Source) -> Iterator[pa.RecordBatch]:
    """The rows in the types they were written in."""
    schema: pa.Schema | None = None
    is_last = False
    with detecting(FORMAT, file=source.name):
        file = unpacked(source)
    while not is_last:
        with detecting(FORMAT, file=source.name):
            message = _message(file, source.name)
            is_last = message.is_last
            if schema is None:
                schema = decoded(pa.ipc.read_schema(pa.py_buffer(message.schema.arrow)))
            found = [] if is_last else _batches(message, schema)
        yield from found
    with detecting(FORMAT, file=source.name):
        if file.read(1):
            raise ValueError("bytes after the last batch")


def _message(file: pa.NativeFile, name: str | None) -> data_pb2.Batch:
    size = read_varint(file.read)
    content = file.read(size) if size <= MESSAGE_BYTES_MAX else b""
    if len(content) < size:
        raise EOFError
    try:
        message = data_pb2.Batch.FromString(content)
    except DecodeError:
        raise damaged(FORMAT, "a batch is none", file=name) from None
    if not message.HasField("crc32") or message.crc32 != zlib.crc32(content[:-_CHECKSUM_BYTES]):
        raise ValueError("a batch is damaged")
    return message


def _batches(message: data_pb2.Batch, schema: pa.Schema) -> list[pa.RecordBatch]:
    if message.wire_format == types_pb2.WIRE_FORMAT_ARROW:
        found = list(pa.ipc.open_stream(message.arrow_stream))
        for batch in found:
            batch.validate(full=True)
            if not batch.schema.equals(schema):
                raise ValueError("a batch has other columns")
        return found
    return [_rows(list(message.records), schema)]


def _rows(records: list[data_pb2.Record], schema: pa.Schema) -> pa.RecordBatch:
    names = frozenset(schema.names)
    rows = [_row(record, names) for record in records]
    if not names:
        return columnless(len(rows))
    has_own = is_log(schema)
    columns = []
    for field in schema:
        if has_own and field.name in LOG_NAMES:
            columns.append(pa.array([_OWN[field.name](record) for record in records], field.type))
        else:
            texts = pa.array([row.get(field.name) for row in rows], text_type(field.type))
            columns.append(from_texts(texts, field.type))
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    batch.validate(full=True)
    return batch


def _row(record: data_pb2.Record, names: frozenset[str]) -> dict[str, Any]:
    """The new row, or the old one of a delete; a member that is not there is null."""
    content = record.before_json or record.after_json
    row = parsed_object(content) if content else {}
    if not names.issuperset(row):
        raise ValueError("a row has other columns")
    return row


__all__ = ["read_protobuf"]
