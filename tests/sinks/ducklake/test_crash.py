"""A writing process ended by the kernel in the middle of whatever it does: nothing lost, nothing doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sinks.duckdb.reader import log_rows, mirror_rows
from sinks.ducklake.config import CatalogKind
from tests.sinks.crashes import state_of, write_and_die
from tests.sinks.crashing_writer import history_of
from tests.sinks.ducklake.conftest import lake_options, reading
from wallaby.testing.history import multiset
from wallaby.testing.postgres import ScratchDatabase


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(
    ("kind", "mode"),
    [(CatalogKind.DUCKDB, "mirror"), (CatalogKind.SQLITE, "append"), (CatalogKind.POSTGRES, "mirror")],
)
def test_a_writer_killed_again_and_again_leaves_every_change_once(
    kind: CatalogKind, mode: str, tmp_path: Path, target_database: ScratchDatabase
) -> None:
    choice = random.Random(mode)
    deaths = [f"alarm:{choice.uniform(1.0, 3.0):.4f}" for _ in range(3)]
    options = {**lake_options(tmp_path, kind, target_database), "write_mode": mode, "merge_every": 4}
    assert write_and_die("ducklake", options, 1, deaths) >= 1
    history = history_of(1)
    with reading(options) as connection:
        for schema in history.tables:
            expected = history.expected(schema).select(range(len(schema.columns)))
            if mode == "mirror":
                found = mirror_rows(connection, schema).select(range(len(schema.columns)))
            else:
                log = log_rows(connection, schema)
                found = state_of(schema, log).select(range(len(schema.columns)))
            assert multiset(found) == multiset(expected), schema.name
