"""Prove that destinations hold what the source holds: by content hash, table by table, at one LSN.

The source's side is independent of wallaby: ``COPY … TO STDOUT (FORMAT csv)`` in one repeatable-read transaction with
fixed settings, read by Arrow's CSV reader as text. A PostgreSQL destination is read the same way; Arrow values of the
others are laid out as PostgreSQL prints them (`cluster.demo.rendering`). Rows become self-delimiting texts, which are
sorted and hashed: equal hashes mean the same rows, the same number of times, to the last digit. Order plays no part.

Nothing may write to the source between the transaction's snapshot and the end of the reading of the destinations, and
every lane must have passed `SourceContent.lsn`; both are the caller's to see to.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql
from rich.table import Table
from rich.text import Text

from cluster.demo.rendering import postgres_text, uniform_floats
from cluster.demo.shop import TABLES
from wallaby.errors import CheckFailed, MissingExtra, SourceUnavailable, WallabyError
from wallaby.lsn import Lsn
from wallaby.schema import TableName, TableSchema, quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS: Final = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "row_security": "off",
    "search_path": "pg_catalog",
}
_CSV_BLOCK_BYTES: Final = 1 << 30
"""A row must fit into one block of the CSV reader."""
_HASH_SHOWN: Final = 12
_ATTACHED: Final = "destination"
"""DuckDB names a file's catalog after the file; a schema of the same name would make ``schema.table`` ambiguous."""
_FLOATS: Final = {
    "float4": (pa.float32(), False),
    "float8": (pa.float64(), False),
    "_float4": (pa.float32(), True),
    "_float8": (pa.float64(), True),
}


