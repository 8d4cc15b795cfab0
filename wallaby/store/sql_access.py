"""Tokens, secrets, audit records and request ids over SQL; see `wallaby.store.access` for the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from wallaby.access import Role
from wallaby.errors import AlreadyExists, ConfigError, NotFound, Refused
from wallaby.store.access import (
    CALLS_MAX,
    CALLS_PAGE_MAX,
    REQUESTS_MAX,
    SECRETS_MAX,
    TOKENS_MAX,
    CallKind,
    CallRecord,
    RequestKey,
    SealedSecret,
    TokenRecord,
)
from wallaby.store.edge import Edge, Transaction
from wallaby.store.sql_rows import time_of

_TOKEN_COLUMNS: Final = "id, name, role, salt, digest, created_at, created_by, expires_at, revoked_at"  # noqa: S105
_SECRET_COLUMNS: Final = "name, key_id, sealed, updated_at, updated_by"  # noqa: S105
_CALL_COLUMNS: Final = "at, principal, role, kind, method, flow_id, code, request_id"
_BATCH_MAX: Final = 500
"""Audit records per statement."""


class SqlAccess:
    """An `AccessStore` over an `Edge`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._unforgotten: Counter[CallKind] = Counter()
        """Audit records of each kind that may still come before the oldest are forgotten again."""

    # Tokens

    def add_token(self, token: TokenRecord) -> None:
        with self._edge.transaction() as transaction:
            [(live,)] = transaction.execute("SELECT count(*) FROM wallaby.tokens WHERE revoked_at IS NULL")
            if live >= TOKENS_MAX:
                raise Refused(f"there are {live} tokens, and no more are kept", advice="Revoke those nobody uses")
            rows = transaction.execute(
                f"INSERT INTO wallaby.tokens ({_TOKEN_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, NULL)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (
                    *(token.id, token.name, token.role, token.salt, token.digest),
                    *(_text(token.created_at), token.created_by, _text(token.expires_at)),
                ),
            )
            if not rows:
                raise AlreadyExists(
                    "a token of this name exists", advice="Revoke it first, or choose another name", token=token.name
                )
            transaction.execute(
                "DELETE FROM wallaby.tokens WHERE revoked_at IS NOT NULL AND id NOT IN (SELECT id FROM wallaby.tokens"
                " WHERE revoked_at IS NOT NULL ORDER BY revoked_at DESC LIMIT %s)",
                (TOKENS_MAX,),
            )

    def get_token(self, token_id: str) -> TokenRecord | None:
        rows = self._edge.read(f"SELECT {_TOKEN_COLUMNS} FROM wallaby.tokens WHERE id = %s", (token_id,))
        return _token(rows[0]) if rows else None

    def list_tokens(self) -> tuple[TokenRecord, ...]:
        rows = self._edge.read(f"SELECT {_TOKEN_COLUMNS} FROM wallaby.tokens ORDER BY created_at, id")
        return tuple(map(_token, rows))

    def revoke_token(self, name: str, at: datetime) -> TokenRecord:
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                f"SELECT {_TOKEN_COLUMNS} FROM wallaby.tokens WHERE id = %s OR name = %s"
                " ORDER BY revoked_at IS NOT NULL, revoked_at DESC LIMIT 1",
                (name, name),
            )
            if not rows:
                raise NotFound("there is no token of this name or id", advice="List the tokens", token=name)
            found = _token(rows[0])
            if found.revoked_at is None:
                transaction.execute("UPDATE wallaby.tokens SET revoked_at = %s WHERE id = %s", (_text(at), found.id))
            [row] = transaction.execute(f"SELECT {_TOKEN_COLUMNS} FROM wallaby.tokens WHERE id = %s", (found.id,))
        return _token(row)

    # Secrets

    def put_secret(self, secret: SealedSecret) -> None:
        with self._edge.transaction() as transaction:
            [(others,)] = transaction.execute("SELECT count(*) FROM wallaby.secrets WHERE name <> %s", (secret.name,))
            if others >= SECRETS_MAX:
                raise Refused(f"there are {others} secrets, and no more are kept", advice="Delete those nobody uses")
            transaction.execute(
                f"INSERT INTO wallaby.secrets ({_SECRET_COLUMNS}) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (name) DO UPDATE SET"
                " key_id = excluded.key_id, sealed = excluded.sealed, updated_at = excluded.updated_at,"
                " updated_by = excluded.updated_by",
                (secret.name, secret.key_id, secret.sealed, _text(secret.updated_at), secret.updated_by),
            )

    def get_secret(self, name: str) -> SealedSecret:
        rows = self._edge.read(f"SELECT {_SECRET_COLUMNS} FROM wallaby.secrets WHERE name = %s", (name,))
        if not rows:
            raise _no_secret(name)
        return _secret(rows[0])

    def list_secrets(self) -> tuple[SealedSecret, ...]:
        rows = self._edge.read(f"SELECT {_SECRET_COLUMNS} FROM wallaby.secrets ORDER BY name")
        return tuple(map(_secret, rows))

    def delete_secret(self, name: str) -> None:
        with self._edge.transaction() as transaction:
            if not transaction.execute("DELETE FROM wallaby.secrets WHERE name = %s RETURNING name", (name,)):
                raise _no_secret(name)

    # Audit

    def record_calls(self, records: Sequence[CallRecord]) -> None:
        with self._edge.transaction() as transaction:
            for start in range(0, len(records), _BATCH_MAX):
                _append(transaction, records[start : start + _BATCH_MAX])
            for kind, count in Counter(record.kind for record in records).items():
                # To find the bound's record is to count that many in the index: once per hundredth of them.
                self._unforgotten[kind] -= count
                if self._unforgotten[kind] > 0:
                    continue
                self._unforgotten[kind] = CALLS_MAX // 100
                transaction.execute(
                    "DELETE FROM wallaby.calls WHERE kind = %s AND id <= (SELECT id FROM wallaby.calls WHERE kind = %s"
                    " ORDER BY id DESC LIMIT 1 OFFSET %s)",
                    (kind, kind, CALLS_MAX),
                )

    def list_calls(
        self, *, limit: int = 100, before: int | None = None, principal: str = "", flow_id: str = ""
    ) -> tuple[CallRecord, ...]:
        conditions: list[str] = ["id < %s"]
        wanted: list[Any] = [2**62 if before is None else before]
        for column, value in (("principal", principal), ("flow_id", flow_id)):
            if value:
                conditions.append(f"{column} = %s")
                wanted.append(value)
        rows = self._edge.read(
            f"SELECT {_CALL_COLUMNS}, id FROM wallaby.calls WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT %s",
            (*wanted, max(0, min(limit, CALLS_PAGE_MAX))),
        )
        return tuple(map(_call, rows))

    # Repeated requests

    def once(self, key: RequestKey, work: Callable[[], bytes]) -> bytes:
        with self._edge.transaction() as transaction:
            # Whoever comes second waits here until the first has committed or given up.
            rows = transaction.execute(
                "INSERT INTO wallaby.requests (principal, request_id, method, digest, answer, at)"
                " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
                (key.principal, key.request_id, key.method, key.digest, b"", _text(datetime.now(UTC))),
            )
            if not rows:
                return _former_answer(transaction, key)
            answer = work()
            [(number,)] = rows
            transaction.execute("UPDATE wallaby.requests SET answer = %s WHERE id = %s", (answer, number))
            transaction.execute("DELETE FROM wallaby.requests WHERE id <= %s", (number - REQUESTS_MAX,))
        return answer

    def forget_request(self, key: RequestKey) -> None:
        with self._edge.transaction() as transaction:
            transaction.execute(
                "DELETE FROM wallaby.requests WHERE principal = %s AND request_id = %s AND digest = %s",
                (key.principal, key.request_id, key.digest),
            )


