"""Forgetting old snapshots of a table, and removing files: those only old snapshots needed, and those nobody knows.

A commit puts files into the table that were written before it, and a file of a commit under way looks like one nobody
will ever know. So a file counts as an orphan only when it is older than any commit may take (``orphan_age``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote, urlparse

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import RemoveSnapshotsUpdate, SetPropertiesUpdate

from sinks.iceberg.catalogs import CatalogSession, catalog_properties, commit
from sinks.iceberg.config import IcebergOptions
from sinks.iceberg.due import SnapshotFacts, expired
from sinks.iceberg.errors import Conflict, Doing, translated
from sinks.iceberg.files import remove
from sinks.iceberg.keys import Memory
from sinks.iceberg.snapshots import BRANCH
from wallaby.errors import Refused

ATTEMPTS_MAX: Final = 20
ORPHANS_MAX: Final = 10_000
"""Files removed by one job."""
LAST_LOOK: Final = "wallaby.care.orphans"
"""Property: when all files of the table were looked at last."""
_UPTO: Final = "wallaby.upto"
_OWN_PLACES: Final = ("write.data.path", "write.metadata.path")


def snapshot_facts(table: Table) -> list[SnapshotFacts]:
    """The table's snapshots in the order they were made."""
    ordered = sorted(table.snapshots(), key=lambda one: (one.sequence_number or 0, one.timestamp_ms))
    return [
        SnapshotFacts(one.snapshot_id, one.timestamp_ms, bool(one.summary and one.summary.get(_UPTO)))
        for one in ordered
    ]


def goes_now(table: Table, options: IcebergOptions, now: datetime) -> tuple[int, ...]:
    """The snapshots that may be forgotten."""
    return expired(
        snapshot_facts(table),
        _pinned(table),
        now_ms=int(now.timestamp() * 1000),
        retention=options.snapshot_retention,
        keep_max=options.snapshots_max,
    )


def expire(session: CatalogSession, table: Table, memory: Memory, options: IcebergOptions, now: datetime) -> bool:
    """Forget old snapshots, then remove the files only they needed. False when others were in the way."""
    namespace, name = table.name()[-2:]
    for _ in range(ATTEMPTS_MAX):
        goes = goes_now(table, options, now)
        if not goes:
            return True
        gone = frozenset(goes)
        old = [one for one in table.snapshots() if one.snapshot_id in gone]
        kept = [one for one in table.snapshots() if one.snapshot_id not in gone]
        with translated(Doing.READ, table=f"{namespace}.{name}"):
            useless = _only_of(table, memory, old, kept)
        try:
            commit(table, [RemoveSnapshotsUpdate(snapshot_ids=list(goes))], [])
        except Conflict:
            fresh = session.find(namespace, name)
            if fresh is None:
                return False
            table = fresh
            continue
        remove(table, useless)
        return True
    return False


def remove_orphans(
    session: CatalogSession, table: Table, memory: Memory, options: IcebergOptions, now: datetime
) -> bool:
    """Remove files below the table's location that no snapshot knows and that are older than ``orphan_age``."""
    namespace, name = table.name()[-2:]
    with translated(Doing.READ, table=f"{namespace}.{name}"):
        candidates = _listed(table, options, before=now.astimezone(UTC) - options.orphan_age)
    # Loaded after the listing: what was committed meanwhile is known.
    fresh = session.find(namespace, name)
    if fresh is None:
        return False
    with translated(Doing.READ, table=f"{namespace}.{name}"):
        known = {_bare(path) for path in _known(fresh, memory)}
    orphans = [path for path in candidates if _bare(path) not in known]
    remove(fresh, orphans[:ORPHANS_MAX])
    if len(orphans) > ORPHANS_MAX:
        return True  # the rest at the next turn
    try:
        commit(fresh, [SetPropertiesUpdate(updates={LAST_LOOK: now.astimezone(UTC).isoformat()})], [])
    except Conflict:
        return False
    return True


def last_look(table: Table) -> datetime | None:
    """When the table's files were looked at last."""
    text = table.properties.get(LAST_LOOK)
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _pinned(table: Table) -> frozenset[int]:
    """What must stay whatever its age: heads of branches and tags, and all of a branch that is not ours."""
    found: set[int] = set()
    for name, ref in table.metadata.refs.items():
        snapshot = table.snapshot_by_id(ref.snapshot_id)
        found.add(ref.snapshot_id)
        while name != BRANCH and ref.snapshot_ref_type is SnapshotRefType.BRANCH and snapshot is not None:
            found.add(snapshot.snapshot_id)
            parent = snapshot.parent_snapshot_id
            snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return frozenset(found)


def _only_of(table: Table, memory: Memory, old: list[Snapshot], kept: list[Snapshot]) -> list[str]:
    """Files that ``old`` snapshots need and ``kept`` ones do not; data files first, manifest lists last."""
    staying = _manifests(table, kept)
    going = {path: manifest for path, manifest in _manifests(table, old).items() if path not in staying}
    candidates = _files(table, memory, going.values())
    # The files of manifests that stay are read only when there is something to compare them with.
    needed = _files(table, memory, staying.values()) if candidates else set()
    lists = {one.manifest_list for one in old} - {one.manifest_list for one in kept}
    return [*sorted(candidates - needed), *sorted(going), *sorted(lists)]


def _manifests(table: Table, snapshots: Iterable[Snapshot]) -> dict[str, ManifestFile]:
    return {manifest.manifest_path: manifest for one in snapshots for manifest in one.manifests(table.io)}


def _files(table: Table, memory: Memory, manifests: Iterable[ManifestFile]) -> set[str]:
    return {entry.data_file.file_path for manifest in manifests for entry in memory.entries(table.io, manifest)}


def _known(table: Table, memory: Memory) -> set[str]:
    """Every file the table's metadata leads to."""
    known = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    known |= {file.statistics_path for file in table.metadata.statistics}
    known |= {file.statistics_path for file in table.metadata.partition_statistics}
    known |= {one.manifest_list for one in table.snapshots()}
    manifests = _manifests(table, table.snapshots())
    return known | manifests.keys() | _files(table, memory, manifests.values())


def _listed(table: Table, options: IcebergOptions, *, before: datetime) -> list[str]:
    """Files in the table's own folders that were written before ``before``, as addresses."""
    if any(name in table.properties for name in _OWN_PLACES):
        raise Refused(
            "the table's files lie in a place of their own, which others may share",
            advice="Remove its orphans with your own tool",
            table=".".join(table.name()),
        )
    location = table.location().rstrip("/")
    files, root = _file_system(location, options)
    found = []
    for folder in ("data", "metadata"):
        base = f"{root}/{folder}"
        for info in files.get_file_info(FileSelector(base, recursive=True, allow_not_found=True)):
            if info.type is FileType.File and info.mtime is not None and info.mtime.astimezone(UTC) < before:
                found.append(f"{location}/{folder}{info.path.removeprefix(base)}")
    return found


def _file_system(location: str, options: IcebergOptions) -> tuple[FileSystem, str]:
    place = urlparse(location)
    io = PyArrowFileIO(catalog_properties(options))
    scheme, host, path = PyArrowFileIO.parse_location(location)
    return io.fs_by_scheme(scheme, host), unquote(path) if place.scheme == "file" else path


def _bare(path: str) -> str:
    """An address without the ways to write its beginning."""
    place = urlparse(path)
    return f"{place.netloc}{place.path}".lstrip("/")


__all__ = ["LAST_LOOK", "expire", "goes_now", "last_look", "remove_orphans", "snapshot_facts"]
