"""botocore's exceptions as ours: the one place that knows both. Its texts may hold addresses and keys: never shown."""

from __future__ import annotations

from functools import partial
from typing import Final

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from sinks.objects.errors import Advice, Answer, translating

ANY: Final = (ClientError, BotoCoreError, Boto3Error)
"""What boto3 raises for a request that did not succeed."""
ADVICE: Final = Advice(
    place="bucket",
    keys="Set access_key and secret_key, or give the machine a role",
    address="bucket, region, endpoint and force_path_style",
)
_WITHOUT_KEYS: Final = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
_NEVER_SENT: Final = (InvalidRegionError, NoRegionError, ParamValidationError)
"""Requests that no store would take."""
_BAD_REQUEST: Final = 400
_OUTDATED_KEYS: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
"""Answers to temporary keys, with the status of a bad request."""
_ABSENT: Final = frozenset({"NoSuchKey", "404", "NotFound"})


def answer(error: Exception) -> Answer:
    """What the store said."""
    if not isinstance(error, ClientError):
        if isinstance(error, _NEVER_SENT):
            return Answer(_BAD_REQUEST, type(error).__name__)
        return Answer(is_without_keys=isinstance(error, _WITHOUT_KEYS))
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return Answer(
        status,
        code,
        is_absent=code in _ABSENT,
        is_missing_place=code == "NoSuchBucket",
        is_without_keys=code in _OUTDATED_KEYS,
    )


translated: Final = partial(translating, ANY, answer, ADVICE)
"""Around requests: see `sinks.objects.errors.translating`."""


__all__ = ["ADVICE", "ANY", "answer", "translated"]
