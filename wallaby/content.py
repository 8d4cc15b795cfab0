"""What a table contains, as one hash: equal hashes mean equal rows, whatever their order and wherever they are stored.

Values are compared as PostgreSQL would print them (ISO dates in UTC, numerics with their scale, ``\\x`` hex, ``{…}``
arrays, ``"key"=>"value"`` pairs), so tables read back from different systems, with slightly different Arrow types,
compare equal when their content is.
"""

from __future__ import annotations

import hashlib
from functools import reduce
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.intervals import INTERVAL, interval_parts
from wallaby.memory import unwritten
from wallaby.window import OUTLIER_TYPE

_NULL: Final = "\x00"
"""No PostgreSQL text holds a NUL byte."""
_SEPARATOR: Final = "\x1f"
_MODULUS: Final = 1 << 256


class ContentHash:
    """A content hash built up from several tables of one shape. Order of rows and tables does not matter."""

    __slots__ = ("_names", "_rows", "_sum")

    def __init__(self) -> None:
        self._names: tuple[str, ...] | None = None
        self._rows = 0
        self._sum = 0

    def add(self, table: pa.Table) -> None:
        """Count in the rows of ``table``; ValueError when its columns differ from those before."""
        names = tuple(sorted(_content_columns(table)))
        if self._names not in (None, names):
            raise ValueError(f"columns {names} follow columns {self._names}")
        self._names = names
        total = self._sum
        for chunk in row_texts(table).chunks:
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
            data = memoryview(chunk.buffers()[2] or b"")
            for start, end in pairwise(offsets):
                total += int.from_bytes(hashlib.sha256(data[start:end]).digest(), "little")
        self._rows += len(table)
        self._sum = total % _MODULUS

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        names = _SEPARATOR.join(self._names or ()).encode()
        state = b"%d\x00%s\x00%s" % (self._rows, names, self._sum.to_bytes(32, "little"))
        return hashlib.sha256(state).hexdigest()


def canonical_hash(table: pa.Table) -> str:
    """The content hash of ``table``: columns by name, rows in any order, repeated rows counted.

    A last column ``__outliers`` (`wallaby.window.OUTLIER_TYPE`) is no column of its own; its texts fill their cells.
    """
    content = ContentHash()
    content.add(table)
    return content.hexdigest()


def row_texts(table: pa.Table) -> pa.ChunkedArray:
    """One large_string per row: its values by column name, as canonical text; equal exactly for equal rows."""
    chunks = [_row_texts(batch) for batch in table.to_batches()]
    return pa.chunked_array(chunks, pa.large_string())


