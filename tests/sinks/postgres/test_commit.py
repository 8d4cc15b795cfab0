"""The compare-and-set on the lane's record, and what happens when connections die around it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from sinks.postgres import FACTORY
from tests.sinks.postgres.conftest import LANE, Driver
from wallaby.errors import OutcomeUnknown, Refused, Superseded, Transient
from wallaby.lsn import START, Lsn, Position
from wallaby.testing.changes import Stream, Truncate, insert, table
from wallaby.window import CommitToken, Receipt, Window

ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
LOG = table("public.log", {"id": "int8", "note": "text"}, key=["id"])


def windows(count: int, rows: int = 1) -> list[Window]:
    """``count`` windows of new orders."""
    stream = Stream()
    for number in range(count):
        stream.transaction([(ORDERS, insert(number * rows + i, f"n{number}")) for i in range(rows)])
    return stream.windows()


def count(driver: Driver) -> int:
    [(found,)] = driver.database.fetch("SELECT count(*) FROM orders")
    return int(found)


sizes = pytest.mark.parametrize("rows", [1, 3000], ids=["pipeline", "staging"])


@sizes
def test_a_repeated_commit_gives_the_same_receipt_and_no_second_row(rows: int, drive: Callable[..., Driver]) -> None:
    [window] = windows(1, rows)
    driver = drive(write_mode="append")
    driver.write(window)
    token = driver.token(window.upto, rows)
    first = driver.writer.commit(token)
    assert first == Receipt(LANE, window.upto, rows)
    assert driver.writer.commit(token) == first
    driver.write(window)
    assert driver.writer.commit(token) == first
    assert count(driver) == rows


@pytest.mark.must_not_fail(2, 20)
@sizes
def test_a_newer_epoch_supersedes_the_older_writer(rows: int, drive: Callable[..., Driver]) -> None:
    first, second = windows(2, rows)
    old = drive()
    old.apply(first)
    old.write(second)
    new = drive(epoch=2)
    assert new.position == first.upto
    with pytest.raises(Superseded):
        old.commit(second.upto, rows)
    old.writer.abort()
    new.apply(second)
    assert count(new) == 2 * rows
    with pytest.raises(Superseded):
        old.sink.recover(LANE, 1)
    with pytest.raises(Superseded):
        old.sink.reset_table(ORDERS.name, LANE, 1)
    with pytest.raises(Superseded):
        old.sink.reset_lane(LANE, 1)


@sizes
def test_a_record_elsewhere_is_superseded_and_one_behind_is_refused(rows: int, drive: Callable[..., Driver]) -> None:
    first, second = windows(2, rows)
    driver = drive()
    driver.apply(first)
    driver.write(second)
    with pytest.raises(Superseded):
        driver.writer.commit(CommitToken(LANE, 1, START, Position(Lsn(5)), rows))
    driver.writer.abort()
    driver.write(second)
    ahead = Position(Lsn(int(second.upto.lsn) + 1))
    with pytest.raises(Refused, match="back in time"):
        driver.writer.commit(CommitToken(LANE, 1, second.upto, ahead, rows))
    driver.writer.abort()
    assert count(driver) == rows


def test_a_token_with_nothing_written_moves_only_the_record(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.commit(Position(Lsn(77)))
    assert driver.sink.recover(LANE, 1) == Position(Lsn(77))
    driver.sink.reset_lane(LANE, 1)
    assert driver.sink.recover(LANE, 2) == START


@sizes
def test_abort_and_close_forget_what_was_not_committed(rows: int, drive: Callable[..., Driver]) -> None:
    first, second = windows(2, rows)
    driver = drive(apply_bytes_max=1 << 16)
    driver.write(first)
    driver.writer.abort()
    driver.writer.abort()
    driver.apply(first)
    driver.write(second)
    driver.close()
    again = drive()
    assert again.position == first.upto
    assert count(again) == rows


@pytest.mark.must_not_fail(20)
@sizes
def test_of_two_racing_writers_of_one_epoch_only_one_applies(rows: int, drive: Callable[..., Driver]) -> None:
    [window] = windows(1, rows)
    drivers = [drive(write_mode="append"), drive(write_mode="append")]
    for driver in drivers:
        driver.write(window)
    start = threading.Barrier(2)
    receipts: list[Receipt] = []

    def commit(driver: Driver) -> None:
        start.wait()
        receipts.append(driver.commit(window.upto, rows))

    threads = [threading.Thread(target=commit, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert receipts == [Receipt(LANE, window.upto, rows)] * 2
    assert count(drivers[0]) == rows


def backend(driver: Driver) -> int:
    connection = driver.writer._connection
    assert connection is not None
    return connection.info.backend_pid


def terminate(driver: Driver, pid: int) -> None:
    assert driver.database.fetch(f"SELECT pg_terminate_backend({pid}, 10000)") == [(True,)]


def test_a_connection_lost_before_the_commit_is_transient_and_nothing_happened(drive: Callable[..., Driver]) -> None:
    first, second = windows(2, 3000)
    driver = drive(apply_bytes_max=1 << 16)
    driver.apply(first)
    driver.write(second)
    terminate(driver, backend(driver))
    with pytest.raises(Transient):
        driver.commit(second.upto, 3000)
    driver.writer.abort()
    assert driver.sink.recover(LANE, 1) == first.upto
    driver.apply(second)
    assert count(driver) == 6000


def test_a_connection_lost_within_a_small_commit_leaves_its_outcome_unknown(drive: Callable[..., Driver]) -> None:
    first, second = windows(2)
    driver = drive()
    driver.apply(first)
    with driver.database.connect() as blocker, driver.database.connect() as killer, blocker.transaction():
        blocker.execute("SELECT 1 FROM wallaby.lanes FOR UPDATE")
        pid = backend(driver)
        driver.write(second)
        caught: list[BaseException] = []

        def commit() -> None:
            try:
                driver.commit(second.upto, 1)
            except OutcomeUnknown as error:
                caught.append(error)

        thread = threading.Thread(target=commit)
        thread.start()
        wait_until_blocked(killer, pid)
        killer.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        thread.join()
    assert len(caught) == 1
    driver.writer.abort()
    assert driver.sink.recover(LANE, 1) == first.upto
    driver.apply(second)
    assert count(driver) == 2


def wait_until_blocked(connection: psycopg.Connection[tuple[object, ...]], pid: int) -> None:
    """Return once the backend waits for a lock; polls the server, bounded."""
    for _ in range(100_000):
        if connection.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone() == (True,):
            return
    raise AssertionError(f"backend {pid} never waited")


def test_recovery_waits_for_a_zombie_transaction_and_sees_its_outcome(drive: Callable[..., Driver]) -> None:
    first, second = windows(2, 3000)
    zombie = drive(apply_bytes_max=1 << 16)
    zombie.apply(first)
    zombie.write(second)
    sink = FACTORY.create({"dsn": zombie.database.dsn}, destination="copy")
    sink.open()
    found: list[Position] = []
    thread = threading.Thread(target=lambda: found.append(sink.recover(LANE, 2)))
    thread.start()
    connection = sink._connection
    assert connection is not None
    with zombie.database.connect() as watcher:
        wait_until_blocked(watcher, connection.info.backend_pid)
    zombie.commit(second.upto, 3000)
    thread.join()
    sink.close()
    assert found == [second.upto]


@pytest.mark.must_not_fail(15, 20)
def test_a_zombie_that_never_ends_its_transaction_loses_its_session(drive: Callable[..., Driver]) -> None:
    """Its process hangs, or its network is gone: it keeps its locks, and would keep them for ever."""
    first, second = windows(2, 3000)
    zombie = drive(apply_bytes_max=1 << 16)
    zombie.apply(first)
    zombie.write(second)
    sink = FACTORY.create({"dsn": zombie.database.dsn}, destination="copy")
    sink.open()
    assert sink.recover(LANE, 2) == first.upto
    sink.close()
    with pytest.raises((Transient, OutcomeUnknown)):
        zombie.commit(second.upto, 3000)


def test_the_record_of_the_state_table_tells_the_story(drive: Callable[..., Driver]) -> None:
    first, second = windows(2)
    driver = drive(state_schema="wal state")
    driver.apply(first, second)
    [row] = driver.database.fetch('SELECT flow, destination, lane, lanes, epoch, position, rows FROM "wal state".lanes')
    assert row == ("shop", "copy", 0, 1, 1, str(second.upto), 2)


def test_append_mode_logs_every_change_and_truncate(drive: Callable[..., Driver]) -> None:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a")), (ORDERS, insert(1, "a"))])
    stream.transaction([Truncate((ORDERS.name,))])
    driver = drive(write_mode="append")
    driver.apply(*stream.windows())
    found = driver.database.fetch("SELECT id, __op, __commit_lsn::text, __ordinal FROM orders ORDER BY 3, 4")
    assert [(row[0], row[1], row[3]) for row in found] == [(1, "i", 0), (1, "i", 1), (None, "t", 0)]
    assert found[0][2] == "0/1000100"


def test_a_changed_number_of_lanes_is_refused_once_there_are_positions(drive: Callable[..., Driver]) -> None:
    [window] = windows(1)
    driver = drive()
    driver.apply(window)
    wider = type(LANE)(LANE.flow, LANE.destination, 0, 4)
    with pytest.raises(Refused, match="lanes"):
        driver.sink.recover(wider, 2)


def test_a_lost_record_is_refused(drive: Callable[..., Driver]) -> None:
    first, second = windows(2)
    driver = drive()
    driver.apply(first)
    driver.database.execute("DELETE FROM wallaby.lanes")
    driver.write(second)
    with pytest.raises(Refused, match="back in time"):
        driver.commit(second.upto, 1)
