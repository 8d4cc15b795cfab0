"""The part of the control-store contract about dead letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from wallaby.errors import Fenced, IllegalMove, LettersFull, NotFound
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.lifecycle import Command
from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName
from wallaby.store.letters import LetterDecision, LetterFilter, LetterRoom, LetterState, SealedLetter
from wallaby.store.port import Store
from wallaby.testing.store_case import StoreCase
from wallaby.window import LaneId

ORDERS = TableName("Größe", "odd.name")
ITEMS = TableName("shop", "items")
COPY = LaneId("shop", "copy")
ROOM = LetterRoom(letters_max=100, bytes_max=10_000, settled_max=100)
_HIGH = 2**64 - 1


def a_letter(number: int = 1, **changes: Any) -> SealedLetter:
    """A sealed letter; ``number`` is its place in the stream."""
    values: dict[str, Any] = {
        "table": ORDERS,
        "position": Position(Lsn(number), 7),
        "rows": 1,
        "op": "insert",
        "keys": (number, _HIGH),
        "error": "RowRefused",
        "message": "a constraint\0 of '%s' ?",
        "attempts": 1,
        "key_id": "k1",
        "sealed": b"\0\xff%s",
    }
    return SealedLetter(**values | changes)


def upto(number: int) -> Position:
    return Position(Lsn(number + 1))


def put(store: Store, *letters: SealedLetter, room: LetterRoom = ROOM, epoch: int | None = None) -> Any:
    """Store letters as the newest epoch; they count from the position after the last of them."""
    epoch = store.begin_epoch(COPY.flow).epoch if epoch is None else epoch
    return store.put_letters(COPY, epoch, letters, upto(max(int(letter.position.lsn) for letter in letters)), room)


class LetterContract(StoreCase):
    """Letters that were put, what counts of them, and what was decided."""

    def test_a_letter_comes_back_as_it_was_put(self, store: Store, make_store: Callable[[], Store]) -> None:
        [scope] = put(store, a_letter())
        assert (scope.table, scope.keys, scope.is_kept) == (ORDERS, (1, _HIGH), True)
        [listed] = store.list_letters(LetterFilter()).letters
        found = make_store().get_letter(listed.id)
        assert found.sealed == b"\0\xff%s"
        assert replace(found, sealed=None) == listed
        assert (found.flow_id, found.destination, found.lane, found.table) == ("shop", "copy", 0, ORDERS)
        assert (found.position, found.rows, found.op, found.keys) == (Position(Lsn(1), 7), 1, "insert", (1, _HIGH))
        assert (found.state, found.number, found.decided_at, found.is_kept) == (LetterState.OPEN, None, None, True)
        assert found.message == "a constraint  of '%s' ?"
        with pytest.raises(NotFound):
            store.get_letter(found.id + 1)

    def test_letters_put_again_are_there_once(self, store: Store) -> None:
        epoch = store.begin_epoch("shop").epoch
        for _ in range(2):
            put(store, a_letter(1), a_letter(2), epoch=epoch)
        assert len(store.list_letters(LetterFilter()).letters) == 2

    def test_letters_the_record_has_not_reached_are_forgotten(self, store: Store) -> None:
        put(store, a_letter(1))
        put(store, a_letter(2))
        epoch = store.begin_epoch("shop").epoch
        [scope] = store.begin_letters(COPY, epoch, upto(1))
        assert scope.keys == (1, _HIGH)
        assert store.begin_letters(COPY, epoch, Position(Lsn(0))) == ()

    @pytest.mark.must_not_fail(20)
    def test_an_older_epoch_can_change_nothing(self, store: Store) -> None:
        old = store.begin_epoch("shop").epoch
        put(store, a_letter())
        calls: list[Callable[[], Any]] = [
            lambda: put(store, a_letter(2), epoch=old),
            lambda: store.begin_letters(COPY, old, Position(Lsn(0))),
            lambda: store.settle_letters(COPY, old, 1, [1], "", ROOM),
            lambda: store.follow_replays(COPY, old),
            lambda: store.forget_letters(COPY, old),
        ]
        for call in calls:
            with pytest.raises(Fenced):
                call()
        assert len(store.list_letters(LetterFilter(state=LetterState.OPEN)).letters) == 1

    def test_lists_are_filtered_and_paged(self, store: Store) -> None:
        put(store, *(a_letter(number) for number in range(1, 4)), a_letter(4, table=ITEMS))
        first = store.list_letters(LetterFilter(), page_size=3)
        second = store.list_letters(LetterFilter(), page_token=first.next_page_token)
        assert [len(first.letters), len(second.letters), second.next_page_token] == [3, 1, ""]
        for chosen, count in (
            (LetterFilter(flow_id="shop", destination="copy"), 4),
            (LetterFilter(flow_id="other"), 0),
            (LetterFilter(destination="other"), 0),
            (LetterFilter(table=ITEMS), 1),
            (LetterFilter(state=LetterState.REPLAYED), 0),
        ):
            assert len(store.list_letters(chosen).letters) == count, chosen

    @pytest.mark.must_not_fail(16)
    def test_a_replay_takes_letters_of_one_scope_together_and_the_earlier_ones_first(self, store: Store) -> None:
        put(store, a_letter(1, keys=(1,)), a_letter(2, keys=(2,)), a_letter(3, keys=(1, 3)), a_letter(4, keys=(3,)))
        a, b, c, d = (letter.id for letter in store.list_letters(LetterFilter()).letters)
        for ids in ([c], [d], [a, d]):
            with pytest.raises(IllegalMove, match="comes before it"):
                store.decide_letters(LetterDecision.REPLAY, ids=ids)
        store.decide_letters(LetterDecision.REPLAY, ids=[d, a, c, b])
        replays: dict[int | None, list[int]] = {}
        for letter in store.letters_to_replay(COPY, 1 << 20):
            assert letter.sealed == b"\0\xff%s"
            replays.setdefault(letter.number, []).append(letter.id)
        assert sorted(replays.values()) == [[a, c, d], [b]]
        assert len({letter.number for letter in store.letters_to_replay(COPY, 1)}) == 1

    @pytest.mark.must_not_fail(16)
    def test_letters_that_come_behind_one_to_be_replayed_follow_it(self, store: Store) -> None:
        put(store, a_letter(1, keys=(1,)), a_letter(2, keys=(2,)))
        [first, other] = [letter.id for letter in store.list_letters(LetterFilter()).letters]
        store.decide_letters(LetterDecision.REPLAY, ids=[first])
        put(
            store,
            a_letter(3, keys=(1, 3)),
            a_letter(4, keys=(3,)),
            a_letter(5, keys=(2, 3)),
            a_letter(6, keys=(1, 2)),
            a_letter(7, keys=(1,)),
            a_letter(8, keys=(1,), table=ITEMS),
        )
        epoch = store.begin_epoch("shop").epoch
        for _ in range(2):
            store.follow_replays(COPY, epoch)
        asked = store.letters_to_replay(COPY, 1 << 20)
        assert [int(letter.position.lsn) for letter in asked] == [1, 3, 4]
        assert len({letter.number for letter in asked}) == 2
        assert store.get_letter(other).state is LetterState.OPEN

    @pytest.mark.must_not_fail(16)
    def test_a_letter_without_content_follows_no_replay(self, store: Store) -> None:
        put(store, a_letter(1, keys=None))
        store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id="shop"))
        put(store, a_letter(2, keys=None, sealed=None))
        version = store.version()
        store.follow_replays(COPY, store.begin_epoch("shop").epoch)
        assert [int(letter.position.lsn) for letter in store.letters_to_replay(COPY, 1 << 20)] == [1]
        assert store.version() == version

    @pytest.mark.must_not_fail(16)
    def test_a_failed_replay_opens_its_letters_and_later_ones_of_their_keys(self, store: Store) -> None:
        put(store, a_letter(1, keys=(1,)), a_letter(2, keys=(2,)), a_letter(3, keys=(1,)))
        a, b, c = (letter.id for letter in store.list_letters(LetterFilter()).letters)
        for ids in ([a], [b], [c]):
            store.decide_letters(LetterDecision.REPLAY, ids=ids)
        number = store.get_letter(a).number
        assert number is not None
        epoch = store.begin_epoch("shop").epoch
        scopes = store.settle_letters(COPY, epoch, number, [], "still refused", ROOM)
        assert {scope.keys for scope in scopes} == {(1,), (2,)}
        states = [letter.state for letter in store.list_letters(LetterFilter()).letters]
        assert states == [LetterState.OPEN, LetterState.REPLAYING, LetterState.OPEN]
        assert (store.get_letter(a).message, store.get_letter(a).attempts) == ("still refused", 2)
        assert store.get_letter(c).attempts == 1

    def test_a_settled_replay_releases_its_scope_and_keeps_no_content(self, store: Store) -> None:
        put(store, a_letter(1, keys=(1,)), a_letter(2, keys=(2,)))
        a, b = (letter.id for letter in store.list_letters(LetterFilter()).letters)
        [letter] = store.decide_letters(LetterDecision.REPLAY, ids=[a])
        assert letter.number is not None
        epoch = store.begin_epoch("shop").epoch
        for _ in range(2):
            [scope] = store.settle_letters(COPY, epoch, letter.number, [a], "", ROOM)
            assert scope.keys == (2,)
        done = store.get_letter(a)
        assert (done.state, done.sealed, done.sealed_bytes) == (LetterState.REPLAYED, None, 0)
        assert store.letters_to_replay(COPY, 1 << 20) == ()
        assert store.decide_letters(LetterDecision.REPLAY, ids=[a]) == (replace(done, sealed=None),)
        with pytest.raises(IllegalMove):
            store.decide_letters(LetterDecision.DISCARD, ids=[a, b])
        assert store.get_letter(b).state is LetterState.OPEN

    def test_a_letter_to_be_replayed_may_be_given_up_while_its_flow_does_not_run(self, store: Store) -> None:
        copy = EndpointSpec(name="copy", type="duckdb", options={"dsn": "copy.duckdb"})
        source = EndpointSpec(type="postgres", options={"dsn": "env:SHOP_DSN"})
        put(store, a_letter())
        [letter] = store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id="shop"))
        with pytest.raises(IllegalMove):
            store.decide_letters(LetterDecision.DISCARD, ids=[letter.id])
        store.create_flow(FlowSpec(id="shop", name="Shop", source=source, destinations=(copy,)))
        for command in (Command.START, Command.STOP):
            store.move_flow("shop", command)
            with pytest.raises(IllegalMove, match="replaying"):
                store.decide_letters(LetterDecision.DISCARD, ids=[letter.id])
        store.move_flow("shop", Command.FINISH)
        [letter] = store.decide_letters(LetterDecision.DISCARD, ids=[letter.id])
        assert (letter.state, letter.sealed_bytes) == (LetterState.DISCARDED, 0)
        assert store.letters_to_replay(COPY, 1 << 20) == ()

    def test_a_decision_has_a_number_of_its_own_that_grows(self, store: Store) -> None:
        put(store, a_letter(1, keys=(1,)), a_letter(2, keys=(2,)), a_letter(3, keys=(3,)))
        assert store.newest_letter_decision("shop") == 0
        ids = [letter.id for letter in store.list_letters(LetterFilter()).letters]
        numbers = []
        for decision, letter_id in zip((LetterDecision.DISCARD, LetterDecision.REPLAY) * 2, ids, strict=False):
            version = store.version()
            store.decide_letters(decision, ids=[letter_id])
            numbers.append(store.newest_letter_decision("shop"))
            assert version < store.version()
        assert numbers == sorted(set(numbers))

    def test_a_letter_without_content_closes_its_scope(self, store: Store) -> None:
        put(store, a_letter(1, keys=None, sealed=None))
        [scope] = put(store, a_letter(2, keys=None), a_letter(3, keys=(5,)))
        assert (scope.keys, scope.is_kept) == (None, False)
        [letter] = store.list_letters(LetterFilter()).letters
        with pytest.raises(IllegalMove, match="not kept"):
            store.decide_letters(LetterDecision.REPLAY, ids=[letter.id])
        store.decide_letters(LetterDecision.DISCARD, ids=[letter.id])
        [scope] = put(store, a_letter(4, keys=None))
        assert scope.is_kept

    def test_without_room_a_table_is_kept_no_further_and_a_key_is_refused(self, store: Store) -> None:
        room = replace(ROOM, bytes_max=10)
        put(store, a_letter(1, keys=None), a_letter(2, keys=None), a_letter(3, keys=None), room=room)
        assert [letter.is_kept for letter in store.list_letters(LetterFilter()).letters] == [True, True, False]
        with pytest.raises(LettersFull):
            put(store, a_letter(4, table=ITEMS), room=room)
        with pytest.raises(LettersFull):
            put(store, a_letter(4, table=ITEMS, sealed=None), room=replace(ROOM, letters_max=3))

    def test_a_new_copy_leaves_nothing_open_and_says_so_at_every_letter(self, store: Store) -> None:
        put(store, a_letter(1), a_letter(2, keys=None), a_letter(3, table=ITEMS))
        first = store.list_letters(LetterFilter()).letters[0]
        store.decide_letters(LetterDecision.REPLAY, ids=[first.id])
        epoch = store.begin_epoch("shop").epoch
        store.forget_letters(COPY, epoch)
        assert store.begin_letters(COPY, epoch, Position(Lsn(0))) == ()
        letters = store.list_letters(LetterFilter()).letters
        assert [letter.state for letter in letters] == [LetterState.DISCARDED] * 3
        assert {letter.message for letter in letters} == {"The flow was copied again"}

    def test_settled_letters_are_forgotten_beyond_their_bound(self, store: Store) -> None:
        put(store, *(a_letter(number, keys=(number,)) for number in range(1, 6)))
        done = store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id="shop"))
        epoch = store.begin_epoch("shop").epoch
        room = replace(ROOM, settled_max=2)
        for letter in done:
            assert letter.number is not None
            store.settle_letters(COPY, epoch, letter.number, [letter.id], "", room)
        assert [letter.id for letter in store.list_letters(LetterFilter()).letters] == [done[3].id, done[4].id]
