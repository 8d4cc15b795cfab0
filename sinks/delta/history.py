"""What changes do to a history, as one Delta commit: an append where nothing ends, else one MERGE.

A history is partitioned by ``is_current``, before anything the flow asks for. So a merge meets files of open versions
only: it takes what ends out of them, puts it into the other partition, and never touches what ended before. Its cost is
that of the files with open versions of the changed keys (see `sinks.delta.mirror`), however long their past.

The merge's source has a row per key that changes, which matches the open version and ends it, and a row per new
version, which matches nothing and is inserted.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable

from sinks.delta.errors import Doing, translated
from sinks.delta.mirror import (
    OP,
    Commit,
    Shaped,
    appended,
    as_keys,
    completed,
    joined,
    lies_outside,
    merge_source,
    merger,
    source_places,
    spread,
    told_once,
)
from wallaby.schema import TableName, quote_identifier
from wallaby.transform.history import HistoryPlan
from wallaby.versions import VersionColumns

_END, _BEGIN = 0, 1
"""Operations in a merge's source."""


def history_commit(plan: HistoryPlan, table: DeltaTable, shaped: Shaped, columns: VersionColumns) -> Commit | None:
    """What applies ``plan`` to the loaded version of ``table`` when called; None when there is nothing to apply.

    `RowRefused`, with nothing changed, when a new version lacks a value that no open one has.
    """
    schema = plan.schema
    names = [schema.columns[i].name for i in schema.key]
    begun = shaped(plan.versions)
    for patch in plan.patches:
        rows = shaped(patch.rows)
        origin = as_keys(patch.origin, rows, names)
        begun = pa.concat_tables([begun, completed(schema, patch, rows, origin, table, only=columns.is_current)])
    keys = as_keys(plan.closes, begun, names)
    if lies_outside(table, keys, names[0]):
        # No file holds any of the keys: nothing can end.
        return appended(table, begun, schema.name) if begun.num_rows else None
    # In stream order: what ends the open version is the first that happened to its key.
    closes = told_once(plan.closes, keys)
    source = merge_source([(_END, spread(closes, begun.schema)), (_BEGIN, begun)])
    places = source_places(begun.schema.names)
    return _merged(table, source, joined(keys, places), places, columns, schema.name)


def truncate_commit(closes: pa.Table, table: DeltaTable, columns: VersionColumns, *, name: TableName) -> Commit:
    """Ends every open version as the one row of ``closes`` says, when called."""
    fields = pa.schema(table.schema())
    source = merge_source([(_END, spread(closes, pa.schema([fields.field(column) for column in columns.closing])))])
    return _merged(table, source, [], source_places(columns.closing), columns, name)


def holds_only_copies(table: DeltaTable, columns: VersionColumns, *, name: TableName) -> bool:
    """True when no row of a history says more than a copy would: nothing has ended, and only copies have begun."""
    with translated(Doing.WORK, table=name):
        more = (pc.field(columns.opened_by) != "r") | ~pc.field(columns.is_current)
        return bool(table.to_pyarrow_dataset().scanner(columns=[columns.opened_by], filter=more).head(1).num_rows == 0)


def _merged(
    table: DeltaTable,
    source: pa.Table,
    matches: list[str],
    places: dict[str, str],
    columns: VersionColumns,
    name: TableName,
) -> Commit:
    is_open = f"target.{quote_identifier(columns.is_current)} = true"
    ended = {quote_identifier(column): places[column] for column in columns.closing}
    ended[quote_identifier(columns.is_current)] = "false"
    whole = {quote_identifier(column): place for column, place in places.items()}

    def commit(properties: CommitProperties) -> None:
        with translated(Doing.WORK, table=name):
            merge = merger(table, source, [f"source.{OP} = {_END}", is_open, *matches], properties)
            merge = merge.when_matched_update(ended)
            if columns.is_current in places:
                merge = merge.when_not_matched_insert(whole, f"source.{OP} = {_BEGIN}")
            merge.execute()

    return commit


__all__ = ["history_commit", "holds_only_copies", "truncate_commit"]
