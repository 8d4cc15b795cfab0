"""Replication slots: what the server says about one, making one with its exported snapshot, freeing and dropping it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg

from wallaby.errors import AlreadyExists, SlotBusy, SourceUnavailable
from wallaby.lsn import Lsn
from wallaby.postgres.command import rows, run_command
from wallaby.postgres.connect import Connection, Dsn, connect
from wallaby.postgres.errors import describe_dsn, translate
from wallaby.schema import quote_identifier

PLUGIN: Final = "pgoutput"
_COMMAND_TIMEOUT_S: Final = 30.0
_CREATE_TIMEOUT_S: Final = 600.0
_RECOVERS: Final[LiteralString] = "SELECT pg_catalog.pg_is_in_recovery()"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFacts:
    """One row of ``pg_replication_slots``; fields a server version lacks hold the default."""

    name: str
    plugin: str | None
    """None for physical slots."""
    database: str | None
    active: bool
    active_pid: int | None
    restart_lsn: Lsn | None
    """The oldest WAL kept for the slot; None once it is invalidated."""
    confirmed_flush: Lsn | None
    wal_status: str | None
    """``reserved``, ``extended``, ``unreserved``, ``lost``; None when there is no WAL to keep."""
    invalidation_reason: str | None = None
    """PostgreSQL 17+: why it can never be used again."""
    two_phase: bool = False
    temporary: bool = False
    failover: bool = False
    synced: bool = False
    conflicting: bool = False
    safe_wal_bytes: int | None = None
    """Bytes of WAL that may still be written before the slot is lost; None without a limit."""
    kept_bytes: int | None = None
    """Bytes of WAL the server keeps for it; None where not asked for, or nothing is kept."""

    @property
    def is_lost(self) -> bool:
        """True when no change can be read from it any more."""
        return self.invalidation is not None

    @property
    def invalidation(self) -> str | None:
        """Why no change can be read from it any more; None while it is usable."""
        if self.invalidation_reason is not None:
            return self.invalidation_reason
        if self.wal_status == "lost":
            return "wal_removed"
        return "conflict" if self.conflicting else None


def read_slot(connection: Connection, name: str) -> SlotFacts | None:
    """What the server says about the slot; None when there is none of this name."""
    row = connection.execute(
        "SELECT to_jsonb(s) FROM pg_catalog.pg_replication_slots AS s WHERE slot_name = %s", [name]
    ).fetchone()
    return None if row is None else _facts(row[0])


def database_slots(connection: Connection) -> list[SlotFacts]:
    """The logical slots of the connection's database in order of their names, with what each keeps."""
    found = connection.execute(
        "SELECT to_jsonb(s) || jsonb_build_object('kept_bytes', pg_catalog.pg_wal_lsn_diff("
        " CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
        " ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::int8)"
        " FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_type = 'logical' AND s.database = current_database()"
        " ORDER BY s.slot_name"
    ).fetchall()
    return [_facts(row) for (row,) in found]


def _facts(row: Mapping[str, Any]) -> SlotFacts:
    return SlotFacts(
        name=row["slot_name"],
        plugin=row.get("plugin"),
        database=row.get("database"),
        active=row["active"],
        active_pid=row.get("active_pid"),
        restart_lsn=_lsn(row.get("restart_lsn")),
        confirmed_flush=_lsn(row.get("confirmed_flush_lsn")),
        wal_status=row.get("wal_status"),
        invalidation_reason=row.get("invalidation_reason"),
        two_phase=bool(row.get("two_phase")),
        temporary=bool(row.get("temporary")),
        failover=bool(row.get("failover")),
        synced=bool(row.get("synced")),
        conflicting=bool(row.get("conflicting")),
        safe_wal_bytes=row.get("safe_wal_size"),
        kept_bytes=row.get("kept_bytes"),
    )


def _lsn(text: str | None) -> Lsn | None:
    return None if text is None else Lsn.parse(text)


