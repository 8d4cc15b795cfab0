"""Random tables and random changes to them, as SQL against a real server."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg import errors, sql

from tests.oracle.values import MOODS, VECTOR_TYPES, ColumnType, array_of, decimal, named, scalar_types, text_types

Connection = psycopg.Connection[Any]

_NAMES: Final = (
    "id", "Mixed", "two words", 'quo"te', "select", "größe", "dot.ted", "x" * 63, "_", "1st", "字", "$1", "%s", "{}",
)  # fmt: skip
_KEY_LITERAL_MAX: Final = 300
"""Longer keys may not fit an index page."""
_REFUSED: Final = (errors.UniqueViolation, errors.ProgramLimitExceeded)
"""Random rows may collide, and keys may be too large for their index: then the change did not happen."""


@dataclass(slots=True)
class Column:
    """One column as the oracle made it. Keys are never NULL."""

    name: str
    type: ColumnType
    is_key: bool = False

    def value(self, rng: random.Random) -> str | None:
        """A literal, or None for NULL."""
        if not self.is_key:
            return None if rng.random() < 0.12 else self.type.literal(rng)
        while True:
            literal = self.type.literal(rng)
            if len(literal) <= _KEY_LITERAL_MAX:
                return literal


@dataclass(slots=True)
class Table:
    """One random table. ``identity`` as in pg_class; tables of identity ``n`` get inserts only."""

    name: sql.Identifier
    plain_name: str
    identity: str
    columns: list[Column]
    generated: set[str] = field(default_factory=set)

    @property
    def is_binary(self) -> bool:
        """True when every column may travel in binary."""
        return all(column.type.is_kernel for column in self.columns)

    @property
    def may_change(self) -> bool:
        """True when UPDATE and DELETE are legal on it once published."""
        return self.identity == "f" or any(column.is_key for column in self.columns)


def make_types(connection: Connection) -> bool:
    """The types `tests.oracle.values` names that are not built in. True when the server has pgvector too."""
    labels = ", ".join("'" + mood.replace("'", "''") + "'" for mood in MOODS)
    for statement in (
        "CREATE EXTENSION citext",
        'CREATE SCHEMA "Ext."',
        'CREATE EXTENSION hstore SCHEMA "Ext."',
        "CREATE EXTENSION ltree",
        f"CREATE TYPE mood AS ENUM ({labels})",
        "CREATE TYPE pair AS (a int4, b text)",
        "CREATE TYPE floatrange AS RANGE (subtype = float8)",
        'CREATE TABLE "Odd.Name" (a int4)',
    ):
        connection.execute(statement.encode())
    if not connection.execute("SELECT FROM pg_available_extensions WHERE name = 'vector'").fetchall():
        return False
    connection.execute("CREATE EXTENSION vector")
    return True


class Worker:
    """Makes the tables of one seed in a schema of its own, and changes them."""

    def __init__(
        self, connection: Connection, schema: str, rng: random.Random, major: int, *, has_vector: bool = False
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._rng = rng
        self._major = major
        self._has_vector = has_vector
        self._serial = 0
        self.tables: list[Table] = []

    def create(self, count: int) -> None:
        """``count`` tables; some have lost columns before they are published, and rows from before."""
        self._run(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self._schema)))
        self._run(sql.SQL("SELECT setseed({})").format(self._rng.random()))
        for _ in range(count):
            self.tables.append(self._table())

    def work(self, transactions: int) -> None:
        """Random transactions: changes of all tables, some rolled back, some in aborted savepoints, some DDL."""
        for _ in range(transactions):
            is_undone = self._rng.random() < 0.1
            with self._connection.transaction(force_rollback=is_undone):
                for _ in range(self._rng.choice([1, 1, 2, 5, 12])):
                    self._change(self._rng.choice(self.tables))
            if self._rng.random() < 0.08:
                self._alter(self._rng.choice(self.tables))

    def _table(self) -> Table:
        rng = self._rng
        self._serial += 1
        plain = rng.choice(["t", "Table ", 'q"', "ta.ble", "größe"]) + str(self._serial)
        identity = rng.choice("dddfffin")
        keys = {"f": rng.choice([0, 0, 1]), "n": 0}.get(identity, rng.choice([1, 1, 2, 3]))
        only_kernels = rng.random() < 0.65
        names = self._column_names(max(keys, rng.choice([1, 2, 3, 5, 8, 13, 30])))
        columns = [Column(name, self._type(only_kernels, is_key=i < keys), i < keys) for i, name in enumerate(names)]
        rng.shuffle(columns)
        table = Table(sql.Identifier(self._schema, plain), plain, identity, columns)
        dropped = [Column(f"dropped {i}", self._type(only_kernels=True)) for i in range(rng.choice([0, 0, 1, 3]))]
        made = columns + dropped
        rng.shuffle(made)
        definitions = [
            sql.SQL("{} {} {}").format(
                sql.Identifier(column.name), _trusted(column.type.sql), sql.SQL("NOT NULL" if column.is_key else "")
            )
            for column in made
        ]
        if rng.random() < 0.15 and identity != "f":
            table.generated.add("computed")
            definitions.append(sql.SQL("computed int4 GENERATED ALWAYS AS (1 + 1) STORED"))
        self._run(sql.SQL("CREATE TABLE {} ({})").format(table.name, sql.SQL(", ").join(definitions)))
        for _ in range(rng.choice([0, 2])):
            self._insert(table)
        for column in dropped:
            self._run(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(table.name, sql.Identifier(column.name)))
        for column in columns:
            if rng.random() < 0.1 and column.type.sql in ("text", "bytea", "jsonb"):
                self._run(
                    sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(
                        table.name, sql.Identifier(column.name)
                    )
                )
        self._identify(table)
        return table

    def _identify(self, table: Table) -> None:
        keys = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns if column.is_key)
        has_keys = any(column.is_key for column in table.columns)
        self._run(sql.SQL("TRUNCATE {}").format(table.name))
        if has_keys and table.identity != "i":
            self._run(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table.name, keys))
        if table.identity == "i":
            index = sql.Identifier(f"identity_{self._serial}")
            self._run(sql.SQL("CREATE UNIQUE INDEX {} ON {} ({})").format(index, table.name, keys))
            self._run(sql.SQL("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}").format(table.name, index))
        elif table.identity in "fn":
            word = sql.SQL("FULL" if table.identity == "f" else "NOTHING")
            self._run(sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(table.name, word))

    def _column_names(self, count: int) -> list[str]:
        names = self._rng.sample(_NAMES, min(count, len(_NAMES)))
        return names + [f"c{i}" for i in range(count - len(names))]

    def _type(self, only_kernels: bool, *, is_key: bool = False) -> ColumnType:
        rng = self._rng
        while True:
            found = rng.choice(scalar_types() if only_kernels or rng.random() < 0.5 else text_types())
            if found in VECTOR_TYPES and not self._has_vector:
                continue
            if found.sql == "numeric" and rng.random() < 0.6:
                found = decimal(rng, self._major)
            if rng.random() < 0.12:
                found = self._domain(found)
            if not is_key and rng.random() < 0.25:
                found = array_of(found)
                if rng.random() < 0.1:
                    found = self._domain(found)
            if found.since <= self._major and (found.is_orderable or not is_key):
                return found

    def _domain(self, like: ColumnType) -> ColumnType:
        if like.since > self._major:
            return like
        self._serial += 1
        name = sql.Identifier(self._schema, f"domain {self._serial}")
        self._run(sql.SQL("CREATE DOMAIN {} AS {}").format(name, _trusted(like.sql)))
        return named(name.as_string(self._connection), like)

    def _change(self, table: Table) -> None:
        roll = self._rng.random()
        try:
            # A savepoint of its own: what fails, or is undone on purpose, leaves the transaction alive.
            with self._connection.transaction(force_rollback=self._rng.random() < 0.05):
                if roll < 0.45 or not table.may_change:
                    self._insert(table)
                elif roll < 0.55:
                    self._insert_made_by_sql(table)
                elif roll < 0.85:
                    self._update(table)
                elif roll < 0.985:
                    self._run(sql.SQL("DELETE FROM {} WHERE ctid = ({})").format(table.name, self._some_row(table)))
                else:
                    self._run(sql.SQL("TRUNCATE {}").format(table.name))
        except _REFUSED:
            pass

    def _insert(self, table: Table) -> None:
        values = sql.SQL(", ").join(sql.Literal(column.value(self._rng)) for column in table.columns)
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        self._run(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table.name, names, values))

    def _insert_made_by_sql(self, table: Table) -> None:
        expressions: list[sql.Composable] = []
        for column in table.columns:
            if column.type.expression:
                expressions.append(_trusted(column.type.expression))
            else:
                expressions.append(sql.Literal(column.value(self._rng)))
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM generate_series(1, {})")
        count = self._rng.choice([1, 3, 20])
        self._run(statement.format(table.name, names, sql.SQL(", ").join(expressions), count))

    def _update(self, table: Table) -> None:
        rng = self._rng
        candidates = [column for column in table.columns if not column.is_key or rng.random() < 0.3]
        chosen = rng.sample(candidates, rng.randint(0, min(3, len(candidates))))
        if chosen:
            sets = [
                sql.SQL("{} = {}").format(sql.Identifier(column.name), sql.Literal(column.value(rng)))
                for column in chosen
            ]
        else:
            same = sql.Identifier(rng.choice(table.columns).name)
            sets = [sql.SQL("{} = {}").format(same, same)]
        statement = sql.SQL("UPDATE {} SET {} WHERE ctid = ({})")
        self._run(statement.format(table.name, sql.SQL(", ").join(sets), self._some_row(table)))

    def _some_row(self, table: Table) -> sql.Composed:
        skip = self._rng.choice([0, 0, 1, 2, 5, 9])
        return sql.SQL("SELECT ctid FROM {} OFFSET {} LIMIT 1").format(table.name, skip)

    def _alter(self, table: Table) -> None:
        """A column more (NULL in the rows there are) or one less; never a key."""
        rng = self._rng
        loose = [column for column in table.columns if not column.is_key]
        if rng.random() < 0.6 or len(table.columns) < 2 or not loose:
            self._serial += 1
            column = Column(f"added {self._serial}", self._type(only_kernels=table.is_binary))
            definition = sql.SQL("{} {}").format(sql.Identifier(column.name), _trusted(column.type.sql))
            self._run(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(table.name, definition))
            table.columns.append(column)
        else:
            column = rng.choice(loose)
            self._run(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(table.name, sql.Identifier(column.name)))
            table.columns.remove(column)

    def _run(self, statement: sql.Composed | sql.SQL) -> None:
        """Values are part of the statement: psycopg looks for placeholders in names too, once there are parameters."""
        self._connection.execute(statement)


def _trusted(text: str) -> sql.SQL:
    """SQL of our own making."""
    return sql.SQL(cast(LiteralString, text))
