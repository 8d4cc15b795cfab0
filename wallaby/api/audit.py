"""The audit log's way into the store: a bounded queue and one writer.

The record of a change is in the store before the call is answered; those of reads and refusals follow a moment later,
many in one transaction, so that looking does not cost a disk flush each. When the store is away the queue fills, and
when it is full calls are refused before they do anything: nobody is let in without a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Final

from wallaby.api.stores import StoreThread
from wallaby.errors import StoreUnavailable, WallabyError
from wallaby.settings import ApiLimits
from wallaby.store import CallRecord

_LOG: Final = logging.getLogger(__name__)
_PAUSE_S: Final = 1.0
"""Between attempts to reach a store that does not answer."""

_Entry = tuple[CallRecord, asyncio.Future[None]]


class AuditTrail:
    """One per API server; belongs to its event loop. `start` it, and `close` it before the store is closed."""

    def __init__(self, store: StoreThread, limits: ApiLimits) -> None:
        self._store = store
        self._limits = limits
        self._queue: deque[_Entry] = deque()
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = asyncio.Event()
        self._expected = 0
        self._complete = asyncio.Event()
        self._complete.set()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writer = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Wait for the records that are expected, write what is queued in one attempt, and end. Idempotent."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._complete.wait(), self._limits.audit_wait_ms / 1000)
        self._closing.set()
        self._arrived.set()
        self._urgent.set()
        if self._writer is not None:
            await self._writer
            self._writer = None

    @property
    def has_room(self) -> bool:
        """Whether a call could be recorded now."""
        return len(self._queue) < self._limits.audit_queue_max

    def require_room(self) -> None:
        """`StoreUnavailable` when a call could not be recorded now."""
        if not self.has_room:
            raise StoreUnavailable(
                "calls cannot be recorded now, and none is answered without a record",
                advice="Check that the control store is up and accepts writes",
            )

    def expect(self) -> None:
        """A call was let in: a record of it will be added with ``is_expected``."""
        self._expected += 1
        self._complete.clear()

    async def add(self, record: CallRecord, *, is_awaited: bool, is_expected: bool = False) -> None:
        """Queue a record; with ``is_awaited`` return when it is stored, at the latest after ``audit_wait_ms``."""
        if is_expected:
            self._expected -= 1
            if not self._expected:
                self._complete.set()
        if self._closing.is_set():
            _LOG.error("a call of %s by %s ended too late to be recorded", record.method, record.principal)
            return
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((record, stored))
        self._arrived.set()
        if is_awaited:
            self._urgent.set()
            await asyncio.wait([stored], timeout=self._limits.audit_wait_ms / 1000)

    async def _write(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), self._limits.audit_delay_ms / 1000)
            self._arrived.clear()
            self._urgent.clear()
            is_stored = await self._drain()
            if self._closing.is_set():
                return
            if not is_stored:
                self._arrived.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), _PAUSE_S)

    async def _drain(self) -> bool:
        """Write everything queued; False when the store does not take it."""
        while self._queue:
            entries = [self._queue[i] for i in range(min(len(self._queue), self._limits.audit_batch_max))]
            records = [record for record, _ in entries]
            try:
                await self._store.run(lambda store, records=records: store.record_calls(records))  # type: ignore[misc]
            except WallabyError as error:
                _LOG.error("%d audit records wait for the control store: %s", len(self._queue), error.message)
                return False
            for _, stored in entries:
                self._queue.popleft()
                if not stored.done():
                    stored.set_result(None)
        return True
