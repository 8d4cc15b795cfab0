"""``wallaby demo``: a shop, a live workload, three destinations, and the proof that they are equal."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cluster.demo import shop, story
from cluster.demo.proof import Verdict, prove
from cluster.demo.workload import Workload, WorkloadProgress
from cluster.driver import Driver
from cluster.ray_runtime import attached
from cluster.supervisor import FlowSupervisor, Outcome, RunMode
from cluster.view import View, machines_only, open_view
from wallaby.errors import CheckFailed, ConfigError
from wallaby.flow import FlowSpec
from wallaby.lsn import Lsn, Position
from wallaby.postgres.embedded import EmbeddedServer, demo_binaries
from wallaby.settings import Limits, Settings
from wallaby.status import FlowStatus

SHOP_DATABASE: Final = "wallaby_demo_shop"
COPY_DATABASE: Final = "wallaby_demo_copy"
_MARKER: Final = ".wallaby-demo"
_CATCH_UP_S: Final = 300.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything of one demo lies."""

    shop_dsn: str
    copy_dsn: str
    directory: Path

    @property
    def duckdb_file(self) -> Path:
        return self.directory / "shop.duckdb"

    @property
    def parquet_directory(self) -> Path:
        return self.directory / "parquet"

    def flow(self) -> dict[str, Any]:
        """The flow file's content."""
        return {
            "name": "shop",
            "source": {
                "type": "postgres",
                "options": {"dsn": self.shop_dsn, "publication_schemas": [shop.SCHEMA]},
            },
            "destinations": [
                {"name": "postgres", "type": "postgres", "options": {"dsn": self.copy_dsn}},
                {"name": "duckdb", "type": "duckdb", "options": {"dsn": str(self.duckdb_file)}},
                {
                    "name": "parquet",
                    "type": "files",
                    "options": {"path": str(self.parquet_directory), "write_mode": "append"},
                },
            ],
        }


def demo(words: argparse.Namespace) -> int:
    """Run the demo; 0 only if every table is equal in every destination."""
    directory = _fresh_directory(Path(words.directory))
    with ExitStack() as stack:
        view = stack.enter_context(open_view(as_json=words.json))
        stack.enter_context(machines_only(words.json))
        view.message("preparing a PostgreSQL with a shop in it …")
        stage = stack.enter_context(_stage(words.source, directory))
        with psycopg.connect(stage.shop_dsn, autocommit=True) as connection:
            shop.create(connection)
            size = shop.seed(connection, words.rows, words.seed)
        flow_file = directory / "flow.yaml"
        flow_file.write_text(yaml.safe_dump(stage.flow(), sort_keys=False), encoding="utf-8")
        flow = FlowSpec.from_file(flow_file)
        runtime = stack.enter_context(attached())
        settings = Settings.load({}, {"state_dir": str(directory.resolve() / "state"), "grpc_listen": "127.0.0.1:0"})
        view.message("starting source, sinks and coordinator …")
        performance = _Performance(words, stage, flow, view, settings, size)
        verdicts = asyncio.run(performance.play())
        story.tell(
            view,
            stage=stage,
            verdicts=verdicts,
            progress=performance.progress,
            status=performance.status,
            address=performance.address,
            dashboard=runtime.dashboard,
            as_json=words.json,
            is_kept=words.keep,
        )
        equal = bool(verdicts) and all(verdict.equal for verdict in verdicts)
        if words.keep and equal:
            asyncio.run(performance.stay_up())
    return 0 if equal else 1


