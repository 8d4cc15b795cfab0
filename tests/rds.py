"""Doubles of what RDS and AWS do at a login: a door before a real PostgreSQL that takes tokens only, and STS.

The door speaks the beginning of PostgreSQL's protocol. It demands a password in clear as RDS does, recomputes the
token's signature by AWS's published rules from the secret it knows, and lets nobody else through to the server behind
it, which trusts everybody. From then on it only carries bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest

from wallaby.postgres.embedded import EmbeddedServer
from wallaby.testing.postgres import ScratchDatabase

REGION: Final = "eu-central-9"
KEY_ID: Final = "AKIDEXAMPLE"
SECRET: Final = "not-a-real-secret"
ROLE: Final = "arn:aws:iam::123456789012:role/wallaby"
EXTERNAL_ID: Final = "shop-42"

_SSL_REQUEST: Final = 80877103
_GSS_REQUEST: Final = 80877104
_CANCEL_REQUEST: Final = 80877102
_LIFETIME: Final = timedelta(seconds=900)


@dataclass
class Login:
    """One login that was let in."""

    user: str
    token: str
    is_replication: bool


@dataclass
class Keys:
    """Credentials AWS knows: secrets by key id, and the session tokens that go with some."""

    secrets: dict[str, str] = field(default_factory=lambda: {KEY_ID: SECRET})
    session_tokens: dict[str, str] = field(default_factory=dict)


class RdsDoor:
    """Listens on loopback before a server; a context manager."""

    def __init__(self, target_port: int, keys: Keys, *, region: str = REGION) -> None:
        self._target = target_port
        self._keys = keys
        self._region = region
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.logins: list[Login] = []
        self.refused = 0
        self.takes_a_token_once = False
        self._denied: set[str] = set()

    def dsn(self, user: str, database: str) -> str:
        """Through the door, as ``user``."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def deny(self, user: str) -> None:
        """As if rds_iam were not granted to the role."""
        self._denied.add(user)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in self._open:
            end.close()

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            startup = self._startup(client)
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(server)
            if struct.unpack("!I", startup[4:8])[0] != _CANCEL_REQUEST and not self._authenticate(client, startup):
                client.shutdown(socket.SHUT_RDWR)
                return
            server.sendall(startup)
            self._start(_carry, client, server)
            _carry(server, client)

    def _startup(self, client: socket.socket) -> bytes:
        while True:
            head = _receive(client, 8)
            length, code = struct.unpack("!II", head)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                return head + _receive(client, length - 8)
            client.sendall(b"N")

    def _authenticate(self, client: socket.socket, startup: bytes) -> bool:
        words = startup[8:].split(b"\0")
        parameters = dict(zip(words[::2], words[1::2], strict=False))
        user = parameters[b"user"].decode()
        client.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
        kind, length = struct.unpack("!cI", _receive(client, 5))
        token = _receive(client, length - 4).rstrip(b"\0").decode()
        assert kind == b"p", kind
        is_seen = self.takes_a_token_once and any(login.token == token for login in self.logins)
        if is_seen or user in self._denied or not self._is_signed(token, user):
            self.refused += 1
            text = f'SFATAL\0C28000\0MPAM authentication failed for user "{user}"\0\0'.encode()
            client.sendall(b"E" + struct.pack("!I", len(text) + 4) + text)
            return False
        self.logins.append(Login(user, token, b"replication" in parameters))
        return True

    def _is_signed(self, token: str, user: str) -> bool:
        place, _, query = token.partition("/?")
        given = dict(parse_qsl(query))
        signature = given.pop("X-Amz-Signature", "")
        key_id, day, region, service, _ = [*given.get("X-Amz-Credential", "").split("/"), *[""] * 5][:5]
        secret = self._keys.secrets.get(key_id)
        if secret is None or given.get("X-Amz-Security-Token") != self._keys.session_tokens.get(key_id):
            return False
        made = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        is_young = -_LIFETIME < datetime.now(UTC) - made < _LIFETIME
        canonical = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(given.items()))
        request = f"GET\n/\n{canonical}\nhost:{place}\n\nhost\n{hashlib.sha256().hexdigest()}"
        scope = f"{day}/{region}/{service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{secret}".encode()
        for part in (day, region, service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        expected = hmac.new(key, text.encode(), "sha256").hexdigest()
        is_ours = (region, service, given["Action"], given["DBUser"]) == (self._region, "rds-db", "connect", user)
        return is_young and is_ours and place.endswith(f":{self.port}") and hmac.compare_digest(expected, signature)


class Sts:
    """An endpoint of STS on loopback: gives new credentials for one role each time it is asked rightly."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.asked: list[dict[str, str]] = []
        self.fault = ""
        """An error code to answer with."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version: ClassVar[str] = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
                status, body = outer._answer(form, self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _answer(self, form: dict[str, str], authorization: str) -> tuple[int, bytes]:
        self.asked.append(form)
        key_id = authorization.partition("Credential=")[2].partition("/")[0]
        if self.fault:
            return _refusal(400 if self.fault == "Throttling" else 403, self.fault)
        if key_id not in self.keys.secrets:
            return _refusal(403, "InvalidClientTokenId")
        if form["RoleArn"] != ROLE or form.get("ExternalId") != EXTERNAL_ID:
            return _refusal(403, "AccessDenied")
        number = len(self.asked)
        fresh = f"ASIA{number:012d}"
        self.keys.secrets[fresh] = f"{SECRET}-{number}"
        self.keys.session_tokens[fresh] = json.dumps({"session": number})
        ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
            f"<AssumedRoleUser><Arn>{ROLE}/x</Arn><AssumedRoleId>A:x</AssumedRoleId></AssumedRoleUser>"
            f"<Credentials><AccessKeyId>{fresh}</AccessKeyId><SecretAccessKey>{SECRET}-{number}</SecretAccessKey>"
            f"<SessionToken>{self.keys.session_tokens[fresh]}</SessionToken><Expiration>{ends}</Expiration>"
            "</Credentials></AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
            "</AssumeRoleResponse>"
        )
        return 200, body.encode()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """The credentials AWS knows, the first of them in the environment; nothing else of this machine counts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "nothing/here")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    return Keys()


@pytest.fixture
def door(aws: Keys, postgres_server: EmbeddedServer) -> Iterator[RdsDoor]:
    """Before the server of the session."""
    with RdsDoor(urlsplit(postgres_server.dsn()).port or 0, aws) as door:
        yield door


@pytest.fixture
def sts(aws: Keys) -> Iterator[Sts]:
    """Its credentials are taken by the door."""
    with Sts(aws) as sts:
        yield sts


@pytest.fixture
def iam_user(database: ScratchDatabase) -> Iterator[str]:
    """A role that may do everything at the source, and has no password."""
    name = f"iam_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN SUPERUSER REPLICATION")
    yield name
    database.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def _refusal(status: int, code: str) -> tuple[int, bytes]:
    return status, (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>user hunter2 is not authorized</Message></Error></ErrorResponse>"
    ).encode()


def _receive(end: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = end.recv(size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
