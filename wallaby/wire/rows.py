"""Columns of cells as rows of bytes (`wallaby.wire.row_kernels`): the memory for it, and the forms a cell has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.memory import unwritten
from wallaby.wire import row_kernels as kernels

Octets = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint64]

NOTHING: Final = np.zeros(0, np.uint8)
_NO_NUMBERS: Final = np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Row ``i`` is ``data[ends[i]:ends[i + 1]]``."""

    data: Octets
    ends: Places

    def __len__(self) -> int:
        return len(self.ends) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Which rows have a cell, and what says so: ``lead`` before each that is there, ``absent`` in place of others."""

    valid: Octets = field(default_factory=lambda: NOTHING)
    """A byte per row; none at all: every row has a cell."""
    lead: Octets = field(default_factory=lambda: NOTHING)
    absent: Octets = field(default_factory=lambda: NOTHING)


class Cells(Protocol):
    """One column. Both calls are made once, in this order."""

    def add_sizes(self, sizes: Places) -> None:
        """Add what each row's cell takes."""
        ...

    def put(self, cursor: Places, out: Octets) -> None:
        """Write each row's cell at its cursor and move that on."""
        ...


@dataclass(frozen=True, slots=True)
class Varints:
    """Unsigned numbers, seven bits per byte."""

    values: Numbers
    presence: Presence

    def add_sizes(self, sizes: Places) -> None:
        there = self.presence
        kernels.add_varint_sizes(self.values, there.valid, len(there.lead), len(there.absent), sizes)

    def put(self, cursor: Places, out: Octets) -> None:
        there = self.presence
        kernels.put_varints(self.values, there.valid, there.lead, there.absent, cursor, out)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Cells of ``width`` bytes; with none, only what says that they are there."""

    data: Octets
    width: int
    presence: Presence

    def add_sizes(self, sizes: Places) -> None:
        there = self.presence
        present = len(there.lead) + self.width
        sizes += present if len(there.valid) == 0 else np.where(there.valid, present, len(there.absent))

    def put(self, cursor: Places, out: Octets) -> None:
        there = self.presence
        kernels.put_fixed(self.data, self.width, there.valid, there.lead, there.absent, cursor, out)


@dataclass(frozen=True, slots=True)
class Spans:
    """Cells of any length. ``prefix``: a number before each, and ``tail`` after those where it is not zero."""

    rows: Rows
    presence: Presence
    prefix: Numbers = field(default_factory=lambda: _NO_NUMBERS)
    tail: Octets = field(default_factory=lambda: NOTHING)

    def add_sizes(self, sizes: Places) -> None:
        there = self.presence
        kernels.add_span_sizes(
            self.rows.ends, self.prefix, len(self.tail), there.valid, len(there.lead), len(there.absent), sizes
        )

    def put(self, cursor: Places, out: Octets) -> None:
        there = self.presence
        kernels.put_spans(
            self.rows.data,
            self.rows.ends,
            self.prefix,
            self.tail,
            there.valid,
            there.lead,
            there.absent,
            cursor,
            out,
        )


def constant(content: bytes) -> Fixed:
    """The same bytes in every row."""
    return Fixed(NOTHING, 0, Presence(lead=as_octets(content)))


def joined(columns: Sequence[Cells], rows: int) -> Rows:
    """The cells of each row side by side."""
    sizes = np.zeros(rows, np.int64)
    for column in columns:
        column.add_sizes(sizes)
    ends = np.zeros(rows + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    out = unwritten(int(ends[-1]), np.uint8)
    cursor = ends[:-1].copy()
    for column in columns:
        column.put(cursor, out)
    assert np.array_equal(cursor, ends[1:]), "cells are longer or shorter than they said"
    return Rows(out, ends)


def spans(array: pa.Array) -> Rows:
    """The bytes of a string or binary array."""
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, ends, data = array.buffers()
    places = np.frombuffer(ends, np.int64 if wide else np.int32)[array.offset : array.offset + len(array) + 1]
    return Rows(NOTHING if data is None else np.frombuffer(data, np.uint8), places.astype(np.int64))


def validity(array: pa.Array) -> Octets:
    """For `Presence`."""
    if array.null_count == 0:
        return NOTHING
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False)).view(np.uint8)


def as_octets(content: bytes) -> Octets:
    return np.frombuffer(content, np.uint8)


__all__ = [
    "NOTHING",
    "Cells",
    "Fixed",
    "Numbers",
    "Octets",
    "Places",
    "Presence",
    "Rows",
    "Spans",
    "Varints",
    "as_octets",
    "constant",
    "joined",
    "spans",
    "validity",
]
