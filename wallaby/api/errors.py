"""Our errors as gRPC statuses: a code, a message with advice, and the field paths as trailing metadata."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NoReturn, TypeVar

import grpc

from wallaby.errors import (
    AlreadyExists,
    CheckFailed,
    ConfigError,
    IllegalMove,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    SlotLost,
    SourceUnavailable,
    StoreUnavailable,
    Superseded,
    TooManyCalls,
    Transient,
    Unauthenticated,
    WallabyError,
)
from wallaby.flow import InvalidFlow

FIELD_KEY: Final = "wallaby-field"
"""Trailing metadata: the path of a wrong field; once per field."""
RETRY_KEY: Final = "wallaby-retry"
"""Trailing metadata: now, later or never."""

# Metadata of a call is limited to 8 KiB by default on both sides, and text in it is percent-encoded.
_MESSAGE_BYTES_MAX: Final = 3_000
_FIELDS_MAX: Final = 10
_FIELD_CHARACTERS_MAX: Final = 150

_CODES: Final[tuple[tuple[type[WallabyError], grpc.StatusCode], ...]] = (
    (ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (Superseded, grpc.StatusCode.ABORTED),
    (IllegalMove, grpc.StatusCode.FAILED_PRECONDITION),
    (CheckFailed, grpc.StatusCode.FAILED_PRECONDITION),
    (SlotLost, grpc.StatusCode.FAILED_PRECONDITION),
    (Refused, grpc.StatusCode.FAILED_PRECONDITION),
    (StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
    (SourceUnavailable, grpc.StatusCode.UNAVAILABLE),
    (Transient, grpc.StatusCode.UNAVAILABLE),
    (OutcomeUnknown, grpc.StatusCode.UNAVAILABLE),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (TooManyCalls, grpc.StatusCode.RESOURCE_EXHAUSTED),
)

_log = logging.getLogger(__name__)
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])
_Stream = TypeVar("_Stream", bound=Callable[..., AsyncGenerator[Any, None]])


def code_of(error: WallabyError) -> grpc.StatusCode:
    """The status of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def answers_errors(method: _Method) -> _Method:
    """A servicer method that ends with a status when it raises; an error we did not expect shows no content."""

    @functools.wraps(method)
    async def answered(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(self, request, context)
        except Exception as error:  # noqa: BLE001 gRPC would send the text of any other exception to the client
            failure = as_ours(error, method.__name__)
        return await abort(context, failure)

    return answered  # type: ignore[return-value]  # functools.wraps keeps the signature


def answers_stream_errors(method: _Stream) -> _Stream:
    """As `answers_errors`, for a method that answers with a stream."""

    @functools.wraps(method)
    async def answered(self: Any, request: Any, context: grpc.aio.ServicerContext) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(method(self, request, context)) as answers:
                async for answer in answers:
                    yield answer
        except Exception as error:  # noqa: BLE001 as above
            failure = as_ours(error, method.__name__)
        else:
            return
        await abort(context, failure)

    return answered  # type: ignore[return-value]  # functools.wraps keeps the signature


def as_ours(error: Exception, doing: str) -> WallabyError:
    """The error itself if it is ours; one without content for any other, whose type and place are logged."""
    if isinstance(error, WallabyError):
        return error
    # Type and place only: the text of a foreign exception may hold what must not be shown.
    place = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s failed with %s\n%s", doing, type(error).__name__, place)
    return WallabyError(f"internal error ({type(error).__name__})", advice="See the server's log")


async def abort(context: grpc.aio.ServicerContext, error: WallabyError) -> NoReturn:
    """End the call with the status of ``error``."""
    fields = [p.path for p in error.problems] if isinstance(error, InvalidFlow) else [error.where.get("field", "")]
    metadata = [(FIELD_KEY, _ascii(field)) for field in fields[:_FIELDS_MAX] if field]
    await context.abort(
        code_of(error),
        _shown(str(error)),
        trailing_metadata=(*metadata, (RETRY_KEY, error.retry.value)),
    )
    raise AssertionError("abort returned")


def _shown(text: str) -> str:
    """As much of ``text`` as fits, with what would steer a terminal made visible."""
    shown, left = [], _MESSAGE_BYTES_MAX
    for character in text[:_MESSAGE_BYTES_MAX]:
        visible = character if character.isprintable() or character == "\n" else repr(character)[1:-1]
        left -= sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in visible.encode("utf-8", "replace"))
        if left < 0:
            break
        shown.append(visible)
    return "".join(shown)


def _ascii(text: str) -> str:
    plain = text[:_FIELD_CHARACTERS_MAX].encode("ascii", "backslashreplace").decode()
    return "".join(character if character.isprintable() else "?" for character in plain)
