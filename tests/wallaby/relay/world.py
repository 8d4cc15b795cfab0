"""A relay on a real slot, with lanes in memory that may be held, or die before or after any call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from wallaby.clock import SystemClock
from wallaby.errors import Transient
from wallaby.lane import Lane, LaneReport
from wallaby.lsn import START, Lsn, Position
from wallaby.pgoutput.decoder import Decoder
from wallaby.pgoutput.spool import Spool, SpoolLimits
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.connect import connect
from wallaby.postgres.replication import ReplicationStream, StreamOptions
from wallaby.postgres.slot import current_wal_lsn, drop_slot, read_slot, terminate_holder
from wallaby.relay.ports import Filler
from wallaby.relay.relay import Relay, RelayConfig
from wallaby.schema import TableName
from wallaby.settings import Limits
from wallaby.sink import WriteMode
from wallaby.testing.in_process import InProcessTransport
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId, Window

MIRROR = LaneId("flow", "mirror")
LOG = LaneId("flow", "log")
QUICK = Limits(checkpoint_interval_ms=1, idle_checkpoint_interval_ms=20, status_interval_ms=200)


class Died(Transient):
    """The lane's process died; whether the call happened is not known to the caller."""


class MortalLane(Lane):
    """Dies around one of its calls: before it happened, or after it happened and before it was told."""

    calls = 0
    dies_before: int | None = None
    dies_after: int | None = None

    def write(self, window: Window, *, commit: bool, committed_at_us: int = 0) -> LaneReport:
        self.calls += 1
        if self.calls == self.dies_before:
            raise Died("died before the call")
        report = super().write(window, commit=commit, committed_at_us=committed_at_us)
        if self.calls == self.dies_after:
            raise Died("died after the call")
        return report


@dataclass
class World:
    """What outlives an epoch: the slot, the destinations and the control store's one number."""

    database: ScratchDatabase
    slot: str
    mirror: MemoryDestination = field(default_factory=MemoryDestination)
    log: MemoryDestination = field(default_factory=MemoryDestination)
    checkpoint: Position = START
    checkpoints: list[tuple[Position, dict[str, Position]]] = field(default_factory=list)
    epoch: int = 0

    @property
    def confirmed(self) -> Lsn:
        """What the slot may forget."""
        with self.database.connect() as connection:
            slot = read_slot(connection, self.slot)
        assert slot is not None
        assert slot.confirmed_flush is not None
        return slot.confirmed_flush

    @property
    def wal(self) -> Lsn:
        with self.database.connect() as connection:
            return current_wal_lsn(connection)

    def store(self, after: Position, upto: Position, lanes: Any) -> None:
        """The control store's compare-and-set."""
        assert self.checkpoint == after, "the checkpoint chains"
        assert upto > after
        assert upto.is_whole
        self.checkpoint = upto
        self.checkpoints.append((upto, dict(lanes)))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """The mirror's rows, sorted."""
        target = self.mirror.targets.get(TableName("public", table))
        return [] if target is None else _sorted(target.rows.drop_columns(["__outliers"]))

    def source_rows(self, table: str) -> list[tuple[Any, ...]]:
        """The source's rows, sorted."""
        return sorted(self.database.fetch(f"SELECT * FROM {table}"), key=repr)

    def logged(self, table: str) -> list[tuple[str, Any]]:
        """(operation, id) of the append log, in stream order; a position that repeats is an AssertionError."""
        target = self.log.targets.get(TableName("public", table))
        if target is None:
            return []
        rows = target.rows.to_pylist()
        places = [(row["__commit_lsn"], row["__ordinal"], row["__op"]) for row in rows]
        assert len(set(places)) == len(places), "a change was logged twice"
        assert [place[:2] for place in places] == sorted(place[:2] for place in places), "the log is out of order"
        return [(row["__op"], row["id"]) for row in rows]

    def run(self, **words: Any) -> Run:
        """A new epoch."""
        self.epoch += 1
        return Run(self, **words)

    def survive_every_call(self, end: str, **words: Any) -> set[int]:
        """Epochs whose mirror dies (``end``: ``dies_before`` or ``dies_after``) at call 1, 2, …, from the beginning of
        whatever is left, until one lives; returns the sizes of the mirror of ``a`` seen at the deaths."""
        target, seen = self.wal, set[int]()
        for call in range(1, 100):
            run = self.run(stop_at=target, **{end: call}, **words)
            try:
                run.end()
            except Died:
                seen.add(len(self.rows("a")))
            else:
                return seen
        raise AssertionError("the history never ends")


