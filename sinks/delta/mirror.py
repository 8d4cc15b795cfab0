"""The net effect of changes on a mirror, as one Delta commit: an append where that is all, else one MERGE.

The engine merges by copy on write: a data file with one changed row is written anew, so the cost of a merge is that of
the files it meets. What keeps those few: the merge names the ranges its keys lie in, so that files whose statistics lie
outside are not read; files are small (``target_file_size``); and rows whose keys lie outside every file, as new rows of
a growing key do and a first copy does, are appended without reading anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.table import TableMerger

from sinks.delta.errors import Doing, translated
from sinks.delta.rewrite import require_copies, scan, without
from sinks.delta.store import NO_HOOKS
from sinks.delta.types import converted
from wallaby.errors import RowRefused
from wallaby.schema import TableName, TableSchema, quote_identifier
from wallaby.transform import mirror
from wallaby.transform.columns import single
from wallaby.transform.grouping import dense, group_ids

RANGES_MAX: Final = 16
"""Key ranges a merge names: more cost planning, fewer read files between them."""
_LITERAL_LENGTH_MAX: Final = 100
OP: Final = "op"
"""The column of a merge's source that says what becomes of a row."""
_DELETE, _UPSERT, _PATCH = 0, 1, 2
"""Operations in a merge's source; the patch of number n is ``_PATCH + n``."""

Shaped = Callable[[pa.Table], pa.Table]
"""Gives a row table of a plan all columns of the target, in its order and types."""
Commit = Callable[[CommitProperties], None]


class Marking(Protocol):
    """What applies plans to the loaded version of a table in another way than by MERGE."""

    def commit_of(self, plan: mirror.MirrorPlan, shaped: Shaped) -> Commit | None:
        """As `commit_of`."""
        ...


def commit_of(plan: mirror.Plan, table: DeltaTable, shaped: Shaped, marking: Marking | None = None) -> Commit | None:
    """What applies ``plan`` to the loaded version of ``table`` when called; None when there is nothing to apply.

    `RowRefused`, here or when it is called, with nothing changed, when a row to be changed is not in the table.
    """
    match plan:
        case mirror.MirrorPlan():
            return _keyed(plan, table, shaped) if marking is None else marking.commit_of(plan, shaped)
        case mirror.MultisetPlan():
            return _multiset(plan, table, shaped)
        case mirror.InsertPlan():
            return appended(table, shaped(plan.rows), plan.schema.name) if plan.rows.num_rows else None


def rehearse(plan: mirror.Plan, table: DeltaTable, shaped: Shaped, marking: Marking | None = None) -> None:
    """Raises the `RowRefused` that applying ``plan`` would, and changes nothing."""
    if isinstance(plan, mirror.MultisetPlan):
        shaped(plan.inserts)
        if plan.deletes.num_rows:
            require_copies(table, *_deletes(plan, shaped), name=plan.schema.name)
    else:
        commit_of(plan, table, shaped, marking)


def row_tables(plan: mirror.Plan) -> list[pa.Table]:
    """The rows of ``plan`` that have all columns, of whatever kind."""
    match plan:
        case mirror.MirrorPlan():
            return [plan.upserts, *(patch.rows for patch in plan.patches)]
        case mirror.MultisetPlan():
            return [plan.inserts, plan.deletes]
        case mirror.InsertPlan():
            return [plan.rows]


def appended(table: DeltaTable, rows: pa.Table, name: TableName) -> Commit:
    """Adds ``rows`` when called."""

    def commit(properties: CommitProperties) -> None:
        with translated(Doing.WORK, table=name):
            write_deltalake(
                table,
                rows,
                mode="append",
                commit_properties=properties,
                post_commithook_properties=NO_HOOKS,
            )

    return commit


