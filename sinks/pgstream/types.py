"""Log rows of a table as messages."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from wallaby.schema import TableName, TableSchema
from wallaby.streams.publish import MESSAGE_SCHEMA
from wallaby.transform.append import COMMIT_LSN, ORDINAL, append_rows, append_truncate
from wallaby.transform.columns import single
from wallaby.window import Barrier
from wallaby.wire.json import change_messages

PLACED_SCHEMA = MESSAGE_SCHEMA.append(pa.field("ordinal", pa.uint64(), nullable=False))
"""Messages with what orders those of several tables inside a window: ``lsn``, then ``ordinal``."""


def messages_of_changes(schema: TableSchema, changes: pa.Table) -> pa.Table:
    """One message per change, in stream order; two (delete, then update) for an update that moves its key."""
    return _messages(schema, append_rows(schema, changes, keep_outliers=True))


def message_of_truncate(table: TableName, barrier: Barrier) -> pa.Table:
    """The message that says: all rows of the table are gone."""
    schema = TableSchema(0, table, ())
    return _messages(schema, append_truncate(schema, barrier, keep_outliers=True))


def in_stream_order(parts: list[pa.Table]) -> pa.Table:
    """The messages of a window's tables, merged. A moved key's two messages stay in their order: the sort is stable."""
    joined = parts[0] if len(parts) == 1 else pa.concat_tables(parts)
    if len(parts) > 1:
        by = [("lsn", "ascending"), ("ordinal", "ascending")]
        joined = joined.take(pc.sort_indices(joined.select(["lsn", "ordinal"]), sort_keys=by))
    return joined.select(MESSAGE_SCHEMA.names)


def _messages(schema: TableSchema, log: pa.Table) -> pa.Table:
    made = change_messages(schema, log)
    arrays = [
        pa.repeat(pa.scalar(schema.name.schema, pa.large_string()), len(log)),
        pa.repeat(pa.scalar(schema.name.name, pa.large_string()), len(log)),
        made.operation.cast(pa.large_string()),
        made.key,
        single(log[COMMIT_LSN]),
        made.payload,
        single(log[ORDINAL]),
    ]
    return pa.Table.from_arrays(arrays, schema=PLACED_SCHEMA)
