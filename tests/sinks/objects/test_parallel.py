"""All of them, not more at once than allowed, and what goes wrong is said."""

from __future__ import annotations

import threading

import pytest

from sinks.objects.parallel import each
from sinks.objects.store import UPLOADS_MAX


def test_every_item_is_done_once_and_as_many_at_once_as_allowed() -> None:
    together = threading.Barrier(UPLOADS_MAX)
    done: list[int] = []

    def do(item: int) -> None:
        together.wait(30)
        done.append(item)

    each(do, range(2 * UPLOADS_MAX))
    assert sorted(done) == list(range(2 * UPLOADS_MAX))


def test_an_error_is_raised_when_nothing_is_under_way_any_more() -> None:
    are_running = 0
    lock = threading.Lock()

    def do(item: int) -> None:
        nonlocal are_running
        with lock:
            are_running += 1
        try:
            if item == 3:
                raise ValueError("three")
        finally:
            with lock:
                are_running -= 1

    with pytest.raises(ValueError, match="three"):
        each(do, range(20))
    assert are_running == 0


def test_nothing_to_do_is_done() -> None:
    each(print, [])
