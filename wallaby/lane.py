"""One lane at work: a sink's writer, the lane's committed position, and which windows it has seen already.

The source sends every lane the same stream from the lowest position any lane needs. A lane that is further ahead drops
what its destination already holds: whole windows by their end, single rows of the one window that straddles its
position. The compare-and-set of a commit always starts at the position this lane last got a receipt for.

What the flow's options do to rows (`wallaby.transformed`) is done before anything else looks at them: from there on
tables have the names and shapes of the destination, in dead letters too.

Rows the destination refuses are set aside (`wallaby.set_aside`) where the flow says so, and come back by a replay: a
second lane beside this one, with a position record of its own that counts replays. Its commit applies letters and moves
that record in one step, so a replay happens once, whatever dies in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from wallaby.errors import CheckFailed, Refused, RowRefused, Transient
from wallaby.letter import Replay, unpack
from wallaby.lsn import START, Lsn, Position
from wallaby.pgoutput.resume import drop_applied
from wallaby.schema import TableName, TableSchema
from wallaby.set_aside import SetAside
from wallaby.sink import PASSING_CODES, Finding, Guarding, Rehearsing, Severity, Sink, SinkWriter
from wallaby.transformed import opened
from wallaby.window import Barrier, BarrierKind, CommitToken, LaneId, Receipt, TablePart, Window
from wallaby.window_builder import encode_part


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What one call did. ``receipt`` is set when the lane's durable position is known to have been reached."""

    receipt: Receipt | None
    rows: int


