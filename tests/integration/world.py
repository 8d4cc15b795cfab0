"""A whole flow in this process: a real source, copy and stream, destinations in memory or real ones, compared by hash.

Scenarios say what happens at the source, in SQL, and then ask for equality. The source's side of the comparison is
PostgreSQL's own text of a query, read with fixed settings and nothing of wallaby in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from cluster.demo.proof import DuckDBContents, LogContents
from cluster.demo.rendering import postgres_text, uniform_floats
from sinks.delta.store import encode_name
from sinks.iceberg.reader import history_rows
from tests.integration.epoch import Epoch, Ledger, real_sink
from tests.sinks.iceberg.lake import Lake
from wallaby.content import canonical_hash, row_texts
from wallaby.flow import FlowSpec
from wallaby.flow.transforms import TransformOptions
from wallaby.lsn import Lsn
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.slot import drop_slot
from wallaby.schema import TableName, TableSchema, quote_identifier
from wallaby.settings import Limits
from wallaby.sink import Sink, WriteMode
from wallaby.startup import RememberedFacts
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.testing.postgres import ScratchDatabase
from wallaby.transform.stage import Stage
from wallaby.transform.state import derive_state
from wallaby.transformed import TransformedSink
from wallaby.versions import VersionColumns
from wallaby.window import OUTLIER_TYPE

PUBLICATION: Final = "p"
MEMORY: Final = ("mirror", "log")
"""Destinations without a disk: the tables themselves, and every change as a row."""
_TYPES: Final = {"history": "iceberg"}
"""Destinations that are called otherwise than their type."""
_LIMITS: Final = Limits(checkpoint_interval_ms=1, idle_checkpoint_interval_ms=20)
_SETTINGS: Final = (
    "-c DateStyle=ISO,YMD -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=1"
    " -c row_security=off -c search_path=pg_catalog"
)
_FLOATS: Final = {700: pa.float32(), 701: pa.float64()}


@dataclass
class World:
    """What outlives an epoch: source, destinations and the control store's facts."""

    database: ScratchDatabase
    major: int
    folder: Path
    target_dsn: str = ""
    """Where the destination ``postgres`` is, if the scenario has it."""
    ledger: Ledger = field(default_factory=Ledger)
    mirror: MemoryDestination = field(default_factory=MemoryDestination)
    log: MemoryDestination = field(default_factory=MemoryDestination)
    destinations: tuple[str, ...] = MEMORY
    source_options: dict[str, Any] = field(default_factory=dict)
    target_options: dict[str, Any] = field(default_factory=dict)
    """Of the destination ``postgres``."""
    transforms: dict[str, Any] = field(default_factory=dict)
    """Options of every destination."""
    epoch: int = 0
    _running: Epoch | None = None

    @property
    def facts(self) -> RememberedFacts:
        """What the control store knows by now."""
        return self.ledger.facts

    # -- what a scenario says -----------------------------------------------------------------------------------------

    def needs(self, major: int, what: str) -> None:
        """Skip the scenario on an older server, which lacks ``what``."""
        if self.major < major:
            pytest.skip(f"PostgreSQL {self.major} has no {what}")

    def execute(self, *statements: str) -> None:
        """Each statement in a transaction of its own (one text with semicolons is one transaction)."""
        self.database.execute(*statements)

    def start(self, *, resnapshot: bool = False) -> None:
        """A new epoch; copies if that has not been done or is asked for, and returns when it streams."""
        self._begin(resnapshot=resnapshot).until_streaming()

    def stop(self) -> None:
        """Drain and end the epoch, if one runs; raises what it failed of."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def caught_up(self) -> None:
        """Wait until all that the source has committed is durable in every destination."""
        assert self._running is not None, "no epoch runs"
        [(written,)] = self.database.fetch("SELECT pg_current_wal_lsn()::text")
        self._running.until_durable(Lsn.parse(written))

    def start_and_fail(self, *, resnapshot: bool = False) -> BaseException:
        """A new epoch that ends by an error, which is returned."""
        self._begin(resnapshot=resnapshot)
        return self.failure()

    def failure(self) -> BaseException:
        """Wait for the epoch to end by an error, and return it."""
        running, self._running = self._running, None
        assert running is not None, "no epoch runs"
        return running.failure()

    def require_equal(self, *tables: str | Content, only: Sequence[str] | None = None) -> None:
        """Source and destinations (``only`` these) hold the same, by content hash, once the stream has caught up."""
        if self._running is not None:
            self.caught_up()
        if "duckdb" in self.destinations:
            self.stop()  # its file belongs to the writer while that runs
        for table in tables:
            content = table if isinstance(table, Content) else Content(table)
            columns = content.columns or self._plain_columns(content.name)
            expected = self._source_rows(content, columns)
            for destination in self.destinations if only is None else only:
                found = self._read(destination, content.name, columns)
                if canonical_hash(found) != canonical_hash(expected):
                    raise AssertionError(f"{content.name} in {destination}: {_difference(expected, found)}")

    def moment(self, table: str) -> Moment:
        """The source's table as it is now, and how far its WAL is written."""
        content = Content(table)
        columns = self._plain_columns(content.name)
        rows = self._source_rows(content, columns)
        [(written,)] = self.database.fetch("SELECT pg_current_wal_lsn()::text")
        return Moment(content.name, columns, Lsn.parse(written), rows)

    def rename_history(self, table: str, name: str) -> None:
        """Put the target of the destination ``history`` away under another name."""
        with closing(Lake(self.folder)) as lake:
            lake.catalog.rename_table(("public", table), ("public", name))

    def require_history(self, *moments: Moment) -> None:
        """The destination ``history`` knows its tables as they were at ``moments``, by content hash."""
        if self._running is not None:
            self.caught_up()
        for moment in moments:
            rows = self._versions(moment.table)
            lsn = pa.scalar(int(moment.lsn), pa.uint64())
            is_begun = pc.less_equal(rows["valid_from_lsn"], lsn)
            is_held = pc.fill_null(pc.greater(rows["valid_to_lsn"], lsn), True)
            found = _current(rows.filter(pc.and_(is_begun, is_held)), moment.columns)
            if canonical_hash(found) != canonical_hash(moment.rows):
                raise AssertionError(f"{moment.table} as of {moment.lsn}: {_difference(moment.rows, found)}")

    def mirror_rows(self, table: str) -> list[dict[str, Any]]:
        """The mirror's rows of a table of schema public, with ``__outliers``."""
        rows: list[dict[str, Any]] = self.mirror.targets[TableName("public", table)].rows.to_pylist()
        return rows

    def logged(self, table: str) -> list[dict[str, Any]]:
        """The log's rows of a table of schema public, in stream order; a change that is there twice fails."""
        rows: list[dict[str, Any]] = self.log.targets[TableName("public", table)].rows.to_pylist()
        places = [(row["__commit_lsn"], row["__ordinal"], row["__op"]) for row in rows if row["__op"] != "r"]
        assert len(set(places)) == len(places), "a change was logged twice"
        return rows

    def tables(self) -> set[str]:
        """The tables the mirror has."""
        return {str(name) for name in self.mirror.targets}

    @property
    def phase(self) -> str:
        """Where the running epoch is."""
        assert self._running is not None, "no epoch runs"
        return self._running.phase

    def close(self) -> None:
        """End what runs, whatever it says, and remove the slot."""
        if self._running is not None:
            self._running.abandon()
            self._running = None
        if self.database.server.is_running and self.database.slots():
            drop_slot(self.database.dsn, self.database.name)

    def _begin(self, *, resnapshot: bool = False) -> Epoch:
        assert self._running is None, "an epoch runs"
        self.epoch += 1
        self._running = Epoch(
            self._flow(),
            self.ledger,
            self.epoch,
            sink=self.sink,
            limits=_LIMITS,
            commits_at_once=True,
            resnapshot=resnapshot,
        )
        return self._running

    # -- destinations -------------------------------------------------------------------------------------------------

    def _flow(self) -> FlowSpec:
        options = {
            "dsn": self.database.dsn,
            "slot": self.database.name,
            "publication": PUBLICATION,
            "ensure_publication": False,
            "status_interval": "200ms",
        }
        real: dict[str, dict[str, Any]] = {
            "postgres": {"dsn": self.target_dsn} | self.target_options,
            "duckdb": {"dsn": str(self.folder / "lake.duckdb")},
            "files": {"path": str(self.folder / "parquet"), "fsync": False},
            "delta": {"path": str(self.folder / "delta"), "commit_interval": "0s"},
            "history": Lake(self.folder).options(write_mode="history", commit_interval="0s"),
        }
        return FlowSpec.from_mapping(
            {
                "id": "scenario",
                "source": {"type": "postgres", "options": options | self.source_options},
                "destinations": [
                    {"name": name, "type": _TYPES.get(name, name), "options": real[name] | self.transforms}
                    if name in real
                    else {"name": name, "type": "blackhole", "options": self.transforms}
                    for name in self.destinations
                ],
            }
        )

    def sink(self, flow: FlowSpec, name: str) -> Sink:
        """A sink on the destination of this name."""
        if name == "mirror":
            return self._transformed(MemorySink(self.mirror), WriteMode.MIRROR)
        if name == "log":
            return self._transformed(MemorySink(self.log, mode=WriteMode.APPEND), WriteMode.APPEND)
        if name in ("files", "delta"):
            [endpoint] = [destination for destination in flow.destinations if destination.name == name]
            Path(endpoint.options["path"]).mkdir(exist_ok=True)
        return real_sink(flow, name)

    def _transformed(self, sink: Sink, mode: WriteMode) -> Sink:
        return TransformedSink(sink, Stage(TransformOptions.of(self.transforms, mode=mode), mode))

    def _read(self, destination: str, table: TableName, columns: tuple[str, ...]) -> pa.Table:
        match destination:
            case "mirror":
                assert table in self.mirror.targets, f"the mirror has no {table}"
                rows = self.mirror.targets[table].rows
                assert sorted(rows.column_names[:-1]) == sorted(columns), "the mirror has other columns"
                return _as_texts(rows, columns)
            case "log":
                assert table in self.log.targets, f"the log has no {table}"
                rows = derive_state(self._schemas()[table], self.log.targets[table].rows)
                return _as_texts(rows, columns)
            case "postgres":
                return _query(self.target_dsn, _select(table, columns))
            case "duckdb":
                return DuckDBContents("duckdb", self.folder / "lake.duckdb").read(table, columns)
            case "delta":
                path = self.folder / "delta" / encode_name(table.schema) / encode_name(table.name)
                rows = DeltaTable(str(path)).to_pyarrow_table()
                return _as_texts(rows.append_column("__outliers", pa.nulls(len(rows), OUTLIER_TYPE)), columns)
            case "history":
                rows = self._versions(table)
                return _current(rows.filter(pc.field("is_current")), columns)
            case _:
                return LogContents("files", self.folder / "parquet", self._schemas()).read(table, columns)

    def _versions(self, table: TableName) -> pa.Table:
        """The rows of the Iceberg table with the history of ``table``."""
        with closing(Lake(self.folder)) as lake:
            found = lake.catalog.load_table((table.schema, table.name))
            return history_rows(found, self._schemas()[table], VersionColumns())

    def _schemas(self) -> dict[TableName, TableSchema]:
        catalog = Catalog(self.database.dsn, application_name="test")
        try:
            return {schema.name: schema for schema in catalog.published_tables([PUBLICATION])}
        finally:
            catalog.close()

    # -- the source ---------------------------------------------------------------------------------------------------

    def _plain_columns(self, table: TableName) -> tuple[str, ...]:
        with self.database.connect() as connection:
            rows = connection.execute(
                "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
                " AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
                (table.schema, table.name),
            ).fetchall()
        return tuple(name for (name,) in rows)

    def _source_rows(self, content: Content, columns: tuple[str, ...]) -> pa.Table:
        return _query(self.database.dsn, content.query or _select(content.name, columns, content.where))