class CreatedSlot:
    """A fresh slot, and the snapshot that shows the database exactly as it is where the slot begins.

    The snapshot can be used by other connections until `close` (or the loss of this one's connection, which sends
    nothing meanwhile). The slot stays.
    """

    def __init__(
        self, connection: Connection, *, name: str, consistent_point: Lsn, snapshot_name: str, taken_at_us: int
    ) -> None:
        self._connection = connection
        self.name = name
        self.consistent_point = consistent_point
        """The stream begins here: transactions that commit later are in the stream, all others in the snapshot."""
        self.snapshot_name = snapshot_name
        """For ``SET TRANSACTION SNAPSHOT``."""
        self.taken_at_us = taken_at_us
        """The server's clock just before, in microseconds since 1970."""

    def close(self) -> None:
        """Release the snapshot; copies that began under it go on. Idempotent."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def create_slot(
    dsn: Dsn,
    name: str,
    *,
    failover: bool = False,
    timeout_s: float = _CREATE_TIMEOUT_S,
    application_name: str = "wallaby",
    server: SourceIdentity | None = None,
) -> CreatedSlot:
    """Create a logical pgoutput slot and export its snapshot.

    PostgreSQL waits for every transaction that is open now; after ``timeout_s`` this gives up with `SourceUnavailable`
    and leaves no slot. `AlreadyExists` when the name is taken, `SourceUnavailable` when ``dsn`` does not lead to
    ``server``. ``failover`` needs PostgreSQL 17: standbys may then synchronize the slot.
    """
    connection = connect(dsn, application_name=application_name, replication=True)
    try:
        if server is not None:
            require_server(connection, server, dsn=dsn)
        [[now]] = rows(
            run_command(connection, "SELECT (extract(epoch FROM now()) * 1000000)::int8", timeout_s=_COMMAND_TIMEOUT_S)
        )
        options = "(SNAPSHOT 'export', FAILOVER)" if failover else "EXPORT_SNAPSHOT"
        command = f"CREATE_REPLICATION_SLOT {quote_identifier(name)} LOGICAL {PLUGIN} {options}"
        [[_, point, snapshot, _]] = rows(run_command(connection, command, timeout_s=timeout_s))
        return CreatedSlot(
            connection,
            name=name,
            consistent_point=Lsn.parse(point or ""),
            snapshot_name=snapshot or "",
            taken_at_us=int(now or 0),
        )
    except psycopg.errors.DuplicateObject as error:
        connection.close()
        raise AlreadyExists("a replication slot of this name exists", source=describe_dsn(dsn), slot=name) from error
    except psycopg.errors.QueryCanceled as error:
        connection.close()
        raise SourceUnavailable(
            "the slot could not be created in time: transactions that were open stayed open",
            advice="End long-running transactions on the source (see pg_stat_activity.xact_start) and prepared ones "
            "(see pg_prepared_xacts).",
            source=describe_dsn(dsn),
            slot=name,
        ) from error
    except psycopg.Error as error:
        connection.close()
        raise translate(error, dsn=dsn, doing="create the replication slot", slot=name) from error
    except BaseException:
        connection.close()
        raise


def mark_failover(dsn: Dsn, name: str, *, is_marked: bool = True, application_name: str = "wallaby") -> None:
    """Let standbys synchronize an existing slot, or no longer. PostgreSQL 17. Twice is once.

    `SlotBusy` while somebody streams from it.
    """
    with connect(dsn, application_name=application_name, replication=True) as connection:
        try:
            command = f"ALTER_REPLICATION_SLOT {quote_identifier(name)} (FAILOVER {str(is_marked).lower()})"
            run_command(connection, command, timeout_s=_COMMAND_TIMEOUT_S)
        except psycopg.Error as error:
            raise translate(error, dsn=dsn, doing="mark the slot for failover", slot=name) from error


def drop_slot(dsn: Dsn, name: str, *, timeout_s: float = 10.0, application_name: str = "wallaby") -> bool:
    """Drop the slot; False when there is none. Terminates nobody: `SlotBusy` when it stays in use for ``timeout_s``."""
    with connect(dsn, application_name=application_name, replication=True) as connection:
        try:
            run_command(connection, f"DROP_REPLICATION_SLOT {quote_identifier(name)} WAIT", timeout_s=timeout_s)
        except psycopg.errors.UndefinedObject:
            return False
        except psycopg.errors.QueryCanceled as error:
            raise SlotBusy(
                "the replication slot is in use and was not dropped",
                advice="Stop its consumer first.",
                source=describe_dsn(dsn),
                slot=name,
            ) from error
        except psycopg.Error as error:
            raise translate(error, dsn=dsn, doing="drop the replication slot", slot=name) from error
    return True


def terminate_holder(connection: Connection, name: str, *, application_prefix: str = "") -> bool:
    """End the connection that streams from the slot, for example a walsender whose client died; waits until it is gone.

    Only a holder whose application name begins with ``application_prefix`` is ended. True when the slot is free
    afterwards.
    """
    connection.execute(
        "SELECT pg_catalog.pg_terminate_backend(s.active_pid, 5000) FROM pg_catalog.pg_replication_slots AS s"
        " JOIN pg_catalog.pg_stat_activity AS a ON a.pid = s.active_pid"
        " WHERE s.slot_name = %s AND pg_catalog.starts_with(a.application_name, %s)",
        [name, application_prefix],
    )
    slot = read_slot(connection, name)
    return slot is None or not slot.active


def current_wal_lsn(connection: Connection) -> Lsn:
    """Where the server writes now; on a standby, what it has replayed."""
    row = connection.execute(
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
        " ELSE pg_catalog.pg_current_wal_lsn() END::text"
    ).fetchone()
    assert row is not None, "a query without FROM returns one row"
    return Lsn.parse(row[0])


def read_ancestry(
    dsn: Dsn, *, server: SourceIdentity, application_name: str = "wallaby"
) -> tuple[tuple[int, Lsn], ...]:
    """The earlier timelines in the history of ``server``, oldest first, each with where it was left for the next one.

    Empty on the first timeline, and when the server does not keep the record. `SourceUnavailable` when ``dsn`` leads to
    another server by now.
    """
    if server.timeline == 1:
        return ()
    with connect(dsn, application_name=application_name, replication=True) as connection:
        try:
            require_server(connection, server, dsn=dsn)
            result = run_command(connection, f"TIMELINE_HISTORY {server.timeline}", timeout_s=_COMMAND_TIMEOUT_S)
        except psycopg.errors.UndefinedFile:
            return ()
        except psycopg.Error as error:
            raise translate(error, dsn=dsn, doing="read the timeline history") from error
        content = (result.get_value(0, 1) or b"").decode("ascii", "replace")
    lines = [line.split() for line in content.splitlines()]
    return tuple((int(words[0]), Lsn.parse(words[1])) for words in lines if words and words[0].isdigit())


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIdentity:
    """Which server, history and database a position belongs to; stored, and compared at every start."""

    system_identifier: int
    """Given by initdb; shared by standbys, kept through failover."""
    timeline: int
    """Grows with every promotion and point-in-time recovery."""
    timeline_begin: Lsn = Lsn(0)  # noqa: RUF009 - immutable
    """Where it left the one before; 0 for the first, and when that is not known."""
    database: str
    major: int
    slot: str = ""


def require_server(connection: Connection, expected: SourceIdentity, *, dsn: Dsn) -> None:
    """`SourceUnavailable` when a replication connection leads to another server, timeline or database than expected,
    or to a standby.

    One connection string may name several servers, or an address that moves: what was decided about one of them does
    not hold for the next.
    """
    [[system, timeline, _, database]] = rows(run_command(connection, "IDENTIFY_SYSTEM", timeout_s=_COMMAND_TIMEOUT_S))
    [[recovers]] = rows(run_command(connection, _RECOVERS, timeout_s=_COMMAND_TIMEOUT_S))
    found = (int(system or 0), int(timeline or 0), database)
    if recovers != "f" or found != (expected.system_identifier, expected.timeline, expected.database):
        raise SourceUnavailable(
            "the source failed over to another server while the flow began",
            advice="It begins again there.",
            source=describe_dsn(dsn),
        )


def is_standby(connection: Connection) -> bool:
    """True while the server replays another one's WAL: until it is promoted it takes no writes and makes no slots."""
    [(found,)] = connection.execute(_RECOVERS).fetchall()
    return bool(found)


def read_identity(connection: Connection, slot: str = "") -> SourceIdentity:
    """Ask the server who it is. Needs no privilege."""
    row = connection.execute(
        "SELECT s.system_identifier, current_database()::text, CASE WHEN pg_catalog.pg_is_in_recovery()"
        " THEN (SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() AS c)"
        # Names of WAL files begin with the timeline; after a promotion the control file still holds the old one.
        " ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END"
        " FROM pg_catalog.pg_control_system() AS s"
    ).fetchone()
    assert row is not None, "a set-returning function of one row"
    system, database, timeline = row
    return SourceIdentity(
        system_identifier=system % 2**64,
        timeline=timeline,
        database=database,
        major=connection.info.server_version // 10_000,
        slot=slot,
    )
