"""What both clients know about reaching a server."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final

from wallaby.errors import ConfigError

DEFAULT_ENDPOINT: Final = "localhost:8080"
CALL_SECONDS: Final = 15.0
OPTIONS: Final = (
    # A proxy from the environment would be asked to reach our own loopback.
    ("grpc.enable_http_proxy", 0),
)

_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?|unix:.+", re.IGNORECASE)


def require_safe(endpoint: str, *, is_encrypted: bool) -> None:
    """`ConfigError` when what is sent to ``endpoint`` could be read on its way."""
    if not is_encrypted and not _LOOPBACK.fullmatch(endpoint):
        raise ConfigError(
            "is not on this machine, and the connection would not be encrypted",
            field="endpoint",
            advice="Give credentials for TLS, or use an SSH tunnel to the server's loopback address",
        )


def headers(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata of every call."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def request_header(request_id: str, method: str, request: bytes) -> tuple[tuple[str, str], ...]:
    """Metadata of one call: who repeats a change with the same id changes once. Without one, each call has its own.

    The request's digest is part of it, because one command may make several calls of a method.
    """
    digest = hashlib.sha256(request).hexdigest()[:12]
    return (("wallaby-request-id", f"{request_id}/{method}/{digest}" if request_id else str(uuid.uuid4())),)
