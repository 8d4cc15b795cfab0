"""Messages ``wallaby.v1.Batch``, each after its length, encoded in columns.

Rows of an append log (`wallaby.transform.append`) become records as the contract has them: the row without the columns
PostgreSQL did not send as a JSON object (`wallaby.wire.json`) in ``after_json``, deleted rows in ``before_json``, and
the log's own columns in fields of their own. Rows of any other shape are loads. A file ends with a batch that says so.

``ProtoPayload.ARROW`` puts an Arrow stream into the batch in place of records: a fraction of the cost on both sides.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from google.protobuf.descriptor import FieldDescriptor

from wallaby.errors import RowRefused
from wallaby.flow import WireFormat
from wallaby.transform.append import (
    COMMIT_LSN,
    COMMITTED_AT,
    LOG_FIELDS,
    OP,
    OP_TRUNCATE,
    ORDINAL,
    OUTLIERS,
    OUTLIERS_FIELD,
    UNCHANGED,
    XID,
)
from wallaby.v1 import data_pb2, types_pb2
from wallaby.wire.errors import refusing
from wallaby.wire.json import OPERATIONS, members, objects, only, without_unchanged
from wallaby.wire.options import ProtoPayload, WireOptions
from wallaby.wire.packing import PackedOutput
from wallaby.wire.port import ByteSink
from wallaby.wire.rows import (
    NOTHING,
    Cells,
    Octets,
    Presence,
    Rows,
    Spans,
    Varints,
    as_octets,
    constant,
    joined,
    spans,
    validity,
)
from wallaby.wire.varint import varint

FORMAT: Final = WireFormat.PROTO
LOG_NAMES: Final = frozenset(field.name for field in (*LOG_FIELDS, OUTLIERS_FIELD))
_BATCH_BYTES: Final = 1 << 20
"""A batch has about this much, or one record: gRPC's clients take four times that."""
_PIECE_BYTES: Final = 1 << 20
"""Rows of about this size are encoded at once."""
MESSAGE_BYTES_MAX: Final = 2**31 - 1
"""No Protobuf library takes a longer one."""
_RECORD: Final = data_pb2.Record.DESCRIPTOR.fields_by_name
_OUTLIER: Final = data_pb2.Outlier.DESCRIPTOR.fields_by_name
_BATCH: Final = data_pb2.Batch.DESCRIPTOR.fields_by_name
_VARINT: Final = 0
_LENGTH: Final = 2