class Lane:
    """A single-threaded consumer. Any raised error leaves it unusable: make a new one under a new epoch."""

    def __init__(self, sink: Sink, lane: LaneId, epoch: int, *, set_aside: SetAside | None = None) -> None:
        """Without ``set_aside`` a refused row ends the lane with the destination's error."""
        self._sink, self._transform = opened(sink)
        self._lane = lane
        self._epoch = epoch
        self._writer: SinkWriter | None = None
        self._committed = START
        self._ensured: set[tuple[int, int]] = set()
        self._ensured_uncommitted: list[TableSchema] = []
        """Since the last commit."""
        self._met: set[TableName] = set()
        """Targets rows came for, also rows the destination had already: the target is there."""
        self._rows_uncommitted = 0
        self._is_inside = False
        """The writer was told last that a transaction goes on."""
        self._written_upto = self._committed
        self._set_aside = set_aside
        self._has_begun = False
        self._is_replay_due = False
        self._replayer: _Replayer | None = None

    @property
    def commit_interval_ms(self) -> int:
        """See `Sink.commit_interval_ms`."""
        return self._sink.commit_interval_ms

    @property
    def position(self) -> Position:
        """Last position known durable in the destination."""
        return self._committed

    def recover(self) -> Position:
        """Open the sink, check it, fence older epochs, and ask where the destination stands."""
        self._sink.open()
        errors = [finding for finding in self._sink.check() if finding.severity is Severity.ERROR]
        if errors:
            kind = Transient if all(finding.code in PASSING_CODES for finding in errors) else CheckFailed
            raise kind(_sentence(errors), advice=errors[0].advice, lane=self._lane)
        self._committed = self._written_upto = self._sink.recover(self._lane, self._epoch)
        self._writer = self._sink.writer(self._lane, self._epoch)
        return self._committed

    def require_resettable(self, tables: tuple[TableName, ...]) -> None:
        """`Refused` when ``reset`` would refuse to empty one of them. Changes nothing."""
        if isinstance(self._sink, Guarding):
            for table in self._transform.names(tables):
                self._sink.require_resettable(table)

    def reset(self, tables: tuple[TableName, ...]) -> None:
        """Back to nothing before a repeated initial copy; see `Sink.reset_table` for which tables may be emptied."""
        if self._set_aside is not None:
            # Before anything is empty: else a process left over from an older epoch could still replay into it.
            self._sink.recover(self._lane.beside, self._epoch)
        for table in self._transform.names(tables):
            self._sink.reset_table(table, self._lane, self._epoch)
        self._sink.reset_lane(self._lane, self._epoch)
        if self._set_aside is not None:
            self._set_aside.forget()
            self._sink.reset_lane(self._lane.beside, self._epoch)
            self._replayer = None
            self._has_begun = False
        self.recover()
        self._ensured.clear()
        self._ensured_uncommitted.clear()

    def write(self, window: Window, *, commit: bool, committed_at_us: int = 0) -> LaneReport:
        """Take ``window``; with ``commit``, make it and all before it durable.

        A window without parts and barrier with ``commit`` commits what was written before it.
        """
        writer = self._writer
        assert writer is not None, "recover() comes before write()"
        self._begin()
        if window.barrier is not None:
            return self._apply_barrier(writer, window)
        self._met.update(self._transform.names(part.schema.name for part in window.parts))
        parts = self._transform.parts(self._unseen(window))
        if self._set_aside is not None:
            parts = self._set_aside.take(parts, window.upto)
        for part in parts:
            if (version := (part.schema.oid, part.schema.version)) not in self._ensured:
                self._sink.ensure_table(part.schema)
                self._ensured.add(version)
                self._ensured_uncommitted.append(part.schema)
        parts = tuple(part for part in parts if part.rows)
        rows = sum(part.rows for part in parts)
        self._written_upto = max(self._written_upto, window.upto)
        if parts:
            self._rows_uncommitted += rows
            self._is_inside = not (window.ends_transaction or commit)
            try:
                writer.write(Window(window.after, window.upto, parts, ends_transaction=not self._is_inside))
            except RowRefused as error:
                self._isolate(writer, error, self._written_upto)
        if not commit:
            return LaneReport(None, rows)
        return LaneReport(self._commit(writer, self._written_upto, committed_at_us), rows)

    def replay(self) -> None:
        """Apply the letters somebody asked for and learn what was released: now, or with the next commit.

        Call it once the source has begun to stream: a destination that is refused then must not be written to.
        """
        if self._set_aside is None:
            return
        self._begin()
        self._is_replay_due = True
        if self._written_upto == self._committed:
            self._replay()

    def close(self) -> None:
        """Forget what is uncommitted and disconnect."""
        if self._replayer is not None:
            self._replayer.writer.abort()
        if self._writer is not None:
            self._writer.abort()
        self._sink.close()

    def _unseen(self, window: Window) -> tuple[TablePart, ...]:
        if window.upto <= self._committed:
            return ()
        if window.after >= self._committed or self._committed.is_snapshot:
            return window.parts
        kept = []
        for part in window.parts:
            batches = [drop_applied(batch, self._committed) for batch in part.batches()]
            batches = [batch for batch in batches if batch.num_rows]
            if sum(batch.num_rows for batch in batches) == part.rows:
                kept.append(part)
            elif batches:
                kept.append(replace(encode_part(part.schema, batches), fetched_at=part.fetched_at))
        return tuple(kept)

    def _apply_barrier(self, writer: SinkWriter, window: Window) -> LaneReport:
        barrier = window.barrier
        assert barrier is not None
        is_truncate = barrier.kind is BarrierKind.TRUNCATE
        if window.upto < self._committed or (is_truncate and window.upto == self._committed):
            return LaneReport(Receipt(self._lane, self._committed, 0), 0)
        assert self._rows_uncommitted == 0, f"lane {self._lane} has uncommitted rows before a barrier"
        token = self._token(window.upto, 0, barrier.committed_at_us)
        rest = self._transform.barrier(barrier)
        if self._set_aside is not None:
            rest = None if rest is None else self._set_aside.barrier(rest)
            self._set_aside.send(window.upto)
        if rest is not None and (is_truncate or any(schema.name in self._met for schema in rest.schemas)):
            receipt = writer.apply_barrier(rest, token)
            self._ensured.update((schema.oid, schema.version) for schema in rest.schemas if not is_truncate)
        else:
            # No rows under this name so far (a partition announced beside its root, a renamed table): made with them.
            receipt = writer.commit(token)
        self._committed = self._written_upto = receipt.upto
        return LaneReport(receipt, 0)

    def _commit(self, writer: SinkWriter, upto: Position, committed_at_us: int) -> Receipt:
        if upto <= self._committed:
            return Receipt(self._lane, self._committed, 0)
        receipt = self._durable(writer, upto, committed_at_us)
        self._committed = receipt.upto
        self._rows_uncommitted = 0
        self._ensured_uncommitted.clear()
        if self._set_aside is not None:
            self._set_aside.committed()
            if self._is_replay_due:
                self._replay()
        return receipt

    def _durable(self, writer: SinkWriter, upto: Position, committed_at_us: int) -> Receipt:
        """Letters first, then the destination's record: see `wallaby.set_aside`."""
        is_last_try = False
        is_untold, self._is_inside = self._is_inside, False  # before a barrier a transaction may be committed in parts
        while True:
            try:
                if self._set_aside is not None and self._set_aside.has_letters:
                    # What is refused now comes before the letters that follow it: none is sent until all are known.
                    if isinstance(writer, Rehearsing):
                        if is_untold:
                            writer.write(Window(upto, upto))
                        writer.rehearse()
                    self._set_aside.send(upto)
                return writer.commit(self._token(upto, self._rows_uncommitted, committed_at_us))
            except RowRefused as error:
                if not self._isolate(writer, error, upto):
                    # All rows were taken when they were tried again: once more, and no oftener.
                    if is_last_try:
                        raise
                    is_last_try = True

    def _isolate(self, writer: SinkWriter, error: RowRefused, upto: Position) -> bool:
        if self._set_aside is None or not self._set_aside.isolates:
            raise error
        writer.abort()
        # A destination may make targets in the transaction that ended just now: they are gone with it.
        for schema in self._ensured_uncommitted:
            self._sink.ensure_table(schema)
        has_found = self._set_aside.isolate(
            writer, error, after=self._committed, upto=upto, ends_transaction=not self._is_inside
        )
        self._rows_uncommitted = self._set_aside.rows
        return has_found

    def _begin(self) -> None:
        """Once per epoch, before anything is written: the source has agreed with where the destination stands."""
        if self._set_aside is not None and not self._has_begun:
            self._set_aside.refresh(self._committed)
            self._is_replay_due = True
        self._has_begun = True

    def _replay(self) -> None:
        assert self._set_aside is not None, "a replay without letters"
        self._is_replay_due = False
        while replays := self._set_aside.replays():
            if self._replayer is None:
                self._replayer = _Replayer(self._sink, self._lane, self._epoch)
            for replay in replays:
                done, failure = self._replayer.apply(replay)
                self._set_aside.settle(replay, done, failure)
                if failure:
                    break  # later ones of its keys are open again: ask anew
        self._set_aside.refresh(self._committed)

    def _token(self, upto: Position, rows: int, committed_at_us: int) -> CommitToken:
        return CommitToken(self._lane, self._epoch, self._committed, upto, rows, committed_at_us)


