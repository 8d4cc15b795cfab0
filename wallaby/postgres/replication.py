"""The replication stream: START_REPLICATION on a slot, messages drained into an arena, status sent back.

Pacing. The walsender sends every change with a system call of its own, and a receiver that wakes for each makes both
sides pay. In a flood it is cheaper to let messages pile up for a moment. The stream only says for how long (`rest_s`,
decided by `wallaby.postgres.pace`): whoever waits for it may do other things meanwhile.

A publication that does not exist is an error of the stream before PostgreSQL 18; from 18 on it is a *warning*, after
which the server skips its tables and the slot would advance past lost changes. So that warning ends the stream, too.
A warning that the server waits for a standby (``synchronized_standby_slots``, PostgreSQL 17) does not.

Silence. TCP keepalives and TCP_USER_TIMEOUT notice a dead peer; a peer that is alive but stuck is noticed because we
ask: after a while without a byte a status update with "reply requested" goes out, and no answer ends the stream.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

import psycopg
from psycopg import pq

from wallaby.errors import CheckFailed, SlotLost, SourceUnavailable, StreamingUnfit, WallabyError
from wallaby.lsn import Lsn
from wallaby.postgres.arena import FRAME_HEADER, Arena
from wallaby.postgres.command import run_command
from wallaby.postgres.connect import Connection, Dsn, connect
from wallaby.postgres.drain import Drain, Outcome, open_drain
from wallaby.postgres.errors import describe_dsn, translate
from wallaby.postgres.pace import Pace
from wallaby.postgres.slot import SourceIdentity, require_server
from wallaby.schema import quote_identifier
from wallaby.settings import Limits

_STATUS: Final = struct.Struct("!cQQQqB")
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
_SENT_AT: Final = {ord("w"): 17, ord("k"): 9}
"""Where the server's clock lies in XLogData and in a keepalive."""
_START_TIMEOUT_S: Final = 30.0
_SKIPPED_PUBLICATION: Final = "55000"
"""SQLSTATE of the warning ``skipped loading publication`` (pgoutput.c, PostgreSQL 18)."""
_STANDBY_AWAITED: Final = "StandbySlotsHaveCaughtup"
"""The server's function (slot.c, PostgreSQL 17) that warns with the same SQLSTATE while a standby that the stream waits
for is away. The stream goes on when that is back."""
_INTERNAL_ERROR: Final = "XX"
"""SQLSTATE class. PostgreSQL 14 to 18 cannot stream every transaction: after ``ALTER TABLE`` in a savepoint that is
rolled back, and another ``ALTER TABLE``, it fails with ``could not map filenumber``, each time anew; without
``streaming`` it decodes the same transaction, because it has then forgotten what was rolled back."""
_ASK_AFTER_S: Final = 20.0
_ANSWER_WITHIN_S: Final = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What pgoutput is asked for. The protocol version follows from the server's."""

    binary: bool = True
    messages: bool = True
    """Logical messages (``pg_logical_emit_message``)."""
    streaming: Literal["off", "on", "parallel"] = "off"
    """Send large transactions while they run. ``parallel`` (16+; ``on`` before) adds where each abort happened."""
    two_phase: bool = False
    """Send prepared transactions when they are prepared (15+)."""
    origin: Literal["any", "none"] = "any"
    """``none``: only changes that did not come by replication themselves (16+)."""


@dataclass(frozen=True, slots=True)
class NeededMajor:
    """Which version of PostgreSQL an option of the stream needs, and what to do without."""

    needed: int
    advice: str

    def says(self, option: str, major: int) -> str:
        """What is wrong with a server of version ``major``."""
        return f"the option {option} needs PostgreSQL {self.needed}, and the source has {major}"


