"""Rounds of care over the tables of a flow's destinations while it streams (see `wallaby.care`).

Care is never a reason for a flow to stop or to wait: a job runs in a process of its own, is killed when the flow stops,
and what fails is shown. One table of a flow at a time, and over all flows of a driver no more than `care_jobs_max`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final, Protocol, TypeVar

import ray

from actors.care import Place, list_tables, turn_of
from actors.failures import cause_of
from actors.options import care_options
from cluster.share import Share
from wallaby.care import Condition, KeeperFactory, Maintenance, TableCare, Turn
from wallaby.endpoints import sink_factory
from wallaby.errors import WallabyError
from wallaby.flow import FlowSpec
from wallaby.schema import TableName
from wallaby.settings import Limits

_T = TypeVar("_T")
TABLES_MAX: Final = 10_000
"""Tables of a destination that get a turn, and are remembered for the status."""


class Jobs(Protocol):
    """Runs one job somewhere else. A cancelled call ends the job."""

    async def tables(self, place: Place) -> tuple[TableName, ...]:
        """See `actors.care.list_tables`."""
        ...

    async def turn(self, place: Place, table: TableName) -> Turn | None:
        """See `actors.care.turn_of`."""
        ...


class RayJobs:
    """Jobs as Ray tasks."""

    async def tables(self, place: Place) -> tuple[TableName, ...]:
        found: tuple[TableName, ...] = await _done(list_tables, place)
        return found

    async def turn(self, place: Place, table: TableName) -> Turn | None:
        found: Turn | None = await _done(turn_of, place, table)
        return found


async def _done(function: Callable[..., Any], place: Place, *arguments: Any) -> Any:
    task = _task(function).options(**care_options(place.flow, place.destination))
    ref = task.remote(place, *arguments)
    try:
        return await ref
    except asyncio.CancelledError:
        ray.cancel(ref, force=True)
        raise


@cache
def _task(function: Callable[..., Any]) -> Any:
    return ray.remote(function)


@dataclass(frozen=True, slots=True)
class Round:
    """A destination that is looked after, and how long between two rounds over its tables."""

    place: Place
    interval_ms: int


def rounds_of(flow: FlowSpec) -> tuple[Round, ...]:
    """The destinations of ``flow`` (secrets resolved) whose tables wallaby looks after; not those that cannot be made,
    which the flow's own start tells of."""
    found = []
    for spec in flow.destinations:
        with contextlib.suppress(WallabyError):
            factory = sink_factory(spec.type)
            if not isinstance(factory, KeeperFactory):
                continue
            whose, interval_ms = factory.maintenance(spec.options)
            if whose is Maintenance.AUTO:
                place = Place(
                    kind=spec.type,
                    options=dict(spec.options),
                    directory=os.getcwd(),
                    flow=flow.id,
                    destination=spec.name,
                )
                found.append(Round(place, interval_ms))
    return tuple(found)


class Caretaker:
    """One per flow, over all its epochs: a flow that starts anew every minute has its turns none the less."""

    def __init__(
        self,
        rounds: Sequence[Round],
        jobs: Jobs,
        *,
        share: Share,
        limits: Limits,
        is_streaming: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rounds = rounds
        self._jobs = jobs
        self._share = share
        self._limits = limits
        self._is_streaming = is_streaming
        self._clock = clock
        self._seen: dict[tuple[str, str], TableCare] = {}

    @property
    def seen(self) -> tuple[TableCare, ...]:
        """Every table's last turn."""
        return tuple(self._seen.values())

    async def run(self) -> None:
        """Round after round, until it is cancelled; a job under way then ends. Nothing else ends it."""
        if not self._rounds:
            return
        due = {id(one): self._clock() + one.interval_ms / 1000 for one in self._rounds}
        while True:
            pause = max(0.0, min(due.values()) - self._clock())
            await asyncio.sleep(pause)
            for one in self._rounds:
                if self._clock() >= due[id(one)]:
                    await self._until_streaming()
                    await self.round(one.place)
                    due[id(one)] = self._clock() + one.interval_ms / 1000

    async def round(self, place: Place) -> None:
        """Every table of a destination has its turn."""
        found = await self._job(partial(self._jobs.tables, place))
        if isinstance(found, str):
            self._note(place, TableCare(destination=place.destination, table="", failure=found, ended_at=_now()))
            return
        tables = found[:TABLES_MAX]
        kept = {str(table) for table in tables}
        self._seen = {key: care for key, care in self._seen.items() if key[0] != place.destination or key[1] in kept}
        for table in tables:
            # Where an epoch ends the round goes on in the next: else the last tables of many would never have a turn.
            await self._until_streaming()
            turn = await self._job(partial(self._jobs.turn, place, table))
            if turn is not None:
                self._note(place, self._told(place, table, turn))

    async def _until_streaming(self) -> None:
        while not self._is_streaming():
            await asyncio.sleep(self._limits.care_poll_ms / 1000)

    async def _job(self, job: Callable[[], Awaitable[_T]]) -> _T | str:
        """What ``job`` gives, or why it failed."""
        try:
            async with self._share.caring, asyncio.timeout(self._limits.care_job_ms_max / 1000):
                return await job()
        except TimeoutError:
            return f"took longer than {self._limits.care_job_ms_max // 60_000} minutes and was ended"
        except Exception as raised:  # noqa: BLE001 - whatever it is, the flow goes on and the status shows it
            cause = cause_of(raised, actor="care")
            if isinstance(cause, WallabyError):
                return f"{cause.message}. {cause.advice}".rstrip(". ")
            return f"an unexpected {type(cause).__name__}; the task's log has its frames"

    def _told(self, place: Place, table: TableName, turn: Turn | str) -> TableCare:
        known = self._seen.get((place.destination, str(table)))
        if isinstance(turn, str):
            condition = known.condition if known else Condition()
            return TableCare(
                destination=place.destination,
                table=str(table),
                condition=condition,
                failure=turn,
                ended_at=_now(),
            )
        return TableCare(
            destination=place.destination,
            table=turn.table,
            condition=turn.after,
            done=tuple(chore.value for chore in turn.done),
            yielded=tuple(chore.value for chore in turn.yielded),
            failure=turn.failure,
            ended_at=turn.ended_at,
        )

    def _note(self, place: Place, care: TableCare) -> None:
        self._seen[place.destination, care.table] = care


def _now() -> datetime:
    return datetime.now(UTC)


__all__ = ["Caretaker", "Jobs", "RayJobs", "Round", "rounds_of"]