class _Replayer:
    """The lane beside a lane: its record is the last replay applied, and within it the step."""

    def __init__(self, sink: Sink, lane: LaneId, epoch: int) -> None:
        self._lane = lane.beside
        self._epoch = epoch
        self._applied = sink.recover(self._lane, epoch)
        self.writer = sink.writer(self._lane, epoch)

    def apply(self, replay: Replay) -> tuple[tuple[int, ...], str]:
        """The ids of the letters that are applied, in this or an earlier life, and why the others are not."""
        done: list[int] = []
        for number, letters in enumerate(_steps(replay), 1):
            upto = Position(Lsn(replay.number), number)
            if upto > self._applied:
                if replay.failure:
                    return tuple(done), replay.failure
                try:
                    contents = [unpack(packed) for _, packed in letters]
                except CheckFailed as error:
                    return tuple(done), str(error)
                try:
                    self._apply(contents, upto)
                except Refused as error:
                    self.writer.abort()
                    return tuple(done), str(error)
            done += [letter for letter, _ in letters]
        return tuple(done), ""

    def _apply(self, contents: list[Barrier | TablePart], upto: Position) -> None:
        parts = tuple(content for content in contents if isinstance(content, TablePart))
        barriers = [content for content in contents if isinstance(content, Barrier)]
        if barriers:
            [barrier] = barriers
            assert not parts, "rows in a step of a barrier"
            token = CommitToken(self._lane, self._epoch, self._applied, upto, 0, barrier.committed_at_us)
            receipt = self.writer.apply_barrier(barrier, token)
        else:
            rows = sum(part.rows for part in parts)
            self.writer.write(Window(self._applied, upto, parts))
            receipt = self.writer.commit(CommitToken(self._lane, self._epoch, self._applied, upto, rows))
        self._applied = receipt.upto


def _steps(replay: Replay) -> Iterator[list[tuple[int, bytes]]]:
    """The letters in order: rows together, each barrier alone. The same in every life, whatever can be opened in it."""
    rows: list[tuple[int, bytes]] = []
    for letter in replay.letters:
        if letter[0] not in replay.barriers:
            rows.append(letter)
            continue
        if rows:
            yield rows
            rows = []
        yield [letter]
    if rows:
        yield rows


def _sentence(findings: list[Finding]) -> str:
    return "; ".join(f"{finding.subject}: {finding.message}" for finding in findings)
