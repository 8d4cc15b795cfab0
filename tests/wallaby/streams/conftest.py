"""A consumer for every test."""

from __future__ import annotations

import pytest

from tests.wallaby.streams.shop import Shop
from wallaby.streams import Streams


@pytest.fixture
def streams(shop: Shop) -> Streams:
    return shop.streams()
