"""What the SQL of dead letters does when somebody else was faster, or when there are very many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wallaby.errors import IllegalMove
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.lsn import Lsn, Position
from wallaby.store import LetterDecision, LetterFilter, LetterState, Store
from wallaby.store.opening import open_sqlite
from wallaby.store.sql_letters import _decide
from wallaby.store.sql_rows import token_for
from wallaby.testing.letter_contract import COPY, ROOM, a_letter, put

LOCKS = ("changes", "checkpoints", "dead_letters")
"""In the order in which every transaction takes them."""


class Listening:
    """An edge that notes which of `LOCKS` each transaction takes, in order, and how many values a statement has."""

    def __init__(self, edge: Any) -> None:
        self._edge = edge
        self.taken: list[list[str]] = []
        self.values_max = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._edge, name)

    @contextmanager
    def transaction(self) -> Iterator[Listening]:
        self.taken.append([])
        with self._edge.transaction() as self._transaction:
            yield self

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        if not sql.startswith("SELECT") or "FOR UPDATE" in sql:
            self.taken[-1] += [table for table in LOCKS if f"wallaby.{table} " in sql]
        self.values_max = max(self.values_max, len(parameters))
        return self._transaction.execute(sql, parameters)


def test_letters_are_locked_after_the_count_of_changes_and_the_checkpoint(tmp_path: Path) -> None:
    store: Store = open_sqlite(tmp_path)
    listening = store._edge = Listening(store._edge)  # type: ignore[attr-defined]
    copy = EndpointSpec(name="copy", type="duckdb", options={"dsn": "copy.duckdb"})
    source = EndpointSpec(type="postgres", options={"dsn": "env:SHOP_DSN"})
    store.create_flow(FlowSpec(id="shop", name="Shop", source=source, destinations=(copy,)))
    epoch = store.begin_epoch("shop").epoch
    put(store, a_letter(1, keys=None), epoch=epoch)
    [letter] = store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id="shop"))
    put(store, a_letter(2, keys=None), epoch=epoch)
    store.follow_replays(COPY, epoch)
    store.settle_letters(COPY, epoch, letter.number or 0, [letter.id], "", ROOM)
    store.forget_letters(COPY, epoch)
    store.begin_letters(COPY, epoch, Position(Lsn(0)))
    store.delete_flow("shop")
    together = [taken for taken in listening.taken if "dead_letters" in taken]
    assert len(together) == 8
    for taken in map(dict.fromkeys, together):
        assert list(taken) == sorted(taken, key=LOCKS.index)
    store.close()


def test_more_letters_than_a_statement_has_places_are_put_once(tmp_path: Path) -> None:
    """SQLite as it is usually built takes 32,766 values in a statement; ours here may take more."""
    store: Store = open_sqlite(tmp_path)
    listening = store._edge = Listening(store._edge)  # type: ignore[attr-defined]
    letters = [a_letter(number, keys=None) for number in range(1, 33_001)]
    room = replace(ROOM, letters_max=len(letters), bytes_max=1 << 30)
    epoch = store.begin_epoch("shop").epoch
    for _ in range(2):
        put(store, *letters, room=room, epoch=epoch)
    [last] = store.list_letters(LetterFilter(), page_token=token_for(str(len(letters) - 1))).letters
    assert last.position == letters[-1].position
    assert listening.values_max <= 32_766
    store.close()


@pytest.mark.must_not_fail(16)
def test_a_decision_on_a_letter_that_was_settled_since_it_was_read_changes_nothing(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path)
    put(store, a_letter(1), a_letter(2))
    read = store.list_letters(LetterFilter()).letters
    store.decide_letters(LetterDecision.DISCARD, ids=[read[1].id])
    with pytest.raises(IllegalMove, match="settled meanwhile"), store._edge.transaction() as transaction:
        _decide(transaction, [read], LetterState.REPLAYING)
    states = [letter.state for letter in store.list_letters(LetterFilter()).letters]
    assert states == [LetterState.OPEN, LetterState.DISCARDED]
    store.close()
