"""What is due at a Delta table: pure decisions over the sizes of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final

SMALL_SHARE: Final = 2
"""A file is small below this part of the target size, which here is a file's own size, compressed."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A data file. ``group`` is its partition: files of different ones are never put together."""

    size: int
    group: Hashable


def small_files(files: Iterable[FileFacts], *, target_bytes: int) -> Counter[Hashable]:
    """Small files by partition."""
    return Counter(file.group for file in files if file.size * SMALL_SHARE < target_bytes)


def is_compaction_due(files: Iterable[FileFacts], *, target_bytes: int, files_min: int) -> bool:
    """Whether a partition has so many small files that it is worth writing them again."""
    return any(count >= files_min for count in small_files(files, target_bytes=target_bytes).values())


__all__ = ["SMALL_SHARE", "FileFacts", "is_compaction_due", "small_files"]
