"""A real API on loopback over a real SQLite store, and a control that remembers what it was told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from wallaby.api.server import ApiServer, serve
from wallaby.settings import ApiLimits, Settings
from wallaby.status import FlowStatus
from wallaby.store import Store
from wallaby.store.opening import open_sqlite
from wallaby.v1 import checkpoint_pb2_grpc, flow_pb2_grpc, types_pb2


class RememberingControl:
    """The running side as the API sees it: notes every call, answers what the test says."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.runs = True
        self.statuses: dict[str, FlowStatus] = {}
        self.on_changed: Callable[[str], None] | None = None

    async def changed(self, flow_id: str) -> None:
        self.told.append(f"changed {flow_id}")
        if self.on_changed is not None:
            self.on_changed(flow_id)

    async def run_once(self, flow_id: str) -> bool:
        self.told.append(f"run once {flow_id}")
        return self.runs

    async def status(self, flow_id: str) -> FlowStatus | None:
        return self.statuses.get(flow_id)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = open_sqlite(tmp_path / "state")
    yield store
    store.close()


@pytest.fixture
def control() -> RememberingControl:
    return RememberingControl()


@pytest.fixture
async def server(store: Store, control: RememberingControl) -> AsyncIterator[ApiServer]:
    server = await serve(store, control, Settings(grpc_listen="127.0.0.1:0"))
    yield server
    await server.stop(0)


@pytest.fixture
async def serving(store: Store, control: RememberingControl) -> AsyncIterator[Callable[..., Awaitable[ApiServer]]]:
    """Starts servers with the settings and limits a test wants, and stops them at its end."""
    servers: list[ApiServer] = []

    async def start(limits: ApiLimits | None = None, **settings: Any) -> ApiServer:
        wanted = Settings(**{"grpc_listen": "127.0.0.1:0", **settings})
        servers.append(await serve(store, control, wanted, limits=limits))
        return servers[-1]

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture
async def channel(server: ApiServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield channel


@pytest.fixture
def flows(channel: grpc.aio.Channel) -> Any:
    return flow_pb2_grpc.FlowServiceStub(channel)  # type: ignore[no-untyped-call]  # generated


@pytest.fixture
def checkpoints(channel: grpc.aio.Channel) -> Any:
    return checkpoint_pb2_grpc.CheckpointServiceStub(channel)  # type: ignore[no-untyped-call]  # generated


def a_message(name: str = "Shop", dsn: str = "env:SHOP_DSN", **changes: Any) -> types_pb2.Flow:
    """A small valid flow as a client of the Go WALlaby would send it."""
    return types_pb2.Flow(
        name=name,
        source=types_pb2.Endpoint(name="pg", type=types_pb2.ENDPOINT_TYPE_POSTGRES, options={"dsn": dsn}),
        destinations=[
            types_pb2.Endpoint(
                name="copy", type=types_pb2.ENDPOINT_TYPE_DUCKDB, options={"dsn": "copy.duckdb", "write_mode": "target"}
            )
        ],
        **changes,
    )
