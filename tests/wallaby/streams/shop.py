"""A database with streams in it, and a publisher of plain messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pyarrow as pa

from wallaby.settings import Limits
from wallaby.streams import Delivery, Retention, Streams, schema
from wallaby.streams.publish import MESSAGE_SCHEMA, Publisher
from wallaby.streams.schema import Tables
from wallaby.testing.postgres import ScratchDatabase

STREAM = "shop"
GROUP = "mail"


@dataclass(frozen=True)
class Message:
    """What a test publishes."""

    payload: str
    key: str | None = None
    lsn: int = 0x1000
    operation: str = "insert"
    table: str = "orders"


def messages_of(items: Iterable[Message]) -> pa.Table:
    items = list(items)
    columns = [
        ["public"] * len(items),
        [item.table for item in items],
        [item.operation for item in items],
        [item.key for item in items],
        [item.lsn for item in items],
        [item.payload for item in items],
    ]
    return pa.Table.from_arrays(
        [pa.array(column, kind.type) for column, kind in zip(columns, MESSAGE_SCHEMA, strict=True)],
        schema=MESSAGE_SCHEMA,
    )


def publish(connection: psycopg.Connection[Any], items: Iterable[Message], *, stream: str = STREAM) -> None:
    """Publish in a transaction of its own, or inside the open one."""
    with connection.transaction():
        Publisher(Tables("wallaby"), stream, "json").publish(connection, messages_of(items))


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [delivery.id for delivery in deliveries]


def content(payloads: Iterable[bytes]) -> str:
    """A hash of a multiset of payloads."""
    return hashlib.sha256(b"\0".join(sorted(payloads))).hexdigest()


@dataclass
class Shop:
    """A database with one stream, and consumers of it."""

    database: ScratchDatabase
    made: list[Streams] = field(default_factory=list)

    def streams(self, **limits: int) -> Streams:
        made = Streams(self.database.dsn, limits=Limits(**limits))
        self.made.append(made)
        return made

    def publish(self, *items: Message | str, stream: str = STREAM) -> None:
        with self.database.connect() as connection:
            publish(connection, [Message(item) if isinstance(item, str) else item for item in items], stream=stream)

    def make(self, stream: str, retention: Retention | None = None) -> None:
        with self.database.connect() as connection:
            schema.create(connection, Tables("wallaby"))
            Publisher(Tables("wallaby"), stream, "json").ensure(connection, retention or Retention())

    def expire(self) -> None:
        """Every claim runs out now."""
        self.database.execute("UPDATE wallaby.stream_deliveries SET visible_at = now() WHERE status = 'claimed'")
