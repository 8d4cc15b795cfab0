"""Bearer tokens: made once, kept as a salted hash, compared in constant time.

``wlb_<id>_<256 random bits in base64>``. The id finds the record, the rest proves it. Because the rest is random and
not a person's password, one HMAC is enough: nobody can try out 2^256 values however fast each try is, and a slow hash
would cost its time at every call (see specs/decisions/0020).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from wallaby.store import TokenRecord

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
"""Names of tokens."""

_TEXT: Final = re.compile(r"wlb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NOBODY: Final = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A new token: ``bearer`` is for its owner only, the rest is stored."""

    id: str
    bearer: str = field(repr=False)
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)


def mint() -> Minted:
    """A token of 256 random bits."""
    token_id, proof, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_bytes(16)
    return Minted(id=token_id, bearer=f"wlb_{token_id}_{proof}", salt=salt, digest=_digest(proof, salt))


def id_of(bearer: str) -> str | None:
    """The id inside a bearer token; None for text that is none."""
    match = _TEXT.fullmatch(bearer)
    return match[1] if match else None


def is_valid(bearer: str, record: TokenRecord | None, now: datetime) -> bool:
    """True when ``bearer`` is the token of ``record``, and neither revoked nor expired.

    Takes as long for a token nobody knows as for one with a wrong proof.
    """
    match = _TEXT.fullmatch(bearer)
    digest = _digest(match[2] if match else "", record.salt if record else _NOBODY)
    is_proven = hmac.compare_digest(digest, record.digest if record else _NOBODY)
    if not is_proven or record is None or match is None or match[1] != record.id:
        return False
    return record.revoked_at is None and (record.expires_at is None or now < record.expires_at)


def _digest(proof: str, salt: bytes) -> bytes:
    return hmac.digest(salt, proof.encode(), hashlib.sha256)
