"""How long does GetFlow take over loopback, alone and while 200 clients watch, and how soon have all of them heard?

Server and clients are processes of one machine; calls are made one after the other by one client. ``rows`` are calls
(at most 5,000 are made per run); for the last line they are watchers told of one change.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks.measure import Line, Run, cpu_seconds, main, summarise
from wallaby.client import AsyncClient, FlowEvent

WATCHERS: Final = 200
CALLS_MAX: Final = 5_000
_FLOW: Final[dict[str, Any]] = {
    "name": "shop",
    "source": {"type": "postgres", "options": {"dsn": "env:SHOP_DSN", "publication_tables": ["a.b", "c.*"]}},
    "destinations": [{"type": "duckdb", "options": {"dsn": "shop.duckdb"}}],
}


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Three lines: calls alone, calls beside watchers, watchers told."""
    alone: list[Run] = []
    beside: list[Run] = []
    told: list[Run] = []
    delays: dict[str, list[float]] = {"alone": [], "beside": []}
    for _ in range(words.runs):
        with (
            tempfile.TemporaryDirectory() as directory,
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.served", directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as server,
        ):
            assert server.stdout is not None
            assert server.stdin is not None
            address = server.stdout.readline().strip()
            asyncio.run(_run(address, server.pid, min(words.rows, CALLS_MAX), alone, beside, told, delays))
            server.stdin.close()
    first = summarise("api", "GetFlow", alone, is_peer=True, **_tail(delays["alone"]))
    yield first
    yield summarise("api", f"GetFlow, {WATCHERS} watch", beside, peer=first, **_tail(delays["beside"]))
    longest = max(run.wall_s for run in told) * 1e3
    yield summarise("api", "watchers told", told, note=f"all {WATCHERS} within {longest:.0f} ms at the slowest")


async def _run(
    address: str,
    server: int,
    calls: int,
    alone: list[Run],
    beside: list[Run],
    told: list[Run],
    delays: dict[str, list[float]],
) -> None:
    async with AsyncExitStack() as stack:
        wallaby = await stack.enter_async_context(AsyncClient.connect(address))
        await wallaby.create_flow(_FLOW)
        alone.append(await _calls(wallaby, server, calls, delays["alone"]))
        watches = [await stack.enter_async_context(_watch(address)) for _ in range(WATCHERS)]
        beside.append(await _calls(wallaby, server, calls, delays["beside"]))
        began, cpu = time.perf_counter(), cpu_seconds(server)
        waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
        await wallaby.start_flow("shop")
        await asyncio.gather(*waiting)
        wall = time.perf_counter() - began
        told.append(Run(rows=WATCHERS, wall_s=wall, cpu_s=cpu_seconds(server) - cpu))


async def _calls(wallaby: AsyncClient, server: int, count: int, delays: list[float]) -> Run:
    began, cpu = time.perf_counter(), cpu_seconds(server)
    for _ in range(count):
        start = time.perf_counter()
        await wallaby.get_flow("shop")
        delays.append(time.perf_counter() - start)
    return Run(rows=count, wall_s=time.perf_counter() - began, cpu_s=cpu_seconds(server) - cpu)


@asynccontextmanager
async def _watch(address: str) -> AsyncIterator[AsyncIterator[FlowEvent]]:
    """A client of its own that has seen the present state."""
    async with AsyncClient.connect(address) as wallaby:
        events = wallaby.watch("shop")
        await anext(events)
        yield events


def _tail(delays: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(delays, n=100)
    p50, p99 = cuts[49] * 1e3, cuts[98] * 1e3
    return {"note": f"p50 {p50:.2f} ms, p99 {p99:.2f} ms", "extra": {"p50_ms": p50, "p99_ms": p99}}


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
