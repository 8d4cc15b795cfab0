"""Where a lane stands, and where each table stands in it (specs/decisions/0027).

Iceberg commits one table at a time, so there are two kinds of record. Each target carries, per lane, how far its own
rows go: a property that moves in the commit of the rows. The lane's own record is the summary of the current snapshot
of a tiny table of its own, and moves last. Between the two a crash leaves some tables ahead of the lane, never behind:
the lane sends those changes again, and a table drops what its record says it holds.

A table's record counts only while its ``generation`` is the lane's: forgetting the lane's position forgets them all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyiceberg.manifest import write_manifest_list
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import RemoveSnapshotsUpdate
from pyiceberg.types import NestedField, StringType

from sinks.iceberg.catalogs import FORMAT_VERSION as TABLE_VERSION
from sinks.iceberg.catalogs import CatalogSession, commit
from sinks.iceberg.errors import Conflict, Doing, translated
from sinks.iceberg.snapshots import snapshot_updates
from wallaby.errors import Refused, Transient
from wallaby.lsn import START, Position
from wallaby.record import LaneRecord, require_epoch
from wallaby.window import LaneId

FORMAT_VERSION: Final = 1
RESTORED: Final = "the lane's table was rolled back"
"""How a catalog may stand behind what it confirmed."""
RECORD: Final = "wallaby.record"
_ATTEMPTS_MAX: Final = 20
_SCHEMA: Final = Schema(
    NestedField(1, "position", StringType(), required=False, doc="unused: the record is the snapshot's summary")
)


@dataclass(frozen=True, slots=True)
class Record:
    """A position under an epoch. ``generation`` grows each time the lane's position is forgotten."""

    position: Position = START
    epoch: int = 0
    generation: int = 0

    @property
    def of_lane(self) -> LaneRecord:
        return LaneRecord(self.position, self.epoch)

    def to_json(self) -> str:
        content = {
            "version": FORMAT_VERSION,
            "position": str(self.position),
            "epoch": self.epoch,
            "generation": self.generation,
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> Record:
        """The empty record for None; `Refused` for one of another version or one we cannot read."""
        if text is None:
            return cls()
        try:
            content = json.loads(text)
            if content["version"] == FORMAT_VERSION:
                return cls(Position.parse(content["position"]), content["epoch"], content["generation"])
            version = content["version"]
        except (ValueError, KeyError, TypeError):
            version = "unknown"
        raise Refused(
            f"a position record has format {version}, this wallaby knows {FORMAT_VERSION}",
            advice="Use the wallaby that wrote it, or another state_namespace",
        )


def table_property(lane: LaneId) -> str:
    """The property of a target that holds its record in ``lane``."""
    return f"{RECORD}.{lane}"


def table_record(table: Table, lane: LaneId, *, generation: int) -> Record:
    """How far ``table``'s rows go in ``lane``. The position is START when it was forgotten since; the epoch stays."""
    record = Record.from_json(table.properties.get(table_property(lane)))
    return record if record.generation == generation else Record(START, record.epoch, generation)


@dataclass(frozen=True, slots=True)
class Standing:
    """A lane's record, and the table as it was when the record was read there; None before the first record."""

    record: Record
    table: Table | None


class LaneTable:
    """The table of one lane's record."""

    def __init__(self, session: CatalogSession, lane: LaneId, namespace: str) -> None:
        self._session = session
        self._lane = lane
        self._namespace = namespace
        mark = hashlib.sha256(f"{lane.flow}\0{lane.destination}\0{lane.index}".encode()).hexdigest()
        self._name = f"lane_{mark[:24]}"

    def read(self) -> Standing:
        """The record as the catalog has it now."""
        table = self._session.find(self._namespace, self._name)
        snapshot = table.current_snapshot() if table is not None else None
        return Standing(
            Record.from_json(snapshot.summary.get(RECORD) if snapshot and snapshot.summary else None), table
        )

    def require_epoch(self, epoch: int) -> Standing:
        """As `read`; `Superseded` when a newer epoch owns the lane."""
        standing = self.read()
        require_epoch(standing.record.of_lane, self._lane, epoch)
        return standing

    def move(self, standing: Standing, record: Record) -> None:
        """Put ``record`` in the place of ``standing``'s. `Conflict` when that is not the newest any more."""
        table = standing.table or self._make()
        parent = table.current_snapshot()
        if standing.table is None and parent is not None:
            raise Conflict("the lane's record was made by somebody else meanwhile", lane=self._lane)
        with translated(Doing.WRITE, lane=self._lane):
            snapshot = Snapshot(
                snapshot_id=table.metadata.new_snapshot_id(),
                parent_snapshot_id=parent.snapshot_id if parent else None,
                manifest_list=parent.manifest_list if parent else self._empty_list(table),
                sequence_number=table.metadata.next_sequence_number(),
                summary=Summary(operation=Operation.APPEND, **{RECORD: record.to_json()}),
                schema_id=table.metadata.current_schema_id,
            )
        updates, requirements = snapshot_updates(snapshot, {})
        if parent is not None:
            updates = (*updates, RemoveSnapshotsUpdate(snapshot_ids=[parent.snapshot_id]))
        commit(table, updates, requirements)

    def change(self, new: Callable[[Record], Record | None]) -> Record:
        """Replace the record by what ``new`` makes of it (None: leave it), whoever else is changing it meanwhile."""
        for _ in range(_ATTEMPTS_MAX):
            standing = self.read()
            wanted = new(standing.record)
            if wanted is None:
                return standing.record
            try:
                self.move(standing, wanted)
            except Conflict:
                continue
            return wanted
        raise Transient("the lane's record moves faster than it can be taken over", lane=self._lane)

    def _make(self) -> Table:
        properties = {
            "wallaby.flow": self._lane.flow,
            "wallaby.destination": self._lane.destination,
            "wallaby.lane": str(self._lane.index),
        }
        return self._session.create(self._namespace, self._name, _SCHEMA, properties=properties)

    def _empty_list(self, table: Table) -> str:
        """A manifest list without manifests, for all snapshots of the table: they differ in their summary only."""
        place = table.location_provider().new_metadata_location("snap-empty.avro")
        with write_manifest_list(
            format_version=TABLE_VERSION,
            output_file=table.io.new_output(place),
            snapshot_id=0,
            parent_snapshot_id=None,
            sequence_number=0,
            avro_compression="deflate",
        ):
            pass
        return place


__all__ = ["FORMAT_VERSION", "RECORD", "RESTORED", "LaneTable", "Record", "Standing", "table_property", "table_record"]
