"""Where things lie below the root, and how names become file names.

::

    <path>/<schema>/<table>/<after>-<upto>-l<lane>-<mark>.parquet        rows; of a directory committed ones only
    <path>/<schema>/<table>/<column>=<value>/…                           the same with ``partition_by``
    <path>/_wallaby/format.json                                          version of this layout
    <path>/_wallaby/lanes/<flow>/<destination>/<lane>/<seq>.json         the lane's log: one manifest per commit
    <path>/_wallaby/lanes/<flow>/<destination>/<lane>/archive/…jsonl     older manifests, many to a file
    <path>/_wallaby/staging/<flow>/<destination>/<lane>/<epoch>/…        what is not committed (yet)

Positions are printed as `wallaby.lsn.Position` prints them, so file names sort in stream order. ``mark`` tells files of
different flows, epochs, repeated copies and contents apart: whoever makes a key again makes the same bytes. Names are
percent-encoded where a file system or a glob could misread them; the longest PostgreSQL name, 63 bytes, fits even when
every byte is encoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:  # options are read without Arrow, which windows need
    from wallaby.lsn import Position
    from wallaby.schema import TableName
    from wallaby.window import LaneId

OWN_FOLDER: Final = "_wallaby"
LANES_FOLDER: Final = f"{OWN_FOLDER}/lanes"
FORMAT_KEY: Final = f"{OWN_FOLDER}/format.json"
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


def data_file(
    table: TableName,
    lane: LaneId,
    *,
    folder: str = "",
    after: Position,
    upto: Position,
    epoch: int,
    sequence: int,
    number: int,
    sha256: str,
    suffix: str,
) -> str:
    """The final place of the ``number``-th file of the lane's manifest ``sequence``, relative to the root.

    ``folder`` is its partition's, below the table's.
    """
    what = f"{lane.flow}\0{lane.destination}\0{lane.index}\0{epoch}\0{sequence}\0{number}\0{sha256}"
    mark = hashlib.sha256(what.encode()).hexdigest()[:12]
    place = f"{table_folder(table)}/{folder}" if folder else table_folder(table)
    return f"{place}/{after}-{upto}-l{lane.index}-{mark}{suffix}"


@dataclass(frozen=True, slots=True)
class LaneFolders:
    """A lane's own folders, relative to the root."""

    lane: LaneId

    @property
    def log(self) -> str:
        return f"{LANES_FOLDER}/{self._relative}"

    @property
    def archive(self) -> str:
        return f"{self.log}/archive"

    @property
    def staging(self) -> str:
        return f"{OWN_FOLDER}/staging/{self._relative}"

    def staging_of(self, epoch: int) -> str:
        return f"{self.staging}/{epoch:020d}"

    @property
    def _relative(self) -> str:
        return f"{encode_name(self.lane.flow)}/{encode_name(self.lane.destination)}/{self.lane.index}"


__all__ = [
    "FORMAT_KEY",
    "FORMAT_VERSION",
    "LANES_FOLDER",
    "OWN_FOLDER",
    "LaneFolders",
    "data_file",
    "decode_name",
    "encode_name",
    "table_folder",
]
