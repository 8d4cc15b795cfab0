"""StreamService: consumers of streams over gRPC.

Calls run on a few threads, each with a connection of its own to the streams' database. A pull that waits holds none of
them: it sleeps on the event loop until the database rings for its stream, or for a moment, and looks again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import grpc
from google.protobuf import timestamp_pb2

from wallaby import secret
from wallaby.api.conversion import timestamp_of
from wallaby.api.errors import answers_errors
from wallaby.errors import CheckFailed, ConfigError, WallabyError
from wallaby.login import Dsn, IamDsn, RdsIam, require_iam_fit
from wallaby.lsn import Lsn
from wallaby.settings import Limits, Settings
from wallaby.streams import Ack, Claim, Delivery, GroupStatus, Streams
from wallaby.streams.bell import Bell
from wallaby.streams.model import ClaimedRow, checked_number
from wallaby.v1 import stream_pb2, stream_pb2_grpc

PULL_MESSAGES: Final = 100
VISIBILITY_S: Final = 30
DEAD_MESSAGES: Final = 100
"""What a request gets that names no number: the Go WALlaby's defaults."""

_DSN_FIELD: Final = "WALLABY_STREAM_DSN"
_Result = TypeVar("_Result")


class StreamThreads:
    """Runs calls of `Streams` on threads; as many connections as there were calls at once, up to the limit."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._executor = ThreadPoolExecutor(limits.stream_connections_max, thread_name_prefix="api-streams")
        self._idle: list[Streams] = []
        self._mutex = threading.Lock()
        self._is_closed = False

    @property
    def dsn(self) -> Dsn:
        """Of the streams' database; `CheckFailed` when the settings name none, or one that does not fit."""
        dsn = self._settings.stream_dsn or self._settings.postgres_dsn
        if not dsn:
            raise CheckFailed(
                "this wallaby knows no database of streams",
                advice=f"Set {_DSN_FIELD} to the dsn of the pgstream destination and start it again",
            )
        text = secret.resolve(dsn, field=_DSN_FIELD)
        if not self._settings.stream_rds_iam:
            return text
        try:
            require_iam_fit(text, field=_DSN_FIELD)
        except ConfigError as error:
            raise CheckFailed(f"{_DSN_FIELD} {error.message}", advice=error.advice) from None
        return IamDsn(text, RdsIam())

    async def run(self, call: Callable[[Streams], _Result]) -> _Result:
        """The result of ``call``, with a `Streams` nobody else uses meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._with_streams, call)

    def close(self) -> None:
        """Let go of the connections; calls in flight end with theirs."""
        with self._mutex:
            self._is_closed = True
            idle, self._idle = self._idle, []
        self._executor.shutdown(wait=False)
        for streams in idle:
            streams.close()

    def _with_streams(self, call: Callable[[Streams], _Result]) -> _Result:
        with self._mutex:
            streams = self._idle.pop() if self._idle else None
        if streams is None:
            streams = Streams(self.dsn, schema=self._settings.stream_schema, limits=self._limits)
        try:
            return call(streams)
        finally:
            with self._mutex:
                is_kept = not self._is_closed
                if is_kept:
                    self._idle.append(streams)
            if not is_kept:
                streams.close()


class Listeners:
    """Pulls that wait, and the thread that hears the bell for them. Made on the event loop."""

    def __init__(self, threads: StreamThreads, limits: Limits) -> None:
        self._threads = threads
        self._poll_s = limits.stream_poll_ms / 1000
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @asynccontextmanager
    async def listening(self, stream: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the stream rings, armed before the block begins."""
        self._start()
        event = asyncio.Event()
        self._waiting.setdefault(stream, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiting[stream]
            waiting.discard(event)
            if not waiting:
                del self._waiting[stream]

    async def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _start(self) -> None:
        if self._thread is None:
            bell = Bell(self._threads.dsn)
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._hear, args=(bell, loop), name="api-bell", daemon=True)
            self._thread.start()

    def _hear(self, bell: Bell, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    rung = bell.wait(self._poll_s)
                except WallabyError:
                    # Waiting pulls look by themselves meanwhile.
                    self._stopping.wait(self._poll_s)
                    continue
                if rung:
                    loop.call_soon_threadsafe(self._ring, rung)
        finally:
            bell.close()

    def _ring(self, rung: Iterable[str]) -> None:
        for stream in rung:
            for event in self._waiting.get(stream, ()):
                event.set()


class StreamServicer(stream_pb2_grpc.StreamServiceServicer):
    """Pull, acknowledge, extend, give back, replay; groups, lag and dead messages. Every call may be made again."""

    def __init__(self, settings: Settings, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._threads = StreamThreads(settings, self._limits)
        self._listeners = Listeners(self._threads, self._limits)

    async def close(self) -> None:
        """Let go of threads and connections."""
        await self._listeners.close()
        self._threads.close()

    @answers_errors
    async def Pull(self, request: stream_pb2.StreamPullRequest, context: Any) -> stream_pb2.StreamPullResponse:
        limits = self._limits
        wait_s = checked_number(request.wait_seconds, "wait_seconds", low=0, high=limits.stream_wait_max_s)
        size = request.max_bytes or limits.stream_pull_bytes_max
        checked_number(size, "max_bytes", low=1, high=limits.stream_pull_bytes_max)

        def pull(streams: Streams) -> stream_pb2.StreamPullResponse:
            rows = streams.pull_rows(
                request.stream,
                request.consumer_group,
                max_messages=request.max_messages or PULL_MESSAGES,
                visibility_s=request.visibility_timeout_seconds or VISIBILITY_S,
                consumer=request.consumer_id,
                max_bytes=size,
            )
            return _pulled(request.stream, rows)

        return await self._threads.run(pull) if wait_s == 0 else await self._waiting_pull(request.stream, pull, wait_s)

    @answers_errors
    async def Ack(self, request: stream_pb2.StreamAckRequest, context: Any) -> stream_pb2.StreamAckResponse:
        done = await self._threads.run(lambda s: s.ack(request.stream, request.consumer_group, _claim(request)))
        return stream_pb2.StreamAckResponse(acked=done.done, stale_ids=_stale(done))

    @answers_errors
    async def Extend(self, request: stream_pb2.StreamExtendRequest, context: Any) -> stream_pb2.StreamExtendResponse:
        seconds = request.visibility_timeout_seconds or VISIBILITY_S
        done = await self._threads.run(
            lambda s: s.extend(request.stream, request.consumer_group, _claim(request), visibility_s=seconds)
        )
        return stream_pb2.StreamExtendResponse(extended=done.done, stale_ids=_stale(done))

    @answers_errors
    async def Nack(self, request: stream_pb2.StreamNackRequest, context: Any) -> stream_pb2.StreamNackResponse:
        done = await self._threads.run(
            lambda s: s.give_back(
                request.stream, request.consumer_group, _claim(request), delay_s=request.delay_seconds
            )
        )
        return stream_pb2.StreamNackResponse(returned=done.done, stale_ids=_stale(done))

    @answers_errors
    async def Replay(self, request: stream_pb2.StreamReplayRequest, context: Any) -> stream_pb2.StreamReplayResponse:
        from_lsn = _lsn(request.from_lsn)
        since = _moment(request.since) if request.HasField("since") else None
        reset = await self._threads.run(
            lambda s: s.replay(request.stream, request.consumer_group, from_lsn=from_lsn, since=since)
        )
        return stream_pb2.StreamReplayResponse(reset=reset)

    @answers_errors
    async def ListGroups(
        self, request: stream_pb2.StreamListGroupsRequest, context: Any
    ) -> stream_pb2.StreamListGroupsResponse:
        found = await self._threads.run(lambda s: s.groups(request.stream))
        return stream_pb2.StreamListGroupsResponse(groups=[_group(status) for status in found])

    @answers_errors
    async def GetLag(self, request: stream_pb2.StreamGetLagRequest, context: Any) -> stream_pb2.StreamGetLagResponse:
        found = await self._threads.run(lambda s: s.groups(request.stream, request.consumer_group or None))
        return stream_pb2.StreamGetLagResponse(groups=[_lag(status) for status in found])

    @answers_errors
    async def ConfigureGroup(
        self, request: stream_pb2.StreamConfigureGroupRequest, context: Any
    ) -> stream_pb2.StreamGroup:
        is_ordered = request.ordered if request.HasField("ordered") else None
        max_attempts = request.max_attempts if request.HasField("max_attempts") else None

        def configure(streams: Streams) -> GroupStatus:
            streams.configure(request.stream, request.consumer_group, is_ordered=is_ordered, max_attempts=max_attempts)
            return streams.groups(request.stream, request.consumer_group)[0]

        return _group(await self._threads.run(configure))

    @answers_errors
    async def DeleteGroup(
        self, request: stream_pb2.StreamDeleteGroupRequest, context: Any
    ) -> stream_pb2.StreamDeleteGroupResponse:
        await self._threads.run(lambda s: s.drop_group(request.stream, request.consumer_group))
        return stream_pb2.StreamDeleteGroupResponse(deleted=True)

    @answers_errors
    async def ListDeadMessages(
        self, request: stream_pb2.StreamListDeadMessagesRequest, context: Any
    ) -> stream_pb2.StreamListDeadMessagesResponse:
        limit = request.page_size or DEAD_MESSAGES
        after_id = _page_token(request.page_token)
        found = await self._threads.run(
            lambda s: s.dead_letters(request.stream, request.consumer_group, after_id=after_id, limit=limit)
        )
        return stream_pb2.StreamListDeadMessagesResponse(
            messages=[_message(request.stream, delivery) for delivery in found],
            next_page_token=str(found[-1].id) if len(found) == limit else "",
        )

    @answers_errors
    async def Redrive(self, request: stream_pb2.StreamRedriveRequest, context: Any) -> stream_pb2.StreamRedriveResponse:
        redriven = await self._threads.run(
            lambda s: s.redrive(request.stream, request.consumer_group, tuple(request.ids))
        )
        return stream_pb2.StreamRedriveResponse(redriven=redriven)

    async def _waiting_pull(
        self, stream: str, pull: Callable[[Streams], stream_pb2.StreamPullResponse], wait_s: float
    ) -> stream_pb2.StreamPullResponse:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        async with self._listeners.listening(stream) as rung:
            while True:
                # What rings from here on is not missed, even while the pull looks.
                rung.clear()
                found = await self._threads.run(pull)
                remaining = deadline - loop.time()
                if found.messages or remaining <= 0:
                    return found
                try:
                    await asyncio.wait_for(rung.wait(), min(remaining, self._limits.stream_poll_ms / 1000))
                except TimeoutError:
                    # Claims run out silently.
                    continue


def _claim(
    request: stream_pb2.StreamAckRequest | stream_pb2.StreamExtendRequest | stream_pb2.StreamNackRequest,
) -> Claim:
    return Claim(tuple(request.ids), tuple(request.claims), request.consumer_id)


def _stale(done: Ack) -> list[int]:
    return list(done.stale)


def _lsn(text: str) -> Lsn | None:
    if not text:
        return None
    try:
        return Lsn.parse(text)
    except ValueError:
        raise ConfigError("must be an LSN such as 16/B374D848", field="from_lsn") from None


def _moment(stamp: timestamp_pb2.Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise ConfigError("is out of range", field="since") from None


def _page_token(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigError("is not one this service gave", field="page_token")
    return int(text)


def _pulled(stream: str, rows: Iterable[ClaimedRow]) -> stream_pb2.StreamPullResponse:
    """The busiest conversion of the API: one call per message, nothing made twice that neighbours share."""
    answer = stream_pb2.StreamPullResponse()
    add, stamp = answer.messages.add, _Stamps()
    for id_, namespace, table, operation, key, lsn, wire_format, payload, created_at, attempts, claim, until in rows:
        add(
            id=id_,
            stream=stream,
            namespace=namespace,
            table=table,
            lsn=lsn,
            wire_format=wire_format,
            payload=payload,
            created_at=stamp.of(created_at),
            claim=claim,
            attempts=attempts,
            visible_at=stamp.of(until),
            operation=operation,
            key=key or "",
        )
    return answer


class _Stamps:
    """Timestamps of moments: messages of one transaction were published at one, claims of one pull end at one."""

    def __init__(self) -> None:
        self._known: dict[datetime, timestamp_pb2.Timestamp] = {}

    def of(self, moment: datetime) -> timestamp_pb2.Timestamp:
        found = self._known.get(moment)
        if found is None:
            found = self._known[moment] = timestamp_of(moment)
        return found


def _message(stream: str, delivery: Delivery) -> stream_pb2.StreamMessage:
    return stream_pb2.StreamMessage(
        id=delivery.id,
        stream=stream,
        namespace=delivery.namespace,
        table=delivery.table,
        lsn=str(delivery.lsn),
        wire_format=delivery.wire_format,
        payload=delivery.payload,
        created_at=timestamp_of(delivery.created_at),
        claim=delivery.claim,
        attempts=delivery.attempts,
        visible_at=timestamp_of(delivery.visible_at),
        operation=delivery.operation,
        key=delivery.key or "",
    )


def _group(status: GroupStatus) -> stream_pb2.StreamGroup:
    return stream_pb2.StreamGroup(
        stream=status.stream,
        consumer_group=status.group,
        ordered=status.options.is_ordered,
        max_attempts=status.options.max_attempts,
        last_id=status.last_id,
        cursor_id=status.cursor_id,
        pending=status.pending,
        claimed=status.claimed,
        available=status.available,
        blocked=status.blocked,
        dead=status.dead,
    )


def _lag(status: GroupStatus) -> stream_pb2.StreamLag:
    return stream_pb2.StreamLag(
        consumer_group=status.group,
        messages=status.lag_messages,
        bytes=status.lag_bytes,
        seconds=status.lag_seconds,
        oldest_at=timestamp_of(status.oldest_at),
    )


def register(server: grpc.aio.Server, settings: Settings) -> StreamServicer:
    """Add the service to a server; close what is returned with it."""
    servicer = StreamServicer(settings)
    stream_pb2_grpc.add_StreamServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated
    return servicer
