"""Publishing: many messages by one COPY, inside the caller's transaction.

The body of a binary COPY is joined from Arrow arrays, column by column; nothing here sees a single message.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.settings import Limits
from wallaby.streams.model import Retention
from wallaby.streams.schema import CHANNEL, Tables
from wallaby.transform.columns import single

MESSAGE_SCHEMA: Final = pa.schema(
    [
        pa.field("namespace", pa.large_string(), nullable=False),
        pa.field("table_name", pa.large_string(), nullable=False),
        pa.field("operation", pa.large_string(), nullable=False),
        pa.field("key", pa.large_string()),
        pa.field("lsn", pa.uint64(), nullable=False),
        pa.field("payload", pa.large_string(), nullable=False),
    ]
)
"""What is published, in stream order. ``key`` is what an ordered group orders by, null: nothing."""

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_CHUNK_BYTES: Final = 1 << 20
_STAGE: Final = "pg_temp.wallaby_stream_stage"


class Publisher:
    """Publishes to one stream. Remembers what the open transaction has staged: `forget` it when that is rolled back."""

    def __init__(self, tables: Tables, stream: str, wire_format: str, limits: Limits | None = None) -> None:
        self._tables = tables
        self._stream = stream
        self._wire_format = wire_format
        self._limits = limits or Limits()
        self._rows = 0
        self._bytes = 0

    def ensure(self, connection: psycopg.Connection[Any], retention: Retention) -> None:
        """The stream exists, with this retention."""
        policy = (self._stream, retention.age, retention.max_bytes, retention.removes_unacked)
        psycopg.RawCursor(connection).execute(
            f"INSERT INTO {self._tables.streams} AS s (stream, retention_age, retention_bytes, removes_unacked)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (stream) DO UPDATE SET retention_age = excluded.retention_age,"
            " retention_bytes = excluded.retention_bytes, removes_unacked = excluded.removes_unacked"
            " WHERE (s.retention_age, s.retention_bytes, s.removes_unacked) IS DISTINCT FROM"
            " (excluded.retention_age, excluded.retention_bytes, excluded.removes_unacked)",
            policy,
        )

    def note_table(self, connection: psycopg.Connection[Any], namespace: str, table: str) -> None:
        """Messages of this table may be in the stream from now on."""
        psycopg.RawCursor(connection).execute(
            f"INSERT INTO {self._tables.sources} (stream, namespace, table_name) VALUES ($1, $2, $3)"
            " ON CONFLICT DO NOTHING",
            (self._stream, namespace, table),
        )

    def knows_table(self, connection: psycopg.Connection[Any], namespace: str, table: str) -> bool:
        """Whether `note_table` was called for it, by anybody."""
        row = psycopg.RawCursor(connection).execute(
            f"SELECT FROM {self._tables.sources} WHERE stream = $1 AND namespace = $2 AND table_name = $3",
            (self._stream, namespace, table),
        )
        return row.fetchone() is not None

    def stage(self, connection: psycopg.Connection[Any], messages: pa.Table) -> None:
        """Keep messages (of `MESSAGE_SCHEMA`) in a temporary table of the open transaction: no lock is taken yet."""
        if self._rows == 0:
            connection.execute(
                f"CREATE TEMP TABLE IF NOT EXISTS {_STAGE} (id bigint, total_bytes bigint, namespace text,"
                " table_name text, operation text, key text, lsn pg_lsn, payload bytea) ON COMMIT DELETE ROWS"
            )
        self._copy(connection, _STAGE, messages, first_id=0, first_bytes=0)

    def publish(self, connection: psycopg.Connection[Any], messages: pa.Table) -> bool:
        """Publish what was staged and then ``messages``, and wake who waits for them, all when the transaction commits.

        From here to the commit other publishers of the stream wait. True when the stream's retention is due.
        """
        try:
            return self._publish(connection, messages)
        finally:
            # Published, or about to be rolled back.
            self.forget()

    @property
    def has_staged(self) -> bool:
        """Whether the open transaction holds staged messages."""
        return self._rows > 0

    def forget(self) -> None:
        """The transaction ended: nothing is staged any more."""
        self._rows = 0
        self._bytes = 0

    def _publish(self, connection: psycopg.Connection[Any], messages: pa.Table) -> bool:
        staged, staged_bytes = self._rows, self._bytes
        rows = staged + len(messages)
        size = staged_bytes + int(pc.sum(pc.binary_length(messages["payload"])).as_py() or 0)
        raw = psycopg.RawCursor(connection)
        reserved = raw.execute(
            f"UPDATE {self._tables.streams} SET last_id = last_id + $2, total_bytes = total_bytes + $3"
            " WHERE stream = $1 RETURNING last_id - $2, total_bytes - $3,"
            " (retention_age IS NOT NULL OR retention_bytes IS NOT NULL) AND retained_at < clock_timestamp() - $4",
            (self._stream, rows, size, timedelta(seconds=self._limits.stream_retention_interval_s)),
        ).fetchone()
        assert reserved is not None, f"stream {self._stream} was not ensured"
        first_id, first_bytes, is_retention_due = reserved
        if staged:
            raw.execute(
                f"INSERT INTO {self._tables.events} (stream, wire_format, id, total_bytes, namespace, table_name,"
                " operation, key, lsn, payload) SELECT $1, $2, id + $3, total_bytes + $4, namespace, table_name,"
                f" operation, key, lsn, payload FROM {_STAGE} ORDER BY id",
                (self._stream, self._wire_format, first_id, first_bytes),
            )
        if len(messages):
            self._copy(connection, self._tables.events, messages, first_id=first_id, first_bytes=first_bytes)
        raw.execute("SELECT pg_catalog.pg_notify($1, $2)", (CHANNEL, self._stream))
        return bool(is_retention_due)

    def _copy(
        self, connection: psycopg.Connection[Any], table: str, messages: pa.Table, *, first_id: int, first_bytes: int
    ) -> None:
        """COPY messages numbered on from what is staged."""
        is_stage = table == _STAGE
        sizes = pc.binary_length(single(messages["payload"])).to_numpy(zero_copy_only=False)
        totals = self._bytes + np.cumsum(sizes, dtype=np.int64)
        ids = self._rows + 1 + np.arange(len(messages), dtype=np.int64)
        columns = ["id", "total_bytes", *MESSAGE_SCHEMA.names]
        fields = [_integers(first_id + ids), _integers(first_bytes + totals)]
        fields += [
            _integers(single(messages[name]).to_numpy(zero_copy_only=False))
            if name == "lsn"
            else _texts(single(messages[name]))
            for name in MESSAGE_SCHEMA.names
        ]
        if not is_stage:
            columns += ["stream", "wire_format"]
            fields += [[_constant(self._stream)], [_constant(self._wire_format)]]
        body = copy_body(fields)
        command = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        with connection.cursor() as cursor, cursor.copy(command) as copy:
            copy.write(_HEADER)
            for start in range(0, len(body), _CHUNK_BYTES):
                copy.write(body[start : start + _CHUNK_BYTES])
            copy.write(_TRAILER)
        self._rows += len(messages)
        self._bytes = int(totals[-1]) if len(totals) else self._bytes


_Pieces = list[pa.Array | pa.Scalar]


def copy_body(fields: list[_Pieces]) -> memoryview:
    """Rows of a binary COPY, without header and trailer: of each field its pieces, length word first, in order."""
    pieces: _Pieces = [_bytes(len(fields).to_bytes(2, "big"))]
    for field in fields:
        pieces.extend(field)
    rows = pc.binary_join_element_wise(*pieces, _bytes(b""))
    if len(rows) == 0:
        return memoryview(b"")
    offsets = np.frombuffer(rows.buffers()[1], np.int64)[rows.offset : rows.offset + len(rows) + 1]
    return memoryview(rows.buffers()[2])[int(offsets[0]) : int(offsets[-1])]


def _integers(values: npt.NDArray[np.integer[Any]]) -> _Pieces:
    return [_bytes((8).to_bytes(4, "big")), _fixed(values.astype(">u8" if values.dtype.kind == "u" else ">i8"))]


def _texts(array: pa.Array) -> _Pieces:
    lengths = pc.fill_null(pc.binary_length(array), -1).to_numpy(zero_copy_only=False)
    return [_fixed(lengths.astype(">i4")), array.fill_null("").cast(pa.large_binary())]


def _constant(text: str) -> pa.Scalar:
    data = text.encode()
    return _bytes(len(data).to_bytes(4, "big") + data)


def _fixed(values: npt.NDArray[Any]) -> pa.Array:
    """The bytes of equally wide values, one binary value each."""
    offsets = np.arange(len(values) + 1, dtype=np.int64) * values.itemsize
    return pa.Array.from_buffers(
        pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    )


def _bytes(data: bytes) -> pa.Scalar:
    return pa.scalar(data, pa.large_binary())


__all__ = ["MESSAGE_SCHEMA", "Publisher", "copy_body"]