def _keyed(plan: mirror.MirrorPlan, table: DeltaTable, shaped: Shaped) -> Commit | None:
    schema = plan.schema
    names = [schema.columns[i].name for i in schema.key]
    upserts = shaped(plan.upserts)
    patches: list[tuple[mirror.Patch, pa.Table]] = []
    for patch in plan.patches:
        rows = shaped(patch.rows)
        origin = as_keys(patch.origin, rows, names)
        if patch.moves:
            upserts = pa.concat_tables([upserts, completed(schema, patch, rows, origin, table)])
        else:
            _require_found(table, origin, names, schema.name)
            patches.append((patch, rows))
    deletes = as_keys(plan.deletes, upserts, names)
    if not upserts.num_rows and not deletes.num_rows and not patches:
        return None
    keys = pa.concat_tables([upserts.select(names), deletes, *(rows.select(names) for _, rows in patches)])
    if not patches and lies_outside(table, keys, names[0]):
        # No file holds any of the keys: deletes have nothing to delete.
        return appended(table, upserts, schema.name) if upserts.num_rows else None
    deletes = told_once(deletes, deletes, [upserts.select(names), *(rows.select(names) for _, rows in patches)])
    groups = [(_DELETE, spread(deletes, upserts.schema)), (_UPSERT, upserts)]
    source = merge_source([*groups, *enumerate((rows for _, rows in patches), _PATCH)])
    # What a target has beside the source's columns is somebody else's: updates leave it alone.
    sets: list[list[int]] = [list(range(len(schema.columns)))]
    sets += [[i for i in range(len(schema.columns)) if i not in patch.missing] for patch, _ in patches]
    sent = [[schema.columns[i].name for i in columns] for columns in sets]
    places = source_places(upserts.schema.names)
    return _merged(table, source, places, joined(keys, places), sent, schema.name)


def told_once(rows: pa.Table, keys: pa.Table, others: Sequence[pa.Table] = ()) -> pa.Table:
    """Those of ``rows`` whose ``keys`` the engine takes neither for one of the ``others`` nor for one before.

    To the stream 0 and -0 are two keys. To the engine they are one row's, and a merge may be told one thing of it.
    """
    if not any(pa.types.is_floating(kind) for kind in keys.schema.types):
        return rows
    columns = [single(column) for column in pa.concat_tables([*others, keys]).columns]
    zeroed = [pc.add(c, pa.scalar(0.0, c.type)) if pa.types.is_floating(c.type) else c for c in columns]
    first = len(columns[0]) - keys.num_rows
    places = np.unique(group_ids(zeroed, len(columns[0])), return_index=True)[1]
    return rows.take(pa.array(np.sort(places[places >= first]) - first))


def spread(rows: pa.Table, fields: pa.Schema) -> pa.Table:
    """``rows``, columns by name, with all ``fields`` in their types: null where ``rows`` has no such column."""
    return pa.Table.from_arrays(
        [
            converted(rows[field.name], field.type)
            if field.name in rows.column_names
            else pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
            for field in fields
        ],
        schema=fields,
    )


def merge_source(groups: Sequence[tuple[int, pa.Table]]) -> pa.Table:
    """What becomes of the rows of ``groups``, by the operation of each; columns are named by place: ``c0``, ``c1`` …,
    ``op``."""
    rows = pa.concat_tables([table for _, table in groups])
    ops = np.repeat(np.array([op for op, _ in groups], np.int32), [table.num_rows for _, table in groups])
    labels = [*(f"c{i}" for i in range(rows.num_columns)), OP]
    return pa.Table.from_arrays([*rows.columns, pa.array(ops)], names=labels)


def source_places(names: Sequence[str]) -> dict[str, str]:
    """SQL for the columns ``names``, all of a merge's source in order."""
    return {name: f"source.c{i}" for i, name in enumerate(names)}


def joined(keys: pa.Table, places: Mapping[str, str]) -> list[str]:
    """What is true of a target's row with the key of a row of the source, whose keys are all among ``keys``."""
    equal = [f"target.{quote_identifier(name)} = {places[name]}" for name in keys.column_names]
    first = keys.column_names[0]
    ranges = _key_ranges(single(keys[first]), f"target.{quote_identifier(first)}")
    return [*equal, *([ranges] if ranges else [])]


def merger(table: DeltaTable, source: pa.Table, matches: Sequence[str], properties: CommitProperties) -> TableMerger:
    """A merge of ``source`` into the rows where all ``matches`` are true, with nothing to do yet."""
    return table.merge(
        source,
        " AND ".join(matches),
        source_alias="source",
        target_alias="target",
        # Statistics of the source, which streaming leaves out, say no more than the ranges do.
        streamed_exec=True,
        commit_properties=properties,
        post_commithook_properties=NO_HOOKS,
    )


