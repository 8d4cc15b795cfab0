"""Where the faults happen: two servers behind proxies, a Ray cluster, a live shop, the flow, and its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from cluster.demo import shop
from cluster.demo.proof import (
    DuckDBContents,
    LogContents,
    PostgresContents,
    Verdict,
    compare,
    published_schemas,
    read_source,
)
from cluster.demo.shop import TABLES
from cluster.demo.workload import Workload, WorkloadProgress
from sinks.files.reader import read_log
from tests.chaos.flow_process import FlowProcess
from tests.chaos.schedule import Act, Fault
from wallaby.lsn import Lsn
from wallaby.postgres.embedded import EmbeddedServer
from wallaby.testing.postgres import server_for_tests
from wallaby.testing.proxy import FaultProxy

FLOW: Final = "shop"
SOURCE_DATABASE: Final = "shop"
TARGET_DATABASE: Final = "copy"
_DESTINATIONS: Final = ("postgres", "duckdb", "parquet")
_PROGRESS_S: Final = 180.0
_CATCH_UP_S: Final = 600.0
_DRAIN_S: Final = 120.0
_GONE_S: Final = 60.0
_OTHERS_S: Final = 20.0
_POLL_S: Final = 0.05


class RayHead:
    """A local Ray cluster in a child process."""

    def __init__(self) -> None:
        # Ray's socket paths have a short limit: not below a test's own long directory.
        self._directory = tempfile.mkdtemp(prefix="wray-")
        self.environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        environment = {**os.environ, **self.environment}
        environment.pop("RAY_ADDRESS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.ray_head", self._directory],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.environment["RAY_ADDRESS"] = self._answer()["address"]
        return self

    def actors(self) -> dict[str, int]:
        """Living actors' process ids by name."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("actors\n")
        self._process.stdin.flush()
        return self._answer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.communicate()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise AssertionError("the Ray cluster ended")


