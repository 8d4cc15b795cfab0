"""Append mode: every change is a row of a log, from which the table's state can be derived (`wallaby.transform.state`).

A log row has the source's columns and then:

==================  =====================  ====================================================================
``__op``            string                 ``r`` copied, ``i`` inserted, ``u`` updated, ``d`` deleted
``__commit_lsn``    uint64                 where the transaction's commit record starts
``__ordinal``       uint64                 place inside the transaction
``__xid``           uint32                 transaction id, 0 for copied rows
``__committed_at``  timestamp[us, UTC]     commit time on the source
``__unchanged``     list<string>           columns PostgreSQL did not send (unchanged TOAST): null, and *not* data
``__outliers``      as in the window       only when asked for
==================  =====================  ====================================================================

A deleted row has its key (or the whole old row, without a key) in the source columns and null elsewhere. A changed key is
two rows of equal position: ``d`` with the old key, then ``u`` with the new row. ``(__commit_lsn, __ordinal, __op)`` orders
the log totally.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from wallaby.schema import TableSchema
from wallaby.window import OUTLIER_TYPE

OP: Final = "__op"
COMMIT_LSN: Final = "__commit_lsn"
ORDINAL: Final = "__ordinal"
XID: Final = "__xid"
COMMITTED_AT: Final = "__committed_at"
UNCHANGED: Final = "__unchanged"
OUTLIERS: Final = "__outliers"

LOG_FIELDS: Final = (
    pa.field(OP, pa.string(), nullable=False),
    pa.field(COMMIT_LSN, pa.uint64(), nullable=False),
    pa.field(ORDINAL, pa.uint64(), nullable=False),
    pa.field(XID, pa.uint32(), nullable=False),
    pa.field(COMMITTED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field(UNCHANGED, pa.list_(pa.string())),
)
OUTLIERS_FIELD: Final = pa.field(OUTLIERS, OUTLIER_TYPE)


def append_schema(schema: TableSchema, *, keep_outliers: bool = False) -> pa.Schema:
    """The log's Arrow schema: the source's columns (all nullable), then the log's own, in the order above.

    `ConfigError` when a source column has the name of one of the log's own.
    """
    raise NotImplementedError


def append_rows(schema: TableSchema, changes: pa.Table, *, keep_outliers: bool = False) -> pa.Table:
    """The log rows of ``changes`` (change layout, stream order), in stream order, in the shape of `append_schema`."""
    raise NotImplementedError


def refuse_outliers(schema: TableSchema, changes: pa.Table) -> None:
    """Raise `Refused` with table, column and commit LSN when any value of ``changes`` is outside its Arrow type.

    For sinks that cannot store such values; one whose flow says otherwise does not call it.
    """
    raise NotImplementedError
