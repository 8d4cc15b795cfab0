"""The sink actor: one lane of one destination in a process of its own."""

from __future__ import annotations

import os
from typing import Any

import ray

from actors.lease import Lease
from actors.letters import RayLetters
from actors.options import CONTROL, WRITE
from wallaby.flow import DeadLetters
from wallaby.lane import Lane, LaneReport
from wallaby.lsn import Position
from wallaby.schema import TableName
from wallaby.set_aside import SetAside
from wallaby.settings import Limits
from wallaby.transformed import make_sink
from wallaby.window import LaneId, Window


class SinkShell:
    """Builds a `Lane` and forwards calls to it."""

    def __init__(self, lane: LaneId, epoch: int, lease_s: float) -> None:
        self._id = lane
        self._epoch = epoch
        self._lease = Lease(lease_s)
        self._lane: Lane | None = None

    def __repr__(self) -> str:
        return f"Sink[{self._id} epoch {self._epoch}]"

    @ray.method(concurrency_group=WRITE)
    def start(
        self,
        kind: str,
        options: dict[str, Any],
        directory: str,
        rules: DeadLetters,
        coordinator: Any,
        limits: Limits,
    ) -> tuple[Position, int]:
        """Open the destination and fence older epochs; its position and commit interval in milliseconds.

        ``options`` have their secrets resolved. Relative paths in them are meant from the driver's ``directory``; on a
        node that has no such directory, from where this process runs.
        """
        if os.path.isdir(directory):
            os.chdir(directory)
        sink = make_sink(kind, options, destination=self._id.destination)
        aside = SetAside(RayLetters(coordinator), self._id, self._epoch, rules=rules, limits=limits)
        self._lane = Lane(sink, self._id, self._epoch, set_aside=aside)
        return self._lane.recover(), self._lane.commit_interval_ms

    @ray.method(concurrency_group=WRITE)
    def require_resettable(self, tables: tuple[TableName, ...]) -> None:
        """See `Lane.require_resettable`."""
        assert self._lane is not None
        self._lane.require_resettable(tables)

    @ray.method(concurrency_group=WRITE)
    def reset(self, tables: tuple[TableName, ...]) -> None:
        """Empty this lane's tables and forget its position."""
        assert self._lane is not None
        self._lane.reset(tables)

    @ray.method(concurrency_group=WRITE)
    def write(self, window: Window, commit: bool, committed_at_us: int) -> LaneReport:
        """See `Lane.write`."""
        assert self._lane is not None
        return self._lane.write(window, commit=commit, committed_at_us=committed_at_us)

    @ray.method(concurrency_group=WRITE)
    def replay(self) -> None:
        """See `Lane.replay`."""
        assert self._lane is not None
        self._lane.replay()

    @ray.method(concurrency_group=WRITE)
    def close(self) -> None:
        """Disconnect; what is uncommitted is dropped."""
        if self._lane is not None:
            self._lane.close()

    @ray.method(concurrency_group=CONTROL)
    def ping(self) -> int:
        """Renew the lease; returns the process id."""
        self._lease.renew()
        return os.getpid()
