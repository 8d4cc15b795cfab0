"""Rows Delta has no place for: set aside beside their peers, and replayed when there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_history, read_log, read_mirror
from sinks.delta.sink import DeltaSink
from sinks.delta.stage import Stage
from sinks.delta.writer import DeltaWriter
from tests.sinks.delta.conftest import target_path
from tests.sinks.lettered import LANE, Lettered, feed
from wallaby.content import canonical_hash
from wallaby.errors import Refused, RowRefused
from wallaby.flow import DeadLetterPolicy
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.sink import WriteMode
from wallaby.testing.changes import Outlier, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table
from wallaby.window import CommitToken, Window

ORDERS = table("public.orders", {"id": "int8", "note": "text", "total": "numeric(12,2)"}, key=["id"])
ITEMS = table("public.items", {"id": "int8"}, key=["id"])
KEYLESS = table("public.keyless", {"id": "int8", "note": "text"}, identity=ReplicaIdentity.FULL)


@pytest.fixture
def flow(tmp_path: Path, make_sink: Callable[..., DeltaSink]) -> Iterator[Lettered]:
    flow = Lettered(tmp_path / "state", make_sink)
    yield flow
    flow.close()


@pytest.fixture
def holds(root: Path) -> Callable[..., None]:
    """Asserts what a mirror holds, by the hash of its content."""

    def check(schema: TableSchema, rows: list[tuple[Any, ...]]) -> None:
        found = read_mirror(DeltaOptions.parse({"path": str(root)}), schema)
        expected = row_table(schema, rows).select(range(len(schema.columns)))
        assert canonical_hash(found) == canonical_hash(expected)

    return check


@pytest.mark.must_not_fail(12, 16)
@pytest.mark.parametrize("policy", [DeadLetterPolicy.SKIP, DeadLetterPolicy.PARK])
def test_a_value_without_a_place_waits_and_its_peers_flow(
    flow: Lettered, holds: Callable[..., None], policy: DeadLetterPolicy
) -> None:
    lane = flow.begin(policy)
    feed(
        lane,
        [(ORDERS, insert(1, "a", None)), (ITEMS, insert(1))],
        [(ORDERS, insert(2, "b", Outlier("NaN"))), (ORDERS, insert(3, "c", None)), (ITEMS, insert(2))],
        [(ORDERS, update(2, "d", None)), (ORDERS, delete(1)), (ITEMS, insert(3))],
    )
    holds(ORDERS, [(3, "c", None)] if policy is DeadLetterPolicy.SKIP else [(1, "a", None)])
    holds(ITEMS, [(1,), (2,), (3,)])
    assert {letter.table for letter in flow.letters()} == {ORDERS.name}
    lane = flow.begin(policy)
    flow.replay(lane)
    holds(ORDERS, [(2, "d", None), (3, "c", None)])


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("mode", list(WriteMode))
def test_of_a_thousand_keys_the_poisonous_one_is_found_and_taken_once_the_option_lets_it(
    flow: Lettered, root: Path, mode: WriteMode
) -> None:
    numbers = range(1000)
    story: list[Any] = [(ORDERS, insert(n, "x", Outlier("NaN") if n == 500 else None)) for n in numbers]
    feed(flow.begin(write_mode=mode.value), [(ITEMS, insert(1))], story, commit_every=2)
    [letter] = flow.letters()
    assert (letter.position.ordinal, letter.rows, letter.table) == (500, 1, ORDERS.name)
    read = {WriteMode.MIRROR: read_mirror, WriteMode.APPEND: read_log, WriteMode.HISTORY: read_history}[mode]
    options = DeltaOptions.parse({"path": str(root), "write_mode": mode.value})

    def ids() -> list[int]:
        return sorted(read(options, ORDERS)["id"].to_pylist())

    assert ids() == [n for n in numbers if n != 500]
    lane = flow.begin(write_mode=mode.value)
    flow.replay(lane)
    assert ids() == [n for n in numbers if n != 500], "refused again, it stays set aside"
    lane = flow.begin(write_mode=mode.value, unrepresentable="null")
    flow.replay(lane)
    assert ids() == list(numbers)


@pytest.mark.must_not_fail(16)
def test_an_empty_text_that_would_name_a_partition_waits_for_another(
    flow: Lettered, holds: Callable[..., None]
) -> None:
    feed(
        flow.begin(partition_by="note"),
        [(ORDERS, insert(1, "a", None)), (ORDERS, insert(2, "", None)), (ORDERS, insert(3, "c", None))],
        [(ORDERS, update(2, "b", None)), (ORDERS, update(3, "d", None))],
    )
    holds(ORDERS, [(1, "a", None), (3, "d", None)])
    assert [letter.rows for letter in flow.letters()] == [1, 1]
    flow.replay(flow.begin(partition_by="note"))
    holds(ORDERS, [(1, "a", None), (2, "b", None), (3, "d", None)])


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("change", ["patch", "move"])
def test_a_row_somebody_removed_from_the_target_keeps_only_its_own_key(
    flow: Lettered, root: Path, holds: Callable[..., None], change: str
) -> None:
    rows = [(ORDERS, insert(n, "long", None)) for n in range(1, 6)]
    feed(flow.begin(), rows)
    target = DeltaTable(target_path(root, ORDERS.name))
    lost = target.to_pyarrow_table(filters=[("id", "=", 2)])
    target.delete("id = 2")
    steps: list[Any] = [(ORDERS, update(n, None, n, unchanged=["note"])) for n in (1, 3)]
    if change == "patch":
        steps.insert(1, (ORDERS, update(2, None, 2, unchanged=["note"])))
    else:
        steps.insert(1, (ORDERS, update(7, None, 2, old=[2], unchanged=["note"])))
    feed(flow.begin(), rows, [*steps, (ITEMS, insert(1))])
    others = [(1, "long", 1), (3, "long", 3), (4, "long", None), (5, "long", None)]
    holds(ORDERS, others)
    holds(ITEMS, [(1,)])
    assert [letter.rows for letter in flow.letters()] == [1]
    write_deltalake(target_path(root, ORDERS.name), lost, mode="append")
    flow.replay(flow.begin())
    holds(ORDERS, [*others, (2 if change == "patch" else 7, "long", 2)])


@pytest.mark.must_not_fail(16)
def test_a_row_without_a_key_that_is_not_there_to_be_deleted_is_set_aside(
    flow: Lettered, root: Path, holds: Callable[..., None]
) -> None:
    rows = [(KEYLESS, insert(n, "a")) for n in range(4)]
    feed(flow.begin(), rows)
    DeltaTable(target_path(root, KEYLESS.name)).delete("id = 2")
    feed(flow.begin(), rows, [(KEYLESS, delete(n, "a")) for n in (1, 2)])
    holds(KEYLESS, [(0, "a"), (3, "a")])
    assert [letter.rows for letter in flow.letters()] == [1]


@pytest.mark.must_not_fail(16)
def test_of_a_table_that_needs_several_commits_nothing_is_durable_before_all_its_values_are_known(
    make_sink: Callable[..., DeltaSink], root: Path, holds: Callable[..., None]
) -> None:
    """Else a key would be set aside with changes its table has already."""
    sink = make_sink()
    sink.recover(LANE, 1)
    writer = sink.writer(LANE, 1)
    assert isinstance(writer, DeltaWriter)
    writer._stage = Stage(memory_bytes=0, slice_bytes=1)
    windows = windows_of([(ORDERS, insert(1, "a", None))], [(ORDERS, update(1, "b", Outlier("NaN")))])
    sink.ensure_table(ORDERS)
    token = CommitToken(LANE, 1, windows[0].after, windows[-1].upto, 2)

    def write() -> None:
        for window in windows:
            writer.write(window)

    write()
    for refuse in (writer.rehearse, lambda: writer.commit(token)):
        with pytest.raises(RowRefused):
            refuse()
        writer.abort()
        holds(ORDERS, [])
        write()


def test_a_constraint_of_the_target_stops_the_flow_with_a_reason(
    flow: Lettered, root: Path, make_sink: Callable[..., DeltaSink]
) -> None:
    """The engine knows it only while it commits."""
    make_sink().ensure_table(ITEMS)
    DeltaTable(target_path(root, ITEMS.name)).alter.add_constraint({"small": "id < 500"})
    with pytest.raises(Refused, match="constraint") as caught:
        feed(flow.begin(), [(ITEMS, insert(777))])
    assert "777" not in str(caught.value)
    assert not isinstance(caught.value, RowRefused)


@pytest.mark.must_not_fail(16)
def test_a_large_replay_is_applied_whole_and_the_next_one_too(
    make_sink: Callable[..., DeltaSink], holds: Callable[..., None]
) -> None:
    """A replay's positions are its own: those of its changes must not become the table's record."""
    sink = make_sink()
    sink.recover(LANE, 1)
    writer = sink.writer(LANE, 1)
    assert isinstance(writer, DeltaWriter)
    writer._stage = Stage(memory_bytes=0, slice_bytes=1)
    sink.ensure_table(ITEMS)
    windows = windows_of([(ITEMS, insert(1))], [(ITEMS, insert(2))], [(ITEMS, insert(3))], [(ITEMS, insert(4))])
    steps = [START, Position(Lsn(1), 1), Position(Lsn(1), 2)]
    for after, upto, letters in zip(steps, steps[1:], (windows[:2], windows[2:]), strict=False):
        for window in letters:
            writer.write(Window(after, upto, window.parts))
        writer.commit(CommitToken(LANE, 1, after, upto, 2))
    holds(ITEMS, [(1,), (2,), (3,), (4,)])
