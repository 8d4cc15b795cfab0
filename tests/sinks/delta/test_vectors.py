"""Deletion vectors in bytes: round trips, damage, and what other implementations of the protocol have written."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from sinks.delta.vectors import FOLDER, Place, identity, payload_of, place_of, positions_in, vector_file
from wallaby.errors import Refused

SETS = [
    [0],
    [3, 5],
    list(range(100_000)),
    [0, 65_535, 65_536, 2**31, 2**32 - 1],
    list(range(0, 300_000, 2)),
    [*range(10_000), *range(70_000, 70_500, 3)],
]


@pytest.mark.parametrize("rows", SETS, ids=str)
def test_a_vector_comes_back_as_it_was(rows: list[int]) -> None:
    shuffled = np.array(rows, np.int64)
    np.random.default_rng(1).shuffle(shuffled)
    assert positions_in(payload_of(shuffled)).tolist() == rows


def test_a_vector_is_in_the_bytes_of_the_protocol() -> None:
    """Magic number, one bucket with number 0, and a roaring bitmap: cookie, one container of two sorted numbers."""
    expected = struct.pack("<IQI", 1681511377, 1, 0) + struct.pack("<IIHHIHH", 12346, 1, 0, 1, 16, 3, 5)
    assert payload_of(np.array([5, 3])) == expected


def test_vectors_share_a_file_and_each_finds_its_own() -> None:
    payloads = [payload_of(np.array(rows, np.int64)) for rows in SETS]
    path, content, descriptors = vector_file(payloads, [len(rows) for rows in SETS])
    assert path.startswith(f"{FOLDER}/deletion_vector_")
    for rows, descriptor in zip(SETS, descriptors, strict=True):
        place = place_of(descriptor)
        assert place is not None
        assert (place.path, descriptor["cardinality"]) == (path, len(rows))
        stored = content[place.offset : place.offset + place.stored_size]
        assert positions_in(place.payload(stored)).tolist() == rows
    assert len({identity(descriptor) for descriptor in descriptors}) == len(SETS)


def test_names_of_vectors_are_those_of_the_protocol() -> None:
    """The example of the protocol's text: prefix ``ab``, and the same without one."""
    named = {"storageType": "u", "offset": 4, "sizeInBytes": 40, "cardinality": 6}
    uuid = "d2c639aa-8816-431a-aaf6-d3fe2512ff61"
    with_prefix = place_of({**named, "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^"})
    assert with_prefix == Place(f"ab/deletion_vector_{uuid}.bin", 4, 40)
    assert place_of({**named, "pathOrInlineDv": "^-aqEH.-t@S}K{vb[*k^"}) == Place(f"deletion_vector_{uuid}.bin", 4, 40)
    assert place_of({**named, "storageType": "p", "pathOrInlineDv": "s3://elsewhere/a.bin"}) is None


def test_vectors_in_the_action_itself_are_read() -> None:
    import base64

    payload = payload_of(np.array([1, 7]))
    padded = payload + bytes(-len(payload) % 4)
    z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    b85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    text = base64.b85encode(padded).decode().translate(str.maketrans(b85, z85))
    place = place_of({"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(payload), "cardinality": 2})
    assert place is not None
    assert positions_in(place.payload(b"")).tolist() == [1, 7]


@pytest.mark.must_not_fail(25)
def test_a_vector_cut_off_or_changed_anywhere_is_refused() -> None:
    payload = payload_of(np.arange(0, 5_000, 7))
    _, content, [descriptor] = vector_file([payload], [715])
    place = place_of(descriptor)
    assert place is not None
    stored = content[place.offset :]
    for end in range(len(stored)):
        with pytest.raises(Refused, match="damaged"):
            place.payload(stored[:end])
    choice = random.Random(3)
    for _ in range(200):
        at = choice.randrange(len(stored))
        changed = stored[:at] + bytes([stored[at] ^ choice.randrange(1, 256)]) + stored[at + 1 :]
        with pytest.raises(Refused, match="damaged"):
            place.payload(changed)


def test_what_is_no_vector_is_refused() -> None:
    payload = payload_of(np.arange(0, 200_000, 3))
    for end in range(0, len(payload), 97):
        with pytest.raises(Refused):
            positions_in(payload[:end])
    choice = random.Random(5)
    for _ in range(200):
        with pytest.raises(Refused):
            positions_in(choice.randbytes(choice.randrange(60)))


def test_rows_beyond_those_of_any_file_are_refused() -> None:
    beyond = bytearray(payload_of(np.array([1])))
    beyond[12:16] = struct.pack("<I", 1)
    with pytest.raises(Refused, match="beyond"):
        positions_in(bytes(beyond))
