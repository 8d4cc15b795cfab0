"""wallaby under measurement: flows run by a real driver under a Ray of our own, their processes followed."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import ray

from benchmarks.measure import unwind_on_sigterm
from benchmarks.processes import Watch
from benchmarks.servers import Content
from cluster.driver import Driver
from cluster.ray_runtime import attached
from cluster.supervisor import FlowSupervisor, Outcome, RunMode
from wallaby.flow import FlowSpec
from wallaby.settings import Limits, Settings
from wallaby.status import FlowStatus

_POLL_S: Final = 0.005
_CHECK_S: Final = 0.5
SOURCE: Final = "source"
SINK: Final = "sink"


class Flows:
    """One Ray and one driver for all runs of a benchmark: their start-up is in no run."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wallaby-benchmark-"))
        """For destinations that are files; removed at the end."""
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        self._statuses: dict[str, FlowStatus] = {}

    def __enter__(self) -> Self:
        try:
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self._stack.enter_context(attached(dashboard=False))
            unwind_on_sigterm()  # Ray installed a handler of its own
            self._runner = self._stack.enter_context(asyncio.Runner())
            settings = Settings.load({}, {"state_dir": str(self.directory / "state"), "grpc_listen": "127.0.0.1:0"})
            self._driver = Driver(settings, limits=Limits(), observe=self._observe)
            self._stack.callback(lambda: self._runner.run(self._driver.close()))
            self._runner.run(self._driver.start())
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def api(self) -> tuple[str, int]:
        """``host:port`` of the driver's API, and the process id of the coordinator that serves it."""

        async def ask() -> tuple[str, int]:
            answer: tuple[str, int] = await self._driver.coordinator.ready.remote()
            return answer

        return self._runner.run(ask())

    def drain(self, content: Content, slot: str, destination: Mapping[str, Any], watch: Watch) -> FlowStatus:
        """Stream the content of ``slot`` into a destination until all of it is durable there."""
        return self._runner.run(self._drain(self._flow(content, slot, destination), content, watch))

    def run_while(self, work: Any, content: Content, slot: str, destination: Mapping[str, Any]) -> Any:
        """A flow from ``slot`` for as long as ``work`` (an awaitable) takes; returns its result."""
        return self._runner.run(self._run_while(work, self._flow(content, slot, destination)))

    def _flow(self, content: Content, slot: str, destination: Mapping[str, Any]) -> FlowSpec:
        source = {
            "dsn": content.dsn,
            "slot": slot,
            "publication": content.publication,
            "ensure_publication": False,
            "snapshot": "never",
        }
        return FlowSpec.from_mapping(
            {
                "name": f"run{next(self._numbers)}",
                "source": {"type": "postgres", "options": source},
                "destinations": [{"name": "target", **destination}],
            }
        )

    async def _drain(self, flow: FlowSpec, content: Content, watch: Watch) -> FlowStatus:
        run = asyncio.create_task(self._driver.run_flow(flow, RunMode(until=content.target)))
        try:
            for name, role in ((SINK, "sink/target/0"), (SOURCE, "source")):
                if (pid := await self._pid(flow, role, run)) is not None:
                    watch.follow(name, pid)
            while not run.done():
                await asyncio.wait([run], timeout=_CHECK_S)
                if (status := self._statuses[flow.id]).restarts and (running := self._driver.supervisor(flow.id)):
                    running.stop()
                    raise RuntimeError(f"the flow restarted, which spoils the measurement: {status.error}")
        finally:
            outcome = await run
        status = self._statuses[flow.id]
        if outcome is Outcome.FAILED:
            raise RuntimeError(f"the flow failed: {status.error}")
        return status

    async def _run_while(self, work: Any, flow: FlowSpec) -> Any:
        run = asyncio.create_task(self._driver.run_flow(flow, RunMode()))
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, run], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise RuntimeError(f"the flow ended before it should: {self._statuses[flow.id].error}")
            return task.result()
        finally:
            task.cancel()
            if (supervisor := self._driver.supervisor(flow.id)) is not None:
                supervisor.stop()
            await run

    async def _pid(self, flow: FlowSpec, role: str, run: asyncio.Task[Outcome]) -> int | None:
        while not run.done():
            supervisor: FlowSupervisor | None = self._driver.supervisor(flow.id)
            actor = supervisor.actors().get(role) if supervisor is not None else None
            if actor is not None:
                try:
                    return int(await actor.ping.remote())
                except ray.exceptions.RayError:
                    return None
            await asyncio.sleep(_POLL_S)
        return None

    def _observe(self, status: FlowStatus) -> None:
        self._statuses[status.flow] = status
