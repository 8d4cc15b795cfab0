"""``wallaby publication`` and ``wallaby slot`` on a real source, by the server and from here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.rds import REGION, RdsDoor, aws, door, iam_user
from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby, draining
from wallaby.errors import CheckFailed, ConfigError, IllegalMove, NotFound
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.lifecycle import Command, FlowState
from wallaby.store import CallKind
from wallaby.store.opening import open_sqlite
from wallaby.testing.postgres import ScratchDatabase
from wallaby.vault import Vault

__all__ = ["aws", "door", "iam_user"]


@pytest.fixture
def source(database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScratchDatabase]:
    database.execute(
        "CREATE SCHEMA shop",
        *(f"CREATE TABLE shop.{name} (id int PRIMARY KEY)" for name in ("orders", "lines", "stock")),
        'CREATE TABLE "Odd.Name, yes" (id int PRIMARY KEY)',
        "CREATE PUBLICATION pub FOR TABLE shop.orders",
    )
    monkeypatch.setenv("SOURCE_DSN", database.dsn)
    yield database
    for slot in database.slots():
        database.execute(f"SELECT pg_drop_replication_slot('{slot}')")


def published(source: ScratchDatabase) -> list[str]:
    return [name for (name,) in source.fetch("SELECT tablename FROM pg_publication_tables ORDER BY 1")]


def store_flow(running: Running, **options: str) -> None:
    options = {"dsn": "env:SOURCE_DSN", "publication": "pub", "slot": "wallaby_cli_test", **options}
    running.store.create_flow(
        FlowSpec(
            id="shop",
            name="Shop",
            source=EndpointSpec(type="postgres", options=options),
            destinations=(EndpointSpec(name="nowhere", type="blackhole"),),
        )
    )


OF = ("-dsn", "env:SOURCE_DSN", "-publication", "pub")


def test_tables_are_listed_added_and_removed(source: ScratchDatabase) -> None:
    wallaby = Wallaby()
    assert wallaby("publication", "list", *OF) == "Publication pub tables:\n- shop.orders\n"
    assert json.loads(wallaby("publication", "list", *OF, "-json")) == {
        "publication": "pub",
        "count": 1,
        "tables": ["shop.orders"],
    }
    added = wallaby("publication", "add", *OF, "-tables", 'shop.lines,"Odd.Name, yes"')
    assert added == "Added 2 tables to publication pub\n"
    assert published(source) == ["Odd.Name, yes", "lines", "orders"]
    assert wallaby("publication", "add", *OF, "-tables", "shop.lines") == "Added 0 tables to publication pub\n"
    removed = wallaby("publication", "remove", *OF, "-tables", "shop.*,public.nothing")
    assert removed == "Removed 2 tables from publication pub\n"
    assert published(source) == ["Odd.Name, yes"]
    wallaby("publication", "remove", *OF, "-tables", '"Odd.Name, yes"')
    assert wallaby("publication", "list", *OF) == "No tables in publication.\n"


def test_tables_that_are_not_published_are_found_and_added_when_asked(source: ScratchDatabase) -> None:
    wallaby = Wallaby()
    assert wallaby("publication", "scrape", *OF, "-schemas", "shop") == "- shop.lines\n- shop.stock\n"
    assert published(source) == ["orders"]
    done = wallaby("publication", "scrape", *OF, "-schemas", "shop", "-apply")
    assert done == "Added 2 tables to publication pub\n"
    assert wallaby("publication", "scrape", *OF, "-schemas", "shop") == "No new tables found.\n"


def test_who_adds_tables_is_told_that_their_rows_are_not_copied(
    source: ScratchDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    Wallaby()("publication", "add", *OF, "-tables", "shop.lines")
    assert "are not copied" in capsys.readouterr().err
    Wallaby()("publication", "remove", *OF, "-tables", "shop.lines")
    assert capsys.readouterr().err == ""


def test_sync_follows_the_flow_drains_it_and_lets_it_run_again(running: Running, source: ScratchDatabase) -> None:
    wallaby = Wallaby(running.address)
    store_flow(running, publication_tables="shop.lines,shop.stock")
    running.store.move_flow("shop", Command.START)
    with draining(running):
        assert wallaby("publication", "sync", "-flow-id", "shop") == "Synced publication pub (added=2 removed=0)\n"
        assert published(source) == ["lines", "orders", "stock"]
        assert running.store.get_flow("shop").state is FlowState.RUNNING
        assert running.store.state_events("shop")[2].command is Command.STOP
        synced = wallaby("publication", "sync", "-flow-id", "shop", "-mode", "sync", "-pause=false", "-json")
    assert json.loads(synced) == {"publication": "pub", "added": 0, "removed": 1}
    assert published(source) == ["lines", "stock"]
    assert len(running.store.state_events("shop")) == 5, "without -pause the flow is left alone"
    wallaby("publication", "sync", "-flow-id", "shop", "-tables", "shop.orders", "-mode=sync", "-pause=false")
    assert published(source) == ["orders"]


def test_a_flow_that_was_drained_runs_again_when_the_change_fails(running: Running, source: ScratchDatabase) -> None:
    store_flow(running, publication_tables="shop.nothing")
    running.store.move_flow("shop", Command.START)
    with draining(running), pytest.raises(IllegalMove, match=r"shop\.nothing"):
        Wallaby(running.address)("publication", "sync", "-flow-id", "shop")
    assert running.store.get_flow("shop").state is FlowState.RUNNING


def test_what_has_no_list_of_tables_is_not_changed(source: ScratchDatabase) -> None:
    source.execute("CREATE PUBLICATION every FOR ALL TABLES")
    for command in ("add", "remove"):
        with pytest.raises(CheckFailed, match="FOR ALL TABLES"):
            Wallaby()(
                *("publication", command, "-dsn", "env:SOURCE_DSN", "-publication", "every", "-tables", "shop.lines")
            )
    with pytest.raises(NotFound, match="does not exist"):
        Wallaby()("publication", "list", "-dsn", "env:SOURCE_DSN", "-publication", "nope")


def test_a_table_published_through_its_schema_cannot_be_removed_alone(
    source: ScratchDatabase, postgres_major: int
) -> None:
    if postgres_major < 15:
        pytest.skip("PostgreSQL 14 has no publications of schemas")
    source.execute("ALTER PUBLICATION pub ADD TABLES IN SCHEMA shop")
    with pytest.raises(CheckFailed, match="through their schema"):
        Wallaby()("publication", "remove", *OF, "-tables", "shop.lines")


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("publication", "list"), "flow-id or dsn is required"),
        (("publication", "list", "-dsn", "env:SOURCE_DSN"), "publication is required"),
        (("publication", "list", "-dsn", "nonsense", "-publication", "x"), "not a PostgreSQL connection string"),
        (("publication", "list", *OF, "-aws-role-arn", "wallaby"), "ARN"),
        (("slot", "list", "-dsn", "postgresql://me:pw@h/shop", "-aws-rds-iam"), "holds a password"),
        (("slot", "list", "-dsn", "secret:shop"), "only the server can read"),
        (("publication", "add", *OF, "-tables", " , "), "names nothing"),
        (("publication", "add", *OF, "-tables", "a b"), "must be a table"),
        (("publication", "sync", *OF, "-tables", "a"), "flow-id is required"),
        (("publication", "sync", "-flow-id", "shop", "-snapshot"), "cannot copy single tables"),
        (("slot", "drop", "-dsn", "env:SOURCE_DSN"), "slot is required"),
    ],
)
def test_wrong_usage_is_a_config_error(source: ScratchDatabase, words: tuple[str, ...], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        Wallaby()(*words)


@pytest.mark.must_not_fail(24)
def test_no_error_shows_the_password_of_a_source() -> None:
    for command in (("publication", "list", "-publication", "x"), ("slot", "list")):
        with pytest.raises(Exception, match="connect") as refused:
            Wallaby()(*command, "-dsn", "postgresql://me:hunter2@127.0.0.1:1/none")
        assert "hunter2" not in f"{refused.value}{refused.value!r}"


def test_slots_are_listed_with_what_they_keep_and_dropped_on_demand(running: Running, source: ScratchDatabase) -> None:
    wallaby = Wallaby(running.address)
    assert wallaby("slot", "list", "-dsn", "env:SOURCE_DSN") == "No slots found.\n"
    source.execute("SELECT pg_create_logical_replication_slot('wallaby_cli_test', 'pgoutput')")
    store_flow(running)
    header, line = wallaby("slot", "list", "-flow-id", "shop").splitlines()
    assert header.split("  ")[0] == "SLOT"
    assert line.split()[:2] == ["wallaby_cli_test", "idle"]
    [slot] = json.loads(wallaby("slot", "list", "-flow-id", "shop", "-json"))["slots"]
    assert (slot["name"], slot["plugin"], slot["active"], slot["lost"]) == ("wallaby_cli_test", "pgoutput", False, None)
    assert slot["kept_bytes"] >= 0
    with pytest.raises(ConfigError, match="-yes"):
        wallaby("slot", "drop", "-flow-id", "shop")
    with pytest.raises(NotFound):
        wallaby("slot", "drop", "-flow-id", "shop", "-slot", "nope", "-yes")
    assert source.slots() == ["wallaby_cli_test"]
    assert wallaby("slot", "drop", "-flow-id", "shop", "-yes") == "Dropped slot wallaby_cli_test\n"
    assert source.slots() == []


@pytest.mark.must_not_fail(24)
def test_a_flow_whose_source_only_the_server_knows_is_steered_through_it(
    source: ScratchDatabase, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(base64.b64encode(b"k" * 32).decode())
    store, key = open_sqlite(tmp_path / "state"), f"file:{tmp_path / 'key'}"
    running = Running(store, secret_key=key)
    try:
        wallaby = Wallaby(running.address)
        store_flow(running, dsn="secret:shop")
        with pytest.raises(IllegalMove, match="no secret shop"):
            wallaby("publication", "list", "-flow-id", "shop")
        store.put_secret(Vault.from_reference(key).seal("shop", source.dsn, at=datetime.now(UTC), by="test"))
        assert wallaby("publication", "list", "-flow-id", "shop") == "Publication pub tables:\n- shop.orders\n"
        assert wallaby("publication", "add", "-flow-id", "shop", "-tables", "shop.lines").startswith("Added 1 ")
        assert wallaby("publication", "remove", "-flow-id", "shop", "-tables", "shop.orders").startswith("Removed 1 ")
        done = wallaby("publication", "scrape", "-flow-id", "shop", "-schemas", "shop", "-apply")
        assert done == "Added 2 tables to publication pub\n"
        assert wallaby("slot", "list", "-flow-id", "shop") == "No slots found.\n"
        with pytest.raises(ConfigError, match="only the server can read"):
            wallaby("slot", "list", "-flow-id", "shop", "-aws-region", REGION)
    finally:
        running.stop()
    assert published(source) == ["lines", "orders", "stock"]
    changes = [call.method.rpartition("/")[2] for call in store.list_calls(limit=20) if call.kind is CallKind.CHANGE]
    assert changes == ["AddPublicationTables", "RemovePublicationTables", "AddPublicationTables"]
    store.close()


def test_a_dsn_beside_a_flow_is_used_from_here(running: Running, source: ScratchDatabase) -> None:
    store_flow(running, dsn="env:NOT_SET_ANYWHERE")
    listed = Wallaby(running.address)("publication", "list", "-flow-id", "shop", "-dsn", "env:SOURCE_DSN")
    assert listed == "Publication pub tables:\n- shop.orders\n"


def test_a_login_with_iam_is_asked_for_by_flags(door: RdsDoor, iam_user: str, source: ScratchDatabase) -> None:
    of = ("-dsn", door.dsn(iam_user, source.name), "-aws-region", REGION)
    wallaby = Wallaby()
    assert "shop.orders" in wallaby("publication", "list", *of, "-publication", "pub")
    assert wallaby("slot", "list", *of, "-aws-rds-iam") == "No slots found.\n"
    with pytest.raises(CheckFailed, match="password"):
        wallaby("slot", "list", *of, "-aws-rds-iam=false")
    assert len(door.logins) == 2


def test_flags_of_the_login_beat_the_options_of_the_flow(
    running: Running, door: RdsDoor, iam_user: str, source: ScratchDatabase
) -> None:
    store_flow(running, dsn=door.dsn(iam_user, source.name), aws_region="eu-west-1", aws_rds_iam="true")
    wallaby = Wallaby(running.address)
    with pytest.raises(IllegalMove, match="rds_iam"):
        wallaby("slot", "list", "-flow-id", "shop")
    assert wallaby("slot", "list", "-flow-id", "shop", "-aws-region", REGION) == "No slots found.\n"
    assert (door.refused, len(door.logins)) == (1, 1)