class ProtobufWriter:
    """See `wallaby.wire.port.RecordWriter`."""

    def __init__(self, sink: ByteSink, schema: pa.Schema, options: WireOptions) -> None:
        self._output = PackedOutput(sink, options.codec(FORMAT))
        self._options = options
        self._is_log = is_log(schema)
        head = _head(schema, options)
        self._head = head.SerializeToString()
        head.schema.arrow = schema.serialize().to_pybytes()
        self._first: bytes | None = head.SerializeToString()

    @property
    def bytes_written(self) -> int:
        return self._output.bytes

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows == 0:
            return
        step = max(1, _PIECE_BYTES * batch.num_rows // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, step):
            piece = batch.slice(start, step)
            with refusing(FORMAT, self._options.table):
                if self._options.proto_payload is ProtoPayload.ARROW:
                    self._write(data_pb2.Batch(arrow_stream=_stream(piece)).SerializeToString())
                    continue
                rows = _records(piece, self._options, is_log=self._is_log)
            at = 0
            while at < len(rows):
                until = int(np.searchsorted(rows.ends, rows.ends[at] + _BATCH_BYTES, "right")) - 1
                until = max(at + 1, until)
                self._write(rows.data[rows.ends[at] : rows.ends[until]].data)
                at = until

    @property
    def held_bytes(self) -> int:
        return 0

    def release(self) -> None:
        """Each batch is written at once."""

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        self._write(data_pb2.Batch(is_last=True).SerializeToString())
        self._output.finish()

    def abandon(self) -> None:
        self._output.abandon()

    def _write(self, content: bytes | memoryview) -> None:
        """A message: what every batch begins with, then the content, and a checksum of both."""
        head, self._first = self._first or self._head, None
        checksum = data_pb2.Batch(crc32=zlib.crc32(content, zlib.crc32(head))).SerializeToString()
        size = len(head) + len(content) + len(checksum)
        if size > MESSAGE_BYTES_MAX:
            raise RowRefused("Protobuf cannot hold a row of two gigabytes", table=self._options.table)
        self._output.write(varint(size) + head)
        self._output.write(content)
        self._output.write(checksum)


def is_log(schema: pa.Schema) -> bool:
    """True for the schema of an append log."""
    return all(field.name in schema.names and schema.field(field.name).type == field.type for field in LOG_FIELDS)


def _head(schema: pa.Schema, options: WireOptions) -> data_pb2.Batch:
    batch = data_pb2.Batch(
        wire_format=(
            types_pb2.WIRE_FORMAT_ARROW if options.proto_payload is ProtoPayload.ARROW else types_pb2.WIRE_FORMAT_PROTO
        )
    )
    batch.schema.version = options.schema_version
    if options.table is not None:
        batch.schema.namespace, batch.schema.name = options.table.schema, options.table.name
    for field in _row_fields(schema):
        metadata = field.metadata or {}
        batch.schema.columns.add(
            name=field.name,
            type=metadata.get(b"pg.type", str(field.type).encode()).decode(),
            nullable=metadata.get(b"pg.nullable", b"true" if field.nullable else b"false") == b"true",
        )
    return batch


def _row_fields(schema: pa.Schema) -> list[pa.Field]:
    """The fields of the rows themselves."""
    return [field for field in schema if field.name not in LOG_NAMES] if is_log(schema) else list(schema)


def _stream(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _records(rows: pa.RecordBatch, options: WireOptions, *, is_log: bool) -> Rows:
    """Each row as field ``records`` of a batch."""
    fields = _log_fields(rows, options) if is_log else _load_fields(rows)
    table = "" if options.table is None else options.table.name
    same = data_pb2.Record(table=table, schema_version=options.schema_version).SerializeToString()
    records = joined([constant(same), *fields], rows.num_rows)
    return joined([_nested(_BATCH["records"], records)], rows.num_rows)


def _load_fields(rows: pa.RecordBatch) -> list[Cells]:
    load = data_pb2.Record(operation=OPERATIONS["r"]).SerializeToString()
    return [constant(load), _texts("after_json", objects(members(rows), rows.num_rows))]


def _log_fields(rows: pa.RecordBatch, options: WireOptions) -> list[Cells]:
    letters = rows[OP]
    codes = pc.index_in(letters, pa.array(list(OPERATIONS)))
    if codes.null_count:
        raise RowRefused("a row has an operation that no log has")
    is_truncate, is_delete = pc.equal(letters, OP_TRUNCATE), pc.equal(letters, "d")
    for name in (COMMIT_LSN, ORDINAL, XID, COMMITTED_AT):
        if rows[name].null_count:
            raise RowRefused("a column that is never null has a null", column=name)
    _refuse_nulls(UNCHANGED, rows[UNCHANGED].flatten())
    moments = rows[COMMITTED_AT].view(pa.int64())
    before, after, key = _images(rows, options.key)
    fields: list[Cells] = [
        _texts("operation", pa.array(list(OPERATIONS.values())).take(codes)),
        _texts("before_json", only(is_delete, before)),
        _texts("after_json", only(pc.invert(pc.or_(is_truncate, is_delete)), after)),
        _numbers("timestamp_unix_millis", pa.array(moments.to_numpy(zero_copy_only=False) // 1_000)),
        _list("unchanged", rows[UNCHANGED], _name),
        _numbers("commit_lsn", rows[COMMIT_LSN]),
        _numbers("ordinal", rows[ORDINAL]),
        _numbers("xid", rows[XID]),
        _numbers("committed_at_unix_micros", moments),
    ]
    if key is not None:
        fields.append(_texts("key", only(pc.invert(is_truncate), key)))
    if OUTLIERS in rows.schema.names:
        fields.append(_list("outliers", rows[OUTLIERS], _outlier))
    return fields


def _images(rows: pa.RecordBatch, key: Sequence[str]) -> tuple[pa.Array, pa.Array, pa.Array | None]:
    """Each row as the object of an old row, of a new row, and of its key."""
    own = rows.select([name for name in rows.schema.names if name not in LOG_NAMES])
    names, parts = own.schema.names, members(own)
    # With a key, an old row has nothing else that is known.
    old = [
        part if not key or name in key else only(column.is_valid(), part)
        for name, column, part in zip(names, own.columns, parts, strict=True)
    ]
    new = without_unchanged(names, rows[UNCHANGED], parts)
    by_name = [parts[names.index(name)] for name in sorted(key)]
    count = rows.num_rows
    return objects(old, count), objects(new, count), objects(by_name, count) if by_name else None


def _texts(name: str, texts: pa.Array) -> Spans:
    return _nested(_RECORD[name], spans(texts), validity(texts))


def _numbers(name: str, numbers: pa.Array) -> Varints:
    # Signed ones are sent as their two's complement in 64 bits.
    values = numbers.to_numpy(zero_copy_only=False)
    wide = values.astype(np.int64).view(np.uint64) if np.issubdtype(values.dtype, np.signedinteger) else values
    return Varints(wide.astype(np.uint64), Presence(lead=_tag(_RECORD[name], _VARINT)))


def _list(name: str, lists: pa.Array, encoded: Callable[[FieldDescriptor, pa.Array], Rows]) -> Spans:
    """A repeated field. `RowRefused` for a list that is empty and not null: the contract cannot tell the two apart."""
    if pc.any(pc.equal(pc.list_value_length(lists), 0)).as_py():
        raise RowRefused("Protobuf cannot tell an empty list from none", column=f"__{name}")
    ends = lists.offsets.to_numpy().astype(np.int64)
    items = encoded(_RECORD[name], lists.values.slice(int(ends[0]), int(ends[-1] - ends[0])))
    return Spans(Rows(items.data, items.ends[ends - ends[0]]), Presence(valid=validity(lists)))


def _name(field: FieldDescriptor, names: pa.Array) -> Rows:
    return joined([_nested(field, spans(names))], len(names))


def _outlier(field: FieldDescriptor, outliers: pa.Array) -> Rows:
    column, text = outliers.field(0), outliers.field(1)
    for part in (outliers, column, text):
        _refuse_nulls(OUTLIERS, part)
    inside = [_nested(_OUTLIER["column"], spans(column)), _nested(_OUTLIER["text"], spans(text))]
    return joined([_nested(field, joined(inside, len(outliers)))], len(outliers))


def _refuse_nulls(column: str, values: pa.Array) -> None:
    if values.null_count:
        raise RowRefused("Protobuf has no null in a list", column=column)


def _nested(field: FieldDescriptor, content: Rows, valid: Octets = NOTHING) -> Spans:
    """A field of texts or messages: the tag, how long it is, and the content."""
    presence = Presence(valid=valid, lead=_tag(field, _LENGTH))
    return Spans(content, presence, np.diff(content.ends).astype(np.uint64))


def _tag(field: FieldDescriptor, kind: int) -> Octets:
    return as_octets(varint(field.number << 3 | kind))


__all__ = ["LOG_NAMES", "MESSAGE_BYTES_MAX", "ProtobufWriter", "is_log"]
