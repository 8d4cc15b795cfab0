"""Finding rows by their keys in files that never change, at a cost that follows the keys and not the files.

What is learnt of such a file is true for ever: the hashes of its keys, sorted, and where each is (12 bytes a row, 1 KiB
a file). It is kept in a memory of bounded size; what does not fit is read again.

Hashes of a single integer-like column are as good as the keys themselves. Else two keys may share one, and whoever
finds something compares the keys.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.transform.columns import single
from wallaby.transform.grouping import group_ids, integers
from wallaby.transform.key_hash import Hashes, key_hashes

Positions = npt.NDArray[np.int64]
Arrays = tuple[npt.NDArray[np.generic], ...]

_NONE = np.zeros(0, np.int64)


ENTRY_BYTES: Final = 1 << 10
"""Memory of a name and its arrays beside what is in them: most files that commits add have few rows."""


class ArrayMemory:
    """Arrays by name, at most ``bytes_max`` of them and their names; the longest unused go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._held: OrderedDict[tuple[str, ...], Arrays] = OrderedDict()

    def get(self, name: tuple[str, ...], make: Callable[[], Arrays]) -> Arrays:
        """What is held under ``name``, made now if it is not."""
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        arrays = make()
        self.put(name, arrays)
        return arrays

    def put(self, name: tuple[str, ...], arrays: Arrays) -> None:
        """Hold ``arrays``, which never change, unless they alone are too many. Nothing may be held by that name yet."""
        assert name not in self._held, "what is held never changes"
        size = _size(arrays)
        if size > self._bytes_max:
            return
        self._held[name] = arrays
        self._bytes += size
        while self._bytes > self._bytes_max:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= _size(dropped)


@dataclass(frozen=True, slots=True)
class Asked:
    """Keys that are looked for."""

    hashes: Hashes
    """Ascending."""
    order: Positions
    """Which key each hash is of."""
    is_exact: bool
    """Equal hashes are equal keys."""
    numbers: Positions | None
    """The values of the first column, ascending, where it is integer-like."""

    @classmethod
    def of(cls, keys: Sequence[pa.Array]) -> Asked:
        """For ``keys``: arrays of one length, without nulls."""
        hashes = key_hashes(keys, len(keys[0]))
        order = np.argsort(hashes, kind="stable").astype(np.int64)
        numbers = integers(keys[0])
        is_exact = len(keys) == 1 and numbers is not None
        return cls(hashes[order], order, is_exact, None if numbers is None else np.unique(numbers))

    def among(self, hashes: npt.NDArray[np.generic], places: npt.NDArray[np.generic]) -> tuple[Positions, Positions]:
        """Of a file's index the places with an asked hash, and which key that is of; in no order."""
        first, last = np.searchsorted(hashes, self.hashes, "left"), np.searchsorted(hashes, self.hashes, "right")
        at = _ranges(first, last)
        return places[at].astype(np.int64), self.order[np.repeat(np.arange(len(self.hashes)), last - first)]

    def may_be_between(self, low: int, high: int) -> bool:
        """False when no asked number is from ``low`` to ``high``. For keys with ``numbers`` only."""
        assert self.numbers is not None, "bounds of a column that has no order here"
        return bool(np.searchsorted(self.numbers, low, "left") < np.searchsorted(self.numbers, high, "right"))


def index_of(columns: Sequence[pa.Array], is_valid: npt.NDArray[np.bool_]) -> Arrays:
    """A file's index: its key hashes, ascending, and the place of each; of the rows where ``is_valid``.

    Rows with a null in a key are left out: they equal no key that is asked for.
    """
    valid = is_valid.copy()
    for column in columns:
        if column.null_count:
            valid &= column.is_valid().to_numpy(zero_copy_only=False)
    places = np.flatnonzero(valid)
    if len(places) < len(valid):
        columns = [column.take(pa.array(places)) for column in columns]
    hashes = key_hashes(columns, len(places))
    order = np.argsort(hashes)
    return hashes[order], places[order].astype(np.uint32)


def are_equal(held: Sequence[pa.Array], asked: Sequence[pa.Array]) -> npt.NDArray[np.bool_]:
    """Per row whether the keys are equal and not just their hashes; ``asked`` fits the types of ``held``."""
    count = len(held[0])
    pairs = [pa.concat_arrays([own, other.cast(own.type)]) for own, other in zip(held, asked, strict=True)]
    ids = group_ids(pairs, 2 * count)
    return np.asarray(ids[:count] == ids[count:])


def are_true(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Per row whether a boolean column is true; null is not."""
    return np.asarray(pc.fill_null(single(column), False).to_numpy(zero_copy_only=False), np.bool_)


def _size(arrays: Arrays) -> int:
    return ENTRY_BYTES + sum(array.nbytes for array in arrays)


def _ranges(first: Positions, last: Positions) -> Positions:
    """All integers of the half-open ranges, one range after the other."""
    counts = last - first
    total = int(counts.sum())
    if not total:
        return _NONE
    starts = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return starts + np.arange(total)


__all__ = ["ENTRY_BYTES", "ArrayMemory", "Arrays", "Asked", "Positions", "are_equal", "are_true", "index_of"]
