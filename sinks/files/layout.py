"""Where things lie in the directory, and how names become file names.

::

    <path>/<schema>/<table>/<after>-<upto>-l<lane>-<mark>.parquet        committed rows, nothing else matches *.parquet
    <path>/_wallaby/format.json                                          version of this layout
    <path>/_wallaby/lanes/<flow>/<destination>/<lane>/<seq>.json         the lane's log: one manifest per commit
    <path>/_wallaby/lanes/<flow>/<destination>/<lane>/archive/…jsonl     older manifests, many to a file
    <path>/_wallaby/staging/<flow>/<destination>/<lane>/<epoch>/…part    rows that are not committed (yet)

Positions are printed as `wallaby.lsn.Position` prints them, so file names sort in stream order. ``mark`` tells files
of different flows and of repeated copies apart. Names are percent-encoded where a file system or a glob could misread
them; the longest PostgreSQL name, 63 bytes, fits even when every byte is encoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from wallaby.lsn import Position
from wallaby.schema import TableName
from wallaby.window import LaneId

OWN_FOLDER: Final = "_wallaby"
FORMAT_VERSION: Final = 1
_NAME_BYTES_MAX: Final = 200


def encode_name(name: str) -> str:
    """A file name for any text: letters, digits, ``-`` and ``_`` stay, the rest is percent-encoded; reversible.

    A name that begins with ``_wallaby`` is encoded further, so that no table can lie in our folder.
    """
    text = quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
    if text.startswith(OWN_FOLDER):
        text = "%5F" + text[1:]
    if len(text) > _NAME_BYTES_MAX:
        return f"{text[: _NAME_BYTES_MAX - 66]}%%{hashlib.sha256(name.encode()).hexdigest()}"
    return text


def decode_name(text: str) -> str:
    """What `encode_name` was given (names of PostgreSQL are never cut)."""
    return unquote(text)


def table_folder(table: TableName) -> str:
    """Relative to the root, with ``/``."""
    return f"{encode_name(table.schema)}/{encode_name(table.name)}"


def data_file(table: TableName, lane: LaneId, *, after: Position, upto: Position, mark: tuple[object, ...]) -> str:
    """The final place of a file of the lane, relative to the root; ``mark`` tells it from others of equal position."""
    text = "\0".join(map(str, (lane.flow, lane.destination, lane.index, *mark)))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{table_folder(table)}/{after}-{upto}-l{lane.index}-{digest}.parquet"


def lane_log(lane: LaneId) -> str:
    """The folder of the lane's log, relative to the root."""
    return f"{OWN_FOLDER}/lanes/{_relative(lane)}"


def lane_archive(lane: LaneId) -> str:
    """The folder of the log's archives, relative to the root."""
    return f"{lane_log(lane)}/archive"


def lane_staging(lane: LaneId) -> str:
    """The folder of what is not committed yet, relative to the root."""
    return f"{OWN_FOLDER}/staging/{_relative(lane)}"


def _relative(lane: LaneId) -> str:
    return f"{encode_name(lane.flow)}/{encode_name(lane.destination)}/{lane.index}"


@dataclass(frozen=True, slots=True)
class LaneFolders:
    """A lane's own folders under ``root``."""

    root: Path
    lane: LaneId

    @property
    def log(self) -> Path:
        return self.root / lane_log(self.lane)

    @property
    def archive(self) -> Path:
        return self.root / lane_archive(self.lane)

    @property
    def staging(self) -> Path:
        return self.root / lane_staging(self.lane)

    def staging_of(self, epoch: int) -> Path:
        return self.staging / f"{epoch:020d}"


__all__ = [
    "FORMAT_VERSION",
    "OWN_FOLDER",
    "LaneFolders",
    "data_file",
    "decode_name",
    "encode_name",
    "lane_archive",
    "lane_log",
    "lane_staging",
    "table_folder",
]
