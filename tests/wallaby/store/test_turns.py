"""Turns at a connection go round in the order they were asked for."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from wallaby.lsn import START, Lsn, Position
from wallaby.store.opening import open_sqlite
from wallaby.store.turns import Turns


def wait_asking(turns: Turns, count: int) -> None:
    """Until as many threads wait for their turn."""
    deadline = time.monotonic() + 60
    while turns.asking < count:
        assert time.monotonic() < deadline, "nobody asks"
        os.sched_yield()


def test_who_asked_first_has_the_next_turn_however_quick_the_owner_asks_again() -> None:
    turns, order = Turns(), []

    def commit() -> None:
        with turns.turn():
            order.append("commit")

    waiting = threading.Thread(target=commit)
    with turns.turn():
        waiting.start()
        wait_asking(turns, 1)
        order.append("burst")
    for _ in range(100):
        with turns.turn():
            order.append("burst")
    waiting.join(60)
    assert order[:3] == ["burst", "commit", "burst"]


def test_turns_are_taken_in_order() -> None:
    turns, order = Turns(), []

    def take(number: int) -> None:
        with turns.turn():
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    with turns.turn():
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_asking(turns, count)
    for thread in threads:
        thread.join(60)
    assert order == [0, 1, 2, 3, 4]


def test_a_turn_within_a_turn_is_the_same_and_an_error_gives_it_back() -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns.turn(), turns.turn():
        raise KeyError(turns.is_mine)
    assert not turns.is_mine
    with turns.turn():
        with turns.turn():
            pass
        assert turns.is_mine
    assert not turns.is_mine


def test_a_commit_waits_for_one_change_of_a_burst_and_not_for_the_burst(tmp_path: Path) -> None:
    """The API's thread makes change after change; a flow's thread commits its checkpoint meanwhile."""
    store: Any = open_sqlite(tmp_path)
    epoch, upto = store.begin_epoch("shop").epoch, Position(Lsn(100))

    def commit() -> None:
        store.commit_checkpoint("shop", epoch=epoch, after=START, upto=upto, lanes={})

    waiting = threading.Thread(target=commit)
    with store._edge.transaction():
        waiting.start()
        wait_asking(store._edge._turns, 1)
    with store._edge.transaction() as change:
        seen = change.execute("SELECT position FROM wallaby.checkpoints")
    waiting.join(60)
    store.close()
    assert seen == [(str(upto),)]
