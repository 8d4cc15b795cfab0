"""What changes do to a history, as one Delta commit: an append where nothing ends, else one MERGE.

A history is partitioned by ``is_current``, before anything the flow asks for. So a merge meets files of open versions
only: it takes what ends out of them, puts it into the other partition, and never touches what ended before. Its cost is
that of the files with open versions of the changed keys (see `sinks.delta.mirror`), however long their past.

The merge's source has a row per key that changes, which matches the open version and ends it, and a row per new
version, which matches nothing and is inserted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable

from sinks.delta.errors import Doing, translated
from sinks.delta.mirror import Commit, Shaped, appended, as_keys, filled, key_ranges, lies_outside
from sinks.delta.rewrite import scan
from sinks.delta.store import NO_HOOKS
from sinks.delta.types import converted
from wallaby.schema import TableName, quote_identifier
from wallaby.transform.columns import single
from wallaby.transform.history import HistoryPlan
from wallaby.versions import VersionColumns

_OP: Final = "op"
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
        wanted = [*names, *(schema.columns[i].name for i in patch.missing)]
        found = _open_rows(table, origin, names, wanted, rows.schema, columns, schema.name)
        begun = pa.concat_tables([begun, filled(schema, patch, rows, origin, found)])
    keys = as_keys(plan.closes, begun, names)
    if lies_outside(table, keys, names[0]):
        # No file holds any of the keys: nothing can end.
        return appended(table, begun, schema.name) if begun.num_rows else None
    source = _source(plan.closes, keys, begun, columns)
    ranges = key_ranges(single(keys[names[0]]), f"target.{quote_identifier(names[0])}")
    place = {name: f"source.c{i}" for i, name in enumerate(begun.schema.names)}
    joined = [f"target.{quote_identifier(name)} = {place[name]}" for name in names]
    return _merged(table, source, [*joined, *([ranges] if ranges else [])], place, columns, schema.name)


def truncate_commit(closes: pa.Table, table: DeltaTable, columns: VersionColumns, *, name: TableName) -> Commit:
    """Ends every open version as the one row of ``closes`` says, when called."""
    fields = pa.schema(table.schema())
    arrays = [converted(closes[column], fields.field(column).type) for column in columns.closing]
    source = pa.Table.from_arrays(
        [*arrays, pa.array([_END], pa.int32())], names=[*(f"c{i}" for i in range(len(arrays))), _OP]
    )
    place = {column: f"source.c{i}" for i, column in enumerate(columns.closing)}
    return _merged(table, source, [], place, columns, name)


def holds_only_copies(table: DeltaTable, columns: VersionColumns, *, name: TableName) -> bool:
    """True when no row of a history says more than a copy would: nothing has ended, and only copies have begun."""
    with translated(Doing.WORK, table=name):
        more = (pc.field(columns.opened_by) != "r") | ~pc.field(columns.is_current)
        return bool(table.to_pyarrow_dataset().scanner(columns=[columns.opened_by], filter=more).head(1).num_rows == 0)


def _merged(
    table: DeltaTable,
    source: pa.Table,
    joined: list[str],
    place: dict[str, str],
    columns: VersionColumns,
    name: TableName,
) -> Commit:
    is_open = f"target.{quote_identifier(columns.is_current)} = true"
    ended = {quote_identifier(column): place[column] for column in columns.closing}
    ended[quote_identifier(columns.is_current)] = "false"
    whole = {quote_identifier(column): value for column, value in place.items()}

    def commit(properties: CommitProperties) -> None:
        with translated(Doing.WORK, table=name):
            merge = table.merge(
                source,
                " AND ".join([f"source.{_OP} = {_END}", is_open, *joined]),
                source_alias="source",
                target_alias="target",
                # Statistics of the source, which streaming leaves out, say no more than the ranges do.
                streamed_exec=True,
                commit_properties=properties,
                post_commithook_properties=NO_HOOKS,
            ).when_matched_update(ended)
            if columns.is_current in place:
                merge = merge.when_not_matched_insert(whole, f"source.{_OP} = {_BEGIN}")
            merge.execute()

    return commit


def _source(closes: pa.Table, keys: pa.Table, begun: pa.Table, columns: VersionColumns) -> pa.Table:
    """One row per key with how its open version ends, then the new versions; columns by place: ``c0``, …, ``op``."""
    given = {name: keys[name] for name in keys.schema.names}
    given |= {name: closes[name] for name in columns.closing}
    ends = pa.Table.from_arrays(
        [
            converted(given[field.name], field.type)
            if field.name in given
            else pa.chunked_array([pa.nulls(closes.num_rows, field.type)])
            for field in begun.schema
        ],
        schema=begun.schema,
    )
    rows = pa.concat_tables([ends, begun])
    ops = np.repeat(np.array([_END, _BEGIN], np.int32), [ends.num_rows, begun.num_rows])
    return pa.Table.from_arrays(
        [*rows.columns, pa.array(ops)], names=[*(f"c{i}" for i in range(rows.num_columns)), _OP]
    )


def _open_rows(
    table: DeltaTable,
    keys: pa.Table,
    names: list[str],
    wanted: list[str],
    fields: pa.Schema,
    columns: VersionColumns,
    name: TableName,
) -> pa.Table:
    """The ``wanted`` columns of open versions whose first key column is among those of ``keys``: all that are asked
    for, and for keys of several columns some more."""
    first = single(keys[names[0]])
    ranges = key_ranges(first, quote_identifier(names[0]))
    files = " AND ".join([f"{quote_identifier(columns.is_current)} = true", *([ranges] if ranges else [])])
    shape = pa.schema([fields.field(column) for column in wanted]).remove_metadata()
    chosen = [shape.empty_table()]
    for batch in scan(table, [*wanted, columns.is_current], name=name, files=files):
        rows = pa.Table.from_batches([batch])
        rows = rows.filter(pc.and_(rows[columns.is_current], pc.is_in(rows[names[0]], value_set=first)))
        chosen.append(rows.select(wanted).cast(shape))
    return pa.concat_tables(chosen)


__all__ = ["history_commit", "holds_only_copies", "truncate_commit"]
