"""Where a flow may start: the pure decision that compares the slot, the control store and the destinations.

A plain reader of the replication protocol notices none of this: a slot that was dropped and recreated streams happily
from its new beginning, a restored server continues on another timeline, a copy that died half way leaves rows behind.
Everything that would lose or double changes ends here, with the cause and the command that repairs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from wallaby.errors import CheckFailed, Refused, SlotLost
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import KnownNames
from wallaby.window import LaneId

RESNAPSHOT = (
    "Run the flow once with --resnapshot, or `wallaby snapshot restart`, to copy the tables again and continue from a"
    " new slot"
)


class StartMode(StrEnum):
    """How the source begins."""

    COPY = "copy"
    """Make a new slot with an exported snapshot, copy the tables, then stream."""
    FRESH_STREAM = "fresh-stream"
    """Make a new slot (or adopt an unused one) and stream from its first position, without a copy."""
    RESUME = "resume"
    """Continue an existing slot."""


class SnapshotState(StrEnum):
    """What the control store remembers of the initial copy."""

    NONE = "none"
    COPYING = "copying"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """The source's side at this start. ``confirmed`` is None when the slot does not exist."""

    system_identifier: str
    timeline: int
    database: str
    confirmed: Lsn | None
    invalidation: str | None = None
    """Why the slot can no longer be used (``wal_status`` lost, ``invalidation_reason``), else None."""
    written: Lsn | None = None
    """Up to here the server has the WAL we may have read (`shared_history`); None when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedFacts:
    """What the control store knows from earlier runs."""

    position: Position
    """The checkpoint; START when there is none."""
    lanes: Mapping[str, Position]
    snapshot: SnapshotState
    system_identifier: str | None = None
    timeline: int | None = None
    timeline_begin: Lsn = Lsn(0)  # noqa: RUF009 - immutable
    """Where that timeline left the one before; 0 for the first, and when that is not known."""
    database: str | None = None
    names: tuple[KnownNames, ...] = ()
    """How the source's tables were called when it last told of them."""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """The decision. ``start`` is where to stream from (RESUME only; 0 otherwise)."""

    mode: StartMode
    start: Lsn
    drop_slot: bool
    """The existing slot belongs to an unfinished copy and is replaced."""


def plan_start(
    *,
    slot: str,
    source: SourceFacts,
    remembered: RememberedFacts,
    lanes: Mapping[LaneId, Position],
    copies_initially: bool,
    resnapshot: bool,
    start_lsn: Lsn | None = None,
) -> StartPlan:
    """Decide, or raise `SlotLost`, `Refused` or `CheckFailed` with the way out.

    ``start_lsn``: where a flow that never got anywhere is to begin, instead of at the slot's own position.
    """
    exists = source.confirmed is not None
    if resnapshot:
        return StartPlan(StartMode.COPY, Lsn(0), drop_slot=exists)
    _require_same_server(slot, source, remembered)
    is_new = remembered.position == START and remembered.snapshot is SnapshotState.NONE
    untouched = all(position == START for position in lanes.values())
    unfinished = remembered.snapshot is SnapshotState.COPYING or any(p.is_snapshot for p in lanes.values())
    if unfinished:
        return StartPlan(StartMode.COPY, Lsn(0), drop_slot=exists)
    if source.confirmed is None:
        if is_new and untouched:
            if start_lsn is not None:
                raise CheckFailed(
                    f"there is no slot that still holds {start_lsn}",
                    advice="Leave source.options.start_lsn out, or name a slot that was made before that position",
                    slot=slot,
                )
            return StartPlan(StartMode.COPY if copies_initially else StartMode.FRESH_STREAM, Lsn(0), drop_slot=False)
        raise _slot_gone(slot, source, remembered)
    if source.invalidation is not None:
        raise SlotLost(
            f"the replication slot was invalidated by the server ({source.invalidation})",
            advice=f"Its WAL is gone; raise max_slot_wal_keep_size. {RESNAPSHOT}",
            slot=slot,
        )
    if is_new and untouched:
        if copies_initially:
            raise CheckFailed(
                "the slot exists already, so no snapshot that fits it can be taken",
                advice="Drop the slot, name another one, set source.options.snapshot to never to stream without "
                "the existing rows, or run once with --resnapshot",
                slot=slot,
            )
        return StartPlan(StartMode.RESUME, _first(slot, source, source.confirmed, start_lsn), drop_slot=False)
    if source.confirmed > remembered.position.lsn and not is_new:
        raise SlotLost(
            f"the slot stands at {source.confirmed}, beyond our checkpoint {remembered.position.lsn}: "
            "it was advanced or recreated by somebody else",
            advice=f"Changes in between may be lost. {RESNAPSHOT}",
            slot=slot,
        )
    _require_history_kept(slot, source, remembered, lanes)
    _require_same_lanes(remembered, lanes)
    _require_destinations_kept(remembered, lanes)
    return StartPlan(StartMode.RESUME, source.confirmed, drop_slot=False)


