"""A lake per test, in each kind of catalog, and readers that attach it as anybody else would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sinks.ducklake.config import CatalogKind, DuckLakeOptions, read_options
from sinks.ducklake.session import ENGINE, LakeSession
from sinks.ducklake.sink import DuckLakeSink
from tests.s3 import s3_server
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")


def lake_options(folder: Path, kind: CatalogKind, database: ScratchDatabase | None = None) -> dict[str, Any]:
    """Options of a lake in ``folder``; a PostgreSQL catalog is in ``database``."""
    match kind:
        case CatalogKind.DUCKDB:
            catalog = str(folder / "lake.ducklake")
        case CatalogKind.SQLITE:
            catalog = f"sqlite:{folder / 'lake.sqlite'}"
        case CatalogKind.POSTGRES:
            assert database is not None
            catalog = f"postgres:{database.dsn}"
    return {"catalog": catalog, "data_path": str(folder / "data")}


def shared_engine(options: DuckLakeOptions) -> str:
    """The engine all sessions of the test process on one catalog file share."""
    catalog = options.catalog_place
    return ENGINE if catalog.path is None else f"{ENGINE}{catalog.address.replace('/', '-')}"


def new_sink(options: dict[str, Any], *, destination: str = "copy") -> DuckLakeSink:
    """As the factory makes it, but for the shared engine."""
    read = read_options(options)
    return DuckLakeSink(read, destination=destination, engine=shared_engine(read))


@contextmanager
def reading(options: dict[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own to the lake, with the catalog in use."""
    read = read_options(options)
    session = LakeSession(read, engine=shared_engine(read))
    try:
        yield session.connect()
    finally:
        session.close()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return lake_options(tmp_path, CatalogKind.DUCKDB)


@pytest.fixture
def make_sink(options: dict[str, Any]) -> Iterator[Callable[..., DuckLakeSink]]:
    """Sinks on the test's lake with more options; closed at the end."""
    made: list[DuckLakeSink] = []

    def make(**more: Any) -> DuckLakeSink:
        sink = new_sink({**options, **more})
        sink.open()
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server in this process, on loopback."""
    with s3_server() as address:
        yield address
