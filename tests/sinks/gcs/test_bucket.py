"""What every object store does, and what is Google's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sinks.gcs import FACTORY, bucket
from tests.http_middleman import Middleman, middleman
from tests.sinks.object_store_contract import ORDERS, ObjectStoreContract, StoreCase
from wallaby.errors import ConfigError, Transient


class TestGcs(ObjectStoreContract):
    """Nothing else: see there."""


def test_a_large_object_is_uploaded_in_parts(case: StoreCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "PART_BYTES", 5 << 20)
    (tmp_path / "made").write_bytes(bytes(12 << 20))
    sizes: list[int] = []
    with case.storage() as storage:
        store: Any = storage._store
        session = store._client._http
        request = session.request

        def watched(method: str, url: str, data: Any = None, **rest: Any) -> Any:
            sizes.extend([len(data)] if method == "PUT" else [])
            return request(method, url, data=data, **rest)

        monkeypatch.setattr(session, "request", watched)
        store.upload(tmp_path / "made", "large")
        assert len(store.read("large")) == 12 << 20
    assert sizes == [5 << 20, 5 << 20, 2 << 20]


@pytest.fixture
def tokens() -> Iterator[Middleman]:
    """Who makes tokens of keys: nobody gets one."""
    with middleman() as made:
        made.answer = (400, {"Content-Type": "application/json"}, b'{"error": "invalid_grant", "x": "hunter2"}')
        yield made


def service_account(token_address: str) -> dict[str, Any]:
    """A service account's key as Google's console gives it."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "client_email": "writer@shop.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": key.decode(),
        "token_uri": f"{token_address}/token",
    }


@pytest.mark.must_not_fail(24)
def test_a_key_that_is_not_taken_is_found_and_not_shown(tokens: Middleman) -> None:
    key = service_account(tokens.address)
    options = {"bucket": "shop-changes", "credentials": json.dumps(key)}
    with closing(FACTORY.create(options, destination="copy")) as sink:
        [finding] = sink.check((ORDERS,))
        assert (finding.code, finding.message) == ("destination-unreachable", "there are no valid keys for the store")
        assert "credentials" in finding.advice
        storage: Any = sink
        with pytest.raises(Transient, match="no valid keys") as refused:
            storage._storage.create("a", b"")
        shown = f"{finding}{sink!r}{refused.value!r}"
    assert tokens.requests == ["POST /token", "POST /token"]
    assert not [secret for secret in ("hunter2", "PRIVATE", key["private_key"][40:60]) if secret in shown]


def test_a_damaged_key_is_said_to_be_one() -> None:
    key = service_account("https://oauth2.example") | {"private_key": "hunter2"}
    with (
        closing(FACTORY.create({"bucket": "b", "credentials": json.dumps(key)}, destination="copy")) as sink,
        pytest.raises(ConfigError) as wrong,
    ):
        sink.check()
    assert wrong.value.where["field"] == "credentials"
    assert "hunter2" not in f"{wrong.value!r}{wrong.value.__cause__}"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "bucket"),
        ({"bucket": "gs://b"}, "bucket"),
        ({"bucket": "b", "write_mode": "mirror"}, "write_mode"),
        ({"bucket": "b", "credentials": "key.json"}, "credentials"),
        ({"bucket": "b", "credentials": '{"type": "authorized_user"}'}, "credentials"),
        ({"bucket": "b", "credentials": "[]"}, "credentials"),
        ({"bucket": "b", "credentials": "env:KEY", "endpoint": "http://127.0.0.1:1"}, "endpoint"),
        ({"bucket": "b", "endpoint": "127.0.0.1:1"}, "endpoint"),
        ({"bucket": "b", "endpoint": "http://key@127.0.0.1:1"}, "endpoint"),
        ({"bucket": "b", "format": "json", "compression": "snappy"}, "compression"),
        ({"bucket": "b", "acces_key": "a"}, "acces_key"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field


def test_a_reference_stands_for_the_key_until_the_flow_runs() -> None:
    assert FACTORY.describe({"bucket": "b", "credentials": "file:/nowhere/key.json"})
    assert FACTORY.options_model.secret_fields == {"credentials"}
