"""A 64-bit hash of keys that is the same in every batch, computed in columns: for finding a key again later.

Equal keys have equal hashes; different keys may, so whoever finds one compares the keys themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.content import value_texts
from wallaby.transform.grouping import integers

Hashes = npt.NDArray[np.uint64]

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_NULL: Final = np.uint64(0xD6E8FEB86659FD93)
_RADIX: Final = 0x2545F4914F6CDD1D
"""Odd, so that it has an inverse modulo 2**64."""
_INVERSE: Final = pow(_RADIX, -1, 1 << 64)


def key_hashes(columns: Sequence[pa.Array], rows: int) -> Hashes:
    """One hash per row over all ``columns``, which hold no nulls."""
    hashes = np.zeros(rows, np.uint64)
    for column in columns:
        numbers = integers(column)
        found = numbers.view(np.uint64) if numbers is not None else _text_hashes(value_texts(column))
        hashes = _mixed(hashes + _ODD + _mixed(found + _ODD))
    return hashes


def row_hashes(columns: Sequence[pa.Array], rows: int) -> Hashes:
    """One hash per row over all ``columns``; a null counts as a value of its own, equal in every row."""
    hashes = np.zeros(rows, np.uint64)
    for column in columns:
        found = np.full(rows, _NULL, np.uint64)
        if column.null_count == 0:
            found = key_hashes([column], rows)
        elif column.null_count < rows:
            valid = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            found[valid] = key_hashes([column.take(pa.array(valid))], len(valid))
        hashes = _mixed(hashes + _ODD + found)
    return hashes


def _mixed(values: Hashes) -> Hashes:
    """Every bit of the input reaches every bit of the output (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def _text_hashes(texts: pa.Array) -> Hashes:
    """Each text as a polynomial in its bytes, modulo 2**64: a difference of prefix sums, shifted to power 0."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    prefix = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * _powers(_RADIX, len(data)), out=prefix[1:])
    starts, ends = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
    return (prefix[ends] - prefix[starts]) * _powers(_INVERSE, len(data) + 1)[starts]


def _powers(radix: int, count: int) -> Hashes:
    powers = np.full(count, radix, np.uint64)
    if count:
        powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)
