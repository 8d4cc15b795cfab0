"""Metadata columns and soft deletion: what a row says about how it came.

Values come from the change layout, never from a clock, so a change that is written again is written alike.

In an append log a row of a deletion carries the key in ``after`` too, beside the metadata columns: ``after`` of a
delete is the row of the log then (`wallaby.transform.append`). For the same reason an update that changes the key is
split here into the ``d`` and the ``u`` row it becomes in the log: both have metadata of their own.

In a mirror a soft deletion is an update that sends the key and the metadata columns and leaves every other column
`unchanged`, as PostgreSQL leaves a TOASTed value: the destination keeps what it has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.flow.transforms import NAME_FIELDS, OFF, TransformOptions, Watermark
from wallaby.pgtypes.builtin import builtin_type
from wallaby.schema import Column
from wallaby.sink import WriteMode
from wallaby.transform.append import split_updates, with_old_halves
from wallaby.transform.rows import Cells, Rows, chosen_cells, chosen_outliers, joined_cells, joined_outliers
from wallaby.window import OP_COPY, OP_DELETE, OP_INSERT, OP_UPDATE

_BOOL, _TEXT, _TIMESTAMPTZ = 16, 25, 1184
_WORDS: Final = {OP_DELETE: "delete", OP_INSERT: "insert", OP_COPY: "load", OP_UPDATE: "update"}
_CODES: Final = np.array(sorted(_WORDS), np.uint8)
_PAIRS: Final = np.frombuffer(b"".join(b"%02X" % octet for octet in range(256)), np.uint16)
"""Two figures per octet."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Which metadata columns rows get, and how."""

    roles: tuple[tuple[str, str], ...]
    """(field of `TransformOptions`, name) of each, in order."""
    watermark: Watermark
    mode: WriteMode
    is_soft: bool

    @classmethod
    def of(cls, options: TransformOptions, mode: WriteMode) -> Metadata | None:
        """None when rows get none."""
        if not options.has_metadata:
            return None
        names = {field: getattr(options, field) for field in NAME_FIELDS}
        if options.watermark_source is Watermark.NONE:
            names["meta_watermark"] = OFF
        roles = tuple((field, name) for field, name in names.items() if name != OFF)
        return cls(roles, options.watermark_source, mode, options.soft_delete)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, behind those of the table."""
        return tuple(_column(name, self._type(role)) for role, name in self.roles)

    def applied(self, rows: Rows, *, is_keyless: bool) -> Rows:
        """``rows`` with the columns; deletions become what the mode makes of them."""
        if self.mode is WriteMode.APPEND:
            rows = _logged(rows, is_keyless=is_keyless)
        is_deleted = rows.op == OP_DELETE
        words = rows.op
        if self.is_soft:
            rows = _kept(rows, is_deleted)
        return rows.with_more([self._values(role, rows, words, is_deleted) for role, _ in self.roles])

    def _type(self, role: str) -> int:
        match role:
            case "meta_deleted":
                return _BOOL
            case "meta_synced_at":
                return _TIMESTAMPTZ
            case "meta_watermark" if self.watermark is Watermark.TIMESTAMP:
                return _TIMESTAMPTZ
            case _:
                return _TEXT

    def _values(self, role: str, rows: Rows, op: npt.NDArray[np.uint8], is_deleted: npt.NDArray[np.bool_]) -> pa.Array:
        match role:
            case "meta_deleted":
                return pa.array(is_deleted)
            case "meta_op":
                return _op_words(op) if self.mode is WriteMode.APPEND else pa.nulls(len(rows), pa.string())
            case "meta_position":
                return _positions(rows)
            case "meta_commit_lsn":
                return lsn_texts(rows.place["commit_lsn"])
            case "meta_watermark" if self.watermark is Watermark.LSN:
                return lsn_texts(rows.place["commit_lsn"])
            case _:
                return rows.place["committed_at"]


def lsn_texts(lsns: pa.Array) -> pa.Array:
    """LSNs (uint64) as PostgreSQL prints them: ``16/B374D848``."""
    figures = _hexadecimal(lsns.to_numpy())
    high, low = (_without_zeros(pc.utf8_slice_codeunits(figures, start, start + 8)) for start in (0, 8))
    return pc.binary_join_element_wise(high, low, "/")


def _positions(rows: Rows) -> pa.Array:
    lsn, ordinal = (_hexadecimal(rows.place[name].to_numpy()) for name in ("commit_lsn", "ordinal"))
    return pc.binary_join_element_wise(lsn, ordinal, "/")


def _hexadecimal(numbers: npt.NDArray[np.uint64]) -> pa.Array:
    """16 figures each."""
    octets = numbers.astype(">u8").view(np.uint8)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(_PAIRS[octets]))


def _without_zeros(texts: pa.Array) -> pa.Array:
    short = pc.utf8_ltrim(texts, "0")
    return pc.if_else(pc.equal(short, ""), "0", short)


def _op_words(op: npt.NDArray[np.uint8]) -> pa.Array:
    words = pa.array([_WORDS[code] for code in _CODES.tolist()])
    return words.take(pa.array(np.searchsorted(_CODES, op)))


def _column(name: str, oid: int) -> Column:
    kind = builtin_type(oid)
    assert kind is not None, oid
    return Column(name, kind)


def _logged(rows: Rows, *, is_keyless: bool) -> Rows:
    """Updates split where a log has two rows, and every deletion with the row of the log in ``after``."""
    old = dict(zip(rows.key, rows.before, strict=True))
    split = split_updates(rows.op, rows.has_before, [(rows.after[i], old[i]) for i in rows.key], is_keyless=is_keyless)
    change, is_old = with_old_halves(len(rows), split)
    is_new = np.zeros(len(change), np.bool_)
    is_new[1:] = is_old[:-1]
    rows = rows.taken(change)
    op = rows.op.copy()
    op[is_old] = OP_DELETE
    rows = replace(rows, op=op, has_before=rows.has_before & ~is_new)
    rows = replace(rows, old_outliers=chosen_outliers(rows.old_outliers, ~is_new[rows.old_outliers.row]))
    return _moved_back(rows, op == OP_DELETE)


def _kept(rows: Rows, is_deleted: npt.NDArray[np.bool_]) -> Rows:
    """Deletions as updates of the key's row that leave everything else as it is."""
    if not is_deleted.any():
        return rows
    moved = _moved_back(rows, is_deleted)
    op = rows.op.copy()
    op[is_deleted] = OP_UPDATE
    others = np.array([i for i in range(len(rows.after)) if i not in rows.key], np.int64)
    gone = np.flatnonzero(is_deleted)
    left = Cells(np.repeat(gone, len(others)), np.tile(others, len(gone)))
    return replace(
        moved,
        op=op,
        has_before=rows.has_before & ~is_deleted,
        old_outliers=chosen_outliers(rows.old_outliers, ~is_deleted[rows.old_outliers.row]),
        unchanged=joined_cells(rows.unchanged, left),
    )


