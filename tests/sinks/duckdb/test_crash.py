"""A writing process ended by the kernel in the middle of whatever it does: nothing lost, nothing doubled."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pytest

from sinks.duckdb.reader import history_rows, log_rows, read_mirror
from tests.sinks.crashes import state_of, write_and_die
from tests.sinks.crashing_writer import history_of
from wallaby.sink import WriteMode
from wallaby.testing.contract.hooks import VERSIONS
from wallaby.testing.history import multiset
from wallaby.testing.versions import expected_versions
from wallaby.transform.mirror import OUTLIERS


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("mode", ["mirror", "append", "history"])
def test_a_writer_killed_again_and_again_leaves_every_change_once(mode: str, path: Path) -> None:
    choice = random.Random(mode)
    deaths = [f"alarm:{choice.uniform(0.02, 0.4):.4f}" for _ in range(4)]
    killed = write_and_die("duckdb", {"dsn": str(path), "write_mode": mode}, 1, deaths)
    assert killed >= 1
    history = history_of(1, WriteMode(mode))
    for schema in history.tables:
        expected = history.expected(schema).select(range(len(schema.columns)))
        if mode == "history":
            with duckdb.connect(str(path), read_only=True) as connection:
                found = history_rows(connection, schema, VERSIONS).drop_columns([OUTLIERS])
            expected = expected_versions(history.stream, schema, VERSIONS).drop_columns([OUTLIERS])
        elif mode == "mirror":
            found = read_mirror(path, schema).select(range(len(schema.columns)))
        else:
            with duckdb.connect(str(path), read_only=True) as connection:
                log = log_rows(connection, schema)
            found = state_of(schema, log).select(range(len(schema.columns)))
        assert multiset(found) == multiset(expected), schema.name
