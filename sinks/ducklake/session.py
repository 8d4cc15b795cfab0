"""The connection to a lake: an engine in memory with the catalog attached, and the commit messages.

A process has one session per catalog file. The operating system's file locks are the process's, so two engines in it
would not see each other's: who needs two sessions (tests do) names one engine for both. DuckDB (1.5) waits for ever
for a named engine that a failed commit left behind, hence the default has no name.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import duckdb

from sinks.duckdb.ddl import OWN_SCHEMA
from sinks.duckdb.errors import Doing, lock_conflict, translated
from sinks.duckdb.lanes import table_of
from sinks.duckdb.session import EngineConfig, Session, engine_config
from sinks.duckdb.types import LAKE
from sinks.ducklake.bucket import secret_statement
from sinks.ducklake.config import CatalogKind, DuckLakeOptions
from sinks.ducklake.extensions import load
from sinks.ducklake.literals import literal
from sinks.ducklake.upkeep import Upkeep
from wallaby.errors import Refused, Transient, WallabyError
from wallaby.schema import quote_identifier
from wallaby.scratch import ScratchFolder
from wallaby.window import CommitToken

_BUSY_TIMEOUT_MS: Final = 30_000
"""How long a SQLite catalog waits for another process's commit."""
_INLINED_ROWS_MAX: Final = 10
"""A lane's row lives in the catalog. Targets never do: SQLite and PostgreSQL catalogs give some nested values back
altered, or not at all (DuckLake 1.5.5)."""
_SPILL_PREFIX: Final = "wallaby-lake-"
"""Of the folder an engine moves to what does not fit into its memory: engines that shared one would write into each
other's files, whose names DuckDB (1.5) counts anew in each."""
_EXTENSION: Final = {CatalogKind.SQLITE: ("sqlite_scanner",), CatalogKind.POSTGRES: ("postgres_scanner",)}
AUTHOR: Final = "wallaby"
ENGINE: Final = ":memory:"
"""An engine of the session's own."""


class NoLake(Refused):
    """The catalog holds other things, or nothing yet."""