class _Performance:
    """One showing: the flow under a driver, the workload beside it, the proof at the end."""

    def __init__(
        self,
        words: argparse.Namespace,
        stage: Stage,
        flow: FlowSpec,
        view: View,
        settings: Settings,
        size: shop.ShopSize,
    ) -> None:
        self._words = words
        self._stage = stage
        self._flow = flow
        self._view = view
        self._settings = settings
        self._size = size
        self._workload: Workload | None = None
        self.address = ""
        self.status: FlowStatus | None = None
        self.progress: WorkloadProgress | None = None

    async def play(self) -> list[Verdict]:
        """Everything up to the verdicts; the flow is drained and its sinks closed when they are taken."""
        driver = Driver(self._settings, limits=Limits(), observe=self._observe)
        try:
            await driver.start()
            driver.install_signals()
            self.address = driver.address
            run = asyncio.create_task(driver.run_flow(self._flow, RunMode()))
            try:
                target = await self._work(driver, run)
                await self._catch_up(target, run)
            finally:
                if (supervisor := driver.supervisor(self._flow.id)) is not None:
                    supervisor.stop()
                outcome = await run
            if outcome is Outcome.FAILED:
                raise CheckFailed(f"the flow failed: {self.status.error if self.status else 'unknown reason'}")
        finally:
            await driver.close()
        self._view.message(f"everything up to {target} is durable; comparing contents …")
        return await asyncio.to_thread(prove, self._stage)

    async def stay_up(self) -> None:
        """The flow and the API again, until Ctrl-C."""
        driver = Driver(self._settings, limits=Limits(), observe=self._observe)
        try:
            await driver.start()
            driver.install_signals()
            self._view.message(f"staying up; gRPC API on {driver.address}; Ctrl-C ends")
            await driver.run_flow(self._flow, RunMode())
        finally:
            await driver.close()

    async def _work(self, driver: Driver, run: asyncio.Task[Outcome]) -> Lsn:
        """The workload beside the running flow, with accidents if asked; the WAL position after it."""
        words = self._words
        await _while_running(self._has_begun(), run)
        workload = Workload(self._stage.shop_dsn, size=self._size, seed=words.seed, seconds=words.seconds)
        self._workload = workload
        chaos = asyncio.create_task(self._accidents(driver)) if words.chaos else None
        try:
            self.progress = await _while_running(asyncio.to_thread(_perform, workload), run)
            if chaos is not None:
                await chaos
        finally:
            workload.stop()
            if chaos is not None:
                chaos.cancel()
        with psycopg.connect(self._stage.shop_dsn, autocommit=True) as connection:
            row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None
        return Lsn.parse(row[0])

    async def _has_begun(self) -> None:
        while self.status is None or self.status.phase in ("idle", "starting"):
            await asyncio.sleep(_POLL_S)

    async def _accidents(self, driver: Driver) -> None:
        """SIGKILL the source, a sink and the coordinator, spread over the workload's time."""
        pause_s = self._words.seconds / 4
        for victim in ("source", "sink/duckdb/0", "coordinator"):
            await asyncio.sleep(pause_s)  # the demo's script: one accident per quarter of the show
            pid = await _pid_of(driver, self._flow.id, victim)
            os.kill(pid, signal.SIGKILL)
            self._view.message(f"killed {victim} (process {pid}) with SIGKILL")

    async def _catch_up(self, target: Lsn, run: asyncio.Task[Outcome]) -> None:
        self._view.message(f"the workload has ended at {target}; waiting until every destination is there …")

        async def caught_up() -> None:
            while not self._has_all(target):
                await asyncio.sleep(_POLL_S)

        try:
            await asyncio.wait_for(_while_running(caught_up(), run), _CATCH_UP_S)
        except TimeoutError:
            raise CheckFailed(
                f"the destinations did not catch up in {_CATCH_UP_S:.0f} s",
                advice="Look at the lag per destination above, and at the actors' logs",
            ) from None

    def _has_all(self, target: Lsn) -> bool:
        status = self.status
        if status is None or status.phase != "streaming" or not status.lanes:
            return False
        return all(lane.position >= Position(target) for lane in status.lanes)

    def _observe(self, status: FlowStatus) -> None:
        self.status = status
        note = ""
        if self._workload is not None:
            done = self._workload.progress
            note = f"workload: {done.transactions:,} transactions, {done.rows:,} rows, {done.rows_per_s:,.0f} rows/s"
        self._view.update(status, note=note)


def _perform(workload: Workload) -> WorkloadProgress:
    workload.start()
    return workload.wait()


async def _while_running(work: Any, run: asyncio.Task[Outcome]) -> Any:
    """``work``'s result, unless the flow ends before it: then why it ended."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task, run], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    run.result()
    raise CheckFailed("the flow ended before the demo did", advice="Its last error is shown above")


async def _pid_of(driver: Driver, flow_id: str, role: str) -> int:
    if role == "coordinator":
        _, pid = await driver.coordinator.ready.remote()
        return int(pid)
    while True:
        supervisor: FlowSupervisor | None = driver.supervisor(flow_id)
        actor = supervisor.actors().get(role) if supervisor is not None else None
        if actor is not None:
            return int(await actor.ping.remote())
        await asyncio.sleep(_POLL_S)


@contextmanager
def _stage(source: str | None, directory: Path) -> Iterator[Stage]:
    """The two databases, on a server of our own or on ``source``."""
    if source is None:
        server = EmbeddedServer(demo_binaries(), directory=directory.resolve() / "postgres")
        with server:
            _create_databases(server.dsn())
            yield Stage(server.dsn(SHOP_DATABASE), server.dsn(COPY_DATABASE), directory.resolve())
    else:
        _create_databases(source)
        shop_dsn, copy_dsn = (make_conninfo(source, dbname=name) for name in (SHOP_DATABASE, COPY_DATABASE))
        yield Stage(shop_dsn, copy_dsn, directory.resolve())


def _create_databases(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s AND NOT active",
            [SHOP_DATABASE],
        )
        for name in (SHOP_DATABASE, COPY_DATABASE):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _fresh_directory(directory: Path) -> Path:
    """An empty directory for the demo's files; one an earlier demo left is emptied, anything else is left alone."""
    if directory.exists() and any(directory.iterdir()) and not (directory / _MARKER).exists():
        raise ConfigError(
            f"the directory {directory} holds something else",
            advice="Name another one with --directory",
            field="--directory",
        )
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / _MARKER).touch()
    (directory / "parquet").mkdir()
    return directory
