"""Large and prepared transactions from a real server: nothing before the commit, everything after it, exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from tests.wallaby.pgoutput.streams import waiting
from tests.wallaby.relay.world import LOG, MIRROR, QUICK, Died, World, dismantle, make_world
from wallaby.errors import CheckFailed, StreamingUnfit
from wallaby.pgoutput.spool import SpoolLimits
from wallaby.postgres.replication import StreamOptions
from wallaby.testing.postgres import ScratchDatabase

STREAMED = StreamOptions(streaming="on")
TWO_PHASE = StreamOptions(streaming="on", two_phase=True)
ON_DISK = SpoolLimits(memory_bytes=0)


@pytest.fixture
def world(database: ScratchDatabase) -> Iterator[World]:
    """Tables ``a`` and ``b``; the server streams transactions beyond 64 kB."""
    made = make_world(
        database,
        "CREATE TABLE a (id int PRIMARY KEY, note text)",
        "CREATE TABLE b (id int PRIMARY KEY, note text)",
        "CREATE PUBLICATION p FOR TABLE a, b",
        f"ALTER DATABASE {database.name} SET logical_decoding_work_mem = '64kB'",
    )
    yield made
    for (gid,) in database.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        database.execute(f"ROLLBACK PREPARED '{gid}'")
    dismantle(made)


@pytest.fixture
def two_phase(postgres_major: int) -> None:
    if postgres_major < 15:
        pytest.skip("pgoutput sends prepared transactions at their PREPARE from PostgreSQL 15 on")


def require_equal(world: World) -> None:
    for table in ("a", "b"):
        assert world.rows(table) == world.source_rows(table)


def _fill(table: str, first: int, count: int) -> str:
    return f"INSERT INTO {table} SELECT g, repeat('x', 100) FROM generate_series({first}, {first + count - 1}) g"


def _large(connection: psycopg.Connection[object], first: int = 0) -> None:
    """3,000 rows stay, 4,000 are rolled back at several depths; the last savepoint is released."""
    for statement in (
        _fill("a", first, 1000),
        "SAVEPOINT one",
        _fill("a", first + 1000, 1000),
        "SAVEPOINT two",
        _fill("b", first, 1000),
        "ROLLBACK TO two",
        _fill("a", first + 2000, 1000),
        "ROLLBACK TO one",
        _fill("a", first + 3000, 1000),
        "SAVEPOINT three",
        f"UPDATE a SET note = 'late' WHERE id >= {first} AND id < {first + 10}",
        _fill("b", first + 1000, 1000),
        "RELEASE three",
    ):
        connection.execute(statement.encode())


@pytest.mark.must_not_fail(14)
@pytest.mark.parametrize("spool", [SpoolLimits(), ON_DISK], ids=["memory", "disk"])
@pytest.mark.parametrize("streaming", ["on", "parallel"])
def test_a_streamed_transaction_shows_when_it_commits_and_not_what_it_rolled_back(
    world: World, streaming: str, spool: SpoolLimits
) -> None:
    options = StreamOptions(streaming=streaming)  # type: ignore[arg-type]  # one of its values
    with world.run(options=options, spool=spool) as run, world.database.connect() as connection:
        with connection.transaction():
            _large(connection)
            run.until(lambda: waiting(run.decoder) == (1, 0), "it is streamed while it runs")
            world.database.execute("INSERT INTO a VALUES (1000000, 'small')")
            run.until(lambda: run.has_rows(LOG, 1), "a transaction that commits meanwhile")
            assert world.rows("a") == [(1_000_000, "small")]
            # It commits later than what was read: its changes come again if we die now.
            run.caught_up()
            assert waiting(run.decoder) == (1, 0)
        run.caught_up()
        assert waiting(run.decoder) == (0, 0)
    require_equal(world)
    assert len(world.logged("a")) == 1 + 1000 + 1000 + 10
    assert len(world.logged("b")) == 1000


@pytest.mark.must_not_fail(14)
def test_a_streamed_transaction_that_is_rolled_back_leaves_nothing(world: World) -> None:
    with world.run(options=STREAMED, spool=ON_DISK) as run, world.database.connect() as connection:
        with connection.transaction(force_rollback=True):
            _large(connection)
            run.until(lambda: waiting(run.decoder) == (1, 0), "it is streamed while it runs")
        run.until(lambda: waiting(run.decoder) == (0, 0), "the rollback arrives")
        world.database.execute("INSERT INTO a VALUES (1, 'small')")
        run.caught_up()
    assert world.logged("a") == [("i", 1)]


@pytest.mark.must_not_fail(2, 14, 20)
@pytest.mark.parametrize("end", ["dies_before", "dies_after"])
def test_streamed_transactions_are_whole_after_a_crash_at_every_call(world: World, end: str) -> None:
    with world.database.connect() as one, world.database.connect() as other:
        with one.transaction():
            _large(one)
            with other.transaction():
                _large(other, 100_000)
            world.database.execute("INSERT INTO b VALUES (1000000, 'between')")
        world.database.execute("DELETE FROM a WHERE id = 5")
    seen = world.survive_every_call(end, limits=replace(QUICK, window_rows_max=400), options=STREAMED, spool=ON_DISK)
    require_equal(world)
    assert len(world.logged("a")) == 2 * (1000 + 1000 + 10) + 1
    assert seen <= {0, 2000, 4000, 3999}, "a part of a transaction was visible"


@pytest.mark.must_not_fail(11, 14)
def test_a_table_made_and_one_altered_by_a_streamed_transaction_itself_arrive(world: World) -> None:
    """Nobody else can see their shapes while it runs."""
    with world.run(options=STREAMED, spool=ON_DISK) as run, world.database.connect() as connection:
        with connection.transaction():
            for statement in (
                _fill("a", 0, 1000),
                "CREATE TYPE mood AS ENUM ('sad', 'ok')",
                "CREATE TABLE born (id int PRIMARY KEY, m mood)",
                "ALTER PUBLICATION p ADD TABLE born",
                "INSERT INTO born SELECT g, 'ok' FROM generate_series(1, 3000) g",
                "ALTER TABLE a ADD COLUMN extra int",
                "UPDATE a SET extra = id WHERE id < 500",
            ):
                connection.execute(statement.encode())
            run.until(lambda: waiting(run.decoder) == (1, 0), "it is streamed while it runs")
        world.database.execute("INSERT INTO a VALUES (9999, 'after', 1)")
        run.caught_up()
    require_equal(world)
    assert world.rows("born") == world.source_rows("born")


@pytest.mark.must_not_fail(11, 14)
def test_a_shape_that_a_streamed_transaction_rolls_back_is_never_announced(world: World) -> None:
    with world.run(options=STREAMED, spool=ON_DISK) as run, world.database.connect() as connection:
        with connection.transaction():
            for statement in (_fill("a", 0, 1000), "SAVEPOINT s", *_ALTERED, "ROLLBACK TO s", _fill("a", 1000, 1000)):
                connection.execute(statement.encode())
        world.database.execute("INSERT INTO a VALUES (9999, 'after')")
        run.caught_up()
        assert [schema.version for schema in run.decoder.schemas] == [1]
    require_equal(world)


_ALTERED = (
    "ALTER TABLE a ADD COLUMN gone int DEFAULT 7",
    "INSERT INTO a SELECT g, repeat('y', 100), 8 FROM generate_series(5000, 6000) g",
)


@pytest.mark.must_not_fail(11, 14)
def test_a_transaction_the_server_fails_to_stream_arrives_without_streaming(world: World) -> None:
    """PostgreSQL 14 to 18 cannot map the table's file once a change of its shape was rolled back."""
    with world.database.connect() as connection, connection.transaction():
        for statement in (_fill("a", 0, 1000), "SAVEPOINT s", *_ALTERED, "ROLLBACK TO s", _fill("a", 1000, 1000)):
            connection.execute(statement.encode())
        connection.execute("ALTER TABLE a ADD COLUMN extra int")
        connection.execute("UPDATE a SET extra = id WHERE id < 1000")
    with pytest.raises(StreamingUnfit, match="before it ends"):
        world.run(options=STREAMED).end()
    with world.run() as run:
        run.caught_up()
    require_equal(world)