@dataclass(frozen=True, slots=True)
class Moment:
    """What a table held when the source's WAL was written up to ``lsn``."""

    table: TableName
    columns: tuple[str, ...]
    lsn: Lsn
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class Content:
    """What a destination's ``table`` must hold: ``columns`` (default: all not generated) of the rows ``where``.

    ``query`` is for content that is not one table's at the source; its columns come in the order of ``columns``.
    """

    table: str
    columns: tuple[str, ...] = ()
    where: str = ""
    schema: str = "public"
    query: str = ""

    @property
    def name(self) -> TableName:
        return TableName(self.schema, self.table)


def _select(table: TableName, columns: Sequence[str], where: str = "") -> str:
    listed = ", ".join(map(quote_identifier, columns))
    condition = f" WHERE {where}" if where else ""
    return f"SELECT {listed} FROM {quote_identifier(table.schema)}.{quote_identifier(table.name)}{condition}"


def _query(dsn: str, query: str) -> pa.Table:
    """The rows of a query as PostgreSQL prints them: large_string columns."""
    with psycopg.connect(dsn, autocommit=True, options=_SETTINGS, client_encoding="UTF8") as connection:
        result = connection.execute(query.encode()).pgresult
        assert result is not None, "a query has a result"
        columns: dict[str, pa.Array] = {}
        for i in range(result.nfields):
            cells = [result.get_value(row, i) for row in range(result.ntuples)]
            texts = pa.array([None if cell is None else cell.decode() for cell in cells], pa.large_string())
            if (kind := _FLOATS.get(result.ftype(i))) is not None:
                texts = uniform_floats(texts, kind, is_array=False)
            name = result.fname(i)
            assert name is not None, "every column has a name"
            columns[name.decode()] = texts
        return pa.table(columns) if columns else _nameless(result.ntuples)


