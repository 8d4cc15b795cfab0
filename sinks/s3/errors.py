"""botocore's exceptions as ours: the one place that knows both. Its texts may hold addresses and keys: never shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from sinks.objects.errors import Advice, Answer, translate

ANY: Final = (ClientError, BotoCoreError, Boto3Error)
"""What boto3 raises for a request that did not succeed."""
ADVICE: Final = Advice(
    place="bucket",
    keys="Set access_key and secret_key, or give the machine a role",
    address="region, endpoint and force_path_style",
)
_ABSENT: Final = frozenset({"NoSuchKey", "404", "NotFound"})


@contextmanager
def translated(**where: Any) -> Iterator[None]:
    """Around requests that change nothing that counts: FileNotFoundError for an absent key, `Transient` (`Refused`

    for a request the store does not know) else."""
    try:
        yield
    except ANY as error:
        said = answer(error)
        if said.code in _ABSENT:
            raise FileNotFoundError("no such key") from None
        # Without a cause on purpose: texts may quote the address with what is in it.
        raise translate(said, ADVICE, **where) from None


def answer(error: Exception) -> Answer:
    """What the store said."""
    if not isinstance(error, ClientError):
        return Answer(is_without_keys=isinstance(error, NoCredentialsError | PartialCredentialsError))
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return Answer(status, code, is_missing_place=code == "NoSuchBucket")


__all__ = ["ADVICE", "ANY", "answer", "translated"]
