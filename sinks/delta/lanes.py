"""Positions as Delta application transactions: the lane's own, and the one every table keeps of every lane.

A Delta commit is of one table, so no single commit can move a lane over several tables (specs/decisions/0028). Instead
each commit to a table carries how far the lane is *in that table*, and a commit to the table ``_wallaby/lanes``, after
all of them, says how far it is as a whole. After a crash between them the lane stands where it stood and its stream is
read again; tables that are further drop what they have.

An application transaction is an id and an int64. A position is two unsigned 64-bit numbers, an epoch a third, so each
record is four of them, in one commit, kept by checkpoints and read back without any history::

    wallaby:<flow>/<destination>/<lane>:lsn  …:ordinal  …:epoch  …:copy

Two commits that carry the same id and did not see each other conflict: that is the compare-and-set. ``copy`` counts how
often the lane began anew: a table's record of an earlier copy says nothing about this one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, Transaction

from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.store import NO_HOOKS, Store, commit_properties, encode_name, hours
from wallaby.errors import Refused, Transient
from wallaby.lsn import START, Lsn, Position
from wallaby.record import LaneRecord, require_epoch
from wallaby.window import CommitToken, LaneId

FORMAT_VERSION: Final = 1
RESTORED: Final = "an older version of the table _wallaby/lanes was restored"
"""How the record may stand behind what it confirmed."""
MOVE_ATTEMPTS_MAX: Final = 20
"""Takeovers of a lane by others, met while it is taken over, before that is given up."""
MARKS_MAX: Final = 4_096
"""Records kept in memory, a few hundred bytes each."""
LOG_RETENTION: Final = timedelta(hours=6)
"""Every commit of every lane is a version of the table of records: older ones are removed after this."""
_FORMAT: Final = "wallaby.format"
_FIELDS: Final = pa.schema([pa.field("note", pa.string())])
_UNSIGNED: Final = 1 << 64
_SIGNED: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Mark:
    """A lane's record as Delta keeps it."""

    record: LaneRecord = field(default_factory=LaneRecord)
    copy: int = 0
    """How often the lane was reset."""

    def seen_from(self, lane: Mark) -> LaneRecord:
        """This record of a table, as far as the lane's present copy goes."""
        return self.record if self.copy == lane.copy else replace(self.record, position=START)


def read(table: DeltaTable, lane: LaneId) -> Mark:
    """What the loaded version of ``table`` says of ``lane``. Reads the log from its last checkpoint on."""
    with translated(Doing.OPEN, lane=lane):
        lsn, ordinal, epoch, copy = (table.transaction_version(name) for name in _names(lane))
    if lsn is None or ordinal is None or epoch is None or copy is None:
        return Mark()
    return Mark(LaneRecord(Position(Lsn(lsn % _UNSIGNED), ordinal % _UNSIGNED), epoch), copy)


def transactions(lane: LaneId, mark: Mark) -> list[Transaction]:
    """The record as a commit carries it. Numbers beyond 2^63 wrap: they are compared by `read`, never by Delta."""
    position = mark.record.position
    numbers = (_wrapped(int(position.lsn)), _wrapped(position.ordinal), mark.record.epoch, mark.copy)
    return [Transaction(name, number) for name, number in zip(_names(lane), numbers, strict=True)]


def metadata(token: CommitToken) -> dict[str, str]:
    """What the history of a table shows of a commit: names and positions."""
    return {
        "wallaby.lane": str(token.lane),
        "wallaby.epoch": str(token.epoch),
        "wallaby.after": str(token.after),
        "wallaby.upto": str(token.upto),
    }


def _names(lane: LaneId) -> list[str]:
    name = f"{encode_name(lane.flow)}/{encode_name(lane.destination)}/{lane.index}"
    return [f"wallaby:{name}:{part}" for part in ("lsn", "ordinal", "epoch", "copy")]


def _wrapped(number: int) -> int:
    return number - _UNSIGNED if number >= _SIGNED else number


