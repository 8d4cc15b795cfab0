"""A connection to a running wallaby; statuses come back as our errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import grpc

from wallaby.errors import (
    AlreadyExists,
    ConfigError,
    IllegalMove,
    NotFound,
    OutcomeUnknown,
    StoreUnavailable,
    Superseded,
    WallabyError,
)
from wallaby.v1 import flow_pb2_grpc, stream_pb2_grpc

DEFAULT_ENDPOINT: Final = "localhost:8080"
CALL_SECONDS: Final = 15.0
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # One message of a stream may be larger than gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
)

_ERRORS: Final[dict[grpc.StatusCode, type[WallabyError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: ConfigError,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: IllegalMove,
    grpc.StatusCode.ABORTED: Superseded,
    grpc.StatusCode.DEADLINE_EXCEEDED: OutcomeUnknown,
}
_Answer = TypeVar("_Answer")


class Client:
    """Calls of one API."""

    def __init__(self, channel: grpc.Channel, endpoint: str) -> None:
        self._flows = flow_pb2_grpc.FlowServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._streams = stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._endpoint = endpoint

    def call(self, method: str, request: Any) -> Any:
        """The answer of a FlowService method; our error for its status."""
        return self._translated(getattr(self._flows, method), request)

    def call_stream(self, method: str, request: Any, *, more_seconds: float = 0.0) -> Any:
        """The answer of a StreamService method, which may take longer by so many seconds."""
        return self._translated(getattr(self._streams, method), request, CALL_SECONDS + more_seconds)

    def _translated(self, method: Callable[..., _Answer], request: Any, seconds: float = CALL_SECONDS) -> _Answer:
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            # What gRPC raises from a call is a status as well.
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE and not any(k == "wallaby-retry" for k, _ in _metadata(error)):
                raise StoreUnavailable(
                    f"no wallaby answers at {self._endpoint}", advice="Start it with `wallaby up`, or name -endpoint"
                ) from None
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise WallabyError(
                    f"the server at {self._endpoint} does not have this command", advice="Upgrade it"
                ) from None
            raise _ERRORS.get(code, WallabyError)(details or f"the server answered {code.name}") from None


def _metadata(error: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(error.trailing_metadata() or ())


@contextmanager
def connect(endpoint: str) -> Iterator[Client]:
    """A client of the API at ``endpoint`` (``host:port``). Nothing is sent before the first call."""
    # A proxy from the environment would be asked to reach our own loopback.
    with grpc.insecure_channel(endpoint, options=_OPTIONS) as channel:
        yield Client(channel, endpoint)
