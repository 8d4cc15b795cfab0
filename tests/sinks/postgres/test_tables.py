"""Targets: created, adopted, refused, emptied; and what `check` says about them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sinks.postgres import FACTORY
from tests.sinks.postgres.conftest import LANE, Driver
from wallaby.errors import ConfigError, Refused, Transient
from wallaby.sink import Guarantee, WriteMode
from wallaby.testing.changes import Stream, insert, table
from wallaby.testing.postgres import ScratchDatabase

ORDERS = table("public.orders", {"id": "int8", "note": "text", "total": "numeric(10,2)"}, key=["id"])


def test_capabilities_promise_exactly_once() -> None:
    capabilities = FACTORY.describe({"dsn": "host=nowhere"})
    assert capabilities.guarantee is Guarantee.EXACTLY_ONCE
    assert capabilities.modes == set(WriteMode)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "dsn"),
        ({"dsn": "host=x", "dns": 1}, "dns"),
        ({"dsn": "host=x", "synchronous_commit": "maybe"}, "synchronous_commit"),
        ({"dsn": "host=x", "type_mappings": "[]"}, "type_mappings"),
        ({"dsn": "host=x", "aws_rds_iam": True}, "names no user"),
        ({"dsn": "host=x user=u", "aws_role_arn": "wallaby"}, "aws_role_arn"),
        ({"dsn": "host=x", "state_schema": "50%"}, "state_schema"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FACTORY.describe(options)
    assert field in str(caught.value)


def test_names_of_the_go_wallaby_are_accepted() -> None:
    FACTORY.describe(
        {
            "dsn": "postgres://u:p@h/d",
            "write_mode": "target",
            "schema": "public",
            "table": "t",
            "synchronous_commit": "off",
            "batch_mode": "target",
            "meta_table_enabled": True,
            "staging_suffix": "_staging",
        }
    )


def test_an_existing_fitting_table_is_adopted_and_emptied_only_if_it_was_empty(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.database.execute(
        "CREATE TABLE orders (extra int DEFAULT 3, note varchar, id int8 UNIQUE, total numeric(12,2))",
        "CREATE SCHEMA full_one",
        "CREATE TABLE full_one.orders (id int8 PRIMARY KEY, note text, total numeric)",
        "INSERT INTO full_one.orders VALUES (1)",
    )
    driver.sink.ensure_table(ORDERS)
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "a", None))])
    driver.apply(*stream.windows())
    driver.sink.reset_table(ORDERS.name, LANE, 1)
    assert driver.database.fetch("SELECT count(*) FROM orders") == [(0,)]
    other = drive(schema="full_one", lane=type(LANE)("shop", "other"))
    other.sink.ensure_table(ORDERS)
    with pytest.raises(Refused, match="held rows"):
        other.sink.reset_table(ORDERS.name, other.lane, 1)
    assert driver.database.fetch("SELECT count(*) FROM full_one.orders") == [(1,)]


@pytest.mark.parametrize(
    ("columns", "difference"),
    [
        ("id int8 PRIMARY KEY, note text", "total is missing"),
        ("id int8, note text, total numeric", "unique index"),
        ("id int8, note text, total numeric, UNIQUE (id, note)", "unique index"),
        ("id int4 PRIMARY KEY, note text, total numeric", "id has type integer"),
        ("id int8 PRIMARY KEY, note varchar(3), total numeric", "note has type"),
        ("id int8 PRIMARY KEY, note text, total numeric(10,1)", "total has type"),
        ("id int8 PRIMARY KEY, note text NOT NULL, total numeric", "NOT NULL"),
        ("id int8 PRIMARY KEY, note text, total numeric, extra int NOT NULL", "extra is NOT NULL"),
    ],
)
def test_a_table_of_another_shape_is_refused_and_found_by_check(
    columns: str, difference: str, drive: Callable[..., Driver]
) -> None:
    driver = drive()
    driver.database.execute(f"CREATE TABLE orders ({columns})")
    [finding] = driver.sink.check((ORDERS,))
    assert finding.code == "table-shape"
    assert finding.subject == "table public.orders"
    assert difference in finding.message
    with pytest.raises(Refused, match=difference):
        driver.sink.ensure_table(ORDERS)


def test_a_view_is_refused(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.database.execute("CREATE VIEW orders AS SELECT 1::int8 AS id")
    with pytest.raises(Refused, match="not a table"):
        driver.sink.ensure_table(ORDERS)


def test_a_missing_table_is_refused_without_create_tables(drive: Callable[..., Driver]) -> None:
    driver = drive(create_tables=False)
    assert [finding.code for finding in driver.sink.check((ORDERS,))] == ["table-shape"]
    with pytest.raises(Refused, match="does not exist"):
        driver.sink.ensure_table(ORDERS)


def test_check_changes_nothing(target_database: ScratchDatabase) -> None:
    sink = FACTORY.create({"dsn": target_database.dsn}, destination="copy")
    try:
        assert sink.check((ORDERS,)) == []
    finally:
        sink.close()
    assert target_database.fetch("SELECT 1 FROM pg_namespace WHERE nspname = 'wallaby'") == []
    assert target_database.fetch("SELECT 1 FROM pg_class WHERE relname = 'orders'") == []


@pytest.mark.must_not_fail(24)
def test_an_unreachable_destination_is_a_finding_without_secrets() -> None:
    sink = FACTORY.create({"dsn": "postgresql://somebody:hunter2@127.0.0.1:1/shop"}, destination="copy")
    [finding] = sink.check()
    assert finding.code == "destination-unreachable"
    assert "connection refused" in finding.message
    with pytest.raises(Transient) as caught:
        sink.open()
    for text in (str(finding), str(caught.value), repr(caught.value)):
        assert "hunter2" not in text
        assert "somebody" not in text


@pytest.mark.must_not_fail(24)
def test_an_unreadable_dsn_is_a_config_error_without_its_text() -> None:
    sink = FACTORY.create({"dsn": "host=x hunter2"}, destination="copy")
    with pytest.raises(ConfigError) as caught:
        sink.open()
    assert "hunter2" not in str(caught.value)
    assert [finding.code for finding in sink.check()] == ["destination-unreachable"]


def test_a_read_only_destination_is_a_finding(target_database: ScratchDatabase) -> None:
    target_database.execute(f'ALTER DATABASE "{target_database.name}" SET default_transaction_read_only = on')
    sink = FACTORY.create({"dsn": target_database.dsn}, destination="copy")
    assert [finding.code for finding in sink.check((ORDERS,))] == ["destination-read-only"]
    sink.close()


def test_missing_privileges_are_findings_with_the_grant_to_make(target_database: ScratchDatabase) -> None:
    role = f"r_{target_database.name}"
    target_database.execute(
        f"CREATE ROLE {role} LOGIN",
        "CREATE TABLE orders (id int8 PRIMARY KEY, note text, total numeric)",
        f"GRANT SELECT, INSERT, UPDATE ON orders TO {role}",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    lines = table("public.lines", {"id": "int8"}, key=["id"])
    try:
        dsn = target_database.dsn.replace("postgres@", f"{role}@").replace("user=postgres", f"user={role}")
        sink = FACTORY.create({"dsn": dsn}, destination="copy")
        found = sink.check((ORDERS, lines))
        sink.close()
    finally:
        target_database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert {finding.code for finding in found} == {"privilege"}
    assert {finding.subject for finding in found} == {"table public.orders", "schema public", "schema wallaby"}
    assert any("DELETE" in finding.advice for finding in found)


@pytest.mark.must_not_fail(24)
def test_a_constraint_violation_names_the_constraint_and_no_value(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.database.execute(
        "CREATE TABLE orders (id int8 PRIMARY KEY, note text CONSTRAINT short CHECK (length(note) < 3), total numeric)"
    )
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, "hunter2", None))])
    [window] = stream.windows()
    driver.write(window)
    with pytest.raises(Refused) as caught:
        driver.commit(window.upto, 1)
    assert "short" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_two_sources_do_not_share_a_mirror(drive: Callable[..., Driver]) -> None:
    driver = drive(schema="merged")
    driver.sink.ensure_table(ORDERS)
    other = table("shop.orders", {"id": "int8", "note": "text", "total": "numeric(10,2)"}, key=["id"])
    with pytest.raises(Refused, match="another source"):
        driver.sink.ensure_table(other)
