"""What the relay needs from the outside: a way to reach lanes and the coordinator, and a stream to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wallaby.lane import LaneReport
from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName
from wallaby.snapshot.progress import TableCopy
from wallaby.window import Barrier, LaneId, Window
from wallaby.window_builder import UnsealedPart


@dataclass(frozen=True, slots=True)
class Delivered:
    """A lane finished one call, in the order the calls were sent; ``error`` says it failed instead."""

    lane: LaneId
    nbytes: int
    report: LaneReport | None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """The control store answered; ``error`` says it refused or is away."""

    upto: Position
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class CopyNoted:
    """The control store answered a note of the copy's progress; ``error`` says it refused or is away."""

    tables: tuple[TableCopy, ...]
    error: BaseException | None = None


Completion = Delivered | Checkpointed | CopyNoted


class Transport(Protocol):
    """Lanes and coordinator, wherever they run. No call blocks; completions make ``fileno`` readable."""

    def publish(self, window: Window) -> Any:
        """Make ``window`` available to any number of lanes; the result is passed to ``send``."""
        ...

    def send(self, lane: LaneId, parcel: Any, *, nbytes: int, commit: bool, committed_at_us: int) -> None:
        """Queue ``Lane.write`` on the lane. Calls of one lane run in the order sent."""
        ...

    def checkpoint(self, after: Position, upto: Position, lanes: Mapping[str, Position]) -> None:
        """Ask the coordinator to move the flow's checkpoint. At most one is outstanding."""
        ...

    def note_copy(self, tables: tuple[TableCopy, ...]) -> None:
        """Ask the coordinator to write down how far these tables are copied. At most one is outstanding."""
        ...

    def completions(self) -> list[Completion]:
        """What finished since the last call."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable while ``completions`` has something."""
        ...


class ChangeStream(Protocol):
    """A started replication stream (`wallaby.postgres.replication.ReplicationStream`)."""

    @property
    def arena(self) -> Any: ...

    is_behind: bool

    def fileno(self) -> int: ...

    @property
    def has_pending(self) -> bool: ...

    @property
    def rest_s(self) -> float: ...

    @property
    def sent_at_us(self) -> int | None: ...

    def receive(self, timeout_s: float) -> bool: ...

    def send_status(self, *, received: Lsn, flushed: Lsn, reply_requested: bool = False) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class GapCount:
    """Cells PostgreSQL did not send, so far in this epoch."""

    filled: int = 0
    unfilled: int = 0


class Filler(Protocol):
    """Fills cells PostgreSQL did not send, in the stream's order; see `wallaby.relay.fill`."""

    def fill(self, parts: Sequence[UnsealedPart]) -> list[UnsealedPart]:
        """As `wallaby.window_builder.Fill`. Bounded in time; an error ends the epoch."""
        ...

    def barrier(self, barrier: Barrier) -> None:
        """Everything before the barrier was filled."""
        ...

    @property
    def counts(self) -> Mapping[TableName, GapCount]: ...

    def close(self) -> None:
        """Disconnect. Idempotent."""
        ...
