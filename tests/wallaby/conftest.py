"""Streams in a database of their own, for the tests of streams, their API and their commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wallaby.streams.shop import STREAM, Shop
from wallaby.testing.postgres import ScratchDatabase


@pytest.fixture
def shop(target_database: ScratchDatabase) -> Iterator[Shop]:
    shop = Shop(target_database)
    shop.make(STREAM)
    yield shop
    for streams in shop.made:
        streams.close()