def shared_history(
    remembered: RememberedFacts, ancestry: Sequence[tuple[int, Lsn]], *, timeline: int, written: Lsn
) -> Lsn:
    """How far the WAL of the timeline we have read is also the server's; 0 when nothing of that timeline is.

    ``ancestry``: the earlier timelines of the server, oldest first, each with where it was left for the next one; empty
    when not known. ``timeline`` is the present one, written up to ``written``. Two standbys of one primary that were
    both promoted have timelines of the same number: where they begin tells them apart.
    """
    known = remembered.timeline
    if known is None or known > timeline or not ancestry:
        return written
    begins, ends = {}, {}
    begin = Lsn(0)
    for number, end in (*ancestry, (timeline, written)):
        begins[number], ends[number] = begin, end
        begin = end
    if known not in begins:
        return Lsn(0)
    if remembered.timeline_begin not in (0, begins[known]):
        return min(remembered.timeline_begin, begins[known])
    return ends[known]


def _slot_gone(slot: str, source: SourceFacts, remembered: RememberedFacts) -> SlotLost:
    what = "the replication slot is gone, but this flow has streamed from it before"
    advice = f"Changes since {remembered.position.lsn} may be lost. {RESNAPSHOT}"
    if remembered.timeline is not None and source.timeline > remembered.timeline:
        what = (
            f"the source failed over (timeline {source.timeline}, was {remembered.timeline}) to a server that has no "
            "copy of the replication slot"
        )
        advice += "; before the next failover let standbys synchronize slots (PostgreSQL 17, sync_replication_slots)"
    return SlotLost(what, advice=advice, slot=slot)


def _first(slot: str, source: SourceFacts, confirmed: Lsn, start_lsn: Lsn | None) -> Lsn:
    """Where a new flow begins on a slot that exists. The server would silently begin later than it is told."""
    if start_lsn is None:
        return confirmed
    if start_lsn < confirmed:
        raise CheckFailed(
            f"the slot stands at {confirmed} and no longer holds {start_lsn}",
            advice="Leave source.options.start_lsn out to begin where the slot stands",
            slot=slot,
        )
    if source.written is not None and start_lsn > source.written:
        raise CheckFailed(
            f"{start_lsn} lies beyond the source's present position {source.written}",
            advice="Correct source.options.start_lsn",
            slot=slot,
        )
    return start_lsn


def _require_same_server(slot: str, source: SourceFacts, remembered: RememberedFacts) -> None:
    known = remembered.system_identifier
    if known is not None and known != source.system_identifier:
        raise SlotLost(
            f"the source is another PostgreSQL cluster (system identifier {source.system_identifier}, was {known})",
            advice=f"If the DSN is right and the server was rebuilt: {RESNAPSHOT}",
            slot=slot,
        )
    if remembered.database is not None and remembered.database != source.database:
        raise SlotLost(
            f"the source is database {source.database}, was {remembered.database}",
            advice="Point the DSN back to the first database, or give the flow another name",
            slot=slot,
        )
    if remembered.timeline is not None and source.timeline < remembered.timeline:
        raise SlotLost(
            f"the source went back to timeline {source.timeline} from {remembered.timeline}",
            advice=f"It was restored from an older backup. {RESNAPSHOT}",
            slot=slot,
        )


def _require_history_kept(
    slot: str, source: SourceFacts, remembered: RememberedFacts, lanes: Mapping[LaneId, Position]
) -> None:
    """A server that lost its newest WAL writes other changes at the same addresses: they would pass for applied."""
    furthest = max(remembered.position, *lanes.values())
    # Inside a transaction we stand at the beginning of its commit record, which must be part of the history, too.
    needed = furthest.lsn if furthest.is_whole else Lsn(furthest.lsn + 1)
    if source.written is not None and needed > source.written:
        raise SlotLost(
            f"the source has lost WAL: it agrees with us up to {source.written} only, we have read up to "
            f"{furthest.lsn} (timeline {source.timeline})",
            advice="A standby was promoted before it had everything, or a backup was restored: the destinations hold "
            f"changes the source no longer has. {RESNAPSHOT}",
            slot=slot,
        )


def _require_same_lanes(remembered: RememberedFacts, lanes: Mapping[LaneId, Position]) -> None:
    """Another number of lanes moves tables between position records: rows would be applied twice or never."""
    if not remembered.lanes:
        return
    for lane in lanes:
        own = f"{lane.flow}/{lane.destination}/"
        before = sum(name.startswith(own) for name in remembered.lanes)
        if before != lane.count:
            what = f"had {before} lanes and now has {lane.count}" if before else "is new in a flow that already streams"
            raise Refused(
                f"the destination {what}",
                advice=f"Give it a flow of its own, or restore the former parallelism. {RESNAPSHOT}",
                destination=lane.destination,
            )


def _require_destinations_kept(remembered: RememberedFacts, lanes: Mapping[LaneId, Position]) -> None:
    for lane, position in lanes.items():
        known = remembered.lanes.get(str(lane), START)
        if position < known:
            raise Refused(
                f"the destination stands at {position}, behind {known} which it had confirmed before",
                advice=f"It was restored from a backup or emptied. {RESNAPSHOT}",
                lane=lane,
            )
