"""Failover for real: a primary dies, its standby is promoted, and the flow goes on there, or says why it must not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.integration.world import PUBLICATION, World
from wallaby.errors import CheckFailed, SlotLost, SourceUnavailable
from wallaby.postgres.embedded import EmbeddedServer
from wallaby.postgres.slot import SlotFacts, read_slot
from wallaby.testing.postgres import STANDBY_SLOT, ScratchDatabase, server_for_tests, standby_for_tests

_PATIENCE_S = 90.0


@dataclass
class Pair:
    """A primary and its standby, and a flow whose connection string names both."""

    primary: EmbeddedServer
    standby: EmbeddedServer
    world: World

    def copy_of_slot(self) -> SlotFacts | None:
        """What the standby has of the flow's slot."""
        with psycopg.connect(self.standby.dsn("shop"), autocommit=True) as connection:
            return read_slot(connection, self.world.database.name)

    def until_the_slot_is_copied(self) -> None:
        """Wait until a promotion would keep the slot. Its copy is temporary while it needs what the standby lacks."""

        def is_kept() -> bool:
            # Where decoding may begin again moves on with such a record, which the server writes now and then.
            self.world.execute("SELECT pg_log_standby_snapshot()")
            copy = self.copy_of_slot()
            return copy is not None and copy.synced and not copy.temporary

        until(is_kept, "the standby keeps a copy of the slot")

    def until_the_standby_has_all(self) -> None:
        """Wait until the standby has replayed what the primary has written."""
        [(written,)] = self.world.database.fetch("SELECT pg_current_wal_lsn()::text")
        standby = ScratchDatabase(self.standby, "shop")
        until(
            lambda: standby.fetch(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == [(True,)],
            "the standby has everything",
        )

    def fail_over(self) -> None:
        """Promote the standby: the source is there from now on."""
        self.standby.start()
        self.world.database = ScratchDatabase(self.standby, "shop")
        self.world.execute("SELECT pg_promote()")


@contextmanager
def pair_of(major: int, folder: Path, *, is_ordered: bool = False, copies_slots: bool = True) -> Iterator[Pair]:
    """``is_ordered``: nothing is sent to the flow that the standby does not have."""
    settings = {"synchronized_standby_slots": STANDBY_SLOT} if is_ordered else {}
    of_standby = {} if copies_slots or major < 17 else {"sync_replication_slots": "off"}
    with server_for_tests(major, settings) as primary:
        with psycopg.connect(primary.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE shop")
        with standby_for_tests(primary, of_standby) as standby:
            world = World(ScratchDatabase(primary, "shop"), major, folder)
            ports = f"{primary.port},{standby.port}"
            world.source_options = {"dsn": f"host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname=shop"}
            world.execute(
                "CREATE TABLE orders (id bigint PRIMARY KEY, note text NOT NULL, amount numeric)",
                "INSERT INTO orders SELECT n, 'copied ' || n, n * 1.5 FROM generate_series(1, 500) AS n",
                f"CREATE PUBLICATION {PUBLICATION} FOR TABLE orders",
            )
            try:
                yield Pair(primary, standby, world)
            finally:
                world.close()


@contextmanager
def writing(database: ScratchDatabase) -> Iterator[Callable[[], int]]:
    """Transactions of several rows, one after the other, until the server is gone; how many were committed."""
    committed = 0

    def write() -> None:
        nonlocal committed
        with psycopg.connect(database.dsn) as connection:
            for first in range(1000, 10_000_000, 10):
                connection.execute(
                    "INSERT INTO orders SELECT n, 'new ' || n, n / 7.0 FROM generate_series(%s::int, %s) AS n",
                    (first, first + 9),
                )
                connection.execute(
                    "UPDATE orders SET note = note || '!' WHERE id BETWEEN %s AND %s", (first - 15, first)
                )
                connection.execute("DELETE FROM orders WHERE id = %s OR id = %s", (first - 7, first // 10))
                connection.commit()
                committed += 1

    def main() -> None:
        try:
            write()
        except psycopg.OperationalError:
            return

    writer = threading.Thread(target=main, name="writer")
    writer.start()
    yield lambda: committed
    writer.join(_PATIENCE_S)
    assert not writer.is_alive(), "the server is still there"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what a server does without giving a sign."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it never happened: {what}"
        threading.Event().wait(0.02)


@pytest.mark.must_not_fail(18, 25)
@pytest.mark.timeout(400)
def test_a_flow_goes_on_at_the_promoted_standby_with_nothing_lost_and_nothing_twice(
    postgres_major: int, tmp_path: Path
) -> None:
    """The standby is away when the primary is killed, so the primary has more than anybody will ever know."""
    if postgres_major < 17:
        pytest.skip(f"PostgreSQL {postgres_major} has no copies of slots on standbys")
    with pair_of(postgres_major, tmp_path, is_ordered=True) as pair:
        world = pair.world
        world.start()
        pair.until_the_slot_is_copied()
        with writing(world.database) as committed:
            until(lambda: committed() > 50, "transactions are committed")
            world.caught_up()
            pair.standby.halt()
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'WaitForStandbyConfirmation'"
            until(lambda: world.database.fetch(waits) == [(1,)], "the stream waits for the standby")
            before = committed()
            until(lambda: committed() > before + 20, "what the standby never gets is committed")
            pair.primary.kill()
        assert isinstance(world.failure(), SourceUnavailable)
        pair.standby.start()
        early = world.start_and_fail()
        assert isinstance(early, SourceUnavailable)
        assert "promoted" in str(early)
        several = world.source_options["dsn"]
        world.source_options["dsn"] = pair.standby.dsn("shop")
        early = world.start_and_fail()
        assert isinstance(early, SourceUnavailable), "its copy of the slot cannot be read yet, and is not lost"
        assert "is a standby" in str(early)
        world.source_options["dsn"] = several

        pair.fail_over()
        world.start()
        world.execute(
            "INSERT INTO orders SELECT n, 'after ' || n, NULL FROM generate_series(-50, -1) AS n",
            "UPDATE orders SET amount = amount + 1 WHERE id % 3 = 0",
            "DELETE FROM orders WHERE id % 7 = 0",
        )
        world.require_equal("orders")
        assert len(world.logged("orders")) > 500 + 10 * 50

        # Whoever killed the old primary starts it again: it takes writes, and comes first in the connection string.
        world.stop()
        pair.primary.start()
        zombie = world.start_and_fail()
        assert isinstance(zombie, SlotLost)
        assert "went back to timeline" in str(zombie)
        pair.primary.halt()
        world.start()
        world.execute("DELETE FROM orders WHERE id % 5 = 0")
        world.require_equal("orders")


@pytest.mark.must_not_fail(18, 25)
@pytest.mark.timeout(400)
def test_a_promoted_standby_that_lacks_what_was_read_is_not_streamed_from(postgres_major: int, tmp_path: Path) -> None:
    """Its slot would stream well: at the addresses that were read, other changes are by now."""
    if postgres_major < 17:
        pytest.skip(f"PostgreSQL {postgres_major} has no copies of slots on standbys")
    with pair_of(postgres_major, tmp_path) as pair:
        world = pair.world
        world.start()
        pair.until_the_slot_is_copied()
        pair.standby.halt()
        world.execute("INSERT INTO orders SELECT n, 'lost ' || n, n FROM generate_series(1000, 1500) AS n")
        world.caught_up()
        pair.primary.kill()
        assert isinstance(world.failure(), SourceUnavailable)

        pair.fail_over()
        world.execute("INSERT INTO orders SELECT n, 'other ' || n, n FROM generate_series(1000, 3000) AS n")
        [(written,)] = world.database.fetch("SELECT pg_current_wal_lsn() - '0/0'")
        assert written > world.facts.position.lsn
        error = world.start_and_fail()
        assert isinstance(error, SlotLost)
        assert "lost WAL" in error.message
        assert "--resnapshot" in error.advice
        world.start(resnapshot=True)
        world.execute("DELETE FROM orders WHERE id % 5 = 0")
        world.require_equal("orders")


@pytest.mark.must_not_fail(18, 3)
@pytest.mark.timeout(400)
def test_a_promoted_standby_without_the_slot_stops_the_flow_until_it_copies_anew(
    postgres_major: int, tmp_path: Path
) -> None:
    with pair_of(postgres_major, tmp_path, copies_slots=False) as pair:
        world = pair.world
        world.start()
        world.execute("INSERT INTO orders SELECT n, 'new ' || n, n FROM generate_series(1000, 1500) AS n")
        world.caught_up()
        pair.until_the_standby_has_all()
        pair.primary.kill()
        assert isinstance(world.failure(), SourceUnavailable)

        pair.fail_over()
        world.execute("INSERT INTO orders SELECT n, 'unseen ' || n, n FROM generate_series(2000, 2500) AS n")
        error = world.start_and_fail()
        assert isinstance(error, SlotLost)
        assert "failed over" in error.message
        assert "--resnapshot" in error.advice
        # A slot made by hand begins after what was written meanwhile.
        world.execute(f"SELECT pg_create_logical_replication_slot('{world.database.name}', 'pgoutput')")
        error = world.start_and_fail()
        assert isinstance(error, SlotLost)
        assert "beyond our checkpoint" in error.message
        world.start(resnapshot=True)
        world.execute("DELETE FROM orders WHERE id % 5 = 0")
        world.require_equal("orders")


def _slot(world: World) -> SlotFacts:
    with world.database.connect() as connection:
        slot = read_slot(connection, world.database.name)
    assert slot is not None
    return slot


@pytest.fixture
def shop(world: World) -> World:
    """A world with a table."""
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    return world


def test_a_new_slot_is_marked_for_failover_where_the_server_can(shop: World) -> None:
    shop.start()
    assert _slot(shop).failover is (shop.major >= 17)
    shop.execute("INSERT INTO t VALUES (1)")
    shop.require_equal("t")


def test_a_slot_that_exists_is_marked_for_failover_when_that_is_demanded(shop: World) -> None:
    shop.source_options["failover"] = False
    shop.start()
    assert not _slot(shop).failover
    shop.stop()
    shop.source_options["failover"] = "auto"
    shop.start()
    assert not _slot(shop).failover, "a slot that exists is left as it is"
    shop.stop()
    shop.source_options["failover"] = True
    if shop.major < 17:
        error = shop.start_and_fail()
        assert isinstance(error, CheckFailed)
        assert "needs PostgreSQL 17" in error.message
        return
    for _ in range(2):
        shop.start()
        assert _slot(shop).failover
        shop.execute("INSERT INTO t SELECT count(*) FROM t")
        shop.require_equal("t")
        shop.stop()


def test_prepared_transactions_are_read_from_a_slot_that_standbys_may_copy_or_it_is_refused(shop: World) -> None:
    shop.needs(15, "two_phase in the stream")
    shop.source_options["two_phase"] = True
    shop.start()
    assert _slot(shop).failover is (shop.major >= 18)
    shop.execute("INSERT INTO t VALUES (1)")
    shop.require_equal("t")
    shop.stop()
    if shop.major == 17:
        shop.source_options["failover"] = True
        error = shop.start_and_fail()
        assert isinstance(error, CheckFailed)
        assert "two_phase" in error.message


@pytest.mark.must_not_fail(14, 18)
def test_two_phase_wished_for_later_is_refused_where_a_copy_of_the_slot_would_lose_transactions(shop: World) -> None:
    """17 itself does not refuse it."""
    shop.needs(17, "slots that standbys may copy")
    shop.start()
    shop.stop()
    shop.source_options["two_phase"] = True
    if shop.major == 17:
        error = shop.start_and_fail()
        assert isinstance(error, CheckFailed)
        assert "two_phase" in str(error)
        shop.source_options["failover"] = False
    shop.start()
    assert _slot(shop).failover is (shop.major >= 18)
    shop.execute("INSERT INTO t VALUES (1)")
    shop.require_equal("t")
