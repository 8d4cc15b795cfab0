"""What every object store does, and what is S3's own."""

from __future__ import annotations

from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoRegionError,
    ParamValidationError,
    ProfileNotFound,
    TokenRetrievalError,
)

from sinks.s3 import FACTORY, errors
from tests.s3 import KEYS
from tests.sinks.object_store_contract import ORDERS, PREFIX, ObjectStoreContract, StoreCase
from wallaby.errors import ConfigError, OutcomeUnknown, Transient


class TestS3(ObjectStoreContract):
    def in_parts(self, case: StoreCase, key: str) -> None:
        with case.storage() as storage:
            store: Any = storage._store
            head = store._client.head_object(Bucket=case.options["bucket"], Key=f"{PREFIX}/{key}")
        assert head["ETag"].strip('"').endswith("-3")


def _said(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


def test_wrong_keys_are_found_and_not_shown(case: StoreCase, s3_endpoint: str) -> None:
    def reset_auth(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = Request(f"{s3_endpoint}/moto-api/reset-auth", data=requests.encode(), headers=headers)
        with urlopen(request) as answer:
            assert answer.status == 200

    sink = case.make(access_key="nobody", secret_key="hunter2")
    reset_auth("0")
    try:
        [finding] = sink.check((ORDERS,))
    finally:
        reset_auth("inf")
        sink.close()
    assert (finding.message, bool(finding.advice)) == ("the store refuses access", True)
    assert "hunter2" not in f"{finding}{sink!r}"


def test_a_creation_that_meets_another_is_tried_again(case: StoreCase, monkeypatch: pytest.MonkeyPatch) -> None:
    with case.storage() as storage:
        store: Any = storage._store
        put = store._client.put_object
        met = iter([True, True, False])

        def meeting(**request: Any) -> Any:
            if next(met):
                raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
            return put(**request)

        monkeypatch.setattr(store._client, "put_object", meeting)
        assert storage.create("a", b"ours")


@pytest.mark.must_not_fail(2)
def test_a_creation_that_meets_others_to_the_end_is_unknown(case: StoreCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them may be its own, which the library gave up on and the store did not."""
    with case.storage() as storage:
        store: Any = storage._store

        def meeting(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")

        monkeypatch.setattr(store._client, "put_object", meeting)
        with pytest.raises(OutcomeUnknown):
            storage.create("a", b"ours")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "bucket"),
        ({"bucket": "s3://b"}, "bucket"),
        ({"bucket": "b", "write_mode": "mirror"}, "write_mode"),
        ({"bucket": "b", "access_key": "a"}, "secret_key"),
        ({"bucket": "b", "session_token": "a"}, "session_token"),
        ({"bucket": "b", "endpoint": "http://127.0.0.1", "use_fips": True}, "use_fips"),
        ({"bucket": "b", "format": "json", "compression": "snappy"}, "compression"),
        ({"bucket": "b", "format": "xml"}, "format"),
        ({"bucket": "b", "endpoint": "127.0.0.1:9000"}, "endpoint"),
        ({"bucket": "b", "endpoint": "http://user:hunter2@127.0.0.1"}, "endpoint"),
        ({"bucket": "b", "endpoint": "http://127.0.0.1?key=hunter2"}, "endpoint"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field
    assert "hunter2" not in f"{wrong.value}"


@pytest.mark.parametrize(
    ("error", "message", "advice"),
    [
        (ProfileNotFound(profile="mine"), "no valid keys", "access_key"),
        (TokenRetrievalError(provider="sso", error_msg="hunter2"), "no valid keys", "access_key"),
        (CredentialRetrievalError(provider="process", error_msg="hunter2"), "no valid keys", "access_key"),
        (_said(400, "ExpiredToken"), "no valid keys", "access_key"),
        (_said(400, "AuthorizationHeaderMalformed"), "does not take the request", "region"),
        (ParamValidationError(report="hunter2"), "does not take the request", "bucket"),
        (NoRegionError(), "does not take the request", "region"),
        (EndpointConnectionError(endpoint_url="hunter2"), "does not answer", "endpoint"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_wrong_on_our_side_is_not_called_a_store_that_does_not_answer(
    error: Exception, message: str, advice: str
) -> None:
    with pytest.raises(Transient, match=message) as refused, errors.translated(bucket="b"):
        raise error
    assert advice in refused.value.advice
    assert "hunter2" not in f"{refused.value}"


def test_keys_are_secrets(case: StoreCase) -> None:
    assert {"access_key", "secret_key", "session_token"} <= FACTORY.options_model.secret_fields
    with case.storage() as storage:
        assert KEYS["secret_key"] not in f"{storage!r}{storage}"
