"""``wallaby run`` as a user starts it, under a real Ray: stopping, resuming, JSON lines, and a lost slot."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import START_S, Command, RayHost
from wallaby.testing.postgres import ScratchDatabase

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

Run = Callable[..., Command]


@pytest.fixture
def flow_file(database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path) -> Path:
    """A flow of one table whose DSNs are references; both ends exist."""
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT g, 'first' FROM generate_series(1, 500) AS g",
    )
    file = tmp_path / "flow.yaml"
    file.write_text(yaml.safe_dump(flow(database.name)))
    return file


def flow(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"type": "postgres", "options": {"dsn": "env:FROM_DSN", "publication_tables": ["orders"]}},
        "destinations": [
            {"name": "copy", "type": "postgres", "options": {"dsn": "env:TO_DSN"}},
            {"name": "lake", "type": "duckdb", "options": {"dsn": "lake.duckdb"}},
        ],
    }


@pytest.fixture
def run(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> Iterator[Run]:
    """Starts ``wallaby run`` in the flow's folder; the slot is dropped afterwards."""
    started: list[Command] = []
    environment = {**ray_host.environment, "FROM_DSN": database.dsn, "TO_DSN": target_database.dsn}

    def start(*words: str) -> Command:
        line = [sys.executable, "-m", "cluster.cli", "run", *words, "--listen", "127.0.0.1:0"]
        started.append(Command.start(line, environment=environment, folder=tmp_path))
        return started[-1]

    yield start
    for command in started:
        command.end()
    drop_slots(database)


def drop_slots(database: ScratchDatabase) -> None:
    with database.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
            " WHERE database = current_database() AND active"
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )


def contents(database: ScratchDatabase) -> list[tuple[Any, ...]]:
    return database.fetch("SELECT count(*), md5(string_agg(id || note, ',' ORDER BY id)) FROM orders")


def lake_rows(folder: Path) -> int:
    import duckdb

    with duckdb.connect(str(folder / "lake.duckdb"), read_only=True) as connection:
        [row] = connection.execute("SELECT count(*) FROM public.orders").fetchall()
    return int(row[0])


