"""Poisons for memory nobody has written (see ``wallaby.memory``), and what must be the same under all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.memory import POISON, Poison

_Result = TypeVar("_Result")


def byte(value: int) -> Poison:
    """The same byte everywhere."""

    def fill(memory: npt.NDArray[np.uint8]) -> None:
        memory.fill(value)

    return fill


def noise(seed: int) -> Poison:
    """Random bytes; the same ones when the same memory is taken again in the same order."""
    rng = np.random.default_rng(seed)

    def fill(memory: npt.NDArray[np.uint8]) -> None:
        memory[:] = rng.integers(0, 256, len(memory), np.uint8)

    return fill


NEGATIVE: Final = byte(0xEE)
"""Every integer in it is negative: a length of it means NULL, an offset of it means text."""


@contextmanager
def poisoned(poison: Poison) -> Iterator[None]:
    """Memory that is taken inside, in this thread, is poisoned."""
    token = POISON.set(poison)
    try:
        yield
    finally:
        POISON.reset(token)


def under_every_poison(work: Callable[[], _Result]) -> list[_Result]:
    """What ``work`` returns under poisons that have no bit in common, and under random ones."""
    found = []
    for poison in (NEGATIVE, byte(0x11), byte(0x00), noise(1)):
        with poisoned(poison):
            found.append(work())
    return found


def written(batches: Iterable[pa.RecordBatch]) -> list[bytes]:
    """Every byte of the batches that a file or another process may get to see: values under nulls and spare bits too.

    ArrowInvalid when one is not valid.
    """
    streams = []
    for batch in batches:
        batch.validate(full=True)
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, batch.schema) as writer:
            writer.write_batch(batch)
        streams.append(stream.getvalue().to_pybytes())
    return streams
