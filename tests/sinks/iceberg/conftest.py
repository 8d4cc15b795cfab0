"""A lake per test, and sinks on it that are closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks.iceberg import FACTORY
from sinks.iceberg.sink import IcebergSink
from tests.sinks.iceberg.lake import Lake
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    lake = Lake(tmp_path)
    yield lake
    lake.close()


@pytest.fixture
def make_sink(lake: Lake) -> Iterator[Callable[..., IcebergSink]]:
    """Sinks on the test's lake with the given options."""
    made: list[IcebergSink] = []

    def make(**options: Any) -> IcebergSink:
        sink = FACTORY.create(lake.options(**options), destination="copy")
        assert isinstance(sink, IcebergSink)
        sink.open()
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()
