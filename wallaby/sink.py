"""What a destination must be able to do: the sink contract. `wallaby.testing.sink_contract` is its executable form.

A sink knows Arrow, its destination and this file. It does not know Ray, gRPC, slots, pgoutput, the checkpoint store,
other lanes, retry schedules, the wall clock, or where secrets came from.

Order of calls on one lane: ``open``, ``check``, ``ensure_table``…, ``recover``, then ``writer`` once, then any number
of (``write``…, ``commit``) and, at barriers with nothing written since the last commit, ``apply_barrier``. All calls of
one `Sink` object come from one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

if TYPE_CHECKING:  # Arrow is large, and who only reads flow files needs none of it
    from wallaby.lsn import Position
    from wallaby.schema import TableName, TableSchema
    from wallaby.window import Barrier, CommitToken, LaneId, Receipt, Window


class WriteMode(StrEnum):
    """How changes become rows."""

    MIRROR = "mirror"
    """The target equals the source table: upserts and deletes by key (Go name: ``target``)."""
    APPEND = "append"
    """Every change is a new row, in stream order, with position and operation columns."""
    HISTORY = "history"
    """Every version of a row is a row, with the interval in which it held (SCD type 2)."""


class Guarantee(StrEnum):
    """What a destination can promise after any crash; derived from its capabilities, never typed by hand."""

    EXACTLY_ONCE = "exactly once"
    EFFECTIVELY_ONCE = "effectively once"
    AT_LEAST_ONCE = "at least once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the sink can do. No defaults: a sink says each. A claim is tested, a denial is tested to refuse."""

    modes: frozenset[WriteMode]
    atomic_position: bool
    """Data and position become durable in one step."""
    keyed_upsert: bool
    """Writing a row of a known key again replaces it."""
    whole_transactions: bool
    """A commit becomes visible as a whole, over all tables."""
    truncate: bool
    parallel_lanes: bool
    """Several lanes may write different tables at once."""
    exact_outliers: bool
    """Values outside the Arrow type (NaN numerics, infinite dates …) are stored exactly as PostgreSQL has them."""

    @property
    def guarantee(self) -> Guarantee:
        if self.atomic_position:
            return Guarantee.EXACTLY_ONCE
        return Guarantee.EFFECTIVELY_ONCE if self.keyed_upsert else Guarantee.AT_LEAST_ONCE


class Severity(StrEnum):
    """Whether a finding stops the flow."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found out about a source or destination before or during start, for a person to read.

    ``subject`` is a field path (``destinations[0].options.dsn``) or an object (``table public.orders``).
    """

    severity: Severity
    subject: str
    message: str
    advice: str = ""
    code: str = ""
    """Stable kebab-case name, e.g. ``wal-level``, ``slot-busy``, ``table-shape``."""


def error_finding(subject: str, message: str, advice: str, code: str) -> Finding:
    """A finding that keeps the flow from starting."""
    return Finding(severity=Severity.ERROR, subject=subject, message=message, advice=advice, code=code)


def unlisted_finding(subject: str, place: str) -> Finding:
    """Keys that may not list the option ``place``, which lanes need not do: so it was not looked at."""
    return Finding(
        severity=Severity.WARNING,
        subject=subject,
        message=f"the keys may not list the {place}, so it was not looked at",
        advice="Reading, writing and deleting objects is needed; allow listing too, and check can look",
        code="access-denied",
    )


PASSING_CODES: Final = frozenset({"destination-unreachable", "destination-read-only", "locked"})
"""Codes of errors that may end by themselves (a restart, a failover, a process that lets go): a lane that meets them
while it starts is tried again later."""


class SinkWriter(Protocol):
    """One lane's writer. ``write`` takes a window or raises; nothing is visible before ``commit``."""

    def write(self, window: Window) -> None:
        """Stage the window's parts in stream order. A raised error leaves the writer unusable until ``abort``.

        `RowRefused`, here or by ``commit``, for what the rows cause; see also `Rehearsing`.
        """
        ...

    def commit(self, token: CommitToken) -> Receipt:
        """Make everything written since the last commit durable and move the lane's record, in one atomic step.

        With the destination's record ``r`` for the lane: ``r == token.after`` applies; ``r == token.upto`` was applied
        before (what is staged is dropped, the same receipt is returned); ``r`` otherwise beyond ``token.after``, or
        written by a newer epoch: `Superseded`; ``r`` behind ``token.after``: `Refused` (the destination went back in
        time). If the answer is lost: `OutcomeUnknown`. A token with nothing written moves only the record.
        """
        ...

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        """Apply TRUNCATE or a new table shape and move the record, atomically, with the same rules as ``commit``."""
        ...

    def abort(self) -> None:
        """Forget everything written since the last commit. Idempotent."""
        ...


@runtime_checkable
class Rehearsing(Protocol):
    """A `SinkWriter` whose commit can refuse rows: it can say so before, so that the rows can be found.

    A writer without it refuses rows in ``write``, or takes them all.
    """

    def rehearse(self) -> None:
        """Apply what was written as ``commit`` will, and leave it uncommitted: raises what its rows make commit raise.

        What a destination checks at the end of a transaction only, it checks here only when the last window written
        has ``ends_transaction``; and what is written afterwards meets no stricter checks than without a rehearsal.
        Afterwards ``commit`` makes it durable, ``abort`` drops it, and more may be written. A raised error leaves the
        writer unusable until ``abort``.
        """
        ...


@runtime_checkable
class Guarding(Protocol):
    """A `Sink` that does not empty every target: it can say so before the flow gives up what it has for a new copy."""

    def require_resettable(self, table: TableName) -> None:
        """`Refused` where `Sink.reset_table` would refuse what the target holds. Changes nothing in it."""
        ...


class Sink(Protocol):
    """A destination of one flow in one process."""

    @property
    def capabilities(self) -> Capabilities:
        """Pure: no network, works before ``open``."""
        ...

    @property
    def commit_interval_ms(self) -> int:
        """Commit at most this often; 0: as soon as something is there. From the destination's options."""
        ...

    def open(self) -> None:
        """Connect. Idempotent."""
        ...

    def close(self) -> None:
        """Disconnect; commits nothing. Idempotent."""
        ...

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        """Reachability, permissions, settings, and whether existing targets fit. Changes nothing."""
        ...

    def ensure_table(self, schema: TableSchema) -> None:
        """The target exists and fits ``schema``; creates it when missing. `Refused` lists what does not fit."""
        ...

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        """Empty the target before a (repeated) initial copy, of the rows that came by `LaneId.beside` too.

        Only a target wallaby created, or that was empty when first seen, may be emptied; otherwise `Refused`, and the
        sink is `Guarding`.
        """
        ...

    def recover(self, lane: LaneId, epoch: int) -> Position:
        """The lane's last committed position *from the destination*; ``START`` when it has none.

        Also raises the lane's epoch to ``epoch`` durably, so that an older writer's later commit is `Superseded`;
        a stored epoch above ``epoch`` raises `Superseded`.
        """
        ...

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        """Forget the lane's position (back to ``START``) before a repeated initial copy; older epochs stay fenced."""
        ...

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        """The lane's only writer in this process."""
        ...


class SinkFactory(Protocol):
    """What a sink's folder exports under the entry-point group ``wallaby.sinks``.

    An attribute ``options_model``, the class of its options, lets `wallaby.flow.json_schema` describe them.
    """

    name: str
    """The endpoint type in flow files: ``postgres``, ``duckdb``, ``files`` …"""

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """Capabilities under these options; `ConfigError` with ``field`` for a bad option. Opens nothing."""
        ...

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open, from validated options (secrets already resolved)."""
        ...
