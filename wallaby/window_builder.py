"""From decoded segments to windows: when to close, and where it is legal to cut.

A window closes at a commit boundary. Rows of a transaction that is still arriving stay behind in the builder and open
the next window; only when they alone exceed the size limit do they leave as a window that says
``ends_transaction=False``. The builder is pure: time comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa

from wallaby.lsn import Lsn, Position
from wallaby.memory import unwritten_buffer
from wallaby.pgoutput.decoder import Segment
from wallaby.schema import TableSchema
from wallaby.settings import Limits
from wallaby.window import Barrier, BarrierKind, TablePart, Window

_IPC = pa.ipc.IpcWriteOptions(use_threads=False)
_END_BYTES: Final = 8
"""What closes an IPC stream."""


@dataclass(frozen=True, slots=True)
class UnsealedPart:
    """One table's batches on their way into a window, in stream order."""

    schema: TableSchema
    batches: Sequence[pa.RecordBatch]
    fetched_at: Lsn | None = None
    """As in `TablePart`."""


Fill = Callable[[Sequence[UnsealedPart]], Sequence[UnsealedPart]]
"""Fills cells PostgreSQL did not send: the parts of a window to the same parts, as many rows in the same order. Called
once for each window, in stream order."""


@dataclass(slots=True)
class _Pile:
    """Batches on their way into one window."""

    batches: dict[tuple[int, int], tuple[TableSchema, list[pa.RecordBatch]]] = field(default_factory=dict)
    rows: int = 0
    nbytes: int = 0
    upto: Position | None = None
    committed_at_us: int = 0
    opened_at_ms: int = 0

    def add(self, segment: Segment, now_ms: int) -> None:
        if self.upto is None:
            self.opened_at_ms = now_ms
        for schema, batch in segment.parts:
            _, pile = self.batches.setdefault((schema.oid, schema.version), (schema, []))
            pile.append(batch)
            self.nbytes += batch.nbytes
        self.rows += segment.rows
        self.upto = segment.upto
        self.committed_at_us = segment.committed_at_us or self.committed_at_us

    def absorb(self, other: _Pile) -> None:
        """Append ``other`` (later in the stream) to this pile."""
        if self.upto is None:
            self.opened_at_ms = other.opened_at_ms
        for key, (schema, batches) in other.batches.items():
            self.batches.setdefault(key, (schema, []))[1].extend(batches)
        self.rows += other.rows
        self.nbytes += other.nbytes
        self.upto = other.upto
        self.committed_at_us = other.committed_at_us or self.committed_at_us


@dataclass(frozen=True, slots=True)
class SealedWindow:
    """A window and the commit time of the newest transaction in it (microseconds since 1970 UTC; 0 for none)."""

    window: Window
    committed_at_us: int


class WindowBuilder:
    """Collects segments and seals windows; positions chain without gap from ``start``. ``fill`` sees what is sealed."""

    def __init__(self, start: Position, limits: Limits, *, fill: Fill | None = None) -> None:
        self._after = start
        self._limits = limits
        self._fill = fill
        self._whole = _Pile()
        self._open = _Pile()

    @property
    def after(self) -> Position:
        """Where the next window begins: everything before it has been sealed."""
        return self._after

    @property
    def is_empty(self) -> bool:
        """Nothing waits, not even a part of an open transaction."""
        return self._whole.upto is None and self._open.upto is None

    @property
    def has_whole(self) -> bool:
        """At least one finished transaction (or empty commit) waits."""
        return self._whole.upto is not None

    @property
    def rows(self) -> int:
        return self._whole.rows + self._open.rows

    @property
    def nbytes(self) -> int:
        return self._whole.nbytes + self._open.nbytes

    def add(self, segment: Segment, now_ms: int) -> None:
        """Take the next segment of the stream."""
        self._open.add(segment, now_ms)
        if segment.ends_transaction:
            self._whole.absorb(self._open)
            self._open = _Pile()

    def is_due(self, now_ms: int, *, is_lane_free: bool) -> bool:
        """A window should be sealed: it is large, old, or somebody is free to take it."""
        limits = self._limits
        if self.nbytes >= limits.window_bytes_max or self.rows >= limits.window_rows_max:
            return True
        if self._whole.upto is None:
            return False
        return is_lane_free or now_ms - self._whole.opened_at_ms >= limits.window_age_max_ms

    def seal(self) -> SealedWindow | None:
        """The finished transactions as a window; failing that, a piece of the open one if it is over the limit."""
        if self._whole.upto is not None:
            return self._seal_pile(self._whole, ends_transaction=True)
        over = self._open.nbytes >= self._limits.window_bytes_max or self._open.rows >= self._limits.window_rows_max
        return self._seal_pile(self._open, ends_transaction=False) if over and self._open.upto else None

    def seal_before_barrier(self) -> SealedWindow | None:
        """Everything that waits, also an unfinished transaction: a barrier follows."""
        if self._whole.upto is None and self._open.upto is None:
            return None
        is_inside = self._open.upto is not None
        if is_inside:
            self._whole.absorb(self._open)
            self._open = _Pile()
        return self._seal_pile(self._whole, ends_transaction=not is_inside)

    def barrier(self, barrier: Barrier) -> SealedWindow:
        """A window of its own for ``barrier``. Call after ``seal_before_barrier``."""
        assert self.is_empty, "changes before a barrier must be sealed first"
        # TRUNCATE is a change and takes an ordinal; a new shape is not, so its window may end where it began.
        applied = barrier.ordinal + (1 if barrier.kind is BarrierKind.TRUNCATE else 0)
        upto = max(Position(barrier.commit_lsn, applied), self._after)
        window = Window(self._after, upto, barrier=barrier, ends_transaction=False)
        self._after = upto
        return SealedWindow(window, barrier.committed_at_us)

    def skip_to(self, position: Position) -> None:
        """Nothing of interest up to ``position`` (a keepalive while idle)."""
        if self.is_empty and position > self._after:
            self._after = position

    def _seal_pile(self, pile: _Pile, *, ends_transaction: bool) -> SealedWindow:
        assert pile.upto is not None
        unsealed: Sequence[UnsealedPart] = [UnsealedPart(schema, batches) for schema, batches in pile.batches.values()]
        if self._fill is not None and unsealed:
            unsealed = self._fill(unsealed)
        parts = tuple(replace(encode_part(part.schema, part.batches), fetched_at=part.fetched_at) for part in unsealed)
        window = Window(self._after, pile.upto, parts, ends_transaction=ends_transaction)
        self._after = pile.upto
        if ends_transaction:
            self._whole = _Pile()
        else:
            self._whole, self._open = _Pile(), _Pile()
        return SealedWindow(window, pile.committed_at_us)


def encode_part(schema: TableSchema, batches: Sequence[pa.RecordBatch]) -> TablePart:
    """One table's batches as a single IPC stream."""
    arrow = batches[0].schema
    size = arrow.serialize().size + sum(map(pa.ipc.get_record_batch_size, batches)) + _END_BYTES
    stream = unwritten_buffer(size)
    sink = pa.FixedSizeBufferWriter(stream)
    with pa.ipc.new_stream(sink, arrow, options=_IPC) as writer:
        for batch in batches:
            writer.write_batch(batch)
    assert sink.tell() == size, (sink.tell(), size)
    return TablePart(schema, sum(batch.num_rows for batch in batches), stream)
