"""Connections to PostgreSQL on which values always look the same, whatever role, database or server settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wallaby.errors import SourceUnavailable, Transient
from wallaby.login import Dsn, login_parameters
from wallaby.postgres.errors import describe_dsn, translate, validate_dsn

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_SESSION_SETTINGS: Final = (
    "-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c bytea_output=hex -c TimeZone=UTC -c extra_float_digits=3"
    " -c row_security=off"
)
"""Role and database settings would otherwise change the text pgoutput sends, and row security would silently empty a
copy. As start-up options they win over ``ALTER ROLE … SET`` and cost no round trip."""

_REPLICATION_SETTINGS: Final = (
    " -c search_path=pg_catalog -c statement_timeout=0 -c idle_session_timeout=0 -c client_min_messages=warning"
)
"""regclass and its kin print names relative to the search path; a role's time limits must not end a stream."""

_TCP_SETTINGS: Final[dict[str, str | int]] = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A dead peer is noticed within about half a minute. What the connection string says wins."""

_SEVERAL: Final = {"target_session_attrs": "primary"}
"""Of several hosts only one is the primary, and any of them may become it. What the connection string says wins. With
``read-write`` a role that is set to read only (``default_transaction_read_only``) would find no server."""


def application_name(flow: str) -> str:
    """How a flow's connections appear in ``pg_stat_activity``: a later run knows an earlier one's walsender by it."""
    return f"wallaby:{flow}"[:63]


def connect(
    dsn: Dsn,
    *,
    application_name: str,
    replication: bool = False,
    autocommit: bool = True,
    connect_timeout_s: int = 10,
) -> Connection:
    """Open a connection; the caller closes it (it is a context manager). Of several hosts the first that is no standby.

    `ConfigError` for an unreadable connection string, `CheckFailed` when the server refuses us, `SourceUnavailable`
    when it cannot be reached now; the same for AWS, where it gives the password (see `wallaby.login`).
    """
    try:
        parts = login_parameters(dsn)
    except psycopg.ProgrammingError:
        validate_dsn(dsn, "dsn")
        raise
    except Transient as error:
        raise SourceUnavailable(error.message, advice=error.advice, source=describe_dsn(dsn)) from error
    given = str(parts.pop("options", None) or "")
    options = f"{given} {_SESSION_SETTINGS}{_REPLICATION_SETTINGS if replication else ''}".strip()
    preset = _SEVERAL if "," in str(parts.get("hostaddr") or parts.get("host") or "") else {}
    wanted: dict[str, Any] = {"connect_timeout": connect_timeout_s, **_TCP_SETTINGS, **preset, **parts}
    wanted |= {"options": options, "client_encoding": "UTF8", "application_name": application_name}
    if replication:
        wanted["replication"] = "database"
    try:
        return psycopg.connect(**wanted, autocommit=autocommit)
    except psycopg.Error as error:
        raise translate(error, dsn=dsn, doing="connect") from error


def each_host(dsn: Dsn) -> tuple[Dsn, ...]:
    """One connection string for every host that ``dsn`` names, in order, for whatever that host is.

    `ConfigError` for an unreadable connection string.
    """
    validate_dsn(dsn, "dsn")
    if not isinstance(dsn, str):
        return (dsn,)  # with IAM there is one host, see `wallaby.login`
    parts = conninfo_to_dict(dsn)
    named = {name: str(parts[name]).split(",") for name in ("host", "hostaddr", "port") if parts.get(name)}
    count = max((len(items) for items in named.values()), default=1)
    found = []
    for i in range(count):
        of_host: dict[str, Any] = {name: items[i if len(items) > 1 else 0] for name, items in named.items()}
        found.append(make_conninfo(dsn, **of_host, target_session_attrs="any"))
    return tuple(found)


@contextmanager
def session(dsn: Dsn, *, application_name: str, doing: str, slot: str | None = None) -> Iterator[Connection]:
    """An autocommit connection for one piece of work; every database error inside leaves as a wallaby error."""
    with connect(dsn, application_name=application_name) as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise translate(error, dsn=dsn, doing=doing, slot=slot) from error


__all__ = [
    "Connection",
    "Dsn",
    "application_name",
    "connect",
    "describe_dsn",
    "each_host",
    "session",
    "validate_dsn",
]
