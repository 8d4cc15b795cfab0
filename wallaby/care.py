"""Care for a destination's tables beside the commits: what a table is like, what is due, and what was done. Pure nouns.

A lake grows with every commit: small files, delete files, versions and the files only old versions need. A `Keeper`
looks after the tables of one destination. It knows nothing of lanes and stands in nobody's way: whatever it commits is
a compare-and-set that leaves the rows as they are, and where a lane was first it starts from what the lane made, or
gives up until its next turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wallaby.errors import WallabyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from wallaby.schema import TableName


class Maintenance(StrEnum):
    """Who looks after a destination's tables."""

    AUTO = "auto"
    """wallaby, beside the flow."""
    OFF = "off"
    """Somebody else; ``wallaby maintain`` does it once, by hand."""


class Chore(StrEnum):
    """One kind of care, in the order they are done."""

    COMPACT = "compact"
    """Put small files together, and take deleted rows out of files."""
    EXPIRE = "expire"
    """Forget old versions, and remove the files only they needed."""
    ORPHANS = "orphans"
    """Remove files no version knows, left by writers that died."""
    CHECKPOINT = "checkpoint"
    """Sum up the table's log, and clean it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a table is like."""

    files: int = 0
    """Data files of the present version."""
    small_files: int = 0
    """... of which a compaction would make fewer."""
    bytes: int = 0
    """Of the data files, on disk."""
    rows: int = 0
    """In the data files, those that are deleted by delete files included."""
    delete_files: int = 0
    deleted_rows: int = 0
    """Rows of data files that delete files take away: readers merge them at every query."""
    versions: int = 0
    """Snapshots that can still be read (Iceberg), log entries since the last checkpoint (Delta)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A table as a keeper found it, and what is due."""

    condition: Condition
    due: tuple[Chore, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One table's turn: what was due, what of it was done, and how the table was before and is now."""

    table: str
    before: Condition
    after: Condition
    due: tuple[Chore, ...] = ()
    done: tuple[Chore, ...] = ()
    yielded: tuple[Chore, ...] = ()
    """Given up because others committed to the table: they are due again at the next turn."""
    failure: str = ""
    """Why the turn ended early; one sentence."""
    ended_at: datetime | None = None


class Keeper(Protocol):
    """Looks after the tables of one flow in one destination. For one thread, in any process."""

    def tables(self) -> tuple[TableName, ...]:
        """Targets (not sources) the flow has written to, sorted."""
        ...

    def look(self, table: TableName, now: datetime) -> Look | None:
        """Its condition, and what is due at ``now`` (with a time zone); None when it is gone. Changes nothing."""
        ...

    def condition(self, table: TableName) -> Condition | None:
        """What it is like, as a look says, without what is due; None when it is gone."""
        ...

    def do(self, table: TableName, chore: Chore, now: datetime) -> bool:
        """Do one chore, within the limits of one job; what is left is due again. Killed in between, it leaves files
        nobody knows, never a half-done version. False when it yielded to others' commits."""
        ...

    def close(self) -> None:
        """Disconnect. Idempotent."""
        ...


@runtime_checkable
class KeeperFactory(Protocol):
    """A `wallaby.sink.SinkFactory` whose tables want care."""

    def maintenance(self, options: Mapping[str, Any]) -> tuple[Maintenance, int]:
        """Who looks after the tables, and the milliseconds between two rounds. Opens nothing."""
        ...

    def keeper(self, options: Mapping[str, Any], *, flow: str, destination: str) -> Keeper:
        """A keeper, not connected yet; options as for ``create``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCare:
    """What a flow's status shows of one table's last turn."""

    destination: str
    table: str
    condition: Condition = field(default_factory=Condition)
    done: tuple[str, ...] = ()
    yielded: tuple[str, ...] = ()
    failure: str = ""
    ended_at: datetime | None = None


def take_turn(keeper: Keeper, table: TableName, *, now: datetime, is_dry_run: bool = False) -> Turn | None:
    """Look at ``table`` and do what is due, one chore after the other; None when there is no such table.

    A chore that fails ends the turn, and says so in it: care is never a reason to stop anything.
    """
    before = after = Condition()
    due: tuple[Chore, ...] = ()
    done: list[Chore] = []
    yielded: list[Chore] = []
    failure = ""
    try:
        found = keeper.look(table, now)
        if found is None:
            return None
        before = after = found.condition
        due = found.due
        for chore in () if is_dry_run else due:
            (done if keeper.do(table, chore, now) else yielded).append(chore)
        if done:
            after = keeper.condition(table) or before
    except WallabyError as error:
        failure = f"{error.message}. {error.advice}".rstrip(". ")
    return Turn(
        table=str(table),
        before=before,
        after=after,
        due=due,
        done=tuple(done),
        yielded=tuple(yielded),
        failure=failure,
        ended_at=now,
    )


__all__ = [
    "Chore",
    "Condition",
    "Keeper",
    "KeeperFactory",
    "Look",
    "Maintenance",
    "TableCare",
    "Turn",
    "take_turn",
]
