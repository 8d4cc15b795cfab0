"""An emulator of Google Cloud Storage, and a bucket per test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from sinks.gcs import FACTORY, bucket
from tests.emulators import gcs_emulator
from tests.sinks.object_store_contract import PREFIX, StoreCase


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    with gcs_emulator() as address:
        yield address


@pytest.fixture
def client(gcs_endpoint: str) -> Iterator[Any]:
    """A user's own client."""
    options = {"api_endpoint": gcs_endpoint}
    with closing(Client(project="shop", credentials=AnonymousCredentials(), client_options=options)) as made:
        made._bucket_metadata_cache = None
        yield made


@pytest.fixture
def case(client: Any, gcs_endpoint: str) -> StoreCase:
    """A new bucket."""
    made = client.create_bucket(f"log-{uuid.uuid4().hex}")
    return StoreCase(
        factory=FACTORY,
        module=bucket,
        options={"bucket": made.name, "prefix": PREFIX, "endpoint": gcs_endpoint},
        place="bucket",
        listed=lambda: {blob.name.removeprefix(f"{PREFIX}/") for blob in client.list_blobs(made)},
        put=lambda key, content: made.blob(key).upload_from_string(content),
    )
