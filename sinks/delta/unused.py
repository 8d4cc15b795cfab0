"""Files of deletion vectors that nothing needs any more.

A commit writes the vectors of the files it marks into a new file, so every commit leaves the one before it useless, but
for readers of older versions. The log says which files those need: what a version no longer has it names among the
removed for as long as old files are kept (``delta.deletedFileRetentionDuration``), vectors included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from sinks.delta.errors import Doing, translated
from sinks.delta.folder import TableFolder
from sinks.delta.log import LOG, entry_path, newest_checkpoint
from sinks.delta.vectors import FOLDER, place_of


def unused_vectors(folder: TableFolder, version: int, *, before: datetime) -> list[str]:
    """Files made before then that no version up to ``version`` names whose files are still kept; and what a writer
    left that died."""
    old = [path for path, changed in folder.aged(FOLDER) if changed < before]
    if not old:
        return []
    with translated(Doing.WORK, table=folder.table):
        places = map(place_of, _named(folder, version))
        needed = {place.path for place in places if place is not None}
    return [path for path in old if path not in needed]


def _named(folder: TableFolder, version: int) -> Iterator[Mapping[str, Any]]:
    """The vectors of all actions that count: those of the newest checkpoint, and all since then."""
    start, names = newest_checkpoint(folder, version)
    for name in names:
        with folder.open(f"{LOG}/{name}") as file:
            rows = pq.ParquetFile(file).read(columns=["add.deletionVector", "remove.deletionVector"])
        for column in rows.columns:
            if column.type.get_field_index("deletionVector") < 0:
                continue
            held = column.combine_chunks().field("deletionVector")
            # Every commit leaves removed entries, and many of them name one file.
            for text in pc.unique(held.filter(pc.equal(held.field("storageType"), "u")).field("pathOrInlineDv")):
                yield {"storageType": "u", "pathOrInlineDv": text.as_py(), "sizeInBytes": 0}
    for number in range(start + 1, version + 1):
        for line in folder.read(entry_path(number)).splitlines():
            if b"deletionVector" in line:
                action = json.loads(line)
                for kind in ("add", "remove"):
                    if (descriptor := action.get(kind, {}).get("deletionVector")) is not None:
                        yield descriptor


__all__ = ["unused_vectors"]
