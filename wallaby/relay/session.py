"""One epoch of a flow at the source: look, decide, prepare slot and publication, copy if needed, stream."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from wallaby.clock import Clock
from wallaby.errors import CheckFailed, SnapshotGone, SourceUnavailable
from wallaby.flow import FlowSpec, SourceOptions
from wallaby.flow.options import Failover
from wallaby.lsn import START, Lsn, Position
from wallaby.pgoutput.decoder import Decoder
from wallaby.pgoutput.spool import Spool, SpoolLimits
from wallaby.pgtypes.types import has_binary_kernel
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.connect import application_name, connect, describe_dsn
from wallaby.postgres.failover import TWO_PHASE_ADVICE, TWO_PHASE_UNMARKABLE, can_mark
from wallaby.postgres.publication import ensure_publication
from wallaby.postgres.replication import ReplicationStream, StreamOptions, require_major
from wallaby.postgres.slot import (
    CreatedSlot,
    SlotFacts,
    SourceIdentity,
    create_slot,
    current_wal_lsn,
    drop_slot,
    is_standby,
    mark_failover,
    read_ancestry,
    read_identity,
    read_slot,
    terminate_holder,
)
from wallaby.relay.fill import NoFill, open_filler
from wallaby.relay.names import NameWatch, concealments
from wallaby.relay.ports import Filler, Transport
from wallaby.relay.relay import Relay, RelayConfig, Stopped
from wallaby.routing import lane_of
from wallaby.schema import KnownNames, TableName, TableSchema
from wallaby.settings import Limits
from wallaby.snapshot.copy import SnapshotCopy
from wallaby.snapshot.progress import CopyProgress, TableCopy, planned
from wallaby.startup import RememberedFacts, SourceFacts, StartMode, StartPlan, plan_start, shared_history
from wallaby.status import FlowStatus
from wallaby.window import LaneId


class Ledger(Protocol):
    """What a session writes into the control store besides checkpoints. Calls return when the store has it."""

    def begin_copy(self, identity: SourceIdentity, slot: str) -> None:
        """A copy starts: until ``finish_copy``, every restart repeats it. Forgets the checkpoint."""
        ...

    def plan_copy(self, tables: Sequence[TableCopy]) -> None:
        """These tables will be copied, in this order."""
        ...

    def finish_copy(self, tables: Sequence[TableCopy]) -> None:
        """The copy is durable everywhere; ``tables`` are its last figures."""
        ...

    def remember_source(self, identity: SourceIdentity, slot: str) -> None:
        """Which server this flow reads, to notice another one later."""
        ...

    def remember_names(self, names: tuple[KnownNames, ...]) -> None:
        """How these tables are called, for `NameWatch` to know in the next life."""
        ...

    def require_resettable(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        """`Refused` when ``reset_lanes`` would refuse to empty one of the tables. Changes nothing."""
        ...

    def reset_lanes(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        """Empty every lane's tables and forget its position."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """What the supervisor hands to a source."""

    flow: FlowSpec
    """With secrets resolved."""
    epoch: int
    remembered: RememberedFacts
    lanes: Mapping[LaneId, Position]
    """Every lane's position as its destination reported it."""
    commit_intervals_ms: Mapping[LaneId, int]
    resnapshot: bool = False
    once: bool = False
    """Stop at the WAL position current at the start."""
    until: Lsn | None = None
    may_spool: bool = True
    """False after the spool was full: large transactions are then sent when they commit, whatever the flow says."""
    as_text: bool = False
    """The epoch before met a value that came in binary and cannot be read so: stream as text, whatever the catalog
    shows. It shows the present; the column may be gone again where the slot has not come yet."""