class Stage:
    """A context manager; `begin` seeds the shop and starts the flow, `perform` commits a fault, `finish` ends it."""

    def __init__(
        self, directory: Path, *, major: int, seed: int, rows: int, rows_per_s: float, streams: bool = False
    ) -> None:
        self._directory = directory
        self._major = major
        self._seed = seed
        self._rows = rows
        self._rows_per_s = rows_per_s
        self._streams = streams
        """Every transaction is streamed while it runs (16+; before: those beyond 64 kB), and some are prepared."""
        self._stack = ExitStack()
        self._pids: dict[int, str] = {}
        self.struck: Counter[str] = Counter()
        """Phases the flow was in when faults struck."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.source = stack.enter_context(server_for_tests(self._major, self._source_settings()))
            self.target = stack.enter_context(server_for_tests(self._major))
            self._source_proxy = stack.enter_context(FaultProxy(self.source.port))
            self._target_proxy = stack.enter_context(FaultProxy(self.target.port))
            self.ray = stack.enter_context(RayHead())
            self._prepare()
            self.flow = FlowProcess(self._write_flow(), directory=self._directory, environment=self.ray.environment)
            stack.callback(self.flow.end)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    # -- the flow -----------------------------------------------------------------------------------------------------

    def begin(self, *, writers: int = 2) -> None:
        """The workload and the flow, side by side."""
        self.workload = Workload(
            self.source.dsn(SOURCE_DATABASE),
            size=self._size,
            seed=self._seed,
            rows_per_s=self._rows_per_s,
            writers=writers,
            batch_max=60,
            prepared_share=0.2 if self._streams else 0.0,
        )
        self._stack.callback(self._stop_workload)
        self.workload.start()
        self.flow.start()

    def await_streaming(self) -> None:
        """The copy is done and the stream is read."""
        self.flow.wait_for(lambda progress: progress.phase == "streaming", what="streaming", seconds=_CATCH_UP_S)

    def perform(self, act: Act) -> None:
        """Wait for the act's moment, then let it happen; returns once the victim is back to what it should be."""
        wanted = self.flow.progress.total_rows + act.rows
        self.flow.wait_for(lambda progress: progress.total_rows >= wanted, what=f"{act}", seconds=_PROGRESS_S)
        self.struck[self.flow.progress.phase] += 1
        self._require_one_walsender()
        match act.fault:
            case Fault.KILL_DRIVER:
                self.flow.kill()
                self.flow.start()
            case Fault.RESTART_SOURCE_SERVER:
                self.source.restart()
            case Fault.RESTART_TARGET_SERVER:
                self.target.restart()
            case Fault.KILL_SOURCE_SERVER:
                _crash(self.source)
            case Fault.KILL_TARGET_SERVER:
                _crash(self.target)
            case Fault.CUT_SOURCE:
                self._source_proxy.cut()
            case Fault.CUT_TARGET:
                self._target_proxy.cut()
            case Fault.BLACK_HOLE_TARGET:
                self._target_proxy.black_hole()
                self._let_others_go_on("postgres", act.lasts_rows)
                self._target_proxy.resume()
            case fault if fault.verb == "hang":
                self._hang(fault.victim)
            case fault if fault.verb == "SIGSTOP":
                self._freeze(fault.victim, act.lasts_rows)
            case fault:
                self._signal(fault.victim, signal.SIGKILL)

    def finish(self) -> WorkloadProgress:
        """Stop the writers, wait for every lane by position, drain the driver, and look for what was left behind."""
        done = self._stop_workload()
        with psycopg.connect(self.source.dsn(SOURCE_DATABASE), autocommit=True) as connection:
            [(text,)] = connection.execute("SELECT pg_current_wal_lsn()::text").fetchall()
        target = Lsn.parse(text)
        self.flow.wait_for(
            lambda progress: progress.has_all(target), what=f"catching up to {target}", seconds=_CATCH_UP_S
        )
        assert self._fetch(self.source, _WALSENDERS) == [(1,)], "one walsender while streaming"
        self.ray_pids()
        code = self.flow.drain(_DRAIN_S)
        assert code == 0, f"the driver ended with {code}. {self.flow.last_words()}"
        return done

    # -- the proof ----------------------------------------------------------------------------------------------------

    def verdicts(self) -> list[Verdict]:
        """Every table in every destination against the source."""
        source_dsn = self.source.dsn(SOURCE_DATABASE)
        schemas = published_schemas(source_dsn)
        return compare(
            read_source(source_dsn, TABLES),
            [
                PostgresContents("postgres", self.target.dsn(TARGET_DATABASE)),
                DuckDBContents("duckdb", self._directory / "shop.duckdb"),
                LogContents("parquet", self._directory / "parquet", schemas),
            ],
        )

    def doubled(self) -> dict[str, int]:
        """Rows of the append log that are there more than once, by table; tables without any are left out."""
        found = {}
        for table in TABLES:
            log = read_log(self._directory / "parquet", table.schema, table.name)
            if count := _doubled(log):
                found[str(table)] = count
        return found

    def leftovers(self) -> list[str]:
        """What a driver that drained should not leave behind; waits a while for it to go."""
        deadline = time.monotonic() + _GONE_S
        while (found := self._leftovers()) and time.monotonic() < deadline:
            threading.Event().wait(_POLL_S)  # between two questions: another process gives no sign
        return found

    def ray_pids(self) -> dict[str, int]:
        """Living actors' process ids by role (name without flow and epoch)."""
        actors = self.ray.actors()
        self._pids |= {pid: name for name, pid in actors.items()}
        return {_role(name): pid for name, pid in actors.items()}

    # -- parts --------------------------------------------------------------------------------------------------------

    def _source_settings(self) -> dict[str, str]:
        settings = {"wal_sender_timeout": "20s"}
        if self._streams and self._major >= 16:
            settings["debug_logical_replication_streaming"] = "immediate"
        elif self._streams:
            settings["logical_decoding_work_mem"] = "64kB"
        return settings

    def _prepare(self) -> None:
        for server, database in ((self.source, SOURCE_DATABASE), (self.target, TARGET_DATABASE)):
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {database}".encode())
        with psycopg.connect(self.source.dsn(SOURCE_DATABASE), autocommit=True) as connection:
            shop.create(connection)
            self._size = shop.seed(connection, self._rows, self._seed)

    def _write_flow(self) -> Path:
        parquet = self._directory / "parquet"
        parquet.mkdir()
        flow = {
            "name": FLOW,
            "source": {
                "type": "postgres",
                "options": {
                    "dsn": self._source_proxy.dsn(self.source.dsn(SOURCE_DATABASE)),
                    "publication_schemas": [shop.SCHEMA],
                    "two_phase": self._streams and self._major >= 15,
                    "spool_memory": "16KiB",
                },
            },
            "destinations": [
                {
                    "name": "postgres",
                    "type": "postgres",
                    "options": {"dsn": self._target_proxy.dsn(self.target.dsn(TARGET_DATABASE))},
                },
                {"name": "duckdb", "type": "duckdb", "options": {"dsn": str(self._directory / "shop.duckdb")}},
                {"name": "parquet", "type": "files", "options": {"path": str(parquet), "write_mode": "append"}},
            ],
        }
        path = self._directory / "flow.yaml"
        path.write_text(yaml.safe_dump(flow), encoding="utf-8")
        return path

    def _stop_workload(self) -> WorkloadProgress:
        return self.workload.stop()

    def _freeze(self, role: str, lasts_rows: int) -> None:
        pid = self._signal(role, signal.SIGSTOP)
        try:
            self._let_others_go_on(role.rpartition("/")[2], lasts_rows)
        finally:
            _send(pid, signal.SIGCONT)

    def _hang(self, role: str) -> None:
        """Frozen until a later epoch streams without it; then it wakes and finds itself replaced, if it still lives."""
        epoch = self.flow.progress.last["epoch"]
        pid = self._signal(role, signal.SIGSTOP)
        try:
            self.flow.wait_for(
                lambda progress: progress.last["epoch"] > epoch and progress.phase == "streaming",
                what=f"going on without {role}",
                seconds=_CATCH_UP_S,
            )
        finally:
            _send(pid, signal.SIGCONT)

    def _let_others_go_on(self, destination: str, rows: int) -> None:
        """Until the other destinations took so many rows, or a while: what is frozen may hold them up in the end."""
        others = [name for name in _DESTINATIONS if name != destination]
        before = {name: self.flow.progress.rows[name] for name in others}
        deadline = time.monotonic() + _OTHERS_S
        self.flow.wait_for(
            lambda progress: (
                all(progress.rows[name] >= before[name] + rows for name in others) or time.monotonic() > deadline
            ),
            what=f"{others} beside a frozen {destination}",
            seconds=_PROGRESS_S,
        )

    def _signal(self, role: str, number: signal.Signals) -> int:
        """Send it to the role's process; waits for one to exist when the flow is just restarting."""
        deadline = time.monotonic() + _PROGRESS_S
        while True:
            pid = self.ray_pids().get(role)
            if pid is not None and _send(pid, number):
                return pid
            assert time.monotonic() < deadline, f"no {role} process. {self.flow.last_words()}"
            self.flow.wait_for(lambda _: True, what=f"a {role} process", seconds=_PROGRESS_S)
            threading.Event().wait(_POLL_S)  # between two questions: another process gives no sign

    def _require_one_walsender(self) -> None:
        [(active,)] = self._fetch(self.source, _ACTIVE_SLOTS)
        assert active <= 1, f"{active} walsenders stream at once"
        [(slots,)] = self._fetch(self.source, _SLOTS)
        assert slots <= 1, f"{slots} slots"

    def _leftovers(self) -> list[str]:
        found = [f"actor {name} (process {pid})" for name, pid in self.ray.actors().items()]
        found += [f"process {pid} of {name}" for pid, name in self._pids.items() if _is_actor(pid)]
        for server, place in ((self.source, "source"), (self.target, "target")):
            found += [f"a session at the {place}: {name} {state}" for name, state in self._fetch(server, _SESSIONS)]
        [(slots,)] = self._fetch(self.source, _SLOTS)
        if slots != 1:
            found.append(f"{slots} slots")
        [(active,)] = self._fetch(self.source, _ACTIVE_SLOTS)
        if active:
            found.append("the slot is still held")
        return found

    def _fetch(self, server: EmbeddedServer, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(server.dsn(), autocommit=True, application_name="chaos") as connection:
            return connection.execute(query.encode()).fetchall()


_SLOTS: Final = "SELECT count(*) FROM pg_replication_slots"
_ACTIVE_SLOTS: Final = "SELECT count(*) FROM pg_replication_slots WHERE active"
_WALSENDERS: Final = "SELECT count(*) FROM pg_stat_replication"
_SESSIONS: Final = (
    "SELECT application_name, COALESCE(state, backend_type) FROM pg_stat_activity"
    " WHERE application_name LIKE 'wallaby%' AND pid <> pg_backend_pid()"
)


def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        threading.Event().wait(_POLL_S)  # between two questions: another process gives no sign


def _crash(server: EmbeddedServer) -> None:
    server.kill()
    server.start()


def _doubled(log: pa.Table) -> int:
    """Log rows beyond the first with the same position and operation."""
    if not len(log):
        return 0
    identity = ["__commit_lsn", "__ordinal", "__op"]
    counts = log.select(identity).group_by(identity).aggregate([([], "count_all")])["count_all"]
    return len(log) - len(counts) if pc.max(counts).as_py() > 1 else 0


def _role(name: str) -> str:
    """``sink/shop/duckdb/0/7`` is ``sink/duckdb``; ``source/shop/7`` is ``source``; ``coordinator/4711``."""
    parts = name.split("/")
    return f"sink/{parts[2]}" if parts[0] == "sink" else parts[0]


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _is_actor(pid: int) -> bool:
    """The process still is one of Ray's (the number may have been given to another since)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except (FileNotFoundError, ProcessLookupError):
        return False