def _current(versions: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Rows of a history as PostgreSQL prints them."""
    return _as_texts(versions.append_column("__outliers", pa.nulls(len(versions), OUTLIER_TYPE)), columns)


def _as_texts(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Rows of a sink (last column ``__outliers``) as PostgreSQL prints them."""
    if not columns:
        return _nameless(len(rows))
    outliers = rows.column(rows.num_columns - 1).combine_chunks()
    at_row = pc.list_parent_indices(outliers).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(outliers)
    of_column = flat.field(0).to_numpy(zero_copy_only=False)
    found: dict[str, pa.Array] = {}
    for i, name in enumerate(rows.column_names[:-1]):
        texts = postgres_text(rows.column(i))
        if (of_column == i).any():
            mask = np.zeros(len(rows), np.bool_)
            mask[at_row[of_column == i]] = True
            replacements = flat.field(1).filter(pa.array(of_column == i)).cast(pa.large_string())
            texts = pc.replace_with_mask(texts, pa.array(mask), replacements)
        found[name] = texts
    return pa.table({name: found[name] for name in columns})


def _nameless(rows: int) -> pa.Table:
    """Rows without columns; pyarrow counts them by a column, so each has one that says nothing."""
    return pa.table({"": pa.array([""] * rows, pa.large_string())})


def _difference(expected: pa.Table, found: pa.Table) -> str:
    ours, theirs = Counter(row_texts(expected).to_pylist()), Counter(row_texts(found).to_pylist())
    lost, alien = ours - theirs, theirs - ours
    example = [[row[:200] for row in list(rows)[:2]] for rows in (lost, alien)]
    columns = "" if sorted(expected.column_names) == sorted(found.column_names) else f"; columns {found.column_names}"
    return f"{lost.total()} rows lost, {alien.total()} rows alien, such as {example}{columns}"
