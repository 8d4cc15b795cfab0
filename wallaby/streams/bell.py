"""Hearing that a stream has something to pull, by LISTEN on a connection of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from wallaby.login import Dsn, login_parameters
from wallaby.streams.errors import connect_failed, translated
from wallaby.streams.schema import CHANNEL

_CONNECT_SECONDS: Final = 10
_TCP: Final[Mapping[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that vanished without a word is noticed within about half a minute."""


class Bell:
    """Rings for streams. For one thread; behind a pooler in transaction mode it never rings."""

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def arm(self) -> None:
        """From now on nothing goes unheard. Idempotent."""
        if self._connection is None or self._connection.closed:
            self._connection = open_connection(self._dsn, "wallaby streams bell")
            with translated(self._connection):
                self._connection.execute(f"LISTEN {CHANNEL}")

    def wait(self, seconds: float) -> frozenset[str]:
        """The streams it rang for; empty when it did not within ``seconds``. `OutcomeUnknown` when it is lost."""
        self.arm()
        connection = self._connection
        assert connection is not None, "it was just armed"
        try:
            with translated(connection):
                return frozenset(note.payload for note in connection.notifies(timeout=seconds, stop_after=1))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; `arm` opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def open_connection(dsn: Dsn, name: str) -> psycopg.Connection[Any]:
    """An autocommit connection that leaves nothing on the server that a pooler would mind."""
    try:
        return psycopg.connect(
            **{
                **login_parameters(dsn),
                "autocommit": True,
                "prepare_threshold": None,
                "connect_timeout": _CONNECT_SECONDS,
                "application_name": name,
                "client_encoding": "UTF8",
                **_TCP,
            },
        )
    except psycopg.Error as error:
        raise connect_failed(error, dsn) from None
