"""Finding out who calls: a bearer token, a client certificate, or somebody on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from wallaby.access import Role
from wallaby.api import tokens
from wallaby.api.call import Principal
from wallaby.api.stores import StoreThread
from wallaby.errors import Unauthenticated

LOCAL: Final = Principal("local", Role.ADMIN)
"""Whoever reaches an API that asks nobody: on loopback only."""

_ADVICE: Final = "Give a token: -token file:PATH, or WALLABY_TOKEN. An admin makes one: wallaby token create"
_BEARER: Final = "bearer "
_NAMES: Final = ("x509_common_name", "x509_subject_alternative_name")


class Authenticator:
    """Knows callers by what they bring. A token decides before a certificate: it says more exactly who it is."""

    def __init__(
        self,
        store: StoreThread,
        *,
        is_required: bool,
        certificate_roles: Mapping[str, Role],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._is_required = is_required
        self._certificate_roles = certificate_roles
        self._now = now

    async def identify(self, authorizations: Sequence[str], connection: Mapping[str, Iterable[bytes]]) -> Principal:
        """The caller. ``authorizations``: its headers of that name; ``connection``: gRPC's ``auth_context``.

        `Unauthenticated` when it brings nothing and must, or something that is not valid: a wrong token is refused also
        where none is needed.
        """
        if len(authorizations) > 1:
            raise Unauthenticated("the call brings several authorizations", advice="Send one")
        if authorizations:
            return await self._by_token(authorizations[0])
        found = self._by_certificate(connection)
        if found is not None:
            return found
        if self._is_required:
            raise Unauthenticated("the API needs to know who calls", advice=_ADVICE)
        return LOCAL

    async def _by_token(self, authorization: str) -> Principal:
        bearer = authorization[len(_BEARER) :].strip() if authorization.lower().startswith(_BEARER) else ""
        token_id = tokens.id_of(bearer)
        record = await self._store.look(lambda store: store.get_token(token_id)) if token_id else None
        # One answer for every cause: which of them it was is nobody's business who does not hold a valid token.
        if not tokens.is_valid(bearer, record, self._now()) or record is None:
            raise Unauthenticated("the token is not valid: unknown, expired or revoked", advice=_ADVICE)
        return Principal(f"token:{record.name}", record.role)

    def _by_certificate(self, connection: Mapping[str, Iterable[bytes]]) -> Principal | None:
        names = [value.decode("utf-8", "replace") for kind in _NAMES for value in connection.get(kind, ())]
        known = [(self._certificate_roles[name], name) for name in names if name in self._certificate_roles]
        if not known:
            return None
        # A certificate with several names gets the least of their roles.
        role, name = min(known, key=lambda item: list(Role).index(item[0]))
        return Principal(f"certificate:{name}", role)
