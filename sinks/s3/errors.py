"""botocore's exceptions as ours: the one place that knows both. Its texts may hold addresses and keys: never shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from wallaby.errors import Refused, Transient, WallabyError

ANY: Final = (ClientError, BotoCoreError, Boto3Error)
"""What boto3 raises for a request that did not succeed."""
_NOT_IMPLEMENTED: Final = 501
_ABSENT: Final = frozenset({"NoSuchKey", "404", "NotFound"})


@contextmanager
def translated(**where: Any) -> Iterator[None]:
    """Around requests that change nothing that counts: FileNotFoundError for an absent key, `Transient` (`Refused`

    for a request the store does not know) else."""
    try:
        yield
    except ANY as error:
        if code(error) in _ABSENT:
            raise FileNotFoundError("no such key") from None
        # Without a cause on purpose: texts may quote the address with what is in it.
        raise translate(error, **where) from None


def code(error: Exception) -> str:
    """The store's error code; empty when it did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status(error: Exception) -> int:
    """The answer's HTTP status; 0 when there was none."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_unanswered(error: Exception) -> bool:
    """True when the store may have done what was asked."""
    return status(error) == 0 or (status(error) >= 500 and status(error) != _NOT_IMPLEMENTED)


def translate(error: Exception, **where: Any) -> WallabyError:
    """Our error for a request that was refused or not answered."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return Transient(
            "there are no keys for the store",
            advice="Set access_key and secret_key, or give the machine a role",
            **where,
        )
    if code(error) == "NoSuchBucket":
        return Transient("the bucket does not exist", advice="Create it, or correct bucket", **where)
    if status(error) in (401, 403):
        return Transient(
            "the store refuses access",
            advice="Look at the keys or the permissions: reading, writing, listing and deleting are needed",
            **where,
        )
    if status(error) == _NOT_IMPLEMENTED:
        return Refused(
            "the store does not know a request that is needed",
            advice="Use a store that honours If-None-Match when an object is written",
            **where,
        )
    if status(error) in (301, 307, 400):
        return Transient(
            f"the store does not take the request ({code(error)})",
            advice="Look at region, endpoint and force_path_style",
            **where,
        )
    if is_unanswered(error):
        return Transient("the store does not answer", advice="Look at endpoint, region and the network", **where)
    return Transient(f"the store answered {code(error)}", advice="Look at the store", **where)


__all__ = ["ANY", "code", "is_unanswered", "status", "translate", "translated"]
