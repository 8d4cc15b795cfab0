"""TokenService, SecretService and AuditService: for admins, and silent about what they keep."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import grpc

from wallaby import secret
from wallaby.access import Role
from wallaby.api import tokens
from wallaby.api.call import caller
from wallaby.api.conversion import timestamp_of
from wallaby.api.errors import answers_errors
from wallaby.api.stores import StoreThread
from wallaby.errors import CheckFailed, ConfigError
from wallaby.store import CallRecord, SealedSecret, Store, TokenRecord
from wallaby.v1 import access_pb2, access_pb2_grpc
from wallaby.vault import Vault

_LIFETIME_SECONDS_MAX: Final = 10 * 366 * 86_400
_PAGE_SIZE_DEFAULT: Final = 100
_PAGE_SIZE_MAX: Final = 1_000
_PREFIX: Final = "ROLE_"


class TokenServicer(access_pb2_grpc.TokenServiceServicer):
    """Makes, shows and ends bearer tokens."""

    def __init__(self, store: StoreThread, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    @answers_errors
    async def CreateToken(self, request: access_pb2.CreateTokenRequest, context: Any) -> access_pb2.CreateTokenResponse:
        if not tokens.NAME.fullmatch(request.name):
            raise ConfigError("must have 1 to 63 letters, digits or ._- and begin with one of the former", field="name")
        role = _role(request.role)
        if not 0 <= request.lifetime_seconds <= _LIFETIME_SECONDS_MAX:
            raise ConfigError(f"must lie between 0 (no end) and {_LIFETIME_SECONDS_MAX}", field="lifetime_seconds")
        now = self._now()
        minted = tokens.mint()
        record = TokenRecord(
            id=minted.id,
            name=request.name,
            role=role,
            salt=minted.salt,
            digest=minted.digest,
            created_at=now,
            created_by=caller(),
            expires_at=now + timedelta(seconds=request.lifetime_seconds) if request.lifetime_seconds else None,
        )
        await self._store.run(lambda store: store.add_token(record))
        return access_pb2.CreateTokenResponse(token=_token(record), bearer=minted.bearer)

    @answers_errors
    async def ListTokens(self, request: access_pb2.ListTokensRequest, context: Any) -> access_pb2.ListTokensResponse:
        records = await self._store.run(lambda store: store.list_tokens())
        return access_pb2.ListTokensResponse(tokens=[_token(record) for record in records])

    @answers_errors
    async def RevokeToken(self, request: access_pb2.RevokeTokenRequest, context: Any) -> access_pb2.RevokeTokenResponse:
        if not tokens.NAME.fullmatch(request.name):
            raise ConfigError("is not the name or id of a token", field="name")
        now = self._now()
        return await self._store.change(
            access_pb2.RevokeTokenResponse,
            lambda store: access_pb2.RevokeTokenResponse(token=_token(store.revoke_token(request.name, now))),
        )


class SecretServicer(access_pb2_grpc.SecretServiceServicer):
    """Takes secrets in; what went in never comes out here."""

    def __init__(self, store: StoreThread, vault: Vault, now: Callable[[], datetime]) -> None:
        self._store = store
        self._vault = vault
        self._now = now

    @answers_errors
    async def PutSecret(self, request: access_pb2.PutSecretRequest, context: Any) -> access_pb2.PutSecretResponse:
        name = _secret_name(request.name)
        if not 1 <= len(request.value.encode()) <= secret.BYTES_MAX or "\0" in request.value:
            raise ConfigError(f"must have 1 to {secret.BYTES_MAX} bytes of text, without NUL", field="value")
        self._require_keys()
        sealed = self._vault.seal(name, request.value, at=self._now(), by=caller())
        await self._store.run(lambda store: store.put_secret(sealed))
        return access_pb2.PutSecretResponse(secret=_secret(sealed))

    @answers_errors
    async def ListSecrets(self, request: access_pb2.ListSecretsRequest, context: Any) -> access_pb2.ListSecretsResponse:
        records = await self._store.run(lambda store: store.list_secrets())
        return access_pb2.ListSecretsResponse(secrets=[_secret(record) for record in records])

    @answers_errors
    async def DeleteSecret(
        self, request: access_pb2.DeleteSecretRequest, context: Any
    ) -> access_pb2.DeleteSecretResponse:
        name = _secret_name(request.name)

        def delete(store: Store) -> access_pb2.DeleteSecretResponse:
            store.delete_secret(name)
            return access_pb2.DeleteSecretResponse(deleted=True)

        return await self._store.change(access_pb2.DeleteSecretResponse, delete)

    @answers_errors
    async def RotateSecrets(
        self, request: access_pb2.RotateSecretsRequest, context: Any
    ) -> access_pb2.RotateSecretsResponse:
        self._require_keys()
        now, by = self._now(), caller()

        def rotate(store: Store) -> access_pb2.RotateSecretsResponse:
            old = [item for item in store.list_secrets() if item.key_id != self._vault.key_id]
            # All are opened before the first is sealed: a missing key changes nothing.
            opened = {item.name: self._vault.open(item) for item in old}
            for name, value in opened.items():
                store.put_secret(self._vault.seal(name, value, at=now, by=by))
            return access_pb2.RotateSecretsResponse(rotated=len(opened))

        return await self._store.change(access_pb2.RotateSecretsResponse, rotate)

    def _require_keys(self) -> None:
        """A server without keys is not the caller's mistake."""
        try:
            _ = self._vault.key_id
        except ConfigError as error:
            raise CheckFailed(
                f"the server has no key for secrets: {error.where['field']} {error.message}", advice=error.advice
            ) from None


