"""A writer that ends at every request in turn, and one that is killed: each change is there once, and only that."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import obstore
import pytest

from sinks.s3 import FACTORY
from sinks.s3.reader import committed_files, read_log
from tests.sinks.crashes import write_and_die
from tests.sinks.crashing_writer import history_of
from tests.sinks.lane import TestLane
from tests.sinks.s3.conftest import keys_of
from wallaby.testing.changes import Stream, insert, table
from wallaby.testing.history import multiset
from wallaby.transform.state import derive_state
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
REQUESTS = ("put", "get", "head", "delete", "list_with_delimiter")
REQUESTS_MAX = 60


class _EndOfProcess(BaseException):
    """Nobody handles it, as nobody handles SIGKILL."""


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize("is_carried_out", [False, True])
def test_a_writer_that_ends_at_any_request_leaves_every_change_once(
    is_carried_out: bool, place: dict[str, Any], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's requests are counted; the process ends at the first, the second, … until one lives to the end."""
    stream = Stream()
    for number in range(3):
        stream.transaction([(ORDERS, insert(number, "a"))])
    windows = stream.windows()
    real = {name: getattr(obstore, name) for name in REQUESTS}
    left = 0

    def counted(request: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not is_carried_out:
                raise _EndOfProcess
            try:
                return request(*arguments, **named)
            finally:
                if left == 0:
                    raise _EndOfProcess

        return call

    for end in range(1, REQUESTS_MAX):
        here = {**place, "prefix": f"some/log/{end}"}
        for name, request in real.items():
            monkeypatch.setattr(obstore, name, counted(request))
        left = end
        try:
            TestLane(FACTORY.create(here, destination="copy"), LANE, 1).apply_all(windows)
            survived = True
        except _EndOfProcess:
            survived = False
        for name, request in real.items():
            monkeypatch.setattr(obstore, name, request)
        lane = TestLane(FACTORY.create(here, destination="copy"), LANE, 2)
        lane.apply_all(window for window in windows if window.after >= lane.position)
        assert read_log(here, "public", "orders").column("id").to_pylist() == [0, 1, 2], f"after request {end}"
        files = {f"{end}/{file.path}" for file in committed_files(here)}
        assert {key for key in keys_of(client, place) if key.startswith(f"{end}/public/")} == files
        if survived:
            assert end > 15
            return
    pytest.fail("the writer never came to its end")


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
def test_a_writer_killed_again_and_again_leaves_every_change_once(place: dict[str, Any], client: Any) -> None:
    choice = random.Random(1)
    killed = write_and_die("s3", place, 1, [f"event:{choice.randrange(1, 60)}" for _ in range(4)])
    assert killed >= 2
    history = history_of(1)
    for schema in history.tables:
        log = read_log(place, schema.name.schema, schema.name.name)
        places = log.select(["__commit_lsn", "__ordinal", "__op"])
        assert len(places.group_by(places.column_names).aggregate([])) == len(places), "a change is there twice"
        assert multiset(derive_state(schema, log)) == multiset(
            history.expected(schema).select(range(len(schema.columns)))
        )
    objects = {key for key in keys_of(client, place) if not key.startswith("_wallaby/")}
    assert objects == {file.path for file in committed_files(place)}
