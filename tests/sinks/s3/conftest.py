"""An S3 server in this process, and a bucket per test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sinks.s3 import FACTORY, bucket
from tests.s3 import KEYS, new_bucket, s3_client, s3_server
from tests.sinks.object_store_contract import PREFIX, StoreCase


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def client(s3_endpoint: str) -> Iterator[Any]:
    """A user's own client."""
    with s3_client(s3_endpoint) as made:
        yield made


@pytest.fixture
def case(client: Any, s3_endpoint: str) -> StoreCase:
    """A new bucket."""
    name = new_bucket(s3_endpoint)

    def keys() -> set[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
        return {entry["Key"].removeprefix(f"{PREFIX}/") for page in pages for entry in page.get("Contents", ())}

    return StoreCase(
        factory=FACTORY,
        module=bucket,
        options={"bucket": name, "prefix": PREFIX, "endpoint": s3_endpoint, "force_path_style": True, **KEYS},
        place="bucket",
        listed=keys,
        put=lambda key, content: client.put_object(Bucket=name, Key=key, Body=content),
    )
