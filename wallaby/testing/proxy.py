"""A TCP proxy that misbehaves on demand: between a client and a server, cut with RST, black-hole, refuse, resume."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, cast

_LINGER_RST: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST instead of FIN."""
_COMMAND_TIMEOUT_S: Final = 10.0


class FaultProxy:
    """Forwards connections on a free loopback port to ``host:port``, on a thread of its own.

    Use it as a context manager and point clients at ``port``. Every command returns once it is in effect.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._ends: set[_End] = set()
        self._is_black_hole = False
        self._is_refusing = False
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    @property
    def port(self) -> int:
        """Where clients connect."""
        port: int = self._listener.getsockname()[1]
        return port

    def dsn(self, dsn: str) -> str:
        """The connection URL with the server's port replaced by ours."""
        return dsn.replace(f":{self._target[1]}/", f":{self.port}/")

    def cut(self) -> None:
        """Reset every open connection, at both ends. New ones are still accepted."""
        self._command(self._cut)

    def refuse(self) -> None:
        """Reset open connections, and new ones at once, until `resume`."""
        self._is_refusing = True
        self._command(self._cut)

    def black_hole(self) -> None:
        """Stop forwarding in both directions and say nothing, as a network that lost a route, until `resume`."""
        self._is_black_hole = True
        self._command(self._apply)

    def resume(self) -> None:
        """Forward again; what was held back in a black hole arrives late, nothing is lost."""
        self._is_black_hole = self._is_refusing = False
        self._command(self._apply)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._command(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _End(self, is_client=True), sock=self._listener)
        )
        self._loop.run_forever()
        server.close()
        # One more turn, so that closed transports let go of their sockets.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _command(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            action()
            self._loop.call_soon(done.set)

        self._loop.call_soon_threadsafe(run)
        assert done.wait(_COMMAND_TIMEOUT_S), "the proxy's thread is stuck"

    def _cut(self) -> None:
        for end in list(self._ends):
            end.reset()

    def _apply(self) -> None:
        for end in self._ends:
            end.apply()

    async def _connect(self, client: _End) -> None:
        try:
            _, server = await self._loop.create_connection(lambda: _End(self), *self._target)
        except OSError:
            client.reset()
            return
        client.pair(server)


class _End(asyncio.Protocol):
    """One end of a proxied connection; reads for the other end to write."""

    def __init__(self, proxy: FaultProxy, *, is_client: bool = False) -> None:
        self._proxy = proxy
        self._is_client = is_client
        self._is_full = False
        self._peer: _End | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy._ends.add(self)
        if self._proxy._is_refusing:
            self.reset()
        elif self._is_client:
            self._transport.pause_reading()
            self._connecting = self._proxy._loop.create_task(self._proxy._connect(self))

    def pair(self, peer: _End) -> None:
        """Both connections stand: forward between them."""
        self._peer, peer._peer = peer, self
        self.apply()
        peer.apply()

    def apply(self) -> None:
        """Read, or do not, as the proxy's mood and the other end's room have it."""
        if self._transport is None or self._transport.is_closing():
            return
        is_held = self._peer is None or self._peer._is_full or self._proxy._is_black_hole
        if is_held and self._transport.is_reading():
            self._transport.pause_reading()
        elif not is_held and not self._transport.is_reading():
            self._transport.resume_reading()

    def reset(self) -> None:
        """Close with RST."""
        if self._transport is None or self._transport.is_closing():
            return
        end: socket.socket = self._transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._peer is not None and self._peer._transport is not None:
            self._peer._transport.write(data)

    def pause_writing(self) -> None:
        self._is_full = True
        if self._peer is not None:
            self._peer.apply()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._peer is not None:
            self._peer.apply()

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy._ends.discard(self)
        if self._peer is not None and self._peer._transport is not None:
            self._peer._transport.close()
