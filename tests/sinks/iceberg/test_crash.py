"""SIGKILL at seeded moments: afterwards every committed change is there once, by content."""

from __future__ import annotations

import random

import pytest

from sinks.iceberg.reader import history_rows, log_rows, mirror_rows
from tests.sinks.crashes import write_and_die
from tests.sinks.crashing_writer import history_of
from tests.sinks.iceberg.lake import Lake
from wallaby.content import canonical_hash
from wallaby.sink import WriteMode
from wallaby.testing.contract.hooks import VERSIONS
from wallaby.testing.history import multiset
from wallaby.testing.versions import expected_versions
from wallaby.transform.mirror import OUTLIERS
from wallaby.transform.state import derive_state


@pytest.mark.chaos
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(
    "options",
    [
        {"mirror_strategy": "position-deletes"},
        {"mirror_strategy": "copy-on-write"},
        {"write_mode": "append"},
        {"write_mode": "history"},
    ],
    ids=["position-deletes", "copy-on-write", "append", "history"],
)
def test_a_writer_killed_again_and_again_leaves_every_change_once(options: dict[str, str], lake: Lake) -> None:
    choice = random.Random(str(options))
    # The first comes early: who lives through the whole history leaves nothing to the others.
    deaths = ["alarm:0.1", *(f"alarm:{choice.uniform(0.2, 2.5):.4f}" for _ in range(5))]
    killed = write_and_die("iceberg", lake.options(**options), 1, deaths)
    assert killed >= 1
    history = history_of(1, WriteMode(options.get("write_mode", "mirror")))
    for schema in history.tables:
        found = lake.catalog.load_table((schema.name.schema, schema.name.name))
        expected = history.expected(schema).select(range(len(schema.columns)))
        if "write_mode" not in options:
            assert multiset(mirror_rows(found, schema)) == multiset(expected), schema.name
            continue
        if options["write_mode"] == "history":
            versions = expected_versions(history.stream, schema, VERSIONS).drop_columns([OUTLIERS])
            assert canonical_hash(history_rows(found, schema, VERSIONS)) == canonical_hash(versions), schema.name
            continue
        log = log_rows(found, schema)
        places = log.select(["__commit_lsn", "__ordinal", "__op"])
        assert len(places.group_by(places.column_names).aggregate([])) == len(places), "a change is there twice"
        assert multiset(derive_state(schema, log)) == multiset(expected), schema.name
