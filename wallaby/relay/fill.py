"""The modes of ``toast_fetch`` at work, between the decoder and the window: pure filling, and the edge that reads
rows.

A filler sees every window once, in stream order, just before it is sealed. Whatever it cannot fill stays marked as not
sent, which every destination understands; nothing here ever guesses. It blocks the source's loop while it reads, so
what it may take is bounded: by ``fetch_timeout_ms`` for a window, and by a rest after it was used up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.clock import Clock
from wallaby.errors import Refused
from wallaby.flow import SourceOptions, ToastFetch
from wallaby.lsn import Lsn
from wallaby.postgres.row_reader import PresentRows, RowReader, Unread, is_readable
from wallaby.relay.ports import Filler, GapCount
from wallaby.schema import TableName, TableSchema
from wallaby.settings import Limits
from wallaby.transform.columns import single
from wallaby.transform.grouping import Ids
from wallaby.transform.outliers import Outliers
from wallaby.transform.toast_cache import ToastCache, toastable
from wallaby.transform.unchanged import Gaps, Known, Question, ask_for_gaps, ask_for_updates, count_gaps, fill
from wallaby.window import OP_UPDATE, Barrier
from wallaby.window_builder import UnsealedPart


def open_filler(options: SourceOptions, *, clock: Clock, limits: Limits, application_name: str) -> Filler:
    """The filler the options ask for. Nothing is connected before it is needed."""
    match options.toast_fetch:
        case ToastFetch.OFF:
            return NoFill()
        case ToastFetch.CACHE:
            return CacheFill(limits, cache_bytes=options.toast_cache_size)
        case ToastFetch.SOURCE | ToastFetch.FULL:
            reader = RowReader(
                options.login,
                publication=options.publication,
                timeout_ms=limits.fetch_timeout_ms,
                application_name=application_name,
            )
            return SourceFill(reader, clock=clock, limits=limits, is_full=options.toast_fetch is ToastFetch.FULL)
        case unknown:
            assert_never(unknown)


class NoFill:
    """``off``: every part as it is."""

    counts: Final[Mapping[TableName, GapCount]] = {}

    def fill(self, parts: Sequence[UnsealedPart]) -> list[UnsealedPart]:
        return list(parts)

    def barrier(self, barrier: Barrier) -> None:
        pass

    def close(self) -> None:
        pass


class CacheFill:
    """``cache``: from what the stream and the initial copy sent before."""

    def __init__(self, limits: Limits, *, cache_bytes: int) -> None:
        self._bytes_max = limits.filled_bytes_max
        self._cache = ToastCache(bytes_max=cache_bytes)
        self._counts = _Counts()

    @property
    def counts(self) -> Mapping[TableName, GapCount]:
        return self._counts.by_table

    def fill(self, parts: Sequence[UnsealedPart]) -> list[UnsealedPart]:
        left = self._bytes_max
        done = []
        for part in parts:
            filled, added = self._filled(part, left)
            left -= added
            done.append(filled)
        return done

    def _filled(self, part: UnsealedPart, bytes_max: int) -> tuple[UnsealedPart, int]:
        gaps = _gaps(part) if part.schema.has_key and toastable(part.schema) else None
        if gaps is None:
            # A key outside its type hides which row is which: what is known of the table can no longer be trusted.
            self._cache.forget(part.schema.name)
            self._counts.add(part.schema.name, unfilled=count_gaps(part.batches))
            return part, 0
        filled = self._cache.take(gaps, bytes_max=bytes_max)
        if filled is None:
            return part, 0
        self._counts.add(part.schema.name, filled.filled, filled.unfilled)
        return UnsealedPart(part.schema, [filled.batch]), filled.nbytes

    def barrier(self, barrier: Barrier) -> None:
        for table in barrier.tables:
            self._cache.forget(table)

    def close(self) -> None:
        pass


class Reader(Protocol):
    """Present rows by key (`wallaby.postgres.row_reader.RowReader`)."""

    def read(
        self,
        schema: TableSchema,
        columns: Sequence[int],
        keys: Sequence[pa.Array],
        *,
        xids: npt.NDArray[np.uint32],
        timeout_ms: int,
        bytes_max: int,
    ) -> PresentRows | Unread: ...

    def close(self) -> None: ...


class SourceFill:
    """``source`` and ``full``: from the row as it is now, one reading for each window and table."""

    def __init__(self, reader: Reader, *, clock: Clock, limits: Limits, is_full: bool) -> None:
        self._reader = reader
        self._clock = clock
        self._limits = limits
        self._is_full = is_full
        self._rests_until_ms = clock.now_ms()
        self._counts = _Counts()

    @property
    def counts(self) -> Mapping[TableName, GapCount]:
        return self._counts.by_table

    def fill(self, parts: Sequence[UnsealedPart]) -> list[UnsealedPart]:
        until_ms = self._clock.now_ms() + self._limits.fetch_timeout_ms
        left = self._limits.filled_bytes_max
        done = []
        for part in parts:
            filled, added = self._filled(part, until_ms, left)
            left -= added
            done.append(filled)
        return done

    def _filled(self, part: UnsealedPart, until_ms: int, bytes_max: int) -> tuple[UnsealedPart, int]:
        missing = count_gaps(part.batches)
        if not missing and not (self._is_full and _has_updates(part)):
            return part, 0
        gaps = _gaps(part) if is_readable(part.schema) else None
        if gaps is None:
            self._counts.add(part.schema.name, unfilled=missing)
            return part, 0
        question = ask_for_updates(gaps) if self._is_full else ask_for_gaps(gaps)
        read_at, known, entry_of = self._answer(gaps, question, until_ms, bytes_max)
        entry, replaced = _entries(entry_of, question.of_gap), _entries(entry_of, question.of_row)
        filled = fill(gaps, known, entry, replaced, bytes_max=bytes_max)
        self._counts.add(part.schema.name, filled.filled, filled.unfilled)
        is_fetched = bool((entry >= 0).any() or (replaced >= 0).any())
        return UnsealedPart(part.schema, [filled.batch], read_at if is_fetched else None), filled.nbytes

    def _answer(self, gaps: Gaps, question: Question, until_ms: int, bytes_max: int) -> tuple[Lsn | None, Known, Ids]:
        """When it was read, what was found, and, for each row asked for, its place there or -1."""
        entry_of = np.full(len(question.change), -1, np.int64)
        now_ms = self._clock.now_ms()
        if not len(question.change) or bytes_max <= 0 or now_ms >= until_ms or now_ms < self._rests_until_ms:
            return None, Known(0), entry_of
        schema = gaps.batch.schema
        answer = self._reader.read(
            schema,
            question.columns,
            gaps.keys(question.change),
            xids=single(gaps.changes["xid"]).to_numpy(zero_copy_only=False)[question.change],
            timeout_ms=until_ms - now_ms,
            bytes_max=bytes_max,
        )
        if not isinstance(answer, PresentRows):
            if answer is Unread.SLOW:
                self._rests_until_ms = self._clock.now_ms() + self._limits.fetch_rest_ms
            return None, Known(0), entry_of
        if answer.rows is None:
            return None, Known(0), entry_of
        number, known = _known(answer.rows, question.columns)
        entry_of[number] = np.arange(len(number))
        # A reading that does not see the change's own transaction shows the row from before it.
        entry_of[~answer.is_seen] = -1
        return answer.read_at, known, entry_of

    def barrier(self, barrier: Barrier) -> None:
        pass

    def close(self) -> None:
        self._reader.close()


class _Counts:
    """Gaps filled and left, per table."""

    def __init__(self) -> None:
        self.by_table: dict[TableName, GapCount] = {}

    def add(self, table: TableName, filled: int = 0, unfilled: int = 0) -> None:
        before = self.by_table.get(table, GapCount())
        self.by_table[table] = GapCount(before.filled + filled, before.unfilled + unfilled)


def _gaps(part: UnsealedPart) -> Gaps | None:
    """None when a key value is outside its Arrow type: the rows cannot be told apart."""
    try:
        return Gaps.of(part.schema, pa.Table.from_batches(part.batches))
    except Refused:
        return None


def _has_updates(part: UnsealedPart) -> bool:
    return any(pc.any(pc.equal(batch.column("op"), OP_UPDATE)).as_py() for batch in part.batches)


def _entries(entry_of: Ids, number: Ids) -> Ids:
    """Where ``number`` leads; -1 stays -1."""
    return np.append(entry_of, -1)[number]


def _known(rows: pa.RecordBatch, columns: Sequence[int]) -> tuple[Ids, Known]:
    """The numbers of the keys found, and their rows' values. The reading's first column is the number, from 1."""
    after = rows.column("after")
    outliers = Outliers.of(rows.column("outliers"))
    texts = {}
    for place, column in enumerate(columns, 1):
        own = np.flatnonzero(outliers.column == place)
        if len(own):
            entry = np.full(rows.num_rows, -1, np.int64)
            entry[outliers.row[own]] = own
            texts[column] = outliers.text.take(pa.array(entry, mask=entry < 0))
    values = {column: after.field(place) for place, column in enumerate(columns, 1)}
    number = after.field(0).to_numpy(zero_copy_only=False).astype(np.int64) - 1
    return number, Known(rows.num_rows, values, texts)
