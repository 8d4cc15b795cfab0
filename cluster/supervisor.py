"""One flow, kept running: epochs of one source and its sinks, made anew after every failure.

Nothing is repaired in place. Whatever fails, the whole region (source and sinks) ends, a new epoch is taken from the
control store, every sink asks its destination where it stands, and the source continues from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import ray

from actors.failures import ProcessLost, cause_of
from actors.options import NAMESPACE, SINK_GROUPS, SOURCE_GROUPS, sink_options, source_options
from actors.sink import SinkShell
from actors.source import SourceShell
from wallaby.errors import Retry, WallabyError
from wallaby.flow import FlowSpec
from wallaby.lsn import START, Lsn, Position
from wallaby.relay.session import SessionConfig
from wallaby.settings import Limits
from wallaby.startup import RememberedFacts, SnapshotState
from wallaby.status import FlowStatus
from wallaby.store import Epoch, SnapshotStatus
from wallaby.window import LaneId

_LOG: Final = logging.getLogger(__name__)
_START_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.25
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
    """How long to run, and whether to begin again."""

    once: bool = False
    until: Lsn | None = None
    resnapshot: bool = False


@dataclass(slots=True)
class _Region:
    """The actors of one epoch."""

    source: Any = None
    sinks: dict[LaneId, Any] = field(default_factory=dict)

    @property
    def actors(self) -> list[Any]:
        return [actor for actor in (self.source, *self.sinks.values()) if actor is not None]


class FlowSupervisor:
    """Runs a flow until it is stopped, finished or failed for good. One asyncio task per flow."""

    def __init__(
        self,
        flow: FlowSpec,
        coordinator: Any,
        *,
        mode: RunMode,
        limits: Limits,
        observe: Callable[[FlowStatus], None],
    ) -> None:
        self._flow = flow
        self._coordinator = coordinator
        self._mode = mode
        self._limits = limits
        self._observe = observe
        self._stopping = asyncio.Event()
        self._region = _Region()
        self._restarts = 0
        self._unknown_errors = 0
        self.error: WallabyError | None = None
        self.status = FlowStatus(flow=flow.id, state="running", phase="starting")

    def stop(self) -> None:
        """Drain, then end ``run`` with DRAINED."""
        self._stopping.set()

    def actors(self) -> dict[str, Any]:
        """Actor handles by role, for fault injection and diagnosis: ``source`` and ``sink/<destination>/<index>``."""
        handles = {f"sink/{lane.destination}/{lane.index}": actor for lane, actor in self._region.sinks.items()}
        return {"source": self._region.source, **handles} if self._region.source is not None else handles

    async def run(self) -> Outcome:
        """Epoch after epoch; returns when there is nothing left to do or nothing we may try."""
        delay_ms = self._limits.restart_delay_min_ms
        while True:
            began = time.monotonic()
            try:
                await self._run_epoch()
                await self._publish(replace(self.status, phase="idle", error=""))
                return Outcome.DRAINED
            except Exception as raised:  # noqa: BLE001 - the one place that maps every error to a policy
                error = self._classify(raised)
            finally:
                self._end_region()
            if error.retry is Retry.NEVER:
                self.error = error
                await self._publish(replace(self.status, state="failed", phase="idle", error=str(error)))
                return Outcome.FAILED
            if self._stopping.is_set():
                return Outcome.DRAINED
            if (time.monotonic() - began) * 1000 >= self._limits.healthy_after_ms:
                delay_ms, self._unknown_errors = self._limits.restart_delay_min_ms, 0
            self._restarts += 1
            # Full jitter, so that many flows behind one failed server do not come back in step.
            pause_ms = random.uniform(self._limits.restart_delay_min_ms, delay_ms)
            delay_ms = min(2 * delay_ms, self._limits.restart_delay_max_ms)
            status = replace(self.status, phase="backoff", restarts=self._restarts, error=str(error))
            await self._publish(status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_ms / 1000)
                return Outcome.DRAINED

    async def _run_epoch(self) -> None:
        grant = await self._call("begin_epoch", self._flow.id)
        await self._publish(replace(self.status, phase="starting", epoch=grant.epoch, restarts=self._restarts))
        remembered = await self._remembered(grant)
        lanes, intervals = await self._start_sinks(grant.epoch)
        options = self._flow.source_options()
        source = _actor_class(SourceShell).options(**source_options(self._flow.id, grant.epoch))
        self._region.source = source.remote(self._flow.id, options.slot, grant.epoch, _LEASE_S)
        is_first = self._restarts == 0
        config = SessionConfig(
            flow=self._flow,
            epoch=grant.epoch,
            remembered=remembered,
            lanes=lanes,
            commit_intervals_ms=intervals,
            resnapshot=self._mode.resnapshot and is_first,
            once=self._mode.once,
            until=self._mode.until,
        )
        run = self._region.source.run.remote(config, self._region.sinks, self._coordinator, self._limits)
        await self._watch(run, grant.epoch)
        await self._close_sinks()

    async def _start_sinks(self, epoch: int) -> tuple[dict[LaneId, Position], dict[LaneId, int]]:
        refs: dict[LaneId, Any] = {}
        for lane in self._flow.lanes():
            spec = next(spec for spec in self._flow.destinations if spec.name == lane.destination)
            options = sink_options(lane.flow, lane.destination, lane.index, epoch)
            actor = _actor_class(SinkShell).options(**options).remote(lane, epoch, _LEASE_S)
            self._region.sinks[lane] = actor
            refs[lane] = actor.start.remote(spec.type, dict(spec.options))
        positions: dict[LaneId, Position] = {}
        intervals: dict[LaneId, int] = {}
        for lane, ref in refs.items():
            positions[lane], intervals[lane] = await self._get(ref, f"sink {lane}", _START_TIMEOUT_S)
        return positions, intervals

    async def _watch(self, run: Any, epoch: int) -> None:
        """Wait for the source's end; meanwhile report, ping, and pass a stop on."""
        done = asyncio.ensure_future(_as_awaitable(run))
        misses = 0
        last_ping = time.monotonic()
        is_stop_sent = False
        try:
            while not done.done():
                if self._stopping.is_set() and not is_stop_sent:
                    self._region.source.request_stop.remote()
                    is_stop_sent = True
                await asyncio.wait([done], timeout=_POLL_S)
                if done.done():
                    break
                misses = 0 if await self._poll_status() else misses + 1
                if time.monotonic() - last_ping >= self._limits.heartbeat_interval_ms / 1000:
                    last_ping = time.monotonic()
                    misses += 0 if await self._ping_sinks() else 1
                if misses > self._limits.heartbeat_misses_max:
                    raise ProcessLost("a source or sink process no longer answers", flow=self._flow.id, epoch=epoch)
            try:
                done.result()
            except Exception as error:
                raise cause_of(error, actor="source") from error
            await self._poll_status()
        finally:
            done.cancel()

    async def _poll_status(self) -> bool:
        try:
            status = await asyncio.wait_for(_as_awaitable(self._region.source.status.remote()), 10)
        except TimeoutError:
            return False
        except ray.exceptions.RayError:
            return True  # the run's own end tells more
        if status is not None:
            await self._publish(replace(status, restarts=self._restarts, error=self.status.error))
        return True

    async def _ping_sinks(self) -> bool:
        refs = [asyncio.ensure_future(_as_awaitable(sink.ping.remote())) for sink in self._region.sinks.values()]
        done, pending = await asyncio.wait(refs, timeout=10)
        for task in pending:
            task.cancel()
        for task in done:
            if (error := task.exception()) is not None:
                raise cause_of(error, actor="sink")
        return not pending

    async def _close_sinks(self) -> None:
        for lane, sink in self._region.sinks.items():
            with contextlib.suppress(WallabyError):
                await self._get(sink.close.remote(), f"sink {lane}", 30)

    def _end_region(self) -> None:
        for actor in self._region.actors:
            ray.kill(actor)
        self._region = _Region()

    async def _remembered(self, grant: Epoch) -> RememberedFacts:
        checkpoint = grant.checkpoint
        identity = await self._call("get_source_identity", self._flow.id) or {}
        snapshot = await self._call("get_snapshot_state", self._flow.id)
        timeline = identity.get("timeline")
        return RememberedFacts(
            position=checkpoint.position if checkpoint else START,
            lanes=checkpoint.lanes if checkpoint else {},
            snapshot=_SNAPSHOTS[snapshot.status] if snapshot else SnapshotState.NONE,
            system_identifier=str(identity["system_identifier"]) if identity else None,
            timeline=int(timeline) if timeline is not None else None,
            database=identity.get("database"),
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
        with contextlib.suppress(ray.exceptions.RayError):
            await _as_awaitable(self._coordinator.report.remote(status))

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await self._get(self._coordinator.call.remote(method, *args, **kwargs), "coordinator", 60)

    async def _get(self, ref: Any, actor: str, timeout_s: float) -> Any:
        try:
            return await asyncio.wait_for(_as_awaitable(ref), timeout_s)
        except TimeoutError:
            raise ProcessLost(f"{actor} did not answer in {timeout_s:.0f} s", actor=actor) from None
        except ray.exceptions.RayError as error:
            raise cause_of(error, actor=actor) from error


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
