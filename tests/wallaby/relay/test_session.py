"""A session that dies at any boundary of copy and stream, beside writers: the next ones end with equal content."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa
import pytest

from tests.wallaby.relay.world import Died
from wallaby.clock import SystemClock
from wallaby.content import canonical_hash
from wallaby.errors import BinaryUnsupported, CheckFailed, Fenced, Retry, StoreUnavailable, WallabyError
from wallaby.flow import FlowSpec
from wallaby.lane import Lane, LaneReport
from wallaby.lsn import START, Position
from wallaby.postgres.connect import connect
from wallaby.postgres.slot import SourceIdentity, drop_slot, terminate_holder
from wallaby.relay.session import SessionConfig, SourceSession
from wallaby.schema import KnownNames, TableName
from wallaby.settings import Limits
from wallaby.sink import WriteMode
from wallaby.snapshot.progress import CopyState, TableCopy
from wallaby.startup import RememberedFacts, SnapshotState
from wallaby.testing.in_process import InProcessTransport
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId, Window

_T = TypeVar("_T")
_LIMITS = Limits(copy_chunk_bytes=16 << 10, checkpoint_interval_ms=1, copy_note_interval_ms=0)
_EPOCHS_MAX = 200


class Killed(Died):
    """A death that nobody mistakes for a store that is away."""

    retry = Retry.NEVER


@dataclass
class Fate:
    """Counts every step that reaches something durable, writes to the source beside it, and dies at one of them."""

    dies_at: int
    is_after: bool
    beside: Callable[[], None]
    steps: int = 0

    def take(self, call: Callable[[], _T]) -> _T:
        self.steps += 1
        self.beside()
        if self.steps == self.dies_at and not self.is_after:
            raise Killed("died before the step")
        result = call()
        if self.steps == self.dies_at:
            raise Killed("died after the step")
        return result


class FatedLane(Lane):
    """Every call is a step."""

    fate: Fate

    def write(self, window: Window, *, commit: bool, committed_at_us: int = 0) -> LaneReport:
        return self.fate.take(
            lambda: super(FatedLane, self).write(window, commit=commit, committed_at_us=committed_at_us)
        )


@dataclass
class World:
    """What survives a death: two destinations and the control store. Also the session's ledger."""

    database: ScratchDatabase
    flow: FlowSpec
    mirror: MemoryDestination = field(default_factory=MemoryDestination)
    log: MemoryDestination = field(default_factory=MemoryDestination)
    facts: RememberedFacts = field(
        default_factory=lambda: RememberedFacts(position=START, lanes={}, snapshot=SnapshotState.NONE)
    )
    epoch: int = 0
    written: int = 0
    fate: Fate = field(init=False)
    lanes: dict[LaneId, FatedLane] = field(default_factory=dict)
    copies: dict[TableName, TableCopy] = field(default_factory=dict)
    notes: int = 0
    refuses: Callable[[int], WallabyError | None] | None = None
    """The store's error at the n-th note, if any."""

    def live(
        self,
        *,
        dies_at: int = 0,
        is_after: bool = False,
        is_busy: bool = True,
        as_text: bool = False,
        when_streaming: Callable[[], None] | None = None,
    ) -> None:
        """One epoch up to the position current at its start; raises what it died of.

        It has no end of its own when something shall happen once it streams.
        """
        self.epoch += 1
        self.fate = Fate(dies_at, is_after, self._write_beside if is_busy else lambda: None)
        session, transport = self._session(once=when_streaming is None, as_text=as_text)
        try:
            with ThreadPoolExecutor(1) as threads:
                running = threads.submit(session.run)
                if when_streaming is not None:
                    _await_streaming(session, running)
                    when_streaming()
                running.result(60)
        finally:
            session.stop()
            transport.close()

    @contextmanager
    def alive(self) -> Iterator[SourceSession]:
        """An epoch that streams until the block ends."""
        self.epoch += 1
        self.fate = Fate(0, is_after=False, beside=lambda: None)
        session, transport = self._session(once=False)
        raised: list[BaseException] = []

        def run() -> None:
            try:
                session.run()
            except BaseException as error:  # noqa: BLE001 - carried to the thread that joins
                raised.append(error)

        thread = threading.Thread(target=run, name=f"epoch {self.epoch}")
        thread.start()
        try:
            yield session
        finally:
            session.stop()
            thread.join(60)
            transport.close()
        assert not thread.is_alive(), "the session did not end"
        assert not raised, raised

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something the session does."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            threading.Event().wait(0.01)  # between two questions: another thread gives no sign

    def logged(self, table: str) -> list[dict[str, Any]]:
        """The append log's rows."""
        target = self.log.targets.get(TableName("public", table))
        return [] if target is None else target.rows.to_pylist()

    def _session(self, *, once: bool, as_text: bool = False) -> tuple[SourceSession, InProcessTransport]:
        sinks = {"mirror": MemorySink(self.mirror), "log": MemorySink(self.log, mode=WriteMode.APPEND)}
        self.lanes = {lane: FatedLane(sinks[lane.destination], lane, self.epoch) for lane in self.flow.lanes()}
        for lane in self.lanes.values():
            lane.fate = self.fate
        config = SessionConfig(
            flow=self.flow,
            epoch=self.epoch,
            remembered=self.facts,
            lanes={lane: consumer.recover() for lane, consumer in self.lanes.items()},
            commit_intervals_ms={},
            once=once,
            as_text=as_text,
        )
        transport = InProcessTransport(self.lanes, checkpoint=self._checkpoint, note=self.note_copy)
        session = SourceSession(config, transport=transport, ledger=self, clock=SystemClock(), limits=_LIMITS)
        return session, transport

    def _write_beside(self) -> None:
        self.written += 1
        self.database.execute(
            f"INSERT INTO a VALUES ({10_000 + self.written}, 'beside')",
            f"UPDATE a SET note = note || '.' WHERE id = {1 + self.written % 50}",
            f"DELETE FROM a WHERE id = {50 + self.written}",
        )

    def _checkpoint(self, after: Position, upto: Position, lanes: Mapping[str, Position]) -> None:
        def move() -> None:
            assert self.facts.position == after
            self.facts = replace(self.facts, position=upto, lanes=dict(lanes))

        self.fate.take(move)

    # -- the ledger ---------------------------------------------------------------------------------------------------

    def begin_copy(self, identity: SourceIdentity, slot: str) -> None:
        self.fate.take(lambda: self._begin_copy(identity))

    def _begin_copy(self, identity: SourceIdentity) -> None:
        self.facts = replace(self.facts, position=START, lanes={}, snapshot=SnapshotState.COPYING)
        self._remember(identity)

    def plan_copy(self, tables: Sequence[TableCopy]) -> None:
        def plan() -> None:
            self.copies = {item.table: item for item in tables}

        self.fate.take(plan)

    def note_copy(self, tables: Sequence[TableCopy]) -> None:
        """The control store's side of the copy's progress."""

        def note() -> None:
            self.notes += 1
            if self.refuses is not None and (error := self.refuses(self.notes)) is not None:
                raise error
            assert self.facts.snapshot is SnapshotState.COPYING
            self.copies |= {item.table: item for item in tables}

        self.fate.take(note)

    def finish_copy(self, tables: Sequence[TableCopy]) -> None:
        def finish() -> None:
            self.copies |= {item.table: item for item in tables}
            self.facts = replace(self.facts, snapshot=SnapshotState.DONE)

        self.fate.take(finish)

    def remember_source(self, identity: SourceIdentity, slot: str) -> None:
        self.fate.take(lambda: self._remember(identity))

    def _remember(self, identity: SourceIdentity) -> None:
        self.facts = replace(
            self.facts,
            system_identifier=str(identity.system_identifier),
            timeline=identity.timeline,
            timeline_begin=identity.timeline_begin,
            database=identity.database,
        )

    def remember_names(self, names: tuple[KnownNames, ...]) -> None:
        raise AssertionError("no destination hides anything")

    def require_resettable(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        for lane, names in tables.items():
            self.fate.take(lambda lane=lane, names=names: self.lanes[lane].require_resettable(names))  # type: ignore[misc]

    def reset_lanes(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        for lane, names in tables.items():
            self.fate.take(lambda lane=lane, names=names: self.lanes[lane].reset(names))  # type: ignore[misc]


def _await_streaming(session: SourceSession, running: Future[Position]) -> None:
    deadline = time.monotonic() + 60
    while session.status.phase != "streaming" and not running.done():
        assert time.monotonic() < deadline, session.status.phase
        threading.Event().wait(0.01)  # between two questions: another thread gives no sign


@pytest.fixture
def world(database: ScratchDatabase) -> Iterator[World]:
    """A table of some batches, one that stays empty, and a flow to two destinations in memory."""
    database.execute(
        "CREATE TABLE a (id int PRIMARY KEY, note text)",
        "CREATE TABLE empty (id int PRIMARY KEY)",
        "INSERT INTO a SELECT g, repeat('x', 20) FROM generate_series(1, 2000) AS g",
    )
    flow = FlowSpec.from_mapping(
        {
            "id": "fated",
            "source": {"type": "postgres", "options": {"dsn": database.dsn, "publication_schemas": ["public"]}},
            "destinations": [{"name": name, "type": "blackhole"} for name in ("mirror", "log")],
        }
    )
    yield World(database, flow)
    slot = flow.source_options().slot
    with connect(database.dsn, application_name="test") as connection:
        terminate_holder(connection, slot)
    drop_slot(database.dsn, slot)


@pytest.mark.must_not_fail(2, 5, 6, 20, 21)
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_copy_and_stream_are_exact_after_a_death_at_every_step(world: World, is_after: bool) -> None:
    """Epoch n dies at its step n, while the source is written to at every step; then one epoch lives."""
    for step in range(1, _EPOCHS_MAX):
        try:
            world.live(dies_at=step, is_after=is_after)
        except Died:
            assert len(world.database.slots()) <= 1
        else:
            break
    else:
        pytest.fail("no epoch ever lived")
    world.live(is_busy=False)
    assert world.facts.snapshot is SnapshotState.DONE
    assert len(world.database.slots()) == 1
    expected = dict(world.database.fetch("SELECT id, note FROM a"))
    mirror = world.mirror.targets[TableName("public", "a")].rows.to_pylist()
    assert {row["id"]: row["note"] for row in mirror} == expected
    assert len(mirror) == len(expected)
    log = world.log.targets[TableName("public", "a")].rows.to_pylist()
    assert _derived(log) == expected
    assert TableName("public", "empty") in world.mirror.targets
    assert {name.name: item.state for name, item in world.copies.items()} == {
        "a": CopyState.COPIED,
        "empty": CopyState.COPIED,
    }


def test_the_store_hears_of_a_copy_while_it_goes_on_and_at_its_end(world: World) -> None:
    seen: list[tuple[str, int]] = []

    def look(_: int) -> None:
        item = world.copies[TableName("public", "a")]
        seen.append((item.state, item.rows))

    world.database.execute("ANALYZE")
    world.refuses = look
    world.live(is_busy=False)
    rows = [rows for _, rows in seen]
    assert rows == sorted(rows)
    assert len(set(rows)) > 3
    states = [state for state, _ in seen]
    assert list(dict.fromkeys(states)) == ["pending", "copying", "copied"]
    whole, empty = (world.copies[TableName("public", name)] for name in ("a", "empty"))
    assert (whole.state, whole.rows, whole.estimated_rows) == (CopyState.COPIED, 2000, 2000)
    assert whole.estimated_bytes > 0
    assert whole.bytes > 0
    assert (empty.state, empty.rows) == (CopyState.COPIED, 0)
    assert {item.snapshot_lsn for item in (whole, empty)} == {
        row["__commit_lsn"] for row in world.log.targets[TableName("public", "a")].rows.to_pylist()
    }
    assert whole.started_at is not None
    assert whole.finished_at is not None
    assert whole.started_at <= whole.finished_at


def test_a_store_that_is_away_for_a_moment_does_not_end_a_copy(world: World) -> None:
    world.refuses = lambda number: None if number % 2 else StoreUnavailable("away")
    world.live(is_busy=False)
    assert world.notes > 2
    assert world.copies[TableName("public", "a")].rows == 2000
    assert world.epoch == 1


@pytest.mark.must_not_fail(20)
def test_a_copy_whose_note_is_fenced_ends(world: World) -> None:
    world.refuses = lambda number: Fenced("epoch 1 is over") if number == 2 else None
    with pytest.raises(Fenced):
        world.live(is_busy=False)
    assert world.facts.snapshot is SnapshotState.COPYING


def _derived(log: list[dict[str, Any]]) -> dict[int, str]:
    """The state a log describes; a change that is there twice is an AssertionError."""
    places = [(row["__commit_lsn"], row["__ordinal"], row["__op"]) for row in log]
    assert len(set(places)) == len(places), "a change was logged twice"
    assert [place[:2] for place in places] == sorted(place[:2] for place in places), "the log is out of order"
    state: dict[int, str] = {}
    for row in log:
        match row["__op"]:
            case "d":
                del state[row["id"]]
            case "u":
                assert row["id"] in state
                state[row["id"]] = row["note"]
            case _:
                assert row["id"] not in state
                state[row["id"]] = row["note"]
    return state


WITHOUT_BINARY = ["point", "point[]", "place", "place[]", "aclitem[]", "pair", "int2vector"]


def _add_a_column(world: World, word: str) -> None:
    world.database.execute(
        f"ALTER TABLE a ADD odd {word}",
        f"INSERT INTO a SELECT g, 'odd', (NULL::{word}) FROM generate_series(5001, 5003) AS g",
        f"INSERT INTO a VALUES (5004, 'odd', '{_SAMPLES[word]}')",
        "UPDATE a SET note = note || '!' WHERE id < 10",
        "DELETE FROM a WHERE id = 20",
    )


_SAMPLES = {
    "point": "(1,2.5)",
    "point[]": '{"(1,2.5)",NULL}',
    "place": "(3,4)",
    "place[]": '{"(3,4)"}',
    "aclitem[]": "{postgres=r/postgres}",
    "pair": '(1,"a b")',
    "int2vector": "1 2 3",
}


def _assert_equal(world: World) -> None:
    """The mirror's content is the source's, by hash; the log holds each change once and adds up to it."""
    [names] = world.database.fetch(
        "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = 'a'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    printed = ", ".join(f"CASE WHEN num_nulls({name}) = 0 THEN format('%s', {name}) END" for name in names[0])
    rows = world.database.fetch(f"SELECT {printed} FROM a")
    expected = pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names[0])})
    mirror = world.mirror.targets[TableName("public", "a")].rows
    assert canonical_hash(mirror.select([*names[0], "__outliers"])) == canonical_hash(expected)
    log = world.log.targets[TableName("public", "a")].rows.to_pylist()
    assert _derived(log) == dict(world.database.fetch("SELECT id, note FROM a"))


