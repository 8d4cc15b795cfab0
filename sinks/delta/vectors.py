"""Deletion vectors: which rows of a data file are gone, in the bytes that the Delta protocol gives them.

A vector is a set of row numbers: a magic number, then a 64-bit roaring bitmap in its portable form. A file holds any
number of them, and an action of the log says where in it its own is::

    01 | size, payload, CRC-32 of the payload | size, payload, CRC-32 | …        size and CRC-32 big-endian

The files are in a folder of their own, ``_deletion_vectors``, which the protocol allows as a prefix of their names. Not
for tidiness: a vacuum of deltalake 1.6 that also looks for files nobody knows takes vectors for such and removes them
though they are in use. It leaves folders alone that begin with ``_``, and so does Spark's. Who removes them is
`sinks.delta.unused`.
"""

from __future__ import annotations

import base64
import struct
import uuid
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap, BitMap64

from wallaby.errors import Refused

FOLDER: Final = "_deletion_vectors"
"""Below the table."""

Positions = npt.NDArray[np.int64]

_VERSION: Final = b"\x01"
_MAGIC: Final = struct.pack("<I", 1681511377)
_ONE_BUCKET: Final = struct.pack("<QI", 1, 0)
"""Row numbers below 2^32 are one bucket of a 64-bit bitmap: its number of buckets, and the number of this one."""
_ROWS_MAX: Final = 1 << 32
_SIZE: Final = struct.Struct(">I")
_UUID_LENGTH: Final = 20
_INSIDE: Final = frozenset({"u", "i"})
"""Kinds of storage: a file of the table's folder, and in the action itself."""
_Z85: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_Z85: Final = bytes.maketrans(_B85, _Z85)
_FROM_Z85: Final = bytes.maketrans(_Z85, _B85)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vector is: in a file, at an offset, or in the action itself."""

    path: str
    """Below the table; empty for one in the action."""
    offset: int
    size: int
    """Of the payload."""
    inline: bytes = b""

    def payload(self, stored: bytes) -> bytes:
        """The vector's own bytes out of what is ``stored`` from ``offset`` on: its size, itself, its checksum.

        `Refused` when they are not what was written.
        """
        if not self.path:
            return self.inline
        payload = stored[_SIZE.size : _SIZE.size + self.size]
        checksum = stored[_SIZE.size + self.size :]
        if stored[: _SIZE.size] != _SIZE.pack(self.size) or checksum != _SIZE.pack(zlib.crc32(payload)):
            raise _damaged(self.path)
        return payload

    @property
    def stored_size(self) -> int:
        """Bytes from ``offset`` on."""
        return 2 * _SIZE.size + self.size


def payload_of(positions: Positions) -> bytes:
    """The bytes of a vector of these rows, in any order, each from 0 to 2^32 - 1."""
    numbers = array("I")
    numbers.frombytes(np.ascontiguousarray(positions, np.uint32).tobytes())
    bitmap = BitMap(numbers)
    bitmap.run_optimize()
    return _MAGIC + _ONE_BUCKET + bytes(bitmap.serialize())


def positions_in(payload: bytes) -> Positions:
    """The rows of a vector, ascending. `Refused` for what is none."""
    if not payload.startswith(_MAGIC):
        raise _damaged("a vector")
    try:
        numbers = BitMap64.deserialize(payload[len(_MAGIC) :]).to_array()
    except (ValueError, RuntimeError, IndexError) as error:
        raise _damaged("a vector") from error
    positions = np.frombuffer(numbers, np.uint64).astype(np.int64)
    if len(positions) and positions[-1] >= _ROWS_MAX:
        raise Refused("a deletion vector names rows beyond those a file can have", advice="Compact the table")
    return positions


def vector_file(payloads: Sequence[bytes], cardinalities: Sequence[int]) -> tuple[str, bytes, list[dict[str, Any]]]:
    """A new file of vectors: its path below the table, its bytes, and per vector what an action says of it."""
    name = uuid.uuid4()
    content = bytearray(_VERSION)
    descriptors: list[dict[str, Any]] = []
    for payload, cardinality in zip(payloads, cardinalities, strict=True):
        descriptors.append(
            {
                "storageType": "u",
                "pathOrInlineDv": FOLDER + base64.b85encode(name.bytes).translate(_TO_Z85).decode(),
                "offset": len(content),
                "sizeInBytes": len(payload),
                "cardinality": cardinality,
            }
        )
        content += _SIZE.pack(len(payload)) + payload + _SIZE.pack(zlib.crc32(payload))
    return _path(FOLDER, name), bytes(content), descriptors


def lies_inside(descriptor: Mapping[str, Any]) -> bool:
    """Whether the vector of an action is the table's own; clones of a table have others."""
    return descriptor["storageType"] in _INSIDE


def place_of(descriptor: Mapping[str, Any]) -> Place | None:
    """Where the vector of an action is; None for one that does not lie inside."""
    text, size = str(descriptor["pathOrInlineDv"]), int(descriptor["sizeInBytes"])
    match descriptor["storageType"]:
        case "u":
            prefix, name = text[:-_UUID_LENGTH], text[-_UUID_LENGTH:]
            path = _path(prefix, uuid.UUID(bytes=_from_z85(name)))
            return Place(path, int(descriptor.get("offset") or 0), size)
        case "i":
            return Place("", 0, size, _from_z85(text)[:size])
        case _:
            return None


def identity(descriptor: Mapping[str, Any] | None) -> str:
    """What tells the vectors of a file apart; empty for none."""
    if descriptor is None:
        return ""
    offset = descriptor.get("offset")
    return f"{descriptor['storageType']}{descriptor['pathOrInlineDv']}" + ("" if offset is None else f"@{offset}")


def _path(prefix: str, name: uuid.UUID) -> str:
    return f"{prefix}/deletion_vector_{name}.bin" if prefix else f"deletion_vector_{name}.bin"


def _from_z85(text: str) -> bytes:
    try:
        return base64.b85decode(text.encode("ascii").translate(_FROM_Z85))
    except ValueError as error:
        raise _damaged("a vector's name") from error


def _damaged(what: str) -> Refused:
    return Refused(
        "a deletion vector is damaged",
        advice="Restore the file from a backup, or copy the table again with --resnapshot",
        file=what,
    )


__all__ = ["FOLDER", "Place", "identity", "lies_inside", "payload_of", "place_of", "positions_in", "vector_file"]
