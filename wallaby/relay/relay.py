"""The source's loop.

One thread. Each turn: take what lanes and coordinator have answered, send what is due, checkpoint what is durable, keep
the server's connection alive, and only then read more of the stream, if the budget of windows in flight allows it. The
loop never waits for a lane: a slow one spends the budget, reading stops, and status updates go on.

What may be confirmed to PostgreSQL is decided in one place: ``Frontier.durable()`` → control store → ``_confirmed``.
The order is law: destination first, then the store, then the slot.

What we dislike: a window of a transaction larger than the limits, and a barrier inside a transaction, leave the lane's
destination staging open over several turns; a destination with a slow commit then holds more than one window's bytes.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

import pyarrow as pa

from wallaby.checkpoint.frontier import Frontier
from wallaby.clock import Clock
from wallaby.errors import Refused, Retry, WallabyError
from wallaby.lsn import START, Lsn, Position
from wallaby.pgoutput.decoder import Decoder, Event, Segment
from wallaby.pgoutput.messages import Committed, LogicalMessage, Prepared, RolledBack
from wallaby.pgtypes.types import change_schema
from wallaby.relay.feed import LaneFeed, Waiting
from wallaby.relay.fill import NoFill
from wallaby.relay.flood import Flood
from wallaby.relay.names import NameWatch
from wallaby.relay.ports import ChangeStream, Checkpointed, CopyNoted, Delivered, Filler, GapCount, Transport
from wallaby.routing import route
from wallaby.schema import TableName, TableSchema
from wallaby.settings import Limits
from wallaby.snapshot.progress import CopyProgress
from wallaby.status import FlowStatus, TableStatus, UnfinishedStatus
from wallaby.window import Barrier, LaneId, Window
from wallaby.window_builder import UnsealedPart, WindowBuilder, encode_part

_TURN_MS = 200
_STATUS_EVERY_MS = 100
_PROBE_EVERY_MS = 250


class Stopped(Exception):
    """A stop was requested while the initial copy was still running; it will be repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """What a relay is told once."""

    flow: str
    epoch: int
    commit_intervals_ms: Mapping[LaneId, int]
    required: frozenset[str]
    """Destinations that must be durable before the slot is told to forget."""
    stop_at: Lsn | None = None
    """Drain and end once everything up to here is durable."""


