"""A served API for tests of its clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wallaby.api.conftest import RememberingControl
from wallaby.api.server import serve
from wallaby.settings import Settings
from wallaby.store import Store
from wallaby.store.opening import open_sqlite


class Running:
    """An API in a thread of its own, as another process would have it."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.control = RememberingControl()
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        wanted = Settings(**{"grpc_listen": "127.0.0.1:0", **settings})
        self._server = self._call(serve(store, self.control, wanted))
        self.address = self._server.address

    def stop(self) -> None:
        self._call(self._server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    store = open_sqlite(tmp_path / "state")
    running = Running(store)
    yield running
    running.stop()
    store.close()
