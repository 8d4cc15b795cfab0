"""The arena: bytes stay in order, room is made without losing any, one huge message fits and is given back."""

from __future__ import annotations

import random

import numpy as np
import pytest

from wallaby.errors import DecodeError
from wallaby.postgres.arena import MESSAGE_BYTES_MAX, Arena


def test_what_is_written_is_read_in_order_whatever_the_sizes() -> None:
    chance = random.Random(7)
    arena, written, read = Arena(64), bytearray(), bytearray()
    for _ in range(2_000):
        arena.make_room()
        piece = chance.randbytes(chance.randint(0, arena.room))
        arena.data[arena.end : arena.end + len(piece)] = np.frombuffer(piece, np.uint8)
        arena.end += len(piece)
        written += piece
        count = chance.randint(0, len(arena))
        read += arena.data[arena.begin : arena.begin + count].tobytes()
        arena.consume(count)
    read += arena.data[arena.begin : arena.end].tobytes()
    assert read == written


def test_it_grows_for_one_message_and_shrinks_back() -> None:
    arena = Arena(64)
    arena.make_room(1000)
    assert arena.room >= 1004
    arena.end = 1004
    arena.make_room(2000)
    assert len(arena.data) == 1004, "it grew while it was not empty"
    arena.consume(1004)
    arena.make_room()
    assert len(arena.data) == 64


def test_a_message_beyond_what_postgresql_can_build_is_an_error() -> None:
    with pytest.raises(DecodeError):
        Arena(64).make_room(MESSAGE_BYTES_MAX + 1)
