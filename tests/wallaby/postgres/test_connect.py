"""Connections look the same whatever the role's settings; errors say what to do and keep secrets."""

from __future__ import annotations

import traceback

import psycopg
import pytest

from wallaby.errors import CheckFailed, ConfigError, SourceUnavailable, WallabyError
from wallaby.postgres.connect import connect, each_host
from wallaby.postgres.embedded import free_port
from wallaby.postgres.errors import describe_dsn, translate, validate_dsn
from wallaby.testing.postgres import ScratchDatabase

SECRET = "s3cr3t-word"


def _attempt(dsn: str) -> WallabyError:
    with pytest.raises(WallabyError) as caught:
        connect(dsn, application_name="test", connect_timeout_s=5)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    return caught.value


def test_role_settings_do_not_change_how_values_print(database: ScratchDatabase) -> None:
    for setting in (
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "TimeZone = 'Asia/Kolkata'",
        "extra_float_digits = -10",
        "row_security = on",
    ):
        database.execute(f'ALTER DATABASE "{database.name}" SET {setting}')
    with connect(database.dsn, application_name="test") as connection:
        row = connection.execute(
            "SELECT '2026-02-03 04:05:06+00'::timestamptz::text, '1 day 2 hours'::interval::text,"
            " '\\x00ff'::bytea::text,"
            " (0.1::float8 + 0.2::float8)::text, current_setting('row_security'), current_setting('application_name')"
        ).fetchone()
    assert row == ("2026-02-03 04:05:06+00", "1 day 02:00:00", "\\x00ff", "0.30000000000000004", "off", "test")


@pytest.mark.must_not_fail(24)
def test_a_wrong_password_is_an_error_without_the_password(database: ScratchDatabase) -> None:
    # The server trusts everybody; one role is made to need a password by hand.
    hba = database.server.directory / "data" / "pg_hba.conf"
    before = hba.read_text(encoding="utf-8")
    role = f"locked_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    try:
        hba.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{before}", encoding="utf-8")
        database.execute("SELECT pg_reload_conf()")
        dsn = database.dsn.replace("postgres@", f"{role}:{SECRET}@")
        error = _attempt(dsn)
    finally:
        hba.write_text(before, encoding="utf-8")
        database.execute("SELECT pg_reload_conf()", f"DROP ROLE {role}")
    assert isinstance(error, CheckFailed)
    assert "password" in error.message
    assert error.advice
    assert SECRET not in repr(error) + str(error)


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://user:{SECRET}@host:port/db",
        f"host=h password={SECRET} {SECRET}",
        f"postgresql://user:{SECRET}@host/db?{SECRET}=1",
        f"postgresql://user:p%ZZ{SECRET}@host/db",
        f"postgresql:///?password={SECRET}",
        f"host=h password={SECRET}",
        f"host=h dbname=d replication=database password={SECRET}",
        "",
    ],
)
def test_a_malformed_dsn_is_a_config_error_that_does_not_quote_it(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_dsn(dsn, "source.options.dsn")
    assert caught.value.where["field"] == "source.options.dsn"
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in describe_dsn(dsn)


def test_refusals_and_absences_are_told_apart(database: ScratchDatabase) -> None:
    assert isinstance(_attempt(f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/db"), SourceUnavailable)
    missing = _attempt(database.server.dsn("no_such_database").replace("postgres@", f"postgres:{SECRET}@"))
    assert isinstance(missing, CheckFailed)
    assert "database" in missing.message
    assert isinstance(_attempt(database.dsn.replace("postgres@", f"nobody_here:{SECRET}@")), CheckFailed)


@pytest.mark.must_not_fail(24)
def test_an_error_about_data_does_not_quote_it(database: ScratchDatabase) -> None:
    with database.connect() as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(f"SELECT '{SECRET}'::int")
    error = translate(caught.value, dsn=database.dsn, doing="look")
    assert SECRET not in str(error) + repr(error)
    assert error.where["sqlstate"] == "22P02"


def test_a_dsn_is_described_by_place_only() -> None:
    assert describe_dsn(f"postgresql://me:{SECRET}@db.example:6432/shop?sslmode=require") == "db.example:6432/shop"
    assert describe_dsn("host=/tmp dbname=x") == "local socket:5432/x"


@pytest.mark.parametrize(
    ("dsn", "places"),
    [
        ("host=a port=7 dbname=d", ["a:7/d"]),
        ("host=a,b dbname=d", ["a:5432/d", "b:5432/d"]),
        ("host=a,b port=7 dbname=d", ["a:7/d", "b:7/d"]),
        ("host=a,b port=7,8 dbname=d target_session_attrs=read-write", ["a:7/d", "b:8/d"]),
        ("postgresql://u@a,b:8/d", ["a:5432/d", "b:8/d"]),
        ("hostaddr=127.0.0.1,127.0.0.2 dbname=d", ["127.0.0.1:5432/d", "127.0.0.2:5432/d"]),
    ],
)
def test_a_connection_string_may_name_several_servers(dsn: str, places: list[str]) -> None:
    validate_dsn(dsn, "source.options.dsn")
    hosts = each_host(dsn)
    assert [describe_dsn(host) for host in hosts] == places
    assert all("target_session_attrs=any" in str(host) for host in hosts)


def test_of_several_servers_the_first_that_answers_is_used(database: ScratchDatabase) -> None:
    ports = f"{free_port()},{database.server.port}"
    dsn = f"host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname={database.name}"
    with connect(dsn, application_name="test") as connection:
        assert connection.info.port == database.server.port


def test_a_role_that_only_reads_may_name_several_servers(database: ScratchDatabase) -> None:
    dsn = f"host=127.0.0.1,127.0.0.1 port={database.server.port} user=postgres dbname={database.name}"
    options = "options='-c default_transaction_read_only=on'"
    with connect(f"{dsn} {options}", application_name="test") as connection:
        assert connection.info.port == database.server.port
    error = _attempt(f"{dsn} {options} target_session_attrs=read-write")
    assert isinstance(error, SourceUnavailable)
    assert "waits to be promoted" in error.message
