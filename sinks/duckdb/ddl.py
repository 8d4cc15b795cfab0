"""Target tables: what a source table looks like in DuckDB, what exists, and the steps between.

Targets have no primary key and no index (specs/decisions/0010): wallaby keeps keys unique itself. All columns are
nullable, so that a constraint the source drops never stops the flow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa

from sinks.duckdb.types import FILE, Storage, duckdb_type
from wallaby.errors import Refused
from wallaby.pgtypes.types import is_json
from wallaby.schema import Column, TableName, TableSchema, quote_identifier
from wallaby.sink import WriteMode
from wallaby.transform.moves import NO_MOVES, KnownColumn, Moves, column_moves, rename_steps
from wallaby.transform.target import target_schema
from wallaby.versions import VersionColumns

OWN_SCHEMA: Final = "wallaby"
"""Where the position record lives; no target may be put there."""


@dataclass(frozen=True, slots=True)
class TargetName:
    """A table of the database file, case preserved; DuckDB compares names without regard to (ASCII) case."""

    schema: str
    table: str
    catalog: str = ""
    """The file's catalog, quoted; empty leaves it to DuckDB, which fails where a schema is called like the file."""

    @property
    def sql(self) -> str:
        return f"{self.schema_sql}.{quote_identifier(self.table)}"

    @property
    def schema_sql(self) -> str:
        schema = quote_identifier(self.schema)
        return f"{self.catalog}.{schema}" if self.catalog else schema

    @property
    def folded(self) -> tuple[str, str]:
        """What DuckDB compares."""
        return fold(self.schema), fold(self.table)

    def __str__(self) -> str:
        return str(TableName(self.schema, self.table))


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """``type`` is spelled as in DuckDB's catalog; ``attnum`` is 0 where unknown."""

    name: str
    type: str
    attnum: int = 0
    required: bool = False
    """NOT NULL without a default: only in tables somebody else made."""
    missing: str | None = None
    """See `wallaby.schema.Column.missing`."""

    @property
    def definition(self) -> str:
        return f"{quote_identifier(self.name)} {self.type}"


class Runs(Protocol):
    """Whatever runs a statement and gives its rows, and knows whether there is a table."""

    def has_table(self, table: str) -> bool: ...

    def query(self, statement: str, parameters: tuple[object, ...] = (), **where: Any) -> list[tuple[object, ...]]: ...


def fold(name: str) -> str:
    """A name as DuckDB compares it: ASCII letters only."""
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in name)


def target_name(source: TableName, *, schema: str | None, table: str | None, catalog: str = "") -> TargetName:
    """The target of ``source`` under the options ``schema`` and ``table`` (which may be ``schema.table``)."""
    if table and "." in table and not schema:
        schema, _, table = table.partition(".")
    return TargetName(schema or source.schema, table or source.name, catalog)


def wanted_columns(
    schema: TableSchema, mode: WriteMode, *, keep_outliers: bool, versions: VersionColumns, storage: Storage = FILE
) -> tuple[TargetColumn, ...]:
    """The columns the target must have, in order. `Refused` when two differ by case only, and as `history_schema`."""
    fields = target_schema(schema, mode, versions=versions, keep_outliers=keep_outliers)
    if not len(fields):
        raise Refused(
            f"a table without columns cannot be made in {storage.name}",
            advice="Leave the table out of the publication, or use write_mode: append",
            table=schema.name,
        )
    origins: list[Column | None] = [*schema.columns, *([None] * (len(fields) - len(schema.columns)))]
    columns = tuple(_wanted(field, origin, storage) for field, origin in zip(fields, origins, strict=True))
    seen: dict[str, str] = {}
    for column in columns:
        if (other := seen.setdefault(fold(column.name), column.name)) != column.name:
            raise Refused(
                f"columns {other} and {column.name} have the same name in {storage.name} (name-collision)",
                advice="DuckDB ignores case in names: rename one of the columns, or leave it out of the publication",
                table=schema.name,
            )
    return columns


