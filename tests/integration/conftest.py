"""A world for every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.world import World
from wallaby.testing.postgres import ScratchDatabase


@pytest.fixture
def world(database: ScratchDatabase, postgres_major: int, tmp_path: Path) -> Iterator[World]:
    """Nothing at the source yet; a mirror and a log in memory as destinations."""
    made = World(database, postgres_major, tmp_path)
    yield made
    made.close()


@pytest.fixture
def real_world(
    database: ScratchDatabase, target_database: ScratchDatabase, postgres_major: int, tmp_path: Path
) -> Iterator[World]:
    """As ``world``, with every real destination beside those in memory."""
    destinations = ("mirror", "log", "postgres", "duckdb", "files", "delta")
    made = World(database, postgres_major, tmp_path, target_database.dsn, destinations=destinations)
    yield made
    made.close()
