"""psycopg's errors at a stream's database as ours. No message of the server that may quote a value is passed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import errors

from wallaby.errors import CheckFailed, ConfigError, OutcomeUnknown, Transient, WallabyError
from wallaby.login import IAM_ADVICE, Dsn, IamDsn

_PASSING: Final = frozenset({"08", "40", "53", "55", "57", "58"})
_ADVICE: Final = "Check that the database of the streams is up, and its DSN (WALLABY_STREAM_DSN)"


def connect_failed(error: psycopg.Error, dsn: Dsn) -> WallabyError:
    """The error of a failed connection attempt, without anything of the DSN."""
    if isinstance(error, psycopg.ProgrammingError):
        return ConfigError(
            "the DSN of the streams cannot be read",
            advice="Write postgresql://user@host/database or key=value pairs",
            field="WALLABY_STREAM_DSN",
        )
    is_refused = isinstance(dsn, IamDsn) and "authentication failed" in str(error)
    return Transient(
        f"the database of the streams cannot be reached ({type(error).__name__})",
        advice=IAM_ADVICE if is_refused else _ADVICE,
    )


def translate(error: psycopg.Error, *, is_connected: bool) -> WallabyError:
    """Our error for one raised by a statement.

    A lost connection leaves the outcome unknown: a claim nobody heard of runs out by itself, and an acknowledgement may
    be repeated.
    """
    state = error.sqlstate or ""
    if not is_connected:
        return OutcomeUnknown("the connection to the streams was lost", advice="Try again", sqlstate=state or None)
    if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName):
        return CheckFailed(
            "there are no streams in this database",
            advice="Start a flow with a pgstream destination first, or point WALLABY_STREAM_DSN at its database",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return CheckFailed(
            "the role may not use the streams",
            advice="Grant it USAGE on their schema and SELECT, INSERT, UPDATE, DELETE on its tables and sequence",
        )
    if state[:2] in _PASSING:
        return Transient(f"the streams are busy ({type(error).__name__})", advice="Try again", sqlstate=state)
    return CheckFailed(
        f"the streams' database answered with an error ({type(error).__name__})",
        advice="Check that nothing else changed the tables of the streams",
        sqlstate=state or None,
    )


@contextmanager
def translated(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """psycopg's errors raised inside become ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, is_connected=not (connection.closed or connection.broken)) from error
