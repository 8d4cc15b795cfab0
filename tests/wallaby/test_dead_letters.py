"""Dead letters from lane to replay, over the sink in memory and the embedded store, with crashes at every boundary."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wallaby.content import canonical_hash
from wallaby.errors import Refused, RowRefused, Superseded
from wallaby.flow import DeadLetterPayload, DeadLetterPolicy, DeadLetters
from wallaby.lane import Lane
from wallaby.letter import Letter, pack_part
from wallaby.letter_box import LetterBox
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import TableName, TableSchema
from wallaby.set_aside import SetAside
from wallaby.settings import Limits
from wallaby.store import LetterDecision, LetterFilter, LetterRecord, LetterState, Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.changes import NewShape, Stream, Truncate, delete, insert, table, update
from wallaby.testing.history import RandomHistory, multiset, row_table, shop_tables
from wallaby.testing.memory_sink import MemoryDestination, MemorySink, MemoryWriter
from wallaby.vault import Vault
from wallaby.window import CommitToken, LaneId, Window

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
ITEMS = table("public.items", {"id": "int8"}, key=["id"])
WIDER = table("public.orders", {"id": "int8", "note": "text", "total": "int8"}, key=["id"], version=2)
SKIP = DeadLetters(policy=DeadLetterPolicy.SKIP)
PARK = DeadLetters(policy=DeadLetterPolicy.PARK)


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Fuse:
    """Ends the process at its ``at``-th boundary."""

    at: int = -1
    passed: int = 0

    def pass_by(self) -> None:
        if self.passed == self.at:
            self.passed += 1
            raise Killed
        self.passed += 1


class Guarded:
    """An object whose calls of ``names`` have a boundary before and after."""

    def __init__(self, inner: Any, fuse: Fuse, *names: str) -> None:
        self._inner = inner
        for name in names:
            setattr(self, name, _bounded(getattr(inner, name), fuse))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _bounded(call: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    def bounded(*args: Any, **kwargs: Any) -> Any:
        fuse.pass_by()
        answer = call(*args, **kwargs)
        fuse.pass_by()
        return answer

    return bounded


class FragileSink(MemorySink):
    fuse: Fuse

    def writer(self, lane: LaneId, epoch: int) -> MemoryWriter:
        writer: Any = Guarded(self.unguarded(lane, epoch), self.fuse, "commit", "apply_barrier")
        writer.rehearse = writer._inner.rehearse  # found by `isinstance` of a protocol
        return writer  # type: ignore[no-any-return]  # it answers to the same calls

    def unguarded(self, lane: LaneId, epoch: int) -> MemoryWriter:
        return super().writer(lane, epoch)


class RelentingSink(FragileSink):
    """Takes everything once it was asked to forget something."""

    def unguarded(self, lane: LaneId, epoch: int) -> MemoryWriter:
        return RelentingWriter(self, lane, epoch)


class RelentingWriter(MemoryWriter):
    def abort(self) -> None:
        self._sink.destination.not_null = {}
        super().abort()


@dataclass
class World:
    """A destination, a control store, and a lane that may be killed and started again."""

    store: Store
    rules: DeadLetters = SKIP
    limits: Limits = field(default_factory=Limits)
    vault: Vault = field(default_factory=lambda: Vault([bytes(32)]))
    destination: MemoryDestination = field(default_factory=MemoryDestination)
    fuse: Fuse = field(default_factory=Fuse)
    lane: Lane | None = None
    sink: type[FragileSink] = FragileSink

    def start(self) -> Lane:
        epoch = self.store.begin_epoch(LANE.flow).epoch
        sink = self.sink(self.destination)
        sink.fuse = self.fuse
        letters: Any = Guarded(LetterBox(self.store, self.vault, self.limits), self.fuse, "put", "settle", "begin")
        aside = SetAside(letters, LANE, epoch, rules=self.rules, limits=self.limits)
        self.lane = Lane(sink, LANE, epoch, set_aside=aside)
        self.lane.recover()
        return self.lane

    def feed(self, windows: list[Window], *, every: int = 1) -> None:
        """Everything the lane lacks, committing every so many windows; after a kill with a new process."""
        self._until_done(lambda lane: self._feed(lane, windows, every))

    def replay(self) -> None:
        self._until_done(Lane.replay)

    def letters(self, state: LetterState | None = None) -> tuple[LetterRecord, ...]:
        return self.store.list_letters(LetterFilter(state=state), page_size=1000).letters

    def ask(self, decision: LetterDecision, *ids: int) -> None:
        chosen = None if ids else LetterFilter(flow_id=LANE.flow)
        self.store.decide_letters(decision, ids=ids, chosen=chosen)

    def content(self, schema: TableSchema) -> list[tuple[Any, ...]]:
        rows = self.destination.targets[schema.name].rows.drop_columns(["__outliers"]).to_pylist()
        return sorted(tuple(row.values()) for row in rows)

    def _feed(self, lane: Lane, windows: list[Window], every: int) -> None:
        missing = [window for window in windows if window.upto > lane.position]
        for number, window in enumerate(missing, 1):
            is_next_barrier = number < len(missing) and missing[number].barrier is not None
            is_due = window.barrier is not None or is_next_barrier or number % every == 0 or number == len(missing)
            lane.write(window, commit=is_due)

    def _until_done(self, work: Callable[[Lane], object]) -> None:
        while True:
            try:
                work(self.lane or self.start())
            except Killed:
                self.lane = None
                continue
            return


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = open_sqlite(tmp_path)
    yield World(store)
    store.close()


def windows_of(*transactions: list[Any]) -> list[Window]:
    stream = Stream()
    for steps in transactions:
        stream.transaction(steps)
    return stream.windows()


@pytest.mark.must_not_fail(16)
def test_a_refused_row_is_set_aside_and_the_others_flow(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    rows = [(ORDERS, insert(number, None if number == 37 else f"n{number}")) for number in range(100)]
    world.feed(windows_of(rows, [(ITEMS, insert(1))]))
    assert len(world.content(ORDERS)) == 99
    assert world.content(ITEMS) == [(1,)]
    [letter] = world.letters()
    assert (letter.rows, letter.op, letter.error, letter.state) == (1, "insert", "RowRefused", LetterState.OPEN)
    assert letter.position.ordinal == 37
    assert "note" in letter.message


@pytest.mark.must_not_fail(16)
def test_later_changes_of_the_key_follow_it_and_all_return_in_order(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(
        windows_of(
            [(ORDERS, insert(1, "a")), (ORDERS, insert(2, "b"))],
            [(ORDERS, update(1, None))],
            [(ORDERS, update(1, "c")), (ORDERS, update(2, "d"))],
            [(ORDERS, update(3, "c", old=[1]))],
            [(ORDERS, delete(3)), (ORDERS, insert(1, "again"))],
        )
    )
    assert world.content(ORDERS) == [(1, "a"), (2, "d")]
    assert [letter.op for letter in world.letters()] == ["update", "update", "update", "delete", "insert"]
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert world.content(ORDERS) == [(1, "again"), (2, "d")]
    assert {letter.state for letter in world.letters()} == {LetterState.REPLAYED}


@pytest.mark.must_not_fail(16)
def test_a_change_found_late_still_comes_before_those_that_follow_it(world: World) -> None:
    """The row at key 1 is refused at the commit, when a letter of the row that moved there waits already."""
    world.destination.not_null = {ORDERS.name: "note"}
    windows = windows_of(
        [(ORDERS, insert(2, None))],
        [(ORDERS, insert(1, None))],
        [(ORDERS, delete(1)), (ORDERS, update(1, "x", old=[2]))],
    )
    world.feed(windows[:1])
    world.feed(windows, every=2)
    positions = [letter.position for letter in world.letters()]
    assert positions == sorted(positions)
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert world.content(ORDERS) == [(1, "x")]


@pytest.mark.must_not_fail(16)
def test_a_replayed_key_flows_again_and_a_second_replay_changes_nothing(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    first, second = windows_of([(ORDERS, insert(1, None))], [(ORDERS, update(1, "b"))])
    world.feed([first])
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.replay()
    world.feed([second])
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert world.content(ORDERS) == [(1, "b")]
    assert len(world.letters()) == 1


@pytest.mark.must_not_fail(16)
def test_a_replay_that_is_refused_again_leaves_its_letters_open(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(windows_of([(ORDERS, insert(1, None)), (ORDERS, insert(2, None))]))
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert [(letter.state, letter.attempts) for letter in world.letters()] == [(LetterState.OPEN, 2)] * 2
    world.ask(LetterDecision.DISCARD)
    world.replay()
    world.feed(windows_of([(ORDERS, insert(1, None)), (ORDERS, insert(2, None))], [(ORDERS, insert(1, "late"))]))
    assert world.content(ORDERS) == [(1, "late")]


@pytest.mark.must_not_fail(16)
def test_a_replay_that_fails_holds_back_the_later_ones_of_its_key(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(windows_of([(ORDERS, insert(1, None)), (ORDERS, insert(2, None))], [(ORDERS, update(1, "b"))]))
    first, other, second = (letter.id for letter in world.letters())
    world.ask(LetterDecision.REPLAY, first)
    world.ask(LetterDecision.REPLAY, second)
    world.replay()
    assert world.content(ORDERS) == []
    assert {letter.state for letter in world.letters()} == {LetterState.OPEN}
    assert [letter.attempts for letter in world.letters()] == [2, 1, 0]
    world.ask(LetterDecision.DISCARD, first, other)
    world.ask(LetterDecision.REPLAY, second)
    world.replay()
    assert world.content(ORDERS) == [(1, "b")]


@pytest.mark.must_not_fail(16)
def test_a_letter_that_cannot_be_opened_is_open_again_and_the_flow_goes_on(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    first, second = windows_of([(ORDERS, insert(1, None))], [(ORDERS, insert(2, "b"))])
    world.feed([first])
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    keys, world.vault, world.lane = world.vault, Vault([bytes([1] * 32)]), None
    world.replay()
    world.feed([first, second])
    [letter] = world.letters()
    assert (letter.state, letter.attempts) == (LetterState.OPEN, 2)
    assert "does not hold key" in letter.message
    world.vault, world.lane = keys, None
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert world.content(ORDERS) == [(1, None), (2, "b")]


@pytest.mark.must_not_fail(16)
def test_a_letter_of_an_unknown_format_is_open_again_and_the_flow_goes_on(world: World) -> None:
    [window] = windows_of([(ORDERS, insert(1, "a"))])
    content = b"\x02" + pack_part(window.parts[0])[1:]
    letter = Letter(
        table=ORDERS.name,
        position=Position(Lsn(1)),
        rows=1,
        op="insert",
        keys=None,
        error="RowRefused",
        message="refused",
        attempts=1,
        content=content,
    )
    box = LetterBox(world.store, world.vault, world.limits)
    box.put(LANE, world.store.begin_epoch(LANE.flow).epoch, (letter,), START, DeadLetterPayload.ENCRYPTED)
    world.ask(LetterDecision.REPLAY)
    world.replay()
    [record] = world.letters()
    assert record.state is LetterState.OPEN
    assert "format 2" in record.message


@pytest.mark.must_not_fail(16)
def test_what_was_applied_before_a_kill_is_settled_though_its_letter_cannot_be_opened_any_more(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(windows_of([(ORDERS, insert(1, None))], [Truncate((ORDERS.name,))], [(ORDERS, insert(2, "b"))]))
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    assert world.lane is not None
    world.fuse.at = world.fuse.passed + 2  # the first rows are committed, the barrier is not
    with pytest.raises(Killed):
        world.lane.replay()
    world.vault, world.lane = Vault([bytes([1] * 32)]), None
    world.replay()
    states = [letter.state for letter in world.letters()]
    assert states == [LetterState.REPLAYED, LetterState.OPEN, LetterState.OPEN]


@pytest.mark.must_not_fail(16)
def test_a_row_that_is_taken_at_the_second_try_is_not_set_aside(world: World) -> None:
    world.destination.not_null = {ORDERS.name: "note"}
    world.sink = RelentingSink
    world.feed(windows_of([(ORDERS, insert(1, None))]))
    assert world.content(ORDERS) == [(1, None)]
    assert not world.letters()


@pytest.mark.must_not_fail(16)
def test_a_parked_table_waits_and_its_peers_flow(world: World) -> None:
    world.rules = PARK
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(
        windows_of(
            [(ORDERS, insert(1, "a")), (ITEMS, insert(1))],
            [(ORDERS, insert(2, None)), (ORDERS, insert(3, "c")), (ITEMS, insert(2))],
            [(ORDERS, update(1, "b")), (ITEMS, insert(3))],
        )
    )
    assert world.content(ORDERS) == [(1, "a")]
    assert world.content(ITEMS) == [(1,), (2,), (3,)]
    assert [(letter.rows, letter.keys) for letter in world.letters()] == [(2, None), (1, None)]
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert world.content(ORDERS) == [(1, "b"), (2, None), (3, "c")]


@pytest.mark.must_not_fail(16)
def test_a_parked_table_with_traffic_is_healed_by_one_replay(world: World) -> None:
    """A change joins the letters between the decision and the moment at which the lane looks."""
    world.rules = PARK
    world.destination.not_null = {ORDERS.name: "note"}
    windows = windows_of(*[[(ORDERS, insert(number, "x" if number else None))] for number in range(4)])
    world.feed(windows[:2])
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.feed(windows[:3])
    world.replay()
    assert {letter.state for letter in world.letters()} == {LetterState.REPLAYED}
    world.feed(windows)
    assert world.content(ORDERS) == [(0, None), (1, "x"), (2, "x"), (3, "x")]
    assert len(world.letters()) == 3


@pytest.mark.must_not_fail(11, 16)
@pytest.mark.parametrize("rules", [SKIP, PARK], ids=["skip", "park"])
def test_barriers_keep_their_place_among_the_letters_of_a_table(world: World, rules: DeadLetters) -> None:
    world.rules = rules
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(
        windows_of(
            [(ORDERS, insert(1, None)), (ORDERS, insert(2, "b")), (ITEMS, insert(1))],
            [Truncate((ORDERS.name, ITEMS.name))],
            [(ORDERS, insert(3, "c"))],
            [NewShape(WIDER), (WIDER, insert(4, "d", 5))],
        )
    )
    assert world.content(ITEMS) == []
    assert [letter.op for letter in world.letters()][-4:] == ["truncate", "insert", "schema", "insert"]
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert world.content(WIDER) == [(3, "c", None), (4, "d", 5)]


@pytest.mark.must_not_fail(16)
def test_only_a_copy_heals_a_table_whose_changes_were_not_kept(world: World) -> None:
    world.rules = replace_rules(PARK, payload=DeadLetterPayload.OMITTED)
    world.destination.not_null = {ORDERS.name: "note"}
    windows = windows_of([(ORDERS, insert(1, None))], [(ORDERS, insert(2, "b"))], [(ORDERS, insert(3, "c"))])
    world.feed(windows)
    [letter] = world.letters()
    assert not letter.is_kept
    with pytest.raises(Exception, match="were not kept"):
        world.ask(LetterDecision.REPLAY)
    world.destination.not_null = {}
    assert world.lane is not None
    world.lane.reset((ORDERS.name,))
    world.feed(windows)
    assert world.content(ORDERS) == [(1, None), (2, "b"), (3, "c")]
    assert [letter.state for letter in world.letters()] == [LetterState.DISCARDED]


@pytest.mark.must_not_fail(16, 20)
def test_a_leftover_process_cannot_replay_into_a_table_that_is_copied_anew(world: World) -> None:
    [window] = windows_of([(ORDERS, insert(1, "a"))])
    world.feed([window])
    leftover = MemorySink(world.destination)
    leftover.recover(LANE.beside, 1)
    writer = leftover.writer(LANE.beside, 1)
    writer.write(window)
    refusals: list[Superseded] = []

    class BusySink(FragileSink):
        def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
            super().reset_table(table, lane, epoch)
            with pytest.raises(Superseded) as caught:
                writer.commit(CommitToken(LANE.beside, 1, START, Position(Lsn(1), 1), 1))
            refusals.append(caught.value)

    world.sink = BusySink
    world.start().reset((ORDERS.name,))
    assert len(refusals) == 1
    assert world.content(ORDERS) == []


def test_with_the_policy_stop_a_refused_row_ends_the_lane(world: World) -> None:
    world.rules = replace_rules(SKIP, policy=DeadLetterPolicy.STOP)
    world.destination.not_null = {ORDERS.name: "note"}
    with pytest.raises(RowRefused):
        world.feed(windows_of([(ORDERS, insert(1, None))]))
    assert not world.letters()


def test_a_flow_that_refuses_too_many_rows_stops(world: World) -> None:
    world.limits = Limits(isolated_rows_max=3)
    world.destination.not_null = {ORDERS.name: "note"}
    with pytest.raises(Refused, match="more rows of one commit"):
        world.feed(windows_of([(ORDERS, insert(number, None)) for number in range(4)]))
    assert not world.letters()


def test_a_parked_table_beyond_the_room_is_no_longer_kept_and_its_peers_flow(world: World) -> None:
    world.rules, world.limits = PARK, Limits(letters_max=2)
    world.destination.not_null = {ORDERS.name: "note"}
    world.feed(windows_of(*[[(ORDERS, insert(number, None)), (ITEMS, insert(number))] for number in range(5)]))
    assert [letter.is_kept for letter in world.letters()] == [True, True, False]
    assert len(world.content(ITEMS)) == 5


def test_rows_beyond_the_room_stop_the_flow_and_nothing_is_lost(world: World) -> None:
    world.limits = Limits(letters_max=2)
    world.destination.not_null = {ORDERS.name: "note"}
    windows = windows_of(*[[(ORDERS, insert(number, None))] for number in range(3)])
    with pytest.raises(Exception, match="dead-letter store of the flow is full"):
        world.feed(windows)
    assert world.lane is not None
    assert world.lane.position == windows[1].upto
    assert len(world.letters()) == 2


def replace_rules(rules: DeadLetters, **changes: Any) -> DeadLetters:
    return rules.model_copy(update=changes)


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("policy", [DeadLetterPolicy.SKIP, DeadLetterPolicy.PARK])
@pytest.mark.parametrize("seed", range(15))
def test_every_history_is_whole_after_a_replay(world: World, seed: int, policy: DeadLetterPolicy) -> None:
    """Constraints on three tables; the fourth and fifth must never notice. Then the constraints go."""
    world.rules = DeadLetters(policy=policy)
    history = RandomHistory(seed, transactions=25)
    orders, lines, customers, events, audit = shop_tables()
    refused = (orders, lines, customers)
    world.destination.not_null = {orders.name: "note", lines.name: "at", customers.name: "name"}
    world.feed(history.windows(seed), every=1 + seed % 3)
    for schema in (events, audit):
        assert_whole(world, history, schema)
    assert world.letters()
    assert {letter.table for letter in world.letters()} <= {schema.name for schema in refused}
    world.destination.not_null = {}
    world.ask(LetterDecision.REPLAY)
    world.replay()
    assert not world.letters(LetterState.OPEN)
    for schema in history.tables:
        assert_whole(world, history, schema)


@pytest.mark.must_not_fail(16, 20)
@pytest.mark.parametrize("policy", [DeadLetterPolicy.SKIP, DeadLetterPolicy.PARK])
@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, seed: int, policy: DeadLetterPolicy) -> None:
    """Killed before or after each letter is stored, each commit, and each settlement; the next process goes on."""
    at, is_done = 0, False
    while not is_done:
        store = open_sqlite(tmp_path / str(at))
        world = World(store, rules=DeadLetters(policy=policy), fuse=Fuse(at))
        history = RandomHistory(seed, transactions=5)
        orders, lines, *_ = shop_tables()
        world.destination.not_null = {orders.name: "note", lines.name: "at"}
        world.feed(history.windows(seed), every=2)
        world.destination.not_null = {}
        world.ask(LetterDecision.REPLAY)
        world.replay()
        for schema in history.tables:
            assert_whole(world, history, schema)
        assert not world.letters(LetterState.OPEN)
        store.close()
        is_done, at = world.fuse.passed <= at, at + 1
    assert at > 20


def assert_whole(world: World, history: RandomHistory, schema: TableSchema) -> None:
    target = world.destination.targets.get(schema.name)
    found = row_table(schema, []) if target is None else target.rows
    expected = history.expected(schema)
    if canonical_hash(found) != canonical_hash(expected):
        surplus, lost = multiset(found) - multiset(expected), multiset(expected) - multiset(found)
        pytest.fail(f"seed {history.seed}, {schema.name}: not expected {dict(surplus)}, missing {dict(lost)}")


def test_contents_are_sealed_in_the_store(world: World, tmp_path: Path) -> None:
    world.vault = Vault([base64.b64decode("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")])
    world.destination.not_null = {WIDER.name: "total"}
    world.feed(windows_of([(WIDER, insert(1, "a secret of the row", None))]))
    [letter] = world.letters()
    assert letter.is_kept
    assert b"a secret of the row" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
