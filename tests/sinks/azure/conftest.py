"""An emulator of Azure Blob Storage, and a container per test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob import BlobServiceClient

from sinks.azure import FACTORY, container
from tests.emulators import AZURE_ACCOUNT, AZURE_KEY, azure_emulator
from tests.sinks.object_store_contract import PREFIX, StoreCase


@pytest.fixture(scope="session")
def azure_endpoint() -> Iterator[str]:
    with azure_emulator() as address:
        yield address


@pytest.fixture
def client(azure_endpoint: str) -> Iterator[Any]:
    """A user's own client."""
    with BlobServiceClient(azure_endpoint, credential=AzureNamedKeyCredential(AZURE_ACCOUNT, AZURE_KEY)) as made:
        yield made


@pytest.fixture
def case(client: Any, azure_endpoint: str) -> StoreCase:
    """A new container."""
    made = client.create_container(f"log-{uuid.uuid4().hex}")
    place = {"account": AZURE_ACCOUNT, "account_key": AZURE_KEY, "endpoint": azure_endpoint}
    return StoreCase(
        factory=FACTORY,
        module=container,
        options={**place, "container": made.container_name, "prefix": PREFIX},
        place="container",
        listed=lambda: {blob.name.removeprefix(f"{PREFIX}/") for blob in made.list_blobs()},
        put=lambda key, content: made.upload_blob(key, content),
    )
