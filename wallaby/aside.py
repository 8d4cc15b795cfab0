"""Which changes belong together: those of one key, and of keys a row moved between, in columns.

A change has one or two keys: where its row stood and where it stands. Setting one aside sets the other aside too, or
the row would be in two places; so keys spread along moves, within a window at once and from window to window through
what was set aside before. A table without a key but with replica identity full has the whole row as its key; one with
no identity at all has inserts only, and each stands for itself.

What we dislike: keys are told apart by a hash of 64 bits. A collision sets a key aside that was fine; its changes wait
with the other's and are applied with them, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.letter import Keys
from wallaby.lsn import Lsn, Position
from wallaby.schema import ReplicaIdentity
from wallaby.transform.columns import Changes, single
from wallaby.transform.key_hash import row_hashes
from wallaby.window import OP_COPY, OP_DELETE, OP_INSERT, OP_UPDATE, TablePart
from wallaby.window_builder import encode_part

Mask = npt.NDArray[np.bool_]
_OPS = {OP_COPY: "copy", OP_INSERT: "insert", OP_UPDATE: "update", OP_DELETE: "delete"}


@dataclass(frozen=True, slots=True)
class PartKeys:
    """The keys of a part's rows: ``old`` where the row stood before, ``new`` where it stands; equal unless it moved."""

    old: Keys
    new: Keys

    @classmethod
    def of(cls, part: TablePart) -> Self:
        schema, rows = part.schema, part.rows
        table = part.table()
        if not schema.key or schema.identity is ReplicaIdentity.NOTHING:
            place = row_hashes([single(table["commit_lsn"]), single(table["ordinal"])], rows)
            return cls(place, place)
        changes = Changes.of(schema, table)
        after = changes.after_columns()
        stands = np.flatnonzero(changes.op != OP_DELETE)
        stood = np.flatnonzero(changes.has_before & ((changes.op == OP_DELETE) | (changes.op == OP_UPDATE)))
        new = np.zeros(rows, np.uint64)
        new[stands] = _hashed([after[i] for i in schema.key], stands)
        old = new.copy()
        old[stood] = _hashed(changes.before_columns(), stood)
        gone = changes.op == OP_DELETE
        new[gone] = old[gone]
        return cls(old, new)

    def meeting(self, keys: Keys) -> tuple[Mask, Keys]:
        """The rows that touch ``keys`` (sorted), and ``keys`` with all that is set aside along with them."""
        while True:
            mask = np.isin(self.old, keys) | np.isin(self.new, keys)
            grown = np.union1d(keys, np.concatenate([self.old[mask], self.new[mask]]))
            if len(grown) == len(keys):
                return mask, keys
            keys = grown


def together(parts: Sequence[PartKeys]) -> list[npt.NDArray[np.int64]]:
    """Per part and row a number: equal for rows of keys that moves connect, over all ``parts`` (of one table)."""
    old, new = (np.concatenate([getattr(part, side) for part in parts]) for side in ("old", "new"))
    values, codes = np.unique(np.concatenate([old, new]), return_inverse=True)
    left, right = codes[: len(old)], codes[len(old) :]
    label = np.arange(len(values))
    moved = left != right
    left, ends = left[moved], right[moved]
    while True:
        lowest = np.minimum(label[left], label[ends])
        spread = label.copy()
        np.minimum.at(spread, left, lowest)
        np.minimum.at(spread, ends, lowest)
        spread = spread[spread]
        if (spread == label).all():
            break
        label = spread
    bounds = np.cumsum([len(part.new) for part in parts])[:-1]
    return np.split(label[right], bounds)


def chosen(part: TablePart, mask: Mask) -> TablePart | None:
    """The rows of ``mask`` in a part of their own; ``part`` itself when that is all, None when it is none."""
    count = int(np.count_nonzero(mask))
    if count == part.rows:
        return part
    if count == 0:
        return None
    batches = part.table().filter(pa.array(mask)).combine_chunks().to_batches()
    return replace(encode_part(part.schema, batches), fetched_at=part.fetched_at)


def first_position(part: TablePart) -> Position:
    """Of the part's first change; the part has rows."""
    table = part.table()
    return Position(Lsn(table["commit_lsn"][0].as_py()), table["ordinal"][0].as_py())


def operation(part: TablePart) -> str:
    """What the part's changes are, in a word."""
    found = np.unique(single(part.table()["op"]).to_numpy(zero_copy_only=False))
    return _OPS[int(found[0])] if len(found) == 1 else "mixed"


def key_set(keys: PartKeys, mask: Mask) -> tuple[int, ...]:
    """The distinct keys of the rows of ``mask``, ascending."""
    return tuple(np.unique(np.concatenate([keys.old[mask], keys.new[mask]])).tolist())


def _hashed(columns: Sequence[pa.Array], rows: npt.NDArray[np.int64]) -> Keys:
    at = pa.array(rows)
    return row_hashes([column.take(at) for column in columns], len(rows))


__all__ = ["PartKeys", "chosen", "first_position", "key_set", "operation", "together"]
