"""The tables a stream has described: their shapes, as the kernel and as the decoder look them up.

A Relation message is sent once, and then again after every change of the table; but also once only when the transaction
it came with is rolled back, or waits for its second phase: the server takes such a description for known as well. It is
*held* here, and taken when a change of the table comes without a newer one (the kernel returns STALE).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wallaby.errors import DecodeError
from wallaby.pgoutput import kernel
from wallaby.pgoutput.batches import BatchBuilder, builder_of
from wallaby.pgoutput.relations import Relation, SchemaResolver
from wallaby.schema import TableName, TableSchema


@dataclass(frozen=True, slots=True)
class Description:
    """A Relation message that says something new. ``is_changed``: rows before it had another shape."""

    relation: Relation
    schema: TableSchema
    is_changed: bool


@dataclass(frozen=True, slots=True)
class _Known:
    slot: int
    relation: Relation


@dataclass(frozen=True, slots=True)
class _Held:
    relation: Relation
    xid: int
    """The prepared transaction it waits with; 0 for none."""


class KnownTables:
    """Everything one stream has said about tables so far."""

    def __init__(self, resolve: SchemaResolver) -> None:
        self._resolve = resolve
        self._known: dict[int, _Known] = {}
        self._held: dict[int, _Held] = {}
        self._by_name: dict[TableName, TableSchema] = {}
        self._lookup = _Lookup()
        self.builders: list[BatchBuilder] = []
        """By slot, the number the kernel writes into ``row_relation``."""

    @property
    def schemas(self) -> tuple[TableSchema, ...]:
        """The tables described so far, each in its newest version."""
        return tuple(builder.schema for builder in self.builders)

    def args(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """In the order of the kernel's parameters."""
        return self._lookup.args()

    def schema(self, oid: int) -> TableSchema:
        """The newest shape; KeyError for a relation that was not described."""
        return self.builders[self._known[oid].slot].schema

    def news(self, relation: Relation) -> Description | None:
        """What the message says that was not known; None when nothing. Errors of the resolver pass through."""
        known = self._known.get(relation.oid)
        schema = self._resolve(relation)
        _require_same_columns(relation, schema)
        is_remade = known is not None and _has_remade_column(self.schema(relation.oid), schema)
        if known is not None and known.relation == relation and not is_remade:
            self._let_go(relation.oid)
            return None
        # A table that was dropped and created again has a new oid and the old name.
        previous = self.schema(relation.oid) if known is not None else self._by_name.get(schema.name)
        if previous is None:
            return Description(relation, schema, is_changed=False)
        if previous.fingerprint == schema.fingerprint and not is_remade:
            same = previous if known is not None else replace(schema, version=previous.version)
            return Description(relation, same, is_changed=False)
        newer = replace(schema, version=max(schema.version, previous.version + 1))
        return Description(relation, newer, is_changed=True)

    def take(self, news: Description) -> None:
        """From now on rows of the relation are read so."""
        oid = news.relation.oid
        builder = builder_of(news.schema)
        known = self._known.get(oid)
        if known is None:
            known = _Known(len(self.builders), news.relation)
            self.builders.append(builder)
        else:
            self.builders[known.slot] = builder
        self._known[oid] = replace(known, relation=news.relation)
        self._by_name[news.schema.name] = news.schema
        self._held.pop(oid, None)
        self._lookup.add(oid, known.slot, len(news.relation.columns))

    def hold(self, relation: Relation, xid: int = 0) -> None:
        """Keep a description for the first change of the relation that comes without a newer one.

        ``xid``: the prepared transaction in which it will come again, in its place.
        """
        known = self._known.get(relation.oid)
        if known is None or known.relation != relation:
            self._held[relation.oid] = _Held(relation, xid)
            self._lookup.add(relation.oid, kernel.STALE_SLOT, 0)

    def held(self, oid: int) -> Relation | None:
        """The description to take before a change of the relation is read (the kernel returns STALE); else None."""
        held = self._held.get(oid)
        return None if held is None else held.relation

    def let_go(self, xid: int) -> None:
        """The prepared transaction is about to be read: its own descriptions come in their places."""
        for oid in [oid for oid, held in self._held.items() if held.xid == xid]:
            self._let_go(oid)

    def _let_go(self, oid: int) -> None:
        if self._held.pop(oid, None) is None:
            return
        known = self._known.get(oid)
        if known is None:
            self._lookup.remove(oid)
        else:
            self._lookup.add(oid, known.slot, len(known.relation.columns))


def _require_same_columns(relation: Relation, schema: TableSchema) -> None:
    streamed = [(column.name, column.type_oid) for column in relation.columns]
    resolved = [(column.name, column.type.oid) for column in schema.columns]
    if streamed != resolved:
        raise DecodeError(
            "the catalog and the replication stream disagree about the columns of a table",
            advice="Restart the flow; if it persists, the table changed while its old changes were still unread.",
            table=schema.name,
        )


def _has_remade_column(known: TableSchema, now: TableSchema) -> bool:
    """A column was dropped and made again under its name; the message itself may look the same."""
    numbers = {column.name: column.attnum for column in known.columns if column.attnum}
    return any(column.attnum and numbers.get(column.name, column.attnum) != column.attnum for column in now.columns)


class _Lookup:
    """An open-addressed hash table from relation oid to slot and number of columns, as the kernel reads it."""

    __slots__ = ("_columns", "_entries", "_oids", "_slots")

    def __init__(self) -> None:
        self._entries: dict[int, tuple[int, int]] = {}
        self._build(64)

    def args(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        return self._oids, self._slots, self._columns

    def add(self, oid: int, slot: int, columns: int) -> None:
        """Set or replace an entry."""
        self._entries[oid] = (slot, columns)
        if 2 * len(self._entries) > len(self._oids):
            self._build(2 * len(self._oids))
        else:
            self._insert(oid, slot, columns)

    def remove(self, oid: int) -> None:
        """Forget an entry."""
        del self._entries[oid]
        self._build(len(self._oids))

    def _build(self, size: int) -> None:
        self._oids = np.full(size, -1, np.int64)
        self._slots = np.zeros(size, np.int32)
        self._columns = np.zeros(size, np.int32)
        for oid, (slot, columns) in self._entries.items():
            self._insert(oid, slot, columns)

    def _insert(self, oid: int, slot: int, columns: int) -> None:
        mask = len(self._oids) - 1
        at = oid & mask
        while self._oids[at] not in (-1, oid):
            at = (at + 1) & mask
        self._oids[at], self._slots[at], self._columns[at] = oid, slot, columns
