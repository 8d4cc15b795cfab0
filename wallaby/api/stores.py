"""The control store beside the API's event loop, or for a short look on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from wallaby.api.call import CURRENT
from wallaby.store import Store

_Result = TypeVar("_Result")
_Message = TypeVar("_Message", bound=Any)


class StoreThread:
    """Runs the store's blocking calls one after another beside the event loop."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self.store = store
        self._executor = executor

    async def run(self, call: Callable[[Store], _Result]) -> _Result:
        """The result of ``call(store)``."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, self.store)

    async def look(self, call: Callable[[Store], _Result]) -> _Result:
        """The result of ``call(store)``, which only reads one thing: at once where the store can do that.

        To ask a thread and be woken by it costs several times what the embedded store takes to answer.
        """
        return call(self.store) if self.store.reads_at_once else await self.run(call)

    async def change(self, kind: type[_Message], call: Callable[[Store], _Message]) -> _Message:
        """The answer of type ``kind`` that ``call(store)`` makes, once only for a request id: a repeat gets it again.

        ``call`` may not do anything but change the store, in one transaction with the note that it was done.
        """
        current = CURRENT.get()
        request = current.request if current else None
        if request is None:
            return await self.run(call)

        def once(store: Store) -> bytes:
            return store.once(request, lambda: bytes(call(store).SerializeToString(deterministic=True)))

        return kind.FromString(await self.run(once))

    async def undo(self, call: Callable[[Store], object]) -> None:
        """Undo what `change` did for this call, so that a repeat runs again."""
        current = CURRENT.get()
        request = current.request if current else None

        def work(store: Store) -> None:
            call(store)
            if request is not None:
                store.forget_request(request)

        await self.run(work)
