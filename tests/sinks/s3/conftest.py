"""An S3 server in this process, and a bucket per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from sinks.files.reader import Place
from sinks.s3.bucket import Bucket
from sinks.s3.config import read_options
from tests.s3 import KEYS, new_bucket, s3_client, s3_server


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
def place(s3_endpoint: str) -> dict[str, Any]:
    """The options that name a new bucket."""
    return {
        "bucket": new_bucket(s3_endpoint),
        "prefix": "some/logs",
        "endpoint": s3_endpoint,
        "force_path_style": True,
        **KEYS,
    }


@pytest.fixture
def reading(place: dict[str, Any]) -> Iterator[Callable[[], Place]]:
    """Makes the storage readers read from."""
    with closing(Bucket(read_options(place))) as bucket:
        yield lambda: bucket


@pytest.fixture
def keys(client: Any, place: dict[str, Any]) -> Callable[[], set[str]]:
    """What is in the bucket, by keys without the prefix."""

    def listed() -> set[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=place["bucket"])
        return {entry["Key"].removeprefix("some/logs/") for page in pages for entry in page.get("Contents", ())}

    return listed
