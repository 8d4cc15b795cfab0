"""The object store library's exceptions as ours: the one place that knows both.

Its texts quote requests and answers, so they are never passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from wallaby.errors import OutcomeUnknown, Transient, WallabyError

_NO_BUCKET: Final = re.compile(r"NoSuchBucket|bucket does not exist")
_FORBIDDEN: Final = re.compile(r"status code: 40[13]\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden")
_UNSUPPORTED: Final = re.compile(r"status code: 501\b|NotImplemented")


@contextmanager
def translated(**where: Any) -> Iterator[None]:
    """Around what makes nothing count: it certainly did not become visible. FileNotFoundError stays what it is."""
    try:
        yield
    except (BaseError, OSError) as error:
        known = cause(error, **where)
        if known is None and isinstance(error, FileNotFoundError):
            raise
        raise (known or _unexplained(error, **where)) from None


@contextmanager
def outcome_unknown(**where: Any) -> Iterator[None]:
    """Around a request that may have been carried out though its answer is lost. AlreadyExistsError stays."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except (BaseError, OSError) as error:
        if (known := cause(error, **where)) is not None:
            raise known from None
        raise OutcomeUnknown(
            "the store did not answer the commit", advice="The manifests decide: recover", **where
        ) from None


@contextmanager
def after_commit(**where: Any) -> Iterator[None]:
    """Around what follows a commit that took place, or may have."""
    try:
        yield
    except (BaseError, OSError, Transient) as error:
        kind = type(error).__name__
        raise OutcomeUnknown(
            f"the store failed right after the commit ({kind})", advice="The manifests decide: recover", **where
        ) from None


def cause(error: Exception, **where: Any) -> WallabyError | None:
    """Our error for an answer that says that nothing was done; None for any other."""
    text = str(error)
    if _NO_BUCKET.search(text):
        return Transient("the bucket does not exist", advice="Create it, or correct bucket", **where)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _FORBIDDEN.search(text):
        return Transient(
            "the store refuses access",
            advice="Look at the keys or the permissions: reading, writing, listing and deleting are needed",
            **where,
        )
    if _UNSUPPORTED.search(text):
        return Transient(
            "the store does not know conditional writes",
            advice="Use a server that has If-None-Match on PUT, or one that is newer",
            **where,
        )
    return None


def _unexplained(error: Exception, **where: Any) -> Transient:
    return Transient(
        f"the store does not answer ({type(error).__name__})",
        advice="Look at endpoint, region and the network",
        **where,
    )


__all__ = ["after_commit", "cause", "outcome_unknown", "translated"]