@pytest.fixture
def typed_world(world: World) -> World:
    world.database.execute("CREATE DOMAIN place AS point", "CREATE TYPE pair AS (a int4, b text)")
    world.live(is_busy=False)
    return world


@pytest.mark.must_not_fail(2, 11, 25)
@pytest.mark.parametrize("word", WITHOUT_BINARY)
def test_a_column_without_a_binary_form_makes_the_stream_text(typed_world: World, word: str) -> None:
    """It is added while the stream runs in binary: that epoch ends, and the next one loses and doubles nothing."""
    world = typed_world
    with pytest.raises(BinaryUnsupported) as caught:
        world.live(is_busy=False, when_streaming=lambda: _add_a_column(world, word))
    assert caught.value.retry is Retry.NOW
    world.live(is_busy=False)
    _assert_equal(world)


@pytest.mark.must_not_fail(2, 11, 25)
@pytest.mark.parametrize("word", ["point", "place[]", "aclitem[]"])
def test_a_column_that_came_and_went_is_read_as_text_though_nobody_has_it_now(typed_world: World, word: str) -> None:
    """The catalog shows the present, the slot sends the past: only the error tells that the past needs text."""
    world = typed_world
    _add_a_column(world, word)
    world.database.execute("ALTER TABLE a DROP odd", "INSERT INTO a VALUES (5005, 'after')")
    for _ in range(2):
        with pytest.raises(BinaryUnsupported):
            world.live(is_busy=False)
    world.live(is_busy=False, as_text=True)
    _assert_equal(world)
    world.database.execute("INSERT INTO a VALUES (5006, 'binary again')")
    world.live(is_busy=False)
    _assert_equal(world)


