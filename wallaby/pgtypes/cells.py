"""Cells of a replication stream or a COPY as the kernels index them, and what is wrong with some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int32]


class MalformedCell(Exception):
    """A cell's bytes are not of its type: ``row`` of the column, ``reason`` without the value."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


class NoBinaryForm(MalformedCell):
    """The cell is of a type that must travel as text, yet came in binary."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of some tuples: cell ``base[i] + column`` of the index is row i. ``data`` is read-only.

    ``offset`` is inverted (negative) for text; ``length`` is negative where there is no value.
    """

    data: Bytes
    offset: Index
    length: Index
    base: Index
    column: int = 0

    @property
    def rows(self) -> int:
        return len(self.base)

    def args(self) -> tuple[Bytes, Index, Index, Index, int]:
        """The leading arguments of every gather."""
        return self.data, self.offset, self.length, self.base, self.column

    def lengths(self) -> Index:
        """Each row's cell length."""
        return self.length[self.base + self.column]

    def are_texts(self) -> npt.NDArray[np.bool_]:
        """True for each row whose cell is text."""
        return self.offset[self.base + self.column] < 0
