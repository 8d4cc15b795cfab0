"""The whole way without Ray: the shop under load, copy, stream, restart, three destinations, proven equal.

The relay runs in a thread of this process; its lanes are called directly. The same flow in Ray's actors is the demo.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.demo import shop
from cluster.demo.proof import (
    DuckDBContents,
    LogContents,
    PostgresContents,
    Verdict,
    compare,
    published_schemas,
    read_source,
)
from cluster.demo.shop import TABLES, ShopSize
from cluster.demo.workload import Workload
from tests.integration.epoch import Epoch, Ledger, real_sink
from wallaby.flow import FlowSpec
from wallaby.postgres.slot import drop_slot
from wallaby.settings import Limits
from wallaby.testing.postgres import ScratchDatabase


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.005)  # between two questions: another thread gives no sign


@pytest.fixture
def size(database: ScratchDatabase) -> ShopSize:
    with database.connect() as connection:
        shop.create(connection)
        return shop.seed(connection, 3_000, seed=7)


@pytest.fixture
def flow(database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path) -> Iterator[FlowSpec]:
    (tmp_path / "parquet").mkdir()
    flow = FlowSpec.from_mapping(
        {
            "id": "whole_way",
            "source": {"type": "postgres", "options": {"dsn": database.dsn, "publication_schemas": ["shop"]}},
            "destinations": [
                {"type": "postgres", "options": {"dsn": target_database.dsn}},
                {"type": "duckdb", "options": {"dsn": str(tmp_path / "lake.duckdb")}},
                {"type": "files", "options": {"path": str(tmp_path / "parquet"), "fsync": False}},
            ],
        }
    )
    yield flow
    if database.slots():
        drop_slot(database.dsn, flow.source_options().slot)


def proven(database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path) -> list[Verdict]:
    source = read_source(database.dsn, TABLES)
    return compare(
        source,
        [
            PostgresContents("postgres", target_database.dsn),
            DuckDBContents("duckdb", tmp_path / "lake.duckdb"),
            LogContents("files", tmp_path / "parquet", published_schemas(database.dsn)),
        ],
    )


@pytest.mark.must_not_fail(5, 7, 8, 9, 25)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_shop_under_load_is_equal_in_three_destinations_after_a_restart(
    database: ScratchDatabase,
    target_database: ScratchDatabase,
    size: ShopSize,
    flow: FlowSpec,
    tmp_path: Path,
    seed: int,
) -> None:
    """Writers run during the copy, the stream, and while nothing reads; then the flow catches up and is compared."""
    ledger = Ledger()
    with Workload(database.dsn, size=size, seed=seed, rows_per_s=6_000, writers=2, batch_max=40) as workload:
        first = Epoch(flow, ledger, 1, sink=real_sink, limits=Limits())
        first.until_streaming()
        copied_at = workload.progress.transactions
        until(lambda: workload.progress.transactions > copied_at + 200)
        first.stop()
        stopped_at = workload.progress.transactions
        until(lambda: workload.progress.transactions > stopped_at + 100)
    Epoch(flow, ledger, 2, sink=real_sink, limits=Limits(), once=True).join()
    verdicts = proven(database, target_database, tmp_path)
    assert [
        (str(verdict.table), verdict.destination, verdict.detail) for verdict in verdicts if not verdict.equal
    ] == []
    assert len(verdicts) == 3 * len(TABLES)
    assert sum(verdict.source_rows for verdict in verdicts) > 3 * 3_000
