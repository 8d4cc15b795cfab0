"""An HTTP server between a client and a store: it passes requests on, loses answers, or answers itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
"""Headers of answers that are said anew."""
_OURS: Final = frozenset({"connection", "expect"})
"""Headers of requests that are not passed on."""


class Middleman:
    """What becomes of the next requests; made by `middleman`."""

    def __init__(self, target: str | None) -> None:
        self.target = urlsplit(target) if target else None
        self.address = ""
        self.answers_lost = 0
        """Of requests with a body that are passed on, how many answers are still to be dropped."""
        self.requests: list[str] = []
        """Method and path of all that came."""
        self.answer: tuple[int, Mapping[str, str], bytes] | None = None
        """Said to everybody, when there is one; nothing is passed on."""


@contextmanager
def middleman(target: str | None = None) -> Iterator[Middleman]:
    """One on a free port, in front of ``target`` (scheme, host and port; a path of it is kept in the address)."""
    state = Middleman(target)

    class Handler(_Handler):
        middleman = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    path = state.target.path if state.target else ""
    state.address = f"http://127.0.0.1:{server.server_address[1]}{path}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    middleman: Middleman
    # A connection per request: a lost answer is then one that did not come.
    protocol_version = "HTTP/1.0"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if self.raw_requestline and self.parse_request():
            self._pass_on()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""

    def _pass_on(self) -> None:
        state = self.middleman
        state.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if state.answer is not None:
            self._say(*state.answer)
            return
        assert state.target is not None
        assert state.target.hostname is not None
        connection = HTTPConnection(state.target.hostname, state.target.port, timeout=60)
        try:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")
            }
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if body and state.answers_lost:
                state.answers_lost -= 1
                return
            self._say(answer.status, dict(answer.getheaders()), content)
        finally:
            connection.close()

    def _say(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)


__all__ = ["Middleman", "middleman"]