@pytest.mark.must_not_fail(2)
def test_a_run_stops_at_its_end_is_interrupted_resumes_and_says_everything_in_json(
    run: Run, flow_file: Path, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> None:
    """`--once`, then changes, then Ctrl-C while streaming, then changes again and `--until-lsn`: equal each time."""
    first = run(str(flow_file), "--once", "--json")
    assert first.wait(START_S) == 0, first.tail()
    events = first.events()
    assert {event["event"] for event in events} == {"message", "progress", "report"}
    assert [event["event"] for event in events].count("report") == 1
    assert (events[-1]["outcome"], events[-1]["state"]) == ("drained", "stopped")
    assert first.errors == []
    assert contents(target_database) == contents(database)
    assert lake_rows(tmp_path) == 500

    database.execute("UPDATE orders SET note = 'second' WHERE id % 2 = 0", "DELETE FROM orders WHERE id <= 10")
    streaming = run(str(flow_file))
    streaming.until("streaming", START_S)
    streaming.signal(signal.SIGINT)
    assert streaming.wait() == 0, streaming.tail()
    assert any("draining" in line for line in streaming.lines)
    assert contents(target_database) == contents(database)

    # Too large for the spool: the stream is opened again without streaming, once.
    given = flow(database.name)
    given["source"]["options"] |= {"spool_memory": "0B", "spool_disk": "1KiB"}
    flow_file.write_text(yaml.safe_dump(given))
    database.execute(
        f"ALTER DATABASE {database.name} SET logical_decoding_work_mem = '64kB'",
        "INSERT INTO orders SELECT g, 'third' FROM generate_series(1000, 5999) AS g",
    )
    [(lsn,)] = database.fetch("SELECT pg_current_wal_lsn()::text")
    last = run(str(flow_file), "--until-lsn", lsn, "--json")
    assert last.wait(START_S) == 0, last.tail()
    assert contents(target_database) == contents(database)
    assert lake_rows(tmp_path) == contents(database)[0][0]
    assert last.events()[-1]["epoch"] == 4
    assert any("unfinished transactions need more than" in json.dumps(event) for event in last.events())


@pytest.mark.must_not_fail(11, 24)
def test_a_hidden_column_that_is_renamed_between_two_runs_does_not_arrive(
    run: Run, flow_file: Path, database: ScratchDatabase, tmp_path: Path
) -> None:
    """The control store knows the column by its number, whoever runs the flow next."""
    given = flow(database.name)
    given["destinations"] = [
        {**given["destinations"][1], "options": {"dsn": "lake.duckdb", "mask_columns": "note = hash"}}
    ]
    flow_file.write_text(yaml.safe_dump(given))
    first = run(str(flow_file), "--once")
    assert first.wait(START_S) == 0, first.tail()
    database.execute("ALTER TABLE orders RENAME note TO remark", "INSERT INTO orders VALUES (1000, 'in clear')")
    second = run(str(flow_file), "--once")
    assert second.wait(START_S) != 0, second.tail()
    assert any("would arrive as it is" in line for line in (*second.lines, *second.errors)), second.tail()
    assert lake_rows(tmp_path) == 500


def test_a_second_interrupt_ends_at_once_and_loses_nothing(
    run: Run, flow_file: Path, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    """The drain is held up by a lock on the target; the next run finds everything."""
    command = run(str(flow_file))
    command.until("streaming", START_S)
    with target_database.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        database.execute("INSERT INTO orders VALUES (9001, 'while locked')")
        command.signal(signal.SIGINT)
        command.until("draining")
        command.signal(signal.SIGINT)
        assert command.wait() == 130
    again = run(str(flow_file), "--once")
    assert again.wait(START_S) == 0, again.tail()
    assert contents(target_database) == contents(database)


@pytest.mark.must_not_fail(3)
def test_a_dropped_slot_ends_the_run_and_resnapshot_repairs_it(
    run: Run, flow_file: Path, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    """The flow is a JSON file in the Go WALlaby's shape this time."""
    file = flow_file.with_suffix(".json")
    given = flow(database.name)
    given["destinations"] = given["destinations"][:1]
    given["source"]["options"] |= {"batch_size": "500", "ensure_state": "true", "publication_tables": "public.orders"}
    given |= {"wire_format": "arrow", "parallelism": 1, "config": {"ack_policy": "all", "failure_mode": "hold_slot"}}
    file.write_text(json.dumps(given))
    first = run(str(file), "--once")
    assert first.wait(START_S) == 0, first.tail()
    drop_slots(database)
    database.execute("DELETE FROM orders WHERE id < 100", "INSERT INTO orders VALUES (7000, 'unseen')")
    lost = run(str(file), "--json")
    assert lost.wait(START_S) == 1
    [message] = [line for line in lost.errors if line.startswith("wallaby: ")]
    assert "slot is gone" in message
    assert "--resnapshot" in message
    assert lost.events()[-1]["outcome"] == "failed"
    repaired = run(str(file), "--once", "--resnapshot")
    assert repaired.wait(START_S) == 0, repaired.tail()
    assert contents(target_database) == contents(database)


@pytest.mark.long
@pytest.mark.must_not_fail(11)
def test_a_column_without_a_binary_form_that_came_and_went_is_passed(
    run: Run, flow_file: Path, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    """Nobody has it when the flow starts, so it starts in binary; the epoch after the one that fails reads text."""
    given = flow(database.name)
    given["destinations"] = given["destinations"][:1]
    flow_file.write_text(yaml.safe_dump(given))
    first = run(str(flow_file), "--once")
    assert first.wait(START_S) == 0, first.tail()
    database.execute(
        "ALTER TABLE orders ADD place point",
        "INSERT INTO orders VALUES (8000, 'there', '(1,2)')",
        "ALTER TABLE orders DROP place",
        "INSERT INTO orders VALUES (8001, 'gone')",
    )
    second = run(str(flow_file), "--once", "--json")
    assert second.wait(START_S) == 0, second.tail()
    assert second.events()[-1]["epoch"] == 3, "one epoch in binary, one as text"
    assert contents(target_database) == contents(database)
