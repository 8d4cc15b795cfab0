"""A lane's dead letters: what it sets aside, finds and keeps until the commit.

The order of steps is the promise: a letter is stored, then the destination's record moves past it. Stored letters that
the record has not reached do not count, and the next epoch forgets them before it writes anything; so repeating after a
crash sets aside the same changes again, or takes them if the destination does by then.

With the policy ``stop`` nothing new is set aside, but what was before stays so until somebody settles it.

Changes of a key (or table) of which a letter is open follow it into the store without being tried: order per key holds.
A barrier of a table with anything set aside parks the table: TRUNCATE and new shapes then keep their place among its
letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.aside import Mask, PartKeys, chosen, first_position, key_set, operation, together
from wallaby.errors import Refused, RowRefused
from wallaby.flow import DeadLetterPolicy, DeadLetters
from wallaby.isolation import Refusal, Suspects, first_refused
from wallaby.letter import Aside, Keys, Letter, Letters, Replay, pack_barrier, pack_part
from wallaby.lsn import Position
from wallaby.memory import unwritten_buffer
from wallaby.schema import TableName
from wallaby.settings import Limits
from wallaby.sink import Rehearsing, SinkWriter
from wallaby.window import Barrier, BarrierKind, LaneId, TablePart, Window

_BEHIND = "waits for an earlier change of its key, which is set aside"
_PARKED = "the table is parked"
_WHOLE = "the table is parked: it was truncated or changed its shape while changes of it are set aside"


class SetAside:
    """Belongs to one lane and epoch. Not usable after an error of the store, like the lane."""

    def __init__(self, letters: Letters, lane: LaneId, epoch: int, *, rules: DeadLetters, limits: Limits) -> None:
        self._letters = letters
        self._lane = lane
        self._epoch = epoch
        self._rules = rules
        self._limits = limits
        self._tables: set[TableName] = set()
        self._keys: dict[TableName, Keys] = {}
        self._dropped: frozenset[TableName] = frozenset()
        self._kept: list[TablePart] = []
        """Written since the last commit."""
        self._kept_bytes = 0
        self._is_overfull = False
        self._pending: list[Letter] = []
        self._pending_bytes = 0

    @property
    def rows(self) -> int:
        """Rows written since the last commit."""
        return sum(part.rows for part in self._kept)

    @property
    def isolates(self) -> bool:
        """Refused rows are looked for."""
        return self._rules.policy is not DeadLetterPolicy.STOP

    @property
    def has_letters(self) -> bool:
        """Some wait to be sent."""
        return bool(self._pending)

    def refresh(self, position: Position) -> None:
        """At a commit boundary: forget letters beyond the destination's ``position``, and learn what is set aside."""
        assert not self._kept, f"lane {self._lane} has uncommitted rows"
        assert not self._pending, f"lane {self._lane} has unsent letters"
        self._learn(self._letters.begin(self._lane, self._epoch, position))

    def take(self, parts: tuple[TablePart, ...], upto: Position) -> tuple[TablePart, ...]:
        """The parts to be written of a window that ends at ``upto``; the rest joins the letters.

        They are copies, kept until the commit, which is longer than a shared buffer may be. With the policy ``stop``
        nothing is kept.
        """
        taken = []
        for part in parts:
            rest = self._sorted(part) if self._tables or self._keys else part
            if rest is not None and rest.rows:
                taken.append(self._keep(rest))
            elif rest is not None:
                taken.append(rest)
        if self._pending_bytes > self._limits.isolated_bytes_max // 2:
            # Whatever might be found of this interval from now on would come too late for its place in the order.
            self._kept.clear()
            self._is_overfull = True
            self.send(upto)
        return tuple(taken)

    def barrier(self, barrier: Barrier) -> Barrier | None:
        """What of the barrier is to be applied; its tables with something set aside are parked, and it joins them."""
        touched = [table for table in barrier.tables if table in self._tables or table in self._keys]
        for table in touched:
            own = replace(
                barrier, tables=(table,), schemas=tuple(schema for schema in barrier.schemas if schema.name == table)
            )
            content = pack_barrier(own)
            self._add(
                Letter(
                    table=table,
                    position=Position(barrier.commit_lsn, barrier.ordinal),
                    rows=0,
                    op="truncate" if barrier.kind is BarrierKind.TRUNCATE else "schema",
                    keys=None,
                    error="",
                    message=_PARKED if table in self._tables else _WHOLE,
                    attempts=0,
                    content=content,
                )
            )
            self._park(table)
        if not touched:
            return barrier
        tables = tuple(table for table in barrier.tables if table not in touched)
        schemas = tuple(schema for schema in barrier.schemas if schema.name not in touched)
        return replace(barrier, tables=tables, schemas=schemas) if tables or schemas else None

    def isolate(
        self, writer: SinkWriter, error: RowRefused, *, after: Position, upto: Position, ends_transaction: bool
    ) -> bool:
        """Find what is refused of the rows since the last commit, set it aside, and write the others again.

        False when the destination takes them all, tried once more. Raises ``error`` when it cannot be found.
        """
        if self._is_overfull or not self._kept:
            raise _unisolated(error) from error
        suspects = Suspects(self._kept)
        units: npt.NDArray[np.int64] = np.arange(len(suspects))
        attempt = self._trial(writer, error, Window(after, upto, ends_transaction=ends_transaction))
        taken = refusals = 0
        while True:
            found = first_refused(suspects, units, taken, attempt, attempts=self._rules.attempts)
            if not isinstance(found, Refusal):
                taken = found
                if taken == len(units):
                    break
                continue
            refusals += 1
            if refusals > self._limits.isolated_rows_max:
                raise _too_many(error, self._limits.isolated_rows_max) from error
            place = int(np.flatnonzero(units == found.unit)[0])
            if self._rules.policy is DeadLetterPolicy.PARK:
                gone = np.array([suspects.tables[unit] == found.table for unit in units.tolist()])
                self._park_refused(suspects, units[gone], found)
            else:
                gone = units == found.unit
                self._skip_refused(suspects, found)
            units, taken = units[~gone], place - int(np.count_nonzero(gone[:place]))
        self._kept = list(suspects.of_units(units))
        return refusals > 0

    def send(self, upto: Position) -> None:
        """Store the letters, in stream order; they count once the destination's record reaches ``upto``."""
        if not self._pending:
            return
        waiting = tuple(sorted(self._pending, key=lambda letter: letter.position))
        self._pending, self._pending_bytes = [], 0
        aside = self._letters.put(self._lane, self._epoch, waiting, upto, self._rules.payload)
        # What somebody released meanwhile flows again from the next window on; of this one it may be set aside already.
        self._learn(aside)

    def committed(self) -> None:
        """What was written is durable."""
        assert not self._pending, f"lane {self._lane} committed before its letters were stored"
        self._kept.clear()
        self._kept_bytes = 0
        self._is_overfull = False

    def replays(self) -> tuple[Replay, ...]:
        """What somebody asked to be replayed, at a commit boundary."""
        assert not self._pending, f"lane {self._lane} has unsent letters"
        return self._letters.replays(self._lane, self._epoch)

    def settle(self, replay: Replay, done: tuple[int, ...], failure: str) -> None:
        """A replay ended; see `Letters.settle`."""
        self._letters.settle(self._lane, self._epoch, replay.number, done, failure)

    def forget(self) -> None:
        """The lane begins anew with a copy."""
        self._letters.forget(self._lane, self._epoch)
        self._learn(Aside())
        self._pending.clear()
        self._pending_bytes = 0
        self.committed()

    # -- what is set aside --------------------------------------------------------------------------------------------

    def _learn(self, aside: Aside) -> None:
        self._tables = set(aside.tables)
        self._keys = dict(aside.keys)
        self._dropped = aside.dropped

    def _sorted(self, part: TablePart) -> TablePart | None:
        """The rows of the part that may be written; the others become letters."""
        table = part.schema.name
        if table in self._tables:
            if part.rows and table not in self._dropped:
                self._add_rows(part, keys=None, message=_PARKED)
            return None
        if table not in self._keys or part.rows == 0:
            return part
        keys = PartKeys.of(part)
        mask, self._keys[table] = keys.meeting(self._keys[table])
        (labels,) = together([keys])
        for label in np.unique(labels[mask]).tolist():
            own: Mask = mask & (labels == label)
            piece = chosen(part, own)
            assert piece is not None, "a label of a row that is none"
            self._add_rows(piece, keys=key_set(keys, own), message=_BEHIND)
        return chosen(part, ~mask)

    def _keep(self, part: TablePart) -> TablePart:
        if self._rules.policy is DeadLetterPolicy.STOP:
            return part
        copy = replace(part, data=_copied(part.data))
        self._kept_bytes += copy.nbytes
        if self._kept_bytes > self._limits.isolated_bytes_max:
            self._kept.clear()
            self._is_overfull = True
        if not self._is_overfull:
            self._kept.append(copy)
        return copy

    def _park(self, table: TableName) -> None:
        self._tables.add(table)
        self._keys.pop(table, None)

    def _park_refused(self, suspects: Suspects, units: npt.NDArray[np.int64], refusal: Refusal) -> None:
        self._park(refusal.table)
        why = f"{refusal.error} (the first row refused is at {refusal.position})"
        for number, part in enumerate(suspects.of_units(units)):
            if number:
                self._add_rows(part, keys=None, message=_PARKED)
            else:
                self._add_rows(part, keys=None, message=why, error=refusal.error, attempts=refusal.attempts)

    def _skip_refused(self, suspects: Suspects, refusal: Refusal) -> None:
        for number, (part, keys) in enumerate(suspects.pieces(refusal.unit)):
            known = self._keys.get(refusal.table, np.zeros(0, np.uint64))
            self._keys[refusal.table] = np.union1d(known, np.array(keys, np.uint64))
            if number:
                self._add_rows(part, keys=keys, message=_BEHIND)
            else:
                why = str(refusal.error)
                self._add_rows(part, keys=keys, message=why, error=refusal.error, attempts=refusal.attempts)

    def _add_rows(
        self,
        part: TablePart,
        *,
        keys: tuple[int, ...] | None,
        message: str,
        error: RowRefused | None = None,
        attempts: int = 0,
    ) -> None:
        self._add(
            Letter(
                table=part.schema.name,
                position=first_position(part),
                rows=part.rows,
                op=operation(part),
                keys=keys,
                error="" if error is None else type(error).__name__,
                message=message,
                attempts=attempts,
                content=pack_part(part),
            )
        )

    def _add(self, letter: Letter) -> None:
        self._pending.append(letter)
        self._pending_bytes += len(letter.content or b"")

    def _trial(
        self, writer: SinkWriter, error: RowRefused, interval: Window
    ) -> Callable[[tuple[TablePart, ...]], None]:
        trials = 0

        def attempt(parts: tuple[TablePart, ...]) -> None:
            nonlocal trials
            trials += 1
            if trials > self._limits.isolation_trials_max:
                raise _too_many(error, self._limits.isolated_rows_max) from error
            writer.abort()
            if parts:
                writer.write(replace(interval, parts=parts))
                if isinstance(writer, Rehearsing):
                    writer.rehearse()

        return attempt


def _copied(data: pa.Buffer) -> pa.Buffer:
    """A copy in Arrow's pool, which hands the same pages out again: fresh ones cost several times the copying."""
    copy = unwritten_buffer(data.size)
    np.copyto(np.frombuffer(copy, np.uint8), np.frombuffer(data, np.uint8))
    return copy


def _unisolated(error: RowRefused) -> Refused:
    return Refused(
        error.message,
        advice=f"{error.advice} The row is one of a transaction too large to look for it in".strip(),
        **error.where,
    )


def _too_many(error: RowRefused, rows_max: int) -> Refused:
    return Refused(
        f"more rows of one commit are refused than the {rows_max} that may be set aside: {error.message}",
        advice=error.advice,
        **error.where,
    )