class LakeSession(Session):
    """See `sinks.duckdb.session.Session`."""

    storage = LAKE

    def __init__(self, options: DuckLakeOptions, *, engine: str = ENGINE) -> None:
        super().__init__(options.catalog_place.place)
        self._options = options
        self._engine = engine
        self._makes_lakes = True
        self._spill: ScratchFolder | None = None
        self.upkeep = Upkeep(options)

    def connect_to_lake(self) -> bool:
        """Connect if the catalog holds a lake. False, and nothing is made, when it holds none."""
        catalog = self._options.catalog_place
        if catalog.kind is CatalogKind.SQLITE and catalog.path is not None and not _holds_lake(catalog.path):
            return False  # to attach it would already change how it keeps its journal
        self._makes_lakes = False
        try:
            self.connect()
        except NoLake:
            return False
        finally:
            self._makes_lakes = True
        return True

    def _opened(self) -> duckdb.DuckDBPyConnection:
        options, catalog = self._options, self._options.catalog_place
        if catalog.path is not None and not catalog.path.parent.is_dir():
            raise Transient(
                "the folder of the catalog does not exist",
                advice="Create the folder, or mount what should be there",
                path=catalog.path.parent,
            )
        config = engine_config(options)
        if self._engine == ENGINE:
            self._spill = ScratchFolder(_SPILL_PREFIX)
            config["temp_directory"] = str(self._spill.path)
        try:
            return self._connected(config)
        except BaseException:
            self._remove_spill()
            raise

    def _connected(self, config: EngineConfig) -> duckdb.DuckDBPyConnection:
        options, catalog = self._options, self._options.catalog_place
        with translated(Doing.OPEN, path=self.place):
            connection = duckdb.connect(self._engine, config=config)
        try:
            load(connection, "ducklake", *_EXTENSION.get(catalog.kind, ()), *(("httpfs",) if options.is_remote else ()))
            with translated(Doing.OPEN, path=self.place):
                connection.execute("SET TimeZone = 'UTC'")
                if options.access_key is not None or options.endpoint is not None:
                    connection.execute(secret_statement(options))
            self._attach(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        options, catalog = self._options, self._options.catalog_place
        name = quote_identifier(options.catalog_name)
        settings = ["DATA_INLINING_ROW_LIMIT 0"]
        if options.data_path is not None:
            settings.append(f"DATA_PATH {literal(options.data_path)}")
        if options.override_data_path:
            settings.append("OVERRIDE_DATA_PATH true")
        if not self._makes_lakes:
            settings.append("CREATE_IF_NOT_EXISTS false")
        if catalog.kind is CatalogKind.SQLITE:
            settings += ["META_JOURNAL_MODE 'WAL'", f"META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS}"]
        try:
            connection.execute(
                f"ATTACH IF NOT EXISTS {literal(catalog.attached)} AS {name} ({', '.join(settings)}); USE {name}"
            )
        except duckdb.Error as error:
            # Without a cause on purpose: DuckDB's text holds the connection string.
            raise _attach_error(error, self.place) from None

    @property
    def can_tell(self) -> bool:
        """Not of a server: it may carry out a COMMIT whose sender is gone."""
        return self._options.catalog_place.path is not None

    def begin(self) -> None:
        if not self.in_transaction:
            self.upkeep.step(self)
        super().begin()

    def _discard(self) -> None:
        if self._connection is not None and self._engine == ENGINE:
            # DuckDB (1.5) keeps a catalog open whose commit failed, and then nobody of this process opens it again.
            with suppress(duckdb.Error):
                self._connection.execute("USE memory")
                self._connection.execute(f"DETACH {self.catalog}")
        super()._discard()
        self._remove_spill()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._remove_spill()

    def _remove_spill(self) -> None:
        spill, self._spill = self._spill, None
        if spill is not None:
            spill.close()

    def prepared(self) -> None:
        """Lane tables, made from now on, may be inlined into the catalog; the others of wallaby's own are not."""
        own = literal(OWN_SCHEMA)
        for table, rows in (("tables", 0), ("format", 0), ("", _INLINED_ROWS_MAX)):
            where = f"schema => {own}" + (f", table_name => {literal(table)}" if table else "")
            self.query(f"CALL {self.catalog}.set_option('data_inlining_row_limit', {rows}, {where})")

    def note(self, token: CommitToken) -> None:
        """The commit message: which lane moved from where to where."""
        lane = token.lane
        extra = {
            "flow": lane.flow,
            "destination": lane.destination,
            "lane": lane.index,
            "epoch": token.epoch,
            "after": str(token.after),
            "upto": str(token.upto),
            "rows": token.rows,
        }
        message = f"{lane.flow}: {token.rows} rows up to {token.upto.lsn}"
        self.query(
            f"CALL {self.catalog}.set_commit_message(?, ?, extra_info => ?)",
            (AUTHOR, message, json.dumps(extra, ensure_ascii=False)),
            lane=lane,
        )
        self.upkeep.committed(table_of(self, lane))


def _holds_lake(path: Path) -> bool:
    """False when a SQLite file can be read and holds no lake."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ducklake_metadata'").fetchone()
    except sqlite3.Error:
        return True  # whoever attaches it is told what is wrong
    return found is not None


def _attach_error(error: duckdb.Error, place: str) -> WallabyError:
    text = str(error)
    if "lock on file" in text:
        return lock_conflict(error, path=place)
    if "creating a new DuckLake is explicitly disabled" in text:
        return NoLake("the catalog holds no lake", advice="It is made by the first call that writes", path=place)
    if "does not match existing data path" in text:
        return Refused(
            "the lake keeps its data under another path than the option data_path says",
            advice="Leave data_path out, or set override_data_path when the data was moved",
            path=place,
        )
    if isinstance(error, duckdb.InvalidInputException | duckdb.NotImplementedException):
        return Refused(
            "the catalog is not one this DuckLake can open",
            advice="A new lake needs data_path; one of another DuckLake version needs that version, or a migration",
            path=place,
        )
    return Transient(
        f"the catalog cannot be opened ({type(error).__name__})",
        advice="See that the catalog answers, that this login may write it, and that it is a DuckLake catalog",
        path=place,
    )


__all__ = ["AUTHOR", "ENGINE", "LakeSession", "NoLake"]
