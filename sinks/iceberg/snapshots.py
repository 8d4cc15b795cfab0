"""One Iceberg commit as a value: files that come, rows that go, and the record, in the snapshot they make together.

pyiceberg writes no delete files and decides by itself what a commit that lost a race becomes, so the manifests are put
together here. A snapshot's manifest list holds, besides the manifests of what is new, those of its parent. Manifests
are many to a table that is written every second; from `MANIFESTS_MAX` on they are put together into one.
"""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from sinks.iceberg.catalogs import FORMAT_VERSION
from sinks.iceberg.errors import Doing, translated

MANIFESTS_MAX: Final = 50
"""Manifests of one kind a snapshot may carry over before they become one: bounds what a reader opens."""
BRANCH: Final = "main"
_CODEC: Final = "deflate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one commit does to a table's files."""

    added: tuple[DataFile, ...] = ()
    """Data files and position delete files."""
    removed: frozenset[str] = field(default_factory=frozenset)
    """Paths of files that go."""
    removes_everything: bool = False
    """Every file goes that is there, also delete files."""
    keeps_rows: bool = False
    """The table's rows stay what they are: only their files change."""


def prepare(
    table: Table, change: Change, *, summary: Mapping[str, str], properties: Mapping[str, str]
) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
    """Write the manifests of ``change`` and give what `sinks.iceberg.catalogs.commit` needs.

    The commit succeeds only if the table's current snapshot is the one ``table`` was loaded with.
    """
    with translated(Doing.WRITE, table=".".join(table.name())):
        return _Preparation(table).run(change, summary, properties)


class _Preparation:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._metadata = table.metadata
        self._parent = table.current_snapshot()
        self._id = table.metadata.new_snapshot_id()
        self._mark = uuid.uuid4()
        self._numbers = itertools.count()
        self._places = table.location_provider()

    def run(
        self, change: Change, summary: Mapping[str, str], properties: Mapping[str, str]
    ) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
        parent_id = self._parent.snapshot_id if self._parent else None
        removed: list[DataFile] = []
        manifests = [*self._of_added(change.added), *self._carried(change, removed)]
        place = self._places.new_metadata_location(f"snap-{self._id}-0-{self._mark}.avro")
        sequence = self._metadata.next_sequence_number()
        with write_manifest_list(
            format_version=FORMAT_VERSION,
            output_file=self._table.io.new_output(place),
            snapshot_id=self._id,
            parent_snapshot_id=parent_id,
            sequence_number=sequence,
            avro_compression=_CODEC,
        ) as writer:
            writer.add_manifests(manifests)
        snapshot = Snapshot(
            snapshot_id=self._id,
            parent_snapshot_id=parent_id,
            manifest_list=place,
            sequence_number=sequence,
            summary=self._summary(change, removed, summary),
            schema_id=self._metadata.current_schema_id,
        )
        return snapshot_updates(snapshot, properties)

    def _summary(self, change: Change, removed: list[DataFile], extra: Mapping[str, str]) -> Summary:
        schema, specs = self._table.schema(), self._metadata.specs()
        collector = SnapshotSummaryCollector()
        for file in change.added:
            collector.add_file(file, schema, specs[file.spec_id])
        for file in removed:
            collector.remove_file(file, schema, specs[file.spec_id])
        adds = any(file.content is DataFileContent.DATA for file in change.added)
        takes = bool(removed) or change.removes_everything or not all(map(_is_data, change.added))
        operation = (Operation.OVERWRITE if adds else Operation.DELETE) if takes else Operation.APPEND
        summary = update_snapshot_summaries(
            Summary(operation=operation, **(collector.build() | dict(extra))),
            self._parent.summary if self._parent and self._parent.summary else None,
        )
        if change.keeps_rows:
            # pyiceberg does not count for this operation, and it is what tells readers that no row changed.
            return Summary(operation=Operation.REPLACE, **summary.additional_properties)
        return summary

    def _of_added(self, added: Iterable[DataFile]) -> list[ManifestFile]:
        groups: dict[tuple[ManifestContent, int], list[DataFile]] = defaultdict(list)
        for file in added:
            content = ManifestContent.DATA if _is_data(file) else ManifestContent.DELETES
            groups[content, file.spec_id].append(file)
        return [
            self._written(
                content,
                spec,
                [
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED, snapshot_id=self._id, sequence_number=None, data_file=file
                    )
                    for file in files
                ],
            )
            for (content, spec), files in groups.items()
        ]

    def _carried(self, change: Change, removed: list[DataFile]) -> list[ManifestFile]:
        """The parent's manifests, without what goes (which is added to ``removed``), and not too many."""
        if self._parent is None:
            return []
        groups: dict[tuple[ManifestContent, int], list[ManifestFile]] = defaultdict(list)
        carried: list[ManifestFile] = []
        for manifest in self._parent.manifests(self._table.io):
            if not (manifest.has_added_files() or manifest.has_existing_files()):
                continue
            if change.removes_everything or change.removed:
                carried += self._without(manifest, change, removed)
            else:
                groups[manifest.content, manifest.partition_spec_id].append(manifest)
        for (content, spec), manifests in groups.items():
            carried += manifests if len(manifests) <= MANIFESTS_MAX else [self._merged(content, spec, manifests)]
        return carried

    def _without(self, manifest: ManifestFile, change: Change, removed: list[DataFile]) -> list[ManifestFile]:
        entries = manifest.fetch_manifest_entry(self._table.io, discard_deleted=True)
        goes = [change.removes_everything or entry.data_file.file_path in change.removed for entry in entries]
        if not any(goes):
            return [manifest]
        removed += [entry.data_file for entry, is_gone in zip(entries, goes, strict=True) if is_gone]
        return [
            self._written(
                manifest.content,
                manifest.partition_spec_id,
                [
                    _entry(
                        ManifestEntryStatus.DELETED if is_gone else ManifestEntryStatus.EXISTING,
                        self._id if is_gone else entry.snapshot_id,
                        entry,
                    )
                    for entry, is_gone in zip(entries, goes, strict=True)
                ],
            )
        ]

    def _merged(self, content: ManifestContent, spec: int, manifests: list[ManifestFile]) -> ManifestFile:
        entries = [
            _entry(ManifestEntryStatus.EXISTING, entry.snapshot_id, entry)
            for manifest in manifests
            for entry in manifest.fetch_manifest_entry(self._table.io, discard_deleted=True)
        ]
        return self._written(content, spec, entries)

    def _written(self, content: ManifestContent, spec: int, entries: list[ManifestEntry]) -> ManifestFile:
        place = self._places.new_metadata_location(f"{self._mark}-m{next(self._numbers)}.avro")
        writer = manifest_writer(
            content, self._metadata.specs()[spec], self._table.schema(), self._table.io, place, self._id
        )
        with writer:
            for entry in entries:
                writer.add_entry(entry)
        return writer.to_manifest_file()


