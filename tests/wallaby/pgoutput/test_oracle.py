"""Random tables, values and changes through a real server: all we decode equals its own text, in every wire format."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracle.run import Oracle
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