@pytest.mark.must_not_fail(14)
def test_when_the_spool_is_full_the_stream_ends_and_goes_on_without_streaming(world: World) -> None:
    with world.database.connect() as connection, connection.transaction():
        _large(connection)
    small = SpoolLimits(memory_bytes=0, disk_bytes_max=100_000)
    with pytest.raises(StreamingUnfit):
        world.run(options=STREAMED, spool=small).end()
    with world.run(options=StreamOptions(streaming="off"), spool=small) as run:
        run.caught_up()
    require_equal(world)


def _prepare(world: World, gid: str, *statements: str) -> None:
    with world.database.connect() as connection:
        for statement in ("BEGIN", *statements, f"PREPARE TRANSACTION '{gid}'"):
            connection.execute(statement.encode())


@pytest.mark.must_not_fail(2, 14)
@pytest.mark.usefixtures("two_phase")
@pytest.mark.parametrize("size", [3, 2000], ids=["small", "streamed"])
@pytest.mark.parametrize("is_killed", [False, True], ids=["alive", "killed"])
def test_a_prepared_transaction_shows_when_it_commits_and_is_never_lost(
    world: World, size: int, is_killed: bool
) -> None:
    """Confirming beyond the PREPARE would lose it: after a restart the server would send the bare commit."""
    gid = world.database.name
    run = world.run(options=TWO_PHASE)
    world.database.execute("INSERT INTO b VALUES (1, 'first')")
    run.caught_up()
    _prepare(world, gid, _fill("a", 0, size), "INSERT INTO b VALUES (2, 'prepared')")
    prepared = world.wal
    world.database.execute("INSERT INTO b VALUES (3, 'meanwhile')")
    run.until(lambda: run.has_rows(LOG, 2), "others go on")
    run.until(lambda: waiting(run.decoder) == (0, 1), "it waits")
    assert world.confirmed < prepared
    if is_killed:
        run.lanes[LOG].dies_before = run.lanes[LOG].calls + 1
        world.database.execute("INSERT INTO b VALUES (4, 'deadly')")
        with pytest.raises(Died):
            run.end()
        assert world.confirmed < prepared
        run = world.run(options=TWO_PHASE)
        run.until(lambda: waiting(run.decoder) == (0, 1), "it was sent again")
    assert world.rows("a") == []
    world.database.execute(f"COMMIT PREPARED '{gid}'")
    with run:
        run.caught_up()
    require_equal(world)
    assert len(world.logged("a")) == size
    assert len(world.logged("b")) == (4 if is_killed else 3)


