"""What a failover needs of the servers: a copy of the slot on the standby, and a standby that has all we have read.

A logical slot lives on one server. From PostgreSQL 17 on a standby keeps copies of slots that are marked for failover
(``sync_replication_slots`` there), and the primary holds back what it sends from such a slot until the standbys whose
physical slots are named in ``synchronized_standby_slots`` have it. With the first, a promoted standby has the slot, at
or before the place we had confirmed; with the second, it has everything we have read. A flow then goes on there.

Nothing in this module guards data. A slot that is missing after a failover, and changes we have read that the new
primary never had, are noticed at the start (`wallaby.startup`) and stop the flow. Here is told what would lead there,
while it can still be changed.

A primary knows of its standbys little but their physical slots. Everything else is asked of the standbys, which are the
other hosts of the connection string; who names one host is told less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg.conninfo import conninfo_to_dict

from wallaby.errors import WallabyError
from wallaby.login import dsn_text
from wallaby.postgres.connect import Connection, Dsn, each_host, session
from wallaby.postgres.errors import describe_dsn
from wallaby.postgres.slot import SlotFacts, read_slot
from wallaby.sink import Finding, Severity

FAILOVER_MAJOR: Final = 17
TWO_PHASE_UNMARKABLE: Final = (
    "standbys may copy the slot, but in PostgreSQL 17 such a copy loses prepared transactions when it is read with "
    "two_phase"
)
TWO_PHASE_ADVICE: Final = (
    "Remove two_phase, and prepared transactions arrive when they commit; or set failover to false, and the slot is "
    "missing after a failover."
)
_APPLICATION: Final = "wallaby check"

_PHYSICAL: Final[LiteralString] = """
SELECT slot_name::text, active, xmin IS NOT NULL OR catalog_xmin IS NOT NULL
FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary ORDER BY 1
"""
"""A standby with hot_standby_feedback holds an xmin in its slot."""

_HOST: Final[LiteralString] = """
SELECT pg_catalog.pg_is_in_recovery(),
    (SELECT system_identifier FROM pg_catalog.pg_control_system()) = %(system)s::int8,
    pg_catalog.current_setting('wal_level') = 'logical',
    pg_catalog.current_setting('sync_replication_slots', true) = 'on',
    pg_catalog.current_setting('hot_standby_feedback') = 'on',
    pg_catalog.current_setting('primary_slot_name') <> '',
    CASE WHEN pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')
        THEN pg_catalog.current_setting('primary_conninfo') ~ '\\mdbname\\s*=|^postgres(ql)?://[^/]*/[^?]' END
"""
"""primary_conninfo may hold a password: only what is asked of it leaves the server, and only to who may read it."""

_NEEDED: Final = (
    ("wal_level = logical", "ALTER SYSTEM SET wal_level = 'logical'; and restart it"),
    ("sync_replication_slots = on", "ALTER SYSTEM SET sync_replication_slots = on; SELECT pg_reload_conf();"),
    ("hot_standby_feedback = on", "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();"),
    ("primary_slot_name", "ALTER SYSTEM SET primary_slot_name = '…'; SELECT pg_reload_conf();"),
    (
        "a dbname in primary_conninfo",
        "ALTER SYSTEM SET primary_conninfo = '… dbname=postgres'; SELECT pg_reload_conf();",
    ),
)
"""What a standby needs to keep copies of slots, in the order of `_HOST`'s columns, and what sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverWish:
    """What a flow wants of its slot."""

    slot: str
    failover: str
    """``auto``, ``true`` or ``false``, as the option of the source."""
    is_two_phase: bool
    field: str
    """Prefix of subjects that are options."""

    def is_marked(self, facts: SlotFacts | None, major: int) -> bool:
        """The slot is, or will be when the flow starts, one that standbys may synchronize."""
        if self.failover == "auto":
            return can_mark(major, is_two_phase=self.is_two_phase) if facts is None else facts.failover
        return self.failover == "true"


def can_mark(major: int, *, is_two_phase: bool) -> bool:
    """Standbys of this version can keep a copy of such a slot that is as good as the slot.

    From 17 on. With two_phase from 18 on: in 17 the copy does not know from where on prepared transactions are sent
    when they are prepared (``two_phase_at``), and after a promotion sends the bare commit of those prepared before.
    """
    return major >= (FAILOVER_MAJOR + 1 if is_two_phase else FAILOVER_MAJOR)


