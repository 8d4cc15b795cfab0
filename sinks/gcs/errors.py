"""Exceptions of Google's client as ours: the one place that knows both. Its texts hold addresses: never shown."""

from __future__ import annotations

from functools import partial
from typing import Final

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from sinks.objects.errors import Advice, Answer, translating

ANY: Final = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, RequestException, HTTPError)
"""What the client raises for a request that did not succeed."""
ADVICE: Final = Advice(
    place="bucket",
    keys="Set credentials to a service account's key, or give the machine a service account",
    address="endpoint",
)
_NOT_FOUND: Final = 404


def answer(error: Exception) -> Answer:
    """What the store said; it answers 404 for a key and for a bucket alike."""
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return Answer(is_without_keys=True)
    if isinstance(error, InvalidResponse):
        status = int(error.response.status_code)
    else:
        # RetryError, which ends attempts without an answer, has none.
        status = int(error.code or 0) if isinstance(error, GoogleAPICallError) else 0
    return Answer(status, is_absent=status == _NOT_FOUND, is_missing_place=status == _NOT_FOUND)


translated: Final = partial(translating, ANY, answer, ADVICE)
"""Around requests: see `sinks.objects.errors.translating`."""


__all__ = ["ADVICE", "ANY", "answer", "translated"]
