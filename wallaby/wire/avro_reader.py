"""Avro files of ours, for consumers: blocks are checked here, records are decoded by fastavro (extra ``avro``).

It decodes without logical types, whose Python values are too narrow for PostgreSQL's (dates before Christ, decimals of
76 digits); what the numbers and bytes mean, the Arrow schema in the header tells.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from wallaby.errors import MissingExtra
from wallaby.flow import WireFormat
from wallaby.intervals import INTERVAL, intervals_of
from wallaby.memory import unwritten
from wallaby.wire.avro import ARROW_SCHEMA, CODECS, MAGIC, MARK_BYTES, mark_of, number
from wallaby.wire.avro_schema import INTERVAL_TYPE, avro_names, decimal_bytes
from wallaby.wire.errors import damaged, detecting
from wallaby.wire.nesting import columnless, decoded, exchanged, exchanged_type, is_list
from wallaby.wire.options import Compression
from wallaby.wire.source import Source
from wallaby.wire.varint import read_varint

FORMAT: Final = WireFormat.AVRO
_HEADER_BYTES_MAX: Final = 64 << 20
_BLOCK_BYTES_MAX: Final = 1 << 32
_COMPRESSIONS: Final = {name: codec for codec, name in CODECS.items()}


def read_avro(source: Source) -> Iterator[pa.RecordBatch]:
    """A batch per block, in the types the rows were written in."""
    fastavro = _fastavro()
    with detecting(FORMAT, file=source.name):
        if source.read(len(MAGIC)) != MAGIC:
            raise ValueError("not an Avro file")
        header = _header(source)
        mark = _exactly(source, MARK_BYTES)
        if mark != mark_of(header):
            raise ValueError("a header is damaged")
        codec = _COMPRESSIONS[header["avro.codec"]]
        schema = decoded(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(header[ARROW_SCHEMA], validate=True))))
        rows_schema = {"type": "array", "items": _without_logical_types(json.loads(header["avro.schema"]))}
        try:
            parsed = fastavro.parse_schema(rows_schema)
        except fastavro.schema.SchemaParseException:
            raise damaged(FORMAT, "its schema is none", file=source.name) from None
        names = avro_names(schema.names)
    while source.peek(1):
        with detecting(FORMAT, file=source.name):
            count, size = _long(source), _long(source)
            if count < 0 or not 0 <= size <= _BLOCK_BYTES_MAX:
                raise ValueError("a block of no size")
            block = _unpacked(_exactly(source, size), codec)
            if _exactly(source, MARK_BYTES) != mark:
                raise ValueError("a block has no end")
            batch = _batch(fastavro, parsed, count, block, schema, names)
        yield batch


def _batch(fastavro: Any, parsed: Any, count: int, block: bytes, schema: pa.Schema, names: list[str]) -> pa.RecordBatch:
    """The rows of a block: an array of so many records, once it is framed as one."""
    if not names:
        if block:
            raise ValueError("bytes without a column")
        return columnless(count)
    if count > len(block):
        raise ValueError("more rows than bytes")
    framed = io.BytesIO(number(count) + block + b"\x00")
    rows = fastavro.schemaless_reader(framed, parsed)
    if len(rows) != count or framed.read(1):
        raise ValueError("a block has other rows")
    columns = []
    for name, field in zip(names, schema, strict=True):
        held = exchanged_type(field.type, _held)
        columns.append(exchanged(pa.array([_value(row[name], held) for row in rows], held), field.type, _leaf))
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    batch.validate(full=True)
    return batch


def _held(kind: pa.DataType) -> pa.DataType:
    """The Arrow type that a leaf is decoded to."""
    t = pa.types
    if t.is_date32(kind):
        return pa.int32()
    if t.is_timestamp(kind) or t.is_time64(kind):
        return pa.int64()
    if t.is_decimal(kind):
        return pa.binary(decimal_bytes(kind.precision))
    return INTERVAL_TYPE if kind == INTERVAL else kind


def _value(value: Any, held: pa.DataType) -> Any:
    """A map as its pairs, which Arrow wants."""
    if value is None:
        return None
    if pa.types.is_map(held):
        return [(key, _value(item, held.item_type)) for key, item in value.items()]
    if is_list(held) and pa.types.is_nested(held.value_type):
        return [_value(item, held.value_type) for item in value]
    return value


def _leaf(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind == INTERVAL:
        return intervals_of(array, array.buffers()[0])
    if pa.types.is_decimal(kind):
        return _decimals(array, kind)
    return array.view(kind)


def _decimals(array: pa.Array, kind: pa.DataType) -> pa.Array:
    size, width = array.type.byte_width, kind.bit_width // 8
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8)[: size * len(array)].reshape(-1, size)
    whole = unwritten(len(array) * width, np.uint8).reshape(len(array), width)
    whole[:] = np.where(data[:, :1] >= 128, 255, 0)
    whole[:, :size] = data[:, ::-1]
    return pa.Array.from_buffers(kind, len(array), [array.buffers()[0], pa.py_buffer(whole.tobytes())])


def _unpacked(data: bytes, codec: Compression) -> bytes:
    match codec:
        case Compression.NONE:
            return data
        case Compression.DEFLATE:
            unpacker = zlib.decompressobj(wbits=-15)
            try:
                found = unpacker.decompress(data)
            except zlib.error as error:
                raise ValueError("a block is damaged") from error
            if not unpacker.eof or unpacker.unused_data:
                raise ValueError("a block is damaged")
            return found
        case Compression.SNAPPY:
            packed, checksum = data[:-4], data[-4:]
            size = read_varint(io.BytesIO(packed).read)
            if size > _BLOCK_BYTES_MAX:
                raise ValueError("a block is damaged")
            found = bytes(pa.Codec("snappy").decompress(packed, size, asbytes=True))
            if zlib.crc32(found).to_bytes(4, "big") != checksum:
                raise ValueError("a block is damaged")
            return found
        case _:
            return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())


def _header(source: Source) -> dict[str, str]:
    found: dict[str, str] = {}
    while count := _long(source):
        if not 0 < count <= 1_000:
            raise ValueError("a header of no size")
        for _ in range(count):
            key, value = (_exactly(source, _short(_long(source))) for _ in range(2))
            found[key.decode()] = value.decode()
    return found


def _short(size: int) -> int:
    if not 0 <= size <= _HEADER_BYTES_MAX:
        raise ValueError("a header of no size")
    return size


def _exactly(source: Source, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _long(source: Source) -> int:
    value = read_varint(source.read)
    return (value >> 1) ^ -(value & 1)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(one) for one in schema]
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def _fastavro() -> Any:
    try:
        import fastavro
        import fastavro.schema
    except ImportError:
        raise MissingExtra(
            "reading Avro needs a package that is not installed",
            advice="Run: pip install 'wallaby[avro]'",
            package="fastavro",
        ) from None
    return fastavro


__all__ = ["read_avro"]