def _former_answer(transaction: Transaction, key: RequestKey) -> bytes:
    [(method, digest, answer)] = transaction.execute(
        "SELECT method, digest, answer FROM wallaby.requests WHERE principal = %s AND request_id = %s",
        (key.principal, key.request_id),
    )
    if (method, bytes(digest)) != (key.method, key.digest):
        raise ConfigError(
            "this request id was used for another request",
            advice="Choose a new id for every request, and repeat it only with the same request",
            field="wallaby-request-id",
        )
    return bytes(answer)


def _append(transaction: Transaction, records: Sequence[CallRecord]) -> None:
    rows = [(_text(r.at), r.principal, r.role, r.kind, r.method, r.flow_id, r.code, r.request_id) for r in records]
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
    transaction.execute(
        f"INSERT INTO wallaby.calls ({_CALL_COLUMNS}) VALUES {values}", tuple(value for row in rows for value in row)
    )


def _no_secret(name: str) -> NotFound:
    return NotFound("there is no secret of this name", advice=f"Store it: wallaby secret set {name}", secret=name)


def _token(row: tuple[Any, ...]) -> TokenRecord:
    token_id, name, role, salt, digest, created_at, created_by, expires_at, revoked_at = row
    return TokenRecord(
        id=token_id,
        name=name,
        role=Role(role),
        salt=bytes(salt),
        digest=bytes(digest),
        created_at=time_of(created_at),
        created_by=created_by,
        expires_at=None if expires_at is None else time_of(expires_at),
        revoked_at=None if revoked_at is None else time_of(revoked_at),
    )


def _secret(row: tuple[Any, ...]) -> SealedSecret:
    name, key_id, sealed, updated_at, updated_by = row
    return SealedSecret(
        name=name, key_id=key_id, sealed=bytes(sealed), updated_at=time_of(updated_at), updated_by=updated_by
    )


def _call(row: tuple[Any, ...]) -> CallRecord:
    at, principal, role, kind, method, flow_id, code, request_id, number = row
    return CallRecord(
        at=time_of(at),
        principal=principal,
        role=Role(role) if role else None,
        kind=CallKind(kind),
        method=method,
        flow_id=flow_id,
        code=code,
        request_id=request_id,
        id=int(number),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
