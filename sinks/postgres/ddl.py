"""What a target must look like, what keeps it from that, and the statements that bring it there.

Pure: values in, statements and differences out. `sinks.postgres.tables` runs them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sinks.postgres.catalog import Target, qualified, stand_in
from sinks.postgres.types import TargetColumn, is_widening
from wallaby.pgoutput.relations import COLUMNS_MAX
from wallaby.pgtypes.builtin import builtin_type
from wallaby.pgtypes.numeric import precision_and_scale
from wallaby.pgtypes.types import arrow_field
from wallaby.schema import FIRST_USER_OID, PgType, TableName, TableSchema, TypeKind, quote_identifier
from wallaby.sink import WriteMode
from wallaby.transform.append import LOG_FIELDS
from wallaby.transform.history import history_schema, version_fields
from wallaby.transform.moves import KnownColumn, Moves, column_moves, known_numbers, rename_steps
from wallaby.versions import VersionColumns


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column the target must have."""

    name: str
    type: PgType
    typmod: int
    nullable: bool
    arrow: pa.DataType
    attnum: int = 0
    missing: str | None = None
    """See `wallaby.schema.Column`; none in a log, whose older rows are what they were."""


def state_statements(state_schema: str) -> tuple[str, ...]:
    """Create the position records and the register of targets; each statement may run again."""
    schema = quote_identifier(state_schema)
    return (
        f"CREATE SCHEMA IF NOT EXISTS {schema}",
        f"""CREATE TABLE IF NOT EXISTS {schema}.lanes (
            flow text NOT NULL, destination text NOT NULL, lane int NOT NULL, lanes int NOT NULL,
            epoch bigint NOT NULL, position text NOT NULL, rows bigint NOT NULL DEFAULT 0,
            committed_at timestamptz NOT NULL DEFAULT now(), source_committed_at timestamptz,
            PRIMARY KEY (flow, destination, lane)) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000)""",
        f"""CREATE TABLE IF NOT EXISTS {schema}.tables (
            target_schema text NOT NULL, target_table text NOT NULL, source_schema text NOT NULL,
            source_table text NOT NULL, created bool NOT NULL, registered_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (target_schema, target_table))""",
        f"ALTER TABLE {schema}.tables ADD COLUMN IF NOT EXISTS columns jsonb",
    )


_TEXT: Final = 25
_LOG_TYPES: Final = {
    "string": _TEXT,
    "bool": 16,
    "uint64": 20,
    "uint32": 20,
    "timestamp[us, tz=UTC]": 1184,
    "list<item: string>": 1009,
}
_LSN_TYPE: Final = 3220


def wanted_columns(schema: TableSchema, mode: WriteMode, versions: VersionColumns) -> tuple[Wanted, ...]:
    """The columns a target of ``schema`` has in this mode, in order; raises as `history_schema` in a history."""
    is_log = mode is WriteMode.APPEND
    columns = [
        Wanted(
            name=c.name,
            type=c.type,
            typmod=c.typmod,
            nullable=c.nullable or is_log,
            arrow=arrow_field(c).type,
            attnum=c.attnum,
            missing=None if is_log else c.missing,
        )
        for c in schema.columns
    ]
    if is_log:
        for field in LOG_FIELDS:
            oid = _LSN_TYPE if field.name == "__commit_lsn" else _LOG_TYPES[str(field.type).replace("element", "item")]
            pg_type = builtin_type(oid)
            assert pg_type is not None, f"type {oid} of log column {field.name}"
            columns.append(Wanted(field.name, pg_type, -1, field.nullable, field.type))
    if mode is WriteMode.HISTORY:
        history_schema(schema, versions)
        lsns = (versions.valid_from_lsn, versions.valid_to_lsn)
        for field in version_fields(versions):
            pg_type = builtin_type(_LSN_TYPE if field.name in lsns else _LOG_TYPES[str(field.type)])
            assert pg_type is not None, f"type of history column {field.name}"
            columns.append(Wanted(field.name, pg_type, -1, True, field.type))
    return tuple(columns)


def too_wide(schema: TableSchema, mode: WriteMode) -> str:
    """Why changes of so many columns do not fit through PostgreSQL; empty when they do."""
    own = len(LOG_FIELDS) if mode is WriteMode.APPEND else len(schema.key) if schema.has_key else schema.is_keyless_full
    if mode is WriteMode.HISTORY:
        own += len(VersionColumns().names)
    room = COLUMNS_MAX - own
    if len(schema.columns) <= room:
        return ""
    what = "a log of its changes has" if mode is WriteMode.APPEND else "applying its changes takes"
    return f"it has {len(schema.columns)} columns and {what} {own} more; PostgreSQL's limit is {COLUMNS_MAX}"


def lacks_versions(target: Target, versions: VersionColumns) -> tuple[str, ...]:
    """Why a table wallaby made for another mode cannot become a history."""
    missing = [name for name in versions.names if target.column(name) is None]
    return (f"it is no history: column {missing[0]} is missing",) if missing else ()


