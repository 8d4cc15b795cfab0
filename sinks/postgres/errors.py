"""psycopg's errors as ours. Server messages that may quote a value are left out."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from wallaby.errors import ConfigError, OutcomeUnknown, Refused, RowRefused, Transient, WallabyError
from wallaby.login import IAM_ADVICE, Dsn, IamDsn

_VALUE_BEARING: Final = frozenset({"21", "22", "23", "P0", "44"})
"""SQLSTATE classes whose messages can quote row values."""
_ROW_CAUSED: Final = frozenset({"22", "23", "44", "54", "P0"})
"""SQLSTATE classes of what a row's values cause: a type, a constraint, a view's check, a size, a trigger."""
_TRANSIENT: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX", "25"})
_UNKNOWN: Final = frozenset({"08007", "40003"})
"""transaction_resolution_unknown, statement_completion_unknown."""
_CONNECT_CAUSES: Final = (
    ("password authentication failed", "password authentication failed"),
    ("no password supplied", "a password is required"),
    ("authentication failed", "the server refuses the authentication"),
    ("Connection refused", "connection refused"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("could not translate host name", "unknown host name"),
    ("failed to resolve host", "unknown host name"),
    ("does not exist", "the database or role does not exist"),
    ("no pg_hba.conf entry", "the server's pg_hba.conf does not allow this connection"),
    ("too many clients", "too many connections"),
    ("remaining connection slots", "too many connections"),
    ("starting up", "the server is starting up"),
    ("shutting down", "the server is shutting down"),
    ("SSL", "TLS negotiation failed"),
    ("certificate", "TLS negotiation failed"),
)
_CONFIG_CAUSES: Final = ("invalid integer value", "invalid port number", "Servname not supported")
"""What libpq and psycopg refuse before they contact anybody: a port that is none."""
_ADVICE: Final = {
    "23": "A constraint of the target table rejects the row: compare it with the source's constraints",
    "22": "A column of the target table is too narrow or of another type than the source's",
    "42": "Compare the target table and the role's privileges with what `wallaby check` reports",
    "25": "The destination is read-only, perhaps a standby: point the DSN at the primary",
    "53": "The destination server lacks a resource (connections, memory or disk)",
}


def connect_failed(error: psycopg.Error, dsn: Dsn) -> WallabyError:
    """The error of a failed connection attempt, without anything of the DSN."""
    if isinstance(error, psycopg.ProgrammingError) or any(words in str(error) for words in _CONFIG_CAUSES):
        return ConfigError(
            "the connection string cannot be read",
            advice="Write postgresql://user@host:port/database or key=value pairs",
            field="dsn",
        )
    cause = connect_cause(error)
    advice = "Check that the server runs and that host, port, database, user and password are right"
    if isinstance(dsn, IamDsn) and "authentication" in cause:
        advice = IAM_ADVICE
    return Transient(f"cannot connect to the destination: {cause}", advice=advice)


def connect_cause(error: psycopg.Error) -> str:
    """A few fixed words saying why connecting failed."""
    text = str(error)
    return next((words for pattern, words in _CONNECT_CAUSES if pattern in text), "the server cannot be reached")


def translate(error: psycopg.Error, *, is_connected: bool, is_commit: bool = False, **where: Any) -> WallabyError:
    """Our error for one raised by a statement.

    ``is_connected`` is False when the connection is gone: at a commit its outcome is then unknown, and before the
    commit certainly nothing happened, because PostgreSQL rolls back what was not committed.
    """
    state = error.sqlstate or ""
    if not is_connected:
        if is_commit:
            return OutcomeUnknown("the connection was lost during the commit", **where)
        return Transient("the connection to the destination was lost", sqlstate=state or None, **where)
    diagnostic = error.diag
    places: dict[str, Any] = {
        **where,
        "sqlstate": state or None,
        "object": diagnostic.table_name,
        "column": diagnostic.column_name,
        "constraint": diagnostic.constraint_name,
    }
    message = type(error).__name__ if state[:2] in _VALUE_BEARING or not state else _primary(error)
    advice = _ADVICE.get(state[:2], "")
    if is_commit and state in _UNKNOWN:
        return OutcomeUnknown(f"the destination reports: {message}", **places)
    if state[:2] in _TRANSIENT:
        return Transient(f"the destination reports: {message}", advice=advice, **places)
    if state[:2] in _ROW_CAUSED:
        return RowRefused(f"the destination refuses a row: {message}", advice=advice, **places)
    if state:
        return Refused(f"the destination refuses: {message}", advice=advice, **places)
    kind = OutcomeUnknown if is_commit else Transient
    return kind(f"the destination failed: {message}", **places)


def _primary(error: psycopg.Error) -> str:
    return error.diag.message_primary or type(error).__name__
