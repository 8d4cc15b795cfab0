"""SIGKILL at seeded file-system calls: afterwards every committed change is there once, by content."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sinks.files.reader import committed_files, read_log
from tests.sinks.crashes import state_of, write_and_die
from tests.sinks.crashing_writer import history_of
from wallaby.testing.history import multiset


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("seed", range(2))
def test_a_writer_killed_again_and_again_leaves_every_change_once(seed: int, tmp_path: Path) -> None:
    choice = random.Random(seed)
    deaths = [f"event:{choice.randrange(1, 160)}" for _ in range(6)]
    options = {"path": str(tmp_path), "fsync": False}
    killed = write_and_die("files", options, seed, deaths)
    assert killed >= 3
    history = history_of(seed)
    for schema in history.tables:
        log = read_log(tmp_path, schema.name.schema, schema.name.name)
        assert multiset(state_of(schema, log)) == multiset(history.expected(schema).select(range(len(schema.columns))))
    committed = {tmp_path / file.path for file in committed_files(tmp_path)}
    visible = set(tmp_path.rglob("*.parquet"))
    assert visible <= committed
    assert {file.metadata.num_rows for file in map(pq.ParquetFile, visible)}
