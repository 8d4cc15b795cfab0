"""Consuming: everything a group of consumers does, over one connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar

import psycopg

from wallaby.errors import ConfigError, IllegalMove, NotFound, OutcomeUnknown, Transient
from wallaby.login import Dsn
from wallaby.lsn import Lsn
from wallaby.settings import Limits
from wallaby.streams import retention
from wallaby.streams.bell import open_connection
from wallaby.streams.errors import translated
from wallaby.streams.model import (
    ATTEMPTS_MAX,
    DELAY_MAX_S,
    Ack,
    Claim,
    ClaimedRow,
    Delivery,
    GroupOptions,
    GroupStatus,
    checked_claim,
    checked_name,
    checked_number,
    checked_optional_name,
)
from wallaby.streams.schema import Tables
from wallaby.streams.statements import Statements

_ATTEMPTS_MAX: Final = 3
"""A lost connection, a deadlock: every call here may run twice, so it is simply made again."""
_Result = TypeVar("_Result")
_Connection = psycopg.Connection[Any]


class Streams:
    """The streams in one schema of a database. For one thread at a time; connects at the first call and when needed.

    Every call may raise `ConfigError` (a name or number is unusable), `Transient` (it did not happen), `OutcomeUnknown`
    (call it again) and `CheckFailed` (no streams there, or no right to use them).
    """

    def __init__(self, dsn: Dsn, *, schema: str = "wallaby", limits: Limits | None = None) -> None:
        self._dsn = dsn
        self._sql = Statements(Tables(schema))
        self._limits = limits or Limits()
        self._connection: _Connection | None = None

    def pull(
        self,
        stream: str,
        group: str,
        *,
        max_messages: int = 100,
        visibility_s: int = 30,
        consumer: str = "",
        max_bytes: int | None = None,
    ) -> list[Delivery]:
        """Claim messages for ``consumer``: those given back or run out first, then new ones; in the stream's order.

        They are the consumer's for ``visibility_s`` seconds. A group exists from its first pull on and begins at the
        oldest message. A stream nobody has published to yet is empty. ``max_bytes`` bounds the payloads, but one
        message always comes.
        """
        rows = self.pull_rows(
            stream,
            group,
            max_messages=max_messages,
            visibility_s=visibility_s,
            consumer=consumer,
            max_bytes=max_bytes,
        )
        return [_delivery(row, consumer) for row in rows]

    def pull_rows(
        self,
        stream: str,
        group: str,
        *,
        max_messages: int,
        visibility_s: int,
        consumer: str,
        max_bytes: int | None = None,
    ) -> list[ClaimedRow]:
        """As `pull`; rows as they came, each a tuple with the fields of `ClaimedRow` in their order."""
        limits = self._limits
        checked_name(stream, "stream")
        checked_name(group, "consumer_group")
        checked_optional_name(consumer, "consumer_id")
        checked_number(max_messages, "max_messages", low=1, high=limits.stream_pull_messages_max)
        checked_number(visibility_s, "visibility_timeout_seconds", low=1, high=limits.stream_visibility_max_s)
        size = limits.stream_pull_bytes_max if max_bytes is None else max_bytes
        ahead = limits.stream_lookahead + max_messages
        wanted = (stream, group, max_messages, visibility_s, consumer, size, ahead, limits.stream_blocked_max)

        def claim(connection: _Connection) -> list[ClaimedRow] | None:
            # One round trip, one transaction; each statement sees what was committed before it began.
            with connection.pipeline():
                locked = _raw(connection, self._sql.lock_group, stream, group)
                _raw(connection, self._sql.bury, stream, group, limits.stream_pull_messages_max)
                found = psycopg.RawCursor(connection).execute(self._sql.pull, wanted, binary=True)
            return None if locked.fetchone() is None else found.fetchall()

        def pull(connection: _Connection) -> list[ClaimedRow]:
            found = claim(connection)
            if found is None:
                _raw(connection, self._sql.make_group, stream, group)
                found = claim(connection)
            return found or []

        return self._run(pull)

    def ack(self, stream: str, group: str, claim: Claim) -> Ack:
        """The messages are done: the group never sees them again, unless they are replayed."""
        done, is_retention_due = self._settle(self._sql.ack, stream, group, claim)
        if is_retention_due:
            self.retain(stream)
        return done

    def extend(self, stream: str, group: str, claim: Claim, *, visibility_s: int) -> Ack:
        """The claims last for ``visibility_s`` seconds from now."""
        checked_number(visibility_s, "visibility_timeout_seconds", low=1, high=self._limits.stream_visibility_max_s)
        return self._settle(self._sql.extend, stream, group, claim, visibility_s)[0]

    def give_back(self, stream: str, group: str, claim: Claim, *, delay_s: int = 0) -> Ack:
        """The messages could not be processed: any consumer may claim them again, ``delay_s`` seconds from now."""
        checked_number(delay_s, "delay_seconds", low=0, high=DELAY_MAX_S)
        return self._settle(self._sql.give_back, stream, group, claim, delay_s)[0]

    def replay(self, stream: str, group: str, *, from_lsn: Lsn | None = None, since: datetime | None = None) -> int:
        """Hand out again what the group has met, from a place on: claimed, acknowledged and dead messages alike.

        With both limits a message must satisfy both; with neither everything is replayed. An ordered group gets
        everything behind the first such message, so that the order of its keys holds. Returns how many deliveries were
        reset; claims on them are stale from now on.
        """
        lsn = None if from_lsn is None else str(from_lsn)

        def replay(connection: _Connection) -> int:
            with connection.pipeline():
                self._lock(connection, stream, group)
                reset = _raw(connection, self._sql.replay, stream, group, lsn, since)
                _raw(connection, self._sql.promote_orphans, stream, group)
            return _number(reset)

        return self._with_group(stream, group, replay)

    def groups(self, stream: str, group: str | None = None) -> tuple[GroupStatus, ...]:
        """Where the groups of a stream stand (or one of them); `NotFound` for an unknown stream or group."""
        checked_name(stream, "stream")
        if group is not None:
            checked_name(group, "consumer_group")

        def read(connection: _Connection) -> tuple[GroupStatus, ...]:
            self._require_stream(connection, stream)
            rows = _raw(connection, self._sql.status, stream, group, self._limits.stream_list_max).fetchall()
            return tuple(_status(stream, row) for row in rows)

        found = self._run(read)
        if group is not None and not found:
            raise _no_group(stream, group)
        return found

    def configure(
        self, stream: str, group: str, *, is_ordered: bool | None = None, max_attempts: int | None = None
    ) -> GroupOptions:
        """Make the group, or change how it consumes (None: as it is); what holds from now on.

        `IllegalMove` when order is asked for while messages are out: they may be of one key.
        """
        checked_name(stream, "stream")
        checked_name(group, "consumer_group")
        checked_number(max_attempts or 0, "max_attempts", low=0, high=ATTEMPTS_MAX)

        def configure(connection: _Connection) -> GroupOptions:
            self._require_stream(connection, stream)
            _raw(connection, self._sql.make_group, stream, group)
            with connection.transaction():
                before = _raw(connection, self._sql.lock_group, stream, group).fetchone()
                if before is None:
                    raise _no_group(stream, group)
                options = GroupOptions(
                    is_ordered=before[0] if is_ordered is None else is_ordered,
                    max_attempts=before[1] if max_attempts is None else max_attempts,
                )
                if options.is_ordered and not before[0]:
                    if _raw(connection, self._sql.has_open, stream, group).fetchone() == (True,):
                        raise IllegalMove(
                            "messages of the group are out, perhaps several of one key",
                            advice="Acknowledge them first, or make a new group with order",
                            stream=stream,
                            group=group,
                        )
                elif before[0] and not options.is_ordered:
                    _raw(connection, self._sql.unblock, stream, group)
                _raw(connection, self._sql.configure, stream, group, options.is_ordered, options.max_attempts)
            return options

        return self._run(configure)

    def drop_group(self, stream: str, group: str) -> None:
        """Forget the group: it keeps no message in the stream any more. `NotFound` when there is none."""

        def drop(connection: _Connection) -> bool:
            with connection.pipeline():
                self._lock(connection, stream, group)
                _raw(connection, self._sql.drop_deliveries, stream, group)
                dropped = _raw(connection, self._sql.drop_group, stream, group)
            return dropped.rowcount > 0

        self._with_group(stream, group, drop)

    def dead_letters(self, stream: str, group: str, *, after_id: int = 0, limit: int = 100) -> list[Delivery]:
        """Messages that were given up, oldest first, behind ``after_id``."""
        checked_number(limit, "page_size", low=1, high=self._limits.stream_list_max)
        return self._with_group(
            stream,
            group,
            lambda c: [
                _delivery(row[:12], row[12])
                for row in psycopg.RawCursor(c).execute(
                    self._sql.dead_letters, (stream, group, after_id, limit), binary=True
                )
            ],
        )

    def redrive(self, stream: str, group: str, ids: Sequence[int] = ()) -> int:
        """Hand out dead messages again (all, or these), with new attempts; returns how many."""
        if len(ids) > self._limits.stream_ids_max:
            raise ConfigError(f"must name at most {self._limits.stream_ids_max} messages", field="ids")

        def redrive(connection: _Connection) -> int:
            with connection.pipeline():
                self._lock(connection, stream, group)
                redriven = _raw(connection, self._sql.redrive, stream, group, list(ids) or None)
                _raw(connection, self._sql.promote_orphans, stream, group)
            return _number(redriven)

        return self._with_group(stream, group, redrive)

    def retain(self, stream: str) -> int:
        """Remove what the stream's retention lets go, now; returns how many messages."""
        return self._run(lambda connection: retention.retain(connection, self._sql, stream, self._limits))

    @property
    def backend_pid(self) -> int:
        """The server process behind the connection."""
        return int(self._session().info.backend_pid)

    def close(self) -> None:
        """Disconnect; claims stay. The next call connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _settle(self, statement: str, stream: str, group: str, claim: Claim, *more: int) -> tuple[Ack, bool]:
        """What became of it, and whether the stream's retention is due. One round trip."""
        checked_name(stream, "stream")
        checked_name(group, "consumer_group")
        checked_claim(claim, self._limits.stream_ids_max)
        ids = [number for number in claim.ids if 0 < number < 2**63]
        impossible = {number for number in claim.ids if not 0 < number < 2**63}
        claims = [number for number, wanted in zip(claim.claims, claim.ids, strict=False) if wanted not in impossible]

        def settle(connection: _Connection) -> tuple[Ack, bool]:
            parameters = (stream, group, ids, claims or None, claim.consumer, *more)
            with connection.pipeline():
                known = _raw(connection, self._sql.has_group, stream, group)
                _raw(connection, self._sql.lock_ordered_group, stream, group)
                answer = _raw(connection, statement, *parameters)
                due = _raw(connection, self._sql.due_retention, stream, self._limits.stream_retention_interval_s)
            if known.fetchone() is None:
                raise _no_group(stream, group)
            row = answer.fetchone()
            assert row is not None, "the statement answers with one row"
            return Ack(row[0], (*sorted(impossible), *row[1])), due.fetchone() is not None

        return self._run(settle)

    def _with_group(self, stream: str, group: str, call: Callable[[_Connection], _Result]) -> _Result:
        """The call, or `NotFound` when there is no such group."""
        checked_name(stream, "stream")
        checked_name(group, "consumer_group")

        def checked(connection: _Connection) -> _Result:
            if _raw(connection, self._sql.has_group, stream, group).fetchone() is None:
                raise _no_group(stream, group)
            return call(connection)

        return self._run(checked)

    def _lock(self, connection: _Connection, stream: str, group: str) -> None:
        _raw(connection, self._sql.lock_group, stream, group)

    def _require_stream(self, connection: _Connection, stream: str) -> None:
        if _raw(connection, self._sql.has_stream, stream).fetchone() is None:
            raise NotFound("there is no such stream", advice="A flow makes it when it first runs", stream=stream)

    def _run(self, call: Callable[[_Connection], _Result]) -> _Result:
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            connection = self._session()
            try:
                with translated(connection):
                    return call(connection)
            except (Transient, OutcomeUnknown):
                if connection.closed or connection.broken:
                    self.close()
                if attempt == _ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _session(self) -> _Connection:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = open_connection(self._dsn, "wallaby streams")
        return self._connection