class Relay:
    """Runs one epoch of one flow. Any lane's or the store's error ends ``run`` with that error."""

    def __init__(
        self,
        config: RelayConfig,
        *,
        lanes: Mapping[LaneId, Position],
        checkpoint: Position,
        transport: Transport,
        clock: Clock,
        limits: Limits,
        filler: Filler | None = None,
        names: NameWatch | None = None,
    ) -> None:
        self._config = config
        self._filler: Filler = filler or NoFill()
        self._names = names
        self._refusal: Refused | None = None
        """Why nothing more of the stream may be taken: what was taken is to be durable first."""
        self._transport = transport
        self._clock = clock
        self._limits = limits
        self._feeds = {
            lane: LaneFeed(lane, commit_interval_ms=config.commit_intervals_ms.get(lane, 0), limits=limits)
            for lane in lanes
        }
        self._frontier = Frontier(lanes, config.required)
        for lane, position in lanes.items():
            self._feeds[lane].durable = position
        self._checkpoint = checkpoint
        self._checkpoint_wanted: Position | None = None
        self._checkpoint_at_ms = 0
        self._confirmed = checkpoint.lsn
        self._read = checkpoint
        self._server = Lsn(0)
        self._flood = Flood(limits)
        self._stop = threading.Event()
        self._phase = "starting"
        self._rows = self._bytes = 0
        self._moved_rows = False
        self._reply_wanted = False
        self._unfinished = UnfinishedStatus()
        self._reported_at_ms = -_STATUS_EVERY_MS
        self._tables: dict[TableName, int] = {}
        self._progress = CopyProgress((), interval_ms=limits.copy_note_interval_ms)
        self._is_noting = False
        self.status = FlowStatus(flow=config.flow, state="running", phase="starting", epoch=config.epoch)

    @property
    def has_sent(self) -> bool:
        """Some lane was sent something."""
        return any(feed.handed_upto > START or feed.held_windows for feed in self._feeds.values())

    def request_stop(self) -> None:
        """Drain and return from ``run``. Safe from any thread."""
        self._stop.set()

    # -- the initial copy ---------------------------------------------------------------------------------------------

    def copy(
        self,
        tables: tuple[TableSchema, ...],
        batches: Iterator[tuple[TableSchema, pa.RecordBatch]],
        *,
        upto: Position,
        progress: CopyProgress,
    ) -> None:
        """Send a snapshot's batches as windows (0, n) and return once all lanes hold ``upto``, checkpointed.

        ``progress`` counts them; its notes to the control store are never waited for while rows remain, and a store
        that is away for a moment gets them later.
        """
        self._phase = "snapshot"
        self._progress = progress
        number = 0
        for schema, batch in _with_empty_tables(tables, batches):
            number += 1
            self._filler.fill([UnsealedPart(schema, [batch])])  # to remember the values: copied rows are whole
            window = Window(Position(Lsn(0), number - 1), Position(Lsn(0), number), (encode_part(schema, [batch]),))
            progress.copied(schema.name, rows=batch.num_rows, nbytes=window.nbytes, at=self._now())
            self._broadcast(window, 0)
            self._await_room()
        progress.finish(self._now())
        self._read = upto
        last = Window(Position(Lsn(0), number), upto)
        for feed in self._feeds.values():
            self._send(feed, last, self._transport.publish(last), commit=True, committed_at_us=0)
        self._settle(upto)

    def begin_at(self, upto: Position) -> None:
        """No copy: record that the flow starts at ``upto`` in the control store."""
        self._read = upto
        self._frontier.read_upto(upto)
        self._settle(upto)

    def _await_room(self) -> None:
        while True:
            self._take_completions()
            self._note_copy()
            self._report()
            if self._stop.is_set():
                raise Stopped
            if self._has_room():
                return
            select.select([self._transport.fileno()], [], [], _TURN_MS / 1000)

    def _settle(self, upto: Position) -> None:
        self._frontier.read_upto(upto)
        while self._checkpoint < upto or self._is_noting:
            self._take_completions()
            self._note_copy()
            self._write_checkpoint(force=True)
            self._report()
            select.select([self._transport.fileno()], [], [], _TURN_MS / 1000)

    # -- the stream ---------------------------------------------------------------------------------------------------

    def run(self, stream: ChangeStream, decoder: Decoder, start: Lsn) -> Position:
        """Stream until stopped, until ``stop_at``, or until something fails; returns the last checkpoint."""
        self._phase = "streaming"
        # The slot may stand behind the checkpoint: what is sent again is dropped by the lanes that have it.
        builder = WindowBuilder(Position(start), self._limits, fill=self._filler.fill)
        self._read = builder.after
        self._frontier.read_upto(self._read)
        confirm_at_ms = probe_at_ms = self._clock.now_ms()
        told = Lsn(0)
        while True:
            now_ms = self._clock.now_ms()
            self._take_completions()
            self._dispatch(builder, decoder, now_ms)
            self._write_checkpoint(force=self._reply_wanted)
            is_probe = self._config.stop_at is not None and now_ms >= probe_at_ms
            if self._confirmed > told or self._reply_wanted or is_probe or now_ms >= confirm_at_ms:
                stream.send_status(received=decoder.wal_end, flushed=self._confirmed, reply_requested=is_probe)
                told, self._reply_wanted = self._confirmed, False
                confirm_at_ms, probe_at_ms = now_ms + self._limits.status_interval_ms, now_ms + _PROBE_EVERY_MS
            self._report()
            if self._stop.is_set() or self._is_complete():
                return self._drain(builder, stream, decoder)
            self._read_more(stream, decoder, builder, now_ms)
            if self._refusal is not None:
                # At once: the decoder is further than what was taken of it, and its place in the stream is not ours.
                self._drain(builder, stream, decoder)
                raise self._refusal

    def _read_more(self, stream: ChangeStream, decoder: Decoder, builder: WindowBuilder, now_ms: int) -> None:
        can_read = self._has_room() and builder.nbytes < 2 * self._limits.window_bytes_max
        wake = self._transport.fileno()
        if not (can_read and (stream.has_pending or decoder.has_backlog)):
            wait_s = self._wait_ms(builder, now_ms) / 1000
            if can_read and (rest_s := stream.rest_s) > 0:
                # Not looking at the stream is no reason not to look at the lanes.
                select.select([wake], [], [], min(wait_s, rest_s))
                can_read = stream.rest_s == 0
            else:
                select.select([stream.fileno(), wake] if can_read else [wake], [], [], wait_s)
        if not can_read:
            return
        arena = stream.arena
        if not decoder.has_backlog:
            held = len(arena)
            stream.receive(0.0)
            now_ms = self._clock.now_ms()
            self._flood.received(len(arena) - held, now_ms)
            if not stream.has_pending and not self._flood.is_decoding_due(len(arena), now_ms):
                return
        self._flood.decoded()
        sent_at_us = stream.sent_at_us
        consumed, events = decoder.feed(arena.data, arena.begin, arena.end)
        arena.consume(consumed)
        self._bytes += consumed
        self._unfinished = decoder.unfinished
        self._server = max(self._server, decoder.wal_end)
        for event in events:
            self._take(builder, event)
            if self._refusal is not None:
                return
            if isinstance(event, Segment) and sent_at_us is not None:
                age_us = sent_at_us - event.committed_at_us
                stream.is_behind = self._flood.is_behind = age_us >= self._limits.behind_after_ms * 1000
        if decoder.reply_requested:
            decoder.reply_requested = False
            self._reply_wanted = True

    def _take(self, builder: WindowBuilder, event: Event) -> None:
        match event:
            case Segment():
                self._take_segment(builder, event)
            case Barrier():
                self._take_barrier(builder, event)
            case Prepared(xid=xid, prepare_lsn=lsn):
                self._frontier.hold(xid, Position(lsn))
            case Committed(xid=xid, end_lsn=lsn):
                self._frontier.let_go(xid, Position(lsn))
            case RolledBack(xid=xid):
                self._frontier.let_go(xid)
            case LogicalMessage():
                pass  # carries nothing a destination of this version stores
            case _:
                assert_never(event)

    def _take_segment(self, builder: WindowBuilder, segment: Segment) -> None:
        if self._names is not None:
            self._names.meet(schema for schema, _ in segment.parts)
        builder.add(segment, self._clock.now_ms())
        self._rows += segment.rows
        for schema, batch in segment.parts:
            self._tables[schema.name] = self._tables.get(schema.name, 0) + batch.num_rows

    def _take_barrier(self, builder: WindowBuilder, barrier: Barrier) -> None:
        if (sealed := builder.seal_before_barrier()) is not None:
            self._broadcast(sealed.window, sealed.committed_at_us)
        self._commit_all()
        if self._names is not None:
            try:
                self._names.meet(barrier.schemas)
            except Refused as error:
                # The rules may be changed for what comes from here on: nothing from before may come again under them.
                self._refusal = error
                self._moved(builder.after)
                return
        self._filler.barrier(barrier)
        sealed = builder.barrier(barrier)
        self._broadcast(sealed.window, sealed.committed_at_us, commit=True)
        self._moved(builder.after)

    def _dispatch(self, builder: WindowBuilder, decoder: Decoder, now_ms: int) -> None:
        while self._has_room() and builder.is_due(
            now_ms, is_lane_free=self._is_lane_free() and not self._flood.holds_windows
        ):
            if (sealed := builder.seal()) is None:
                break
            self._broadcast(sealed.window, sealed.committed_at_us)
            self._moved(builder.after)
        if builder.is_empty and not decoder.in_transaction:
            builder.skip_to(Position(decoder.keepalive))
            if builder.after > self._read:
                self._read = builder.after
                self._frontier.read_upto(self._read)
        for feed in self._feeds.values():
            if feed.wants_commit_alone(now_ms):
                self._send_commit(feed)

    def _drain(self, builder: WindowBuilder, stream: ChangeStream, decoder: Decoder) -> Position:
        """Send and commit every finished transaction, checkpoint, confirm. An unfinished one comes again next time."""
        self._phase = "draining"
        if builder.has_whole and (sealed := builder.seal()) is not None:
            self._broadcast(sealed.window, sealed.committed_at_us)
            self._moved(builder.after)
        next_status_ms = self._clock.now_ms() + self._limits.status_interval_ms
        while True:
            self._take_completions()
            for feed in self._feeds.values():
                if feed.wants_commit_alone(1 << 60):
                    self._send_commit(feed)
            self._write_checkpoint(force=True)
            self._report()
            is_settled = all(feed.is_settled or feed.is_left_open for feed in self._feeds.values())
            if is_settled and self._checkpoint_wanted is None and self._frontier.durable() <= self._checkpoint:
                break
            if self._clock.now_ms() >= next_status_ms:
                stream.send_status(received=decoder.wal_end, flushed=self._confirmed)
                next_status_ms = self._clock.now_ms() + self._limits.status_interval_ms
            select.select([self._transport.fileno()], [], [], _TURN_MS / 1000)
        stream.send_status(received=decoder.wal_end, flushed=self._confirmed)
        self._phase = "idle"
        self._report(force=True)
        return self._checkpoint

    # -- lanes --------------------------------------------------------------------------------------------------------

    def _broadcast(self, window: Window, committed_at_us: int, *, commit: bool | None = None) -> None:
        """Every destination gets the window; destinations with as many lanes share what is published."""
        routed: dict[int, dict[int, tuple[Window, object]]] = {}
        for feed in self._feeds.values():
            count = feed.lane.count
            if count not in routed:
                routed[count] = {
                    index: (share, self._transport.publish(share)) for index, share in route(window, count).items()
                }
            if feed.lane.index in routed[count]:
                share, parcel = routed[count][feed.lane.index]
            elif window.ends_transaction and not feed.is_at_whole:
                # This lane holds the beginning of a transaction whose end touched other lanes' tables only.
                share = replace(window, parts=())
                parcel = self._transport.publish(share)
            else:
                continue
            self._send(feed, share, parcel, commit=commit, committed_at_us=committed_at_us)

    def _send(
        self, feed: LaneFeed, window: Window, parcel: object, *, commit: bool | None, committed_at_us: int
    ) -> None:
        """Hand the window to the lane; it leaves now or when the lane has room for another call."""
        feed.handed(Waiting(window, parcel, commit, committed_at_us))
        self._frontier.sent(feed.lane, window.upto)
        self._send_waiting(feed)

    def _send_waiting(self, feed: LaneFeed) -> None:
        now_ms = self._clock.now_ms()
        while (item := feed.next_to_send()) is not None:
            window, at_us = item.window, item.committed_at_us
            commit = feed.wants_commit_with(window, now_ms) if item.commit is None else item.commit
            self._transport.send(feed.lane, item.parcel, nbytes=window.nbytes, commit=commit, committed_at_us=at_us)
            feed.sent(window, commit=commit, committed_at_us=at_us, now_ms=now_ms)

    def _send_commit(self, feed: LaneFeed) -> None:
        window = Window(feed.handed_upto, feed.handed_upto)
        self._send(feed, window, self._transport.publish(window), commit=True, committed_at_us=0)

    def _commit_all(self) -> None:
        for feed in self._feeds.values():
            if feed.has_uncommitted:
                self._send_commit(feed)

    def _take_completions(self) -> None:
        for completion in self._transport.completions():
            if isinstance(completion, CopyNoted) and _may_pass(completion.error):
                self._is_noting = False
                self._progress.give_back(completion.tables)
                continue
            if completion.error is not None:
                raise completion.error
            match completion:
                case Delivered(lane=lane, report=report) if report is not None:
                    self._feeds[lane].delivered(report)
                    if report.receipt is not None:
                        self._frontier.received(report.receipt)
                        self._moved_rows = True
                    self._send_waiting(self._feeds[lane])
                case Checkpointed(upto=upto):
                    self._checkpoint = max(self._checkpoint, upto)
                    self._confirmed = max(self._confirmed, self._checkpoint.lsn)
                    self._checkpoint_wanted = None
                case CopyNoted():
                    self._is_noting = False

    # -- checkpoint and report ----------------------------------------------------------------------------------------

    def _write_checkpoint(self, *, force: bool = False) -> None:
        durable = self._frontier.durable()
        if self._checkpoint_wanted is not None or durable <= self._checkpoint or not durable.is_whole:
            return
        now_ms = self._clock.now_ms()
        limits = self._limits
        interval_ms = limits.checkpoint_interval_ms if self._moved_rows else limits.idle_checkpoint_interval_ms
        if not force and now_ms - self._checkpoint_at_ms < interval_ms:
            return
        self._checkpoint_wanted = durable
        self._checkpoint_at_ms = now_ms
        self._moved_rows = False
        lanes = {str(lane): position for lane, position in self._frontier.lane_positions().items()}
        self._transport.checkpoint(self._checkpoint, durable, lanes)

    def _note_copy(self) -> None:
        if not self._is_noting and (tables := self._progress.take(self._clock.now_ms())):
            self._is_noting = True
            self._transport.note_copy(tables)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_us() / 1_000_000, UTC)

    def _is_complete(self) -> bool:
        stop_at = self._config.stop_at
        return stop_at is not None and self._read.lsn >= stop_at and self._read.is_whole

    def _moved(self, upto: Position) -> None:
        self._read = upto
        self._frontier.read_upto(upto)

    def _has_room(self) -> bool:
        limits = self._limits
        return all(
            feed.held_windows < limits.held_windows_max and feed.held_bytes < limits.inflight_bytes_max
            for feed in self._feeds.values()
        )

    def _is_lane_free(self) -> bool:
        return any(feed.inflight_windows == 0 for feed in self._feeds.values())

    def _wait_ms(self, builder: WindowBuilder, now_ms: int) -> int:
        waits = [_TURN_MS]
        waits += [due for feed in self._feeds.values() if (due := feed.commit_due_in_ms(now_ms)) is not None]
        if builder.has_whole:
            waits.append(self._limits.window_age_max_ms)
        if self._flood.is_on:
            waits.append(self._flood.decode_within_ms)
        return max(0, min(waits))

    def _report(self, *, force: bool = False) -> None:
        now_ms = self._clock.now_ms()
        if not force and now_ms - self._reported_at_ms < _STATUS_EVERY_MS:
            return
        self._reported_at_ms = now_ms
        wall_us = self._clock.wall_us()
        state = {"snapshot": "copying", "idle": "stopped"}.get(self._phase, "streaming")
        self.status = replace(
            self.status,
            phase=self._phase,
            received=self._read.lsn,
            confirmed=self._confirmed,
            server=self._server,
            rows=self._rows,
            bytes=self._bytes,
            unfinished=self._unfinished,
            lanes=tuple(
                feed.status(read_upto=self._read, server=self._server, wall_us=wall_us, phase=state)
                for feed in self._feeds.values()
            ),
            tables=self._table_statuses(),
        )

    def _table_statuses(self) -> tuple[TableStatus, ...]:
        """Of the tables that were copied or had changes, by name."""
        copies = {item.table: item for item in self._progress.tables}
        found = []
        for name in sorted({*copies, *self._tables}):
            gaps, item = self._filler.counts.get(name, GapCount()), copies.get(name)
            found.append(
                TableStatus(
                    table=str(name),
                    rows=self._tables.get(name, 0),
                    copied=item.rows if item else 0,
                    estimated=item.estimated_rows if item else 0,
                    copied_bytes=item.bytes if item else 0,
                    estimated_bytes=item.estimated_bytes if item else 0,
                    copy=item.state.value if item else "",
                    filled=gaps.filled,
                    unfilled=gaps.unfilled,
                )
            )
        return tuple(found)


def _may_pass(error: BaseException | None) -> bool:
    """The control store was away for a moment: no reason to end a copy that may have taken hours."""
    return isinstance(error, WallabyError) and error.retry is not Retry.NEVER


def _with_empty_tables(
    tables: tuple[TableSchema, ...],
    batches: Iterator[tuple[TableSchema, pa.RecordBatch]],
) -> Iterator[tuple[TableSchema, pa.RecordBatch]]:
    """The snapshot's batches, then an empty batch of every table that had none: destinations create it all the same."""
    seen: set[TableName] = set()
    for schema, batch in batches:
        seen.add(schema.name)
        yield schema, batch
    for schema in tables:
        if schema.name not in seen:
            yield schema, _empty(schema)


def _empty(schema: TableSchema) -> pa.RecordBatch:
    layout = change_schema(schema)
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in layout], schema=layout)