class AuditServicer(access_pb2_grpc.AuditServiceServicer):
    """Shows who called what."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store

    @answers_errors
    async def ListCalls(self, request: access_pb2.ListCallsRequest, context: Any) -> access_pb2.ListCallsResponse:
        if request.page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(request.page_size or _PAGE_SIZE_DEFAULT, _PAGE_SIZE_MAX)
        before = _before(request.page_token)
        for field in ("principal", "flow_id"):
            if "\0" in getattr(request, field):
                raise ConfigError("must not hold NUL", field=field)
        records = await self._store.run(
            lambda store: store.list_calls(
                limit=size, before=before, principal=request.principal, flow_id=request.flow_id
            )
        )
        token = base64.urlsafe_b64encode(str(records[-1].id).encode()).decode() if len(records) == size else ""
        return access_pb2.ListCallsResponse(calls=[_call(record) for record in records], next_page_token=token)


def register(server: grpc.aio.Server, store: StoreThread, vault: Vault, now: Callable[[], datetime]) -> None:
    """Add the three services to a server."""
    access_pb2_grpc.add_TokenServiceServicer_to_server(TokenServicer(store, now), server)  # type: ignore[no-untyped-call]  # generated
    access_pb2_grpc.add_SecretServiceServicer_to_server(SecretServicer(store, vault, now), server)  # type: ignore[no-untyped-call]  # generated
    access_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(store), server)  # type: ignore[no-untyped-call]  # generated


def _role(number: int) -> Role:
    value = access_pb2.Role.DESCRIPTOR.values_by_number.get(number)
    word = value.name.removeprefix(_PREFIX).lower() if value else ""
    if word not in list(Role):
        raise ConfigError(f"must be one of {', '.join(Role)}", field="role")
    return Role(word)


def _role_number(role: Role | None) -> Any:
    return access_pb2.Role.Value(f"{_PREFIX}{role}".upper()) if role else access_pb2.ROLE_UNSPECIFIED


def _secret_name(name: str) -> str:
    if not secret.NAME.fullmatch(name):
        raise ConfigError("must have 1 to 128 letters, digits or ._- and begin with one of the former", field="name")
    return name


def _before(page_token: str) -> int | None:
    if not page_token:
        return None
    try:
        number = int(base64.b64decode(page_token.encode("ascii"), altchars=b"-_", validate=True).decode("ascii"))
        if not 0 < number < 2**62:
            raise ValueError
    except (binascii.Error, ValueError):
        raise ConfigError(
            "is not a token of an earlier page", field="page_token", advice="Begin with an empty token"
        ) from None
    return number


def _token(record: TokenRecord) -> access_pb2.Token:
    return access_pb2.Token(
        id=record.id,
        name=record.name,
        role=_role_number(record.role),
        created_at=timestamp_of(record.created_at),
        created_by=record.created_by,
        expires_at=timestamp_of(record.expires_at),
        revoked_at=timestamp_of(record.revoked_at),
    )


def _secret(record: SealedSecret) -> access_pb2.Secret:
    return access_pb2.Secret(
        name=record.name, updated_at=timestamp_of(record.updated_at), updated_by=record.updated_by, key_id=record.key_id
    )


def _call(record: CallRecord) -> access_pb2.Call:
    return access_pb2.Call(
        id=record.id,
        at=timestamp_of(record.at),
        principal=record.principal,
        role=_role_number(record.role),
        kind=record.kind,
        method=record.method,
        flow_id=record.flow_id,
        code=record.code,
        request_id=record.request_id,
    )