def _merged(
    table: DeltaTable,
    source: pa.Table,
    places: Mapping[str, str],
    matches: list[str],
    sent: list[list[str]],
    name: TableName,
) -> Commit:
    whole = {quote_identifier(column): place for column, place in places.items()}

    def commit(properties: CommitProperties) -> None:
        with translated(Doing.WORK, table=name):
            merge = merger(table, source, matches, properties)
            merge = merge.when_matched_delete(f"source.{OP} = {_DELETE}")
            for number, names in enumerate(sent, _UPSERT):
                changed = {quote_identifier(column): places[column] for column in names}
                merge = merge.when_matched_update(changed, f"source.{OP} = {number}")
            merge.when_not_matched_insert(whole, f"source.{OP} = {_UPSERT}").execute()

    return commit


def completed(
    schema: TableSchema,
    patch: mirror.Patch,
    rows: pa.Table,
    origin: pa.Table,
    table: DeltaTable,
    *,
    only: str | None = None,
) -> pa.Table:
    """``rows``, which are the patch's in the table's columns and types, with what PostgreSQL did not send: read from
    where the row was. ``origin`` is the patch's in the table's types; ``only`` as for `_found`."""
    names = [schema.columns[i].name for i in schema.key]
    wanted = [*names, *(schema.columns[i].name for i in patch.missing)]
    return filled(
        schema, patch, rows, origin, _found(table, origin, names, wanted, rows.schema, schema.name, only=only)
    )


def filled(schema: TableSchema, patch: mirror.Patch, rows: pa.Table, origin: pa.Table, found: pa.Table) -> pa.Table:
    """As `completed`, with what was ``found`` at ``origin``: its key and the columns that were not sent."""
    # `mirror.complete` addresses columns by place: the source's first, in its order.
    order = [column.name for column in schema.columns]
    first = rows.select(order).append_column(mirror.OUTLIERS, patch.rows.column(len(order)))
    filled = mirror.complete(schema, mirror.Patch(patch.missing, first, origin, moves=True), found)
    by_name = {name: filled.column(i) for i, name in enumerate(order)}
    return pa.Table.from_arrays([by_name.get(f.name, rows.column(f.name)) for f in rows.schema], schema=rows.schema)


def _require_found(table: DeltaTable, keys: pa.Table, names: list[str], name: TableName) -> None:
    found = _found(table, keys, names, names, keys.schema, name)
    together = [single(pa.chunked_array([*keys[n].chunks, *found[n].chunks])) for n in names]
    ids, groups = dense(group_ids(together, keys.num_rows + found.num_rows))
    is_found = np.zeros(groups, np.bool_)
    is_found[ids[keys.num_rows :]] = True
    lost = int(np.count_nonzero(~is_found[ids[: keys.num_rows]]))
    if lost:
        raise RowRefused(
            f"{lost} rows to be updated are not in the destination's table",
            advice=mirror.MISSING_ROWS_ADVICE,
            table=name,
        )


def _found(
    table: DeltaTable,
    keys: pa.Table,
    names: list[str],
    wanted: list[str],
    fields: pa.Schema,
    name: TableName,
    *,
    only: str | None = None,
) -> pa.Table:
    """The ``wanted`` columns of rows whose first key column is among those of ``keys``: all that are asked for, and for
    keys of several columns some more. ``only`` names a boolean column that must be true, too."""
    first = single(keys[names[0]])
    ranges = _key_ranges(first, quote_identifier(names[0]))
    flags = [] if only is None else [only]
    files = " AND ".join([*(f"{quote_identifier(flag)} = true" for flag in flags), *([ranges] if ranges else [])])
    shape = pa.schema([fields.field(column) for column in wanted]).remove_metadata()
    chosen = [shape.empty_table()]
    for batch in scan(table, [*wanted, *flags], name=name, files=files or None):
        rows = pa.Table.from_batches([batch])
        is_asked = pc.is_in(rows[names[0]], value_set=first)
        rows = rows.filter(is_asked if only is None else pc.and_(rows[only], is_asked))
        chosen.append(rows.select(wanted).cast(shape))
    return pa.concat_tables(chosen)


def as_keys(keys: pa.Table, rows: pa.Table, names: list[str]) -> pa.Table:
    """``keys``, columns in the key's order in the source's types, in the types of ``rows``."""
    fields = pa.schema([rows.schema.field(name) for name in names])
    return pa.Table.from_arrays(
        [converted(keys.column(i), field.type) for i, field in enumerate(fields)], schema=fields
    )


