"""Checkpoints of tables' logs beside the commits, as many commits apart as the options say.

One thread per sink does one table at a time, with handles of its own. A commit never waits for it. What fails is kept
for `Upkeep.findings`. All other care is taken from elsewhere (`sinks.delta.care`); but a log without checkpoints makes
each commit slower than the last, whoever looks after the tables.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from sinks.delta.errors import Doing, translated
from sinks.delta.store import Store
from wallaby.errors import WallabyError
from wallaby.schema import TableName
from wallaby.sink import Finding, Severity

WAITING_MAX: Final = 1_000
"""Tables that wait for their turn; others are found again at their next commits."""
_LANES_EVERY: Final = 100
"""Commits of lanes between two checkpoints of their records."""


@dataclass(frozen=True, slots=True)
class Due:
    """A table whose log is to be summed up."""

    name: str
    uri: str


class Upkeep:
    """``committed`` counts and hands over; the thread starts with the first table that needs it, `close` ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._options = store.options
        self._commits: dict[str, int] = {}
        self._lane_commits = 0
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, Due] = OrderedDict()
        self._failed: OrderedDict[str, str] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def committed(self, table: TableName, uri: str) -> None:
        """A commit to a table is done."""
        count = self._commits[uri] = self._commits.get(uri, 0) + 1
        if count % self._options.checkpoint_every == 0:
            self._hand_over(Due(str(table), uri))

    def committed_lane(self) -> None:
        """A lane's record moved."""
        self._lane_commits += 1
        if self._lane_commits % _LANES_EVERY == 0:
            self._hand_over(Due("lanes", self._store.lanes_uri))

    def findings(self) -> list[Finding]:
        """What could not be done, newest first, one per table."""
        with self._lock:
            failed = list(reversed(self._failed.items()))
        return [
            Finding(
                severity=Severity.WARNING,
                subject=f"table {name}",
                message=f"upkeep failed: {message}",
                advice="The stream goes on; the table's log grows until this is solved",
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

    def _hand_over(self, due: Due) -> None:
        with self._lock:
            if due.uri not in self._waiting and len(self._waiting) >= WAITING_MAX:
                return
            self._waiting[due.uri] = due
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
                due = next(iter(self._waiting.values()))
            failure = self._done(due)
            with self._lock:
                if self._waiting.get(due.uri) is due:
                    del self._waiting[due.uri]
                self._note(due.name, failure)
                self._lock.notify_all()

    def _done(self, due: Due) -> str | None:
        """Sum up one table's log; what went wrong, or None."""
        try:
            table = self._store.open(due.uri, table=due.name)
            if table is not None:
                with translated(Doing.WORK, table=due.name):
                    table.create_checkpoint()
                    table.cleanup_metadata()
        except WallabyError as error:
            return error.message
        return None

    def _note(self, name: str, failure: str | None) -> None:
        self._failed.pop(name, None)
        if failure is not None:
            self._failed[name] = failure
            if len(self._failed) > WAITING_MAX:
                self._failed.popitem(last=False)


__all__ = ["WAITING_MAX", "Due", "Upkeep"]
