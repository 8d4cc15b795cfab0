"""The source actor: one slot of one flow in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import ray

from actors.failures import cause_of
from actors.lease import Lease
from actors.options import CONTROL, RUN
from actors.transport import RayTransport
from wallaby.clock import SystemClock
from wallaby.lsn import Position
from wallaby.postgres.slot import SourceIdentity
from wallaby.relay.session import SessionConfig, SourceSession
from wallaby.schema import KnownNames, TableName
from wallaby.settings import Limits
from wallaby.snapshot.progress import TableCopy
from wallaby.status import FlowStatus
from wallaby.window import LaneId

_LEDGER_TIMEOUT_S = 120.0


class SourceShell:
    """Builds a `SourceSession` and forwards calls to it."""

    def __init__(self, flow: str, slot: str, epoch: int, lease_s: float) -> None:
        self._flow = flow
        self._slot = slot
        self._epoch = epoch
        self._lease = Lease(lease_s)
        self._session: SourceSession | None = None
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"Source[{self._slot} epoch {self._epoch}]"

    @ray.method(concurrency_group=RUN)
    def run(self, config: SessionConfig, sinks: Mapping[LaneId, Any], coordinator: Any, limits: Limits) -> Position:
        """One long call: its end is the end of the epoch, its error the reason."""
        transport = RayTransport(sinks, coordinator, flow=self._flow, epoch=self._epoch, limits=limits)
        ledger = RayLedger(sinks, coordinator, flow=self._flow, epoch=self._epoch)
        session = SourceSession(config, transport=transport, ledger=ledger, clock=SystemClock(), limits=limits)
        self._session = session
        if self._is_stopped:
            session.stop()
        return session.run()

    @ray.method(concurrency_group=CONTROL)
    def request_stop(self) -> None:
        """Drain: ``run`` returns once everything read is durable and checkpointed."""
        self._is_stopped = True
        if self._session is not None:
            self._session.stop()

    @ray.method(concurrency_group=CONTROL)
    def status(self) -> FlowStatus | None:
        """What the session last reported; None before it began. Renews the lease."""
        self._lease.renew()
        return None if self._session is None else self._session.status

    @ray.method(concurrency_group=CONTROL)
    def ping(self) -> int:
        """Renew the lease; returns the process id."""
        self._lease.renew()
        return os.getpid()


class RayLedger:
    """The session's `Ledger`, over coordinator and sink actors."""

    def __init__(self, sinks: Mapping[LaneId, Any], coordinator: Any, *, flow: str, epoch: int) -> None:
        self._sinks = sinks
        self._coordinator = coordinator
        self._flow = flow
        self._epoch = epoch

    def begin_copy(self, identity: SourceIdentity, slot: str) -> None:
        self._call("begin_copy", self._flow, self._epoch, slot=slot, identity=_plain(identity))

    def plan_copy(self, tables: Sequence[TableCopy]) -> None:
        self._call("note_copy", self._flow, self._epoch, tables)

    def finish_copy(self, tables: Sequence[TableCopy]) -> None:
        self._call("finish_copy", self._flow, self._epoch, tables)

    def remember_source(self, identity: SourceIdentity, slot: str) -> None:
        self._call("put_source_identity", self._flow, {**_plain(identity), "slot": slot}, epoch=self._epoch)

    def remember_names(self, names: tuple[KnownNames, ...]) -> None:
        self._call("put_source_names", self._flow, names, epoch=self._epoch)

    def require_resettable(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        self._ask({lane: self._sinks[lane].require_resettable.remote(names) for lane, names in tables.items()})

    def reset_lanes(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        self._ask({lane: self._sinks[lane].reset.remote(names) for lane, names in tables.items()})

    @staticmethod
    def _ask(refs: Mapping[LaneId, Any]) -> None:
        # Without a limit: emptying a large table takes its time, and the supervisor asks the sinks whether they live.
        for lane, ref in refs.items():
            try:
                ray.get(ref)
            except Exception as error:
                raise cause_of(error, actor=f"sink {lane}") from error

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        try:
            ray.get(self._coordinator.call.remote(method, *args, **kwargs), timeout=_LEDGER_TIMEOUT_S)
        except Exception as error:
            raise cause_of(error, actor="coordinator") from error


def _plain(identity: SourceIdentity) -> dict[str, str | int]:
    return asdict(identity)