def current_index(target: Target, key: Sequence[str], versions: VersionColumns) -> tuple[str, str]:
    """Name and definition of the unique index by which the open version of a key is found."""
    mark = hashlib.sha256("\0".join((target.name.schema, target.name.name, *key)).encode()).hexdigest()[:24]
    columns = ", ".join(map(quote_identifier, key))
    name = f"{CURRENT_INDEX}{mark}"
    return name, (
        f"CREATE UNIQUE INDEX {name} ON {target.sql} ({columns}) WHERE {quote_identifier(versions.is_current)}"
    )


CURRENT_INDEX: Final = "wallaby_current_"
"""What the names of such indexes begin with."""


def create_table(target: TableName, wanted: Sequence[Wanted], type_names: Sequence[str], key: Sequence[str]) -> str:
    """CREATE TABLE with the key as primary key.

    No other column is NOT NULL: the stream does not announce a NOT NULL that the source drops, and the first null would
    stop the flow.
    """
    lines = [
        f"{quote_identifier(column.name)} {type_name}" for column, type_name in zip(wanted, type_names, strict=True)
    ]
    if key:
        lines.append(f"PRIMARY KEY ({', '.join(map(quote_identifier, key))})")
    return f"CREATE TABLE {qualified(target)} ({', '.join(lines)})"


@dataclass(frozen=True, slots=True)
class Fit:
    """How a target can be brought to fit: ``statements`` for what wallaby may change, ``differences`` for the rest."""

    statements: tuple[tuple[str, str], ...]
    """Each with the difference it removes, for the case that PostgreSQL refuses it."""
    differences: tuple[str, ...]


