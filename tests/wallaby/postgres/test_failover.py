"""What a failover would miss is told before it happens, with what to run."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from wallaby.errors import SourceUnavailable
from wallaby.postgres.checks import check_source
from wallaby.postgres.connect import connect
from wallaby.postgres.embedded import EmbeddedServer, free_port
from wallaby.postgres.slot import create_slot, drop_slot, is_standby, mark_failover, read_slot
from wallaby.sink import Finding, Severity
from wallaby.testing.postgres import STANDBY_SLOT, ScratchDatabase, server_for_tests, standby_for_tests


def _check(database: ScratchDatabase, *others: int, **options: Any) -> list[Finding]:
    """Findings about failovers; ``others`` are ports of more servers in the connection string."""
    ports = [database.server.port, *others]
    hosts = ",".join(["127.0.0.1"] * len(ports))
    dsn = f"host={hosts} port={','.join(map(str, ports))} user=postgres dbname={database.name}"
    findings = check_source(dsn=dsn, slot=database.name, publication="p", field="source.options", **options)
    assert all(finding.advice for finding in findings), "advice is missing"
    return [finding for finding in findings if finding.code.startswith("failover") or finding.code == "server-version"]


def _codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject.partition(" ")[0]) for finding in findings]


def test_a_single_server_misses_nothing(database: ScratchDatabase) -> None:
    assert _check(database) == []
    assert _check(database, failover="false") == []


def test_a_server_without_copies_of_slots_says_what_a_failover_costs(
    database: ScratchDatabase, postgres_major: int
) -> None:
    if postgres_major >= 17:
        pytest.skip(f"PostgreSQL {postgres_major} has them")
    assert _codes(_check(database, free_port())) == [("failover-slot", "slot")]
    [finding] = _check(database, failover="true", stream_options=["failover"])
    assert (finding.code, finding.subject) == ("server-version", "source.options.failover")


def test_a_slot_that_standbys_may_not_copy_is_told_where_a_failover_is_expected(
    database: ScratchDatabase, postgres_major: int
) -> None:
    if postgres_major < 17:
        pytest.skip(f"PostgreSQL {postgres_major} has no copies of slots on standbys")
    absent = free_port()
    create_slot(database.dsn, database.name).close()
    [finding] = _check(database, absent)
    assert (finding.code, finding.severity) == ("failover-slot", Severity.WARNING)
    assert "failover to true" in finding.advice
    mark_failover(database.dsn, database.name)
    mark_failover(database.dsn, database.name)
    order, standby = _check(database, absent)
    assert (order.code, standby.code) == ("failover-order", "failover-standby")
    assert "ALTER SYSTEM SET synchronized_standby_slots" in order.advice
    assert str(absent) in standby.subject
    assert _codes(_check(database, failover="true")) == [("failover-order", "server")]
    drop_slot(database.dsn, database.name)


def test_a_slot_with_two_phase_that_17_cannot_give_to_standbys_is_an_error(
    database: ScratchDatabase, postgres_major: int
) -> None:
    if postgres_major < 17:
        pytest.skip(f"PostgreSQL {postgres_major} has no copies of slots on standbys")
    found = _codes(_check(database, failover="true", stream_options=["two_phase", "failover"]))
    assert found == [("failover-two-phase" if postgres_major == 17 else "failover-order", found[0][1])]


@pytest.mark.timeout(300)
def test_what_a_standby_lacks_is_named_with_what_to_run_there(postgres_major: int) -> None:
    if postgres_major < 17:
        pytest.skip(f"PostgreSQL {postgres_major} has no copies of slots on standbys")
    with (
        server_for_tests(postgres_major, {"synchronized_standby_slots": STANDBY_SLOT}) as primary,
        standby_for_tests(primary) as standby,
    ):
        database = ScratchDatabase(primary, "postgres")
        create_slot(database.dsn, database.name, failover=True).close()
        # Several hosts: whichever comes first, the one that takes writes is meant.
        dsn = f"host=127.0.0.1,127.0.0.1 port={standby.port},{primary.port} user=postgres dbname=postgres"
        with connect(dsn, application_name="test") as connection:
            assert not is_standby(connection)
            slot = read_slot(connection, database.name)
            assert slot is not None
            assert slot.failover
        with connect(standby.dsn(), application_name="test") as connection:
            assert is_standby(connection)
        alone = dsn.replace(str(primary.port), str(free_port()))
        with pytest.raises(SourceUnavailable, match="waits to be promoted"):
            connect(alone, application_name="test")
        _until_nothing_is_missed(database, standby)

        standby.halt()
        _until(database, f"SELECT FROM pg_replication_slots WHERE slot_name = '{STANDBY_SLOT}' AND NOT active")
        assert _codes(_check(database, standby.port)) == [("failover-standby", "slot"), ("failover-standby", "standby")]
        standby.start({"sync_replication_slots": "off", "hot_standby_feedback": "off"})
        _until(database, "SELECT FROM pg_stat_replication WHERE state = 'streaming'")
        advice = [finding.advice for finding in _check(database, standby.port)]
        assert any("SET sync_replication_slots = on" in sentence for sentence in advice)
        assert any("SET hot_standby_feedback = on" in sentence for sentence in advice)
        with server_for_tests(postgres_major) as stranger:
            foreign = _check(database, stranger.port)[-1]
            assert "another PostgreSQL cluster" in foreign.message
        with connect(standby.dsn(), application_name="test") as connection:
            connection.execute("SELECT pg_promote()")
        assert "takes writes" in _check(database, standby.port)[-1].message


def _until_nothing_is_missed(database: ScratchDatabase, standby: EmbeddedServer) -> None:
    deadline = time.monotonic() + 60
    while missed := _check(database, standby.port, failover="true"):
        assert time.monotonic() < deadline, f"still missed: {missed}"
        # The copy is kept once decoding may begin where the standby can; such a record lets the slot move there.
        database.execute(
            "SELECT pg_log_standby_snapshot()",
            f"SELECT pg_replication_slot_advance('{database.name}', pg_current_wal_lsn())",
        )
        threading.Event().wait(0.05)  # between two questions: no server gives a sign


def _until(database: ScratchDatabase, query: str) -> None:
    deadline = time.monotonic() + 60
    while not database.fetch(query):
        assert time.monotonic() < deadline, f"it never came true: {query}"
        threading.Event().wait(0.02)
