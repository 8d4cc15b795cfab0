"""Turns at a connection go round in the order they were asked for."""

from __future__ import annotations

import os
import threading
import time

import pytest

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