def value_texts(array: pa.Array) -> pa.Array:
    """Each value as PostgreSQL prints it (UTC, ISO), as large_string; nulls stay null."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return value_texts(array.storage)
    if pa.types.is_dictionary(kind):
        return value_texts(array.dictionary_decode())
    if pa.types.is_boolean(kind):
        return pc.if_else(array, _text("t"), _text("f"))
    if pa.types.is_floating(kind):
        return _float_texts(array)
    if pa.types.is_decimal(kind):
        return _decimal_texts(array)
    if pa.types.is_timestamp(kind):
        plain = array.cast(pa.timestamp("us", kind.tz)).view(pa.int64()).view(pa.timestamp("us"))
        texts = _without_trailing_zeros(plain.cast(pa.large_string()))
        return _joined(texts, _text("+00")) if kind.tz else texts
    if pa.types.is_time(kind):
        return _without_trailing_zeros(array.cast(pa.time64("us")).cast(pa.large_string()))
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return _uuid_texts(array)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _joined(_text("\\x"), _hex(array))
    if kind == INTERVAL:
        return _interval_texts(array)
    if pa.types.is_map(kind):
        offsets = array.offsets.to_numpy()
        first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
        keys, items = (value_texts(side.slice(first, count)) for side in (array.keys, array.items))
        pairs = _joined(_quoted(keys), _text("=>"), _quoted(items))
        return _listed(array, offsets - first, pairs, ("", ""), separator=", ")
    if pa.types.is_fixed_size_list(kind):
        return value_texts(array.cast(pa.large_list(kind.value_field)))
    if _is_list(kind):
        offsets = array.offsets.to_numpy()
        first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
        cells = array.values.slice(first, count)
        texts = value_texts(cells)
        # Lists in a list are one array of several dimensions; anything else nested is an element like any other.
        texts = texts if _is_list(cells.type) else _quoted_where_needed(texts)
        return _listed(array, offsets - first, texts.fill_null("NULL"), ("{", "}"))
    if pa.types.is_struct(kind):
        cells = [_quoted_where_needed(value_texts(child)).fill_null("") for child in array.flatten()]
        inside = reduce(lambda left, right: _joined(left, _text(","), right), cells)
        return pc.if_else(array.is_valid(), _joined(_text("("), inside, _text(")")), pa.scalar(None, pa.large_string()))
    return array.cast(pa.large_string())


def _content_columns(table: pa.Table | pa.RecordBatch) -> list[str]:
    names = list(table.schema.names)
    return names[:-1] if _has_outliers(table) else names


def _has_outliers(table: pa.Table | pa.RecordBatch) -> bool:
    last = table.schema.field(table.num_columns - 1) if table.num_columns else None
    return last is not None and last.name == "__outliers" and last.type == OUTLIER_TYPE


def _row_texts(batch: pa.RecordBatch) -> pa.Array:
    names = _content_columns(batch)
    columns = [value_texts(batch.column(i)) for i in range(len(names))]
    if _has_outliers(batch):
        _put_outliers(columns, batch.column(len(names)))
    cells = [_escaped(columns[i]).fill_null(_NULL) for i in sorted(range(len(names)), key=names.__getitem__)]
    if not cells:
        return pa.array([""] * batch.num_rows, pa.large_string())
    return pc.binary_join_element_wise(*cells, _text(_SEPARATOR))


def _put_outliers(columns: list[pa.Array], outliers: pa.Array) -> None:
    rows = pc.list_parent_indices(outliers).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(outliers)
    column = flat.field(0).to_numpy(zero_copy_only=False)
    for i in np.unique(column).tolist():
        mask = np.zeros(len(outliers), np.bool_)
        mask[rows[column == i]] = True
        texts = flat.field(1).filter(pa.array(column == i)).cast(pa.large_string())
        columns[i] = pc.replace_with_mask(columns[i], pa.array(mask), texts)


def _escaped(texts: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring_regex(texts, "[\x1e\x1f]")).as_py():
        return texts
    doubled = pc.replace_substring(texts, "\x1e", "\x1e\x1e")
    return pc.replace_substring(doubled, _SEPARATOR, "\x1e_")


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def _joined(*parts: pa.Array | pa.Scalar) -> pa.Array:
    return pc.binary_join_element_wise(*parts, _text(""))


def _without_trailing_zeros(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, r"\.?0+$", "")


def _float_texts(array: pa.Array) -> pa.Array:
    texts = array.cast(pa.large_string())
    for theirs, ours in (("nan", "NaN"), ("-nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        texts = pc.if_else(pc.equal(texts, _text(theirs)), _text(ours), texts)
    return texts


def _decimal_texts(array: pa.Array) -> pa.Array:
    texts = array.cast(pa.large_string())
    scientific = pc.match_substring(texts, "E").fill_null(False)
    if not pc.any(scientific).as_py():
        return texts
    plain = [format(value, "f") for value in array.filter(scientific).to_pylist()]
    return pc.replace_with_mask(texts, scientific, pa.array(plain, pa.large_string()))


def _hex(array: pa.Array) -> pa.Array:
    """Lower-case hexadecimal of binary values."""
    array = array.cast(pa.large_binary())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = unwritten(2 * len(data), np.uint8).reshape(-1, 2)
    text[:, 0], text[:, 1] = digits[data >> 4], digits[data & 15]
    starts = pa.py_buffer(np.ascontiguousarray((offsets - offsets[0]) * 2))
    return pa.Array.from_buffers(
        pa.large_string(), len(array), [validity_bitmap(array), starts, pa.py_buffer(text.reshape(-1))]
    )


def _uuid_texts(array: pa.Array) -> pa.Array:
    digits = _hex(array)
    parts = [
        pc.utf8_slice_codeunits(digits, start, end) for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    ]
    return pc.binary_join_element_wise(*parts, _text("-"))


def _interval_texts(array: pa.Array) -> pa.Array:
    months, days, nanos = (pa.array(part).cast(pa.large_string()) for part in interval_parts(array))
    texts = _joined(months, _text(" mon "), days, _text(" days "), nanos, _text(" ns"))
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.large_string()))


def _quoted(texts: pa.Array) -> pa.Array:
    escaped = pc.replace_substring_regex(texts, r'(["\\])', r"\\\1")
    return _joined(_text('"'), escaped, _text('"')).fill_null("NULL")


def _quoted_where_needed(texts: pa.Array) -> pa.Array:
    needs = pc.match_substring_regex(texts, r'^$|^(?i:null)$|[{},"\\\s]')
    return pc.if_else(needs, _quoted(texts), texts)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _listed(
    array: pa.Array, offsets: np.ndarray, texts: pa.Array, brackets: tuple[str, str], *, separator: str = ","
) -> pa.Array:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets.astype(np.int64)), texts)
    joined = _joined(_text(brackets[0]), pc.binary_join(lists, _text(separator)), _text(brackets[1]))
    return pc.if_else(array.is_valid(), joined, pa.scalar(None, pa.large_string()))


def validity_bitmap(array: pa.Array) -> pa.Buffer | None:
    """Which values are not null, as a buffer for `pa.Array.from_buffers`; None when all are."""
    if array.null_count == 0:
        return None
    return pa.py_buffer(np.packbits(array.is_valid().to_numpy(zero_copy_only=False), bitorder="little"))


__all__ = ["ContentHash", "canonical_hash", "row_texts", "validity_bitmap", "value_texts"]
