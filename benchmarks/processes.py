"""CPU and memory of the processes a run consists of, sampled from /proc while a walsender serves the run.

A run is timed from the start of its walsender (``backend_start``) to its end, or to the moment its client has confirmed
the target: the same two moments for every subject, whatever it does before and after.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import psycopg

from benchmarks.measure import child_pids, cpu_seconds, is_alive, resident_bytes
from wallaby.lsn import Lsn

_SAMPLE_S: Final = 0.005
_START_TIMEOUT_S: Final = 120.0
_RUN_TIMEOUT_S: Final = 600.0
_WALSENDER: Final = """
SELECT a.pid, extract(epoch FROM a.backend_start)::float8, coalesce(r.replay_lsn >= %(target)s::pg_lsn, false)
FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid LEFT JOIN pg_stat_replication r USING (pid)
WHERE s.slot_name = %(slot)s
"""


@dataclass(slots=True)
class Usage:
    """One process, or all children of one."""

    pid: int
    is_parent: bool
    first: dict[int, float] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Monotonic seconds and private resident bytes."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds since the run began."""
        return sum(last - self.first[pid] for pid, last in self.last.items())

    def begin(self) -> None:
        """The run begins now."""
        self.first.clear()
        self.last.clear()
        for pid in self._pids():
            self.first[pid] = self.last[pid] = cpu_seconds(pid)

    def sample(self) -> None:
        for pid in self._pids():
            self.first.setdefault(pid, 0.0)
            self.last[pid] = max(self.last.get(pid, 0.0), cpu_seconds(pid))

    def sample_memory(self) -> None:
        if not self.is_parent and (resident := resident_bytes(self.pid)):
            self.memory.append((time.monotonic(), resident))

    def _pids(self) -> list[int]:
        return child_pids(self.pid) if self.is_parent else [self.pid]


class Watch:
    """Watches the run that streams from ``slot``. Enter it, start the subject, then `wait`."""

    def __init__(self, dsn: str, slot: str, target: Lsn, *, until_confirmed: bool) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._query = {"slot": slot, "target": str(target)}
        self._until_confirmed = until_confirmed
        self._usages: dict[str, Usage] = {}
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self.wall_s = 0.0
        self.began_at = 0.0
        """Monotonic seconds when the walsender was first seen."""
        self.walsender_cpu_s = 0.0

    def follow(self, name: str, pid: int, *, children: bool = False) -> None:
        """Count this process (or the children of this one) under ``name``. From any thread."""
        usage = Usage(pid, children)
        usage.begin()
        with self._lock:
            self._usages[name] = usage

    def usage(self, name: str) -> Usage:
        """What was counted under ``name``."""
        with self._lock:
            return self._usages[name]

    def cpu_s(self, *names: str) -> float:
        """CPU seconds counted under these names, during the run."""
        return sum(self.usage(name).cpu_s for name in names)

    def wait(self) -> None:
        """Return when the run is over."""
        self._thread.join(_RUN_TIMEOUT_S)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError("the run did not end in time")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cancelled.set()
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        try:
            self._observe()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            self._error = error

    def _observe(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while (found := self._walsender()) is None:
            if self._cancelled.wait(_SAMPLE_S):
                return
            if time.monotonic() > deadline:
                raise TimeoutError("no walsender came")
        pid, started, _ = found
        self.began_at = time.monotonic()
        with self._lock:
            usages = list(self._usages.values())
        for usage in usages:
            usage.begin()
        rounds = 0
        while is_alive(pid):
            self.walsender_cpu_s = max(self.walsender_cpu_s, cpu_seconds(pid))
            self._sample(with_memory=rounds % 4 == 0)
            rounds += 1
            if self._until_confirmed and ((found := self._walsender()) is None or found[2]):
                break
            if self._cancelled.wait(_SAMPLE_S):
                break
        self.wall_s = time.time() - started
        self._sample(with_memory=True)

    def _sample(self, *, with_memory: bool) -> None:
        with self._lock:
            usages = list(self._usages.values())
        for usage in usages:
            usage.sample()
            if with_memory:
                usage.sample_memory()

    def _walsender(self) -> tuple[int, float, bool] | None:
        row: tuple[int, float, bool] | None = self._connection.execute(_WALSENDER, self._query).fetchone()
        return row
