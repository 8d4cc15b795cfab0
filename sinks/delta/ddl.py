"""Target tables: what a source table looks like in Delta, what exists, and what has to be done between.

Delta adds columns by its log alone. It renames, drops and widens by column mapping and type widening, which this engine
does not write and not every reader reads: there the table is written anew in one commit (`sinks.delta.rewrite`), which
costs what the table weighs and is exact. Field metadata ``wallaby.attnum`` tells a rename from a drop and an add, and
moves in the commit that moves the columns. All columns are nullable, so that a constraint the source drops never stops
the flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sinks.delta.config import DeltaOptions
from sinks.delta.types import delta_type, own_type, same_type, widens
from wallaby.errors import Refused
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableName, TableSchema
from wallaby.sink import WriteMode
from wallaby.transform.moves import NO_MOVES, KnownColumn, Moves, column_moves
from wallaby.transform.target import target_schema

ATTNUM: Final = b"wallaby.attnum"
"""Field metadata: the source's attribute number, 0 where unknown. Only on columns that are the source's."""
_READS_POSTGRES: Final = frozenset(
    {pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.date32()}
)
"""Types whose values Arrow casts from PostgreSQL's text."""


def target_table(source: TableName, options: DeltaOptions) -> TableName:
    """The target of ``source`` under the options ``schema`` and ``table`` (which may be ``schema.table``)."""
    schema, table = options.schema_, options.table
    if table and "." in table and not schema:
        schema, _, table = table.partition(".")
    return TableName(schema or source.schema, table or source.name)


def wanted_fields(schema: TableSchema, options: DeltaOptions) -> pa.Schema:
    """The columns the target must have, in Delta's types. `Refused` for names that differ by case only, for tables
    without columns, and where ``partition_by`` does not fit; `ConfigError` as `append_schema`; both as
    `history_schema`."""
    source = arrow_schema(schema)
    mode, versions = options.write_mode, options.version_columns
    fields = target_schema(schema, mode, versions=versions, keep_outliers=options.keeps_outliers)
    own = list(fields)[len(source) :]
    if not len(source) + len(own):
        raise Refused(
            "a table without columns cannot be made in Delta",
            advice="Leave the table out of the publication, or use write_mode: append",
            table=schema.name,
        )
    fields = [
        pa.field(field.name, delta_type(field.type), metadata={ATTNUM: str(column.attnum).encode()})
        for field, column in zip(source, schema.columns, strict=True)
    ]
    fields += [pa.field(field.name, own_type(field.type)) for field in own]
    _require_distinct(schema, fields)
    _require_partitions(schema, pa.schema(fields), options.partitions)
    return pa.schema(fields)


def _require_distinct(schema: TableSchema, fields: list[pa.Field]) -> None:
    seen: dict[str, str] = {}
    for field in fields:
        if (other := seen.setdefault(field.name.lower(), field.name)) != field.name:
            raise Refused(
                f"columns {other} and {field.name} have the same name in Delta (name-collision)",
                advice="Delta ignores case in names: rename one of the columns, or leave it out of the publication",
                table=schema.name,
            )


def _require_partitions(schema: TableSchema, fields: pa.Schema, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in fields.names:
            raise Refused(
                "the table lacks a column it should be partitioned by",
                advice="Correct partition_by, or give the table a destination of its own",
                table=schema.name,
                column=name,
            )
        kind = fields.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or kind in (pa.date32(), pa.bool_())):
            raise Refused(
                "a table is partitioned by text, whole numbers, dates or booleans only",
                advice="Choose another column for partition_by",
                table=schema.name,
                column=name,
            )


@dataclass(frozen=True, slots=True)
class Change:
    """What makes an existing table fit, or the reasons why nothing can."""

    added: tuple[pa.Field, ...] = ()
    """By the log alone."""
    columns: tuple[NewColumn, ...] = ()
    """Not empty: the table is written anew with exactly these columns."""
    unfit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column of the table written anew."""

    field: pa.Field
    origin: str | None
    """The column of the old table its values come from; None for a new one."""
    missing: str | None = None
    """PostgreSQL's text of what older rows hold in a new column; None: null."""


