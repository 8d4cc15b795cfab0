"""The command line's connection to a running wallaby."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from wallaby.client.channel import OPTIONS
from wallaby.client.sync import Client


@contextmanager
def connect(endpoint: str) -> Iterator[Client]:
    """A client of the API at ``endpoint`` (``host:port``). Nothing is sent before the first call."""
    with grpc.insecure_channel(endpoint, options=OPTIONS) as channel:
        yield Client(channel, endpoint)
