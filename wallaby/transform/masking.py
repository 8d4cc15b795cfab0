"""Masked columns: values replaced by what does not tell them, the same way every time.

What is hashed is the value's text (`wallaby.content.value_texts`: for text, numbers, dates, UUIDs and their like what
PostgreSQL prints), so equal values of different columns and tables are equal afterwards and can still be joined. Values
outside their Arrow type have a text too, and no longer are outliers: the masked column is text.

A cell PostgreSQL did not send stays one: the destination has its masked value already. Null stays null, except where a
constant hides everything. The old key of a change is masked like the new one, so that rows are still found.

SHA-256 comes from OpenSSL, one call per *distinct* value of a batch: the only loop in Python on the way of the data
(specs/decisions/0030 has what it costs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.flow.masks import MaskKind, MaskRule
from wallaby.pgtypes.builtin import builtin_type
from wallaby.pgtypes.layout import layout_of
from wallaby.schema import Column
from wallaby.transform.outliers import Outliers
from wallaby.transform.rows import Rows, chosen_cells, chosen_outliers

_TEXT: Final = 25
_DIGEST_BYTES: Final = 32
_TOKEN_BYTES: Final = 16
_BLOCK_BYTES: Final = 64
_TOKEN_PREFIX: Final = "tok_"  # noqa: S105  # what every token begins with
_TOKEN_DOMAIN: Final = b"token\0"
"""Keeps tokens from being the beginnings of keyed hashes."""
_FIGURES: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


@dataclass(frozen=True, slots=True)
class Mask:
    """What becomes of a column's values."""

    rule: MaskRule
    key: bytes = field(repr=False)

    def column(self, column: Column) -> Column:
        """The column as the destination gets it."""
        if self.rule.kind is MaskKind.REDACT and self.rule.constant is None:
            return replace(column, nullable=True, missing=None)
        kind = builtin_type(_TEXT)
        assert kind is not None
        missing = _as_in_rows(column)
        if missing is not None or self.rule.kind is MaskKind.REDACT:
            missing = self.applied(pa.array([missing], pa.string()))[0].as_py()
        return replace(column, type=kind, typmod=-1, missing=missing, generated=False)

    def applied(self, values: pa.Array, outliers: Outliers | None = None) -> pa.Array:
        """The masked column; ``outliers`` are the texts of its cells outside their type."""
        match self.rule.kind:
            case MaskKind.REDACT if self.rule.constant is None:
                return pa.nulls(len(values), values.type)
            case MaskKind.REDACT:
                return pa.repeat(pa.scalar(self.rule.constant, pa.string()), len(values))
            case MaskKind.HASH:
                return _hashed(_texts(values, outliers), _sha256, bytes_kept=_DIGEST_BYTES)
            case MaskKind.HMAC:
                return _hashed(_texts(values, outliers), _keyed(self.key), bytes_kept=_DIGEST_BYTES)
            case MaskKind.TOKEN:
                digest = _keyed(self.key, _TOKEN_DOMAIN)
                digits = _hashed(_texts(values, outliers), digest, bytes_kept=_TOKEN_BYTES)
                return pc.binary_join_element_wise(pa.scalar(_TOKEN_PREFIX), digits, "")
            case never:
                assert_never(never)


def masked(rows: Rows, masks: Mapping[int, Mask]) -> Rows:
    """``rows`` with the columns of ``masks`` masked, old keys too, and nothing told about their cells any more."""
    if not masks:
        return rows
    after = [
        masks[i].applied(column, _of_column(rows.outliers, i)) if i in masks else column
        for i, column in enumerate(rows.after)
    ]
    before = [
        masks[i].applied(column, _of_column(rows.old_outliers, i)) if i in masks else column
        for i, column in zip(rows.key, rows.before, strict=True)
    ]
    gone = np.array(list(masks), np.int64)
    hidden = np.array([i for i, mask in masks.items() if mask.rule.kind is MaskKind.REDACT], np.int64)
    return replace(
        rows,
        after=tuple(after),
        before=tuple(before),
        unchanged=chosen_cells(rows.unchanged, ~np.isin(rows.unchanged.column, hidden)),
        outliers=chosen_outliers(rows.outliers, ~np.isin(rows.outliers.column, gone)),
        old_outliers=chosen_outliers(rows.old_outliers, ~np.isin(rows.old_outliers.column, gone)),
    )


def _as_in_rows(column: Column) -> str | None:
    """The column's default as `value_texts` spells it, so that it is masked like the same value of a row."""
    layout = layout_of(column.type, column.typmod)
    if column.missing is None or not pa.types.is_floating(layout.arrow):
        return column.missing
    [text] = value_texts(pa.array([column.missing], pa.string()).cast(layout.arrow)).to_pylist()
    return str(text)


def _of_column(outliers: Outliers, index: int) -> Outliers:
    return chosen_outliers(outliers, outliers.column == index)


def _texts(values: pa.Array, outliers: Outliers | None) -> pa.Array:
    texts = value_texts(values)
    if outliers is None or not len(outliers):
        return texts
    is_outlier = np.zeros(len(values), np.bool_)
    is_outlier[outliers.row] = True
    return pc.replace_with_mask(texts, pa.array(is_outlier), outliers.text.cast(texts.type))


def _sha256(value: memoryview) -> bytes:
    return hashlib.sha256(value).digest()


def _keyed(key: bytes, domain: bytes = b"") -> Callable[[memoryview], bytes]:
    """HMAC-SHA-256 (RFC 2104) of ``domain`` and a value.

    What the key alone does is done once: ``hmac.digest`` sets its key anew for every value and takes nearly thrice as
    long.
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in block) + domain)
    outer = hashlib.sha256(bytes(octet ^ 0x5C for octet in block))

    def digest(value: memoryview) -> bytes:
        inside, outside = inner.copy(), outer.copy()
        inside.update(value)
        outside.update(inside.digest())
        return outside.digest()

    return digest


def _hashed(texts: pa.Array, digest: Callable[[memoryview], bytes], *, bytes_kept: int) -> pa.Array:
    """Per value the first bytes of its digest, as hexadecimal figures."""
    encoded = pc.dictionary_encode(texts)
    distinct = encoded.dictionary.cast(pa.large_string())
    count = len(distinct)
    if count == 0:
        return pa.nulls(len(texts), pa.string())
    ends = np.frombuffer(distinct.buffers()[1], np.int64)[distinct.offset : distinct.offset + count + 1].tolist()
    data = memoryview(distinct.buffers()[2] or b"")
    digests = b"".join([digest(data[start:end])[:bytes_kept] for start, end in pairwise(ends)])
    octets = np.frombuffer(digests, np.uint8)
    figures = np.stack([_FIGURES[octets >> 4], _FIGURES[octets & 15]], axis=1)
    offsets = np.arange(count + 1, dtype=np.int32) * (2 * bytes_kept)
    hashed = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(figures)))
    return hashed.take(encoded.indices)


__all__ = ["Mask", "masked"]