class SourceSession:
    """Runs once. ``stop`` drains; ``run`` returns the last checkpoint."""

    def __init__(
        self, config: SessionConfig, *, transport: Transport, ledger: Ledger, clock: Clock, limits: Limits
    ) -> None:
        self._config = config
        self._options: SourceOptions = config.flow.source_options()
        self._application = application_name(config.flow.id)
        self._transport = transport
        self._ledger = ledger
        self._clock = clock
        self._limits = replace(
            limits, status_interval_ms=max(100, round(self._options.status_interval.total_seconds() * 1000))
        )
        self._relay: Relay | None = None
        self._filler: Filler = NoFill()
        self._names = NameWatch((), remember=ledger.remember_names)
        self._stop = threading.Event()

    @property
    def status(self) -> FlowStatus:
        relay = self._relay
        if relay is not None:
            return relay.status
        return FlowStatus(flow=self._config.flow.id, state="running", phase="starting", epoch=self._config.epoch)

    def stop(self) -> None:
        """Drain and return. Safe from any thread, also before ``run``."""
        self._stop.set()
        if self._relay is not None:
            self._relay.request_stop()

    def run(self) -> Position:
        """Stream until told to stop or until the position asked for is durable.

        A stop during the initial copy returns START: the copy is repeated next time.
        """
        options, config = self._options, self._config
        dsn = options.login
        application = self._application
        with connect(dsn, application_name=application) as connection:
            if is_standby(connection):
                raise SourceUnavailable(
                    "the source is a standby: it has not been promoted, or the connection string leads to the wrong "
                    "server",
                    advice="It is tried again; name the primary, or all servers (host=one,two).",
                    source=describe_dsn(dsn),
                )
            identity = read_identity(connection, options.slot)
            ancestry = read_ancestry(dsn, server=identity, application_name=application)
            if ancestry:
                identity = replace(identity, timeline_begin=ancestry[-1][1])
            facts = read_slot(connection, options.slot)
            plan = plan_start(
                slot=options.slot,
                source=SourceFacts(
                    system_identifier=str(identity.system_identifier),
                    timeline=identity.timeline,
                    database=identity.database,
                    confirmed=None if facts is None else facts.confirmed_flush,
                    invalidation=None if facts is None else facts.invalidation,
                    written=shared_history(
                        config.remembered,
                        ancestry,
                        timeline=identity.timeline,
                        written=current_wal_lsn(connection),
                    ),
                ),
                remembered=config.remembered,
                lanes=config.lanes,
                copies_initially=options.snapshot == "initial",
                resnapshot=config.resnapshot,
                start_lsn=options.start_lsn,
            )
            stop_at = config.until or (current_wal_lsn(connection) if config.once else None)
            if facts is not None and facts.active:
                terminate_holder(connection, options.slot, application_prefix=application)
            self._mark_slot(plan, identity, facts)
            ensure_publication(
                connection,
                options.publication,
                tables=options.publication_tables,
                schemas=options.publication_schemas,
                create=options.ensure_publication,
                sync=options.sync_publication_mode if options.sync_publication else None,
            )
        self._names = NameWatch(
            concealments(config.flow.destinations),
            server=f"{identity.system_identifier}/{identity.database}",
            known=config.remembered.names,
            remember=self._ledger.remember_names,
        )
        catalog = Catalog(dsn, application_name=application)
        try:
            return self._run_plan(plan, identity, catalog, stop_at)
        except Stopped:
            return START
        finally:
            self._filler.close()
            catalog.close()

    def _mark_slot(self, plan: StartPlan, identity: SourceIdentity, facts: SlotFacts | None) -> None:
        """Let standbys synchronize the slot that is resumed, or not, as the flow wants; `CheckFailed` where the server
        cannot."""
        options = self._options
        was_marked = plan.mode is StartMode.RESUME and facts is not None and facts.failover
        is_marked = was_marked if options.failover is Failover.AUTO else options.failover is Failover.TRUE
        if is_marked:
            require_major("failover", identity.major)
            if not can_mark(identity.major, is_two_phase=options.two_phase):
                raise CheckFailed(TWO_PHASE_UNMARKABLE, advice=TWO_PHASE_ADVICE, field="source.options.failover")
        if plan.mode is StartMode.RESUME and is_marked != was_marked:
            mark_failover(options.login, options.slot, is_marked=is_marked, application_name=self._application)

    def _run_plan(self, plan: StartPlan, identity: SourceIdentity, catalog: Catalog, stop_at: Lsn | None) -> Position:
        options = self._options
        match plan.mode:
            case StartMode.COPY:
                start = self._copy(plan, identity, catalog, stop_at)
            case StartMode.FRESH_STREAM:
                with self._create_slot(identity) as created:
                    start = created.consistent_point
                self._ledger.remember_source(identity, options.slot)
                if not self._names.is_idle:
                    self._names.meet(catalog.published_tables([options.publication]))
                self._start_relay(START, stop_at).begin_at(Position(start))
            case StartMode.RESUME:
                start = plan.start
                self._ledger.remember_source(identity, options.slot)
                if not self._names.is_idle:
                    self._names.look(catalog.published_tables([options.publication]))
                self._start_relay(self._config.remembered.position, stop_at)
        return self._stream(start, catalog, identity)

    def _create_slot(self, identity: SourceIdentity) -> CreatedSlot:
        options = self._options
        return create_slot(
            options.login,
            options.slot,
            failover=options.failover is not Failover.FALSE
            and can_mark(identity.major, is_two_phase=options.two_phase),
            server=identity,
            application_name=self._application,
        )

    def _copy(self, plan: StartPlan, identity: SourceIdentity, catalog: Catalog, stop_at: Lsn | None) -> Lsn:
        options = self._options
        is_slot_ours = plan.drop_slot
        for attempts_left in reversed(range(self._limits.copy_attempts_max)):
            tables = tuple(catalog.published_tables([options.publication]))
            self._names.meet(tables)
            # Before slot and checkpoint are given up: without them a flow that may not copy could not go on either.
            self._ledger.require_resettable(self._tables_per_lane(tables))
            # Also a fence: a leftover of an older epoch must not drop the slot a newer one made.
            self._ledger.begin_copy(identity, options.slot)
            if is_slot_ours:
                drop_slot(options.login, options.slot, application_name=self._application)
            self._ledger.reset_lanes(self._tables_per_lane(tables))
            relay = self._start_relay(START, stop_at, is_reset=True)
            try:
                with self._create_slot(identity) as created:
                    is_slot_ours = True
                    if tuple(catalog.published_tables([options.publication])) != tables:
                        # Added before the slot, a table was not emptied; after it, the stream lacks its changes.
                        raise SnapshotGone("tables were published, withdrawn or altered while the copy began")
                    progress = self._copy_under(created, tables, relay)
            except SnapshotGone:
                if relay.has_sent or not attempts_left:
                    raise  # lanes hold rows of this attempt: the next epoch begins with clean ones
            except Stopped:
                # The next copy begins with a new slot; until then this one would keep the server's WAL for nothing.
                self._ledger.begin_copy(identity, options.slot)
                drop_slot(options.login, options.slot, application_name=self._application)
                raise
            else:
                break
        self._ledger.finish_copy(progress.tables)
        return created.consistent_point

    def _copy_under(self, created: CreatedSlot, tables: tuple[TableSchema, ...], relay: Relay) -> CopyProgress:
        copy = SnapshotCopy(
            self._options.login,
            snapshot_name=created.snapshot_name,
            schemas=tables,
            publications=[self._options.publication],
            snapshot_lsn=created.consistent_point,
            taken_at_us=created.taken_at_us,
            limits=self._limits,
            application_name=self._application,
        )
        plan = planned(
            [table.name for table in tables],
            copy.estimate(),
            epoch=self._config.epoch,
            snapshot_lsn=created.consistent_point,
        )
        progress = CopyProgress(plan, interval_ms=self._limits.copy_note_interval_ms)
        self._ledger.plan_copy(plan)
        relay.copy(tables, copy.batches(), upto=Position(created.consistent_point), progress=progress)
        return progress

    def _stream(self, start: Lsn, catalog: Catalog, identity: SourceIdentity) -> Position:
        options = self._options
        relay = self._relay
        assert relay is not None
        stream = ReplicationStream.open(
            options.login,
            slot=options.slot,
            publications=[options.publication],
            start=start,
            options=StreamOptions(
                binary=self._is_binary(catalog),
                streaming=options.streaming.value if self._config.may_spool else "off",
                two_phase=options.two_phase,
                origin=options.origin.value,
            ),
            limits=self._limits,
            application_name=self._application,
            server=identity,
        )
        decoder = Decoder(catalog.resolve, spool=Spool(self._spool_limits()))
        try:
            return relay.run(stream, decoder, start)
        finally:
            decoder.close()
            stream.close()

    def _spool_limits(self) -> SpoolLimits:
        options = self._options
        return SpoolLimits(
            memory_bytes=options.spool_memory,
            disk_bytes_max=options.spool_disk,
            directory=options.spool_directory or None,
        )

    def _start_relay(self, checkpoint: Position, stop_at: Lsn | None, *, is_reset: bool = False) -> Relay:
        flow = self._config.flow
        lanes = dict.fromkeys(self._config.lanes, START) if is_reset else dict(self._config.lanes)
        self._filler.close()
        self._filler = open_filler(
            self._options, clock=self._clock, limits=self._limits, application_name=self._application
        )
        relay = Relay(
            RelayConfig(
                flow=flow.id,
                epoch=self._config.epoch,
                commit_intervals_ms=self._config.commit_intervals_ms,
                required=flow.required_destinations(),
                stop_at=stop_at,
            ),
            lanes=lanes,
            checkpoint=checkpoint,
            transport=self._transport,
            clock=self._clock,
            limits=self._limits,
            filler=self._filler,
            names=self._names,
        )
        self._relay = relay
        if self._stop.is_set():
            relay.request_stop()
        return relay

    def _tables_per_lane(self, tables: tuple[TableSchema, ...]) -> dict[LaneId, tuple[TableName, ...]]:
        return {
            lane: tuple(schema.name for schema in tables if lane_of(schema.name, lane.count) == lane.index)
            for lane in self._config.lanes
        }

    def _is_binary(self, catalog: Catalog) -> bool:
        if self._options.binary == "false":
            return False
        if self._config.as_text:
            if self._options.binary == "auto":
                return False
            raise CheckFailed(
                "the option binary is true, but a column that has no binary decoder was published",
                advice="Set source.options.binary to auto, which streams as text past such a column",
            )
        for table in catalog.published_tables([self._options.publication]):
            for column in table.columns:
                if has_binary_kernel(column.type, column.typmod):
                    continue
                if self._options.binary == "auto":
                    return False
                raise CheckFailed(
                    f"the option binary is true, but type {column.type.name} has no binary decoder",
                    advice="Set source.options.binary to auto, which streams as text while such a column is published",
                    table=table.name,
                    column=column.name,
                )
        return True