def fit(
    target: Target,
    wanted: Sequence[Wanted],
    type_names: Sequence[str],
    *,
    key: Sequence[str],
    is_ours: bool,
    may_add: bool,
) -> Fit:
    """Compare a target with what is wanted.

    ``is_ours`` (wallaby created it) allows changed types, another key and dropped NOT NULLs; ``may_add`` allows new
    columns. Columns the source no longer has stay.
    """
    if target.relkind not in ("r", "p"):
        return Fit((), ("it is not a table",))
    statements: list[tuple[str, str]] = []
    differences: list[str] = []
    table = target.sql
    is_rekeyed = (tuple(sorted(key)) not in target.unique_keys) if key else bool(target.primary_key)
    if is_rekeyed and is_ours and target.primary_key:
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {quote_identifier(target.primary_key)}"
        statements.append((drop, "the key is another"))
    for column, type_name in zip(wanted, type_names, strict=True):
        if not type_name:
            differences.append(unavailable(column))
            continue
        name = quote_identifier(column.name)
        found = target.column(column.name)
        if found is None:
            if may_add:
                # NOT NULL cannot hold for the rows that are there already: PostgreSQL sends no values for them.
                statement = f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {type_name}"
                if column.missing is None:
                    statements.append((statement, f"column {column.name} is missing"))
                else:
                    value = "'" + column.missing.replace("'", "''") + "'"
                    default = f"{statement} DEFAULT {value}::{type_name}"
                    statements.append((default, f"column {column.name} is missing"))
                    forget = f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT"
                    statements.append((forget, f"column {column.name} has a default"))
            else:
                differences.append(f"column {column.name} is missing")
            continue
        if found.is_generated:
            continue
        problem = type_difference(column, type_name, found)
        if problem and is_ours:
            statement = f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {type_name} USING {name}::{type_name}"
            statements.append((statement, problem))
        elif problem:
            differences.append(problem)
        if found.not_null and column.name not in key and (column.nullable or (is_ours and is_rekeyed)):
            problem = f"column {column.name} is NOT NULL, the source's is nullable"
            if is_ours:
                statements.append((f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL", problem))
            else:
                differences.append(problem)
    names = {column.name for column in wanted}
    for found in target.columns:
        if found.column in names or not found.not_null or found.has_default or found.is_generated or found.identity:
            continue
        problem = f"column {found.column} is NOT NULL without a default and the source does not have it"
        if is_ours:
            column_name = quote_identifier(found.column)
            statements.append((f"ALTER TABLE {table} ALTER COLUMN {column_name} DROP NOT NULL", problem))
        else:
            differences.append(problem)
    if key and is_rekeyed:
        problem = f"no primary key or unique index on exactly ({', '.join(key)})"
        if is_ours:
            add = f"ALTER TABLE {table} ADD PRIMARY KEY ({', '.join(map(quote_identifier, key))})"
            statements.append((add, problem))
        else:
            differences.append(problem)
    return Fit(tuple(statements), tuple(differences))


def unavailable(column: Wanted) -> str:
    """Why a column cannot be had whose type `sinks.postgres.catalog.type_names` has no name for."""
    leaf = column.type.element or column.type
    return (
        f"column {column.name} needs the type {leaf.name} of the extension {leaf.extension}, "
        f"which is missing here: CREATE EXTENSION {leaf.extension}"
    )


@dataclass(frozen=True, slots=True)
class Noted:
    """A column of the source as the register has it."""

    name: str
    attnum: int
    is_gone: bool = False
    """The source no longer has it; the target still does."""


def move(
    target: Target,
    noted: Sequence[Noted],
    wanted: Sequence[Wanted],
    type_names: Sequence[str],
    *,
    is_ours: bool,
    keeps_dropped: bool = False,
) -> tuple[Fit, Moves]:
    """What the source renamed and made again since it had the ``noted`` columns; done before `fit`.

    With ``keeps_dropped`` a column that went stays, as the past of a history has it, under another name where its own
    is needed. In a target of somebody else these are differences.
    """
    known = [
        KnownColumn(column.name, column.attnum, found.sql)
        for column in noted
        if not column.is_gone and (found := target.column(column.name)) is not None
    ]
    now = [KnownColumn(column.name, column.attnum, name) for column, name in zip(wanted, type_names, strict=True)]
    moves = column_moves(known, now)
    present = {column.column for column in target.columns}
    unclear = moves.misfits(present)
    names = {column.name for column in wanted}
    again = [name for name in moves.dropped if name in names]
    if keeps_dropped:
        ours = [column.name for column in noted if column.name in present]
        owned, names_now = [column.name for column in known], [column.name for column in wanted]
        moves = moves.keeping(ours, owned=owned, wanted=names_now, others=present)
        again = [old for old, _ in moves.aside]
    if not is_ours:
        renamed = [f"column {old} is called {new} at the source now" for old, new in moves.renamed]
        return Fit((), (*unclear, *renamed, *(f"column {name} was made again at the source" for name in again))), moves
    alter = f"ALTER TABLE {target.sql}"
    if keeps_dropped:
        cleared = [
            (f"{alter} RENAME COLUMN {quote_identifier(old)} TO {quote_identifier(new)}", f"column {old} was dropped")
            for old, new in moves.aside
        ]
    else:
        # What an earlier column of a new one's name left behind is not the new one's.
        again += [column.name for column in noted if column.is_gone and column.name in names & present]
        cleared = [(f"{alter} DROP COLUMN {quote_identifier(name)}", f"column {name} was made again") for name in again]
    renames = [
        (f"{alter} RENAME COLUMN {quote_identifier(old)} TO {quote_identifier(new)}", f"column {old} became {new}")
        for old, new in rename_steps(moves.renamed)
    ]
    return Fit((*cleared, *renames), tuple(unclear)), moves


def note(noted: Sequence[Noted], wanted: Sequence[Wanted], moves: Moves) -> tuple[Noted, ...]:
    """The columns after ``moves``: those of the source, then those only the target has."""
    numbers = known_numbers({column.name: column.attnum for column in noted if not column.is_gone}, moves)
    present = [Noted(column.name, column.attnum or numbers.get(column.name, 0)) for column in wanted]
    names = {column.name for column in present} | {old for old, _ in moves.renamed}
    aside = dict(moves.aside)
    return (
        *present,
        *(
            Noted(aside.get(column.name, column.name), column.attnum, True)
            for column in noted
            if column.name in aside or column.name not in names
        ),
    )


def type_difference(wanted: Wanted, type_name: str, found: TargetColumn) -> str:
    """Why values of ``wanted`` may not fit ``found`` unaltered; empty when they do."""
    if found.sql == type_name:
        return ""
    unlike = f"column {wanted.name} has type {found.sql}, expected {type_name}"
    base = wanted.type
    typmod = wanted.typmod
    while base.kind is TypeKind.DOMAIN and base.base is not None:
        base, typmod = base.base, base.base_typmod
    if _is_same(base, type_name, found):
        return "" if _holds(base.name, typmod, found.typmod) else unlike
    if base.extension and found.sql == stand_in(base):
        return ""
    if found.name == "text" and (found.typmod == -1) and not (pa.types.is_binary(wanted.arrow)):
        # The Arrow column holds PostgreSQL's own text.
        return "" if pa.types.is_string(wanted.arrow) else unlike
    is_plain = found.typmod == -1 and base.schema == "pg_catalog" == found.schema
    return "" if is_plain and is_widening(base.name, found.name) else unlike


def _is_same(base: PgType, type_name: str, found: TargetColumn) -> bool:
    if base.oid < FIRST_USER_OID:
        return base.oid == found.oid
    if base.extension:
        # ``type_name`` is that of the extension's type here, whatever schema it is in, with its modifier.
        return base.name == found.name and type_name.startswith(found.cast)
    return (base.schema, base.name) == (found.schema, found.name)


def _holds(name: str, source: int, target: int) -> bool:
    """True when the target's type modifier admits every value of the source's."""
    if target == source or target == -1:
        return True
    if source == -1:
        return False
    if name == "numeric":
        given, room = precision_and_scale(source), precision_and_scale(target)
        assert given is not None, f"modifier {source} of numeric"
        assert room is not None, f"modifier {target} of numeric"
        return room[1] >= given[1] and room[0] - room[1] >= given[0] - given[1]
    return name in ("varchar", "varbit", "time", "timestamp", "timestamptz", "timetz") and target > source


def key_columns(schema: TableSchema, mode: WriteMode) -> tuple[str, ...]:
    """The columns a mirror finds rows by; empty in other modes and for tables without a key."""
    if mode is not WriteMode.MIRROR or not schema.has_key:
        return ()
    return tuple(schema.columns[i].name for i in schema.key)
