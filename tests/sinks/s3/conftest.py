"""A bucket per test on an S3 server of this process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.s3 import s3_server

KEYS = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1"}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server in this process, on loopback."""
    with s3_server() as address:
        yield address


@pytest.fixture
def client(s3_endpoint: str) -> Iterator[Any]:
    """A client that is not ours."""
    made = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
        region_name=KEYS["region"],
    )
    yield made
    made.close()


@pytest.fixture
def place(s3_endpoint: str, client: Any) -> dict[str, Any]:
    """Options of a new, empty bucket."""
    name = f"log-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return {"bucket": name, "prefix": "some/log", "endpoint": s3_endpoint, **KEYS}


def keys_of(client: Any, place: dict[str, Any]) -> set[str]:
    """Every key below the prefix, relative to it."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=place["bucket"], Prefix=place["prefix"])
    return {found["Key"].removeprefix("some/log/") for page in pages for found in page.get("Contents", ())}
