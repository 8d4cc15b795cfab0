"""Care for tables beside the commits: checkpoints, compaction of small files, removal of files nobody needs.

One thread per sink does one table at a time, with handles of its own and one of the engine's tasks. A commit
never waits for it. Where both touch the same files the later one loses: a merge of ours is made again from the newest
version; a compaction is dropped until the table's next turn. What fails otherwise is kept for `Upkeep.findings`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from deltalake import DeltaTable

from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.store import NO_HOOKS, Store
from wallaby.errors import WallabyError
from wallaby.schema import TableName
from wallaby.sink import Finding, Severity

WAITING_MAX: Final = 1_000
"""Tables that wait for their turn; others are found again at their next commits."""
_TASKS_MAX: Final = 1
"""Partitions the engine compacts at once: the machine is the stream's."""
_SPILL_BYTES_MAX: Final = 256 << 20
_LANES_EVERY: Final = 100
"""Commits of lanes between two checkpoints of their records."""


@dataclass(frozen=True, slots=True)
class Care:
    """What one table gets in its turn."""

    name: str
    uri: str
    checkpoint: bool
    compact: bool


class Upkeep:
    """``committed`` counts and hands over; the thread starts with the first table that needs it, `close` ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._options = store.options
        self._commits: dict[str, int] = {}
        self._lane_commits = 0
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, Care] = OrderedDict()
        self._failed: OrderedDict[str, str] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def committed(self, table: TableName, uri: str) -> None:
        """A commit to a table is done."""
        count = self._commits[uri] = self._commits.get(uri, 0) + 1
        checkpoint = count % self._options.checkpoint_every == 0
        compact = bool(self._options.optimize_every) and count % self._options.optimize_every == 0
        if checkpoint or compact:
            self._hand_over(Care(str(table), uri, checkpoint, compact))

    def committed_lane(self) -> None:
        """A lane's record moved."""
        self._lane_commits += 1
        if self._lane_commits % _LANES_EVERY == 0:
            self._hand_over(Care("lanes", self._store.lanes_uri, checkpoint=True, compact=False))

    def findings(self) -> list[Finding]:
        """What could not be done, newest first, one per table."""
        with self._lock:
            failed = list(reversed(self._failed.items()))
        return [
            Finding(
                severity=Severity.WARNING,
                subject=f"table {name}",
                message=f"upkeep failed: {message}",
                advice="The stream goes on; the table's log or small files grow until this is solved",
                code="upkeep",
            )
            for name, message in failed
        ]

    def drain(self) -> None:
        """Wait until nothing waits or runs. For tests and the end of a run."""
        with self._lock:
            self._lock.wait_for(lambda: not self._waiting or self._thread is None)

    def close(self) -> None:
        """Forget what waits and let what runs end. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            self._lock.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        with self._lock:
            self._thread, self._is_closed = None, False

    def _hand_over(self, care: Care) -> None:
        with self._lock:
            earlier = self._waiting.get(care.uri)
            if earlier is None and len(self._waiting) >= WAITING_MAX:
                return
            if earlier is not None:
                care = Care(care.name, care.uri, care.checkpoint or earlier.checkpoint, care.compact or earlier.compact)
            self._waiting[care.uri] = care
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wallaby-delta-upkeep", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                # It stays among the waiting while it is done, so that `drain` waits for it.
                care = next(iter(self._waiting.values()))
            failure = self._done(care)
            with self._lock:
                if self._waiting.get(care.uri) is care:
                    del self._waiting[care.uri]
                self._note(care.name, failure)
                self._lock.notify_all()

    def _done(self, care: Care) -> str | None:
        """Look after one table; what went wrong, or None."""
        try:
            table = self._store.open(care.uri, table=care.name)
            if table is not None:
                self._look_after(table, care)
        except Conflict:
            return None  # the stream was faster; the table's next turn comes
        except WallabyError as error:
            return error.message
        return None

    def _look_after(self, table: DeltaTable, care: Care) -> None:
        with translated(Doing.WORK, table=care.name):
            if care.compact:
                table.optimize.compact(
                    target_size=self._options.target_file_size,
                    max_concurrent_tasks=_TASKS_MAX,
                    max_spill_size=_SPILL_BYTES_MAX,
                    post_commithook_properties=NO_HOOKS,
                )
                if self._options.vacuum:
                    table.vacuum(
                        retention_hours=max(1, int(self._options.retention.total_seconds() // 3600)),
                        dry_run=False,
                        enforce_retention_duration=False,
                        post_commithook_properties=NO_HOOKS,
                    )
            if care.checkpoint or care.compact:
                table.create_checkpoint()
                table.cleanup_metadata()

    def _note(self, name: str, failure: str | None) -> None:
        self._failed.pop(name, None)
        if failure is not None:
            self._failed[name] = failure
            if len(self._failed) > WAITING_MAX:
                self._failed.popitem(last=False)


__all__ = ["WAITING_MAX", "Care", "Upkeep"]
