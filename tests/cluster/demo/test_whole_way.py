"""The whole way without Ray: the shop under load, copy, stream, restart, three destinations, proven equal.

The relay runs in a thread of this process; its lanes are called directly. The same flow in Ray's actors is the demo.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from wallaby.clock import SystemClock
from wallaby.endpoints import sink_factory
from wallaby.flow import FlowSpec
from wallaby.lane import Lane
from wallaby.lsn import START, Position
from wallaby.postgres.slot import SourceIdentity, drop_slot
from wallaby.relay.session import SessionConfig, SourceSession
from wallaby.schema import TableName
from wallaby.settings import Limits
from wallaby.sink import Sink
from wallaby.snapshot.progress import TableCopy
from wallaby.startup import RememberedFacts, SnapshotState
from wallaby.testing.in_process import InProcessTransport
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId


@dataclass
class Stores:
    """What outlives an epoch: the control store, here in memory. Also the session's ledger."""

    facts: RememberedFacts = field(
        default_factory=lambda: RememberedFacts(position=START, lanes={}, snapshot=SnapshotState.NONE)
    )
    lanes: dict[LaneId, Lane] = field(default_factory=dict)

    def begin_copy(self, identity: SourceIdentity, slot: str) -> None:
        self.facts = replace(self.facts, position=START, snapshot=SnapshotState.COPYING)
        self.remember_source(identity, slot)

    def plan_copy(self, tables: Sequence[TableCopy]) -> None:
        del tables

    def finish_copy(self, tables: Sequence[TableCopy]) -> None:
        del tables
        self.facts = replace(self.facts, snapshot=SnapshotState.DONE)

    def remember_source(self, identity: SourceIdentity, slot: str) -> None:
        del slot
        self.facts = replace(
            self.facts,
            system_identifier=str(identity.system_identifier),
            timeline=identity.timeline,
            database=identity.database,
        )

    def reset_lanes(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        for lane, names in tables.items():
            self.lanes[lane].reset(names)

    def checkpoint(self, after: Position, upto: Position, lanes: Mapping[str, Position]) -> None:
        assert self.facts.position == after
        self.facts = replace(self.facts, position=upto, lanes=dict(lanes))


class Epoch:
    """One life of the flow's source and sinks."""

    def __init__(self, flow: FlowSpec, stores: Stores, epoch: int, *, once: bool = False) -> None:
        self._stores = stores
        stores.lanes = {lane: Lane(_sink(flow, lane.destination), lane, epoch) for lane in flow.lanes()}
        positions = {lane: consumer.recover() for lane, consumer in stores.lanes.items()}
        self._transport = InProcessTransport(stores.lanes, checkpoint=stores.checkpoint)
        config = SessionConfig(
            flow=flow,
            epoch=epoch,
            remembered=stores.facts,
            lanes=positions,
            commit_intervals_ms={lane: consumer.commit_interval_ms for lane, consumer in stores.lanes.items()},
            once=once,
        )
        self._session = SourceSession(
            config, transport=self._transport, ledger=stores, clock=SystemClock(), limits=Limits()
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=f"epoch {epoch}")
        self._thread.start()

    def _main(self) -> None:
        try:
            self._session.run()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that joins
            self._error = error

    @property
    def is_streaming(self) -> bool:
        assert self._thread.is_alive(), self._error
        return self._session.status.phase == "streaming"

    def stop(self) -> None:
        """Drain, then join."""
        self._session.stop()
        self.join()

    def join(self) -> None:
        self._thread.join(timeout=90)
        assert not self._thread.is_alive(), "the session did not end"
        for lane in self._stores.lanes.values():
            lane.close()
        self._transport.close()
        if self._error is not None:
            raise self._error


def _sink(flow: FlowSpec, name: str) -> Sink:
    [endpoint] = [destination for destination in flow.destinations if destination.name == name]
    return sink_factory(endpoint.type).create(endpoint.options, destination=name)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.005)


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
    stores = Stores()
    with Workload(database.dsn, size=size, seed=seed, rows_per_s=6_000, writers=2, batch_max=40) as workload:
        first = Epoch(flow, stores, epoch=1)
        until(lambda: first.is_streaming)
        copied_at = workload.progress.transactions
        until(lambda: workload.progress.transactions > copied_at + 200)
        first.stop()
        stopped_at = workload.progress.transactions
        until(lambda: workload.progress.transactions > stopped_at + 100)
    Epoch(flow, stores, epoch=2, once=True).join()
    verdicts = proven(database, target_database, tmp_path)
    assert [
        (str(verdict.table), verdict.destination, verdict.detail) for verdict in verdicts if not verdict.equal
    ] == []
    assert len(verdicts) == 3 * len(TABLES)
    assert sum(verdict.source_rows for verdict in verdicts) > 3 * 3_000
