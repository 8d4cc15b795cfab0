"""Exceptions of pyiceberg, its catalogs and its storage as ours: the one place that knows both.

Their texts may name credentials, addresses or values, so none is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

import pyarrow as pa
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    ForbiddenError,
    NoSuchIcebergTableError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    UnauthorizedError,
    ValidationError,
)

from wallaby.errors import MissingExtra, OutcomeUnknown, Refused, RowRefused, Transient, WallabyError

_WRONG_KEYS: Final = (
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT",
    "MISSING_AUTHENTICATION_TOKEN",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
)
_NO_BUCKET: Final = re.compile("NO_SUCH_BUCKET|NoSuchBucket")
_FULL: Final = re.compile(r"No space left|Disk quota|\berrno (28|122)\b", re.IGNORECASE)
_UNWRITABLE: Final = frozenset({"25006", "42501"})
"""Of PostgreSQL: a read-only transaction, a privilege that is missing."""


class Doing(Enum):
    """What was under way, which decides what an unexpected error means."""

    READ = "asking the catalog"
    WRITE = "writing files"
    """Files nobody has heard of yet: certainly nothing happened."""
    ROWS = "writing rows"
    """As `WRITE`; and what cannot be computed is a row's value."""
    COMMIT = "committing"
    """The catalog may or may not have taken it."""


class Conflict(Transient):
    """Somebody else committed to the table first; nothing of ours happened."""


@contextmanager
def translated(doing: Doing, **where: Any) -> Iterator[None]:
    """Turn foreign exceptions into ours. ``where`` names the table or lane."""
    try:
        yield
    except WallabyError:
        raise
    except Exception as error:  # noqa: BLE001  # catalogs and file systems raise whatever their client libraries do
        # Without a cause on purpose: see above.
        raise translate(error, doing, **where) from None


def translate(error: Exception, doing: Doing, **where: Any) -> WallabyError:
    """Our error for a foreign one: class and advice, and no word of its own text."""
    kind = type(error).__name__
    match error:
        case CommitFailedException():
            return Conflict("somebody else committed to the table first", advice="It is tried again", **where)
        case UnauthorizedError() | ForbiddenError() | OAuthError():
            return Refused(
                "the catalog does not let us in",
                advice="Check catalog_credential or catalog_token, and what they may do",
                **where,
            )
        case NoSuchTableError() | NoSuchIcebergTableError() | NoSuchNamespaceError():
            return Refused(
                "the table is gone from the catalog",
                advice="Somebody dropped it: copy the tables again with --resnapshot",
                **where,
            )
        case NotInstalledError():
            return MissingExtra(
                "a package of pyiceberg is missing", advice='Run: pip install "wallaby[iceberg]"', **where
            )
        case AssertionError():
            raise error
        case OSError() if _FULL.search(str(error)) and doing is Doing.COMMIT:
            return OutcomeUnknown("there is no space left", advice="Free space, or grow the disk", **where)
        case OSError() if _FULL.search(str(error)):
            return Transient("there is no space left", advice="Free space, or grow the disk", **where)
        case OSError() if doing is not Doing.COMMIT and _NO_BUCKET.search(str(error)):
            return Transient("the bucket does not exist", advice="Create it, or correct warehouse", **where)
        case OSError() if doing is not Doing.COMMIT and (says_wrong_keys(str(error)) or says_denied(str(error))):
            return Transient(
                "the store refuses access",
                advice="Look at the keys or the permissions: reading, writing, listing and deleting are needed",
                **where,
            )
        case _ if _is_read_only(error):
            return Transient(
                "the catalog's database can be read and not written",
                advice="Connect to the primary, and grant INSERT, UPDATE and DELETE on pyiceberg's tables there",
                **where,
            )
        case _ if doing is Doing.COMMIT:
            return OutcomeUnknown(
                f"the catalog gave {kind} at a commit", advice="The catalog decides: recover", **where
            )
        case pa.ArrowInvalid() | ArithmeticError() if doing is Doing.ROWS:
            return RowRefused(
                f"Iceberg has no place for a value of the rows ({kind})",
                advice="Dates and times outside the years 1 to 9999, unsigned numbers beyond a long and partitions of "
                "NaN have none: change the value on the source, or leave the column out of the publication",
                **where,
            )
        case pa.ArrowInvalid() | pa.ArrowTypeError() | pa.ArrowNotImplementedError() | ValidationError():
            return Refused(f"Iceberg cannot hold the rows ({kind})", **where)
        case BadRequestError():
            return Refused("the catalog refuses the request", advice="Compare its version with the docs", **where)
        case _ if _package(error) == "sqlalchemy":
            return Transient(
                "the catalog's database does not answer, or does not let us in",
                advice="Check catalog_uri: server, port, database, user and password",
                **where,
            )
        case _ if _package(error) in ("requests", "urllib3"):
            return Transient(
                "the catalog does not answer", advice="Check catalog_uri, and that the catalog runs there", **where
            )
        case _ if _package(error) == "botocore":
            return Transient(
                "AWS does not answer, or does not let us in",
                advice="Check region, endpoint and keys, and what they may do in Glue",
                **where,
            )
        case PermissionError():
            return Transient(
                "the warehouse cannot be written", advice="Give wallaby permission to write there", **where
            )
        case _:
            return Transient(
                f"{kind} while {doing.value}",
                advice="Look at the catalog and the warehouse: are they reachable?",
                **where,
            )


def says_wrong_keys(text: str) -> bool:
    """True when a store of objects does not know the keys, or not any more."""
    return any(word in text for word in _WRONG_KEYS)


def says_denied(text: str) -> bool:
    """True when it knows them, and they may not do what was asked."""
    return "ACCESS_DENIED" in text or "AccessDenied" in text


def _is_read_only(error: Exception) -> bool:
    """True for a write an SQL catalog certainly has not made: SQLite says so, PostgreSQL has codes for it."""
    cause = getattr(error, "orig", None)
    if _package(error) != "sqlalchemy" or cause is None:
        return False
    return getattr(cause, "sqlstate", None) in _UNWRITABLE or "readonly database" in str(cause)


def _package(error: Exception) -> str:
    """The client library an error comes from, which need not be installed."""
    return type(error).__module__.partition(".")[0]


__all__ = ["Conflict", "Doing", "says_denied", "says_wrong_keys", "translate", "translated"]