def _moved_back(rows: Rows, chosen: npt.NDArray[np.bool_]) -> Rows:
    """The old key in ``after`` of the ``chosen`` rows, and null in its other columns."""
    if not chosen.any():
        return rows
    new = chosen_outliers(rows.outliers, ~chosen[rows.outliers.row])
    old = chosen_outliers(rows.old_outliers, chosen[rows.old_outliers.row])
    return replace(
        rows,
        after=_old_columns(rows, chosen),
        has_after=rows.has_after | chosen,
        unchanged=chosen_cells(rows.unchanged, ~chosen[rows.unchanged.row]),
        outliers=joined_outliers(new, old),
    )


def _old_columns(rows: Rows, chosen: npt.NDArray[np.bool_]) -> tuple[pa.Array, ...]:
    old_of = dict(zip(rows.key, rows.before, strict=True))
    here = np.arange(len(rows))
    keep = pa.array(here, mask=chosen)
    swap = pa.array(np.where(chosen, here + len(rows), here))
    return tuple(_picked(column, old_of.get(i), keep, swap) for i, column in enumerate(rows.after))


def _picked(column: pa.Array, old: pa.Array | None, keep: pa.Array, swap: pa.Array) -> pa.Array:
    return column.take(keep) if old is None else pa.concat_arrays([column, old.cast(column.type)]).take(swap)


__all__ = ["Metadata", "lsn_texts"]