@pytest.mark.must_not_fail(2, 14, 20)
@pytest.mark.usefixtures("two_phase")
@pytest.mark.parametrize("end", ["dies_before", "dies_after"])
def test_prepared_transactions_survive_a_crash_at_every_call(world: World, end: str) -> None:
    """They end in another order than they were prepared in; one is rolled back, one stays."""
    name = world.database.name
    statements = ["INSERT INTO b VALUES ({n}, 'p')", _fill("a", 10_000, 1500).replace("10000", "{n}0000")]
    for number in range(1, 5):
        large = number % 2
        _prepare(world, f"{name}-{number}", *(one.format(n=number) for one in statements[: 1 + large]))
        world.database.execute(f"INSERT INTO b VALUES ({100 + number}, 'between')")
    world.database.execute(
        f"COMMIT PREPARED '{name}-3'",
        f"ROLLBACK PREPARED '{name}-2'",
        "INSERT INTO a VALUES (7, 'x')",
        f"COMMIT PREPARED '{name}-1'",
        "INSERT INTO a VALUES (8, 'x')",
    )
    world.survive_every_call(end, limits=replace(QUICK, window_rows_max=400), options=TWO_PHASE)
    require_equal(world)
    world.database.execute(f"COMMIT PREPARED '{name}-4'")
    with world.run(options=TWO_PHASE) as run:
        run.caught_up()
    require_equal(world)
    assert len(world.logged("b")) == 4 + 3


