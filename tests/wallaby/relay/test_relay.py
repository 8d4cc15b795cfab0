"""The source's loop on a real slot: what is confirmed when, and what every lane gets, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.wallaby.relay.world import LOG, MIRROR, QUICK, Died, World, dismantle, make_world
from wallaby.errors import SourceUnavailable
from wallaby.testing.postgres import ScratchDatabase, scratch_database, server_for_tests
from wallaby.testing.proxy import FaultProxy


@pytest.fixture
def world(database: ScratchDatabase) -> Iterator[World]:
    """Tables ``a`` and ``b``, published; ``idle``, published and never written; ``private``, not published."""
    made = make_world(
        database,
        "CREATE TABLE a (id int PRIMARY KEY, note text)",
        "CREATE TABLE b (id int PRIMARY KEY, note text)",
        "CREATE TABLE private (id int)",
        "CREATE PUBLICATION p FOR TABLE a, b",
    )
    yield made
    dismantle(made)


def require_equal(world: World) -> None:
    """Mirror and source hold the same."""
    for table in ("a", "b"):
        assert world.rows(table) == world.source_rows(table)


@pytest.mark.must_not_fail(1)
def test_the_slot_moves_on_while_published_tables_are_idle_and_others_are_busy(world: World) -> None:
    with world.run() as run:
        for _ in range(3):
            world.database.execute("INSERT INTO private SELECT generate_series(1, 2000)")
            run.caught_up()
    assert world.log.targets == {}


@pytest.mark.must_not_fail(1, 2)
def test_an_idle_stretch_between_changes_loses_none(world: World) -> None:
    with world.run() as run:
        for i in range(3):
            world.database.execute(
                f"INSERT INTO a VALUES ({i}, 'x')", "INSERT INTO private SELECT generate_series(1, 500)"
            )
            run.caught_up()
    assert world.logged("a") == [("i", 0), ("i", 1), ("i", 2)]


@pytest.mark.must_not_fail(2, 15)
def test_a_slow_lane_holds_the_slot_but_not_its_peer(world: World) -> None:
    """Several hundred small transactions: the peer has all of them while the slow lane has none."""
    with world.run(held=[MIRROR]) as run:
        before = world.wal
        for i in range(400):
            world.database.execute(f"INSERT INTO a VALUES ({i}, 'x')")
        run.until(lambda: run.has_rows(LOG, 400), "the other lane gets everything")
        assert len(world.logged("a")) == 400
        assert world.rows("a") == []
        assert world.confirmed <= before
        assert all(upto.lsn <= before for upto, _ in world.checkpoints)
        run.transport.release(MIRROR)
        run.caught_up()
    require_equal(world)


@pytest.mark.must_not_fail(15, 17)
def test_reading_stops_at_the_byte_budget_and_the_server_still_hears_from_us(world: World) -> None:
    """The held lane spends the budget; status updates go on for many times the server's patience."""
    world.database.execute(f"ALTER DATABASE {world.database.name} SET wal_sender_timeout = '1s'")
    small = replace(QUICK, window_bytes_max=64 << 10, inflight_bytes_max=256 << 10, arena_bytes=64 << 10)
    with world.run(limits=small, held=[MIRROR]) as run:
        for i in range(40):
            world.database.execute(
                f"INSERT INTO a SELECT {i} * 100 + g, repeat('x', 1000) FROM generate_series(1, 100) g"
            )
        run.until(lambda: run.relay.status.lanes[0].inflight_bytes >= 256 << 10, "the budget is spent")
        later = f"now() > '{_now(world)}'::timestamptz + interval '4 s'"
        replied = f"SELECT reply_time > now() - interval '1 s' FROM pg_stat_replication WHERE {later}"
        run.until(lambda: world.database.fetch(replied) == [(True,)], "replies, four seconds later")
        assert sum(window.nbytes for window in run.transport.published) < 1 << 20
        run.transport.release(MIRROR)
        run.caught_up()
    require_equal(world)
    assert len(world.logged("a")) == 4000


def _now(world: World) -> str:
    [(now,)] = world.database.fetch("SELECT now()::text")
    return str(now)


@pytest.mark.must_not_fail(2)
def test_lanes_that_stood_at_different_places_get_every_change_once(world: World) -> None:
    """The source ends without ceremony while one lane is far behind; the next epoch begins where the slower one is."""
    with world.run() as run:
        world.database.execute("INSERT INTO a SELECT g, 'first' FROM generate_series(1, 50) g")
        run.caught_up()
        run.transport.hold(MIRROR)
        for i in range(60, 70):
            world.database.execute(
                f"INSERT INTO a VALUES ({i}, 'x')", f"UPDATE a SET note = 'y{i}' WHERE id = {i - 59}"
            )
        run.until(lambda: run.has_rows(LOG, 70), "the log is ahead")
        run.lanes[LOG].dies_before = run.lanes[LOG].calls + 1
        world.database.execute("INSERT INTO a VALUES (70, 'last')")
        with pytest.raises(Died):
            run.end()
    assert len(world.rows("a")) == 50
    assert len(world.logged("a")) == 70
    world.database.execute("DELETE FROM a WHERE id <= 5", "UPDATE a SET id = 1000 WHERE id = 60")
    with world.run() as run:
        run.caught_up()
    require_equal(world)
    assert len(world.logged("a")) == 71 + 5 + 2


