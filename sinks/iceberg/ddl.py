"""Target tables: what a source table looks like in Iceberg, what exists, and the steps between, by field id.

All columns are optional, so that a constraint the source drops never stops the flow. A renamed column keeps its field
id and so its values in files written before; a column made again under its old name gets a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyiceberg.partitioning import PartitionField as SpecField
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.table.sorting import SortField as OrderField
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.types import IcebergType, NestedField

from sinks.iceberg.config import PartitionField, SortField
from sinks.iceberg.types import Numbers, iceberg_type, stored_type, type_name, widens
from wallaby.errors import Refused
from wallaby.schema import Column, TableName, TableSchema
from wallaby.sink import WriteMode
from wallaby.transform.moves import NO_MOVES, KnownColumn, Moves, column_moves
from wallaby.transform.target import target_schema
from wallaby.versions import VersionColumns

FIRST_PARTITION_ID: Final = 1000


@dataclass(frozen=True, slots=True)
class TargetName:
    """A table of the catalog, case preserved."""

    namespace: str
    table: str

    def __str__(self) -> str:
        return str(TableName(self.namespace, self.table))


@dataclass(frozen=True, slots=True)
class WantedColumn:
    """``type`` has field ids of its own, which are given anew where it is used."""

    name: str
    type: IcebergType
    attnum: int = 0
    missing: str | None = None
    """See `wallaby.schema.Column.missing`; None in a log, whose older rows are of an older shape."""


def target_name(source: TableName, *, schema: str | None, table: str | None) -> TargetName:
    """The target of ``source`` under the options ``schema`` and ``table`` (which may be ``schema.table``)."""
    if table and "." in table and not schema:
        schema, _, table = table.partition(".")
    return TargetName(schema or source.schema, table or source.name)


def wanted_columns(
    schema: TableSchema, mode: WriteMode, *, keep_outliers: bool, versions: VersionColumns
) -> tuple[WantedColumn, ...]:
    """The columns the target must have, in order. `Refused` for a table without any, and as `history_schema`."""
    fields = target_schema(schema, mode, versions=versions, keep_outliers=keep_outliers)
    if not len(fields):
        raise Refused(
            "a table without columns cannot be made in Iceberg",
            advice="Leave the table out of the publication, or use write_mode: append",
            table=schema.name,
        )
    numbers = Numbers()
    origins: list[Column | None] = [*schema.columns, *([None] * (len(fields) - len(schema.columns)))]
    return tuple(
        WantedColumn(
            field.name,
            iceberg_type(stored_type(field.type), numbers),
            origin.attnum if origin else 0,
            origin.missing if origin and mode is not WriteMode.APPEND else None,
        )
        for field, origin in zip(fields, origins, strict=True)
    )


def new_schema(wanted: Iterable[WantedColumn]) -> Schema:
    """The schema of a table that does not exist yet."""
    columns = tuple(wanted)
    numbers = Numbers(len(columns))
    return Schema(
        *(
            NestedField(number, column.name, _renumbered(column.type, numbers), required=False)
            for number, column in enumerate(columns, 1)
        )
    )


@dataclass(frozen=True, slots=True)
class Reshape:
    """The schema an existing table gets (None: it fits as it is), or the reasons why none can."""

    schema: Schema | None
    unfit: tuple[str, ...]
    moves: Moves = NO_MOVES


def reshape(
    table: Schema,
    wanted: tuple[WantedColumn, ...],
    *,
    owned: tuple[tuple[str, int], ...] = (),
    last_id: int,
    bound_ids: frozenset[int] = frozenset(),
    is_empty: bool = False,
    history_of: TableSchema | None = None,
) -> Reshape:
    """From ``table`` to ``wanted``: drop, rename, widen, add. A wider type than wanted fits.

    ``owned`` are the columns (name, attnum) the source had when wallaby last looked; nothing is dropped or renamed
    without. ``bound_ids`` are fields that partitions or the sort order are made of. ``last_id`` is the highest field id
    the table ever had. Rows of an ``is_empty`` table hold nothing in a new column. In the ``history_of`` a table
    columns that it dropped stay, as the past has them.
    """
    fields = {field.name: field for field in table.fields}
    # A history's own columns are nothing a column of the source could have become.
    sources = wanted if history_of is None else wanted[: len(history_of.columns)]
    moves = _moves(fields, owned, sources)
    unfit = moves.misfits(fields)
    dropped = moves.dropped
    if history_of is not None:
        names = [column.name for column in sources]
        moves, dropped = moves.keeping(fields, owned=[name for name, _ in owned], wanted=names), ()
    bound = [name for name in dropped if fields[name].field_id in bound_ids]
    unfit += [f"column {name} was dropped, but the table is partitioned or sorted by it" for name in bound]
    renamed = dict((*moves.renamed, *moves.aside))
    kept = {renamed.get(field.name, field.name): field for field in table.fields if field.name not in dropped}
    numbers = Numbers(last_id)
    result: list[NestedField] = []
    needed = {column.name: column for column in wanted}
    for name, field in kept.items():
        kind, problem = _kind(field, needed.get(name))
        unfit += problem
        result.append(_field(field.field_id, name, kind, field))
    for column in wanted:
        if column.name not in kept:
            if column.missing is not None and not is_empty:
                unfit.append(
                    f"column {column.name} was added with a default for older rows, which only format version 3 holds"
                )
            result.append(NestedField(numbers.next(), column.name, _renumbered(column.type, numbers), required=False))
    if unfit:
        return Reshape(None, tuple(unfit))
    changed = Schema(*result, identifier_field_ids=[i for i in table.identifier_field_ids if _has(result, i)])
    return Reshape(None if changed.fields == table.fields else changed, (), moves)


def _moves(
    fields: dict[str, NestedField], owned: tuple[tuple[str, int], ...], wanted: tuple[WantedColumn, ...]
) -> Moves:
    known = [KnownColumn(name, number, type_name(fields[name].field_type)) for name, number in owned if name in fields]
    if not known:
        return NO_MOVES
    now = [KnownColumn(column.name, column.attnum, type_name(column.type)) for column in wanted]
    return column_moves(known, now)


def _kind(field: NestedField, wanted: WantedColumn | None) -> tuple[IcebergType, list[str]]:
    """The type an existing field gets, and why it cannot be what is wanted."""
    if wanted is None:
        is_unfit = field.required
        return field.field_type, (
            [f"column {field.name} exists only in the target and must not be null"] if is_unfit else []
        )
    have, want = type_name(field.field_type), type_name(wanted.type)
    if have == want or widens(wanted.type, field.field_type):
        return field.field_type, []
    if widens(field.field_type, wanted.type):
        return wanted.type, []
    return field.field_type, [f"column {wanted.name} is {have}, the source needs {want}"]


def _field(number: int, name: str, kind: IcebergType, old: NestedField) -> NestedField:
    return NestedField(number, name, kind, required=old.required, doc=old.doc)


def _has(fields: list[NestedField], number: int) -> bool:
    return any(field.field_id == number for field in fields)


def _renumbered(kind: IcebergType, numbers: Numbers) -> IcebergType:
    """The same type with ids nobody else has."""
    [field] = assign_fresh_schema_ids(Schema(NestedField(1, "x", kind, required=False)), numbers.next).fields
    return field.field_type


def partition_spec(schema: Schema, wanted: tuple[PartitionField, ...], *, table: TableName) -> PartitionSpec:
    """The spec of a new table. `Refused` for a column it lacks, or whose type the transform does not take."""
    fields = []
    for number, entry in enumerate(wanted):
        source = _source(schema, entry.column, "partition_by", table)
        transform = _transform(entry)
        if not transform.can_transform(source.field_type):
            raise Refused(
                f"a column of type {type_name(source.field_type)} has no partitions by {entry.transform}",
                advice="Choose another column or transform in partition_by",
                table=table,
                column=entry.column,
            )
        suffix = "" if entry.transform == "identity" else f"_{entry.transform}"
        fields.append(SpecField(source.field_id, FIRST_PARTITION_ID + number, transform, f"{entry.column}{suffix}"))
    return PartitionSpec(*fields)


def sort_order(schema: Schema, wanted: tuple[SortField, ...], *, table: TableName) -> SortOrder:
    """The order of a new table. `Refused` for a column it lacks, or one that has no order."""
    fields = []
    for entry in wanted:
        source = _source(schema, entry.column, "sort_by", table)
        if not source.field_type.is_primitive:
            raise Refused(
                f"rows cannot be sorted by a column of type {type_name(source.field_type)}",
                advice="Choose another column in sort_by",
                table=table,
                column=entry.column,
            )
        direction = SortDirection.DESC if entry.is_descending else SortDirection.ASC
        nulls = NullOrder.NULLS_LAST
        fields.append(OrderField(source.field_id, IdentityTransform(), direction, nulls))
    return SortOrder(*fields)


def _source(schema: Schema, column: str, option: str, table: TableName) -> NestedField:
    for field in schema.fields:
        if field.name == column:
            return field
    raise Refused(
        f"{option} names a column the table does not have",
        advice=f"Correct {option}, or give the table a destination of its own",
        table=table,
        column=column,
    )


def _transform(entry: PartitionField) -> Transform:
    match entry.transform:
        case "bucket":
            return BucketTransform(entry.argument)
        case "truncate":
            return TruncateTransform(entry.argument)
        case "year":
            return YearTransform()
        case "month":
            return MonthTransform()
        case "day":
            return DayTransform()
        case "hour":
            return HourTransform()
        case _:
            return IdentityTransform()


__all__ = [
    "Reshape",
    "TargetName",
    "WantedColumn",
    "new_schema",
    "partition_spec",
    "reshape",
    "sort_order",
    "target_name",
    "wanted_columns",
]
