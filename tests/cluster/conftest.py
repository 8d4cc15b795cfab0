"""A Ray of our own for the tests that need one: started once, with its dashboard and job server, ended by its pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import pytest

from tests.wallaby.api.running import running
from wallaby.postgres.embedded import free_port

__all__ = ["running"]

ROOT: Final = Path(__file__).parents[2]
START_S: Final = 240.0
"""A command until it streams or ends: seconds on an idle machine, minutes on one that runs everything at once."""

STEP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class RayHost:
    """A running local Ray. ``environment`` makes any wallaby process use it."""

    address: str
    dashboard: str
    environment: Mapping[str, str]


@pytest.fixture(scope="package")
def ray_host() -> Iterator[RayHost]:
    """One Ray for all tests here, which run one after the other; idle it would still take a tenth of a core.

    Everything of it lies in a folder of its own and ends with its host.
    """
    with tempfile.TemporaryDirectory(prefix="wr", ignore_cleanup_errors=True) as folder:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WALLABY_"))}
        environment = clean | {
            "RAY_AUTH_MODE": "disabled",
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            # No four idle processes for each of dozens of drivers: they take the cores from what tests wait for.
            "RAY_prestart_worker_first_driver": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}",
        }
        port, dashboard, *others = (free_port() for _ in range(6))
        words = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
        words += [f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}", "--num-cpus=4"]
        words += ["--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"]
        names = (
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
            "metrics-export-port",
            "ray-client-server-port",
        )
        words += [f"--{name}={number}" for name, number in zip(names, others, strict=True)]
        log = Path(folder) / "start.log"
        with log.open("w") as output:
            host = subprocess.Popen(words, env=environment, cwd=folder, stdout=output, stderr=output)
        try:
            _await_job_server(f"http://127.0.0.1:{dashboard}", host, log)
            address = f"127.0.0.1:{port}"
            yield RayHost(address, f"127.0.0.1:{dashboard}", environment | {"RAY_ADDRESS": address})
        finally:
            host.terminate()  # `ray start --block` ends what it started
            host.wait(timeout=60)


def _await_job_server(url: str, host: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until the job server's agent answers: Ray gives no other sign of being complete."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/api/jobs/", timeout=STEP_S):
                return
        except OSError:
            assert host.poll() is None, f"Ray did not start: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"Ray is not complete: {log.read_text()[-2000:]}"
            time.sleep(0.2)  # between two questions: Ray gives no other sign


@dataclass(slots=True)
class Command:
    """A running command whose lines are read as they come."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _coming: SimpleQueue[str | None] = field(default_factory=SimpleQueue)

    @classmethod
    def start(cls, words: list[str], *, environment: Mapping[str, str], folder: Path) -> Command:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=folder,
            text=True,
            start_new_session=True,
        )
        command = cls(process)
        threading.Thread(target=command._read, daemon=True).start()
        threading.Thread(target=command._read_errors, daemon=True).start()
        return command

    def until(self, words: str, timeout_s: float = STEP_S) -> str:
        """The next line that holds ``words``."""
        while True:
            try:
                line = self._coming.get(timeout=timeout_s)
            except Empty:
                raise AssertionError(f"no {words!r} in {timeout_s} s: {self.tail()}") from None
            assert line is not None, f"ended before {words!r}: {self.tail()}"
            if words in line:
                return line

    def signal(self, number: signal.Signals) -> None:
        """To the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout_s: float = STEP_S) -> int:
        """The exit code, after the last line was read."""
        code = self.process.wait(timeout=timeout_s)
        while self._coming.get(timeout=timeout_s) is not None:
            pass
        return code

    def events(self) -> list[dict[str, Any]]:
        """Every line of standard output as JSON; fails when one is not."""
        return [json.loads(line) for line in self.lines]

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def tail(self) -> str:
        return "".join([*self.lines[-5:], *self.errors[-20:]])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._coming.put(line)
        self._coming.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)
