"""How long does GetFlow take over loopback, alone and while 200 clients watch, and how soon have all of them heard?
What does a call cost the server? And how much slower are flows while the API is busy?

Server and clients are processes of one machine; calls are made one after the other by one client. ``rows`` are calls
(at most 400 are made per run and subject, which is what a caller may at once); for ``watchers told`` they are watchers
told of one change. ``an empty call`` is a health check, which passes no guard and asks no store: what gRPC itself
costs. CPU is the server's, per call; its clock ticks in hundredths of a second, and a machine that is busy makes it
larger (caches, wake-ups), the empty call's too.

``a flow`` is the stream of one slot into nothing (a blackhole destination): from copies of one slot, by turns alone and
beside 100 calls/s and 200 watchers. Wanted: the ratio is at least 0.98. The clients run at a lower priority, but on
a machine whose processors are all at work the share of the API itself shows: it is in the note, per call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.flows import SINK, SOURCE, Flows
from benchmarks.measure import Line, Run, cpu_seconds, main, summarise
from benchmarks.processes import Watch
from benchmarks.servers import Content, measuring_server, narrow_inserts
from wallaby.client import AsyncClient, FlowEvent

WATCHERS: Final = 200
CALLS_MAX: Final = 400
CALLS_PER_S: Final = 100
WARM: Final = 50
_DIRECT: Final = (("grpc.enable_http_proxy", 0),)
_FLOW: Final[dict[str, Any]] = {
    "name": "shop",
    "source": {"type": "postgres", "options": {"dsn": "env:SHOP_DSN", "publication_tables": ["a.b", "c.*"]}},
    "destinations": [{"type": "duckdb", "options": {"dsn": "shop.duckdb"}}],
}


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Calls alone, calls beside watchers, watchers told; a flow alone and beside calls."""
    yield from _measure_calls(words)
    yield from _measure_flows(words)


def _measure_calls(words: argparse.Namespace) -> Iterator[Line]:
    empty: list[Run] = []
    alone: list[Run] = []
    beside: list[Run] = []
    told: list[Run] = []
    delays: dict[str, list[float]] = {"empty": [], "alone": [], "beside": []}
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
            asyncio.run(_run(address, server.pid, min(words.rows, CALLS_MAX), empty, alone, beside, told, delays))
            server.stdin.close()
    first = summarise("api", "an empty call", empty, is_peer=True, **_tail(delays["empty"], empty))
    yield first
    yield summarise("api", "GetFlow", alone, peer=first, **_tail(delays["alone"], alone))
    yield summarise("api", f"GetFlow, {WATCHERS} watch", beside, peer=first, **_tail(delays["beside"], beside))
    longest = max(run.wall_s for run in told) * 1e3
    yield summarise("api", "watchers told", told, note=f"all {WATCHERS} within {longest:.0f} ms at the slowest")


def _measure_flows(words: argparse.Namespace) -> Iterator[Line]:
    alone: list[Run] = []
    beside: list[Run] = []
    delays: list[float] = []
    costs: list[float] = []
    rates: list[float] = []
    with measuring_server() as server, Flows() as flows:
        content = narrow_inserts(server, words.rows)
        address, coordinator = flows.api()
        _flow(content, flows)  # the first run of processes and caches, in no figure
        for number in range(words.runs):
            for is_busy in (False, True) if number % 2 == 0 else (True, False):
                if not is_busy:
                    alone.append(_flow(content, flows))
                    continue
                with _caller(address) as caller:
                    cpu_s = cpu_seconds(coordinator)
                    beside.append(_flow(content, flows))
                    cpu_s = cpu_seconds(coordinator) - cpu_s
                    said = json.loads(caller.communicate()[0])
                delays += said["delays"]
                costs.append(cpu_s / said["calls"] * 1e3)
                rates.append(said["calls"] / said["wall_s"])
    first = summarise("api", "a flow", alone, is_peer=True)
    yield first
    tail = _tail(delays)
    note = (
        f"{statistics.median(rates):.0f} calls/s made; GetFlow {tail['note']};"
        f" {statistics.median(costs):.1f} ms CPU of the coordinator per call"
    )
    subject = f"a flow, {CALLS_PER_S} calls/s, {WATCHERS} watch"
    yield summarise("api", subject, beside, peer=first, note=note, extra=tail["extra"])


def _flow(content: Content, flows: Flows) -> Run:
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        flows.drain(content, slot, {"type": "blackhole"}, watch)
        watch.wait()
        return Run(
            rows=content.rows,
            wall_s=watch.wall_s,
            cpu_s=watch.cpu_s(SOURCE, SINK),
            server_cpu_s=watch.walsender_cpu_s,
        )


@contextmanager
def _caller(address: str) -> Iterator[subprocess.Popen[str]]:
    """Clients at work."""
    command = [sys.executable, "-m", "benchmarks.caller", address, str(CALLS_PER_S), str(WATCHERS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as caller:
        try:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "ready\n"
            yield caller
        finally:
            caller.kill()


async def _run(
    address: str,
    server: int,
    calls: int,
    empty: list[Run],
    alone: list[Run],
    beside: list[Run],
    told: list[Run],
    delays: dict[str, list[float]],
) -> None:
    async with AsyncExitStack() as stack:
        wallaby = await stack.enter_async_context(AsyncClient.connect(address))
        await wallaby.create_flow(_FLOW)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=_DIRECT))
        check = partial(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest())
        look = partial(wallaby.get_flow, "shop")
        for call in (check, look):
            await _calls(call, server, WARM, [])
        empty.append(await _calls(check, server, calls, delays["empty"]))
        alone.append(await _calls(look, server, calls, delays["alone"]))
        watches = [await stack.enter_async_context(_watch(address)) for _ in range(WATCHERS)]
        beside.append(await _calls(look, server, calls, delays["beside"]))
        began, cpu = time.perf_counter(), cpu_seconds(server)
        waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
        await wallaby.start_flow("shop")
        await asyncio.gather(*waiting)
        wall = time.perf_counter() - began
        told.append(Run(rows=WATCHERS, wall_s=wall, cpu_s=cpu_seconds(server) - cpu))


async def _calls(call: Callable[[], Awaitable[Any]], server: int, count: int, delays: list[float]) -> Run:
    began, cpu = time.perf_counter(), cpu_seconds(server)
    for _ in range(count):
        start = time.perf_counter()
        await call()
        delays.append(time.perf_counter() - start)
    return Run(rows=count, wall_s=time.perf_counter() - began, cpu_s=cpu_seconds(server) - cpu)


@asynccontextmanager
async def _watch(address: str) -> AsyncIterator[AsyncIterator[FlowEvent]]:
    """A client of its own that has seen the present state."""
    async with AsyncClient.connect(address) as wallaby:
        events = wallaby.watch("shop")
        await anext(events)
        yield events


def _tail(delays: list[float], runs: Sequence[Run] = ()) -> dict[str, Any]:
    cuts = statistics.quantiles(delays, n=100)
    p50, p99 = cuts[49] * 1e3, cuts[98] * 1e3
    cost = "".join(f", {statistics.median(run.cpu_s / run.rows * 1e3 for run in runs):.2f} ms CPU" for _ in runs[:1])
    return {"note": f"p50 {p50:.2f} ms, p99 {p99:.2f} ms{cost}", "extra": {"p50_ms": p50, "p99_ms": p99}}


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
