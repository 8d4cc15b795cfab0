"""psycopg's errors become ours by SQLSTATE, and at a commit by what is known of its outcome."""

from __future__ import annotations

import psycopg
import pytest

from sinks.postgres.config import PostgresDestinationOptions
from sinks.postgres.errors import connect_cause, translate
from sinks.postgres.session import connect
from wallaby.errors import OutcomeUnknown, Refused, RowRefused, Transient, WallabyError
from wallaby.testing.postgres import ScratchDatabase


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.UniqueViolation("Key (id)=(hunter2) exists"), RowRefused),
        (psycopg.errors.InsufficientPrivilege("permission denied"), Refused),
        (psycopg.errors.NumericValueOutOfRange("hunter2"), RowRefused),
        (psycopg.errors.DeadlockDetected("deadlock"), Transient),
        (psycopg.errors.SerializationFailure("x"), Transient),
        (psycopg.errors.DiskFull("x"), Transient),
        (psycopg.errors.LockNotAvailable("x"), Transient),
        (psycopg.errors.ReadOnlySqlTransaction("x"), Transient),
        (psycopg.OperationalError("no state"), Transient),
    ],
)
def test_an_error_answer_tells_that_nothing_happened(error: psycopg.Error, expected: type[WallabyError]) -> None:
    made = translate(error, is_connected=True)
    assert type(made) is expected
    assert "hunter2" not in str(made)


def test_a_lost_connection_is_transient_before_and_unknown_at_a_commit() -> None:
    error = psycopg.OperationalError("server closed the connection unexpectedly")
    assert type(translate(error, is_connected=False)) is Transient
    assert type(translate(error, is_connected=False, is_commit=True)) is OutcomeUnknown


def test_an_error_we_do_not_know_is_unknown_at_a_commit() -> None:
    assert type(translate(psycopg.OperationalError("?"), is_connected=True, is_commit=True)) is OutcomeUnknown
    resolution = psycopg.errors.lookup("08007")("?")
    assert type(translate(resolution, is_connected=True, is_commit=True)) is OutcomeUnknown


def test_the_cause_of_a_failed_connection_is_a_fixed_phrase() -> None:
    text = 'connection to server at "db.example" (10.0.0.1), port 5432 failed: FATAL: password authentication failed'
    assert connect_cause(psycopg.OperationalError(text)) == "password authentication failed"
    assert connect_cause(psycopg.OperationalError("something with hunter2")) == "the server cannot be reached"


@pytest.mark.must_not_fail(17)
def test_a_server_that_vanishes_is_noticed_and_the_connection_string_has_the_last_word(
    target_database: ScratchDatabase,
) -> None:
    for query, expected in (("", "15"), ("?keepalives_idle=99", "99")):
        options = PostgresDestinationOptions.model_validate({"dsn": target_database.dsn + query})
        with connect(options, "copy") as connection:
            parameters = connection.info.get_parameters()
            assert parameters["keepalives_idle"] == expected
            assert parameters["tcp_user_timeout"] == "30000"