OPTION_MAJORS: Final[Mapping[str, NeededMajor]] = {
    "two_phase": NeededMajor(15, "Remove it: prepared transactions then arrive when they commit."),
    "origin": NeededMajor(16, "Set it to any."),
    "failover": NeededMajor(17, "Set it to auto: the slot is then one that no standby has a copy of."),
}
"""Options that are refused, not weakened, where the server is too old."""


def require_major(option: str, major: int) -> None:
    """`CheckFailed` when a server of version ``major`` is too old for ``option``."""
    need = OPTION_MAJORS.get(option)
    if need is not None and major < need.needed:
        raise CheckFailed(need.says(option, major), advice=need.advice, field=f"source.options.{option}")


class ReplicationStream:
    """A started stream. One thread owns it. Not restartable: after an error, close it and open another."""

    def __init__(
        self,
        connection: Connection,
        *,
        dsn: Dsn,
        slot: str,
        limits: Limits,
        compiled: bool | None,
        paced: bool,
        streams: bool = False,
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._dsn = dsn
        self._slot = slot
        self._streams = streams
        self.arena = Arena(limits.arena_bytes)
        """Frames received and not yet consumed; see `wallaby.postgres.arena`."""
        self._drain: Drain = open_drain(self._pgconn, compiled=compiled)
        self._descriptor: int = self._pgconn.socket
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._pace = Pace(is_local=self._is_local(), is_enabled=paced)
        self._outcome = Outcome.DRY
        self._received = Lsn(0)
        self._flushed = Lsn(0)
        self._asked: float | None = None
        self._warning: str | None = None
        connection.add_notice_handler(self._take_notice)
        self.last_heard = time.monotonic()
        """Monotonic seconds when the server last sent anything."""

    @classmethod
    def open(
        cls,
        dsn: Dsn,
        *,
        slot: str,
        publications: Sequence[str],
        start: Lsn,
        options: StreamOptions | None = None,
        limits: Limits | None = None,
        application_name: str = "wallaby",
        compiled: bool | None = None,
        paced: bool = True,
        server: SourceIdentity | None = None,
    ) -> Self:
        """Connect and start streaming from ``start`` (or the slot's confirmed position, whichever is later).

        `SlotBusy` while another connection holds the slot, `SlotLost` when it is gone or invalidated, `CheckFailed`
        when the server refuses, or is too old for ``options``, `SourceUnavailable` when it cannot be reached, or is
        not ``server``. ``compiled`` forces the drain's kind.
        """
        connection = connect(dsn, application_name=application_name, replication=True)
        try:
            if server is not None:
                require_server(connection, server, dsn=dsn)
            major = connection.info.server_version // 10_000
            options = options or StreamOptions()
            command = start_command(slot, publications, start, options=options, major=major)
            run_command(connection, command, timeout_s=_START_TIMEOUT_S)
            return cls(
                connection,
                dsn=dsn,
                slot=slot,
                limits=limits or Limits(),
                compiled=compiled,
                paced=paced,
                streams=options.streaming != "off",
            )
        except psycopg.Error as error:
            connection.close()
            raise _start_error(error, dsn=dsn, slot=slot) from error
        except BaseException:
            connection.close()
            raise

    def fileno(self) -> int:
        """The socket, for ``poll``. Readable means: call `receive`. Check `has_pending` before waiting on it."""
        return self._descriptor

    @property
    def has_pending(self) -> bool:
        """True when more was received than the arena could take: consume, then `receive` again without waiting."""
        return self._outcome is Outcome.FULL

    @property
    def rest_s(self) -> float:
        """For so many seconds from now it is cheaper for both sides not to receive; 0 in a stream that is not fast.

        At most 30 ms, and at most 2 ms unless `is_behind`. It is advice; the next `receive` renews it.
        """
        return max(0.0, self._pace.rest_until - time.monotonic())

    @property
    def is_behind(self) -> bool:
        """The reader sets it while the server sends what was committed long before: rests may then be longer."""
        return self._pace.is_behind

    @is_behind.setter
    def is_behind(self, value: bool) -> None:
        self._pace.is_behind = value

    @property
    def sent_at_us(self) -> int | None:
        """When the server sent the first frame in the arena, by its own clock (microseconds since 1970 UTC).

        None when the arena is empty, or holds what no server sends: the decoder says so.
        """
        arena = self.arena
        payload = arena.begin + FRAME_HEADER
        if payload >= arena.end or (offset := _SENT_AT.get(int(arena.data[payload]))) is None:
            return None
        clock = arena.data[payload + offset : min(payload + offset + 8, arena.end)].tobytes()
        return int.from_bytes(clock, "big", signed=True) + _POSTGRES_EPOCH_US if len(clock) == 8 else None

    def receive(self, timeout_s: float) -> bool:
        """Take everything that has arrived into the arena; waits up to ``timeout_s`` only when there is nothing.

        True when the arena gained frames. Does not rest: see `rest_s`. Errors as `open`, and `SourceUnavailable` for a
        server that fell silent.
        """
        if self._fill():
            return True
        deadline = time.monotonic() + timeout_s
        while not self.has_pending and (left := deadline - time.monotonic()) > 0:
            if not self._poll.poll(left * 1000):
                break
            self.last_heard = time.monotonic()
            if self._fill():
                return True
        self._watch_silence()
        return False

    def send_status(self, *, received: Lsn, flushed: Lsn, reply_requested: bool = False) -> None:
        """Tell the server what we received, and what it may forget (``flushed``). Never moves back, never blocks.

        Call it every few seconds: it also notices (`SourceUnavailable`) when an earlier request for a reply stayed
        unanswered for 40 s.
        """
        self._received = max(self._received, received, flushed)
        self._flushed = max(self._flushed, flushed)
        now_us = time.time_ns() // 1000 - _POSTGRES_EPOCH_US
        message = _STATUS.pack(b"r", self._received, self._flushed, self._flushed, now_us, reply_requested)
        try:
            self._pgconn.put_copy_data(message)
            self._pgconn.flush()
        except psycopg.Error as error:
            raise self._ended() from error
        if reply_requested and self._asked is None:
            self._asked = time.monotonic()
        elif self._asked is not None:
            self._watch_silence()

    def close(self) -> None:
        """Drop the connection; the slot stays where it was last confirmed. Idempotent."""
        self._drain.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self) -> bool:
        if self._connection.closed:
            raise SourceUnavailable("the replication stream is closed", source=describe_dsn(self._dsn), slot=self._slot)
        held = len(self.arena)
        self._outcome = self._drain.fill(self.arena)
        if self._outcome is Outcome.FULL and len(self.arena) == 0:
            # One message larger than the arena: now that its size is known, the arena grows for it.
            self._outcome = self._drain.fill(self.arena)
        if self._warning is not None:
            raise self._skipped(self._warning)
        gained = len(self.arena) - held
        self._pace.received(gained, time.monotonic())
        if gained:
            self.last_heard = time.monotonic()
            self._asked = None
        elif self._outcome is Outcome.ENDED:
            raise self._ended()
        return gained > 0

    def _watch_silence(self) -> None:
        now = time.monotonic()
        quiet_since = max(self._asked or 0.0, self.last_heard)
        if self._asked is None:
            if now - self.last_heard > _ASK_AFTER_S:
                self.send_status(received=self._received, flushed=self._flushed, reply_requested=True)
        elif now - quiet_since > _ANSWER_WITHIN_S and not self._poll.poll(0):
            # Nothing unread either: it is not us who did not listen.
            raise SourceUnavailable(
                "the source does not answer on the replication connection",
                advice="The stream is opened again; check the network if this repeats.",
                source=describe_dsn(self._dsn),
                slot=self._slot,
            )

    def _ended(self) -> WallabyError:
        """Why the copy is over: the server's error if it sent one, else a lost connection."""
        if self._pgconn.status == pq.ConnStatus.OK:
            result = self._pgconn.get_result()
            if (
                result is not None
                and result.status == pq.ExecStatus.FATAL_ERROR
                and result.error_field(pq.DiagnosticField.SQLSTATE)
            ):
                error = psycopg.errors.error_from_result(result)
                if self._streams and (error.sqlstate or "").startswith(_INTERNAL_ERROR):
                    return self._unfit(error.sqlstate)
                return translate(error, dsn=self._dsn, doing="stream from the slot", slot=self._slot)
        return SourceUnavailable(
            "the source ended the replication stream",
            advice="It is opened again from the last durable position.",
            source=describe_dsn(self._dsn),
            slot=self._slot,
        )

    def _unfit(self, sqlstate: str | None) -> WallabyError:
        return StreamingUnfit(
            "the server fails at decoding a transaction before it ends; its log has the details",
            advice="The stream is opened again without streaming. To keep it so, set source.options.streaming to off.",
            source=describe_dsn(self._dsn),
            slot=self._slot,
            sqlstate=sqlstate,
        )

    def _take_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.sqlstate == _SKIPPED_PUBLICATION and notice.source_function != _STANDBY_AWAITED:
            self._warning = notice.message_primary or "a publication was skipped"

    def _skipped(self, warning: str) -> CheckFailed:
        return CheckFailed(
            f"the server does not send what was asked for: {warning}",
            advice=(
                "The publication did not exist at this point of the stream, so changes before it was made cannot be "
                "read. Create it, then reset the flow to copy anew."
            ),
            source=describe_dsn(self._dsn),
            slot=self._slot,
        )

    def _is_local(self) -> bool:
        return self._connection.info.host.startswith("/") or not self._connection.info.host