@pytest.mark.must_not_fail(2, 14)
@pytest.mark.usefixtures("two_phase")
def test_a_flow_may_begin_and_stop_reading_prepared_transactions_while_some_wait(world: World) -> None:
    name = world.database.name
    _prepare(world, f"{name}-1", "INSERT INTO a VALUES (1, 'before')")
    with world.run(options=STREAMED) as run:
        run.caught_up()
    _prepare(world, f"{name}-2", "INSERT INTO a VALUES (2, 'between')")
    with world.run(options=TWO_PHASE) as run:
        world.database.execute("INSERT INTO b VALUES (1, 'x')", f"COMMIT PREPARED '{name}-1'")
        run.until(lambda: run.has_rows(LOG, 2), "prepared before the option was set")
    _prepare(world, f"{name}-3", "INSERT INTO a VALUES (3, 'late')")
    # The slot remembers: the server goes on sending prepared transactions at their PREPARE.
    with world.run(options=STREAMED) as run:
        world.database.execute(f"COMMIT PREPARED '{name}-3'", f"COMMIT PREPARED '{name}-2'")
        run.caught_up()
    require_equal(world)
    assert sorted(world.logged("a")) == [("i", 1), ("i", 2), ("i", 3)]


@pytest.mark.must_not_fail(14)
def test_a_prepared_transaction_arrives_at_its_commit_without_the_option_too(world: World) -> None:
    name = world.database.name
    with world.run(options=STREAMED) as run:
        _prepare(world, f"{name}-1", _fill("a", 0, 2000))
        _prepare(world, f"{name}-2", "INSERT INTO a VALUES (5000, 'gone')")
        world.database.execute(f"COMMIT PREPARED '{name}-1'", f"ROLLBACK PREPARED '{name}-2'")
        run.caught_up()
    require_equal(world)
    assert len(world.logged("a")) == 2000


def test_changes_that_replication_brought_do_not_echo(world: World, postgres_major: int) -> None:
    options = StreamOptions(streaming="on", origin="none")
    if postgres_major < 16:
        with pytest.raises(CheckFailed, match="origin needs PostgreSQL 16"):
            world.run(options=options)
        return
    origin = world.database.name
    with world.run(options=options) as run, world.database.connect() as connection:
        connection.execute("SELECT pg_replication_origin_create(%s)", [origin])
        connection.execute("SELECT pg_replication_origin_session_setup(%s)", [origin])
        connection.execute(_fill("a", 0, 2000).encode())
        connection.execute("INSERT INTO a VALUES (5000, 'from afar')")
        connection.execute("SELECT pg_replication_origin_session_reset()")
        connection.execute("SELECT pg_replication_origin_drop(%s)", [origin])
        connection.execute("INSERT INTO a VALUES (6000, 'from here')")
        run.caught_up()
    assert world.logged("a") == [("i", 6000)]


def test_where_changes_came_from_does_not_matter_otherwise(world: World) -> None:
    origin = world.database.name
    with world.run(options=STREAMED) as run, world.database.connect() as connection:
        connection.execute("SELECT pg_replication_origin_create(%s)", [origin])
        connection.execute("SELECT pg_replication_origin_session_setup(%s)", [origin])
        connection.execute(_fill("a", 0, 2000).encode())
        connection.execute("INSERT INTO a VALUES (5000, 'from afar')")
        connection.execute("SELECT pg_replication_origin_session_reset()")
        connection.execute("SELECT pg_replication_origin_drop(%s)", [origin])
        run.caught_up()
    require_equal(world)


@pytest.mark.must_not_fail(14, 15)
def test_reading_a_large_transaction_stops_at_the_byte_budget_and_the_server_still_hears_from_us(world: World) -> None:
    world.database.execute(f"ALTER DATABASE {world.database.name} SET wal_sender_timeout = '1s'")
    small = replace(QUICK, window_bytes_max=64 << 10, inflight_bytes_max=256 << 10)
    with world.run(limits=small, options=STREAMED, held=[MIRROR]) as run:
        with world.database.connect() as connection, connection.transaction():
            connection.execute(_fill("a", 0, 60_000).encode())
        run.until(lambda: run.relay.status.lanes[0].inflight_bytes >= 256 << 10, "the budget is spent")
        [(now,)] = world.database.fetch("SELECT now()::text")
        later = f"now() > '{now}'::timestamptz + interval '3 s'"
        replied = f"SELECT reply_time > now() - interval '1 s' FROM pg_stat_replication WHERE {later}"
        run.until(lambda: world.database.fetch(replied) == [(True,)], "replies, three seconds later")
        assert run.decoder.has_backlog
        run.transport.release(MIRROR)
        run.caught_up()
    require_equal(world)
