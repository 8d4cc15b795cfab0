"""An S3 server in this process, on loopback."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

KEYS = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1"}
"""Options by which a destination gets in."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address. Empty at first, and it takes any credentials unless it is told not to."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def s3_client(endpoint: str) -> Iterator[Any]:
    """A user's own client of the server at ``endpoint``."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
        region_name=KEYS["region"],
    )
    with closing(client):
        yield client


def new_bucket(endpoint: str, name: str = "") -> str:
    """The name of an empty bucket, made here; one nobody has unless ``name`` is given."""
    name = name or f"lake-{uuid.uuid4().hex}"
    with s3_client(endpoint) as client:
        client.create_bucket(Bucket=name)
    return name
