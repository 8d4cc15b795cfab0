"""The coordinator actor: the only writer of the control store in a cluster, and the gRPC API's home.

One event loop; store calls run one after another on one thread, so commits are serialised without a lock. Everything
it knows it can read again from the store: Ray may restart it at any moment, and may repeat any call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from wallaby.api.server import ApiServer, serve
from wallaby.errors import WallabyError
from wallaby.letter_box import LetterBox
from wallaby.lsn import Position
from wallaby.settings import Limits, Settings
from wallaby.status import FlowStatus
from wallaby.store import Store, open_store
from wallaby.vault import Vault


class CoordinatorShell:
    """Forwards to the store and answers the API's questions from what the driver reported last."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits an actor's constructor
        self._settings = settings
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._opening = asyncio.Lock()
        self._store: Store | None = None
        self._server: ApiServer | None = None
        self._letters: LetterBox | None = None
        self._changed = asyncio.Condition()
        self._changes = 0
        self._statuses: dict[str, FlowStatus] = {}
        with contextlib.suppress(WallabyError):
            await self._opened()  # whoever calls next tries again, and is told why not

    def __repr__(self) -> str:
        return f"Coordinator[{self._store}]"

    async def ready(self) -> tuple[str, int]:
        """The API's ``host:port`` and our process id."""
        await self._opened()
        assert self._server is not None
        return self._server.address, os.getpid()

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Any method of the `Store` port, in the store's thread."""
        store = await self._opened()
        return await self._run(getattr(store, method), *args, **kwargs)

    async def letters(self, method: str, /, *args: Any) -> Any:
        """Any method of the `Letters` port, in the store's thread; keys of contents are here and not with the lanes."""
        store = await self._opened()
        if self._letters is None:
            self._letters = LetterBox(store, Vault.from_reference(self._settings.secret_key), Limits())
        return await self._run(getattr(self._letters, method), *args)

    async def commit_checkpoint(
        self, flow: str, epoch: int, after: Position, upto: Position, lanes: Mapping[str, Position]
    ) -> None:
        """Move the flow's checkpoint; see `Store.commit_checkpoint`."""
        store = await self._opened()
        await self._run(store.commit_checkpoint, flow, epoch=epoch, after=after, upto=upto, lanes=lanes)

    @ray.method(max_task_retries=0)
    async def wait_changed(self, seen: int, timeout_s: float) -> int:
        """Long poll: returns a number other than ``seen`` as soon as some flow's wanted state may have changed."""
        async with self._changed:
            if self._changes == seen:
                try:
                    await asyncio.wait_for(self._changed.wait(), timeout_s)
                except TimeoutError:
                    return self._changes
            return self._changes

    @ray.method(max_task_retries=0)
    async def report(self, status: FlowStatus) -> None:
        """The driver's news of a flow, for the API."""
        self._statuses[status.flow] = status

    # -- FlowControl: what the API asks -------------------------------------------------------------------------------

    async def changed(self, flow_id: str) -> None:
        """A flow's wanted state changed: wake the driver."""
        async with self._changed:
            self._changes += 1
            self._changed.notify_all()

    async def run_once(self, flow_id: str) -> bool:
        """Wake the driver; it sees the flow's wanted run in the store."""
        await self.changed(flow_id)
        return True

    async def status(self, flow_id: str) -> FlowStatus | None:
        """What the driver last reported, None when the flow has not run here."""
        return self._statuses.get(flow_id)

    async def _opened(self) -> Store:
        """The store, with the API serving it; opened now if it could not be before."""
        async with self._opening:
            if self._store is None:
                self._store = await self._run(open_store, self._settings)
            if self._server is None:
                self._server = await serve(self._store, self, self._settings)
            return self._store

    async def _run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))