@dataclass(frozen=True, slots=True)
class TableContent:
    """All rows of one table: a hash over them, and their texts in sorted order."""

    hash: str
    texts: pa.Array

    @property
    def rows(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class SourceContent:
    """The source at one moment. Whatever committed before ``lsn`` is in it."""

    lsn: Lsn
    columns: Mapping[TableName, tuple[str, ...]]
    tables: Mapping[TableName, TableContent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One table in one destination against the source."""

    lsn: Lsn
    table: TableName
    destination: str
    source_hash: str
    destination_hash: str
    """Empty when the destination's table could not be read."""
    source_rows: int
    destination_rows: int
    detail: str = ""
    """Why it is not equal, in counts; empty when it is."""

    @property
    def equal(self) -> bool:
        return self.source_hash == self.destination_hash and self.source_rows == self.destination_rows


class Stage(Protocol):
    """Where the demonstration's databases and files are."""

    @property
    def shop_dsn(self) -> str: ...

    @property
    def copy_dsn(self) -> str: ...

    @property
    def duckdb_file(self) -> Path: ...

    @property
    def parquet_directory(self) -> Path: ...


class Contents(Protocol):
    """A destination that can be read back."""

    name: str

    def read(self, table: TableName, columns: tuple[str, ...]) -> pa.Table:
        """Those columns as PostgreSQL's text (large_string), in that order. `CheckFailed` when they cannot be read."""
        ...


def read_source(dsn: str, tables: Sequence[TableName]) -> SourceContent:
    """Every table in one repeatable-read transaction."""
    with _transaction(dsn) as connection:
        [(lsn,)] = connection.execute("SELECT pg_catalog.pg_current_wal_lsn()::text").fetchall()
        columns = {table: tuple(_columns(connection, table)) for table in tables}
        contents = {table: content(_copy_out(connection, table, columns[table])) for table in tables}
    return SourceContent(Lsn.parse(lsn), columns, contents)


def prove(stage: Stage) -> list[Verdict]:
    """The demonstration's shop against its three destinations. The DuckDB file must be closed by its writer."""
    source = read_source(stage.shop_dsn, TABLES)
    destinations = (
        PostgresContents("postgres", stage.copy_dsn),
        DuckDBContents("duckdb", stage.duckdb_file),
        LogContents("parquet", stage.parquet_directory, published_schemas(stage.shop_dsn)),
    )
    return compare(source, destinations)


def compare(source: SourceContent, destinations: Sequence[Contents]) -> list[Verdict]:
    """One verdict per table and destination, tables in the source's order. Unreadable means not equal."""
    return [_verdict(source, table, destination) for table in source.tables for destination in destinations]


def content(rows: pa.Table) -> TableContent:
    """Hash rows of text columns (null for NULL). Column names count, row order does not."""
    texts = _row_texts(rows)
    texts = texts.take(pc.sort_indices(texts))
    digest = hashlib.sha256(json.dumps([rows.column_names, len(texts)]).encode())
    if len(texts):
        digest.update(texts.buffers()[2])
    return TableContent(digest.hexdigest(), texts)


def is_proven(verdicts: Sequence[Verdict]) -> bool:
    """True when there are verdicts and all say equal: no verdicts are no proof."""
    return bool(verdicts) and all(verdict.equal for verdict in verdicts)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """For people: a line per table, a column per destination."""
    destinations = list(dict.fromkeys(verdict.destination for verdict in verdicts))
    at = "".join(sorted({f" at {verdict.lsn}" for verdict in verdicts}))
    table = Table(title=f"{'equal' if is_proven(verdicts) else 'NOT equal'} by content hash{at}")
    table.add_column("table", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("source hash", no_wrap=True)
    for destination in destinations:
        table.add_column(Text(destination))
    by_table: dict[TableName, dict[str, Verdict]] = {}
    for verdict in verdicts:
        by_table.setdefault(verdict.table, {})[verdict.destination] = verdict
    for name, found in by_table.items():
        first = next(iter(found.values()))
        cells = [_cell(found[destination]) if destination in found else Text("") for destination in destinations]
        table.add_row(str(name), f"{first.source_rows:,}", first.source_hash[:_HASH_SHOWN], *cells)
    return table


def verdicts_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """For machines."""
    return {
        "lsn": str(verdicts[0].lsn) if verdicts else None,
        "equal": is_proven(verdicts),
        "verdicts": [
            {
                "table": str(verdict.table),
                "destination": verdict.destination,
                "equal": verdict.equal,
                "source_hash": verdict.source_hash,
                "destination_hash": verdict.destination_hash,
                "source_rows": verdict.source_rows,
                "destination_rows": verdict.destination_rows,
                "detail": verdict.detail,
            }
            for verdict in verdicts
        ],
    }


class PostgresContents:
    """A PostgreSQL destination; ``schema`` where all targets live in one schema of another name."""

    def __init__(self, name: str, dsn: str, *, schema: str | None = None) -> None:
        self.name = name
        self._dsn = dsn
        self._schema = schema

    def read(self, table: TableName, columns: tuple[str, ...]) -> pa.Table:
        target = TableName(self._schema or table.schema, table.name)
        with _transaction(self._dsn) as connection:
            missing = set(columns) - set(_columns(connection, target))
            if missing:
                raise _missing_columns(missing)
            return _copy_out(connection, target, columns)


class DuckDBContents:
    """A DuckDB file, opened read-only; no other process may have it open for writing."""

    def __init__(self, name: str, path: str | Path, *, schema: str | None = None) -> None:
        self.name = name
        self._path = Path(path)
        self._schema = schema

    def read(self, table: TableName, columns: tuple[str, ...]) -> pa.Table:
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtra("duckdb is not installed", advice='Run: pip install "wallaby[duckdb]"') from error
        path = str(self._path).replace("'", "''")
        target = f"{_ATTACHED}.{quote_identifier(self._schema or table.schema)}.{quote_identifier(table.name)}"
        selected = ", ".join(quote_identifier(column) for column in columns)
        try:
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute(f"ATTACH '{path}' AS {_ATTACHED} (READ_ONLY)")
                rows = connection.execute(f"SELECT {selected} FROM {target}").to_arrow_table()
        except duckdb.Error as error:
            raise CheckFailed(f"DuckDB refused to read the table ({type(error).__name__})") from error
        return _as_texts(rows, columns)


class LogContents:
    """Append logs (Parquet files): the state a table has is derived from all its log rows."""

    def __init__(self, name: str, directory: str | Path, schemas: Mapping[TableName, TableSchema]) -> None:
        self.name = name
        self._directory = Path(directory)
        self._schemas = schemas

    def read(self, table: TableName, columns: tuple[str, ...]) -> pa.Table:
        from sinks.files.reader import read_log
        from wallaby.transform.state import derive_state

        log = read_log(self._directory, table.schema, table.name)
        return _as_texts(derive_state(self._schemas[table], log), columns)


def published_schemas(dsn: str) -> dict[TableName, TableSchema]:
    """The shapes of all tables that any publication of the database sends."""
    from wallaby.postgres.catalog import Catalog

    with _transaction(dsn) as connection:
        publications = connection.execute("SELECT pubname FROM pg_catalog.pg_publication ORDER BY 1").fetchall()
    catalog = Catalog(dsn, application_name="wallaby-proof")
    try:
        return {schema.name: schema for schema in catalog.published_tables([name for (name,) in publications])}
    finally:
        catalog.close()


@contextmanager
def _transaction(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A read-only repeatable-read transaction under the fixed settings."""
    try:
        with psycopg.connect(dsn, autocommit=True, application_name="wallaby-proof") as connection:
            for name, value in _SETTINGS.items():
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
            connection.execute("SET client_encoding = 'UTF8'")
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                yield connection
    except psycopg.OperationalError as error:
        raise SourceUnavailable("a database to be compared cannot be read") from error
    except psycopg.Error as error:
        raise CheckFailed(f"PostgreSQL refused to read the table ({type(error).__name__})") from error


def _columns(connection: psycopg.Connection[Any], table: TableName) -> dict[str, str]:
    """Columns in order with their type's name, without generated ones (they are not replicated)."""
    rows = connection.execute(
        "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
        " ORDER BY a.attnum",
        (table.schema, table.name),
    ).fetchall()
    return dict(rows)


def _copy_out(connection: psycopg.Connection[Any], table: TableName, columns: tuple[str, ...]) -> pa.Table:
    """The table's rows as PostgreSQL prints them, large_string columns."""
    if not columns:
        raise CheckFailed("there is no such table")
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table.schema, table.name)
    )
    data = io.BytesIO()
    with connection.cursor().copy(query) as copy:
        for block in copy:
            data.write(block)
    names = [str(i) for i in range(len(columns))]
    if not data.tell():
        return pa.table({name: pa.array([], pa.large_string()) for name in names}).rename_columns(list(columns))
    data.seek(0)
    rows = pyarrow.csv.read_csv(
        data,
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return _uniform(rows.rename_columns(list(columns)), _columns(connection, table))


def _uniform(rows: pa.Table, types: Mapping[str, str]) -> pa.Table:
    """Floats as one text per value; all else as PostgreSQL printed it."""
    for i, name in enumerate(rows.column_names):
        if types[name] in _FLOATS:
            kind, is_array = _FLOATS[types[name]]
            texts = uniform_floats(rows.column(i).combine_chunks(), kind, is_array=is_array)
            rows = rows.set_column(i, name, texts)
    return rows


def _as_texts(rows: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    missing = set(columns) - set(rows.column_names)
    if missing:
        raise _missing_columns(missing)
    try:
        return pa.table({column: postgres_text(rows.column(column)) for column in columns})
    except (TypeError, pa.ArrowException) as error:
        raise CheckFailed(f"a value has no PostgreSQL text ({type(error).__name__})") from error


def _missing_columns(missing: set[str]) -> CheckFailed:
    return CheckFailed(f"columns are missing: {', '.join(sorted(missing))}")


def _row_texts(rows: pa.Table) -> pa.Array:
    """One self-delimiting text per row: per cell ``n`` for NULL, else its length in bytes, a colon, and the text."""
    columns = [rows.column(i).combine_chunks().cast(pa.large_string()) for i in range(rows.num_columns)]
    cells = [
        pc.fill_null(
            pc.binary_join_element_wise(pc.binary_length(values).cast(pa.large_string()), values, _large(":")), "n"
        )
        for values in columns
    ]
    texts = pc.binary_join_element_wise(*cells, _large(""))
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def _large(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _verdict(source: SourceContent, table: TableName, destination: Contents) -> Verdict:
    expected = source.tables[table]
    found: TableContent | None = None
    detail = ""
    try:
        found = content(destination.read(table, source.columns[table]))
    except WallabyError as error:
        detail = error.message
    if found is not None and found.hash != expected.hash:
        lost = _absent(expected.texts, found.texts)
        alien = _absent(found.texts, expected.texts)
        detail = f"{lost:,} distinct rows only at the source, {alien:,} only here"
        if not lost and not alien:
            detail = "the same rows, but not the same number of times"
    return Verdict(
        lsn=source.lsn,
        table=table,
        destination=destination.name,
        source_hash=expected.hash,
        destination_hash=found.hash if found is not None else "",
        source_rows=expected.rows,
        destination_rows=found.rows if found is not None else 0,
        detail=detail,
    )


def _absent(texts: pa.Array, others: pa.Array) -> int:
    """How many distinct texts are not among the others."""
    return int(pc.sum(pc.invert(pc.is_in(texts.unique(), value_set=others))).as_py() or 0)


def _cell(verdict: Verdict) -> Text:
    if verdict.equal:
        return Text("equal", style="green")
    return Text(f"DIFFERENT: {verdict.detail or f'{verdict.destination_rows:,} rows'}", style="bold red")