class Marks:
    """The records of one process's last commits, by table and lane: what `read` would find, without reading.

    A version this process made right on top of the one it had read holds its own record and nobody else's.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, LaneId], tuple[int, Mark]] = OrderedDict()

    def read(self, table: DeltaTable, lane: LaneId) -> Mark:
        """As `read`."""
        version, mark = self._known.get((table.table_uri, lane), (-1, None))
        if mark is None or version != table.version():
            mark = read(table, lane)
            self._keep(table, lane, mark)
        return mark

    def wrote(self, table: DeltaTable, lane: LaneId, mark: Mark, *, over: int) -> None:
        """A commit with ``mark`` was made on top of version ``over``; ``table`` has been loaded since."""
        if table.version() == over + 1:
            self._keep(table, lane, mark)

    def forget(self, uri: str) -> None:
        """A table was made where there was none: versions of an earlier one say nothing about it."""
        for known in [key for key in self._known if key[0] == uri]:
            del self._known[known]

    def _keep(self, table: DeltaTable, lane: LaneId, mark: Mark) -> None:
        self._known[table.table_uri, lane] = table.version(), mark
        self._known.move_to_end((table.table_uri, lane))
        if len(self._known) > MARKS_MAX:
            self._known.popitem(last=False)


class Lanes:
    """The table of the lanes' own records."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table: DeltaTable | None = None
        self._marks = Marks()
        self._moved: tuple[LaneId, Mark, int] | None = None
        """The last move and the version under it, until the table is loaded again: nothing may fail after a commit."""

    def read(self, lane: LaneId) -> Mark:
        """The newest record; made when there is none."""
        table = self._loaded()
        if self._moved is not None:
            moved, mark, over = self._moved
            self._moved = None
            self._marks.wrote(table, moved, mark, over=over)
        return self._marks.read(table, lane)

    def peek(self) -> DeltaTable | None:
        """The table of records if there is one; `Refused` when a newer wallaby wrote it. Makes nothing."""
        table = self._store.open(self._store.lanes_uri, path=self._store.options.path)
        if table is not None:
            with translated(Doing.OPEN, path=self._store.options.path):
                version = table.metadata().configuration.get(_FORMAT, "unknown")
            if version != str(FORMAT_VERSION):
                raise Refused(
                    f"the lanes' records have format {version}, this wallaby knows {FORMAT_VERSION}",
                    advice="Use the wallaby that wrote them, or another path",
                    path=self._store.options.path,
                )
        return table

    def move(self, lane: LaneId, found: Mark, mark: Mark, *, details: dict[str, str]) -> None:
        """Write ``mark`` over ``found``, which `read` gave. `Conflict` when the lane moved since then."""
        table = self._table
        assert table is not None, "a record is read before it is moved"
        # The table may have been loaded again since: then the engine sees no conflict, but the record tells.
        if self._marks.read(table, lane) != found:
            raise Conflict("another writer moved the lane's position", lane=lane)
        over = table.version()
        with translated(Doing.COMMIT, lane=lane):
            table.create_write_transaction(
                [],
                "append",
                table.schema(),
                commit_properties=commit_properties(transactions(lane, mark), details),
                post_commithook_properties=NO_HOOKS,
            )
        self._moved = lane, mark, over

    def take(self, lane: LaneId, epoch: int, *, is_reset: bool = False) -> Mark:
        """Raise the lane's epoch, whoever moves it meanwhile; with ``is_reset`` begin a new copy. Twice is once.

        `Superseded` when a newer epoch has it.
        """
        for _ in range(MOVE_ATTEMPTS_MAX):
            found = self.read(lane)
            require_epoch(found.record, lane, epoch)
            if is_reset:
                wanted = Mark(LaneRecord(START, epoch), found.copy + 1)
            else:
                wanted = replace(found, record=LaneRecord(found.record.position, epoch))
            if wanted == found:
                return found
            try:
                self.move(lane, found, wanted, details={"wallaby.lane": str(lane), "wallaby.epoch": str(epoch)})
            except Conflict:
                continue
            return wanted
        raise Transient("the lane's record moves faster than it can be taken over", lane=lane)

    def _loaded(self) -> DeltaTable:
        where = {"path": self._store.options.path}
        if self._table is None:
            self._table = self.peek() or self._made()
        with translated(Doing.OPEN, **where):
            self._table.update_incremental()
        return self._table

    def _made(self) -> DeltaTable:
        configuration = {_FORMAT: str(FORMAT_VERSION), "delta.logRetentionDuration": hours(LOG_RETENTION)}
        return self._store.create(self._store.lanes_uri, _FIELDS, configuration=configuration)


__all__ = ["FORMAT_VERSION", "RESTORED", "Lanes", "Mark", "Marks", "metadata", "read", "transactions"]
