"""The fault proxy: forwards, cuts with RST, swallows and resumes without losing a byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from wallaby.testing.proxy import FaultProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it receives."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            return


def test_it_forwards_and_a_cut_is_a_reset(echo: int) -> None:
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as again:
            again.sendall(b"x")
            assert again.recv(1) == b"x"


def test_a_black_hole_is_silent_and_what_it_held_arrives_later(echo: int) -> None:
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        proxy.black_hole()
        client.sendall(b"b" * 1000)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.resume()
        assert client.recv(1000, socket.MSG_WAITALL) == b"b" * 1000


def test_refusing_resets_new_connections_until_resumed(echo: int) -> None:
    with FaultProxy(echo) as proxy:
        proxy.refuse()
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
        ):
            client.recv(1)
        proxy.resume()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
