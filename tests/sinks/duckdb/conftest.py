"""A DuckDB file per test, and a lane that follows the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks.duckdb import FACTORY
from sinks.duckdb.sink import DuckDBSink
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "target.duckdb"


@pytest.fixture
def make_sink(path: Path) -> Iterator[Callable[..., DuckDBSink]]:
    """Sinks on the test's file with the given options; closed at the end."""
    made: list[DuckDBSink] = []

    def make(**options: Any) -> DuckDBSink:
        sink = FACTORY.create({"dsn": str(path), **options}, destination="copy")
        assert isinstance(sink, DuckDBSink)
        sink.open()
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()
