"""Following what happens to flows: one poll of the store for all watchers, and each reads on from its own cursor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Final

from wallaby.errors import ConfigError, NotFound, StoreUnavailable, WallabyError
from wallaby.store import FlowPage, FlowRecord, Snapshot, StateEvent, Store

if TYPE_CHECKING:
    from wallaby.api.stores import StoreThread

POLL_S: Final = 0.25
"""How soon a change made by another process is seen; our own are seen at once."""


class ChangeFeed:
    """Wakes watchers when the store's version moves. Polls only while somebody watches. One event loop."""

    def __init__(self, store: StoreThread, *, watchers_max: int) -> None:
        self._store = store
        self._watchers_max = watchers_max
        self._condition = asyncio.Condition()
        self._nudged = asyncio.Event()
        self._changes = 0
        self._watchers = 0
        self._is_closed = False
        self._poller: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Be one of the watchers; `StoreUnavailable` when there are too many."""
        if self._is_closed:
            raise StoreUnavailable("the server is stopping", advice="Watch again, from the last cursor")
        if self._watchers >= self._watchers_max:
            raise StoreUnavailable(f"{self._watchers_max} clients watch already", advice="Try again later")
        self._watchers += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._poller is not None:
                poller, self._poller = self._poller, None
                poller.cancel()

    @property
    def changes(self) -> int:
        """Grows when something may have changed."""
        return self._changes

    async def changed_since(self, seen: int) -> int:
        """Wait until `changes` is not ``seen``; `StoreUnavailable` when the server stops, or cannot look, meanwhile."""
        async with self._condition:
            await self._condition.wait_for(
                lambda: self._is_closed or self._poller is None or self._changes != seen,
            )
        if self._is_closed:
            raise StoreUnavailable("the server is stopping", advice="Watch again, from the last cursor")
        if self._poller is None:
            raise StoreUnavailable("the watch was interrupted", advice="Watch again, from the last cursor")
        return self._changes

    def nudge(self) -> None:
        """Something was changed through this server: look now."""
        self._nudged.set()

    async def close(self) -> None:
        """End every watch. Idempotent."""
        self._is_closed = True
        if self._poller is not None:
            self._poller.cancel()
        async with self._condition:
            self._condition.notify_all()

    async def _poll(self) -> None:
        try:
            await self._look()
        except Exception:
            # Nobody must wait for a poller that is gone; the next watcher starts another.
            self._poller = None
            async with self._condition:
                self._condition.notify_all()
            raise

    async def _look(self) -> None:
        version = -1
        while True:
            with contextlib.suppress(WallabyError):  # the store is away: watchers wait, and miss nothing
                newest = await self._store.look(lambda store: store.version())
                if newest != version:
                    version = newest
                    async with self._condition:
                        self._changes += 1
                        self._condition.notify_all()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), POLL_S)
            self._nudged.clear()


async def follow(
    feed: ChangeFeed, store: StoreThread, flow_id: str, cursor: int, *, with_snapshots: bool = False
) -> AsyncGenerator[tuple[int, StateEvent | FlowRecord | Snapshot], None]:
    """Cursor and event, for ever. From cursor 0: the present state of every flow watched, then what follows.

    ``with_snapshots``: also how far the copy of the one flow is, now and whenever that changes; steps in between are
    left out when the watcher is slow.
    """
    if cursor < 0:
        raise ConfigError("must not be negative", field="cursor")
    if with_snapshots and not flow_id:
        raise ConfigError("is required with snapshots", field="flow_id")
    async with feed.watching():
        seen = feed.changes
        newest = await store.run(lambda store: store.newest_cursor())
        if cursor > newest:
            raise ConfigError(
                "lies beyond every event of this control store", field="cursor", advice="Watch from 0 again"
            )
        if cursor == 0:
            # The cursor is read before the states: what happens in between comes twice, and nothing is missed.
            cursor = newest
            async for record in _present(store, flow_id):
                yield cursor, record
        told: Snapshot | None = None
        while True:
            while events := await store.run(partial(_events, cursor, flow_id)):
                for event in events:
                    cursor = event.cursor
                    yield cursor, event
            if with_snapshots and (found := await store.run(partial(_snapshot, flow_id))) not in (None, told):
                told = found
                yield cursor, found
            seen = await feed.changed_since(seen)


async def _present(store: StoreThread, flow_id: str) -> AsyncIterator[FlowRecord]:
    if flow_id:
        with contextlib.suppress(NotFound):
            yield await store.run(lambda store: store.get_flow(flow_id))
        return
    token = ""
    while True:
        page = await store.run(partial(_page, token))
        for record in page.flows:
            yield record
        token = page.next_page_token
        if not token:
            return


def _events(cursor: int, flow_id: str, store: Store) -> tuple[StateEvent, ...]:
    return store.events_after(cursor, flow_id)


def _snapshot(flow_id: str, store: Store) -> Snapshot | None:
    try:
        return store.get_snapshot(flow_id)
    except NotFound:
        return None


def _page(token: str, store: Store) -> FlowPage:
    return store.list_flows(0, token)
