"""The shared database fixtures hand out fresh databases and notice slots left behind."""

from __future__ import annotations

import pytest

from wallaby.postgres.embedded import EmbeddedServer
from wallaby.testing.postgres import ScratchDatabase, scratch_database


def test_each_test_gets_databases_of_its_own(database: ScratchDatabase, target_database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE here (id int)")
    assert database.fetch("SELECT count(*) FROM here") == [(0,)]
    assert target_database.fetch("SELECT to_regclass('here')") == [(None,)]


@pytest.mark.must_not_fail(21)
def test_a_slot_left_behind_is_removed_and_reported(postgres_server: EmbeddedServer) -> None:
    def forget_a_slot() -> None:
        with scratch_database(postgres_server) as scratch:
            scratch.fetch("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
            assert scratch.slots() == ["forgotten"]

    with pytest.raises(AssertionError, match="forgotten"):
        forget_a_slot()
