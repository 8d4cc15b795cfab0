"""Care of a lake in small steps, each between two commits of the lane whose tables it cares for.

Nobody else writes those tables, so a step and a commit never conflict; and a step is bounded (`TABLES_MAX`, the option
``merge_files_max``), so that a commit does not wait long. We would rather have it beside the stream, but DuckLake lets
the later of a merge and a commit fail, and that could be the commit.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any, Final, Protocol

from sinks.duckdb.ddl import OWN_SCHEMA, TargetName
from sinks.ducklake.config import DuckLakeOptions
from sinks.ducklake.literals import literal
from wallaby.errors import WallabyError

TABLES_MAX: Final = 8
"""Tables one step looks at; the next one takes the next."""
NOTES_MAX: Final = 32
"""Tables met before the files of wallaby's notes about tables are merged. Each note is a file, and who meets a table
reads them all."""


class Runs(Protocol):
    """The session, as far as a step needs it."""

    def run(self, statement: str, **where: Any) -> None: ...


class Upkeep:
    """Counts commits and knows the tables; a step that fails is taken again when the next is due."""

    def __init__(self, options: DuckLakeOptions) -> None:
        self._options = options
        self._tables: deque[TargetName] = deque()
        self._known: set[TargetName] = set()
        self._notes = 0
        self._commits = 0
        self._lane_table = ""

    def watch(self, target: TargetName) -> None:
        """Care for this table. Twice is once."""
        if target not in self._known:
            self._known.add(target)
            self._tables.append(target)
            self._notes += 1

    def merge_notes(self, runs: Runs) -> None:
        """Merge wallaby's notes about tables if that is due. Outside of a transaction."""
        if self._notes < NOTES_MAX:
            return
        self._notes = 0
        # Somebody else may be noting, or merging: the next time will do.
        with suppress(WallabyError):
            runs.run(
                f"CALL ducklake_merge_adjacent_files({literal(self._options.catalog_name)}, 'tables',"
                f" schema => {literal(OWN_SCHEMA)})"
            )

    def committed(self, lane_table: str) -> None:
        """A commit is about to be made by the lane with this record table."""
        self._commits += 1
        self._lane_table = lane_table

    def step(self, runs: Runs) -> None:
        """Take a step if it is due. Outside of a transaction."""
        every = self._options.merge_every
        if every == 0 or self._commits < every:
            return
        self._commits = 0
        for statement in self._statements():
            try:
                runs.run(statement)
            except WallabyError:
                # A reader's lock, a table somebody dropped: the lake is as it was, and the next step tries again.
                return

    def _statements(self) -> list[str]:
        name = literal(self._options.catalog_name)
        found = [
            f"CALL ducklake_flush_inlined_data({name}, schema_name => {literal(OWN_SCHEMA)},"
            f" table_name => {literal(self._lane_table)})",
        ]
        files = f"max_compacted_files => {self._options.merge_files_max}"
        turn = [TargetName(OWN_SCHEMA, self._lane_table)]
        for _ in range(min(TABLES_MAX, len(self._tables))):
            turn.append(self._tables[0])
            self._tables.rotate(-1)
        for target in turn:
            of = f"{name}, {literal(target.table)}, schema => {literal(target.schema)}"
            found.append(f"CALL ducklake_rewrite_data_files({of})")
            found.append(f"CALL ducklake_merge_adjacent_files({of}, {files})")
        if self._options.retention:
            older = (
                f"older_than => now() - INTERVAL {literal(f'{self._options.retention.total_seconds():.0f} seconds')}"
            )
            found.append(f"CALL ducklake_expire_snapshots({name}, {older})")
            found.append(f"CALL ducklake_cleanup_old_files({name}, {older})")
        return found


__all__ = ["NOTES_MAX", "TABLES_MAX", "Upkeep"]
