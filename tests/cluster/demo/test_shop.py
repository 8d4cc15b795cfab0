"""The shop is deterministic, its documents really are stored out of line, and the workload keeps its word."""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from cluster.demo import shop
from cluster.demo.operations import OPERATIONS, Desk, Operation, Undo
from cluster.demo.shop import TABLES, ShopSize
from cluster.demo.workload import Workload
from wallaby.errors import SourceUnavailable
from wallaby.testing.postgres import ScratchDatabase

ROWS = 2_000


@pytest.fixture
def size(database: ScratchDatabase) -> ShopSize:
    """A small seeded shop in the scratch database."""
    with database.connect() as connection:
        shop.create(connection)
        return shop.seed(connection, ROWS, seed=7)


def content(database: ScratchDatabase) -> dict[str, str]:
    """A hash per table, computed by the server, independent of row order."""
    query = "SELECT coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text || '/' || count(*) FROM {} AS t"
    return {str(table): database.fetch(query.format(table))[0][0] for table in TABLES}


def test_the_same_seed_gives_the_same_shop(database: ScratchDatabase, size: ShopSize) -> None:
    before = content(database)
    with database.connect() as connection:
        shop.drop(connection)
        shop.create(connection)
        assert shop.seed(connection, ROWS, seed=7) == size
        assert content(database) == before
        shop.drop(connection)
        shop.create(connection)
        shop.seed(connection, ROWS, seed=8)
    after = content(database)
    assert all(after[str(table)] != before[str(table)] for table in TABLES)


def test_large_documents_are_stored_out_of_line(database: ScratchDatabase, size: ShopSize) -> None:
    [(chunks,)] = database.fetch(
        "SELECT pg_relation_size(reltoastrelid) / 2000 FROM pg_class WHERE oid = 'shop.customers'::regclass"
    )
    assert chunks > size.customers / 2


def test_every_table_begins_with_rows(database: ScratchDatabase, size: ShopSize) -> None:
    counts = {str(table): database.fetch(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert all(counts.values()), counts
    assert ROWS / 2 < sum(counts.values()) < ROWS * 2
    assert counts["shop.orders"] == size.orders


@pytest.mark.parametrize(
    "operation", [operation for operation, _ in OPERATIONS], ids=lambda operation: operation.__name__
)
def test_every_operation_changes_rows_within_a_few_tries(
    database: ScratchDatabase, size: ShopSize, operation: Operation
) -> None:
    with database.connect() as connection:
        desk = Desk(connection, Random(5), size, batch_max=20)
        changed = 0
        for _ in range(30):
            try:
                with connection.transaction():
                    changed += operation(desk)
            except Undo:
                changed += 1
            if changed:
                return
    raise AssertionError(f"{operation.__name__} changed nothing")


def test_swapped_products_really_exchange_their_rows(database: ScratchDatabase, size: ShopSize) -> None:
    [operation] = [operation for operation, _ in OPERATIONS if operation.__name__ == "swap_products"]
    before = dict(database.fetch("SELECT sku, public_id FROM shop.products"))
    with database.connect() as connection:
        desk = Desk(connection, Random(1), size)
        while not operation(desk):
            pass
    after = dict(database.fetch("SELECT sku, public_id FROM shop.products"))
    assert before.keys() == after.keys()
    moved = [sku for sku in before if before[sku] != after[sku]]
    assert len(moved) == 2
    assert before[moved[0]] == after[moved[1]]


def test_one_writer_and_a_number_of_transactions_give_the_same_content_again(
    database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    results = []
    for each in (database, target_database):
        with each.connect() as connection:
            shop.create(connection)
            size = shop.seed(connection, 500, seed=3)
        progress = Workload(each.dsn, size=size, seed=11, transactions=150, writers=1, batch_max=20).start().wait()
        assert (progress.transactions, progress.is_running) == (150, False)
        results.append((content(each), progress.rows, progress.rolled_back))
    assert results[0] == results[1]
    assert results[0][2] > 0


def test_two_writers_interleave_and_stop_when_told(database: ScratchDatabase, size: ShopSize) -> None:
    with Workload(database.dsn, size=size, seed=1, writers=2, batch_max=20) as workload:
        while workload.progress.transactions < 100:
            assert workload.progress.is_running
    progress = workload.progress
    assert not progress.is_running
    assert progress.rows > 100
    assert progress.rows_per_s > 0
    assert database.fetch("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'wallaby-demo-workload'") == [
        (0,)
    ]


def test_a_pace_is_kept(database: ScratchDatabase, size: ShopSize) -> None:
    """At 200 rows a second the writers are never a whole batch ahead of the clock."""
    workload = Workload(database.dsn, size=size, seconds=1.0, rows_per_s=200, writers=1, batch_max=5).start()
    progress = workload.wait()
    assert progress.rows < 200 + ROWS
    assert progress.transactions < 200


def test_the_workload_survives_a_lost_connection(database: ScratchDatabase, size: ShopSize) -> None:
    with Workload(database.dsn, size=size, seed=2, writers=2, batch_max=20) as workload:
        for goal in (20, 60, 100):
            while workload.progress.transactions < goal:
                assert workload.progress.is_running
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'wallaby-demo-workload'"
            )
    assert workload.progress.transactions >= 100


def test_a_server_that_is_not_there_is_an_error_without_the_dsn(size: ShopSize) -> None:
    workload = Workload("host=127.0.0.1 port=1 dbname=secretname", size=size)
    workload.start()
    with pytest.raises(SourceUnavailable) as caught:
        workload.stop()
    assert "secretname" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
