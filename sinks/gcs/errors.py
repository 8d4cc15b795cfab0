"""Exceptions of Google's client as ours: the one place that knows both. Its texts hold addresses: never shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from sinks.objects.errors import Advice, Answer, translate

ANY: Final = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, RequestException, HTTPError)
"""What the client raises for a request that did not succeed."""
ADVICE: Final = Advice(
    place="bucket",
    keys="Set credentials to a service account's key, or give the machine a service account",
    address="endpoint",
)
_NOT_FOUND: Final = 404


@contextmanager
def translated(*, absent_is_bucket: bool = False, **where: Any) -> Iterator[None]:
    """Around requests that change nothing that counts: `Transient` (`Refused` for a request the store does not know).

    The store answers 404 for a key and for a bucket alike: FileNotFoundError, or ``absent_is_bucket``.
    """
    try:
        yield
    except ANY as error:
        said = answer(error)
        if said.status == _NOT_FOUND and not absent_is_bucket:
            raise FileNotFoundError("no such key") from None
        # Without a cause on purpose: texts quote the address with what is in it.
        raise translate(said, ADVICE, **where) from None


def answer(error: Exception) -> Answer:
    """What the store said to a request for which a missing key is no answer."""
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return Answer(is_without_keys=True)
    if isinstance(error, InvalidResponse):
        status = int(error.response.status_code)
    else:
        # RetryError, which ends attempts without an answer, has none.
        status = int(error.code or 0) if isinstance(error, GoogleAPICallError) else 0
    return Answer(status, is_missing_place=status == _NOT_FOUND)


__all__ = ["ADVICE", "ANY", "answer", "translated"]
