"""Small hand-made streams, and decoding them to plain Python."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from wallaby.errors import DecodeError
from wallaby.lsn import Position
from wallaby.pgoutput.decoder import Decoder, Event, Segment
from wallaby.pgoutput.relations import Relation
from wallaby.pgtypes.types import builtin_type
from wallaby.schema import Column, ReplicaIdentity, TableName, TableSchema
from wallaby.testing import pgoutput_writer as w

ORDERS = 16400
ITEMS = 16401
ORDER_COLUMNS = [("id", 23, -1, True), ("note", 25, -1, False), ("total", 1700, (12 << 16 | 2) + 4, False)]
ITEM_COLUMNS = [("order", 23, -1, True), ("tags", 1009, -1, False), ("line", 21, -1, True)]


def int4(value: int) -> bytes:
    """An int4 in binary."""
    return struct.pack("!i", value)


def resolve(relation: Relation) -> TableSchema:
    """A schema of built-in types, straight from the Relation message."""
    columns = []
    for column in relation.columns:
        found = builtin_type(column.type_oid)
        if found is None:
            raise DecodeError("the type of a column is not a built-in one", column=column.name)
        columns.append(Column(column.name, found, column.typmod, column.is_identity))
    name = TableName(relation.schema, relation.name)
    return TableSchema(relation.oid, name, tuple(columns), ReplicaIdentity(relation.identity))


def orders(columns: list[w.ColumnSpec] | None = None, identity: str = "d") -> bytes:
    return w.relation(ORDERS, "public", "orders", columns or ORDER_COLUMNS, identity)


def items() -> bytes:
    return w.relation(ITEMS, "public", "items", ITEM_COLUMNS)


def transaction(commit_lsn: int, *messages: bytes, xid: int = 7, commit: bool = True) -> list[bytes]:
    """CopyData payloads of one transaction whose commit record lies in ``[commit_lsn, commit_lsn + 0x30)``."""
    at = commit_lsn * 1_000_000
    begun = [w.begin(commit_lsn, xid, at), *messages]
    if commit:
        begun.append(w.commit(commit_lsn, commit_lsn + 0x30, at))
    return [w.xlog(message, commit_lsn) for message in begun]


def decode(payloads: Iterable[bytes], decoder: Decoder | None = None) -> list[Event]:
    """All events of one feed, every batch validated."""
    data = w.frames(payloads)
    consumed, events = (decoder or Decoder(resolve)).feed(data, 0, len(data))
    assert consumed == len(data)
    data[:] = 0xEE  # the decoder must not look at it again
    for event in events:
        if isinstance(event, Segment):
            for _, batch in event.parts:
                batch.validate(full=True)
    return events


def waiting(decoder: Decoder) -> tuple[int, int]:
    """Transactions that have not ended: (streamed, prepared)."""
    return decoder.unfinished.streamed, decoder.unfinished.prepared


def batches(events: Iterable[Event], table: str) -> list[pa.RecordBatch]:
    """The batches of one table, in stream order."""
    segments = [event for event in events if isinstance(event, Segment)]
    return [batch for segment in segments for schema, batch in segment.parts if schema.name.name == table]


def rows(events: Iterable[Event], table: str = "orders") -> list[dict[str, Any]]:
    """The changes of one table as dicts."""
    return [row for batch in batches(events, table) for row in batch.to_pylist()]


def positions(events: Iterable[Event]) -> list[Position]:
    """Where each segment ends."""
    return [event.upto for event in events if isinstance(event, Segment)]


def merged(events: Iterable[Event]) -> list[object]:
    """Events as comparable values in which it does not matter where feeds were cut.

    Runs of segments between other events become one mapping from table to rows.
    """
    result: list[object] = []
    run: dict[TableName, list[dict[str, Any]]] = {}
    for event in events:
        if isinstance(event, Segment):
            for schema, batch in event.parts:
                run.setdefault(schema.name, []).extend(batch.to_pylist())
        else:
            result += [run, event]
            run = {}
    return [*result, run]


def varied_stream(seed: int, transactions: int = 30) -> list[bytes]:
    """Payloads with everything the decoder handles, from a seed."""
    rng = random.Random(seed)
    payloads: list[bytes] = []
    lsn = 0x1000
    described = False
    for xid in range(100, 100 + transactions):
        messages: list[bytes] = []
        if not described or rng.random() < 0.2:
            messages += [orders(), items(), w.type_message(9, "public", "mood")]
            described = True
        for _ in range(rng.choice([0, 1, 1, 3, 20])):
            messages.append(_varied_change(rng))
        if rng.random() < 0.1:
            messages.append(w.truncate([ORDERS, ITEMS], cascade=True))
            messages.append(_varied_change(rng))
        if rng.random() < 0.1:
            messages.append(w.message("mark", rng.randbytes(5), lsn, transactional=True))
        payloads += transaction(lsn, *messages, xid=xid)
        lsn += 0x100
        if rng.random() < 0.3:
            payloads.append(w.keepalive(lsn, reply_requested=rng.random() < 0.5))
        if rng.random() < 0.1:
            payloads.append(w.xlog(w.message("beat", b"", lsn), lsn))
    return payloads


def _varied_change(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        tags = rng.choice(["{}", '{a,NULL,"b c"}', "{{x},{y}}", None])
        return w.insert(ITEMS, [int4(rng.randrange(9)), tags, struct.pack("!h", rng.randrange(9))])
    key, note = int4(rng.randrange(100)), rng.choice(["", "ä" * rng.randrange(50), "plain", None, w.UNCHANGED])
    total = rng.choice(["1.50", "NaN", "-0.01", None])
    match rng.randrange(4):
        case 0:
            return w.update(ORDERS, [key, note, total])
        case 1:
            return w.update(ORDERS, [key, note, total], key=[int4(5), None, None])
        case 2:
            return w.delete(ORDERS, key=[key, None, None])
    return w.insert(ORDERS, [key, None if note is w.UNCHANGED else note, total])
