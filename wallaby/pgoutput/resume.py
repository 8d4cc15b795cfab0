"""What a consumer that already applied a part of the stream must not see again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wallaby.lsn import Position


def drop_applied(batch: pa.RecordBatch, after: Position) -> pa.RecordBatch:
    """The rows of a change batch that lie beyond ``after``: a zero-copy slice, or ``batch`` itself when that is all.

    The server resends a transaction from its first change until its commit is confirmed. A row is applied when its
    transaction's commit record starts before ``after.lsn`` (and therefore ended at or before it), or when it is one of
    the first ``after.ordinal`` changes of the transaction that starts there. Rows are in stream order, so the applied
    ones come first.
    """
    if batch.num_rows == 0:
        return batch
    lsn, ordinal = int(after.lsn), after.ordinal
    commit_lsn = batch.column("commit_lsn")
    first = commit_lsn[0].as_py()
    if first > lsn or (first == lsn and batch.column("ordinal")[0].as_py() >= ordinal):
        return batch
    commits = commit_lsn.to_numpy()
    ordinals = batch.column("ordinal").to_numpy()
    is_applied = (commits < np.uint64(lsn)) | ((commits == np.uint64(lsn)) & (ordinals < np.uint64(ordinal)))
    applied = int(np.count_nonzero(is_applied))
    assert is_applied[:applied].all(), "a change batch is not in stream order"
    return batch.slice(applied)