def failover_findings(
    connection: Connection, dsn: Dsn, wish: FailoverWish, *, facts: SlotFacts | None
) -> list[Finding]:
    """What stands in the way of going on after a failover. ``connection`` leads to the primary; `psycopg.Error`.

    Without ``failover: true`` and with one host nothing is missed, only a stream that waits for a standby is told.
    Codes: ``failover-two-phase`` (an error), ``failover-slot``, ``failover-order``, ``failover-standby``.
    """
    major = connection.info.server_version // 10_000
    others = [host for host in each_host(dsn) if not _is_here(connection, host)]
    is_awaited = wish.failover == "true" or bool(others)
    if major < FAILOVER_MAJOR:
        return [_too_old(wish, major)] if others and wish.failover != "true" else []
    if wish.is_marked(facts, major) and not can_mark(major, is_two_phase=wish.is_two_phase):
        message, code = TWO_PHASE_UNMARKABLE, "failover-two-phase"
        subject = f"{wish.field}.failover"
        return [Finding(severity=Severity.ERROR, subject=subject, message=message, advice=TWO_PHASE_ADVICE, code=code)]
    if not wish.is_marked(facts, major):
        return [_unmarked(wish, major)] if is_awaited else []
    findings = list(_order(connection, is_awaited=is_awaited))
    [(system,)] = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchall()
    for host in others:
        findings += _host(host, wish, system=system, is_copied=facts is not None and facts.failover)
    return findings


def _is_here(connection: Connection, host: Dsn) -> bool:
    parts = conninfo_to_dict(dsn_text(host))
    named = parts.get("host") or parts.get("hostaddr")
    return named is None or (named, int(parts.get("port") or 5432)) == (connection.info.host, connection.info.port)


def _order(connection: Connection, *, is_awaited: bool) -> Iterator[Finding]:
    """Does the stream wait for the standbys, and are they there?"""
    [(listed,)] = connection.execute("SELECT pg_catalog.current_setting('synchronized_standby_slots')").fetchall()
    slots = {name: (is_active, has_xmin) for name, is_active, has_xmin in connection.execute(_PHYSICAL).fetchall()}
    names = [name.strip().strip('"') for name in listed.split(",") if name.strip()]
    if not names and is_awaited:
        known = ", ".join(slots) or "the physical slots of the standbys"
        yield _warning(
            "server",
            "the stream does not wait for standbys: after a failover the flow may have read changes that the new "
            "primary never had, and then stops",
            f"Run: ALTER SYSTEM SET synchronized_standby_slots = '{known}'; SELECT pg_reload_conf();",
            "failover-order",
        )
    for name in names:
        is_active, has_xmin = slots.get(name, (False, False))
        if not is_active:
            yield _warning(
                f"slot {name}",
                "synchronized_standby_slots names it, and no standby streams from it: the flow waits for that",
                "Start the standby, or take its slot out of synchronized_standby_slots.",
                "failover-standby",
            )
        elif not has_xmin:
            yield _warning(
                f"slot {name}",
                "its standby sends no feedback, so it cannot keep a copy of the flow's slot",
                "Run on the standby: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();",
                "failover-standby",
            )


def _host(dsn: Dsn, wish: FailoverWish, *, system: int, is_copied: bool) -> list[Finding]:
    """What another host of the connection string lacks."""
    subject = f"standby {describe_dsn(dsn)}"
    try:
        with session(dsn, application_name=_APPLICATION, doing="look at the standby") as connection:
            row = connection.execute(_HOST, {"system": system}).fetchone()
            assert row is not None, "a query without FROM returns one row"
            is_standby, is_same, *has = row
            copy = read_slot(connection, wish.slot)
    except WallabyError as error:
        return [_warning(subject, error.message, error.advice, "failover-standby")]
    if not is_same or not is_standby:
        message = "it takes writes, too, so it is no standby" if is_same else "it belongs to another PostgreSQL cluster"
        return [_warning(subject, message, f"Take it out of {wish.field}.dsn.", "failover-standby")]
    findings = [
        _warning(
            subject, f"it keeps no copy of slots without {what}", f"Run on the standby: {advice}", "failover-standby"
        )
        for is_there, (what, advice) in zip(has, _NEEDED, strict=True)
        if is_there is False
    ]
    if is_copied and not findings and (copy is None or copy.temporary or not copy.synced or copy.is_lost):
        message = f"it has no copy of the slot {wish.slot} yet"
        advice = "Look again in a minute; if it stays so, the standby's log says why."
        return [_warning(subject, message, advice, "failover-standby")]
    return findings


def _too_old(wish: FailoverWish, major: int) -> Finding:
    message = f"PostgreSQL {major} has no copies of slots on standbys: after a failover the slot is missing"
    advice = "Use 17 or newer, or copy anew after a failover (--resnapshot)."
    return _warning(f"slot {wish.slot}", message, advice, "failover-slot")


def _unmarked(wish: FailoverWish, major: int) -> Finding:
    is_able = can_mark(major, is_two_phase=wish.is_two_phase)
    advice = f"Set {wish.field}.failover to true." if is_able else "Remove two_phase, or use PostgreSQL 18."
    message = "standbys may not keep a copy of it: after a failover it is missing"
    return _warning(f"slot {wish.slot}", message, advice, "failover-slot")


def _warning(subject: str, message: str, advice: str, code: str) -> Finding:
    return Finding(severity=Severity.WARNING, subject=subject, message=message, advice=advice, code=code)
