"""``python -m cluster.driver`` as a child process, and what it says about its progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wallaby.lsn import Lsn, Position

_EARLY_ENDS_MAX: Final = 10
"""A driver that is started while what it needs is still away, or still held by the dead one, may end at once."""
_TAIL: Final = 4_000


@dataclass(slots=True)
class Progress:
    """Everything heard so far, over all drivers and epochs."""

    lines: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """Rows delivered, by destination; what was sent again counts again."""
    epochs: set[int] = field(default_factory=set)
    last: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] | None = None
    _seen: dict[tuple[int, str], int] = field(default_factory=dict)

    @property
    def total_rows(self) -> int:
        return self.rows.total()

    @property
    def phase(self) -> str:
        return str(self.last.get("phase", ""))

    def has_all(self, target: Lsn) -> bool:
        """Every lane's destination holds everything up to ``target``."""
        lanes = self.last.get("lanes") or []
        return (
            self.phase == "streaming"
            and bool(lanes)
            and all(Position.parse(lane["position"]) >= Position(target) for lane in lanes)
        )

    def take(self, event: Mapping[str, Any]) -> None:
        """One line of the driver's."""
        match event.get("event"):
            case "progress":
                self.lines += 1
                self.last = event
                self.epochs.add(event["epoch"])
                for lane in event["lanes"]:
                    key = event["epoch"], lane["destination"]
                    self.rows[lane["destination"]] += max(0, lane["rows"] - self._seen.get(key, 0))
                    self._seen[key] = lane["rows"]
            case "report":
                self.report = event


class FlowProcess:
    """Starts the driver, and again whenever it was killed. Any thread may wait for progress."""

    def __init__(self, flow_file: Path, *, directory: Path, environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", "cluster.driver", "--flow", str(flow_file), "--json"]
        self._command += ["--state-dir", str(directory / "state"), "--listen", "127.0.0.1:0", "--no-dashboard"]
        self._environment = {**os.environ, **environment}
        self._errors = directory / "driver.log"
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._early_ends = 0
        self.progress = Progress()
        self.starts = 0

    def start(self) -> None:
        """Start the driver; `progress` goes on from where it was."""
        self.starts += 1
        self.progress.report = None
        with self._errors.open("a", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def drain(self, seconds: float) -> int:
        """SIGTERM; the exit code once everything read is durable."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(seconds)
        self._reap()
        return code

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def wait_for(self, condition: Callable[[Progress], bool], *, what: str, seconds: float) -> None:
        """Until ``condition`` holds; AssertionError with the driver's last words when it does not in time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition(self.progress):
                left = deadline - time.monotonic()
                assert left > 0, f"{what}: not within {seconds:.0f} s. {self.last_words()}"
                self._changed.wait(min(left, 1.0))
                self._restart_if_it_ended_early(what)

    def last_words(self) -> str:
        """For a failure's message."""
        said = self._errors.read_text(encoding="utf-8")[-_TAIL:] if self._errors.exists() else ""
        last = {name: self.progress.last.get(name) for name in ("phase", "epoch", "restarts", "error", "lanes")}
        return f"Last progress: {last}\nStandard error:\n{said}"

    def _restart_if_it_ended_early(self, what: str) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        self._reap()
        report = self.progress.report
        assert report is None, f"{what}: the driver ended with {code}: {report}. {self.last_words()}"
        self._early_ends += 1
        assert self._early_ends <= _EARLY_ENDS_MAX, f"the driver does not start ({code}). {self.last_words()}"
        self.start()

    def _reap(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off by SIGKILL
            with self._changed:
                self.progress.take(event)
                if event.get("phase") == "streaming":
                    self._early_ends = 0
                self._changed.notify_all()
