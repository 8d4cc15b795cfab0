"""Starting the API: services, health, reflection, one port of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from wallaby.api import flows, streams
from wallaby.api.control import FlowControl
from wallaby.errors import CheckFailed
from wallaby.settings import Settings
from wallaby.store import Store
from wallaby.v1 import checkpoint_pb2, flow_pb2, stream_pb2

_CALLS_MAX: Final = 64
"""Calls at once; more are answered RESOURCE_EXHAUSTED."""

_OPTIONS: Final = (
    # Without this a second wallaby would silently share the port, and clients would reach either of them.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4 << 20),
)


class ApiServer:
    """A running API. ``address`` is ``host:port`` with the port really bound."""

    def __init__(
        self,
        server: grpc.aio.Server,
        address: str,
        health_servicer: health.aio.HealthServicer,
        executor: ThreadPoolExecutor,
        stream_servicer: streams.StreamServicer,
    ):
        self.server = server
        self.address = address
        self._health = health_servicer
        self._executor = executor
        self._streams = stream_servicer

    async def stop(self, grace_s: float = 5.0) -> None:
        """Say NOT_SERVING, let calls in flight end for ``grace_s`` seconds, close the port. Idempotent."""
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace_s)
        await self._streams.close()
        self._executor.shutdown(wait=False)


async def serve(store: Store, control: FlowControl, settings: Settings) -> ApiServer:
    """Start the API on ``settings.grpc_listen``.

    `ConfigError` when the address is none or others could reach it; `CheckFailed` when the port is taken.
    """
    host, port = settings.grpc_address
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="api-store")
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_CALLS_MAX)
    flows.register(server, flows.StoreThread(store, executor), control)
    stream_servicer = streams.register(server, settings)
    names = [
        flow_pb2.DESCRIPTOR.services_by_name["FlowService"].full_name,
        checkpoint_pb2.DESCRIPTOR.services_by_name["CheckpointService"].full_name,
        stream_pb2.DESCRIPTOR.services_by_name["StreamService"].full_name,
    ]
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if settings.grpc_reflection:
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*names, health_name, reflection.SERVICE_NAME), server)
    shown = f"[{host}]" if ":" in host else host
    try:
        bound = _bind(server, f"{shown}:{port}")
        await server.start()
    except BaseException:
        executor.shutdown(wait=False)
        await stream_servicer.close()
        await server.stop(None)
        raise
    for name in ("", *names):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    return ApiServer(server, f"{shown}:{bound}", healthy, executor, stream_servicer)


def _bind(server: grpc.aio.Server, address: str) -> int:
    try:
        port = int(server.add_insecure_port(address))
    except RuntimeError:
        port = 0
    if port == 0:
        raise CheckFailed(
            f"the API cannot listen on {address}",
            advice="Another program uses the port: stop it, or set WALLABY_GRPC_LISTEN to another one",
        )
    return port
