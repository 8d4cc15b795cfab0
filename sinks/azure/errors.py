"""Exceptions of Azure's client as ours: the one place that knows both. Its texts hold addresses: never shown."""

from __future__ import annotations

from functools import partial
from typing import Final

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from sinks.objects.errors import Advice, Answer, translating

ANY: Final = (AzureError,)
"""What the client raises for a request that did not succeed."""
ADVICE: Final = Advice(
    place="container",
    keys="Set account_key, sas_token or client_secret, or give the machine an identity",
    address="account and endpoint",
)
ALREADY_THERE: Final = frozenset({"BlobAlreadyExists", "ConditionNotMet"})
"""Answers to the creation of a blob that is there."""
_NOT_FOUND: Final = 404
_MISSING_PLACE: Final = frozenset({"ContainerNotFound", "ContainerBeingDeleted", "FilesystemNotFound"})


def answer(error: Exception) -> Answer:
    """What the store said."""
    status = int((error.status_code if isinstance(error, HttpResponseError) else None) or 0)
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    return Answer(
        status,
        code,
        is_absent=status == _NOT_FOUND and code not in _MISSING_PLACE,
        is_missing_place=code in _MISSING_PLACE,
        # What fails before the store is asked: an identity that is not there, or not let in.
        is_without_keys=isinstance(error, ClientAuthenticationError) and not code,
    )


translated: Final = partial(translating, ANY, answer, ADVICE)
"""Around requests: see `sinks.objects.errors.translating`."""


__all__ = ["ADVICE", "ALREADY_THERE", "ANY", "answer", "translated"]
