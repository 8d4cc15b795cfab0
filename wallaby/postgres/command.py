"""Commands of the replication protocol, each with a time limit: a server that does not answer must not hang a flow."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import pq

from wallaby.postgres.connect import Connection

_CANCEL_TIMEOUT_S: Final = 5.0


def run_command(
    connection: Connection, command: str, *, timeout_s: float, parameters: Sequence[bytes] = ()
) -> pq.abc.PGresult:
    """Send one command and return its first result; the connection becomes non-blocking.

    Rows are text, and so are ``parameters`` ($1 …), which a replication connection does not take. `psycopg.Error` when
    the server refuses; on timeout the command is cancelled and `psycopg.errors.QueryCanceled` is raised.
    """
    pgconn = connection.pgconn
    pgconn.nonblocking = 1
    if parameters:
        pgconn.send_query_params(command.encode(), parameters)
    else:
        pgconn.send_query(command.encode())
    _await_result(connection, time.monotonic() + timeout_s)
    result = pgconn.get_result()
    if result is None:
        raise psycopg.OperationalError("the connection was lost")
    if result.status in (pq.ExecStatus.COPY_BOTH, pq.ExecStatus.COPY_OUT):
        return result
    while pgconn.get_result() is not None:
        continue
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    return result


def rows(result: pq.abc.PGresult) -> list[list[str | None]]:
    """The result's rows as text."""
    return [[_text(result.get_value(i, j)) for j in range(result.nfields)] for i in range(result.ntuples)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _await_result(connection: Connection, deadline: float) -> None:
    if _is_answered(connection, deadline):
        return
    connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
    if _is_answered(connection, time.monotonic() + _CANCEL_TIMEOUT_S):
        while connection.pgconn.get_result() is not None:
            continue
    raise psycopg.errors.QueryCanceled("no answer in time")


def _is_answered(connection: Connection, deadline: float) -> bool:
    pgconn = connection.pgconn
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    while pgconn.flush():
        # More was to be sent than the socket takes at once; what the server says meanwhile must be read.
        events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not events:
            return False
        if events[0][1] & ~select.POLLOUT:
            pgconn.consume_input()
    poll.modify(pgconn.socket, select.POLLIN)
    while pgconn.is_busy():
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
        pgconn.consume_input()
    return True
