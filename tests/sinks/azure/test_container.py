"""What every object store does, and what is Azure's own."""

from __future__ import annotations

import base64
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from sinks.azure import FACTORY
from tests.emulators import AZURE_ACCOUNT, AZURE_KEY
from tests.sinks.lane import TestLane
from tests.sinks.object_store_contract import LANE, ORDERS, PREFIX, ObjectStoreContract, StoreCase, windows
from wallaby.errors import ConfigError, Transient
from wallaby.sink import Sink


class TestAzure(ObjectStoreContract):
    def in_parts(self, case: StoreCase, key: str) -> None:
        with case.storage() as storage:
            store: Any = storage._store
            blocks, _ = store._client.get_blob_client(f"{PREFIX}/{key}").get_block_list()
        assert len(blocks) == 3


def signed(case: StoreCase, letters: str) -> Sink:
    """The sink of somebody with a shared access signature in place of the key."""
    sas = generate_container_sas(
        AZURE_ACCOUNT,
        case.options["container"],
        account_key=AZURE_KEY,
        permission=ContainerSasPermissions.from_string(letters),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    # Empty text means: not given.
    return case.make(account_key="", sas_token=f"?{sas}")


def test_a_signature_is_enough_to_read_create_write_list_and_delete(case: StoreCase) -> None:
    [window] = windows()
    with closing(signed(case, "rcwdl")) as sink:
        assert sink.check((ORDERS,)) == []
        TestLane(sink, LANE).apply(window)
    assert case.rows() == 1


@pytest.mark.must_not_fail(24)
def test_a_container_that_may_only_be_read_is_a_passing_error(case: StoreCase) -> None:
    with closing(signed(case, "rl")) as sink:
        assert sink.check((ORDERS,)) == []
        with pytest.raises(Transient, match="refuses access") as refused:
            sink.recover(LANE, 1)
    assert "writing" in refused.value.advice
    assert "sig=" not in f"{refused.value!r}{sink!r}"


def test_a_container_that_may_not_be_listed_is_found(case: StoreCase) -> None:
    with closing(signed(case, "rcw")) as sink:
        assert [finding.message for finding in sink.check()] == ["the store refuses access"]


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("key", [base64.b64encode(b"hunter2" * 8).decode(), "hunter2"])
def test_a_wrong_key_is_found_and_not_shown(case: StoreCase, key: str) -> None:
    with closing(case.make(account_key=key)) as sink:
        [finding] = sink.check((ORDERS,))
        assert finding.message in ("the store refuses access", "there are no valid keys for the store")
        assert finding.advice
        assert key not in f"{finding}{sink!r}"


@pytest.fixture
def no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any; nobody outside is asked for one."""

    class Nobody:
        def __init__(self, *_: object, **__: object) -> None:
            """Takes what the real ones take."""

        def get_token(self, *_: object, **__: object) -> None:
            raise ClientAuthenticationError("tenant hunter2")

        get_token_info = get_token

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("sinks.azure.container.DefaultAzureCredential", Nobody)
    monkeypatch.setattr("sinks.azure.container.ClientSecretCredential", Nobody)
    monkeypatch.setattr("sinks.azure.container.ATTEMPTS", 1)


@pytest.mark.usefixtures("no_identity")
@pytest.mark.parametrize(
    "options", [{}, {"client_id": "c"}, {"client_id": "c", "client_secret": "s", "tenant_id": "t"}]
)
def test_an_identity_that_is_not_there_is_found(options: dict[str, str]) -> None:
    place = {"account": "shop", "container": "changes", "endpoint": "https://127.0.0.1:9"}
    with closing(FACTORY.create({**place, **options}, destination="copy")) as sink:
        [finding] = sink.check()
    assert finding.message == "there are no valid keys for the store"
    assert "hunter2" not in f"{finding}"


PLACE = {"account": "shop", "container": "changes"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"container": "changes"}, "account"),
        (PLACE | {"account": "Shop.blob"}, "account"),
        ({"account": "shop"}, "container"),
        (PLACE | {"container": "a/b"}, "container"),
        (PLACE | {"write_mode": "mirror"}, "write_mode"),
        (PLACE | {"account_key": "a", "sas_token": "b"}, "sas_token"),
        (PLACE | {"sas_token": "a", "client_id": "b", "client_secret": "c", "tenant_id": "d"}, "client_secret"),
        (PLACE | {"client_secret": "c", "client_id": "b"}, "tenant_id"),
        (PLACE | {"client_secret": "c", "tenant_id": "b"}, "client_id"),
        (PLACE | {"tenant_id": "b"}, "tenant_id"),
        (PLACE | {"account_key": "a", "client_id": "b"}, "client_id"),
        (PLACE | {"endpoint": "http://127.0.0.1"}, "endpoint"),
        (PLACE | {"endpoint": "ftp://127.0.0.1"}, "endpoint"),
        (PLACE | {"endpoint": "https://127.0.0.1/shop?sv=a&sig=hunter2", "sas_token": "a"}, "endpoint"),
        (PLACE | {"format": "json", "compression": "snappy"}, "compression"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field


def test_keys_are_secrets() -> None:
    assert FACTORY.options_model.secret_fields == {"account_key", "sas_token", "client_secret"}
