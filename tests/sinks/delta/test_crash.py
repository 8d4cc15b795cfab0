"""A writing process ended by the kernel in the middle of whatever it does: nothing lost, nothing doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_history, read_log, read_mirror
from tests.sinks.crashes import write_and_die
from tests.sinks.crashing_writer import history_of
from wallaby.content import canonical_hash
from wallaby.sink import WriteMode
from wallaby.testing.contract.hooks import VERSIONS
from wallaby.testing.versions import expected_versions
from wallaby.transform.mirror import OUTLIERS
from wallaby.transform.state import derive_state


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("mode", ["mirror", "append", "history", "mirror with vectors"])
def test_a_writer_killed_again_and_again_leaves_every_change_once(mode: str, root: Path) -> None:
    choice = random.Random(mode)
    mode, _, with_vectors = mode.partition(" ")
    # The first comes early: who lives through the whole history leaves nothing to the others.
    deaths = ["alarm:0.1", *(f"alarm:{choice.uniform(0.05, 0.8):.4f}" for _ in range(3))]
    given = {"path": str(root), "write_mode": mode, "checkpoint_every": 2, "deletion_vectors": bool(with_vectors)}
    assert write_and_die("delta", given, 1, deaths) >= 1
    options = DeltaOptions.parse(given)
    history = history_of(1, WriteMode(mode))
    for schema in history.tables:
        expected = history.expected(schema).select(range(len(schema.columns)))
        if mode == "history":
            found = read_history(options, schema)
            expected = expected_versions(history.stream, schema, VERSIONS).drop_columns([OUTLIERS])
        elif mode == "mirror":
            found = read_mirror(options, schema)
        else:
            log = read_log(options, schema)
            places = log.select(["__commit_lsn", "__ordinal", "__op"])
            assert len(places.group_by(places.column_names).aggregate([])) == len(places), "a change is there twice"
            found = derive_state(schema, log).select(range(len(schema.columns)))
        assert canonical_hash(found) == canonical_hash(expected), schema.name


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("first", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_a_writer_killed_at_each_step_of_a_commit_with_vectors_leaves_every_change_once(first: int, root: Path) -> None:
    """A step is a file opened, linked, removed or a folder made: one writer after the other dies some steps later."""
    deaths = [f"event:{first + 4 * number}" for number in range(5)]
    given = {"path": str(root), "checkpoint_every": 3, "deletion_vectors": True}
    assert write_and_die("delta", given, 2, deaths) >= len(deaths) - 1
    history = history_of(2)
    for schema in history.tables:
        found = read_mirror(DeltaOptions.parse(given), schema)
        expected = history.expected(schema).select(range(len(schema.columns)))
        assert canonical_hash(found) == canonical_hash(expected), schema.name
