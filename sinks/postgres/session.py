"""One connection to the destination, with every setting that changes text, order or names fixed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from sinks.postgres.config import PostgresDestinationOptions
from sinks.postgres.errors import connect_failed, translate
from wallaby.login import login_parameters

_SETTINGS: Final = (
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    # One plan for the few-row statements, made once: their parameter is an array, whose length plans do not see anyway.
    ("plan_cache_mode", "force_generic_plan"),
    ("temp_buffers", "64MB"),
)
_CONNECT_TIMEOUT_S: Final = 10
_TCP_SETTINGS: Final[dict[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that vanished without a word is noticed within about half a minute, where the system alone would wait for
hours. What the connection string says wins."""
_PREPARED_MAX: Final = 1000


class Binary:
    """A parameter already in PostgreSQL's binary form."""

    __slots__ = ("data", "oid")

    def __init__(self, oid: int, data: bytes) -> None:
        self.oid = oid
        self.data = data


class _BinaryDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Binary) -> bytes:
        return obj.data

    def get_key(self, obj: Binary, format: Any) -> Any:
        return (self.cls, obj.oid)

    def upgrade(self, obj: Binary, format: Any) -> Dumper:
        dumper = _BinaryDumper(self.cls)
        dumper.oid = obj.oid
        return dumper


def connect(options: PostgresDestinationOptions, destination: str) -> psycopg.Connection[Any]:
    """A connection in autocommit mode; `Transient` when the server cannot be reached, `ConfigError` for a bad DSN.

    With IAM every connection has a token of its own; see `wallaby.login` for what AWS may say.
    """
    settings = list(_SETTINGS)
    if options.synchronous_commit is not None:
        settings.append(("synchronous_commit", options.synchronous_commit.value))
    if not options.fire_triggers:
        settings.append(("session_replication_role", "replica"))
    try:
        wanted: dict[str, Any] = {
            "application_name": f"wallaby {destination}"[:63],
            "connect_timeout": _CONNECT_TIMEOUT_S,
            **_TCP_SETTINGS,
            **login_parameters(options.login),
        }
        connection = psycopg.connect(**wanted, autocommit=True)
    except psycopg.Error as error:
        raise connect_failed(error, options.login) from None
    connection.prepared_max = _PREPARED_MAX
    connection.adapters.register_dumper(Binary, _BinaryDumper)
    with translated(connection), connection.pipeline():
        for name, value in settings:
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
    return connection


@contextmanager
def translated(connection: psycopg.Connection[Any], *, is_commit: bool = False, **where: Any) -> Iterator[None]:
    """psycopg's errors raised inside become ours; see `sinks.postgres.errors.translate`."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, is_connected=not is_broken(connection), is_commit=is_commit, **where) from error


def is_broken(connection: psycopg.Connection[Any]) -> bool:
    """True when nothing can be sent any more."""
    return connection.closed or connection.broken
