"""The driver: one process that owns every actor, runs flows under supervision, and drains on SIGTERM.

``python -m cluster.driver --flow flow.yaml`` is the entry point for ``ray job submit``; ``wallaby run`` and
``wallaby up`` are the same code at a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import ray

from actors.coordinator import CoordinatorShell
from actors.failures import cause_of
from actors.options import coordinator_options
from cluster.backoff import Backoff
from cluster.share import Share
from cluster.supervisor import FlowSupervisor, Outcome, RunMode
from wallaby import secret
from wallaby.check import check_flow, check_names
from wallaby.errors import AlreadyExists, CheckFailed, Fenced, NotFound, Retry, Superseded, Transient, WallabyError
from wallaby.flow import FlowSpec
from wallaby.flow.resolution import resolved, stored_secrets
from wallaby.letter_box import keeps_content
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import Lsn
from wallaby.postgres.connect import application_name
from wallaby.settings import Limits, Settings
from wallaby.sink import Severity
from wallaby.status import FlowStatus
from wallaby.store import ActiveFlow, FlowRecord
from wallaby.vault import Vault

_LOG: Final = logging.getLogger(__name__)
_READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 5.0
_PAUSE_S: Final = 1.0
"""Between attempts to reach a coordinator or control store that does not answer."""

_MAY_PASS: Final = frozenset(
    {"source-unreachable", "destination-unreachable", "locked", "slot-busy", "sender-headroom"}
)
"""Findings that may be gone at the next attempt."""

_REPAIRED: Final = frozenset({"slot-lost"})
"""Findings that a new copy repairs."""

EXIT_INTERRUPTED: Final = 130
"""A second Ctrl-C."""


@dataclass(slots=True)
class _Followed:
    """A flow of the control store that runs here."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Driver:
    """Owns the coordinator and the supervisors. Use inside one asyncio loop, after ``ray.init``."""

    def __init__(
        self,
        settings: Settings,
        *,
        limits: Limits,
        observe: Callable[[FlowStatus], None],
        tell: Callable[[str], None] = _LOG.info,
        coordinator: Any = None,
    ) -> None:
        """``coordinator``: one that serves already, or stands in for one; `start` makes one otherwise."""
        self._settings = settings
        self._tell = tell
        self._limits = limits
        self._last: dict[str, FlowStatus] = {}

        def remember(status: FlowStatus) -> None:
            self._last[status.flow] = status
            observe(status)

        self._observe = remember
        self._coordinator = coordinator
        self._stopping = asyncio.Event()
        self._share = Share(limits)
        self._supervisors: dict[str, FlowSupervisor] = {}
        self._followed: dict[str, _Followed] = {}
        self._ceded: dict[str, datetime] = {}
        """Flows another driver has taken over, with the time of the wanted state that was ours."""
        self.address = ""
        """``host:port`` of the gRPC API."""

    async def start(self) -> None:
        """Start the coordinator and wait for its API."""
        options = coordinator_options(f"{os.getpid()}")
        self._coordinator = ray.remote(CoordinatorShell).options(**options).remote(self._settings)
        try:
            self.address, _ = await asyncio.wait_for(_awaited(self._coordinator.ready.remote()), _READY_TIMEOUT_S)
        except Exception as error:
            raise cause_of(error, actor="coordinator") from error

    def request_stop(self) -> None:
        """Drain every flow; a second request ends the process at once."""
        if self._stopping.is_set():
            os._exit(EXIT_INTERRUPTED)
        self._stopping.set()
        self._tell("draining: what was read becomes durable; asked again, it ends at once and loses nothing")
        for supervisor in self._supervisors.values():
            supervisor.stop()
        for followed in self._followed.values():
            followed.stopping.set()

    def install_signals(self) -> None:
        """SIGTERM and SIGINT drain. Call after ``ray.init``, which installs handlers of its own."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)

    @property
    def coordinator(self) -> Any:
        """The coordinator's actor handle."""
        return self._coordinator

    def last_status(self, flow_id: str) -> FlowStatus | None:
        """What was last observed of the flow, also after it ended."""
        return self._last.get(flow_id)

    def supervisor(self, flow_id: str) -> FlowSupervisor | None:
        """The flow's supervisor while it runs here."""
        return self._supervisors.get(flow_id)

    async def run_flow(self, flow: FlowSpec, mode: RunMode, *, command: Command = Command.START) -> Outcome:
        """Run one flow of our own until it ends; the store and the API know it meanwhile.

        ``command`` is START, or RESNAPSHOT to copy anew first.
        """
        await self._register(flow, command)
        supervisor = self._supervisor(_beginning_at(await self._resolved(flow), mode.start_lsn), mode)
        watch = asyncio.create_task(self._watch_wanted(flow.id, supervisor))
        try:
            outcome = await supervisor.run()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        await self._settle(flow.id, outcome)
        return outcome

    async def serve(self) -> None:
        """Follow the wanted states in the control store until stopped."""
        seen = -1
        stopped = asyncio.ensure_future(self._stopping.wait())
        while not self._stopping.is_set():
            try:
                await self._reconcile()
            except WallabyError as error:
                # Flows go on meanwhile: only new wishes wait for the store.
                self._tell(f"the control store does not answer: {error}")
                await asyncio.wait([stopped], timeout=_PAUSE_S)
                continue
            changed = asyncio.ensure_future(self._wait_changed(seen))
            waited = [changed, stopped, *self._tasks()]
            await asyncio.wait(waited, timeout=2 * _POLL_S, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                seen = changed.result()
            changed.cancel()
        stopped.cancel()
        await asyncio.gather(*self._tasks(), return_exceptions=True)

    async def close(self) -> None:
        """End the coordinator."""
        if self._coordinator is not None:
            ray.kill(self._coordinator)

    # -- wanted and observed ------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        """Start what should run and does not, stop what runs and should not: one query for all flows there are."""
        for name in [name for name, followed in self._followed.items() if followed.task and followed.task.done()]:
            del self._followed[name]
        active = {flow.id: flow for flow in await self._call("active_flows")}
        for name, followed in self._followed.items():
            if name not in active or active[name].state is not FlowState.RUNNING:
                followed.stopping.set()
                if (supervisor := self._supervisors.get(name)) is not None:
                    supervisor.stop()
        for flow in active.values():
            if flow.id in self._followed:
                if (supervisor := self._supervisors.get(flow.id)) is not None:
                    supervisor.decided(flow.letter_decision)
                    supervisor.want_copy(flow.copy_due)
                continue
            if flow.state is FlowState.STOPPING:
                await self._call("move_flow", flow.id, Command.FINISH, "not running")
            elif self._ceded.get(flow.id) != flow.updated_at:
                followed = self._followed[flow.id] = _Followed()
                followed.task = asyncio.create_task(self._follow(flow, followed))

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [followed.task for followed in self._followed.values() if followed.task is not None]

    async def _follow(self, wanted: ActiveFlow, followed: _Followed) -> None:
        """Run a flow of the control store and write down how it ended. Never raises: there is no caller."""
        backoff = Backoff(self._limits, seed=f"{wanted.id} at the driver")
        attempt = 0
        noted: type[WallabyError] | None = None
        while not followed.stopping.is_set():
            attempt += 1
            try:
                await self._run_stored(wanted, followed)
                return
            except WallabyError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 a flow that dies unseen would be started again at once, for ever
                where = "".join(traceback.format_tb(error.__traceback__))  # without its text, which may hold values
                _LOG.error("unexpected %s around flow %s\n%s", type(error).__name__, wanted.id, where)
                failure = Transient(f"an unexpected {type(error).__name__} around the flow", flow=wanted.id)
            if failure.retry is Retry.NEVER:
                self._tell(f"{wanted.id}: failed: {failure}")
                with contextlib.suppress(WallabyError):
                    await self._call("move_flow", wanted.id, Command.FAIL, str(failure))
                    return
            pause = timedelta(milliseconds=backoff.next_pause_ms())
            self._tell(f"{wanted.id}: tried again: {failure}")
            status = FlowStatus(
                flow=wanted.id,
                state="running",
                phase="backoff",
                restarts=attempt,
                error=str(failure),
                retry_at=datetime.now(UTC) + pause,
            )
            self._observe(status)
            self._coordinator.report.remote(status)
            if noted is not type(failure):
                with contextlib.suppress(WallabyError):  # the store may be what is away
                    await self._call("move_flow", wanted.id, Command.RETRY, str(failure))
                    noted = type(failure)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(followed.stopping.wait(), pause.total_seconds())

    async def _run_stored(self, wanted: ActiveFlow, followed: _Followed) -> None:
        record = await self._call("get_flow", wanted.id)
        if record.state is not FlowState.RUNNING:
            return
        self._tell(f"{record.id}: started" + (", up to the present position" if record.run_once else ""))
        flow = await self._resolved(record.spec)
        await self._require_fit(flow, copies_anew=record.is_copy_wanted)
        supervisor = self._supervisor(flow, RunMode(once=record.run_once))
        if followed.stopping.is_set():
            supervisor.stop()
        outcome = await supervisor.run()
        if await self._settle(record.id, outcome):
            self._tell(f"{record.id}: {outcome}")
        else:
            self._ceded[record.id] = record.updated_at
            self._tell(f"{record.id}: another wallaby runs it now")

    async def _require_fit(self, flow: FlowSpec, *, copies_anew: bool) -> None:
        """`CheckFailed` when a flow cannot run as things are; what may pass is left to retries.

        Of a flow that ran before, only names are looked at: see `check_names`.
        """
        if await self._call("get_snapshot_state", flow.id) or await self._call("get_checkpoint", flow.id):
            found = await asyncio.to_thread(check_names, flow)
        else:
            found = await asyncio.to_thread(check_flow, flow, own_application=application_name(flow.id))
        passing = _MAY_PASS | _REPAIRED if copies_anew else _MAY_PASS
        errors = [item for item in found if item.severity is Severity.ERROR and item.code not in passing]
        if errors:
            lines = "; ".join(f"{item.subject}: {item.message}" for item in errors)
            raise CheckFailed(lines, advice=errors[0].advice)

    def _supervisor(self, flow: FlowSpec, mode: RunMode) -> FlowSupervisor:
        keeps_content(Vault.from_reference(self._settings.secret_key), flow.config.dead_letters.payload)
        supervisor = FlowSupervisor(
            flow, self._coordinator, mode=mode, limits=self._limits, share=self._share, observe=self._observe
        )
        self._supervisors[flow.id] = supervisor
        if self._stopping.is_set():
            supervisor.stop()
        return supervisor

    async def _watch_wanted(self, flow_id: str, supervisor: FlowSupervisor) -> None:
        """A StopFlow or RestartSnapshot through the API reaches a flow we were started for, too."""
        seen = -1
        while True:
            try:
                record = await self._call("get_flow", flow_id)
                if record.state is not FlowState.RUNNING:
                    supervisor.stop()
                    return
                supervisor.decided(await self._call("newest_letter_decision", flow_id))
                if record.is_copy_wanted:
                    supervisor.want_copy(record.copies_wanted)
                seen = await self._wait_changed(seen)
            except WallabyError:
                await asyncio.sleep(_PAUSE_S)  # coordinator or store is away; the flow itself decides what that means

    async def _settle(self, flow_id: str, outcome: Outcome) -> bool:
        """Write down how the run ended; False when another driver runs the flow, whose state is then not ours to move.

        On a stop of the whole driver the wanted state stays as it was: the next driver continues.
        """
        supervisor = self._supervisors.pop(flow_id)
        if outcome is Outcome.FAILED:
            if isinstance(supervisor.error, Superseded) and await self._is_taken_over(flow_id, supervisor.epoch):
                return False
            await self._call("move_flow", flow_id, Command.FAIL, str(supervisor.error))
            return True
        record = await self._call("get_flow", flow_id)
        if is_finished(record, is_followed=flow_id in self._followed, is_driver_ending=self._stopping.is_set()):
            await self._call("move_flow", flow_id, Command.FINISH, "drained")
        return True

    async def _is_taken_over(self, flow_id: str, epoch: int) -> bool:
        """The control store has given a newer epoch than ours."""
        try:
            identity = await self._call("get_source_identity", flow_id)
            if identity:
                await self._call("put_source_identity", flow_id, identity, epoch=epoch)
        except Fenced:
            return True
        return False

    async def _resolved(self, flow: FlowSpec) -> FlowSpec:
        """The flow with its secrets, opened here: sealed ones alone cross from the coordinator."""
        names = stored_secrets(flow)
        if not names:
            return resolved(flow)
        sealed = [item for item in await self._call("list_secrets") if item.name in names]
        return resolved(flow, Vault.from_reference(self._settings.secret_key).open_all(sealed))

    async def _register(self, flow: FlowSpec, command: Command) -> None:
        stored = FlowSpec.from_mapping(secret.redact(flow.to_mapping()))
        try:
            record = await self._call("get_flow", flow.id)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # the call was repeated after the coordinator died in it
                await self._call("create_flow", stored, reason="run from a file")
        else:
            if record.state in (FlowState.RUNNING, FlowState.STOPPING):
                await self._call("move_flow", flow.id, Command.STOP, "taken over by another driver")
                await self._call("move_flow", flow.id, Command.FINISH, "taken over by another driver")
            await self._call("update_flow", flow.id, stored)
        await self._call("move_flow", flow.id, command, "run from a file")

    async def _wait_changed(self, seen: int) -> int:
        try:
            return int(await _awaited(self._coordinator.wait_changed.remote(seen, _POLL_S)))
        except ray.exceptions.RayError:
            await asyncio.sleep(_POLL_S)  # the coordinator is restarting; the next poll reads the store again
            return -1

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return await _awaited(self._coordinator.call.remote(method, *args, **kwargs))
        except ray.exceptions.RayError as error:
            raise cause_of(error, actor="coordinator") from error


def is_finished(record: FlowRecord, *, is_followed: bool, is_driver_ending: bool) -> bool:
    """Whether a run that drained was the flow's last for now.

    Not when the next driver is to continue it, nor when a new copy was asked of it in its last moments: a flow of the
    control store (``is_followed``) then stays as it is, and the next look at the wanted states starts it again.
    """
    if record.state is not FlowState.RUNNING:
        return record.state is FlowState.STOPPING
    return not is_driver_ending and not (is_followed and record.is_copy_wanted)


def _beginning_at(flow: FlowSpec, start_lsn: Lsn | None) -> FlowSpec:
    if start_lsn is None:
        return flow
    options = {**flow.source.options, "start_lsn": str(start_lsn)}
    return flow.model_copy(update={"source": flow.source.model_copy(update={"options": options})})


async def _awaited(ref: Any) -> Any:
    return await ref


def main(arguments: list[str] | None = None) -> int:
    """``python -m cluster.driver``: the same as ``wallaby run`` or, without ``--flow``, ``wallaby up``."""
    from cluster.cli import main as command_line

    given = sys.argv[1:] if arguments is None else arguments
    flows = [word for word in given if word == "--flow" or word.startswith("--flow=")]
    if not flows:
        return command_line(["up", *given])
    position = given.index(flows[0])
    if flows[0] == "--flow":
        path, rest = given[position + 1 : position + 2], given[:position] + given[position + 2 :]
    else:
        path, rest = [flows[0].partition("=")[2]], given[:position] + given[position + 1 :]
    return command_line(["run", *path, *rest])


if __name__ == "__main__":
    raise SystemExit(main())
