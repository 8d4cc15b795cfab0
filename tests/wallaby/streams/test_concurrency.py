"""Several consumers and publishers at once: every message with one owner at a time, none lost, none altered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop, content, numbers, publish
from wallaby.streams import Claim, Delivery, Streams
from wallaby.streams.schema import Tables
from wallaby.streams.statements import Statements

_ROOT = Path(__file__).parents[3]


def in_threads(*work: Callable[[], None]) -> None:
    """Run all at once; the first failure is raised."""
    failures: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 raised again in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("is_ordered", [False, True], ids=["plain", "ordered"])
def test_two_publishers_and_four_consumers_deliver_everything_once(shop: Shop, is_ordered: bool) -> None:
    """Claims never run out here, so what the consumers got is exactly what was published, and each key in order."""
    shop.streams().configure(STREAM, GROUP, is_ordered=is_ordered)
    sent: list[list[Message]] = [[], []]
    got: list[list[Delivery]] = [[], [], [], []]
    publishing = threading.Event()

    def publisher(number: int) -> None:
        with shop.database.connect() as connection:
            for batch in range(20):
                items = [
                    Message(f"{number} {batch} {i}", key=f"{number}/{i % 7}", lsn=0x1000 * batch) for i in range(25)
                ]
                publish(connection, items)
                sent[number] += items

    def consumer(number: int) -> None:
        streams = shop.streams()
        while True:
            is_last_look = publishing.is_set()
            found = streams.pull(STREAM, GROUP, max_messages=40, visibility_s=600, consumer=str(number))
            got[number] += found
            if found:
                done = streams.ack(STREAM, GROUP, Claim(tuple(numbers(found)), tuple(d.claim for d in found)))
                assert (done.done, done.stale) == (len(found), ())
            elif is_last_look and streams.groups(STREAM, GROUP)[0].lag_messages == 0:
                return

    def publishers() -> None:
        in_threads(lambda: publisher(0), lambda: publisher(1))
        publishing.set()

    in_threads(publishers, *(lambda n=n: consumer(n) for n in range(4)))
    everything = [delivery for part in got for delivery in part]
    assert Counter(numbers(everything)) == Counter(range(1, 1001))
    assert all(delivery.attempts == 1 for delivery in everything)
    assert content(d.payload for d in everything) == content(m.payload.encode() for part in sent for m in part)
    for part in sent:
        published = [message.payload.encode() for message in part]
        by_number = {d.payload: d.id for d in everything}
        places = [by_number[payload] for payload in published]
        assert places == sorted(places), "a publisher's messages keep their order"


@pytest.mark.must_not_fail(20)
def test_consumers_that_let_claims_run_out_never_own_a_message_together(shop: Shop) -> None:
    """Of all claims on a message exactly one is acknowledged, whatever the others try."""
    shop.publish(*(str(n) for n in range(60)))
    counted: Counter[int] = Counter()
    mutex = threading.Lock()

    def consumer(number: int) -> None:
        streams = shop.streams()
        for turn in range(40):
            found = streams.pull(STREAM, GROUP, max_messages=15, visibility_s=600, consumer=str(number))
            if turn % 3 == number % 3:
                shop.expire()
            if found:
                claim = Claim(tuple(numbers(found)), tuple(d.claim for d in found))
                stale = set(streams.ack(STREAM, GROUP, claim).stale)
                with mutex:
                    counted.update(d.id for d in found if d.id not in stale)

    in_threads(*(lambda n=n: consumer(n) for n in range(4)))
    last = shop.streams()
    while rest := last.pull(STREAM, GROUP):
        last.ack(STREAM, GROUP, Claim(tuple(numbers(rest)), tuple(d.claim for d in rest)))
        counted.update(numbers(rest))
        shop.expire()
    assert counted == Counter(range(1, 61))


@pytest.mark.must_not_fail(2)
def test_numbers_are_in_the_order_of_commits_so_a_cursor_passes_nothing(shop: Shop, streams: Streams) -> None:
    """A publisher that took its numbers first commits first: the other waits."""
    started = threading.Event()
    with shop.database.connect() as slow, shop.database.connect() as quick:

        def later() -> None:
            started.set()
            publish(quick, [Message("later")])

        thread = threading.Thread(target=later)
        with slow.transaction():
            publish(slow, [Message("first")])
            thread.start()
            started.wait(30)
            _await_blocked(shop, quick.info.backend_pid)
            assert streams.pull(STREAM, GROUP) == []
        thread.join()
    assert [d.payload for d in streams.pull(STREAM, GROUP)] == [b"first", b"later"]


def test_a_publisher_that_rolls_back_leaves_no_gap(shop: Shop, streams: Streams) -> None:
    with shop.database.connect() as connection:
        with connection.transaction(force_rollback=True):
            publish(connection, [Message("never")])
        publish(connection, [Message("only")])
    assert [(d.id, d.payload) for d in streams.pull(STREAM, GROUP)] == [(1, b"only")]


@pytest.mark.must_not_fail(20)
def test_a_consumer_that_is_killed_loses_nothing_and_its_claims_come_back(shop: Shop, streams: Streams) -> None:
    shop.publish(*(str(n) for n in range(30)))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.wallaby.streams.dying_consumer", shop.database.dsn, STREAM, GROUP],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    ) as process:
        assert process.stdout is not None
        # It acknowledges ten, claims ten more, says so, and waits for its end.
        assert process.stdout.readline() == "10 acknowledged, 10 claimed\n"
        os.kill(process.pid, signal.SIGKILL)
    assert numbers(streams.pull(STREAM, GROUP)) == list(range(21, 31))
    shop.expire()
    again = streams.pull(STREAM, GROUP)
    assert numbers(again) == list(range(11, 31))
    assert {d.attempts for d in again} == {2}
    assert content(d.payload for d in again) == content(str(n).encode() for n in range(10, 30))


def _await_blocked(shop: Shop, pid: int) -> None:
    """Until the server says that the session waits for a lock."""
    with shop.database.connect() as connection:
        for _ in range(10_000):
            if connection.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone() == (True,):
                return
    raise AssertionError(f"session {pid} does not wait")


@pytest.mark.must_not_fail(20)
def test_a_pull_that_found_no_group_to_lock_claims_nothing(shop: Shop) -> None:
    """A group made by another consumer between the lock and the claim is that consumer's to pull from first."""
    shop.publish("a")
    sql = Statements(Tables("wallaby"))
    with shop.database.connect() as connection:
        raw = psycopg.RawCursor(connection)
        with connection.transaction():
            assert raw.execute(sql.lock_group, (STREAM, GROUP)).fetchone() is None
            shop.streams().configure(STREAM, GROUP)
            assert raw.execute(sql.pull, (STREAM, GROUP, 10, 30, "", 1 << 20, 10, 10)).fetchall() == []
    assert numbers(shop.streams().pull(STREAM, GROUP)) == [1]


@pytest.mark.must_not_fail(20)
def test_consumers_that_begin_at_once_share_the_messages(shop: Shop) -> None:
    shop.publish(*(str(n) for n in range(8)))
    consumers = [shop.streams() for _ in range(4)]
    for consumer in consumers:
        consumer.pull(STREAM, "other")
    for turn in range(15):
        found: list[int] = []
        begin = threading.Barrier(4)

        def pull(consumer: Streams, group: str, begin: threading.Barrier, found: list[int]) -> None:
            begin.wait(30)
            found += numbers(consumer.pull(STREAM, group, max_messages=2))

        in_threads(*(lambda c=c, b=begin, f=found, g=f"g{turn}": pull(c, g, b, f) for c in consumers))
        assert sorted(found) == list(range(1, 9))