def _wanted(field: pa.Field, origin: Column | None, storage: Storage) -> TargetColumn:
    json = origin is not None and is_json(origin.type)
    kind = duckdb_type(field.type, is_json=json, storage=storage)
    if origin is None:
        return TargetColumn(field.name, kind)
    return TargetColumn(field.name, kind, origin.attnum, missing=origin.missing)


def read_columns(runs: Runs, target: TargetName) -> tuple[TargetColumn, ...] | None:
    """The existing table's columns in order; None when there is no such table.

    By the table's name: `duckdb_columns` looks at every column of every table.
    """
    if not runs.has_table(target.sql):
        return None
    rows = runs.query(f"DESCRIBE {target.sql}", table=target)
    return tuple(
        TargetColumn(str(name), str(kind), required=nullable == "NO" and default in (None, "NULL"))
        for name, kind, nullable, _key, default, _extra in rows
    )


def create_statement(target: TargetName, columns: tuple[TargetColumn, ...]) -> str:
    """CREATE TABLE, once only."""
    return f"CREATE TABLE IF NOT EXISTS {target.sql} ({', '.join(column.definition for column in columns)})"


@dataclass(frozen=True, slots=True)
class Change:
    """Statements that make an existing table fit, or the reasons why none can."""

    statements: tuple[str, ...]
    unfit: tuple[str, ...]
    moves: Moves = NO_MOVES
    """What the statements do."""


def change(
    target: TargetName,
    existing: tuple[TargetColumn, ...],
    wanted: tuple[TargetColumn, ...],
    *,
    storage: Storage = FILE,
) -> Change:
    """From ``existing`` to ``wanted``: add columns, widen types. A wider type than wanted fits; nothing is dropped."""
    present = {fold(column.name): column for column in existing}
    needed = {fold(column.name) for column in wanted}
    statements: list[str] = []
    unfit: list[str] = []
    for column in wanted:
        found = present.get(fold(column.name))
        if found is None:
            added, problem = _added(target, column)
            statements += added
            unfit += problem
        elif widens(column.type, found.type):
            continue
        elif widens(found.type, column.type):
            statements += _widened(target, found, column.type, storage)
        else:
            unfit.append(f"column {column.name} is {found.type}, the source needs {column.type}")
    unfit += [
        f"column {column.name} exists only in the target and must not be null"
        for key, column in present.items()
        if key not in needed and column.required
    ]
    return Change(tuple(statements), tuple(unfit))


def _widened(target: TargetName, found: TargetColumn, kind: str, storage: Storage) -> list[str]:
    name = quote_identifier(found.name)
    if storage.changes_to_text or not kind.startswith("VARCHAR"):
        return [f"ALTER TABLE {target.sql} ALTER {name} TYPE {kind}"]
    wider = quote_identifier(f"{found.name} {kind}")
    return [
        f"ALTER TABLE {target.sql} ADD COLUMN {wider} {kind}",
        f"UPDATE {target.sql} SET {wider} = CAST({name} AS {kind})",
        f"ALTER TABLE {target.sql} DROP COLUMN {name}",
        f"ALTER TABLE {target.sql} RENAME COLUMN {wider} TO {name}",
    ]


def _added(target: TargetName, column: TargetColumn) -> tuple[list[str], list[str]]:
    """A new column, with what PostgreSQL says the rows that are there already hold in it; or why that cannot be."""
    add = f"ALTER TABLE {target.sql} ADD COLUMN {column.definition}"
    if column.missing is None:
        return [add], []
    if not _READS_POSTGRES.fullmatch(column.type):
        return [], [
            f"column {column.name} was added with a default for older rows, which {column.type} cannot take over"
        ]
    value = "'" + column.missing.replace("'", "''") + "'"
    default = f"ALTER TABLE {target.sql} ALTER {quote_identifier(column.name)} DROP DEFAULT"
    # No CAST: DuckDB (1.5) cannot commit two columns whose defaults are expressions.
    return [f"{add} DEFAULT {value}", default], []


