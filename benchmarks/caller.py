"""``python -m benchmarks.caller ADDRESS CALLS_PER_S WATCHERS``: clients of an API, until standard input ends.

Calls go out on a schedule of their own, however long answers take: a third each GetFlow, ListFlows and GetFlowStatus.
Prints a line once all watch, and at the end how many calls were answered and the seconds GetFlow took, as JSON; what an
overloaded server refuses is not answered. It is nicer than what it calls: clients belong on other machines, and shall
take little from this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import Final

from wallaby.client import AsyncClient
from wallaby.errors import WallabyError

_NICER: Final = 5


async def _call(address: str, per_s: float, watchers: int) -> None:
    async with AsyncExitStack() as stack:
        watches = []
        for _ in range(watchers):
            watching = await stack.enter_async_context(AsyncClient.connect(address))
            watches.append(asyncio.ensure_future(_drain(watching)))
        wallaby = await stack.enter_async_context(AsyncClient.connect(address))
        [flow_id, *_] = [flow.id async for flow in wallaby.list_flows()]
        print("ready", flush=True)
        ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        calls: set[asyncio.Task[None]] = set()
        answered: list[int] = []
        delays: list[float] = []
        began, count = time.perf_counter(), 0
        while not ended.done():
            call = asyncio.create_task(_one(wallaby, flow_id, count % 3, delays, answered))
            calls.add(call)
            call.add_done_callback(calls.discard)
            count += 1
            await asyncio.wait([ended], timeout=max(0.0, began + count / per_s - time.perf_counter()))
        wall_s = time.perf_counter() - began
        await asyncio.gather(*calls)
        print(json.dumps({"calls": len(answered), "wall_s": wall_s, "delays": delays}), flush=True)
        for watch in watches:
            watch.cancel()


async def _one(wallaby: AsyncClient, flow_id: str, kind: int, delays: list[float], answered: list[int]) -> None:
    with contextlib.suppress(WallabyError):
        match kind:
            case 0:
                start = time.perf_counter()
                await wallaby.get_flow(flow_id)
                delays.append(time.perf_counter() - start)
            case 1:
                [flow async for flow in wallaby.list_flows()]
            case _:
                await wallaby.flow_status(flow_id)
        answered.append(kind)


async def _drain(wallaby: AsyncClient) -> None:
    async for _ in wallaby.watch():
        pass


if __name__ == "__main__":
    os.nice(_NICER)
    asyncio.run(_call(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
