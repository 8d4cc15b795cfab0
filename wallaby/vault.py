"""Secrets of the control store: sealed where they come in, opened where a flow runs.

AES-256-GCM with a fresh nonce per secret. The secret's name is authenticated with it, so that somebody who can write
the store cannot put one secret in another's place. The keys never enter the store: ``WALLABY_SECRET_KEY`` refers to
them, one per line. The first key seals; all of them open, so a new key is put before the old one, ``wallaby secret
rotate`` seals everything anew, and the old one is removed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any, Final, Self

from wallaby import secret
from wallaby.errors import CheckFailed, ConfigError, MissingExtra
from wallaby.store.access import SealedSecret

_FIELD: Final = "WALLABY_SECRET_KEY"
_KEY_BYTES: Final = 32
_KEYS_MAX: Final = 8
_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"
"""First byte of what is stored: this layout, version | nonce | ciphertext and tag."""


class Vault:
    """The keys of one process; without keys it opens and seals nothing. Never printed with them."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._keys = {_key_id(key): key for key in keys}

    def __repr__(self) -> str:
        return f"Vault({len(self._keys)} keys)"

    @classmethod
    def from_reference(cls, reference: str) -> Self:
        """The keys behind ``env:NAME`` or ``file:PATH``, one per line in base64; no keys for an empty reference.

        `ConfigError` for anything else: a key itself in a setting would be seen in the process's environment.
        """
        if not reference:
            return cls()
        if not secret.is_reference(reference) or secret.stored_name(reference) is not None:
            raise ConfigError("must refer to the key", field=_FIELD, advice="Write file:PATH or env:NAME")
        lines = secret.resolve(reference, field=_FIELD).split()
        if not 1 <= len(lines) <= _KEYS_MAX:
            raise ConfigError(f"must lead to 1 to {_KEYS_MAX} keys, one per line", field=_FIELD)
        return cls(_key(line) for line in lines)

    @property
    def key_id(self) -> str:
        """The name of the key that seals: a short hash, harmless. `ConfigError` without keys."""
        if not self._keys:
            raise ConfigError(
                "is needed for secrets of the control store",
                field=_FIELD,
                advice="Make a key (openssl rand -base64 32), keep it in a file of the server, and set file:PATH",
            )
        return next(iter(self._keys))

    @property
    def has_keys(self) -> bool:
        """It can seal."""
        return bool(self._keys)

    def seal(self, name: str, value: str, *, at: datetime, by: str) -> SealedSecret:
        """``value`` encrypted under the first key."""
        key_id, sealed = self._sealed(value.encode(), _context(name))
        return SealedSecret(name=name, key_id=key_id, sealed=sealed, updated_at=at, updated_by=by)

    def seal_content(self, place: str, content: bytes) -> tuple[str, bytes]:
        """A dead letter's content encrypted under the first key, bound to its place; the key's name comes first."""
        return self._sealed(content, _content_context(place))

    def open_content(self, place: str, key_id: str, sealed: bytes) -> bytes:
        """What `seal_content` was given; errors as those of `open`."""
        own = self.key_id
        if key_id not in self._keys:
            raise CheckFailed(
                f"{_FIELD} does not hold key {key_id}, which sealed the dead letter (it holds {own} first)",
                advice="Add that key below the present one, or discard the letter",
            )
        return self._opened(key_id, sealed, _content_context(place), _altered_content())

    def open(self, sealed: SealedSecret) -> str:
        """The secret. `ConfigError` without any key, `CheckFailed` without its own or when it was altered."""
        own = self.key_id
        if sealed.key_id not in self._keys:
            raise CheckFailed(
                f"{_FIELD} does not hold key {sealed.key_id}, which sealed the secret (it holds {own} first)",
                advice="Add that key below the present one, or set the secret again",
                secret=sealed.name,
            )
        altered = _altered(sealed.name)
        try:
            return self._opened(sealed.key_id, sealed.sealed, _context(sealed.name), altered).decode()
        except UnicodeDecodeError:
            raise altered from None

    def open_all(self, sealed: Iterable[SealedSecret]) -> Mapping[str, str]:
        """Every secret by its name."""
        return {item.name: self.open(item) for item in sealed}

    def _sealed(self, content: bytes, context: bytes) -> tuple[str, bytes]:
        key_id = self.key_id
        nonce = os.urandom(_NONCE_BYTES)
        return key_id, _VERSION + nonce + bytes(_cipher(self._keys[key_id]).encrypt(nonce, content, context))

    def _opened(self, key_id: str, sealed: bytes, context: bytes, altered: CheckFailed) -> bytes:
        nonce, content = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION:
            raise altered
        invalid_tag = _cryptography().exceptions.InvalidTag
        try:
            return bytes(_cipher(self._keys[key_id]).decrypt(nonce, content, context))
        except (invalid_tag, ValueError):
            raise altered from None


def _key(line: str) -> bytes:
    try:
        key = base64.b64decode(line, altchars=b"-_" if "-" in line or "_" in line else None, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError(
            f"must lead to keys of {_KEY_BYTES} bytes in base64",
            field=_FIELD,
            advice="openssl rand -base64 32 makes one",
        )
    return key


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"wallaby secret key" + key).hexdigest()[:8]


def _context(name: str) -> bytes:
    return b"wallaby secret 1\0" + name.encode()


def _content_context(place: str) -> bytes:
    return b"wallaby dead letter 1\0" + place.encode()


def _altered_content() -> CheckFailed:
    return CheckFailed("the dead letter was altered in the control store", advice="Discard it and copy the table again")


def _altered(name: str) -> CheckFailed:
    return CheckFailed(
        "the secret was altered in the control store", advice=f"Set it again: wallaby secret set {name}", secret=name
    )


def _cryptography() -> ModuleType:
    try:
        import cryptography.exceptions
        import cryptography.hazmat.primitives.ciphers.aead
    except ImportError:
        raise MissingExtra(
            "the package cryptography is not installed", advice="Run: pip install 'wallaby[secrets]'", extra="secrets"
        ) from None
    return cryptography


def _cipher(key: bytes) -> Any:  # the package is optional, and so are its types
    return _cryptography().hazmat.primitives.ciphers.aead.AESGCM(key)
