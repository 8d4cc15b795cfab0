"""One flow, kept running: epochs of one source and its sinks, made anew after every failure.

Nothing is repaired in place. Whatever fails, the whole region (source and sinks) ends, a new epoch is taken from the
control store, every sink asks its destination where it stands, and the source continues from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import ray

from actors.failures import ProcessLost, cause_of
from actors.options import NAMESPACE, SINK_GROUPS, SOURCE_GROUPS, sink_options, source_options
from actors.sink import SinkShell
from actors.source import SourceShell
from cluster.backoff import Backoff
from cluster.care import Caretaker, RayJobs, rounds_of
from cluster.heartbeat import Heartbeat
from cluster.share import Share
from wallaby.errors import BinaryUnsupported, CheckFailed, Retry, StreamingUnfit, Superseded, Transient, WallabyError
from wallaby.flow import FailureMode, FlowSpec, GiveUpPolicy
from wallaby.lifecycle import Command
from wallaby.lsn import START, Lsn, Position
from wallaby.postgres.connect import application_name
from wallaby.postgres.slot import drop_slot
from wallaby.relay.session import SessionConfig
from wallaby.settings import Limits
from wallaby.startup import RememberedFacts, SnapshotState
from wallaby.status import FlowStatus
from wallaby.store import Epoch, SnapshotStatus
from wallaby.window import LaneId

_LOG: Final = logging.getLogger(__name__)
_PING_TIMEOUT_S: Final = 10.0
_LEASE_S: Final = 60.0
_UNKNOWN_ERRORS_MAX: Final = 5
_SNAPSHOTS: Final = {
    SnapshotStatus.PENDING: SnapshotState.COPYING,
    SnapshotStatus.COPYING: SnapshotState.COPYING,
    SnapshotStatus.DONE: SnapshotState.DONE,
}


class Outcome(StrEnum):
    """How a supervised flow ended."""

    DRAINED = "drained"
    """Stopped on request, or reached the position it was to stop at: everything read is durable."""
    FAILED = "failed"
    """An error a person must look at; see ``FlowSupervisor.error``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMode:
    """How long to run."""

    once: bool = False
    until: Lsn | None = None
    start_lsn: Lsn | None = None
    """Where a flow that has no position yet begins; as ``source.options.start_lsn``, for this run alone."""


@dataclass(slots=True)
class CopyWishes:
    """New copies that were asked for while a flow runs, by the numbers of `Store.copy_due`."""

    due: int = 0
    """What the present epoch was told to make; 0 for none."""
    _told: int = 0
    _heard: int = 0

    def begin_epoch(self, due: int) -> None:
        """An epoch begins, and the store says what is due."""
        self.due = due
        self._told = max(self._told, due)

    def hear(self, number: int) -> None:
        """Somebody asked for this copy; 0: nobody. Old news changes nothing."""
        self._heard = max(self._heard, number)

    @property
    def is_epoch_over(self) -> bool:
        """No epoch was told of the newest wish. What one was told and did not do, the store tells the next."""
        return self._heard > self._told


@dataclass(slots=True)
class _Region:
    """The actors of one epoch."""

    source: Any = None
    sinks: dict[LaneId, Any] = field(default_factory=dict)

    @property
    def named_sinks(self) -> dict[str, Any]:
        return {f"sink {lane}": sink for lane, sink in self.sinks.items()}

    @property
    def named(self) -> dict[str, Any]:
        return self.named_sinks if self.source is None else {"source": self.source, **self.named_sinks}


