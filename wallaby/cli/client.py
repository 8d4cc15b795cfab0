"""A connection to a running wallaby; statuses come back as our errors."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc

from wallaby import secret
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
from wallaby.settings import ClientSettings
from wallaby.v1 import access_pb2_grpc, checkpoint_pb2_grpc, flow_pb2_grpc

CALL_SECONDS: Final = 15.0
_PEM_BYTES_MAX: Final = 1 << 20

_ERRORS: Final[dict[grpc.StatusCode, type[WallabyError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: ConfigError,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: IllegalMove,
    grpc.StatusCode.ABORTED: Superseded,
    grpc.StatusCode.DEADLINE_EXCEEDED: OutcomeUnknown,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooManyCalls,
}
_Answer = TypeVar("_Answer")


class Client:
    """Calls of one API. ``token`` is the bearer token itself, empty for none."""

    def __init__(self, channel: grpc.Channel, endpoint: str, *, token: str = "", request_id: str = "") -> None:
        self._stubs: dict[str, Any] = {
            "FlowService": flow_pb2_grpc.FlowServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
            "CheckpointService": checkpoint_pb2_grpc.CheckpointServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
            "TokenService": access_pb2_grpc.TokenServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
            "SecretService": access_pb2_grpc.SecretServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
            "AuditService": access_pb2_grpc.AuditServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
        }
        self._endpoint = endpoint
        self._authorization = (("authorization", f"Bearer {token}"),) if token else ()
        self._request_id = request_id

    def call(self, method: str, request: Any, *, service: str = "FlowService") -> Any:
        """The answer of a method; our error for its status."""
        # A command may make several calls: each is a request of its own.
        request_id = f"{self._request_id}/{method}" if self._request_id else str(uuid.uuid4())
        return self._translated(getattr(self._stubs[service], method), request, request_id)

    def _translated(self, method: Callable[..., _Answer], request: Any, request_id: str) -> _Answer:
        metadata = (*self._authorization, ("wallaby-request-id", request_id))
        try:
            return method(request, timeout=CALL_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            # What gRPC raises from a call is a status as well.
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE and not any(k == "wallaby-retry" for k, _ in _metadata(error)):
                raise self._unreachable(details) from None
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise WallabyError(
                    f"the server at {self._endpoint} does not have this command", advice="Upgrade it"
                ) from None
            raise _ERRORS.get(code, WallabyError)(details or f"the server answered {code.name}") from None

    def _unreachable(self, details: str) -> WallabyError:
        said = details.lower()
        if any(word in said for word in ("handshake", "certificate", "ssl", "tls", "peer name")):
            return StoreUnavailable(
                f"no TLS connection to {self._endpoint}: its certificate is not trusted, it has none, or it wants ours",
                advice="Name -ca-file, and -cert-file with -key-file if the server asks for a certificate;"
                " -insecure connects without TLS",
            )
        return StoreUnavailable(
            f"no wallaby answers at {self._endpoint}",
            advice="Start it with `wallaby up`, or name -endpoint; a server with TLS answers only to TLS:"
            " -insecure=false or -ca-file",
        )


def _metadata(error: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(error.trailing_metadata() or ())


@contextmanager
def connect(settings: ClientSettings) -> Iterator[Client]:
    """A client of the API. Nothing is sent before the first call. `ConfigError` for a file that cannot be read."""
    # A proxy from the environment would be asked to reach our own loopback.
    options = (("grpc.enable_http_proxy", 0),)
    token = secret.resolve(settings.token, field="-token").strip()
    for text, flag, length in ((token, "-token", 1_000), (settings.request_id, "-request-id", 100)):
        if not text.isascii() or not text.isprintable() or " " in text or len(text) > length:
            raise ConfigError("is not one word of printable characters", field=flag)
    if settings.uses_tls:
        channel = grpc.secure_channel(settings.endpoint, _credentials(settings), options=options)
    else:
        channel = grpc.insecure_channel(settings.endpoint, options=options)
    with channel:
        yield Client(channel, settings.endpoint, token=token, request_id=settings.request_id)


def _credentials(settings: ClientSettings) -> Any:
    def content(path: str, flag: str) -> bytes | None:
        if not path:
            return None
        try:
            with Path(path).expanduser().open("rb") as stream:
                return stream.read(_PEM_BYTES_MAX)
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error.strerror or type(error).__name__}", field=flag, file=path
            ) from None

    return grpc.ssl_channel_credentials(
        content(settings.ca_file, "-ca-file"),
        content(settings.key_file, "-key-file"),
        content(settings.cert_file, "-cert-file"),
    )