def change(existing: pa.Schema, wanted: pa.Schema, schema: TableSchema, *, mode: WriteMode) -> Change:
    """From ``existing`` to ``wanted``, which belong to ``schema``.

    A mirror's columns are renamed and dropped as the source's were, a log's never, a history's renamed only: what the
    source dropped gets another name where another column needs its own. A wider type than wanted fits.
    """
    is_log = mode is WriteMode.APPEND
    missing = {column.name: column.missing for column in schema.columns}
    present = {field.name.lower(): field for field in existing}
    moves = NO_MOVES if is_log else _moves(existing, wanted)
    unfit = moves.misfits(present, fold=str.lower)
    aside: dict[str, str] = {}
    dropped = frozenset(moves.dropped)
    if mode is WriteMode.HISTORY:
        owned = [field.name for field in existing if ATTNUM in (field.metadata or {})]
        names = [column.name for column in schema.columns]
        aside = dict(moves.keeping(existing.names, owned=owned, wanted=names, fold=str.lower).aside)
        dropped = frozenset()
    origin = {new: old for old, new in moves.renamed}
    lost = dropped.union(aside)
    kept = {
        name: present[origin.get(name, name).lower()] for name in wanted.names if _comes(name, origin, lost, present)
    }
    columns = []
    for field in wanted:
        old = kept.get(field.name)
        if old is None:
            value = None if is_log else missing.get(field.name)
            if value is not None and field.type not in _READS_POSTGRES and not pa.types.is_decimal(field.type):
                unfit.append(
                    f"column {field.name} was added with a default for older rows, which its type in Delta cannot take"
                )
            columns.append(NewColumn(field, None, value))
        elif same_type(field.type, old.type) or widens(field.type, old.type):
            columns.append(NewColumn(_numbered(field, old).with_type(old.type), old.name))
        elif widens(old.type, field.type):
            columns.append(NewColumn(_numbered(field, old), old.name))
        else:
            unfit.append(f"column {field.name} is {old.type}, the source needs {field.type}")
    taken = {old.name for old in kept.values()}
    rest = [field for field in existing if field.name not in taken and field.name not in dropped]
    unfit += [
        f"column {field.name} exists only in the target and must not be null" for field in rest if not field.nullable
    ]
    if unfit:
        return Change(unfit=tuple(unfit))
    is_rewritten = bool(lost) or any(
        column.missing is not None
        or (column.origin is not None and column.origin.lower() != column.field.name.lower())
        or (column.origin is not None and not same_type(existing.field(column.origin).type, column.field.type))
        for column in columns
    )
    if is_rewritten:
        others = (NewColumn(field.with_name(aside.get(field.name, field.name)), field.name) for field in rest)
        return Change(columns=(*columns, *others))
    return Change(added=tuple(column.field for column in columns if column.origin is None))


def made_anew(existing: pa.Schema, wanted: pa.Schema) -> Change:
    """An empty table in the wanted shape, whatever it was; columns that are not the source's stay."""
    names = {name.lower() for name in wanted.names}
    rest = [field for field in existing if ATTNUM not in (field.metadata or {}) and field.name.lower() not in names]
    return Change(columns=tuple(NewColumn(field, None) for field in (*wanted, *rest)))


def _comes(name: str, origin: dict[str, str], dropped: frozenset[str], present: dict[str, pa.Field]) -> bool:
    """Whether a wanted column has a column of the old table to come from."""
    if name in origin:
        return True
    old = present.get(name.lower())
    return old is not None and old.name not in dropped and old.name not in origin.values()


def _moves(existing: pa.Schema, wanted: pa.Schema) -> Moves:
    """What the source renamed and dropped, by the numbers the target keeps."""
    known = [
        KnownColumn(field.name, int(field.metadata[ATTNUM]), str(field.type))
        for field in existing
        if field.metadata and ATTNUM in field.metadata
    ]
    now = [
        KnownColumn(field.name, int(field.metadata[ATTNUM]), str(field.type))
        for field in wanted
        if field.metadata and ATTNUM in field.metadata
    ]
    return column_moves(known, now, fold=str.lower)


def _numbered(field: pa.Field, old: pa.Field) -> pa.Field:
    """``field`` with the number its column is known to have, where the source does not say it."""
    number = (old.metadata or {}).get(ATTNUM)
    is_unknown = field.metadata is not None and field.metadata.get(ATTNUM) == b"0"
    return field.with_metadata({ATTNUM: number}) if is_unknown and number else field


__all__ = ["ATTNUM", "Change", "NewColumn", "change", "made_anew", "target_table", "wanted_fields"]
