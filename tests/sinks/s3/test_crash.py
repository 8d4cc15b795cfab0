"""SIGKILL at seeded requests: afterwards every committed change is there once, and no object nobody names."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from sinks.files.layout import OWN_FOLDER
from sinks.files.reader import Place, committed_files, read_log
from tests.sinks.crashes import state_of, write_and_die
from tests.sinks.crashing_writer import history_of
from wallaby.testing.history import multiset


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
def test_a_writer_killed_between_its_requests_leaves_every_change_once(
    place: dict[str, Any], reading: Callable[[], Place], keys: Callable[[], set[str]]
) -> None:
    choice = random.Random(3)
    deaths = [f"event:{choice.randrange(20, 400)}" for _ in range(5)]
    assert write_and_die("s3", place, 3, deaths) >= 3
    history = history_of(3)
    for schema in history.tables:
        log = read_log(reading(), schema.name.schema, schema.name.name)
        assert multiset(state_of(schema, log)) == multiset(history.expected(schema).select(range(len(schema.columns))))
    data = {key for key in keys() if not key.startswith(OWN_FOLDER)}
    assert data == {file.path for file in committed_files(reading())}
    intents = {key for key in keys() if key.startswith(f"{OWN_FOLDER}/staging")}
    assert len(intents) <= len(deaths), "one for each that died, kept for a day"
