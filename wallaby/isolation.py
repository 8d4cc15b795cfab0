"""Which rows a destination refuses: found by trying, with whole sets, never row by row.

The changes of an uncommitted interval are sorted into *units*, the smallest pieces that may be set aside by themselves
(a key with all its changes, and the keys its rows moved to; see `wallaby.aside`), in the order in which they first
appear. The destination tries beginnings of that row of units: the longest beginning it takes ends right before a unit
it refuses. Bisecting finds that place in log2(units) trials. The unit leaves, and the search goes on behind it, until
the destination takes all that is left.

Beginnings, and not halves of halves, because rows of a transaction may need each other (a parent before its child, a
value of a unique index that an earlier change sets free): what the source could do in this order, the target can. The
price is that every trial writes the beginning again; this is the rare case, and its number of trials has a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wallaby.aside import Mask, PartKeys, chosen, key_set, together
from wallaby.errors import RowRefused
from wallaby.lsn import Lsn, Position
from wallaby.memory import unwritten
from wallaby.schema import TableName
from wallaby.transform.columns import single
from wallaby.window import TablePart

Trial = Callable[[tuple[TablePart, ...]], None]
"""Writes parts and lets the destination apply them, uncommitted; `RowRefused` when it does not take them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A unit the destination refused. ``position`` is of the unit's first change."""

    unit: int
    table: TableName
    position: Position
    error: RowRefused
    attempts: int


class Suspects:
    """Changes of one uncommitted interval, sorted into units."""

    def __init__(self, parts: Sequence[TablePart]) -> None:
        self.parts = tuple(part for part in parts if part.rows)
        self._keys = [PartKeys.of(part) for part in self.parts]
        self._units = self._sorted_into_units()
        self.tables: list[TableName] = []
        """Per unit, its table."""
        self.positions: list[Position] = []
        """Per unit, the position of its first change."""
        self._name_units()

    def __len__(self) -> int:
        return len(self.tables)

    def of_units(self, units: npt.NDArray[np.int64]) -> tuple[TablePart, ...]:
        """The changes of these units, in the order of the parts."""
        is_chosen = np.zeros(len(self), np.bool_)
        is_chosen[units] = True
        found = (chosen(part, is_chosen[own]) for part, own in zip(self.parts, self._units, strict=True))
        return tuple(part for part in found if part is not None)

    def pieces(self, unit: int) -> list[tuple[TablePart, tuple[int, ...]]]:
        """The unit's changes, part by part, and the hashes of their keys."""
        found = []
        for part, keys, own in zip(self.parts, self._keys, self._units, strict=True):
            mask: Mask = own == unit
            if (piece := chosen(part, mask)) is not None:
                found.append((piece, key_set(keys, mask)))
        return found

    def _sorted_into_units(self) -> list[npt.NDArray[np.int64]]:
        """Per part and row the number of its unit; units are numbered in the order of their first changes."""
        units: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(self.parts)
        offset = 0
        for name in dict.fromkeys(part.schema.name for part in self.parts):
            places = [i for i, part in enumerate(self.parts) if part.schema.name == name]
            labels = together([self._keys[i] for i in places])
            for i, label in zip(places, labels, strict=True):
                units[i] = label + offset
            offset += max((int(label.max()) for label in labels), default=0) + 1
        if not units:
            return units
        commits, ordinals = self._places()
        order = np.lexsort((ordinals, commits))
        every = np.concatenate(units)
        _, first, inverse = np.unique(every[order], return_index=True, return_inverse=True)
        rank = unwritten(len(first), np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        numbers = unwritten(len(every), np.int64)
        numbers[order] = rank[inverse]
        return np.split(numbers, np.cumsum([len(own) for own in units])[:-1])

    def _places(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        tables = [part.table() for part in self.parts]
        commits, ordinals = (
            np.concatenate([single(table[name]).to_numpy() for table in tables]) for name in ("commit_lsn", "ordinal")
        )
        return commits, ordinals

    def _name_units(self) -> None:
        if not self.parts:
            return
        commits, ordinals = self._places()
        units = np.concatenate(self._units)
        table_of = np.repeat(np.arange(len(self.parts)), [part.rows for part in self.parts])
        order = np.lexsort((ordinals, commits))
        _, first = np.unique(units[order], return_index=True)
        at = order[first]
        self.tables = [self.parts[i].schema.name for i in table_of[at].tolist()]
        places = zip(commits[at].tolist(), ordinals[at].tolist(), strict=True)
        self.positions = [Position(Lsn(lsn), ordinal) for lsn, ordinal in places]


def first_refused(
    suspects: Suspects, units: npt.NDArray[np.int64], taken: int, attempt: Trial, *, attempts: int
) -> Refusal | int:
    """The first of ``units`` the destination refuses, tried ``attempts`` times; how many it takes when that is all.

    The first ``taken`` of them are known to be taken. When all are, the destination holds them, uncommitted.
    """
    refused = _tried(suspects.of_units(units), attempt)
    if refused is None:
        return len(units)
    low, high = min(taken, len(units) - 1), len(units)
    while high - low > 1:
        middle = (low + high) // 2
        found = _tried(suspects.of_units(units[:middle]), attempt)
        if found is None:
            low = middle
        else:
            high, refused = middle, found
    for _ in range(attempts - 1):
        found = _tried(suspects.of_units(units[:high]), attempt)
        if found is None:
            return high  # taken after all: the destination changed its mind
        refused = found
    unit = int(units[low])
    return Refusal(unit, suspects.tables[unit], suspects.positions[unit], refused, attempts)


def _tried(parts: tuple[TablePart, ...], attempt: Trial) -> RowRefused | None:
    try:
        attempt(parts)
    except RowRefused as error:
        return error
    return None