def snapshot_updates(
    snapshot: Snapshot, properties: Mapping[str, str]
) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
    """Make ``snapshot`` the current one, if its parent still is, and set ``properties`` with it."""
    updates: tuple[TableUpdate, ...] = (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(ref_name=BRANCH, type=SnapshotRefType.BRANCH, snapshot_id=snapshot.snapshot_id),
    )
    if properties:
        updates = (*updates, SetPropertiesUpdate(updates=dict(properties)))
    return updates, (AssertRefSnapshotId(ref=BRANCH, snapshot_id=snapshot.parent_snapshot_id),)


class _DeletesWriter(ManifestWriterV2):
    """A manifest of delete files: pyiceberg's own writers make manifests of data files only."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def manifest_writer(
    content: ManifestContent, spec: PartitionSpec, schema: Schema, io: FileIO, place: str, snapshot_id: int
) -> ManifestWriter:
    """A writer of a manifest of data files, or of delete files."""
    kind = ManifestWriterV2 if content is ManifestContent.DATA else _DeletesWriter
    return kind(spec, schema, io.new_output(place), snapshot_id, _CODEC)


def _entry(status: ManifestEntryStatus, snapshot_id: int | None, entry: ManifestEntry) -> ManifestEntry:
    numbers: dict[str, Any] = {
        "sequence_number": entry.sequence_number,
        "file_sequence_number": entry.file_sequence_number,
    }
    return ManifestEntry.from_args(status=status, snapshot_id=snapshot_id, data_file=entry.data_file, **numbers)


def _is_data(file: DataFile) -> bool:
    return file.content is DataFileContent.DATA


__all__ = ["BRANCH", "MANIFESTS_MAX", "Change", "manifest_writer", "prepare", "snapshot_updates"]
