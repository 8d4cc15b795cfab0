"""One life of a flow in this process: the session in a thread, its lanes called directly, the control store a value."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from wallaby.clock import SystemClock
from wallaby.flow import FlowSpec
from wallaby.lane import Lane
from wallaby.lsn import START, Lsn, Position
from wallaby.postgres.slot import SourceIdentity
from wallaby.relay.session import SessionConfig, SourceSession
from wallaby.schema import KnownNames, TableName
from wallaby.settings import Limits
from wallaby.sink import Sink
from wallaby.snapshot.progress import TableCopy
from wallaby.startup import RememberedFacts, SnapshotState
from wallaby.testing.in_process import InProcessTransport
from wallaby.transformed import make_sink
from wallaby.window import LaneId

_PATIENCE_S: Final = 90.0


@dataclass
class Ledger:
    """What outlives an epoch: the facts of the control store. ``lanes`` are those of the running one."""

    facts: RememberedFacts = field(
        default_factory=lambda: RememberedFacts(position=START, lanes={}, snapshot=SnapshotState.NONE)
    )
    lanes: dict[LaneId, Lane] = field(default_factory=dict)

    def begin_copy(self, identity: SourceIdentity, slot: str) -> None:
        self.facts = replace(self.facts, position=START, lanes={}, snapshot=SnapshotState.COPYING)
        self.remember_source(identity, slot)

    def plan_copy(self, tables: Sequence[TableCopy]) -> None:
        del tables

    def finish_copy(self, tables: Sequence[TableCopy]) -> None:
        del tables
        self.facts = replace(self.facts, snapshot=SnapshotState.DONE)

    def remember_source(self, identity: SourceIdentity, slot: str) -> None:
        del slot
        self.facts = replace(
            self.facts,
            system_identifier=str(identity.system_identifier),
            timeline=identity.timeline,
            timeline_begin=identity.timeline_begin,
            database=identity.database,
        )

    def remember_names(self, names: tuple[KnownNames, ...]) -> None:
        known = {item.oid: item for item in (*self.facts.names, *names)}
        self.facts = replace(self.facts, names=tuple(known.values()))

    def require_resettable(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        for lane, names in tables.items():
            self.lanes[lane].require_resettable(names)

    def reset_lanes(self, tables: Mapping[LaneId, tuple[TableName, ...]]) -> None:
        for lane, names in tables.items():
            self.lanes[lane].reset(names)

    def checkpoint(self, after: Position, upto: Position, lanes: Mapping[str, Position]) -> None:
        """The control store's compare-and-set."""
        assert self.facts.position == after
        self.facts = replace(self.facts, position=upto, lanes=dict(lanes))


class Epoch:
    """The flow's source and sinks, from now on; the thread is over once `stop`, `failure` or `join` returns."""

    def __init__(
        self,
        flow: FlowSpec,
        ledger: Ledger,
        number: int,
        *,
        sink: Callable[[FlowSpec, str], Sink],
        limits: Limits,
        commits_at_once: bool = False,
        resnapshot: bool = False,
        once: bool = False,
    ) -> None:
        """``sink`` makes the one of a destination; ``commits_at_once``: whatever interval the destination asks for."""
        self._ledger = ledger
        ledger.lanes = {lane: Lane(sink(flow, lane.destination), lane, number) for lane in flow.lanes()}
        positions = {lane: consumer.recover() for lane, consumer in ledger.lanes.items()}
        intervals = {lane: consumer.commit_interval_ms for lane, consumer in ledger.lanes.items()}
        self._transport = InProcessTransport(ledger.lanes, checkpoint=ledger.checkpoint)
        config = SessionConfig(
            flow=flow,
            epoch=number,
            remembered=ledger.facts,
            lanes=positions,
            commit_intervals_ms={} if commits_at_once else intervals,
            resnapshot=resnapshot,
            once=once,
        )
        self._session = SourceSession(
            config, transport=self._transport, ledger=ledger, clock=SystemClock(), limits=limits
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=f"epoch {number}", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        try:
            self._session.run()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that joins
            self._error = error

    @property
    def phase(self) -> str:
        """Where it is."""
        return self._session.status.phase

    def until_streaming(self) -> None:
        """Wait for the end of the copy, if there is one."""
        self._until(lambda: self.phase == "streaming", "it streams")

    def until_durable(self, lsn: Lsn) -> None:
        """Wait for the checkpoint to come to ``lsn``."""
        self._until(lambda: self._ledger.facts.position.lsn >= lsn, "everything is durable")

    def stop(self) -> None:
        """Drain and end; raises what it failed of."""
        self._session.stop()
        self.join()

    def join(self) -> None:
        """Wait for it to end by itself; raises what it failed of."""
        self._end()
        if self._error is not None:
            raise self._error

    def failure(self) -> BaseException:
        """Wait for it to end by an error, and return that."""
        self._end()
        assert self._error is not None, "the session ended well"
        return self._error

    def abandon(self) -> None:
        """End, whatever it says."""
        self._session.stop()
        self._end()

    def _end(self) -> None:
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive(), "the session did not end"
        for lane in self._ledger.lanes.values():
            lane.close()
        self._transport.close()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if not self._thread.is_alive() and self._error is not None:
                raise AssertionError(f"the session ended before {what}") from self._error
            assert time.monotonic() < deadline, f"it never happened: {what}"
            threading.Event().wait(0.002)  # between two questions: another thread gives no sign


def real_sink(flow: FlowSpec, name: str) -> Sink:
    """A sink on the destination of this name."""
    [endpoint] = [destination for destination in flow.destinations if destination.name == name]
    return make_sink(endpoint.type, endpoint.options, destination=name)
