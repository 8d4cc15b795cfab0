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
@pytest.mark.parametrize("mode", ["mirror", "append", "history"])
def test_a_writer_killed_again_and_again_leaves_every_change_once(mode: str, root: Path) -> None:
    choice = random.Random(mode)
    # The first comes early: who lives through the whole history leaves nothing to the others.
    deaths = ["alarm:0.1", *(f"alarm:{choice.uniform(0.05, 0.8):.4f}" for _ in range(3))]
    given = {"path": str(root), "write_mode": mode, "checkpoint_every": 2}
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
