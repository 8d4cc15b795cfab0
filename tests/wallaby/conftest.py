"""An API that runs in a thread, over a real SQLite store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wallaby.api.running import Running
from wallaby.store.opening import open_sqlite


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    store = open_sqlite(tmp_path / "state")
    running = Running(store)
    yield running
    running.stop()
    store.close()
