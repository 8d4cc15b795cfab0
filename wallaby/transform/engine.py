"""SQL expressions over columns, by DuckDB: which are allowed, what they read, of which type they are, and their values.

An expression is a function of one row and nothing else: no other table, no file, no network, no clock, no chance, no
setting. DuckDB is opened without access to anything outside and with its configuration locked; and before it sees an
expression as SQL, its own parser gives us the tree, of which we know every node: columns of the table, constants,
operators, casts, CASE, and scalar functions DuckDB calls consistent. What is not known is refused. So are times with a
zone: DuckDB moves one to a named zone by that zone's offset of *today*. And so is a numeric that comes as text where it
would be compared as text, or by a cast DuckDB chooses: ``IN (1)`` would be true for 1.4.

A dry run on no rows tells the type. DuckDB's texts about rows are never passed on: they quote values. What it says of a
dry run quotes the expression only.

DuckDB's identifiers are alike when they differ by case only; an expression that reads one of two such columns is
refused by it as ambiguous.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.errors import MissingExtra, Refused
from wallaby.pgtypes.builtin import builtin_type
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.pgtypes.numeric import numeric_typmod
from wallaby.pgtypes.types import arrow_field
from wallaby.schema import Column, PgType, TableSchema, quote_identifier

if TYPE_CHECKING:
    import duckdb

_CONFIG: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "arrow_lossless_conversion": "true",
    "threads": "1",
    "memory_limit": "512MB",
    # Else it would write rows below the directory the process runs in, into files that all processes there share.
    "temp_directory": "",
}
_LOCKED: Final = ("SET TimeZone = 'UTC'", "SET lock_configuration = true")
_NODES: Final = frozenset(
    {"FUNCTION", "COLUMN_REF", "CONSTANT", "CASE", "COMPARISON", "CONJUNCTION", "OPERATOR", "BETWEEN", "CAST"}
)
_MACROS: Final = frozenset(
    {"nullif", "split_part", "array_to_string", "days_in_month", "round_even", "fdiv", "fmod", "date_add"}
)
"""Those of DuckDB's macros that are functions of their arguments."""
_AS_THEY_ARE: Final = frozenset({"OPERATOR_CAST", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"})
"""Nodes to which it does not matter that a numeric comes as text."""
_CLOCKED: Final = "TIME WITH TIME ZONE"
_SURROUNDINGS: Final = re.compile(
    r"(current_|pg_|has_|txid|inet_|json_(de)?serialize|json_execute).*|version|getenv|getvariable|age|alias"
    r"|.*_(privilege|description|visible)|parse_duckdb_log_message|vector_type|__internal_.*|hash"
)
"""Functions that look around, or (``age``) take the clock for a missing argument, whatever DuckDB calls them; its inner
ones, whose answers depend on how rows lie in memory; and ``hash``, which the next release may compute otherwise."""
_TYPES: Final[Mapping[str, int]] = {
    "BOOLEAN": 16,
    "BLOB": 17,
    "TINYINT": 21,
    "UTINYINT": 21,
    "SMALLINT": 21,
    "USMALLINT": 23,
    "INTEGER": 23,
    "UINTEGER": 20,
    "BIGINT": 20,
    "VARCHAR": 25,
    "JSON": 114,
    "FLOAT": 700,
    "DOUBLE": 701,
    "DATE": 1082,
    "TIME": 1083,
    "TIMESTAMP": 1114,
    "TIMESTAMP WITH TIME ZONE": 1184,
    "INTERVAL": 1186,
    "UUID": 2950,
}
"""DuckDB's types and the PostgreSQL type of the column each becomes."""
_ARRAYS: Final[Mapping[int, int]] = {
    16: 1000,
    17: 1001,
    20: 1016,
    21: 1005,
    23: 1007,
    25: 1009,
    700: 1021,
    701: 1022,
    1082: 1182,
    1083: 1183,
    1114: 1115,
    1184: 1185,
    2950: 2951,
}
_NUMERIC: Final = 1700
_DECIMAL: Final = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_DECIMAL_DIGITS_MAX: Final = 38
_EXTENSIONS: Final = {"uuid": b"arrow.uuid", "json": b"arrow.json", "jsonb": b"arrow.json"}
_YEARS: Final = (np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us"))
_DAY_US: Final = 86_400_000_000


class NotAnExpression(ValueError):
    """Why a text is no expression over a table's row; never holds a value of a row."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression over one version of a table."""

    sql: str
    reads: tuple[int, ...]
    """The columns it reads."""
    type: PgType
    typmod: int


class Engine:
    """One in-memory DuckDB that sees nothing but the columns it is given. Belongs to one thread."""

    def __init__(self) -> None:
        """`MissingExtra` when DuckDB is not installed."""
        try:
            import duckdb
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "where and computed_columns need duckdb", advice='Run: pip install "wallaby[duckdb]"'
            ) from error
        self._connection = duckdb.connect(":memory:", config=_CONFIG)
        for statement in _LOCKED:
            self._connection.execute(statement)
        self._error = duckdb.Error
        self._functions = frozenset(self._known_functions(self._connection)) | _MACROS

    def compiled(self, schema: TableSchema, sql: str) -> Expression:
        """The expression over rows of ``schema``. `NotAnExpression` says why there is none."""
        reads = self.reads(schema, sql)
        try:
            with _Given(self._connection, schema, reads, None):
                [described] = self._connection.execute(f"DESCRIBE {_query(schema, reads, [sql])}").fetchall()
        except self._error as error:
            raise NotAnExpression(_first_line(error)) from None
        pg_type, typmod = _pg_type(described[1])
        return Expression(sql, reads, pg_type, typmod)

    def values(
        self, schema: TableSchema, expressions: Sequence[Expression], columns: Sequence[pa.Array], *, rows: int
    ) -> list[pa.Array]:
        """The value of each expression in each row, as an array of its column's type; ``columns`` are all of the rows'.

        `Refused` when a row has none: a cast that fails, a number out of range, a date beyond the years 1 to 9999.
        """
        reads = tuple(sorted({i for expression in expressions for i in expression.reads}))
        try:
            with _Given(self._connection, schema, reads, (columns, rows)):
                query = _query(schema, reads, [expression.sql for expression in expressions])
                found = self._connection.execute(query).to_arrow_table()
        except self._error as error:
            # Without a cause on purpose: DuckDB's text may quote a row.
            raise _unfit(schema, type(error).__name__) from None
        assert found.num_rows == rows, (found.num_rows, rows)
        return [_as_column(schema, e, found.column(k).combine_chunks()) for k, e in enumerate(expressions)]

    def reads(self, schema: TableSchema, sql: str) -> tuple[int, ...]:
        """The columns of ``schema`` that an expression reads. `NotAnExpression` says why it is none."""
        answer = self._connection.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{sql}\n) FROM t"]).fetchone()
        assert answer is not None, "no answer"
        tree = json.loads(answer[0])
        if tree["error"]:
            raise NotAnExpression(str(tree.get("error_message", "is no SQL")).splitlines()[0])
        if len(tree["statements"]) != 1:
            raise NotAnExpression("must be one expression")
        node = tree["statements"][0]["node"]
        if node["type"] != "SELECT_NODE" or len(node["select_list"]) != 1:
            raise NotAnExpression("must be one expression")
        found: set[int] = set()
        for inner, parent in _nodes(node["select_list"]):
            match inner["class"]:
                case "COLUMN_REF":
                    i = _column(schema, inner["column_names"])
                    if parent is not None and parent["type"] not in _AS_THEY_ARE:
                        _require_no_text_of_numeric(schema.columns[i])
                    found.add(i)
                case "FUNCTION":
                    self._require_function(inner["function_name"].lower())
                case "CAST" if _CLOCKED in json.dumps(inner["cast_type"]):
                    raise NotAnExpression(f"must hold no {_CLOCKED}: what it is in another zone depends on the clock")
                case "LAMBDA":
                    raise NotAnExpression("must hold no ->, which may be a lambda: write json_extract(…, '$.name')")
                case kind if kind not in _NODES:
                    raise NotAnExpression(f"must be made of columns, constants, operators and functions; {kind} is not")
        return tuple(sorted(found))

    def _require_function(self, name: str) -> None:
        if name not in self._functions:
            raise NotAnExpression(f"function {name} is not known here, or is no function of its arguments alone")

    @staticmethod
    def _known_functions(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
        rows = connection.execute(
            "SELECT lower(function_name) FROM duckdb_functions() WHERE function_type = 'scalar'"
            " GROUP BY 1 HAVING bool_and(coalesce(stability = 'CONSISTENT', false))"
        ).fetchall()
        return (name for (name,) in rows if not _SURROUNDINGS.fullmatch(name))


class _Given:
    """The columns an expression reads, under the name ``given`` for as long as it is evaluated."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: TableSchema,
        reads: Sequence[int],
        content: tuple[Sequence[pa.Array], int] | None,
    ) -> None:
        self._connection = connection
        fields = [arrow_field(schema.columns[i]) for i in reads]
        columns, rows = content or ([], 0)
        arrays = [columns[i] if content else pa.nulls(0, f.type) for i, f in zip(reads, fields, strict=True)]
        pairs = [_scanned(f"c{i}", f, array) for i, f, array in zip(reads, fields, arrays, strict=True)]
        pairs.append((pa.field("n", pa.int64()), pa.array(np.arange(rows))))
        self._table = pa.Table.from_arrays([array for _, array in pairs], schema=pa.schema([f for f, _ in pairs]))

    def __enter__(self) -> None:
        self._connection.register("given", self._table)

    def __exit__(self, *_: object) -> None:
        self._connection.unregister("given")


def _query(schema: TableSchema, reads: Sequence[int], expressions: Sequence[str]) -> str:
    # ``n`` gives the table its rows where no expression reads a column.
    given = ", ".join(f"c{i} AS {quote_identifier(schema.columns[i].name)}" for i in reads)
    chosen = ", ".join(f"(\n{sql}\n) AS v{k}" for k, sql in enumerate(expressions))
    return f"SELECT {chosen} FROM (SELECT {given or 'n'} FROM given) AS t"


def _scanned(name: str, field: pa.Field, array: pa.Array) -> tuple[pa.Field, pa.Array]:
    if pa.types.is_decimal(array.type) and array.type.precision > _DECIMAL_DIGITS_MAX:
        array = value_texts(array)
    marked = _EXTENSIONS.get((field.metadata or {}).get(b"wallaby.type", b"").decode())
    metadata = {b"ARROW:extension:name": marked, b"ARROW:extension:metadata": b""} if marked else None
    is_scalar = not pa.types.is_nested(array.type)
    return pa.field(name, array.type, metadata=metadata if is_scalar else None), array


def _nodes(tree: Any, parent: dict[str, Any] | None = None) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Each node of the tree, and the one it is in."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree, parent
            parent = tree
        for inner in tree.values():
            yield from _nodes(inner, parent)
    elif isinstance(tree, list):
        for inner in tree:
            yield from _nodes(inner, parent)


def _require_no_text_of_numeric(column: Column) -> None:
    layout = layout_of(column.type, column.typmod)
    if layout.family is Family.NUMERIC_TEXT or (
        layout.family is Family.DECIMAL and layout.precision > _DECIMAL_DIGITS_MAX
    ):
        raise NotAnExpression(
            f"{column.name} comes as text and is to be cast, for example {column.name}::DECIMAL(38,9)"
        )


def _column(schema: TableSchema, names: Sequence[str]) -> int:
    if len(names) > 1:
        raise NotAnExpression(f"must name a column alone: {names[-1]}, not {'.'.join(names)}")
    exact = [i for i, column in enumerate(schema.columns) if column.name == names[0]]
    alike = exact or [i for i, column in enumerate(schema.columns) if column.name.lower() == names[0].lower()]
    if len(alike) != 1:
        raise NotAnExpression(f"there is no column {names[0]}" if not alike else f"{names[0]} is more than one column")
    return alike[0]


def _pg_type(word: str) -> tuple[PgType, int]:
    element = word.removesuffix("[]")
    typmod = -1
    decimal = _DECIMAL.fullmatch(element)
    if decimal and element == word:
        oid, typmod = _NUMERIC, numeric_typmod(int(decimal[1]), int(decimal[2]))
    elif element in _TYPES and (element == word or _TYPES[element] in _ARRAYS):
        oid = _TYPES[element] if element == word else _ARRAYS[_TYPES[element]]
    else:
        raise NotAnExpression(f"its type is {word}, which no column can have: cast it, for example to VARCHAR")
    found = builtin_type(oid)
    assert found is not None, oid
    return found, typmod


def _as_column(schema: TableSchema, expression: Expression, values: pa.Array) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    wanted = layout_of(expression.type, expression.typmod).arrow
    _require_held(schema, values.values if pa.types.is_list(values.type) else values)
    return values if values.type == wanted else values.cast(wanted)


def _require_held(schema: TableSchema, values: pa.Array) -> None:
    """Dates without end and a time of 24:00:00 are numbers to Arrow that mean nothing there."""
    kind = values.type
    if pa.types.is_date32(kind):
        low, high = (moment.astype("datetime64[D]").astype(np.int32) for moment in _YEARS)
        numbers = values.view(pa.int32())
    elif pa.types.is_timestamp(kind):
        low, high = (moment.astype(np.int64) for moment in _YEARS)
        numbers = values.view(pa.int64())
    elif pa.types.is_time64(kind):
        low, high, numbers = 0, _DAY_US - 1, values.view(pa.int64())
    else:
        return
    held = pc.and_(pc.greater_equal(numbers, int(low)), pc.less_equal(numbers, int(high)))
    if not pc.all(held, min_count=0).as_py():
        raise _unfit(schema, "a date or time beyond what a column holds")


def _unfit(schema: TableSchema, why: str) -> Refused:
    return Refused(
        f"an expression of where or computed_columns has no value for a row: {why}",
        advice="Let it answer null instead: try(…), try_cast(… AS …), or a CASE before it",
        table=schema.name,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def computed_column(name: str, expression: Expression, *, is_key: bool) -> Column:
    """The column of a table that ``expression`` fills."""
    return Column(name, expression.type, typmod=expression.typmod, is_key=is_key)


__all__ = ["Engine", "Expression", "NotAnExpression", "computed_column"]
