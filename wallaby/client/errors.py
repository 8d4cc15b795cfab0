"""gRPC statuses as our errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc

from wallaby.errors import (
    AlreadyExists,
    ConfigError,
    IllegalMove,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
    Superseded,
    TooManyCalls,
    Unauthenticated,
    WallabyError,
)

_ERRORS: Final[Mapping[grpc.StatusCode, type[WallabyError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: ConfigError,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: IllegalMove,
    grpc.StatusCode.ABORTED: Superseded,
    grpc.StatusCode.DEADLINE_EXCEEDED: OutcomeUnknown,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooManyCalls,
    grpc.StatusCode.UNAVAILABLE: StoreUnavailable,
}
_TLS_WORDS: Final = ("handshake", "certificate", "ssl", "tls", "peer name")


def translate(error: Any, endpoint: str) -> WallabyError:
    """The error behind a status that came from ``endpoint``; raise it ``from None``: the status says no more."""
    code, details = error.code(), error.details() or ""
    answered = any(key == "wallaby-retry" for key, _ in error.trailing_metadata() or ())
    if code is grpc.StatusCode.UNAVAILABLE and not answered:
        return _unreachable(endpoint, details.lower())
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return WallabyError(f"the server at {endpoint} does not have this command", advice="Upgrade it")
    return _ERRORS.get(code, WallabyError)(details or f"the server answered {code.name}")


def _unreachable(endpoint: str, said: str) -> WallabyError:
    if any(word in said for word in _TLS_WORDS):
        return StoreUnavailable(
            f"no TLS connection to {endpoint}: its certificate is not trusted, it has none, or it wants ours",
            advice="Name -ca-file, and -cert-file with -key-file if the server asks for a certificate;"
            " -insecure connects without TLS",
        )
    return StoreUnavailable(
        f"no wallaby answers at {endpoint}",
        advice="Start it with `wallaby up`, or name -endpoint; a server with TLS answers only to TLS:"
        " -insecure=false or -ca-file",
    )