def test_a_flow_that_insists_on_binary_is_told_what_stands_in_its_way(typed_world: World) -> None:
    world = typed_world
    world.flow = FlowSpec.from_mapping(
        {
            "id": "fated",
            "source": {
                "type": "postgres",
                "options": {"dsn": world.database.dsn, "publication_schemas": ["public"], "binary": True},
            },
            "destinations": [{"name": name, "type": "blackhole"} for name in ("mirror", "log")],
        }
    )
    with pytest.raises(CheckFailed, match="binary") as caught:
        world.live(is_busy=False, as_text=True)
    assert "auto" in caught.value.advice


@pytest.mark.must_not_fail(7)
@pytest.mark.parametrize("mode", ["cache", "source", "full"])
def test_values_not_sent_are_filled_for_rows_that_only_the_copy_saw(world: World, mode: str) -> None:
    world.database.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, n int, body text)",
        "ALTER TABLE docs SET (toast_tuple_target = 128)",
        "ALTER TABLE docs ALTER COLUMN body SET STORAGE EXTERNAL",
        "INSERT INTO docs SELECT g, 0, repeat('long ' || g, 1000) FROM generate_series(1, 10) AS g",
    )
    source = world.flow.source.model_copy(update={"options": {**world.flow.source.options, "toast_fetch": mode}})
    world.flow = world.flow.model_copy(update={"source": source})
    with world.alive() as session:
        world.until(lambda: session.status.phase == "streaming")
        world.database.execute("UPDATE docs SET n = 1 WHERE id <= 5", "UPDATE docs SET id = 20 WHERE id = 1")
        world.until(lambda: len(world.logged("docs")) == 10 + 5 + 2)
    counted = {table.table: (table.filled, table.unfilled) for table in session.status.tables}["public.docs"]
    updates = [row for row in world.logged("docs") if row["__op"] == "u"]
    whole = [row for row in updates if row["__unchanged"] is None]
    assert all(row["body"] == f"long {1 if row['id'] == 20 else row['id']}" * 1000 for row in whole)
    assert counted == (len(whole), 6 - len(whole))
    if mode == "cache":
        assert len(whole) == 6
    [mirrored] = [table.rows.to_pylist() for name, table in world.mirror.targets.items() if name.name == "docs"]
    assert {row["id"]: row["body"] for row in mirrored} == dict(world.database.fetch("SELECT id, body FROM docs"))


@pytest.mark.must_not_fail(4)
def test_a_new_flow_on_a_slot_that_exists_begins_at_the_position_it_is_told(world: World) -> None:
    """What was committed before it is left out, what comes after is carried; the position is the operator's word."""
    options = world.flow.source_options()
    world.database.execute(
        f"CREATE PUBLICATION {options.publication} FOR TABLE a",
        f"SELECT pg_create_logical_replication_slot('{options.slot}', 'pgoutput')",
        "INSERT INTO a VALUES (5001, 'before')",
    )
    [(told,)] = world.database.fetch("SELECT pg_current_wal_lsn()::text")
    world.database.execute("INSERT INTO a VALUES (5002, 'after')")
    source = dict(world.flow.source.options) | {"snapshot": "never", "start_lsn": told}
    endpoint = world.flow.source.model_copy(update={"options": source})
    world.flow = world.flow.model_copy(update={"source": endpoint})
    world.live(is_busy=False)
    assert [row["id"] for row in world.logged("a")] == [5002]