def _has_order(kind: pa.DataType) -> bool:
    """Types whose order is the same in statistics, predicates and Arrow."""
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or kind == pa.date32())


def lies_outside(table: DeltaTable, keys: pa.Table, first: str) -> bool:
    """True when no file can hold a row of these keys, by its statistics of the first key column."""
    actions = pa.table(table.get_add_actions(flatten=True))
    if not actions.num_rows:
        return True
    lowest, highest = f"min.{first}", f"max.{first}"
    values = single(keys[first])
    if not _has_order(values.type) or {lowest, highest} - set(actions.column_names):
        return False
    low, high = (single(actions[name]) for name in (lowest, highest))
    if low.null_count or high.null_count or low.type != values.type or high.type != values.type:
        return False
    ends = pc.min_max(values)
    apart = pc.or_(pc.less(high, ends["min"]), pc.greater(low, ends["max"]))
    return bool(pc.all(apart).as_py())


def _key_ranges(values: pa.Array, column: str) -> str:
    """``(column BETWEEN … OR …)`` around all ``values``; empty where the type has no such order."""
    values = pc.unique(values)
    if not _has_order(values.type) or not len(values):
        return ""
    pairs = [(_literal(low), _literal(high)) for low, high in _clusters(values)]
    if any(low is None or high is None for low, high in pairs):
        return ""
    return f"({' OR '.join(f'{column} BETWEEN {low} AND {high}' for low, high in pairs)})"


def _clusters(values: pa.Array) -> Iterator[tuple[Any, Any]]:
    """At most `RANGES_MAX` ranges that hold all ``values``, parted at the widest gaps."""
    if pa.types.is_string(values.type):
        ends = pc.min_max(values)
        yield ends["min"].as_py(), ends["max"].as_py()
        return
    whole = values.cast(pa.int32()) if values.type == pa.date32() else values
    ordered = np.sort(whole.to_numpy(zero_copy_only=False).astype(np.int64))
    gaps = (ordered[1:].astype(np.float64) - ordered[:-1]) if len(ordered) > 1 else np.zeros(0)
    widest = np.argsort(gaps, kind="stable")[::-1][: RANGES_MAX - 1]
    cuts = np.sort(widest[gaps[widest] > 1])
    starts = ordered[np.concatenate([[0], cuts + 1]).astype(np.int64)]
    stops = ordered[np.concatenate([cuts, [len(ordered) - 1]]).astype(np.int64)]
    back = pa.array(starts).cast(whole.type).cast(values.type), pa.array(stops).cast(whole.type).cast(values.type)
    yield from zip(back[0].to_pylist(), back[1].to_pylist(), strict=True)


def _literal(value: Any) -> str | None:
    """SQL for a bound; None for text too long to be worth it."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return None if len(value) > _LITERAL_LENGTH_MAX else "'" + value.replace("'", "''") + "'"
    return f"DATE '{value.isoformat()}'"


def _multiset(plan: mirror.MultisetPlan, table: DeltaTable, shaped: Shaped) -> Commit | None:
    """Rows that are their own identity: inserts are appended, deletes write the table anew."""
    width = len(plan.schema.columns)
    inserts = shaped(plan.inserts)
    counts = plan.inserts.column(width + 1).to_numpy()
    inserts = inserts.take(pa.array(np.repeat(np.arange(inserts.num_rows), counts)))
    if not plan.deletes.num_rows:
        return appended(table, inserts, plan.schema.name) if inserts.num_rows else None
    return without(table, *_deletes(plan, shaped), inserts, name=plan.schema.name)


def _deletes(plan: mirror.MultisetPlan, shaped: Shaped) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows to be removed, and how many copies of each."""
    counts = plan.deletes.column(len(plan.schema.columns) + 1).to_numpy()
    return shaped(plan.deletes).select([column.name for column in plan.schema.columns]), np.array(counts, np.int64)


__all__ = [
    "OP",
    "RANGES_MAX",
    "Commit",
    "Marking",
    "Shaped",
    "appended",
    "as_keys",
    "commit_of",
    "completed",
    "filled",
    "joined",
    "lies_outside",
    "merge_source",
    "merger",
    "rehearse",
    "row_tables",
    "source_places",
    "spread",
    "told_once",
]
