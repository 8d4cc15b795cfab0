"""What the control store keeps for the API's protection: tokens, sealed secrets, the audit log, and request ids.

Nothing here can be turned back into a credential with the store alone: of a token there is a salted hash, of a secret
its ciphertext, of a call its name and outcome. Every list has a bound with a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from wallaby.access import Role

TOKENS_MAX: Final = 1_000
"""Live tokens; as many revoked ones are remembered."""
SECRETS_MAX: Final = 1_000
REQUESTS_MAX: Final = 10_000
"""Answers kept for repeated requests; the oldest are forgotten first."""
CALLS_MAX: Final = 50_000
"""Audit records kept of each kind, so that many reads do not push out the changes."""
CALLS_PAGE_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A bearer token as stored: everything but the token."""

    id: str
    name: str
    role: Role
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    """HMAC-SHA-256 of the token's 256 random bits under the salt."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    """None: never."""
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A secret as stored: encrypted, with the name of the key that opens it."""

    name: str
    key_id: str
    sealed: bytes = field(repr=False)
    updated_at: datetime
    updated_by: str


class CallKind(StrEnum):
    """Kinds of audit records; each has its own bound."""

    CHANGE = "change"
    """A call that may change something, whatever became of it."""
    READ = "read"
    """A call that only shows something."""
    REFUSED = "refused"
    """A call that was not let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call of the API: who, what, on which flow, with which outcome. Never what was in it."""

    at: datetime
    principal: str
    role: Role | None
    """None for a caller that was not let in."""
    kind: CallKind
    method: str
    """For example ``wallaby.v1.FlowService/StopFlow``."""
    flow_id: str = ""
    code: str
    """The gRPC status: ``OK``, ``PERMISSION_DENIED`` …"""
    request_id: str = ""
    id: int = 0
    """Given by the store; grows with time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """What makes two calls the same request: the caller and the id it chose. ``digest`` tells whether they are."""

    principal: str
    request_id: str
    method: str
    digest: bytes
    """SHA-256 of the request."""


class AccessStore(Protocol):
    """This part of the `Store`; the rules of `wallaby.store.port` hold here too."""

    def add_token(self, token: TokenRecord) -> None:
        """Store a new token. `AlreadyExists` for the name of one that is not revoked, `Refused` beyond the bound."""
        ...

    def get_token(self, token_id: str) -> TokenRecord | None:
        """The token of this id, revoked and expired ones too; None when there is none."""
        ...

    def list_tokens(self) -> tuple[TokenRecord, ...]:
        """All tokens in order of creation, revoked and expired ones too."""
        ...

    def revoke_token(self, name: str, at: datetime) -> TokenRecord:
        """End a token, named by its name or id, for good; again changes nothing. `NotFound`."""
        ...

    def put_secret(self, secret: SealedSecret) -> None:
        """Store or replace a secret. `Refused` beyond the bound."""
        ...

    def get_secret(self, name: str) -> SealedSecret:
        """`NotFound` when there is none."""
        ...

    def list_secrets(self) -> tuple[SealedSecret, ...]:
        """All secrets in order of names."""
        ...

    def delete_secret(self, name: str) -> None:
        """`NotFound` when there is none."""
        ...

    def record_calls(self, records: Sequence[CallRecord]) -> None:
        """Append to the audit log, and forget the oldest beyond `CALLS_MAX` of each kind, now or a hundredth later."""
        ...

    def list_calls(
        self, *, limit: int = 100, before: int | None = None, principal: str = "", flow_id: str = ""
    ) -> tuple[CallRecord, ...]:
        """Newest first, at most ``limit`` (and `CALLS_PAGE_MAX`) with an id below ``before``; empty text: any."""
        ...

    def once(self, key: RequestKey, work: Callable[[], bytes]) -> bytes:
        """The answer of ``work``, which calls this store, run at most once per request id.

        ``work``, its changes and the note that it was done are one transaction: a crash leaves all or nothing, and a
        repeat gets the first answer. When it raises nothing is kept. `ConfigError` when the id was used for something
        else. ``work`` must not swallow an error of the store.
        """
        ...

    def forget_request(self, key: RequestKey) -> None:
        """The request's effect was undone: let it run again."""
        ...
