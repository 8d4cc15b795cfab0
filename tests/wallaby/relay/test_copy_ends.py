"""How a copy begins, and what is left behind when it ends early."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from wallaby.clock import SystemClock
from wallaby.errors import Fenced
from wallaby.flow import FlowSpec
from wallaby.lane import Lane
from wallaby.lsn import START
from wallaby.postgres.slot import SourceIdentity, create_slot, drop_slot
from wallaby.relay.session import SessionConfig, SourceSession
from wallaby.schema import KnownNames, TableName
from wallaby.settings import Limits
from wallaby.snapshot.progress import TableCopy
from wallaby.startup import RememberedFacts, SnapshotState
from wallaby.testing.in_process import InProcessTransport
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId

LANE = LaneId("flow", "copy")
TIGHT = Limits(inflight_windows_max=1, held_windows_max=1, copy_chunk_bytes=64 << 10)
COPYING = RememberedFacts(position=START, lanes={}, snapshot=SnapshotState.COPYING)


@dataclass
class Notes:
    """A ledger that writes down its calls; ``is_fenced`` from the given call of ``begin_copy`` on."""

    lane: Lane
    fenced_from: int = 1_000
    calls: list[str] = field(default_factory=list)
    emptied: set[TableName] = field(default_factory=set)

    def begin_copy(self, identity: SourceIdentity, slot: str) -> None:
        self.calls.append("begin_copy")
        if self.calls.count("begin_copy") >= self.fenced_from:
            raise Fenced("epoch 1 is over")

    def plan_copy(self, tables: Sequence[TableCopy]) -> None:
        self.calls.append("plan_copy")

    def finish_copy(self, tables: Sequence[TableCopy]) -> None:
        self.calls.append("finish_copy")

    def remember_source(self, identity: SourceIdentity, slot: str) -> None:
        self.calls.append("remember_source")

    def remember_names(self, names: tuple[KnownNames, ...]) -> None:
        raise AssertionError("no destination hides anything")

    def require_resettable(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        self.lane.require_resettable(tables[LANE])

    def reset_lanes(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        self.emptied = set(tables[LANE])
        self.lane.reset(tables[LANE])


class Copying:
    """A session whose lane takes no window, so that the copy cannot end."""

    def __init__(self, database: ScratchDatabase, *, fenced_from: int = 1_000) -> None:
        database.execute(
            "CREATE TABLE IF NOT EXISTS t (id int8 PRIMARY KEY, note text)",
            "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) AS i ON CONFLICT DO NOTHING",
        )
        flow = FlowSpec.from_mapping(
            {
                "id": "flow",
                "source": {
                    "type": "postgres",
                    "options": {"dsn": database.dsn, "slot": database.name, "publication_tables": ["public.t"]},
                },
                "destinations": [{"name": "copy", "type": "blackhole"}],
            }
        )
        lane = Lane(MemorySink(MemoryDestination()), LANE, 1)
        lane.recover()
        self.transport = InProcessTransport({LANE: lane})
        self.transport.hold(LANE)
        self.ledger = Notes(lane, fenced_from)
        config = SessionConfig(
            flow=flow, epoch=1, remembered=COPYING, lanes={LANE: START}, commit_intervals_ms={LANE: 0}
        )
        self.session = SourceSession(
            config, transport=self.transport, ledger=self.ledger, clock=SystemClock(), limits=TIGHT
        )

    def stop_when_it_copies(self) -> None:
        while not self.transport.published:
            threading.Event().wait(0.005)  # nothing tells another thread: it is looked at again and again
        self.session.stop()


@pytest.mark.must_not_fail(21)
def test_a_copy_that_is_stopped_leaves_no_slot_to_hold_the_servers_wal(database: ScratchDatabase) -> None:
    copying = Copying(database)
    stopper = threading.Thread(target=copying.stop_when_it_copies, daemon=True)
    stopper.start()
    assert copying.session.run() == START
    stopper.join()
    assert database.slots() == []
    assert "finish_copy" not in copying.ledger.calls
    copying.transport.close()


@pytest.mark.must_not_fail(20)
def test_a_leftover_of_an_older_epoch_drops_no_slot(database: ScratchDatabase) -> None:
    copying = Copying(database, fenced_from=2)
    stopper = threading.Thread(target=copying.stop_when_it_copies, daemon=True)
    stopper.start()
    with pytest.raises(Fenced):
        copying.session.run()
    stopper.join()
    assert database.slots() == [database.name]
    drop_slot(database.dsn, database.name)
    copying.transport.close()


@pytest.mark.must_not_fail(20)
def test_a_fenced_session_does_not_replace_the_slot_of_its_successor(database: ScratchDatabase) -> None:
    copying = Copying(database, fenced_from=1)
    create_slot(database.dsn, database.name).close()
    with pytest.raises(Fenced):
        copying.session.run()
    assert database.slots() == [database.name]
    drop_slot(database.dsn, database.name)
    copying.transport.close()


@pytest.mark.must_not_fail(5, 19)
def test_a_table_published_while_the_slot_is_made_is_emptied_and_copied_too(database: ScratchDatabase) -> None:
    copying = Copying(database)
    database.execute(
        "CREATE TABLE late (id int8 PRIMARY KEY)",
        "CREATE TABLE other (id int8 PRIMARY KEY)",
        "CREATE PUBLICATION wallaby_flow FOR TABLE t WITH (publish_via_partition_root)",
    )
    # The slot cannot be made before this transaction ends.
    with database.connect() as blocker, database.connect() as changer:
        blocker.execute("BEGIN")
        blocker.execute("INSERT INTO other VALUES (1)")
        session = threading.Thread(target=copying.session.run, daemon=True)
        session.start()
        while not database.slots():
            threading.Event().wait(0.005)  # nothing tells another thread: it is looked at again and again
        changer.execute("ALTER PUBLICATION wallaby_flow ADD TABLE late")
        blocker.execute("COMMIT")
    copying.stop_when_it_copies()
    session.join(20)
    assert copying.ledger.calls.count("begin_copy") == 3, "two attempts, and the fence of the stop"
    assert copying.ledger.emptied == {TableName("public", "late"), TableName("public", "t")}
    copying.transport.close()
