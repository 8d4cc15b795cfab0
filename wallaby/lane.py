"""One lane at work: a sink's writer, the lane's committed position, and which windows it has seen already.

The source sends every lane the same stream from the lowest position any lane needs. A lane that is further ahead drops
what its destination already holds: whole windows by their end, single rows of the one window that straddles its
position. The compare-and-set of a commit always starts at the position this lane last got a receipt for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wallaby.errors import CheckFailed, Transient
from wallaby.lsn import START, Position
from wallaby.pgoutput.resume import drop_applied
from wallaby.schema import TableName
from wallaby.sink import PASSING_CODES, Finding, Severity, Sink, SinkWriter
from wallaby.window import BarrierKind, CommitToken, LaneId, Receipt, TablePart, Window
from wallaby.window_builder import encode_part


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What one call did. ``receipt`` is set when the lane's durable position is known to have been reached."""

    receipt: Receipt | None
    rows: int


class Lane:
    """A single-threaded consumer. Any raised error leaves it unusable: make a new one under a new epoch."""

    def __init__(self, sink: Sink, lane: LaneId, epoch: int) -> None:
        self._sink = sink
        self._lane = lane
        self._epoch = epoch
        self._writer: SinkWriter | None = None
        self._committed = START
        self._ensured: set[tuple[int, int]] = set()
        self._met: set[TableName] = set()
        """Tables rows came of, also rows the destination had already: the target is there."""
        self._rows_uncommitted = 0
        self._written_upto = self._committed

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

    def reset(self, tables: tuple[TableName, ...]) -> None:
        """Back to nothing before a repeated initial copy; see `Sink.reset_table` for which tables may be emptied."""
        for table in tables:
            self._sink.reset_table(table, self._lane, self._epoch)
        self._sink.reset_lane(self._lane, self._epoch)
        self.recover()
        self._ensured.clear()

    def write(self, window: Window, *, commit: bool, committed_at_us: int = 0) -> LaneReport:
        """Take ``window``; with ``commit``, make it and all before it durable.

        A window without parts and barrier with ``commit`` commits what was written before it.
        """
        writer = self._writer
        assert writer is not None, "recover() comes before write()"
        if window.barrier is not None:
            return self._apply_barrier(writer, window)
        self._met.update(part.schema.name for part in window.parts)
        parts = self._unseen(window)
        for part in parts:
            if (version := (part.schema.oid, part.schema.version)) not in self._ensured:
                self._sink.ensure_table(part.schema)
                self._ensured.add(version)
        rows = sum(part.rows for part in parts)
        if parts:
            writer.write(Window(window.after, window.upto, parts, ends_transaction=window.ends_transaction))
            self._rows_uncommitted += rows
        self._written_upto = max(self._written_upto, window.upto)
        if not commit:
            return LaneReport(None, rows)
        return LaneReport(self._commit(writer, self._written_upto, committed_at_us), rows)

    def close(self) -> None:
        """Forget what is uncommitted and disconnect."""
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
        if is_truncate or any(schema.name in self._met for schema in barrier.schemas):
            receipt = writer.apply_barrier(barrier, token)
            self._ensured.update((schema.oid, schema.version) for schema in barrier.schemas if not is_truncate)
        else:
            # No rows under this name so far (a partition announced beside its root, a renamed table): made with them.
            receipt = writer.commit(token)
        self._committed = self._written_upto = receipt.upto
        return LaneReport(receipt, 0)

    def _commit(self, writer: SinkWriter, upto: Position, committed_at_us: int) -> Receipt:
        if upto <= self._committed:
            return Receipt(self._lane, self._committed, 0)
        receipt = writer.commit(self._token(upto, self._rows_uncommitted, committed_at_us))
        self._committed = receipt.upto
        self._rows_uncommitted = 0
        return receipt

    def _token(self, upto: Position, rows: int, committed_at_us: int) -> CommitToken:
        return CommitToken(self._lane, self._epoch, self._committed, upto, rows, committed_at_us)


def _sentence(findings: list[Finding]) -> str:
    return "; ".join(f"{finding.subject}: {finding.message}" for finding in findings)
