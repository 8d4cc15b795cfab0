"""What travels between source and sinks: windows of Arrow batches, barriers, commit tokens and receipts.

The change layout, one Arrow record batch per table and schema version, rows in stream order:

=================  ============================================  =================================================
column             Arrow type                                    meaning
=================  ============================================  =================================================
``op``             uint8, ASCII ``r i u d``                       copied row, insert, update, delete
``commit_lsn``     uint64                                        start of the transaction's commit record
                                                                 (``r``: LSN of the snapshot)
``ordinal``        uint64                                        place inside the transaction, from 0, over all tables
                                                                 (``r``: row number inside the table's copy)
``xid``            uint32                                        transaction id (``r``: 0)
``committed_at``   timestamp[us, UTC]                            commit time on the source (``r``: time of the snapshot)
``unchanged``      list<uint16>, null when empty                 columns of ``after`` PostgreSQL did not send (TOAST):
                                                                 their cells are null and are *not* data
``before``         struct of the key columns (all columns with   the old row; null where not sent. Children: same names
                   replica identity full without a key)          and types as in ``after``
``after``          struct of all columns                         the new row; null for deletes, but on the way to a
                                                                 log with metadata (`wallaby.transform.metadata`)
``outliers``       list<struct<column: uint16, text: string>>,   values the Arrow type cannot hold, as PostgreSQL text;
                   null when empty                               their cells are null. ``column`` indexes the table's
                                                                 columns; a bit of 0x8000 marks a value of ``before``
=================  ============================================  =================================================

A batch is shipped as one Arrow IPC *stream* (several record batches of one schema may follow each other), because a
pickled slice of a RecordBatch drags its whole parent along.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import pyarrow as pa

from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName, TableSchema

OP_COPY: Final = ord("r")
OP_INSERT: Final = ord("i")
OP_UPDATE: Final = ord("u")
OP_DELETE: Final = ord("d")

OUTLIER_TYPE: Final = pa.list_(pa.struct([pa.field("column", pa.uint16()), pa.field("text", pa.string())]))
UNCHANGED_TYPE: Final = pa.list_(pa.uint16())
BEFORE_OUTLIER_BIT: Final = 0x8000

LETTERS: Final = "~letters"
"""How the destination of a lane ends that dead letters return by (`LaneId.beside`)."""


@dataclass(frozen=True, slots=True, order=True)
class LaneId:
    """One ordered consumer: the ``index``-th of ``count`` lanes of a destination of a flow."""

    flow: str
    destination: str
    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.flow}/{self.destination}/{self.index}"

    @property
    def beside(self) -> LaneId:
        """The lane its dead letters return by; no destination of a flow can have this name."""
        return replace(self, destination=f"{self.destination}{LETTERS}")


@dataclass(frozen=True, slots=True)
class TablePart:
    """Changes of one table and schema version: ``data`` is an Arrow IPC stream in the change layout."""

    schema: TableSchema
    rows: int
    data: pa.Buffer
    fetched_at: Lsn | None = None
    """Set when cells were read from the source after the change (``toast_fetch: source`` or ``full``): how far the
    source's WAL was written just before. Such cells are as of their change or newer, never older."""

    @property
    def nbytes(self) -> int:
        return int(self.data.size)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The record batches in stream order, zero-copy views of ``data``: do not keep them beyond the call."""
        with pa.ipc.open_stream(self.data) as reader:
            yield from reader

    def table(self) -> pa.Table:
        """All batches as one table (zero-copy, chunked)."""
        with pa.ipc.open_stream(self.data) as reader:
            return reader.read_all()


class BarrierKind(StrEnum):
    """A change that is applied alone, in order, on every lane."""

    TRUNCATE = "truncate"
    SCHEMA = "schema"


@dataclass(frozen=True, slots=True)
class Barrier:
    """TRUNCATE of ``tables``, or the first sight of a changed shape (``schemas`` holds the new one of each table)."""

    kind: BarrierKind
    tables: tuple[TableName, ...]
    schemas: tuple[TableSchema, ...]
    commit_lsn: Lsn
    ordinal: int
    xid: int = 0
    committed_at_us: int = 0
    """Microseconds since 1970-01-01 UTC."""
    cascade: bool = False
    restart_identity: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A contiguous piece of the stream, ``after`` exclusive to ``upto`` inclusive.

    Either ``parts`` or ``barrier`` is set, or neither (a pure move of the position). ``ends_transaction`` is False when
    the window stops inside a transaction: a destination that must not split transactions keeps it staged.
    """

    after: Position
    upto: Position
    parts: tuple[TablePart, ...] = ()
    barrier: Barrier | None = None
    ends_transaction: bool = True

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class CommitToken:
    """The compare-and-set a commit performs in the destination: the lane's record moves ``after`` → ``upto``.

    Everything written to the lane's writer since its last commit lies in that interval. ``epoch`` is the flow's fencing
    number: a record written by a newer epoch supersedes this writer.
    """

    lane: LaneId
    epoch: int
    after: Position
    upto: Position
    rows: int
    committed_at_us: int = 0
    """Commit time of the newest transaction in the interval, microseconds since 1970 UTC; 0 when it holds none."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The destination's word that everything up to ``upto`` is durable there. Equal for a repeated commit."""

    lane: LaneId
    upto: Position
    rows: int