def start_command(
    slot: str, publications: Sequence[str], start: Lsn, *, options: StreamOptions, major: int = 18
) -> str:
    """START_REPLICATION with pgoutput's options; names quoted for the replication grammar.

    ``major`` is the server's version. `CheckFailed` when it is too old for one of the options.
    """
    names = ",".join(quote_identifier(name) for name in publications)
    settings = {"proto_version": str(_protocol_version(major)), "publication_names": names}
    settings |= _plugin_settings(options, major)
    listed = ", ".join(f"{name} {_quote_literal(value)}" for name, value in settings.items())
    return f"START_REPLICATION SLOT {quote_identifier(slot)} LOGICAL {start} ({listed})"


def _protocol_version(major: int) -> int:
    """The newest the server speaks: 2 streams large transactions, 3 prepared ones, 4 tells where they abort."""
    return 4 if major >= 16 else 3 if major == 15 else 2


def _plugin_settings(options: StreamOptions, major: int) -> dict[str, str]:
    settings: dict[str, str] = {}
    if options.binary:
        settings["binary"] = "true"
    if options.messages:
        settings["messages"] = "true"
    if options.streaming != "off":
        settings["streaming"] = options.streaming if major >= 16 else "on"
    if options.two_phase:
        settings["two_phase"] = "on"
    if options.origin != "any":
        settings["origin"] = options.origin
    for option in settings:
        require_major(option, major)
    return settings


def _quote_literal(text: str) -> str:
    """The replication grammar knows no backslash escapes and no E-strings; quotes are doubled."""
    return "'" + text.replace("'", "''") + "'"


def _start_error(error: psycopg.Error, *, dsn: Dsn, slot: str) -> WallabyError:
    found = translate(error, dsn=dsn, doing="start streaming from the slot", slot=slot)
    if error.sqlstate == "42704" and not isinstance(found, SlotLost):
        # In another language than English; at this point only the slot can be undefined.
        return SlotLost(
            "the replication slot does not exist",
            advice="The slot is gone. Reset the flow to copy anew, or restore the slot.",
            source=describe_dsn(dsn),
            slot=slot,
        )
    return found
