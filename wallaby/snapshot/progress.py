"""How far a copy is, table by table: what the source counts, and what those counts mean once they lie in the store.

The source writes down three states, `PENDING`, `COPYING` and `COPIED`. The other two are *read*, never written, because
who would have to write them may be dead: a table is `CONSISTENT` once the copy is durable and the stream has reached
the LSN of its snapshot, and `FAILED` when the run that copied it is over before that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName


class CopyState(StrEnum):
    """How far a table, or a whole copy, is."""

    PENDING = "pending"
    """Nothing of it was read yet."""
    COPYING = "copying"
    """Rows are being read."""
    COPIED = "copied"
    """Every row was read and handed to the destinations; not all of them are known to be durable."""
    CONSISTENT = "consistent"
    """Every required destination has the whole copy, and the stream has reached the LSN of its snapshot."""
    FAILED = "failed"
    """The run that copied ended first. The next run begins the copy anew."""


NOTED: Final = frozenset({CopyState.PENDING, CopyState.COPYING, CopyState.COPIED})
"""What may be written down; see the module."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the planner believes of a table, partitions included; 0 where it has no idea. Row filters are ignored."""

    rows: int = 0
    bytes: int = 0
    """On disk, TOAST included and indexes not, as of the last VACUUM or ANALYZE like ``rows``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCopy:
    """The copy of one table."""

    table: TableName
    number: int
    """Its place in the order in which tables are copied, from 0."""
    epoch: int
    """The run that copies it."""
    snapshot_lsn: Lsn
    """The rows are those of this place in the stream."""
    state: CopyState = CopyState.PENDING
    estimated_rows: int = 0
    estimated_bytes: int = 0
    rows: int = 0
    """Read from the source and handed to the destinations."""
    bytes: int = 0
    """... as Arrow, so they compare with a destination's bytes and not with ``estimated_bytes``."""
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    """By the source's clock, all three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRun:
    """What the control store knows of the run that copied."""

    is_done: bool
    """The whole copy was durable when it ended."""
    is_alive: bool
    """No newer run was begun, and the flow is wanted to run."""
    checkpoint: Position


def state_now(noted: CopyState, snapshot_lsn: Lsn, run: CopyRun) -> CopyState:
    """What a state that was written down means now; see the module."""
    if run.is_done:
        return CopyState.CONSISTENT if run.checkpoint.lsn >= snapshot_lsn else CopyState.COPIED
    return noted if run.is_alive else CopyState.FAILED


def planned(
    tables: Sequence[TableName], estimates: Mapping[TableName, Estimate], *, epoch: int, snapshot_lsn: Lsn
) -> tuple[TableCopy, ...]:
    """Every table of a copy before its first row."""
    found = [(name, estimates.get(name, Estimate())) for name in tables]
    return tuple(
        TableCopy(
            table=name,
            number=number,
            epoch=epoch,
            snapshot_lsn=snapshot_lsn,
            estimated_rows=estimate.rows,
            estimated_bytes=estimate.bytes,
        )
        for number, (name, estimate) in enumerate(found)
    )


class CopyProgress:
    """Counts a copy that reads table after table in the order planned, and says when the store should hear of it.

    At most one note every ``interval_ms``, with the tables that moved since the last one.
    """

    def __init__(self, tables: Sequence[TableCopy], *, interval_ms: int) -> None:
        self._tables = {item.table: item for item in tables}
        self._order = tuple(self._tables)
        self._interval_ms = interval_ms
        self._begun = 0
        self._changed: set[TableName] = set()
        self._taken_at_ms: int | None = None

    @property
    def tables(self) -> tuple[TableCopy, ...]:
        """Every table as it is now, in order."""
        return tuple(self._tables.values())

    def copied(self, table: TableName, *, rows: int, nbytes: int, at: datetime) -> None:
        """More rows of ``table`` were handed to the destinations. The tables before it in the order are complete."""
        self._complete(self._tables[table].number, at)
        item = self._tables[table]
        self._change(
            replace(
                item,
                state=CopyState.COPYING if item.finished_at is None else item.state,
                rows=item.rows + rows,
                bytes=item.bytes + nbytes,
                started_at=item.started_at or at,
                updated_at=at,
            )
        )

    def finish(self, at: datetime) -> None:
        """Every table is complete."""
        self._complete(len(self._order), at)

    def take(self, now_ms: int) -> tuple[TableCopy, ...]:
        """What the store should be told now: the tables that changed; nothing when it heard of us a moment ago."""
        is_early = self._taken_at_ms is not None and now_ms - self._taken_at_ms < self._interval_ms
        if is_early or not self._changed:
            return ()
        self._taken_at_ms = now_ms
        changed = tuple(self._tables[name] for name in self._order if name in self._changed)
        self._changed.clear()
        return changed

    def give_back(self, tables: Sequence[TableCopy]) -> None:
        """The store did not take these: they come again with the next `take`."""
        self._changed.update(item.table for item in tables)

    def _complete(self, number: int, at: datetime) -> None:
        """The tables before ``number`` are."""
        for name in self._order[self._begun : number]:
            item = self._tables[name]
            if item.finished_at is None:
                done = replace(
                    item, state=CopyState.COPIED, started_at=item.started_at or at, updated_at=at, finished_at=at
                )
                self._change(done)
        self._begun = max(self._begun, number)

    def _change(self, item: TableCopy) -> None:
        self._tables[item.table] = item
        self._changed.add(item.table)
