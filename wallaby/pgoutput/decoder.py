"""The replication stream to segments of Arrow batches.

Bytes in, events out; no socket, no clock. ``feed`` runs the kernel over the frames it is given. The kernel stops at
rare messages, which are read here. Rows wait in the row arrays until the end of the feed, or until a barrier or a
logical message, which must come between the rows before and after it; then they leave as at most two segments:
everything up to the last commit, and the changes of the transaction still open.

A schema barrier takes no ordinal: Relation messages are repeated by the server whenever it likes, so a count that
included them would not be the same after a restart. A TRUNCATE is a change of the transaction and takes one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import DecodeError
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput import kernel, messages
from wallaby.pgoutput.batches import BatchBuilder, Rows
from wallaby.pgoutput.messages import LogicalMessage
from wallaby.pgoutput.relations import Relation, SchemaResolver, parse_relation
from wallaby.pgoutput.resume import drop_applied
from wallaby.pgtypes.kernels import MICROSECONDS_1970_TO_2000
from wallaby.schema import TableName, TableSchema
from wallaby.window import Barrier, BarrierKind

_DATA_BYTES_MAX: Final = 2**31 - 1
_ROWS_START: Final = 1 << 12
_CELLS_START: Final = 1 << 16
_HEADER_BYTES: Final = 25
"""XLogData before its message."""
_UINT64: Final = 2**64 - 1
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Segment:
    """A contiguous run of changes, grouped per table and in stream order inside each table.

    ``upto`` is ``Position(end_lsn, 0)`` when the run ends at a commit, else ``Position(commit_lsn, n)`` after the first
    n changes of a transaction still open. A segment without parts moves the position only.
    """

    parts: tuple[tuple[TableSchema, pa.RecordBatch], ...]
    upto: Position
    rows: int
    ends_transaction: bool
    committed_at_us: int
    """Commit time of the newest transaction in it, microseconds since 1970 UTC."""
    transactions: int = 0
    """Commits in it."""


Event = Segment | Barrier | LogicalMessage


class Decoder:
    """One stream's decoding state: known relations and the open transaction. Make a new one for every connection.

    After a DecodeError the decoder is unusable and repeats the error; after an error of ``resolve``, which ``feed``
    lets through, it is unusable too.
    """

    def __init__(self, resolve: SchemaResolver) -> None:
        self._resolve = resolve
        self._relations: dict[int, tuple[int, Relation, BatchBuilder]] = {}
        self._builders: list[BatchBuilder] = []
        self._by_name: dict[TableName, TableSchema] = {}
        self._arrays = _Arrays()
        self._state = np.zeros(kernel.STATE_SLOTS, np.int64)
        self._state[kernel.CELLS] = kernel.NULL_CELLS
        self._table = _RelationTable()
        self._error: DecodeError | None = None
        self._is_feeding = False
        """Stays True when a feed was left by another error (the resolver's): rows of it may be half taken."""

    @property
    def wal_end(self) -> Lsn:
        """The newest end of WAL the server told of, in data or keepalives."""
        return Lsn(int(self._state[kernel.WAL_END]) & _UINT64)

    @property
    def keepalive(self) -> Lsn:
        """The WAL end of the last keepalive; 0 before the first."""
        return Lsn(int(self._state[kernel.KEEPALIVE]) & _UINT64)

    @property
    def reply_requested(self) -> bool:
        """True once a keepalive asked for a status update; the caller sets it back to False."""
        return bool(self._state[kernel.REPLY_REQUESTED])

    @reply_requested.setter
    def reply_requested(self, value: bool) -> None:
        self._state[kernel.REPLY_REQUESTED] = int(value)

    @property
    def in_transaction(self) -> bool:
        """True between a Begin and its Commit."""
        return bool(self._state[kernel.OPEN])

    @property
    def schemas(self) -> tuple[TableSchema, ...]:
        """The tables described so far, each in its newest version."""
        return tuple(builder.schema for builder in self._builders)

    def feed(self, data: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[int, list[Event]]:
        """Decode the whole frames in ``data[begin:end]``; returns (bytes consumed, events in stream order).

        A frame is a little-endian uint32 length and one CopyData payload of ``w`` or ``k``. A frame cut by ``end`` is
        left for the next feed. ``data`` may be reused at once: nothing refers to it afterwards. Frames of 1 to 4 MB per
        feed decode fastest. DecodeError for bytes that are not such frames; no event of that feed is returned then.
        """
        if self._error is not None:
            raise self._error
        assert not self._is_feeding, "a decoder whose feed was interrupted cannot be fed again"
        assert 0 <= begin <= end <= len(data) <= _DATA_BYTES_MAX, (begin, end, len(data))
        frames = data.view()
        frames.flags.writeable = False
        self._is_feeding = True
        try:
            result = self._feed(frames, begin, end)
        except DecodeError as error:
            self._error = error
            raise
        self._is_feeding = False
        return result

    def _feed(self, data: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[int, list[Event]]:
        state = self._state
        state[kernel.AT] = begin
        events: list[Event] = []
        while True:
            status = kernel.parse(data, end, state, *self._table.args(), *self._arrays.args())
            if status == kernel.DRAINED:
                break
            if status == kernel.FULL:
                self._arrays.grow()
            elif status == kernel.RARE:
                self._rare(data, events)
            else:
                raise self._problem()
        self._flush(data, events)
        return int(state[kernel.AT]) - begin, events

    def _problem(self) -> DecodeError:
        return DecodeError(
            f"the replication stream is malformed: {kernel.PROBLEMS[int(self._state[kernel.PROBLEM])]}",
            advice="Restart the flow: the server resends from the last confirmed position.",
            lsn=self._message_lsn(),
        )

    def _message_lsn(self) -> Lsn:
        return Lsn(int(self._state[kernel.MESSAGE_LSN]) & _UINT64)

    def _rare(self, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        """Read the message the kernel stopped at and step over it."""
        at = int(self._state[kernel.AT])
        size = int.from_bytes(data[at : at + 4].tobytes(), "little")
        message = data[at + 4 + _HEADER_BYTES : at + 4 + size].tobytes()
        try:
            self._read(message[0], message[1:], data, events)
        except DecodeError as error:
            error.where.setdefault("lsn", str(self._message_lsn()))
            raise
        self._state[kernel.AT] = at + 4 + size

    def _read(self, tag: int, body: bytes, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        match tag:
            case messages.RELATION:
                self._relation(parse_relation(body), data, events)
            case messages.TRUNCATE:
                self._truncate(messages.parse_truncate(body), data, events)
            case messages.LOGICAL_MESSAGE:
                message = messages.parse_logical_message(body)
                self._flush(data, events)
                events.append(message)
            case messages.TYPE | messages.ORIGIN:
                pass
            case _ if tag in messages.NOT_NEGOTIATED:
                raise DecodeError(
                    f"a {messages.NOT_NEGOTIATED[tag]} message came, though streaming and two_phase were not asked for",
                    advice="Start replication without the options streaming and two_phase.",
                )
            case _:
                raise DecodeError(f"message tag 0x{tag:02x} is not one pgoutput has", advice="Upgrade wallaby.")

    def _relation(self, relation: Relation, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        known = self._relations.get(relation.oid)
        schema = self._resolve(relation)
        _require_same_columns(relation, schema)
        is_remade = known is not None and _has_remade_column(known[2].schema, schema)
        if known is not None and known[1] == relation and not is_remade:
            return
        # A table that was dropped and created again has a new oid and the old name.
        previous = known[2].schema if known is not None else self._by_name.get(schema.name)
        if previous is not None and previous.fingerprint == schema.fingerprint and not is_remade:
            schema = previous if known is not None else replace(schema, version=previous.version)
        elif previous is not None:
            schema = replace(schema, version=max(schema.version, previous.version + 1))
            self._flush(data, events)
            events.append(self._barrier(BarrierKind.SCHEMA, (schema.name,), (schema,)))
        builder = BatchBuilder(schema)
        if known is None:
            slot = len(self._builders)
            self._builders.append(builder)
            self._table.add(relation.oid, slot, len(relation.columns))
        else:
            slot = known[0]
            self._builders[slot] = builder
            self._table.add(relation.oid, slot, len(relation.columns))
        self._relations[relation.oid] = (slot, relation, builder)
        self._by_name[schema.name] = schema

    def _truncate(self, truncate: messages.Truncate, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        if not self.in_transaction:
            raise DecodeError("a Truncate message came outside a transaction")
        if any(oid not in self._relations for oid in truncate.oids):
            raise DecodeError("a Truncate message names a relation that was not described")
        schemas = tuple(self._relations[oid][2].schema for oid in truncate.oids)
        self._flush(data, events)
        barrier = self._barrier(BarrierKind.TRUNCATE, tuple(schema.name for schema in schemas), schemas)
        events.append(replace(barrier, cascade=truncate.cascade, restart_identity=truncate.restart_identity))
        self._state[kernel.ORDINAL] += 1

    def _barrier(self, kind: BarrierKind, tables: tuple[TableName, ...], schemas: tuple[TableSchema, ...]) -> Barrier:
        """A barrier at the present place. Outside a transaction (never seen from a server) it has no commit LSN."""
        if not self.in_transaction:
            raise DecodeError("a changed Relation message came outside a transaction")
        arrays, newest = self._arrays, int(self._state[kernel.TRANSACTIONS]) - 1
        return Barrier(
            kind,
            tables,
            schemas,
            commit_lsn=Lsn(int(arrays.transaction_lsn[newest]) & _UINT64),
            ordinal=int(self._state[kernel.ORDINAL]),
            xid=int(arrays.transaction_xid[newest]),
            committed_at_us=int(arrays.transaction_time[newest]) + MICROSECONDS_1970_TO_2000,
        )

    def _flush(self, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        """Turn the waiting rows into segments and forget them, keeping the open transaction."""
        state, arrays = self._state, self._arrays
        rows, commits = int(state[kernel.ROWS]), int(state[kernel.COMMITS])
        committed = int(state[kernel.COMMIT_ROWS]) if commits else 0
        if commits:
            events.append(
                Segment(
                    self._parts(data, 0, committed),
                    Position(Lsn(int(state[kernel.COMMIT_END]) & _UINT64)),
                    committed,
                    ends_transaction=True,
                    committed_at_us=int(state[kernel.COMMIT_TIME]) + MICROSECONDS_1970_TO_2000,
                    transactions=commits,
                )
            )
        newest = int(state[kernel.TRANSACTIONS]) - 1
        if rows > committed:
            events.append(
                Segment(
                    self._parts(data, committed, rows),
                    Position(Lsn(int(arrays.transaction_lsn[newest]) & _UINT64), int(state[kernel.ORDINAL])),
                    rows - committed,
                    ends_transaction=False,
                    committed_at_us=int(arrays.transaction_time[newest]) + MICROSECONDS_1970_TO_2000,
                )
            )
        if state[kernel.OPEN]:
            arrays.keep_transaction(newest)
        state[kernel.TRANSACTIONS] = 1 if state[kernel.OPEN] else 0
        state[kernel.ROWS] = 0
        state[kernel.CELLS] = kernel.NULL_CELLS
        state[kernel.COMMITS] = 0

    def _parts(
        self, data: npt.NDArray[np.uint8], begin: int, end: int
    ) -> tuple[tuple[TableSchema, pa.RecordBatch], ...]:
        """The batches of rows ``begin`` to ``end``, in the order in which the tables were first described."""
        if begin == end:
            return ()
        arrays = self._arrays
        relation = arrays.row_relation[begin:end]
        if relation[0] == relation[-1] and (relation == relation[0]).all():
            return (self._part(data, int(relation[0]), slice(begin, end)),)
        starts = np.zeros(len(self._builders) + 1, np.int32)
        order = np.empty(end - begin, np.int32)
        kernel.order_by_table(relation, starts, order)
        order += begin
        return tuple(
            self._part(data, slot, order[starts[slot] : starts[slot + 1]])
            for slot in np.flatnonzero(np.diff(starts)).tolist()
        )

    def _part(
        self, data: npt.NDArray[np.uint8], slot: int, which: slice | npt.NDArray[np.int32]
    ) -> tuple[TableSchema, pa.RecordBatch]:
        arrays, builder = self._arrays, self._builders[slot]
        transaction = arrays.row_transaction[which]
        rows = Rows(
            op=_owned(arrays.row_op[which]),
            commit_lsn=arrays.transaction_lsn[transaction].view(np.uint64),
            ordinal=_owned(arrays.row_ordinal[which]).view(np.uint64),
            xid=arrays.transaction_xid[transaction].astype(np.uint32),
            committed_at=arrays.transaction_time[transaction],
            new=arrays.row_new[which],
            old=arrays.row_old[which],
            has_unchanged=bool(arrays.row_flags[which].any()),
        )
        return builder.schema, builder.build(data, arrays.cell_offset, arrays.cell_length, rows)


def _owned(view: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """A copy when ``view`` is a view of the row arrays, which are overwritten by the next feed."""
    return view.copy() if view.base is not None else view


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


class _RelationTable:
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


class _Arrays:
    """Row, cell and transaction arrays of the kernel; they double until one feed fits (at most one cell per byte)."""

    __slots__ = (
        "cell_length",
        "cell_offset",
        "row_flags",
        "row_new",
        "row_old",
        "row_op",
        "row_ordinal",
        "row_relation",
        "row_transaction",
        "transaction_lsn",
        "transaction_time",
        "transaction_xid",
    )

    def __init__(self) -> None:
        self.row_op = np.empty(_ROWS_START, np.uint8)
        self.row_flags = np.empty(_ROWS_START, np.uint8)
        self.row_relation = np.empty(_ROWS_START, np.int32)
        self.row_transaction = np.empty(_ROWS_START, np.int32)
        self.row_ordinal = np.empty(_ROWS_START, np.int64)
        self.row_new = np.empty(_ROWS_START, np.int32)
        self.row_old = np.empty(_ROWS_START, np.int32)
        self.cell_offset = np.zeros(_CELLS_START, np.int32)
        self.cell_length = np.full(_CELLS_START, kernel.NULL_LENGTH, np.int32)
        self.transaction_xid = np.empty(_ROWS_START, np.int64)
        self.transaction_lsn = np.empty(_ROWS_START, np.int64)
        self.transaction_time = np.empty(_ROWS_START, np.int64)

    def args(self) -> tuple[npt.NDArray[np.generic], ...]:
        """In the order of the kernel's parameters."""
        return (
            self.row_op,
            self.row_flags,
            self.row_relation,
            self.row_transaction,
            self.row_ordinal,
            self.row_new,
            self.row_old,
            self.cell_offset,
            self.cell_length,
            self.transaction_xid,
            self.transaction_lsn,
            self.transaction_time,
        )

    def grow(self) -> None:
        """Double everything, keeping the contents."""
        for name in self.__slots__:
            old = getattr(self, name)
            new = np.empty(2 * len(old), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def keep_transaction(self, newest: int) -> None:
        """Move the open transaction to slot 0."""
        for column in (self.transaction_xid, self.transaction_lsn, self.transaction_time):
            column[0] = column[newest]


__all__ = ["Decoder", "Event", "LogicalMessage", "Segment", "drop_applied"]
