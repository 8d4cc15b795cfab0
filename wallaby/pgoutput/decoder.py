"""The replication stream to segments of Arrow batches.

Bytes in, events out; no socket, no clock. ``feed`` runs the kernel over the frames it is given. The kernel stops at
rare messages, which are read here. Rows wait in the row arrays until the end of the feed, or until a barrier or a
logical message, which must come between the rows before and after it; then they leave as at most two segments:
everything up to the last commit, and the changes of the transaction still open.

Changes of transactions that are streamed while they run, or prepared, wait as bytes
(`wallaby.pgoutput.unfinished`). When such a transaction commits, its bytes come back as frames of an ordinary
transaction, a piece per feed, and are read by the same code; what follows in the stream waits in the arena meanwhile.

A schema barrier takes no ordinal: Relation messages are repeated by the server whenever it likes, so a count that
included them would not be the same after a restart. A TRUNCATE is a change of the transaction and takes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import DecodeError
from wallaby.lsn import Lsn, Position
from wallaby.memory import unwritten
from wallaby.pgoutput import kernel, messages, spool_kernel
from wallaby.pgoutput.arrays import Arrays
from wallaby.pgoutput.messages import Committed, LogicalMessage, Prepared, RolledBack
from wallaby.pgoutput.relations import Relation, SchemaResolver, parse_relation
from wallaby.pgoutput.resume import drop_applied
from wallaby.pgoutput.spool import Spool
from wallaby.pgoutput.tables import KnownTables
from wallaby.pgoutput.unfinished import RELEASE_BYTES, UnfinishedTransactions
from wallaby.pgtypes.kernels import MICROSECONDS_1970_TO_2000
from wallaby.schema import TableName, TableSchema
from wallaby.status import UnfinishedStatus
from wallaby.window import Barrier, BarrierKind

_DATA_BYTES_MAX: Final = 2**31 - 1
_HEADER_BYTES: Final = 25
"""XLogData before its message."""
_UINT64: Final = 2**64 - 1
_BETWEEN_TRANSACTIONS: Final = frozenset(
    {
        messages.STREAM_START,
        messages.STREAM_COMMIT,
        messages.STREAM_ABORT,
        messages.STREAM_PREPARE,
        messages.BEGIN_PREPARE,
        messages.COMMIT_PREPARED,
        messages.ROLLBACK_PREPARED,
    }
)
_AS_THEY_LIE: Final = np.zeros(0, np.int32)


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


Event = Segment | Barrier | LogicalMessage | Prepared | Committed | RolledBack
"""`Prepared`: from now on nothing beyond its ``prepare_lsn`` may be confirmed, or the server would not send its changes
again. `Committed`: until what ends at its ``end_lsn`` is durable; its segments follow. `RolledBack`: no longer."""


class Decoder:
    """One stream's decoding state: known relations and the open transaction. Make a new one for every connection.

    After a DecodeError the decoder is unusable and repeats the error; after an error of ``resolve``, which ``feed``
    lets through, it is unusable too.
    """

    def __init__(self, resolve: SchemaResolver, *, spool: Spool | None = None) -> None:
        """``spool`` is where unfinished transactions wait, by default with the limits of `SpoolLimits`."""
        self._unfinished = UnfinishedTransactions(spool or Spool())
        self._released: Iterator[npt.NDArray[np.uint8]] | None = None
        """The frames of a transaction that waited, while they are being read."""
        self._tables = KnownTables(resolve)
        self._arrays = Arrays()
        self._state = np.zeros(kernel.STATE_SLOTS, np.int64)
        self._state[kernel.CELLS] = kernel.NULL_CELLS
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
        """True between a Begin (or Begin Prepare) and its end, and while a transaction that waited is being read."""
        return bool(self._state[kernel.OPEN]) or self.has_backlog or self._unfinished.is_preparing

    @property
    def has_backlog(self) -> bool:
        """A transaction that waited committed, and is not read to its end: feed again, also without new frames."""
        return self._released is not None

    @property
    def unfinished(self) -> UnfinishedStatus:
        """Transactions that wait."""
        return self._unfinished.status

    @property
    def schemas(self) -> tuple[TableSchema, ...]:
        """The tables described so far, each in its newest version."""
        return self._tables.schemas

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

    def close(self) -> None:
        """Give up what waits. Idempotent; the decoder is unusable afterwards."""
        self._released = None
        self._unfinished.close()

    def _feed(self, data: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[int, list[Event]]:
        events: list[Event] = []
        at, room = begin, RELEASE_BYTES
        while True:
            if self._released is None:
                at = self._parse(data, at, end, events)
                self._flush(data, events)
                if self._released is None:
                    break
            if room < RELEASE_BYTES // 2:
                break
            room -= self._read_released(events)
        return at - begin, events

    def _read_released(self, events: list[Event]) -> int:
        """Read the next piece of a transaction that waited; returns its size."""
        assert self._released is not None
        frames = next(self._released, None)
        if frames is None:
            self._released = None
            return 0
        frames.flags.writeable = False
        stop = self._parse(frames, 0, len(frames), events)
        assert stop == len(frames), "frames were released in part"
        self._flush(frames, events)
        return len(frames)

    def _parse(self, data: npt.NDArray[np.uint8], begin: int, end: int, events: list[Event]) -> int:
        """Read frames up to ``end``, or to the commit of a transaction that waited; returns where it stopped."""
        state = self._state
        state[kernel.AT] = begin
        is_released = self._released is not None
        while True:
            if self._unfinished.is_open:
                status = self._scan(data, end)
            else:
                status = kernel.parse(data, end, state, *self._tables.args(), *self._arrays.args())
            match status:
                case kernel.DRAINED:
                    break
                case kernel.FULL:
                    self._arrays.grow()
                case kernel.STALE:
                    with self._placed():
                        self._take_held(int(state[kernel.STALE_OID]), data, events)
                case kernel.RARE:
                    self._rare(data, events)
                    if self._released is not None and not is_released:
                        break
                case _:
                    raise self._problem()
        return int(state[kernel.AT])

    def _scan(self, data: npt.NDArray[np.uint8], end: int) -> int:
        """Put away the frames of the unfinished transaction that is open."""
        state, unfinished = self._state, self._unfinished
        begin = int(state[kernel.AT])
        state[kernel.OWNER] = spool_kernel.OWNER_UNKNOWN
        status = int(spool_kernel.scan(data, end, unfinished.has_owners, state))
        unfinished.append(data[begin : int(state[kernel.AT])], int(state[kernel.OWNER]))
        return status

    def _problem(self) -> DecodeError:
        return DecodeError(
            f"the replication stream is malformed: {kernel.PROBLEMS[int(self._state[kernel.PROBLEM])]}",
            advice="Restart the flow: the server resends from the last confirmed position.",
            lsn=self._message_lsn(),
        )

    def _message_lsn(self) -> Lsn:
        return Lsn(int(self._state[kernel.MESSAGE_LSN]) & _UINT64)

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """Errors say at which message they were found."""
        try:
            yield
        except DecodeError as error:
            error.where.setdefault("lsn", str(self._message_lsn()))
            raise

    def _rare(self, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        """Read the message the kernel stopped at and step over it."""
        at = int(self._state[kernel.AT])
        size = int.from_bytes(data[at : at + 4].tobytes(), "little")
        message = data[at + 4 + _HEADER_BYTES : at + 4 + size].tobytes()
        tag, body = message[0], message[1:]
        with self._placed():
            if self._unfinished.is_open:
                self._read_open(tag, body, data[at : at + 4 + size], events)
            elif tag in _BETWEEN_TRANSACTIONS:
                self._read_between(tag, body, data, events)
            else:
                self._read(tag, body, data, events)
        self._state[kernel.AT] = at + 4 + size

    def _read(self, tag: int, body: bytes, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        match tag:
            case messages.RELATION:
                self._relation(parse_relation(body), data, events)
            case spool_kernel.HELD_RELATION if self._released is not None:
                self._tables.hold(parse_relation(body))
            case messages.TRUNCATE:
                self._truncate(messages.parse_truncate(body), data, events)
            case messages.LOGICAL_MESSAGE:
                message = messages.parse_logical_message(body)
                self._flush(data, events)
                events.append(message)
            case messages.TYPE | messages.ORIGIN:
                pass
            case _:
                raise _out_of_place(tag)

    def _read_between(self, tag: int, body: bytes, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        """Messages about unfinished transactions, which come between transactions only."""
        if self._state[kernel.OPEN]:
            raise _out_of_place(tag)
        unfinished = self._unfinished
        match tag:
            case messages.STREAM_START:
                unfinished.start_stream(messages.parse_stream_start(body))
            case messages.STREAM_ABORT:
                unfinished.abort(messages.parse_stream_abort(body))
            case messages.STREAM_COMMIT:
                self._released = unfinished.commit_streamed(messages.parse_stream_commit(body))
            case messages.STREAM_PREPARE:
                prepared = messages.parse_prepare(body, "Stream Prepare")
                unfinished.prepare_streamed(prepared)
                self._flush(data, events)
                events.append(prepared)
            case messages.BEGIN_PREPARE:
                unfinished.begin_prepare(messages.parse_begin_prepare(body))
            case messages.COMMIT_PREPARED:
                committed = messages.parse_commit_prepared(body)
                self._released = unfinished.commit_prepared(committed)
                self._tables.let_go(committed.xid)
                self._flush(data, events)
                events.append(committed)
            case _:
                rolled_back = messages.parse_rollback_prepared(body)
                unfinished.roll_back(rolled_back)
                self._flush(data, events)
                events.append(rolled_back)

    def _read_open(self, tag: int, body: bytes, frame: npt.NDArray[np.uint8], events: list[Event]) -> None:
        """What ends, or may not simply wait, inside an unfinished transaction that is open."""
        unfinished = self._unfinished
        match tag:
            case messages.STREAM_STOP if not unfinished.is_preparing:
                messages.parse_stream_stop(body)
                unfinished.stop_stream()
            case messages.PREPARE if unfinished.is_preparing:
                prepared = messages.parse_prepare(body)
                unfinished.prepare(prepared)
                events.append(prepared)
            case messages.RELATION if unfinished.is_preparing:
                # It waits with its transaction; but the server takes it for known from now on.
                self._tables.hold(parse_relation(body), unfinished.open_xid)
                unfinished.append(frame, spool_kernel.OWNER_UNKNOWN)
            case _:
                raise _out_of_place(tag)

    def _take_held(self, oid: int, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        if (held := self._tables.held(oid)) is not None:
            self._relation(held, data, events)

    def _relation(self, relation: Relation, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        news = self._tables.news(relation)
        if news is None:
            return
        if news.is_changed:
            self._flush(data, events)
            events.append(self._barrier(BarrierKind.SCHEMA, (news.schema.name,), (news.schema,)))
        self._tables.take(news)

    def _truncate(self, truncate: messages.Truncate, data: npt.NDArray[np.uint8], events: list[Event]) -> None:
        if not self.in_transaction:
            raise DecodeError("a Truncate message came outside a transaction")
        for oid in truncate.oids:
            self._take_held(oid, data, events)
        try:
            schemas = tuple(self._tables.schema(oid) for oid in truncate.oids)
        except KeyError as error:
            raise DecodeError("a Truncate message names a relation that was not described") from error
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
            return (self._part(data, int(relation[0]), begin, _AS_THEY_LIE, end - begin),)
        starts = np.zeros(len(self._tables.builders) + 1, np.int32)
        order = unwritten(end - begin, np.int32)
        kernel.order_by_table(relation, starts, order)
        places = starts.tolist()
        return tuple(
            self._part(data, slot, begin, order[first:last], last - first)
            for slot, (first, last) in enumerate(pairwise(places))
            if first != last
        )

    def _part(
        self, data: npt.NDArray[np.uint8], slot: int, begin: int, order: npt.NDArray[np.int32], count: int
    ) -> tuple[TableSchema, pa.RecordBatch]:
        arrays, builder = self._arrays, self._tables.builders[slot]
        rows = arrays.rows(begin, order, count)
        return builder.schema, builder.build(data, arrays.cell_offset, arrays.cell_length, rows)


def _out_of_place(tag: int) -> DecodeError:
    name = messages.NAMES.get(tag)
    if name is None:
        return DecodeError(f"message tag 0x{tag:02x} is not one pgoutput has", advice="Upgrade wallaby.")
    return DecodeError(
        f"a {name} message came where none may be",
        advice="Restart the flow: the server resends from the last confirmed position.",
    )


__all__ = ["Decoder", "Event", "LogicalMessage", "Segment", "drop_applied"]