_TRUNCATES = """
BEGIN;
INSERT INTO a VALUES (10, 'in'), (11, 'in');
INSERT INTO b VALUES (10, 'stays');
UPDATE a SET note = 'gone' WHERE id = 1;
TRUNCATE a;
INSERT INTO a VALUES (1, 'again'), (12, 'in');
TRUNCATE a, b;
INSERT INTO b VALUES (13, 'last');
INSERT INTO a VALUES (10, 'last');
COMMIT
"""


def _history(world: World) -> None:
    """Plain changes, a transaction with two TRUNCATEs inside, plain changes."""
    world.database.execute("INSERT INTO a VALUES (1, 'one'), (2, 'two')", "INSERT INTO b VALUES (1, 'one')")
    world.database.execute(_TRUNCATES)
    world.database.execute("INSERT INTO a VALUES (3, 'three')", "DELETE FROM a WHERE id = 10", _TRUNCATES)


@pytest.mark.must_not_fail(2, 20)
@pytest.mark.parametrize("end", ["dies_before", "dies_after"])
def test_truncates_inside_a_transaction_survive_a_crash_at_every_call(world: World, end: str) -> None:
    """The mirror dies around its first call, then its second, and so on, until a whole history goes by without."""
    _history(world)
    world.survive_every_call(end)
    require_equal(world)
    assert [op for op, _ in world.logged("a")].count("t") == 4
    assert [op for op, _ in world.logged("b")].count("t") == 2


@pytest.mark.must_not_fail(2, 14)
@pytest.mark.parametrize("end", ["dies_before", "dies_after"])
def test_a_transaction_larger_than_a_window_is_whole_after_a_crash_at_every_call(world: World, end: str) -> None:
    world.database.execute(
        "INSERT INTO a VALUES (0, 'before')",
        "BEGIN; INSERT INTO a SELECT g, 'big' FROM generate_series(1, 1000) g; UPDATE a SET note = 'late' WHERE id < 9;"
        " INSERT INTO b VALUES (1, 'big'); COMMIT",
        "DELETE FROM a WHERE id = 500",
    )
    seen = world.survive_every_call(end, limits=replace(QUICK, window_rows_max=150))
    require_equal(world)
    assert len(world.logged("a")) == 1 + 1000 + 9 + 1
    assert seen <= {0, 1, 1000, 1001}, "a part of the transaction was visible"


def test_it_ends_by_itself_where_it_was_told_to_stop(world: World) -> None:
    world.database.execute("INSERT INTO a SELECT g, 'x' FROM generate_series(1, 500) g")
    target = world.wal
    run = world.run(stop_at=target)
    run.end()
    assert world.checkpoint.lsn >= target
    require_equal(world)


def test_it_ends_by_itself_on_an_idle_source(world: World) -> None:
    world.database.execute("INSERT INTO private VALUES (1)")
    target = world.wal
    run = world.run(stop_at=target)
    run.end()
    assert world.checkpoint.lsn >= target


@pytest.mark.must_not_fail(17)
def test_a_lost_source_connection_ends_it_with_source_unavailable(world: World) -> None:
    with FaultProxy(world.database.server.port) as proxy:
        run = world.run(dsn=proxy.dsn(world.database.dsn))
        world.database.execute("INSERT INTO a VALUES (1, 'x')")
        run.until(lambda: run.has_rows(LOG, 1), "the change arrives")
        proxy.cut()
        with pytest.raises(SourceUnavailable):
            run.end()
        run = world.run(dsn=proxy.dsn(world.database.dsn))
        _end_walsender(world)
        with pytest.raises(SourceUnavailable):
            run.end()


def _end_walsender(world: World) -> None:
    world.database.fetch(
        f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{world.slot}'"
    )


@pytest.mark.must_not_fail(1, 17)
def test_an_orderly_shutdown_of_the_source_waits_for_us_no_longer_than_needed(postgres_major: int) -> None:
    """The walsender of a server that shuts down stays until everything is confirmed: we confirm when it asks."""
    with server_for_tests(postgres_major) as server, scratch_database(server) as database:
        world = make_world(
            database,
            "CREATE TABLE a (id int PRIMARY KEY, note text)",
            "CREATE TABLE b (id int PRIMARY KEY, note text)",
            "CREATE PUBLICATION p FOR TABLE a, b",
        )
        # Slow to write checkpoints by itself, so that only the server's question can bring the confirmation forward.
        lazy = replace(QUICK, checkpoint_interval_ms=60_000, idle_checkpoint_interval_ms=60_000)
        run = world.run(limits=lazy)
        database.execute("INSERT INTO a VALUES (1, 'x')")
        run.until(lambda: run.has_rows(LOG, 1), "the change arrives")
        log = server.directory / "server.log"
        server.halt()
        with pytest.raises(SourceUnavailable):
            run.end()
        assert "received fast shutdown request" in log.read_text()
        assert "received immediate shutdown request" not in log.read_text(), "the walsender had to be cut off"
        server.start()
        database.execute("INSERT INTO a VALUES (2, 'y')")
        with world.run() as run:
            run.caught_up()
        require_equal(world)
        assert world.logged("a") == [("i", 1), ("i", 2)]
        dismantle(world)
