"""What the kernel writes into: row, cell and transaction arrays that grow."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from wallaby.memory import unwritten
from wallaby.pgoutput import kernel
from wallaby.pgoutput.batches import Rows

_ROWS_START: Final = 1 << 10
_CELLS_START: Final = 1 << 13


class Arrays:
    """Row, cell and transaction arrays of the kernel; they double until one feed fits (at most one cell per byte)."""

    __slots__ = (
        "cell_length",
        "cell_offset",
        "row_flags",
        "row_new",
        "row_old",
        "row_op",
        "row_ordinal",
        "row_relation",
        "row_transaction",
        "transaction_lsn",
        "transaction_time",
        "transaction_xid",
    )

    def __init__(self) -> None:
        self.row_op = unwritten(_ROWS_START, np.uint8)
        self.row_flags = unwritten(_ROWS_START, np.uint8)
        self.row_relation = unwritten(_ROWS_START, np.int32)
        self.row_transaction = unwritten(_ROWS_START, np.int32)
        self.row_ordinal = unwritten(_ROWS_START, np.int64)
        self.row_new = unwritten(_ROWS_START, np.int32)
        self.row_old = unwritten(_ROWS_START, np.int32)
        self.cell_offset = np.zeros(_CELLS_START, np.int32)
        self.cell_length = np.full(_CELLS_START, kernel.NULL_LENGTH, np.int32)
        self.transaction_xid = unwritten(_ROWS_START, np.int64)
        self.transaction_lsn = unwritten(_ROWS_START, np.int64)
        self.transaction_time = unwritten(_ROWS_START, np.int64)

    def args(self) -> tuple[npt.NDArray[np.generic], ...]:
        """In the order of the kernel's parameters."""
        return (
            self.row_op,
            self.row_flags,
            self.row_relation,
            self.row_transaction,
            self.row_ordinal,
            self.row_new,
            self.row_old,
            self.cell_offset,
            self.cell_length,
            self.transaction_xid,
            self.transaction_lsn,
            self.transaction_time,
        )

    def rows(self, begin: int, order: npt.NDArray[np.int32], count: int) -> Rows:
        """A copy of ``count`` rows, in ``order`` when it is not empty; it and the rows themselves from ``begin`` on."""
        op, xid = unwritten(count, np.uint8), unwritten(count, np.int32)
        commit_lsn, ordinal, committed_at = (unwritten(count, np.int64) for _ in range(3))
        new, old, found = unwritten(count, np.int32), unwritten(count, np.int32), unwritten(3, np.int64)
        kernel.take_rows(
            order,
            begin,
            self.row_op,
            self.row_flags,
            self.row_transaction,
            self.row_ordinal,
            self.row_new,
            self.row_old,
            self.transaction_xid,
            self.transaction_lsn,
            self.transaction_time,
            op,
            commit_lsn,
            ordinal,
            xid,
            committed_at,
            new,
            old,
            found,
        )
        news, olds, has_unchanged = found.tolist()
        return Rows(op, commit_lsn, ordinal, xid, committed_at, new, old, news, olds, bool(has_unchanged))

    def grow(self) -> None:
        """Double everything, keeping the contents."""
        for name in self.__slots__:
            old = getattr(self, name)
            new = unwritten(2 * len(old), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def keep_transaction(self, newest: int) -> None:
        """Move the open transaction to slot 0."""
        for column in (self.transaction_xid, self.transaction_lsn, self.transaction_time):
            column[0] = column[newest]