class Run:
    """One epoch, in a thread of its own; a context manager that stops it. ``end`` raises what the relay raised."""

    def __init__(
        self,
        world: World,
        *,
        limits: Limits = QUICK,
        dsn: str = "",
        held: Iterable[LaneId] = (),
        stop_at: Lsn | None = None,
        dies_before: int | None = None,
        dies_after: int | None = None,
        options: StreamOptions | None = None,
        spool: SpoolLimits | None = None,
        filler: Filler | None = None,
    ) -> None:
        self.world = world
        self._filler = filler
        dsn = dsn or world.database.dsn
        with connect(world.database.dsn, application_name="test") as connection:
            assert terminate_holder(connection, world.slot)
        self.lanes = {
            MIRROR: MortalLane(MemorySink(world.mirror), MIRROR, world.epoch),
            LOG: MortalLane(MemorySink(world.log, mode=WriteMode.APPEND), LOG, world.epoch),
        }
        self.lanes[MIRROR].dies_before, self.lanes[MIRROR].dies_after = dies_before, dies_after
        positions = {lane: consumer.recover() for lane, consumer in self.lanes.items()}
        self.transport = InProcessTransport(self.lanes, checkpoint=world.store)
        for lane in held:
            self.transport.hold(lane)
        self.relay = Relay(
            RelayConfig(
                flow="flow",
                epoch=world.epoch,
                commit_intervals_ms={},
                required=frozenset({"mirror", "log"}),
                stop_at=stop_at,
            ),
            lanes=positions,
            checkpoint=world.checkpoint,
            transport=self.transport,
            clock=SystemClock(),
            limits=limits,
            filler=filler,
        )
        self._catalog = Catalog(dsn, application_name="test")
        start = world.confirmed
        if world.checkpoint == START:
            self.relay.begin_at(Position(start))
        self.stream = ReplicationStream.open(
            dsn,
            slot=world.slot,
            publications=["p"],
            start=start,
            options=options,
            limits=limits,
            application_name="test",
        )
        self.decoder = Decoder(self._catalog.resolve, spool=Spool(spool))
        self.error: BaseException | None = None
        self._is_ended = False
        self._thread = threading.Thread(target=self._main, args=(start,), name=f"epoch {world.epoch}")
        self._thread.start()

    def _main(self, start: Lsn) -> None:
        try:
            self.relay.run(self.stream, self.decoder, start)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that joins
            self.error = error
        finally:
            self.decoder.close()
            self.stream.close()
            self._catalog.close()
            if self._filler is not None:
                self._filler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ended:
            return
        self.relay.request_stop()
        if error is None:
            self.end()
        else:
            self.transport.release_all()
            self._thread.join(30)

    def end(self, seconds: float = 60.0) -> None:
        """Wait until the relay returned."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the relay did not end"
        self.transport.close()
        self._is_ended = True
        if self.error is not None:
            raise self.error

    def has_rows(self, lane: LaneId, rows: int) -> bool:
        """So many rows reached the lane in this epoch."""
        self.require_alive()
        return sum(status.rows for status in self.relay.status.lanes if status.destination == lane.destination) >= rows

    def caught_up(self) -> None:
        """Wait until everything the source has written now is confirmed to the slot."""
        target = self.world.wal
        self.until(lambda: self.world.confirmed >= target, "everything is confirmed")

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait for something the relay or the server does."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.require_alive()
            assert time.monotonic() < deadline, f"it never happened: {what}"
            threading.Event().wait(0.01)  # between two questions: neither thread nor server gives a sign

    def require_alive(self) -> None:
        """Fail with the relay's error when it ended."""
        assert self._thread.is_alive(), f"the relay ended: {self.error!r}"


def make_world(database: ScratchDatabase, *statements: str) -> World:
    """Tables, publication ``p`` and a slot named like the database."""
    database.execute(*statements, f"SELECT pg_create_logical_replication_slot('{database.name}', 'pgoutput')")
    return World(database, database.name)


def dismantle(world: World) -> None:
    """Free and drop the slot."""
    with connect(world.database.dsn, application_name="test") as connection:
        terminate_holder(connection, world.slot)
    drop_slot(world.database.dsn, world.slot)


def _sorted(table: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)
