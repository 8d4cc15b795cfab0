"""What both clients know about reaching a server."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from wallaby import secret
from wallaby.api.access import RULES
from wallaby.client.calls import Call
from wallaby.errors import ConfigError
from wallaby.settings import ApiLimits, ClientSettings

CALL_SECONDS: Final = 15.0
THIS_MACHINE: Final = ClientSettings()
OPTIONS: Final = (
    # A proxy from the environment would be asked to reach our own loopback.
    ("grpc.enable_http_proxy", 0),
    # gRPC takes 4 MiB by default; a server sends more.
    ("grpc.max_receive_message_length", ApiLimits().answer_bytes_max),
)

_PEM_BYTES_MAX: Final = 1 << 20
_TOKEN_CHARACTERS_MAX: Final = 1_000
_REQUEST_ID_CHARACTERS_MAX: Final = 90
"""With a method and a digest behind it, it is within what the server takes."""
_DIGEST_CHARACTERS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server, and what is said to it with every call."""

    endpoint: str
    """``host:port``."""
    credentials: grpc.ChannelCredentials | None
    """None: in clear."""
    request_id: str
    """Empty: every call has one of its own."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Metadata of every call; holds the token."""

    def metadata(self, call: Call[Any]) -> tuple[tuple[str, str], ...]:
        """Metadata of one call: who repeats a change with the same request id changes once.

        The request's digest is part of the id, because one command may make several calls of a method; not where the
        request holds a secret, for the audit log keeps the id.
        """
        if not self.request_id:
            return (*self.headers, ("wallaby-request-id", str(uuid.uuid4())))
        words = [self.request_id, call.method]
        rule = RULES.get(call.path)
        if rule is not None and rule.keeps_answer:
            content = call.request.SerializeToString(deterministic=True)
            words.append(hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS])
        return (*self.headers, ("wallaby-request-id", "/".join(words)))


def address_of(server: str | ClientSettings) -> Address:
    """How to reach a server: an endpoint, or all settings. `ConfigError` for those that contradict or cannot be read.

    TLS is used to every machine but this one, unless the settings say otherwise; never a token in clear.
    """
    settings = ClientSettings(endpoint=server) if isinstance(server, str) else server
    credentials = _credentials(settings) if settings.uses_tls else None
    token = secret.resolve(settings.token, field="-token").strip()
    _require_word(token, "-token", _TOKEN_CHARACTERS_MAX)
    _require_word(settings.request_id, "-request-id", _REQUEST_ID_CHARACTERS_MAX)
    return Address(
        endpoint=settings.endpoint,
        credentials=credentials,
        request_id=settings.request_id,
        headers=(("authorization", f"Bearer {token}"),) if token else (),
    )


def _require_word(text: str, option: str, characters_max: int) -> None:
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > characters_max:
        raise ConfigError(f"is not one word of at most {characters_max} printable characters", field=option)


def _credentials(settings: ClientSettings) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        _content(settings.ca_file, "-ca-file"),
        _content(settings.key_file, "-key-file"),
        _content(settings.cert_file, "-cert-file"),
    )


def _content(path: str, option: str) -> bytes | None:
    if not path:
        return None
    try:
        with Path(path).expanduser().open("rb") as stream:
            return stream.read(_PEM_BYTES_MAX)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror or type(error).__name__}", field=option, file=path
        ) from None
