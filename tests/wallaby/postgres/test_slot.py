"""Slots: made with a snapshot, described, freed from a dead holder, dropped; and who the source is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.wallaby.postgres.frames import drain_until_error
from wallaby.errors import AlreadyExists, SlotBusy, SourceUnavailable
from wallaby.lsn import Lsn
from wallaby.postgres.connect import connect
from wallaby.postgres.replication import ReplicationStream
from wallaby.postgres.slot import (
    create_slot,
    current_wal_lsn,
    drop_slot,
    is_standby,
    read_ancestry,
    read_identity,
    read_slot,
    terminate_holder,
)
from wallaby.testing.postgres import ScratchDatabase, server_for_tests


def _stream(database: ScratchDatabase, application_name: str) -> ReplicationStream:
    return ReplicationStream.open(
        database.dsn, slot=database.name, publications=["p"], start=Lsn(0), application_name=application_name
    )


def test_a_slot_lives_from_creation_to_drop(database: ScratchDatabase) -> None:
    with connect(database.dsn, application_name="test") as connection:
        assert read_slot(connection, database.name) is None
        with create_slot(database.dsn, database.name) as created:
            assert created.snapshot_name
            assert created.taken_at_us > 1_700_000_000_000_000
            with pytest.raises(AlreadyExists):
                create_slot(database.dsn, database.name)
        facts = read_slot(connection, database.name)
        assert facts is not None
        assert (facts.plugin, facts.database, facts.active) == ("pgoutput", database.name, False)
        assert facts.confirmed_flush == created.consistent_point
        assert not facts.is_lost
        assert current_wal_lsn(connection) >= created.consistent_point
    assert drop_slot(database.dsn, database.name)
    assert not drop_slot(database.dsn, database.name)


def test_creation_gives_up_on_a_transaction_that_stays_open_and_leaves_no_slot(database: ScratchDatabase) -> None:
    with database.connect(autocommit=False) as writer:
        writer.execute("CREATE TABLE unfinished (id int)")
        with pytest.raises(SourceUnavailable, match="open"):
            create_slot(database.dsn, database.name, timeout_s=0.2)
    assert database.slots() == []


@pytest.mark.must_not_fail(20)
def test_only_a_holder_of_our_name_is_terminated(database: ScratchDatabase) -> None:
    database.execute("CREATE PUBLICATION p")
    create_slot(database.dsn, database.name).close()
    with connect(database.dsn, application_name="test") as connection:
        with _stream(database, "wallaby:flow-a:3") as stream:
            with pytest.raises(SlotBusy):
                drop_slot(database.dsn, database.name, timeout_s=0.1)
            assert not terminate_holder(connection, database.name, application_prefix="wallaby:flow-b:")
            assert terminate_holder(connection, database.name, application_prefix="wallaby:flow-a:")
            with pytest.raises(SourceUnavailable):
                drain_until_error(stream)
        assert terminate_holder(connection, database.name)
    assert drop_slot(database.dsn, database.name)


def test_the_source_says_who_it_is(database: ScratchDatabase, postgres_major: int) -> None:
    with connect(database.dsn, application_name="test") as connection:
        identity = read_identity(connection, "a_slot")
    [(system, timeline)] = database.fetch(
        "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
    )
    assert identity.system_identifier == system
    assert (identity.timeline, identity.database) == (timeline, database.name)
    assert (identity.major, identity.slot) == (postgres_major, "a_slot")


@pytest.mark.must_not_fail(18)
def test_a_promoted_server_tells_where_its_history_left_the_old_timeline(postgres_major: int) -> None:
    with server_for_tests(postgres_major) as server:
        with connect(server.dsn(), application_name="test") as connection:
            before = read_identity(connection)
            assert read_ancestry(server.dsn(), server=before) == ()
            written = current_wal_lsn(connection)
        server.halt()
        (server.directory / "data" / "standby.signal").touch()
        server.start()
        with connect(server.dsn(), application_name="test") as connection:
            assert is_standby(connection)
            with pytest.raises(SourceUnavailable, match="failed over"):
                create_slot(server.dsn(), "s", server=before)
            connection.execute("SELECT pg_promote()")
            assert not is_standby(connection)
            after = read_identity(connection)
            assert after.timeline == before.timeline + 1
            with pytest.raises(SourceUnavailable, match="failed over"):
                read_ancestry(server.dsn(), server=replace(after, timeline=after.timeline + 1))
            [(timeline, forked)] = read_ancestry(server.dsn(), server=after)
            assert timeline == before.timeline
            assert written <= forked <= current_wal_lsn(connection)


def test_what_was_decided_about_one_server_is_not_done_on_another(database: ScratchDatabase) -> None:
    """A connection string may lead elsewhere from one connection to the next."""
    database.execute("CREATE PUBLICATION p")
    with connect(database.dsn, application_name="test") as connection:
        here = read_identity(connection)
    elsewhere = [
        replace(here, system_identifier=here.system_identifier ^ 1),
        replace(here, timeline=here.timeline + 1),
        replace(here, database="elsewhere"),
    ]
    for server in elsewhere:
        with pytest.raises(SourceUnavailable, match="failed over"):
            create_slot(database.dsn, database.name, server=server)
    assert database.slots() == []
    create_slot(database.dsn, database.name, server=here).close()
    for server in (*elsewhere, here):
        try:
            ReplicationStream.open(
                database.dsn, slot=database.name, publications=["p"], start=Lsn(0), server=server
            ).close()
        except SourceUnavailable:
            assert server is not here
        else:
            assert server is here
    with connect(database.dsn, application_name="test") as connection:
        assert terminate_holder(connection, database.name)
    drop_slot(database.dsn, database.name)