def moved_columns(
    target: TargetName,
    existing: tuple[TargetColumn, ...],
    owned: tuple[tuple[str, int], ...],
    wanted: tuple[TargetColumn, ...],
    *,
    history_of: TableSchema | None = None,
) -> Change:
    """What the source renamed and dropped since it had ``owned`` (name, attnum); done before `change`.

    In the ``history_of`` a table columns that it dropped stay, as the past has them. Where one column went as
    another of its type came, and nobody can tell a rename, that is a reason to stop.
    """
    present = {fold(column.name): column for column in existing}
    known = [KnownColumn(name, attnum, present[fold(name)].type) for name, attnum in owned if fold(name) in present]
    # A history's own columns are nothing a column of the source could have become.
    sources = wanted if history_of is None else wanted[: len(history_of.columns)]
    now = [KnownColumn(column.name, column.attnum, column.type) for column in sources]
    moves = column_moves(known, now, fold=fold)
    dropped = moves.dropped
    if history_of is not None:
        names = [column.name for column in sources]
        columns = [column.name for column in existing]
        moves, dropped = moves.keeping(columns, owned=[name for name, _ in owned], wanted=names, fold=fold), ()
    drops = tuple(f"ALTER TABLE {target.sql} DROP COLUMN {quote_identifier(name)}" for name in dropped)
    renames = tuple(
        f"ALTER TABLE {target.sql} RENAME COLUMN {quote_identifier(old)} TO {quote_identifier(new)}"
        for old, new in (*moves.aside, *rename_steps(moves.renamed))
    )
    return Change((*drops, *renames), tuple(moves.misfits(present, fold=fold)), moves)


_INTEGERS: Final = {
    "TINYINT": (True, 8),
    "SMALLINT": (True, 16),
    "INTEGER": (True, 32),
    "BIGINT": (True, 64),
    "HUGEINT": (True, 128),
    "UTINYINT": (False, 8),
    "USMALLINT": (False, 16),
    "UINTEGER": (False, 32),
    "UBIGINT": (False, 64),
}
_DECIMAL: Final = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_READS_POSTGRES: Final = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(\d+,\s*\d+\)|BOOLEAN|VARCHAR|JSON|UUID|DATE|TIME"
    r"|TIMESTAMP( WITH TIME ZONE)?)"
)
"""Types whose values DuckDB reads from PostgreSQL's text."""
_AS_TEXT: Final = frozenset({*_INTEGERS, "UUID", "JSON", "VARCHAR"})
"""Types whose DuckDB text is PostgreSQL's."""


def widens(old: str, new: str) -> bool:
    """True when every value of ``old`` is a value of ``new``, printed as PostgreSQL prints it after such a change."""
    if old == new:
        return True
    if old.endswith("[]") and new.endswith("[]"):
        return widens(old[:-2], new[:-2])
    if old in _INTEGERS and new in _INTEGERS:
        (old_signed, old_bits), (new_signed, new_bits) = _INTEGERS[old], _INTEGERS[new]
        return new_bits > old_bits and (new_signed or not old_signed)
    old_decimal, new_decimal = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if new_decimal:
        digits, scale = int(new_decimal[1]), int(new_decimal[2])
        if old_decimal:
            return scale >= int(old_decimal[2]) and digits - scale >= int(old_decimal[1]) - int(old_decimal[2])
        return old in _INTEGERS and digits - scale >= len(str(2 ** _INTEGERS[old][1]))
    if new == "VARCHAR":
        return old in _AS_TEXT or old_decimal is not None
    return (old, new) in {("FLOAT", "DOUBLE"), ("SMALLINT", "FLOAT"), ("SMALLINT", "DOUBLE"), ("INTEGER", "DOUBLE")}


__all__ = [
    "OWN_SCHEMA",
    "Change",
    "TargetColumn",
    "TargetName",
    "change",
    "create_statement",
    "fold",
    "moved_columns",
    "read_columns",
    "target_name",
    "wanted_columns",
    "widens",
]
