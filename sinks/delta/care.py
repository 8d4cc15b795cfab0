"""Looking after Delta tables: `sinks.delta.due` decides, the engine works.

The engine's compaction is a commit like any other: what a lane merges into the same files meanwhile makes one of both
conflict. The lane merges again upon what is there then; a compaction is tried again a few times, and then waits for its
next turn.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, assert_never

import pyarrow as pa
from deltalake import DeltaTable

from sinks.delta.config import RETENTION_MIN, DeltaOptions
from sinks.delta.due import FileFacts, is_compaction_due, small_files
from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.log import Log, is_left_to_the_engine
from sinks.delta.rewrite import has_vectors
from sinks.delta.store import NO_HOOKS, Store
from sinks.delta.tables import SOURCE
from sinks.delta.unused import unused_vectors
from wallaby.care import Chore, Condition, Look
from wallaby.schema import TableName

ATTEMPTS_MAX: Final = 3
"""Compactions of one table tried in one turn: each writes its files anew."""
_TASKS_MAX: Final = 1
"""Partitions the engine compacts at once: the machine is the stream's."""
_SPILL_BYTES_MAX: Final = 256 << 20
_PARTITION: Final = "partition."


class DeltaKeeper:
    """See `wallaby.care.Keeper`."""

    def __init__(self, options: DeltaOptions) -> None:
        self._options = options
        self._store = Store(options)

    def tables(self) -> tuple[TableName, ...]:
        """Targets wallaby has written to below the path; those of other flows that share it, too."""
        return tuple(name for name in self._store.tables() if self._is_ours(name))

    def look(self, table: TableName, now: datetime) -> Look | None:
        found = self._opened(table)
        if found is None:
            return None
        actions = _actions(found, table)
        files, target = _facts(actions), self._options.target_file_size
        is_compact_due = is_compaction_due(files, target_bytes=target, files_min=self._options.compact_files)
        is_vacuum_due = self._options.vacuum and bool(
            self._vacuumed(found, table, is_dry_run=True) or self._unused(found, table, now)
        )
        due = {
            Chore.COMPACT: is_compact_due,
            Chore.EXPIRE: is_vacuum_due,
            Chore.CHECKPOINT: is_compact_due or is_vacuum_due,
        }
        return Look(
            condition=self._condition(found, table, actions, files), due=tuple(chore for chore in due if due[chore])
        )

    def condition(self, table: TableName) -> Condition | None:
        found = self._opened(table)
        if found is None:
            return None
        actions = _actions(found, table)
        return self._condition(found, table, actions, _facts(actions))

    def do(self, table: TableName, chore: Chore, now: datetime) -> bool:
        for _ in range(ATTEMPTS_MAX):
            found = self._opened(table)
            if found is None:
                return False
            try:
                self._do(found, table, chore, now)
            except Conflict:
                continue
            return True
        return False

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _condition(self, found: DeltaTable, table: TableName, actions: pa.Table, files: list[FileFacts]) -> Condition:
        rows = actions["num_records"].to_pylist() if actions.num_rows else []
        is_known = has_vectors(found) and not is_left_to_the_engine(found)
        marked = sum(file.marked for file in self._log(found, table).files) if is_known else 0
        return Condition(
            files=len(files),
            small_files=small_files(files, target_bytes=self._options.target_file_size).total(),
            bytes=sum(file.size for file in files),
            rows=sum(count or 0 for count in rows) - marked,
        )

    def _do(self, found: DeltaTable, table: TableName, chore: Chore, now: datetime) -> None:
        match chore:
            case Chore.COMPACT:
                self._compact(found, table)
            case Chore.EXPIRE:
                self._vacuumed(found, table, is_dry_run=False)
                self._store.folder(self._store.uri(table), table=table).remove(self._unused(found, table, now))
            case Chore.CHECKPOINT:
                with translated(Doing.WORK, table=table):
                    found.create_checkpoint()
                    found.cleanup_metadata()
            case Chore.ORPHANS:
                pass  # a vacuum removes what no version knows, too
            case _:
                assert_never(chore)

    def _compact(self, found: DeltaTable, table: TableName) -> None:
        with translated(Doing.WORK, table=table):
            partitions = set(found.metadata().partition_columns)
            names = {field.name for field in found.schema().fields} - partitions
            order = [name for name in self._options.z_order_by if name in names]
            settings = {
                "target_size": self._options.target_file_size,
                "max_concurrent_tasks": _TASKS_MAX,
                "max_spill_size": _SPILL_BYTES_MAX,
            }
            if order:
                found.optimize.z_order(order, post_commithook_properties=NO_HOOKS, **settings)
            else:
                found.optimize.compact(post_commithook_properties=NO_HOOKS, **settings)

    def _vacuumed(self, found: DeltaTable, table: TableName, *, is_dry_run: bool) -> list[str]:
        """The files no version of the last ``retention`` needs, and those no version knows that are as old."""
        with translated(Doing.WORK, table=table):
            return found.vacuum(
                retention_hours=max(1, int(self._options.retention.total_seconds() // 3600)),
                dry_run=is_dry_run,
                enforce_retention_duration=False,
                full=True,
                post_commithook_properties=NO_HOOKS,
            )

    def _unused(self, found: DeltaTable, table: TableName, now: datetime) -> list[str]:
        """Deletion vectors as `_vacuumed`: the engine's vacuum does not see them. None where not all that are in use
        are known."""
        if not has_vectors(found) or is_left_to_the_engine(found):
            return []
        folder = self._store.folder(self._store.uri(table), table=table)
        return unused_vectors(folder, found.version(), before=now - max(self._options.retention, RETENTION_MIN))

    def _log(self, found: DeltaTable, table: TableName) -> Log:
        log = Log(self._store.folder(self._store.uri(table), table=table))
        with translated(Doing.OPEN, table=table):
            log.follow(found.version(), table_id=str(found.metadata().id))
        return log

    def _opened(self, table: TableName) -> DeltaTable | None:
        return self._store.open(self._store.uri(table), table=table)

    def _is_ours(self, name: TableName) -> bool:
        table = self._opened(name)
        if table is None:
            return False
        with translated(Doing.OPEN, table=name):
            return SOURCE in table.metadata().configuration


def _actions(found: DeltaTable, table: TableName) -> pa.Table:
    """The files of the loaded version, with what is known of each."""
    with translated(Doing.OPEN, table=table):
        return pa.table(found.get_add_actions(flatten=True))


def _facts(actions: pa.Table) -> list[FileFacts]:
    partitions = [name for name in actions.column_names if name.startswith(_PARTITION)]
    groups = zip(*(actions[name].to_pylist() for name in partitions), strict=True) if partitions else None
    sizes = actions["size_bytes"].to_pylist()
    return [FileFacts(size, group) for size, group in zip(sizes, groups or [()] * len(sizes), strict=True)]


__all__ = ["DeltaKeeper"]
