"""Random tables, values and changes through a real server: all we decode equals its own text, in every wire format."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.oracle.run import Oracle, require_equal
from wallaby.postgres.embedded import EmbeddedServer
from wallaby.testing.postgres import scratch_database

SEEDS = range(4)
"""``make oracle`` runs as many as wanted."""


@pytest.fixture(scope="module")
def oracle(postgres_server: EmbeddedServer, postgres_major: int) -> Iterator[Oracle]:
    with scratch_database(postgres_server) as database:
        made = Oracle(database, postgres_major)
        yield made
        made.close()


@pytest.mark.must_not_fail(7, 8, 9, 11, 12, 13, 22)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_decoded_equals_what_the_server_prints(oracle: Oracle, seed: int) -> None:
    tally = oracle.check(seed)
    assert tally.tables > 0
    assert tally.changes > 0


def test_the_end_of_a_rollback_that_came_last_is_read_too(postgres_server: EmbeddedServer, postgres_major: int) -> None:
    """Its rows are flushed by somebody else's commit, its own record by nobody: it would be streamed and never end."""
    with scratch_database(postgres_server) as database, database.connect() as worker, database.connect() as other:
        worker.execute("CREATE SCHEMA s CREATE TABLE t (n int4, v text)")
        worker.execute("CREATE PUBLICATION everything FOR TABLE s.t")
        oracle = Oracle(database, postgres_major)
        with oracle._slot():
            with worker.transaction(force_rollback=True):
                worker.execute("INSERT INTO s.t SELECT n, repeat('x', 999) FROM generate_series(1, 99) n")
                other.execute("COMMENT ON SCHEMA s IS 'a commit'")
            oracle.flush("s")
            messages = oracle._peek_streamed("everything")
        assert messages, "the server did not stream the transaction"
        assert not oracle._decode(messages, random.Random(1)).tables
        oracle.close()


def test_a_difference_is_told_with_its_column_and_from_where_it_begins() -> None:
    ours, theirs = Counter([(("v", "x" * 300 + "a"),)]), Counter([(("v", "x" * 300 + "b"),)])
    with pytest.raises(AssertionError) as caught:
        require_equal(ours, theirs, "seed 5, text")
    told = str(caught.value)
    assert told.startswith("seed 5, text: 1 rows we have and the server has not, 1 the other way")
    assert f"'v': {'x' * 20 + 'a'!r} is {'x' * 20 + 'b'!r} from character 280 on" in told
