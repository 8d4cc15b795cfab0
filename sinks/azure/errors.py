"""Exceptions of Azure's client as ours: the one place that knows both. Its texts hold addresses: never shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from sinks.objects.errors import Advice, Answer, translate

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


@contextmanager
def translated(**where: Any) -> Iterator[None]:
    """Around requests that change nothing that counts: FileNotFoundError for an absent key, `Transient` (`Refused`

    for a request the store does not know) else."""
    try:
        yield
    except ANY as error:
        said = answer(error)
        if said.status == _NOT_FOUND and not said.is_missing_place:
            raise FileNotFoundError("no such key") from None
        # Without a cause on purpose: texts quote the address with what is in it.
        raise translate(said, ADVICE, **where) from None


def answer(error: Exception) -> Answer:
    """What the store said."""
    status = int((error.status_code if isinstance(error, HttpResponseError) else None) or 0)
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    return Answer(
        status,
        code,
        is_missing_place=code in _MISSING_PLACE,
        # What fails before the store is asked: an identity that is not there, or not let in.
        is_without_keys=isinstance(error, ClientAuthenticationError) and not code,
    )


__all__ = ["ADVICE", "ALREADY_THERE", "ANY", "answer", "translated"]
