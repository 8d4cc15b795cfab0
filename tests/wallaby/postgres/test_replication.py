"""The stream against a real server: both drains, keepalives, confirmations, refusals and broken connections."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.wallaby.postgres.frames import PATIENCE_S, Frame, commits, drain_until_error, read_until, take
from wallaby.errors import CheckFailed, SlotBusy, SlotLost, SourceUnavailable
from wallaby.lsn import Lsn
from wallaby.postgres.connect import connect
from wallaby.postgres.replication import ReplicationStream, StreamOptions, start_command
from wallaby.postgres.slot import create_slot, current_wal_lsn, drop_slot, read_slot, terminate_holder
from wallaby.settings import Limits
from wallaby.testing.postgres import ScratchDatabase, server_for_tests
from wallaby.testing.proxy import FaultProxy


@pytest.fixture
def published(database: ScratchDatabase) -> Iterator[ScratchDatabase]:
    """A database with a table, a publication ``p`` and a slot named like the database."""
    database.execute(
        "CREATE TABLE shop (id int PRIMARY KEY, note text)",
        "CREATE TABLE other (id int)",
        "CREATE PUBLICATION p FOR TABLE shop",
        f"SELECT pg_create_logical_replication_slot('{database.name}', 'pgoutput')",
    )
    yield database
    drop_slot(database.dsn, database.name)


def _open(
    database: ScratchDatabase,
    *,
    dsn: str = "",
    start: int = 0,
    compiled: bool | None = None,
    limits: Limits | None = None,
    publication: str = "p",
) -> ReplicationStream:
    with connect(database.dsn, application_name="test") as connection:
        # A walsender outlives its client by the moment it takes to notice.
        assert terminate_holder(connection, database.name)
    return ReplicationStream.open(
        dsn or database.dsn,
        slot=database.name,
        publications=[publication],
        start=Lsn(start),
        compiled=compiled,
        limits=limits,
    )


@pytest.mark.parametrize("arena_bytes", [1 << 10, 8 << 20])
def test_both_drains_give_identical_bytes_in_arenas_of_any_size(published: ScratchDatabase, arena_bytes: int) -> None:
    published.execute(
        "INSERT INTO shop SELECT g, repeat('x', g % 300) FROM generate_series(1, 5000) AS g",
        "INSERT INTO shop VALUES (0, repeat('long', 1000000))",
        "DELETE FROM shop WHERE id < 10",
    )
    seen = {}
    for compiled in (True, False):
        with _open(published, compiled=compiled, limits=Limits(arena_bytes=arena_bytes)) as stream:
            frames = read_until(stream, commits(3))
            assert len(stream.arena.data) <= max(arena_bytes, 1 << 23)
        # Keepalives come when they come, and the server describes a table again whenever it likes.
        seen[compiled] = [frame for frame in frames if frame.kind not in "kR"]
    assert [frame.body for frame in seen[True]] == [frame.body for frame in seen[False]]
    assert sum(frame.kind == "I" for frame in seen[True]) == 5001


def test_it_works_over_unix_sockets_and_waits_no_longer_than_told(published: ScratchDatabase) -> None:
    with _open(published, dsn=published.unix_dsn) as stream:
        while stream.receive(0.0):
            list(take(stream.arena))
        begin = time.monotonic()
        stream.receive(0.05)
        assert time.monotonic() - begin < 5
        published.execute("INSERT INTO shop VALUES (1, 'a')")
        kinds = [frame.kind for frame in read_until(stream, commits(1)) if frame.kind != "k"]
        assert kinds == ["B", "R", "I", "C"]


@pytest.mark.must_not_fail(1)
def test_the_slot_advances_while_only_unpublished_tables_are_busy(published: ScratchDatabase) -> None:
    with _open(published) as stream, connect(published.dsn, application_name="test") as connection:
        before = read_slot(connection, published.name)
        assert before is not None
        assert before.confirmed_flush is not None
        published.execute("INSERT INTO other SELECT generate_series(1, 20000)")
        goal = current_wal_lsn(connection)

        def has_arrived(frames: list[Frame]) -> bool:
            if not any(frame.kind == "k" and frame.wal_end >= goal for frame in frames):
                stream.send_status(received=Lsn(0), flushed=Lsn(0), reply_requested=True)
                return False
            return True

        frames = read_until(stream, has_arrived)
        assert {frame.kind for frame in frames} <= {"k", "B", "C"}
        reached = max(frame.wal_end for frame in frames)
        stream.send_status(received=reached, flushed=reached, reply_requested=True)
        read_until(stream, lambda found: any(frame.kind == "k" for frame in found))
        after = read_slot(connection, published.name)
        assert after is not None
        assert after.confirmed_flush == reached > before.confirmed_flush


@pytest.mark.must_not_fail(2)
def test_only_what_was_confirmed_is_forgotten_and_confirmations_never_go_back(published: ScratchDatabase) -> None:
    published.execute("INSERT INTO shop VALUES (1, 'first')", "INSERT INTO shop VALUES (2, 'second')")
    with _open(published) as stream:
        frames = read_until(stream, commits(2))
        first_end = Lsn(int.from_bytes(next(f for f in frames if f.kind == "C").body[9:17], "big"))
        stream.send_status(received=first_end, flushed=first_end)
        stream.send_status(received=Lsn(1), flushed=Lsn(1), reply_requested=True)
        read_until(stream, lambda found: any(frame.kind == "k" for frame in found))
    with _open(published) as stream:
        again = read_until(stream, commits(1))
    assert [frame.body for frame in again if frame.kind == "I"] == [
        frame.body for frame in frames if frame.kind == "I"
    ][1:]


def test_a_slot_in_use_is_busy_and_a_missing_one_is_lost(published: ScratchDatabase) -> None:
    with _open(published), pytest.raises(SlotBusy) as caught:
        ReplicationStream.open(published.dsn, slot=published.name, publications=["p"], start=Lsn(0))
    assert caught.value.where["slot"] == published.name
    with pytest.raises(SlotLost):
        ReplicationStream.open(published.dsn, slot="never_made", publications=["p"], start=Lsn(0))


@pytest.mark.must_not_fail(3)
def test_an_invalidated_slot_is_lost(published: ScratchDatabase) -> None:
    published.execute(
        "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'",
        "SELECT pg_reload_conf()",
        "SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'fill', repeat('x', 2000))",
        "SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'fill', repeat('x', 2000))",
        "SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'fill', repeat('x', 2000))",
        "CHECKPOINT",
    )
    published.execute("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    with connect(published.dsn, application_name="test") as connection:
        facts = read_slot(connection, published.name)
    assert facts is not None
    assert facts.is_lost
    with pytest.raises(SlotLost):
        _open(published)


def test_a_missing_publication_ends_the_stream_instead_of_skipping_changes(published: ScratchDatabase) -> None:
    with _open(published, publication="not_made") as stream:
        published.execute("INSERT INTO shop VALUES (1, 'a')")
        with pytest.raises(CheckFailed, match="not_made"):
            drain_until_error(stream)


@pytest.mark.must_not_fail(3)
def test_a_publication_dropped_while_streaming_ends_the_stream(published: ScratchDatabase) -> None:
    with _open(published) as stream:
        published.execute("INSERT INTO shop VALUES (1, 'a')", "DROP PUBLICATION p", "INSERT INTO shop VALUES (2, 'b')")
        with pytest.raises(CheckFailed):
            drain_until_error(stream)


@pytest.mark.must_not_fail(17)
def test_a_reset_connection_is_noticed_and_the_next_stream_goes_on(published: ScratchDatabase) -> None:
    with FaultProxy(published.server.port) as proxy:
        with _open(published, dsn=proxy.dsn(published.dsn)) as stream:
            published.execute("INSERT INTO shop VALUES (1, 'a')")
            first = read_until(stream, commits(1))
            proxy.cut()
            with pytest.raises(SourceUnavailable):
                drain_until_error(stream)
            with pytest.raises(SourceUnavailable):
                stream.receive(0)
        with _open(published, dsn=proxy.dsn(published.dsn)) as stream:
            again = read_until(stream, commits(1))
    assert [f.body for f in again if f.kind == "I"] == [f.body for f in first if f.kind == "I"]


@pytest.mark.must_not_fail(17)
def test_a_server_that_falls_silent_is_noticed(published: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallaby.postgres.replication._ASK_AFTER_S", 0.0)
    monkeypatch.setattr("wallaby.postgres.replication._ANSWER_WITHIN_S", 0.05)
    with FaultProxy(published.server.port) as proxy, _open(published, dsn=proxy.dsn(published.dsn)) as stream:
        while stream.receive(0.1):
            list(take(stream.arena))
        proxy.black_hole()
        with pytest.raises(SourceUnavailable, match="does not answer"):
            drain_until_error(stream, timeout_s=0.02)


def test_a_terminated_walsender_is_unavailable_not_lost(published: ScratchDatabase) -> None:
    with _open(published) as stream:
        stream.receive(0.1)
        published.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active_pid IS NOT NULL"
            f" AND slot_name = '{published.name}'"
        )
        with pytest.raises(SourceUnavailable) as caught:
            drain_until_error(stream)
        assert not isinstance(caught.value, SlotBusy)


@pytest.mark.must_not_fail(22)
def test_names_are_quoted_for_the_replication_grammar() -> None:
    names = ["plain", 'Quo"te', "it's, two"]
    command = start_command("slot_1", names, Lsn.parse("1/A0"), options=StreamOptions(messages=False), major=14)
    assert command == (
        "START_REPLICATION SLOT \"slot_1\" LOGICAL 1/A0 (proto_version '2',"
        ' publication_names \'"plain","Quo""te","it\'\'s, two"\', binary \'true\')'
    )


@pytest.mark.parametrize(
    ("major", "options", "expected"),
    [
        (14, StreamOptions(), "proto_version '2'"),
        (15, StreamOptions(two_phase=True), "two_phase 'on'"),
        (15, StreamOptions(), "proto_version '3'"),
        (16, StreamOptions(), "proto_version '4'"),
        (18, StreamOptions(), "proto_version '4'"),
        (14, StreamOptions(streaming="on"), "streaming 'on'"),
        (15, StreamOptions(streaming="parallel"), "streaming 'on'"),
        (16, StreamOptions(streaming="parallel"), "streaming 'parallel'"),
        (16, StreamOptions(origin="none"), "origin 'none'"),
    ],
)
def test_what_is_asked_for_follows_the_servers_version(major: int, options: StreamOptions, expected: str) -> None:
    assert expected in start_command("s", ["p"], Lsn(0), options=options, major=major)


@pytest.mark.parametrize(
    ("major", "options", "field"),
    [
        (14, StreamOptions(two_phase=True), "source.options.two_phase"),
        (15, StreamOptions(origin="none"), "source.options.origin"),
    ],
)
def test_what_a_server_is_too_old_for_is_named(major: int, options: StreamOptions, field: str) -> None:
    with pytest.raises(CheckFailed, match=f"and the source has {major}") as caught:
        start_command("s", ["p"], Lsn(0), options=options, major=major)
    assert caught.value.where["field"] == field


@pytest.mark.must_not_fail(22)
def test_publications_with_awkward_names_stream(published: ScratchDatabase) -> None:
    name = 'it\'s "Über", 2'
    quoted = '"' + name.replace('"', '""') + '"'
    published.execute(f"CREATE PUBLICATION {quoted} FOR TABLE other")
    published.execute("INSERT INTO other VALUES (1)")
    with _open(published, publication=name) as stream:
        assert "I" in {frame.kind for frame in read_until(stream, commits(1))}


def test_a_flood_is_left_alone_for_a_moment_at_most(published: ScratchDatabase) -> None:
    published.execute("INSERT INTO shop SELECT g, repeat('x', 300) FROM generate_series(1, 60000) AS g")
    with _open(published) as stream:
        assert stream.rest_s == 0
        rests, rows = [], 0
        while rows < 60_000:
            stream.receive(PATIENCE_S)
            rests.append(stream.rest_s)
            rows += sum(frame.kind == "I" for frame in take(stream.arena))
        assert 0 <= max(rests) <= 0.030
        stream.is_behind = True
        assert stream.is_behind
        published.execute("INSERT INTO shop VALUES (0, 'a')")
        read_until(stream, lambda found: any(frame.kind == "C" for frame in found))
        assert 0 <= stream.rest_s <= 0.030


def test_the_server_says_when_it_sent_what_waits(published: ScratchDatabase) -> None:
    published.execute("INSERT INTO shop VALUES (1, 'a')")
    [(before,)] = published.fetch("SELECT extract(epoch FROM clock_timestamp())::float8")
    with _open(published) as stream:
        assert stream.sent_at_us is None
        assert stream.receive(PATIENCE_S)
        sent_at_us = stream.sent_at_us
        assert sent_at_us is not None
        [(after,)] = published.fetch("SELECT extract(epoch FROM clock_timestamp())::float8")
        assert before <= sent_at_us / 1e6 <= after
        stream.arena.data[stream.arena.begin + 4] = 0
        assert stream.sent_at_us is None


@pytest.mark.must_not_fail(18)
def test_a_stream_that_waits_for_a_standby_which_is_away_is_not_ended_by_the_servers_warning(
    postgres_major: int,
) -> None:
    if postgres_major < 17:
        pytest.skip(f"PostgreSQL {postgres_major} does not wait for standbys")
    with server_for_tests(postgres_major) as server:
        database = ScratchDatabase(server, "postgres")
        database.execute(
            "CREATE TABLE shop (id int PRIMARY KEY)",
            "CREATE PUBLICATION p FOR TABLE shop",
            "SELECT pg_create_physical_replication_slot('away', true)",
            "ALTER SYSTEM SET synchronized_standby_slots = 'away'",
            "SELECT pg_reload_conf()",
        )
        create_slot(database.dsn, database.name, failover=True).close()
        with _open(database) as stream:
            database.execute("INSERT INTO shop VALUES (1)")
            waits = "SELECT FROM pg_stat_activity WHERE wait_event = 'WaitForStandbyConfirmation'"
            deadline = time.monotonic() + PATIENCE_S
            while not database.fetch(waits):
                stream.receive(0.05)
                assert time.monotonic() < deadline, "the stream does not wait"
            assert "I" not in {frame.kind for frame in take(stream.arena)}
            database.execute("ALTER SYSTEM RESET synchronized_standby_slots", "SELECT pg_reload_conf()")
            assert [frame.kind for frame in read_until(stream, commits(1))].count("I") == 1
