"""Starting the API: services behind the guard, health, reflection, one port of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from wallaby.api import ddl, dead_letters, flows, security, snapshots, sources, streams
from wallaby.api.audit import AuditTrail
from wallaby.api.authentication import Authenticator
from wallaby.api.control import FlowControl
from wallaby.api.guard import Guard
from wallaby.api.stores import StoreThread
from wallaby.api.tls import server_credentials
from wallaby.api.watch import ChangeFeed
from wallaby.errors import CheckFailed
from wallaby.settings import ApiLimits, Settings
from wallaby.store import Store
from wallaby.v1 import (
    access_pb2,
    checkpoint_pb2,
    ddl_pb2,
    dead_letter_pb2,
    flow_pb2,
    snapshot_pb2,
    source_pb2,
    stream_pb2,
)
from wallaby.vault import Vault


class ApiServer:
    """A running API. ``address`` is ``host:port`` with the port really bound."""

    def __init__(
        self,
        server: grpc.aio.Server,
        address: str,
        health_servicer: health.aio.HealthServicer,
        executor: ThreadPoolExecutor,
        trail: AuditTrail,
        feed: ChangeFeed,
        stream_servicer: streams.StreamServicer,
        source_servicer: sources.SourceServicer,
    ):
        self.server = server
        self.address = address
        self._trail = trail
        self._health = health_servicer
        self._executor = executor
        self._feed = feed
        self._streams = stream_servicer
        self._sources = source_servicer

    async def stop(self, grace_s: float = 5.0) -> None:
        """Say NOT_SERVING, let calls in flight end for ``grace_s`` seconds, close the port. Idempotent."""
        await self._health.enter_graceful_shutdown()
        await self._feed.close()
        await self.server.stop(grace_s)
        await self._streams.close()
        self._sources.close()
        await self._trail.close()
        self._executor.shutdown(wait=False)


async def serve(
    store: Store, control: FlowControl, settings: Settings, *, limits: ApiLimits | None = None
) -> ApiServer:
    """Start the API on ``settings.grpc_listen``.

    `ConfigError` when the address is none, or others could reach it without TLS, or a file of TLS or a key cannot be
    read; `CheckFailed` when the port is taken.
    """
    host, port = settings.grpc_address
    credentials = None if settings.grpc_tls is None else server_credentials(settings.grpc_tls)
    vault = Vault.from_reference(settings.secret_key)
    bounds = limits or ApiLimits()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="api-store")
    thread = StoreThread(store, executor)
    authenticator = Authenticator(
        thread,
        is_required=settings.grpc_needs_authentication,
        certificate_roles=settings.grpc_certificate_roles,
        now=_now,
    )
    trail = AuditTrail(thread, bounds)
    guard = Guard(authenticator, trail, bounds, now=_now, monotonic=time.monotonic)
    server = grpc.aio.server(interceptors=[guard], options=_options(bounds), maximum_concurrent_rpcs=bounds.calls_max)
    feed = ChangeFeed(thread, watchers_max=bounds.watchers_max)
    flows.register(server, thread, control, feed)
    snapshots.register(server, thread, control, feed)
    ddl.register(server, thread)
    dead_letters.register(server, thread, control, vault)
    stream_servicer = streams.register(server, settings)
    source_servicer = sources.register(server, thread, vault, bounds)
    security.register(server, thread, vault, _now)
    services = (
        (flow_pb2, "FlowService"),
        (snapshot_pb2, "SnapshotService"),
        (checkpoint_pb2, "CheckpointService"),
        (ddl_pb2, "DDLService"),
        (dead_letter_pb2, "DeadLetterService"),
        (stream_pb2, "StreamService"),
        (source_pb2, "SourceService"),
        (access_pb2, "TokenService"),
        (access_pb2, "SecretService"),
        (access_pb2, "AuditService"),
    )
    names = [module.DESCRIPTOR.services_by_name[name].full_name for module, name in services]
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if settings.grpc_reflection:
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*names, health_name, reflection.SERVICE_NAME), server)
    shown = f"[{host}]" if ":" in host else host
    try:
        bound = _bind(server, f"{shown}:{port}", credentials)
        await server.start()
        trail.start()
    except BaseException:
        executor.shutdown(wait=False)
        await stream_servicer.close()
        source_servicer.close()
        await server.stop(None)
        raise
    for name in ("", *names):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    return ApiServer(server, f"{shown}:{bound}", healthy, executor, trail, feed, stream_servicer, source_servicer)


def _options(limits: ApiLimits) -> tuple[tuple[str, int], ...]:
    return (
        # Without this a second wallaby would silently share the port, and clients would reach either of them.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.request_bytes_max),
        ("grpc.max_send_message_length", limits.answer_bytes_max),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _bind(server: grpc.aio.Server, address: str, credentials: Any) -> int:
    try:
        port = int(
            server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        )
    except RuntimeError:
        port = 0
    if port == 0:
        raise CheckFailed(
            f"the API cannot listen on {address}",
            advice="Another program uses the port: stop it, or set WALLABY_GRPC_LISTEN to another one",
        )
    return port
