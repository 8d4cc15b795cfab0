"""Debezium's engine inside Python (pydbzengine), JSON events, as its own documentation sets it up.

Run by `benchmarks.peers` in an environment that has pydbzengine and Java: ``… DSN SLOT PUBLICATION ROWS TARGET``. It
has no notion of an end, so it ends when it has as many events as there are rows; one more would fail the run.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from debezium_settings import settings
from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine


class Counter(BasePythonChangeHandler):
    """Counts events and throws them away."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.rows = 0
        self.is_complete = threading.Event()

    def handleJsonBatch(self, records: Any) -> None:
        self.rows += len(records)
        if self.rows >= self._wanted:
            self.is_complete.set()


def main() -> None:
    """Count, print, and leave without waiting for the machine inside."""
    dsn, slot, publication, rows, _ = sys.argv[1:6]
    counter = Counter(int(rows))
    engine = DebeziumJsonEngine(properties=settings(dsn, slot, publication), handler=counter)
    threading.Thread(target=engine.run, daemon=True).start()
    counter.is_complete.wait()
    print(json.dumps({"rows": counter.rows}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