class FlowSupervisor:
    """Runs a flow until it is stopped, finished or failed for good. One asyncio task per flow."""

    def __init__(
        self,
        flow: FlowSpec,
        coordinator: Any,
        *,
        mode: RunMode,
        limits: Limits,
        share: Share,
        observe: Callable[[FlowStatus], None],
    ) -> None:
        self._share = share
        self._flow = flow
        self._coordinator = coordinator
        self._mode = mode
        self._limits = limits
        self._observe = observe
        self._stopping = asyncio.Event()
        self._region = _Region()
        self._restarts = 0
        self._backoff = Backoff(limits, seed=flow.id)
        self._noted: type[WallabyError] | None = None
        self._may_be_noted = True
        """The control store may say that the run broke off: a driver before us may have noted it."""
        self._told: tuple[FlowStatus, float] | None = None
        """What the coordinator was told last, and when."""
        self._unknown_errors = 0
        self._fruitless_epochs = 0
        self.epoch = 0
        """The newest epoch taken; 0 before the first."""
        self._wishes = CopyWishes()
        self._may_spool = True
        self._is_text_due = False
        self._decisions = 0
        self._is_replay_due = False
        self._caretaker = Caretaker(
            rounds_of(flow),
            RayJobs(),
            share=share,
            limits=limits,
            is_streaming=lambda: self.status.phase == "streaming",
        )
        self.error: WallabyError | None = None
        self.status = FlowStatus(flow=flow.id, state="running", phase="starting")

    def stop(self) -> None:
        """Drain, then end ``run`` with DRAINED."""
        self._stopping.set()

    def decided(self, number: int) -> None:
        """Somebody decided on dead letters: the lanes look as soon as they stream. ``number`` is of the newest."""
        if number != self._decisions:
            self._decisions = number
            self._is_replay_due = True

    def want_copy(self, number: int) -> None:
        """A new copy was asked for (`Store.copy_due`): end the epoch, unless one was told to make this very copy.

        The wish is in the store: the next epoch reads there what is due.
        """
        self._wishes.hear(number)

    def actors(self) -> dict[str, Any]:
        """Actor handles by role, for fault injection and diagnosis: ``source`` and ``sink/<destination>/<index>``."""
        handles = {f"sink/{lane.destination}/{lane.index}": actor for lane, actor in self._region.sinks.items()}
        return {"source": self._region.source, **handles} if self._region.source is not None else handles

    async def run(self) -> Outcome:
        """Epoch after epoch; returns when there is nothing left to do or nothing we may try."""
        self._share.enter()
        care = asyncio.create_task(self._caretaker.run())
        try:
            return await self._run()
        finally:
            self._share.leave()
            care.cancel()
            await asyncio.wait([care])

    async def _run(self) -> Outcome:
        while True:
            began, furthest = time.monotonic(), self._furthest()
            try:
                await self._run_epoch()
                return await self._drained()
            except Exception as raised:  # noqa: BLE001 - the one place that maps every error to a policy
                error = self._classify(raised)
                self._may_spool = self._may_spool and not isinstance(error, StreamingUnfit)
            finally:
                self._end_region()
            # Not for ever: the epoch after next asks the catalog again.
            self._is_text_due = isinstance(error, BinaryUnsupported)
            is_fruitful = self._furthest() > furthest
            self._fruitless_epochs = 0 if is_fruitful else self._fruitless_epochs + 1
            if error.retry is not Retry.NEVER and self._is_given_up():
                error = self._exhausted(error)
            if error.retry is Retry.NEVER:
                return await self._failed(error)
            if self._stopping.is_set():
                return await self._drained()
            if (time.monotonic() - began) * 1000 >= self._limits.healthy_after_ms:
                is_fruitful, self._unknown_errors = True, 0
            if is_fruitful:
                self._backoff.reset()
            self._restarts += 1
            pause = timedelta(milliseconds=self._backoff.next_pause_ms())
            status = replace(self.status, phase="backoff", restarts=self._restarts, error=str(error))
            await self._publish(replace(status, retry_at=datetime.now(UTC) + pause))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause.total_seconds()):
                    await self._note_trouble(error)
                    await self._stopping.wait()
                return await self._drained()

    async def _drained(self) -> Outcome:
        await self._publish(replace(self.status, state="stopped", phase="idle", error="", retry_at=None))
        return Outcome.DRAINED

    async def _failed(self, error: WallabyError) -> Outcome:
        if self._flow.config.failure_mode is FailureMode.DROP_SLOT and not isinstance(error, Superseded):
            error = await self._relieve_source(error)
        self.error = error
        await self._publish(replace(self.status, state="failed", phase="idle", error=str(error), retry_at=None))
        return Outcome.FAILED

    async def _note_trouble(self, error: WallabyError) -> None:
        """Tell the control store that the run broke off, once for each kind of error in a row."""
        if self._noted is not type(error):
            with contextlib.suppress(WallabyError):  # the store may be the trouble; the next epoch finds out
                await self._call("move_flow", self._flow.id, Command.RETRY, str(error))
                self._noted, self._may_be_noted = type(error), True

    async def _note_health(self) -> None:
        """Tell the control store that all is well again."""
        with contextlib.suppress(WallabyError):  # asked again at the next heartbeat
            await self._call("move_flow", self._flow.id, Command.RECOVER, "runs well again")
            self._noted, self._may_be_noted = None, False

    def _furthest(self) -> Position:
        """How far the slowest lane is; START before the first epoch reported."""
        return min((lane.position for lane in self.status.lanes), default=START)

    def _is_given_up(self) -> bool:
        policy = self._flow.config.give_up_policy
        return (
            policy is GiveUpPolicy.ON_RETRY_EXHAUSTION and self._fruitless_epochs >= self._limits.fruitless_epochs_max
        )

    def _exhausted(self, error: WallabyError) -> WallabyError:
        return CheckFailed(
            f"given up after {self._fruitless_epochs} attempts without progress: {error.message}",
            advice=error.advice,
            **error.where,
        )

    async def _relieve_source(self, error: WallabyError) -> WallabyError:
        """Drop the slot this flow made or adopted, as ``failure_mode: drop_slot`` asks; the next start copies anew."""
        options = self._flow.source_options()
        try:
            identity = await self._call("get_source_identity", self._flow.id)
            if not identity or identity.get("slot") != options.slot:
                return error  # never streamed from: not ours to drop
            # First the note, then the deed: a crash in between costs a copy, never a gap.
            await self._call("set_snapshot_state", self._flow.id, self.epoch, SnapshotStatus.PENDING)
            name = application_name(self._flow.id)
            await asyncio.to_thread(drop_slot, options.login, options.slot, application_name=name)
        except WallabyError as failure:
            advice = f"{error.advice} The slot {options.slot} could not be dropped: {failure.message}".strip()
        else:
            advice = f"{error.advice} The slot was dropped (failure_mode); the next start copies anew".strip()
        return _with_advice(error, advice)

    async def _run_epoch(self) -> None:
        grant = await self._call("begin_epoch", self._flow.id)
        self.epoch = grant.epoch
        status = replace(self.status, phase="starting", epoch=grant.epoch, restarts=self._restarts, retry_at=None)
        await self._publish(status)
        remembered = await self._remembered(grant)
        await self._start_processes(grant.epoch)
        if self._stopping.is_set():
            return
        try:
            started = await self._start_sinks()
        except Superseded as error:
            raise await self._overtaken(error) from error
        if started is None:
            return
        lanes, intervals = started
        config = SessionConfig(
            flow=self._flow,
            epoch=grant.epoch,
            remembered=remembered,
            lanes=lanes,
            commit_intervals_ms=intervals,
            resnapshot=self._wishes.due > 0,
            once=self._mode.once,
            until=self._mode.until,
            may_spool=self._may_spool,
            as_text=self._is_text_due,
        )
        run = self._region.source.run.remote(config, self._region.sinks, self._coordinator, self._limits)
        await self._watch(run)
        await self._finish_replays()
        await self._close_sinks()

    async def _overtaken(self, error: Superseded) -> WallabyError:
        """A destination knows a newer epoch than the control store: somebody else runs the flow, or the store was lost.

        Only a person can tell. Who asked for a new copy has told: the next epoch is then above the destination's.
        """
        owner = int(error.where.get("owner", 0))
        if not owner:
            return error
        if not self._wishes.due:
            advice = "Stop the other one; if there is none, the control store was lost: run the flow with --resnapshot"
            return Superseded(error.message, advice=advice, **error.where)
        await self._call("begin_epoch", self._flow.id, above=owner)
        return Transient("a destination knows newer epochs than the control store; taking one above", owner=owner)

    async def _start_processes(self, epoch: int) -> None:
        """Source and sinks, once it is our turn; none when a stop was asked for meanwhile."""
        async with self._share.starting:
            if self._stopping.is_set():
                return
            for lane in self._flow.lanes():
                sink = _actor_class(SinkShell).options(**sink_options(lane.flow, lane.destination, lane.index, epoch))
                self._region.sinks[lane] = sink.remote(lane, epoch, _LEASE_S)
            source = _actor_class(SourceShell).options(**source_options(self._flow.id, epoch))
            self._region.source = source.remote(self._flow.id, self._flow.source_options().slot, epoch, _LEASE_S)
            timeout_s = self._limits.process_start_ms_max / 1000
            # Each answers once it is up.
            asked = [(actor.ping.remote(), name) for name, actor in self._region.named.items()]
            await asyncio.gather(*(self._get(answer, name, timeout_s) for answer, name in asked))

    async def _start_sinks(self) -> tuple[dict[LaneId, Position], dict[LaneId, int]] | None:
        """Every lane's position and commit interval; None when a stop was asked for meanwhile.

        A destination may take its time (another writer's locks, a long log to read), so there is no other limit than
        the processes' answers; the questions also keep those alive that were faster than their neighbours.
        """
        starts: dict[LaneId, asyncio.Task[tuple[Position, int]]] = {}
        for lane, actor in self._region.sinks.items():
            spec = next(spec for spec in self._flow.destinations if spec.name == lane.destination)
            starts[lane] = asyncio.create_task(
                self._answer(
                    actor.start.remote(
                        spec.type,
                        dict(spec.options),
                        os.getcwd(),
                        self._flow.config.dead_letters,
                        self._coordinator,
                        self._limits,
                    ),
                    f"sink {lane}",
                )
            )
        heartbeat = Heartbeat(self._limits.heartbeat_misses_max)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            pending: set[asyncio.Task[Any]] = {stopping, *starts.values()}
            while pending - {stopping}:
                done, pending = await asyncio.wait(
                    pending, timeout=self._limits.heartbeat_interval_ms / 1000, return_when=asyncio.FIRST_COMPLETED
                )
                if stopping in done:
                    return None
                for task in done:
                    task.result()
                if not done:
                    await self._ping(self._region.named, heartbeat)
                    self._require_answers(heartbeat)
        finally:
            for task in (stopping, *starts.values()):
                if not task.cancel() and not task.cancelled():
                    task.exception()  # seen, or asyncio complains
        found = {lane: task.result() for lane, task in starts.items()}
        return {lane: one[0] for lane, one in found.items()}, {lane: one[1] for lane, one in found.items()}

    async def _watch(self, run: Any) -> None:
        """Wait for the source's end; meanwhile report, ping, and pass a stop on."""
        done = asyncio.ensure_future(_as_awaitable(run))
        stopping = asyncio.ensure_future(self._stopping.wait())
        heartbeat = Heartbeat(self._limits.heartbeat_misses_max)
        began = last_ping = time.monotonic()
        is_stop_sent = False
        # Whatever was asked for while no lane could look.
        self._is_replay_due = True
        replays: list[asyncio.Task[Any]] = []
        try:
            while not done.done():
                if self._stopping.is_set() and not is_stop_sent:
                    self._region.source.request_stop.remote()
                    is_stop_sent = True
                waited = [done] if is_stop_sent else [done, stopping]
                await asyncio.wait(waited, timeout=self._share.poll_interval_s, return_when=asyncio.FIRST_COMPLETED)
                if done.done():
                    break
                self._require_no_newer_copy()
                heartbeat.note("source", has_answered=await self._poll_status())
                replays = self._replaying(replays)
                if time.monotonic() - last_ping >= self._limits.heartbeat_interval_ms / 1000:
                    last_ping = time.monotonic()
                    await self._ping(self._region.named_sinks, heartbeat)
                    if self._may_be_noted and (last_ping - began) * 1000 >= self._limits.healthy_after_ms:
                        await self._note_health()
                self._require_answers(heartbeat)
            try:
                done.result()
            except Exception as error:
                raise cause_of(error, actor="source") from error
            await self._poll_status()
        finally:
            done.cancel()
            stopping.cancel()
            for task in replays:
                if not task.cancel() and not task.cancelled():
                    task.exception()  # seen, or asyncio complains

    def _replaying(self, under_way: list[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """The lanes' looks at decisions on dead letters; one that failed ends the epoch.

        Not before the flow streams: until then the source may still find that a destination must not be written to.
        """
        for task in under_way:
            if task.done():
                task.result()
        waiting = [task for task in under_way if not task.done()]
        if self._is_replay_due and not waiting and self.status.phase == "streaming":
            self._is_replay_due = False
            waiting = self._asked_to_replay()
        return waiting

    def _asked_to_replay(self) -> list[asyncio.Task[Any]]:
        return [
            asyncio.create_task(self._answer(sink.replay.remote(), f"sink {lane}"))
            for lane, sink in self._region.sinks.items()
        ]

    async def _finish_replays(self) -> None:
        """Look at decisions on dead letters once more: a short run may not have come to it. Questions keep it alive."""
        heartbeat = Heartbeat(self._limits.heartbeat_misses_max)
        waiting = set(self._asked_to_replay())
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=self._limits.heartbeat_interval_ms / 1000, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()
                if waiting:
                    await self._ping(self._region.named, heartbeat)
                    self._require_answers(heartbeat)
        finally:
            for task in waiting:
                task.cancel()

    def _require_no_newer_copy(self) -> None:
        if self._wishes.is_epoch_over and not self._stopping.is_set():
            raise Transient("a new copy was asked for", flow=self._flow.id, epoch=self.epoch)

    def _require_answers(self, heartbeat: Heartbeat) -> None:
        if heartbeat.lost is not None:
            raise ProcessLost("a process no longer answers", actor=heartbeat.lost, flow=self._flow.id, epoch=self.epoch)

    async def _poll_status(self) -> bool:
        try:
            status = await asyncio.wait_for(_as_awaitable(self._region.source.status.remote()), _PING_TIMEOUT_S)
        except TimeoutError:
            return False
        except ray.exceptions.RayError:
            return True  # the run's own end tells more
        if status is not None:
            await self._publish(
                replace(status, restarts=self._restarts, care=self._caretaker.seen, error=self.status.error)
            )
        return True

    async def _ping(self, actors: Mapping[str, Any], heartbeat: Heartbeat) -> None:
        asked = {asyncio.ensure_future(_as_awaitable(actor.ping.remote())): name for name, actor in actors.items()}
        done, pending = await asyncio.wait(asked, timeout=_PING_TIMEOUT_S)
        for task in pending:
            task.cancel()
            heartbeat.note(asked[task], has_answered=False)
        for task in done:
            if (error := task.exception()) is not None:
                raise cause_of(error, actor=asked[task])
            heartbeat.note(asked[task], has_answered=True)

    async def _close_sinks(self) -> None:
        for lane, sink in self._region.sinks.items():
            with contextlib.suppress(WallabyError):
                await self._get(sink.close.remote(), f"sink {lane}", 30)

    def _end_region(self) -> None:
        for actor in self._region.named.values():
            ray.kill(actor)
        self._region = _Region()

    async def _remembered(self, grant: Epoch) -> RememberedFacts:
        checkpoint = grant.checkpoint
        identity = await self._call("get_source_identity", self._flow.id) or {}
        snapshot = await self._call("get_snapshot_state", self._flow.id)
        timeline = identity.get("timeline")
        self._wishes.begin_epoch(await self._call("copy_due", self._flow.id))
        return RememberedFacts(
            position=checkpoint.position if checkpoint else START,
            lanes=checkpoint.lanes if checkpoint else {},
            snapshot=_SNAPSHOTS[snapshot.status] if snapshot else SnapshotState.NONE,
            system_identifier=str(identity["system_identifier"]) if identity else None,
            timeline=int(timeline) if timeline is not None else None,
            timeline_begin=Lsn(int(identity.get("timeline_begin", 0))),
            database=identity.get("database"),
            names=await self._call("get_source_names", self._flow.id),
        )

    def _classify(self, raised: BaseException) -> WallabyError:
        error = cause_of(raised, actor=f"flow {self._flow.id}")
        if isinstance(error, WallabyError):
            return error
        self._unknown_errors += 1
        _LOG.error("unexpected error in flow %s; frames, without values:\n%s", self._flow.id, _frames(raised))
        kind = type(error).__name__
        if self._unknown_errors > _UNKNOWN_ERRORS_MAX:
            return WallabyError(
                f"an unexpected {kind} came back {self._unknown_errors} times",
                advice="This is a defect in wallaby; the actors' logs hold the traceback. Please report it",
                flow=self._flow.id,
            )
        return ProcessLost(f"an unexpected {kind} ended the epoch", flow=self._flow.id)

    async def _publish(self, status: FlowStatus) -> None:
        self.status = status
        self._observe(status)
        now = time.monotonic()
        if self._told is not None:
            told, at = self._told
            # Again after a while even so: the coordinator forgets when Ray restarts it.
            if told == status and (now - at) * 1000 < self._limits.heartbeat_interval_ms:
                return
        self._told = status, now
        with contextlib.suppress(ray.exceptions.RayError):
            await _as_awaitable(self._coordinator.report.remote(status))

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await self._get(self._coordinator.call.remote(method, *args, **kwargs), "coordinator", 60)

    async def _get(self, ref: Any, actor: str, timeout_s: float) -> Any:
        try:
            return await asyncio.wait_for(self._answer(ref, actor), timeout_s)
        except TimeoutError:
            raise ProcessLost(f"{actor} did not answer in {timeout_s:.0f} s", actor=actor) from None

    async def _answer(self, ref: Any, actor: str) -> Any:
        try:
            return await ref
        except ray.exceptions.RayError as error:
            raise cause_of(error, actor=actor) from error


def _with_advice(error: WallabyError, advice: str) -> WallabyError:
    """The same error with other advice; it keeps its class, and with it what callers may do."""
    changed = copy.copy(error)
    changed.advice = advice
    return changed


@functools.cache
def _actor_class(shell: type) -> Any:
    groups = {SourceShell: SOURCE_GROUPS, SinkShell: SINK_GROUPS}[shell]
    return ray.remote(concurrency_groups=groups)(shell)


def _frames(error: BaseException) -> str:
    """Where an error came from, without any message: those may hold row values."""
    lines = str(error).splitlines() if isinstance(error, ray.exceptions.RayTaskError) else []
    lines = lines or traceback.format_tb(error.__traceback__)
    return "\n".join(line for line in lines if line.lstrip().startswith(("File ", "ray::")))


async def _as_awaitable(ref: Any) -> Any:
    return await ref


__all__ = ["NAMESPACE", "FlowSupervisor", "Outcome", "RunMode"]
