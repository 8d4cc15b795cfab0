"""What is due at an Iceberg table: pure decisions over counts, sizes, ratios and ages.

Small files are put together in tiers: a file larger than all smaller ones together waits for more of them. So a row is
written again once for each doubling of the file it is in, and a table that is committed to every second is not
rewritten whole at every turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

SMALL_SHARE: Final = 8
"""A file is small below this part of the target size: that counts Arrow's bytes, a file's own are compressed."""
DELETED_PART: Final = 5
"""A file is written again when a fifth of its rows are gone."""
FILES_MAX: Final = 1_000
"""Files of one compaction."""
ROWS_MAX: Final = 16 << 20
"""Rows of one compaction: each costs 12 bytes until it is committed."""
EXPIRED_MIN: Final = 20
"""Old snapshots worth a look at which files only they need; fewer wait until they are twice as old as they may be."""
EXPIRED_MAX: Final = 2_000
"""Snapshots forgotten at once."""
ORPHANS_EVERY: Final = timedelta(days=1)
"""Between two looks at all files of a table."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A data file. ``group`` is its partition: files of different ones are never put together."""

    path: str
    size: int
    rows: int
    deleted: int
    group: Hashable


@dataclass(frozen=True, slots=True)
class Compaction:
    """One job: data files of one partition that become fewer, and whether its delete files become one."""

    group: Hashable
    paths: tuple[str, ...]
    merges_deletes: bool


def compactions(
    files: Iterable[FileFacts], delete_files: Mapping[Hashable, int], *, target_bytes: int, files_min: int
) -> tuple[Compaction, ...]:
    """The jobs that are due, most files first. ``delete_files`` counts delete files by partition."""
    groups: dict[Hashable, list[FileFacts]] = defaultdict(list)
    for file in files:
        groups[file.group].append(file)
    found = []
    for group, members in groups.items():
        merges = delete_files.get(group, 0) >= files_min
        small_bytes = target_bytes // SMALL_SHARE
        dirty = [
            file
            for file in members
            if file.deleted and file.deleted * DELETED_PART >= file.rows and (merges or file.size >= small_bytes)
        ]
        small = tier([file for file in members if file.size < small_bytes])
        chosen = {file.path: file for file in (*dirty, *(small if len(small) >= files_min else ()))}
        if chosen or merges:
            found.append(Compaction(group, _bounded(list(chosen.values())), merges))
    return tuple(sorted(found, key=lambda one: len(one.paths), reverse=True))


def tier(files: Sequence[FileFacts]) -> list[FileFacts]:
    """The smaller ones of ``files``, ascending by size: the largest kept is no larger than the others together."""
    ordered = sorted(files, key=lambda file: (file.size, file.path))
    total = sum(file.size for file in ordered)
    while ordered and ordered[-1].size > total - ordered[-1].size:
        total -= ordered.pop().size
    return ordered


def _bounded(files: list[FileFacts]) -> tuple[str, ...]:
    """The first files within the limits of one job, in the order given; one file may be larger."""
    chosen: list[str] = []
    rows = 0
    for file in files[:FILES_MAX]:
        rows += file.rows
        if chosen and rows > ROWS_MAX:
            break
        chosen.append(file.path)
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A snapshot. ``is_marked``: wallaby wrote how far it goes."""

    id: int
    made_at_ms: int
    is_marked: bool


def expired(
    snapshots: Sequence[SnapshotFacts], pinned: frozenset[int], *, now_ms: int, retention: timedelta, keep_max: int
) -> tuple[int, ...]:
    """Snapshots to be forgotten, oldest first. ``snapshots`` are in order of their making.

    Kept are ``pinned`` ones (the present one, and what tags and branches name), the newest that says how far it goes,
    and of those younger than ``retention`` the newest ``keep_max``.
    """
    marked = [one.id for one in snapshots if one.is_marked]
    kept = pinned | set(marked[-1:])
    since = now_ms - retention // timedelta(milliseconds=1)
    young = {one.id for one in snapshots[-keep_max:] if one.made_at_ms >= since}
    return tuple(one.id for one in snapshots if one.id not in kept and one.id not in young)[:EXPIRED_MAX]


def is_expiry_due(
    goes: Sequence[int], snapshots: Sequence[SnapshotFacts], *, now_ms: int, retention: timedelta
) -> bool:
    """Whether forgetting the snapshots ``goes`` is worth it."""
    if not goes:
        return False
    oldest = next(one.made_at_ms for one in snapshots if one.id == goes[0])
    return len(goes) >= EXPIRED_MIN or now_ms - oldest >= 2 * (retention // timedelta(milliseconds=1))


def are_orphans_due(last: datetime | None, now: datetime) -> bool:
    """Whether all files of a table are looked at again."""
    return last is None or now - last >= ORPHANS_EVERY


__all__ = [
    "EXPIRED_MIN",
    "ORPHANS_EVERY",
    "ROWS_MAX",
    "SMALL_SHARE",
    "Compaction",
    "FileFacts",
    "SnapshotFacts",
    "are_orphans_due",
    "compactions",
    "expired",
    "is_expiry_due",
    "tier",
]