def _raw(connection: _Connection, statement: str, *parameters: Any) -> psycopg.RawCursor[Any]:
    return psycopg.RawCursor(connection).execute(statement, parameters)


def _number(cursor: psycopg.RawCursor[Any]) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row is not None else 0


def _delivery(row: tuple[Any, ...], consumer: str) -> Delivery:
    return Delivery(
        id=row[0],
        namespace=row[1],
        table=row[2],
        operation=row[3],
        key=row[4],
        lsn=Lsn.parse(row[5]),
        wire_format=row[6],
        payload=row[7],
        created_at=row[8],
        attempts=row[9],
        claim=row[10],
        visible_at=row[11],
        consumer=consumer,
    )


def _status(stream: str, row: tuple[Any, ...]) -> GroupStatus:
    return GroupStatus(
        stream=stream,
        group=row[0],
        options=GroupOptions(is_ordered=row[1], max_attempts=row[2]),
        last_id=row[3],
        cursor_id=row[4],
        pending=row[5],
        claimed=row[6],
        available=row[7],
        blocked=row[8],
        dead=row[9],
        lag_bytes=row[10],
        oldest_at=row[11],
        lag_seconds=row[12],
    )


def _no_group(stream: str, group: str) -> NotFound:
    return NotFound(
        "there is no such consumer group", advice="It exists from its first pull on", stream=stream, group=group
    )
