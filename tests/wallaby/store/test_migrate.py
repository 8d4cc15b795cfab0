"""Migrations run once, in order, under a lock, and never silently on a store they do not know."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from wallaby.errors import CheckFailed
from wallaby.store.migrate import Migration, migrate, migrations
from wallaby.store.opening import open_postgres, open_sqlite
from wallaby.store.postgres import PostgresEdge
from wallaby.store.sql import SqlStore
from wallaby.store.sqlite import SqliteEdge
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.store_contract import a_flow

_RACER = """
import sys
from wallaby.store.opening import open_postgres, open_sqlite
kind, place = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
store = {"sqlite": open_sqlite, "postgres": open_postgres}[kind](place)
print(*(store.begin_epoch("shop").epoch for _ in range(25)))
"""


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_migrations_are_numbered_without_gaps_and_alike_in_both_dialects(dialect: str) -> None:
    ours, other = migrations(dialect), migrations("sqlite")  # type: ignore[arg-type]
    assert [(m.number, m.name) for m in ours] == [(m.number, m.name) for m in other]
    assert ours


def test_a_second_start_has_nothing_to_do(tmp_path: Path) -> None:
    edge = SqliteEdge(tmp_path)
    assert migrate(edge) == len(migrations("sqlite"))
    assert migrate(edge) == 0
    edge.close()


def test_a_changed_migration_is_refused(tmp_path: Path) -> None:
    edge = SqliteEdge(tmp_path)
    migrate(edge)
    known = migrations("sqlite")
    with pytest.raises(CheckFailed, match="0001_flows differs"):
        migrate(edge, (replace(known[0], script=known[0].script + "-- changed\n"), *known[1:]))
    edge.close()


def test_a_store_of_a_newer_wallaby_is_refused(tmp_path: Path) -> None:
    edge = SqliteEdge(tmp_path)
    known = migrations("sqlite")
    migrate(edge, (*known, Migration(len(known) + 1, "later", "CREATE TABLE later (id INTEGER PRIMARY KEY);")))
    with pytest.raises(CheckFailed, match="Upgrade wallaby"):
        migrate(edge)
    edge.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_failing_migration_leaves_nothing_behind(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    edge = SqliteEdge(tmp_path) if kind == "sqlite" else PostgresEdge(request.getfixturevalue("database").dsn)
    known = migrations(edge.dialect)
    broken = Migration(len(known) + 1, "broken", "CREATE TABLE half (id INTEGER PRIMARY KEY);\nSELECT nonsense;\n")
    with pytest.raises(Exception, match="control store"):
        migrate(edge, (*known, broken))
    assert migrate(edge) == len(known)
    edge.close()


@pytest.mark.must_not_fail(20)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_start_at_once_migrate_once_and_share_no_epoch(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path) if kind == "sqlite" else request.getfixturevalue("database").dsn
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, kind, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], answers
    epochs = [int(word) for out, _ in answers for word in out.split()]
    assert sorted(epochs) == list(range(1, 76))
    store = open_sqlite(place) if kind == "sqlite" else open_postgres(place)
    assert store.version() == 0
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_store_of_the_first_release_is_brought_forward_by_many_at_once_with_all_it_holds(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path) if kind == "sqlite" else request.getfixturevalue("database").dsn
    edges = [SqliteEdge(tmp_path) if kind == "sqlite" else PostgresEdge(place) for _ in range(4)]
    known = migrations(edges[0].dialect)
    assert migrate(edges[0], known[:1]) == 1
    with edges[0].transaction() as transaction:
        transaction.execute(
            "INSERT INTO wallaby.flows"
            " (id, name, spec, spec_version, state, run_once, revision, reason, created_at, updated_at)"
            " VALUES ('shop', 'Shop', %s, 1, 'created', false, 1, '', %s, %s)",
            (json.dumps(a_flow().to_mapping()), "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        )
    with ThreadPoolExecutor(len(edges)) as threads:
        assert sorted(threads.map(migrate, edges)) == [0, 0, 0, len(known) - 1]
    for edge in edges:
        assert SqlStore(edge).get_flow("shop").spec == a_flow()
        assert SqlStore(edge).list_tokens() == ()
        assert SqlStore(edge).copy_due("shop") == 0
        edge.close()


def test_schema_and_ledger_live_in_schema_wallaby(database: ScratchDatabase) -> None:
    open_postgres(database.dsn).close()
    tables = database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'wallaby' ORDER BY 1")
    assert [name for (name,) in tables] == [
        "calls",
        "changes",
        "checkpoints",
        "ddl_events",
        "dead_letters",
        "flow_state_events",
        "flows",
        "requests",
        "schema_migrations",
        "secrets",
        "source_names",
        "table_copies",
        "tokens",
    ]
