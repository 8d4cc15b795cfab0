"""Looking after Iceberg tables: `sinks.iceberg.due` decides, this asks the catalog and has it done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Final, assert_never

from pyiceberg.table import Table

from sinks.iceberg.catalogs import FORMAT_VERSION, CatalogSession
from sinks.iceberg.compaction import Compactor
from sinks.iceberg.config import IcebergOptions
from sinks.iceberg.due import (
    SMALL_SHARE,
    Compaction,
    FileFacts,
    are_orphans_due,
    compactions,
    is_expiry_due,
)
from sinks.iceberg.errors import Doing, translated
from sinks.iceberg.expiry import expire, goes_now, last_look, remove_orphans, snapshot_facts
from sinks.iceberg.keys import LiveFiles, Memory
from sinks.iceberg.lanes import RECORD
from wallaby.care import Chore, Condition, Look
from wallaby.schema import TableName

_MEMORY_BYTES: Final = 64 << 20
"""For what delete files say, over all tables of one keeper."""


class IcebergKeeper:
    """See `wallaby.care.Keeper`."""

    def __init__(self, options: IcebergOptions, *, flow: str, destination: str) -> None:
        self._options = options
        self._session = CatalogSession(options)
        self._memory = Memory(_MEMORY_BYTES)
        self._mark = f"{RECORD}.{flow}/{destination}/"

    def tables(self) -> tuple[TableName, ...]:
        catalog = self._session.catalog()
        with translated(Doing.READ):
            spaces = [(self._options.schema_,)] if self._options.schema_ else catalog.list_namespaces()
            names = [
                TableName(str(name[-2]), str(name[-1]))
                for space in spaces
                if space != (self._options.state_namespace,) and catalog.namespace_exists(space)
                for name in catalog.list_tables(space)
            ]
        return tuple(sorted((name for name in names if self._is_ours(name)), key=str))

    def look(self, table: TableName, now: datetime) -> Look | None:
        found = self._session.find(table.schema, table.name)
        if found is None:
            return None
        live = LiveFiles(found, self._memory)
        deleted = _deleted(live)
        goes = goes_now(found, self._options, now)
        snapshots = snapshot_facts(found)
        due = {
            Chore.COMPACT: found.format_version == FORMAT_VERSION and bool(self._plans(live, deleted)),
            Chore.EXPIRE: is_expiry_due(
                goes,
                snapshots,
                now_ms=int(now.timestamp() * 1000),
                retention=self._options.snapshot_retention,
            ),
            Chore.ORPHANS: bool(snapshots) and are_orphans_due(last_look(found), now),
        }
        condition = self._condition(live, deleted, len(snapshots))
        return Look(condition=condition, due=tuple(chore for chore in due if due[chore]))

    def condition(self, table: TableName) -> Condition | None:
        found = self._session.find(table.schema, table.name)
        if found is None:
            return None
        live = LiveFiles(found, self._memory)
        return self._condition(live, _deleted(live), len(found.snapshots()))

    def do(self, table: TableName, chore: Chore, now: datetime) -> bool:
        found = self._session.find(table.schema, table.name)
        if found is None:
            return False
        match chore:
            case Chore.COMPACT:
                return self._compact(found)
            case Chore.EXPIRE:
                return expire(self._session, found, self._memory, self._options, now)
            case Chore.ORPHANS:
                return remove_orphans(self._session, found, self._memory, self._options, now)
            case Chore.CHECKPOINT:
                return True  # a catalog knows the newest version by itself
            case _:
                assert_never(chore)

    def close(self) -> None:
        self._session.close()

    def _is_ours(self, name: TableName) -> bool:
        table = self._session.find(name.schema, name.name)
        return table is not None and any(key.startswith(self._mark) for key in table.properties)

    def _compact(self, table: Table) -> bool:
        """One commit per partition; a job that yields ends the turn."""
        live = LiveFiles(table, self._memory)
        for plan in self._plans(live, _deleted(live)):
            fresh = self._session.find(*table.name()[-2:])
            if fresh is None:
                return False
            target = self._options.target_file_size
            if not Compactor(self._session, fresh, self._memory, plan, target_bytes=target).run():
                return False
        return True

    def _plans(self, live: LiveFiles, deleted: Mapping[str, int]) -> tuple[Compaction, ...]:
        # Files of an earlier partition spec are left alone: their rows belong into other partitions now.
        spec = live.table.metadata.default_spec_id
        facts = [
            FileFacts(
                file.file_path,
                file.file_size_in_bytes,
                file.record_count,
                deleted[file.file_path],
                (file.spec_id, file.partition),
            )
            for file in live.committed
            if file.spec_id == spec
        ]
        deletes: Counter[Hashable] = Counter(
            (file.spec_id, file.partition) for file in live.delete_files if file.spec_id == spec
        )
        return compactions(
            facts, deletes, target_bytes=self._options.target_file_size, files_min=self._options.compact_files
        )

    def _condition(self, live: LiveFiles, deleted: Mapping[str, int], versions: int) -> Condition:
        small = self._options.target_file_size // SMALL_SHARE
        files = live.committed
        return Condition(
            files=len(files),
            small_files=sum(file.file_size_in_bytes < small for file in files),
            bytes=sum(file.file_size_in_bytes for file in files),
            rows=sum(file.record_count for file in files),
            delete_files=len(live.delete_files),
            deleted_rows=sum(deleted.values()),
            versions=versions,
        )


def _deleted(live: LiveFiles) -> dict[str, int]:
    """How many rows of each data file are gone, by path."""
    return {file.file_path: len(live.deleted(file)) for file in live.committed}


__all__ = ["IcebergKeeper"]
