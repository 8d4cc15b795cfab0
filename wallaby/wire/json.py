"""Changes as JSON: one object per change, built in columns.

No value is altered. A JSON number is used only where every reader gets the same value back: booleans and null are
JSON's own, whole numbers are numbers up to 2^53 - 1 in size (what a double holds exactly) and text beyond, finite
floats are numbers in their shortest exact form, always with a point or an exponent so that ``-0.0`` stays a float.
Arrays are arrays, hstore and structs are objects of the same rules. Everything else is a string in PostgreSQL's own
form: numerics with their scale, json and jsonb as their text (a column that is null and one that holds JSON's null stay
apart), bytea as ``\\x`` hexadecimal; timestamps, dates and times in ISO 8601 (with ``Z`` for timestamptz), outside the
years 1 to 9999 in PostgreSQL's form (``0044-03-15 BC``); intervals as ISO 8601 durations. Values their Arrow type
cannot hold (an infinite date, ``NaN`` in a numeric, an array of several dimensions) are PostgreSQL's text, and the
columns are named in ``outliers``.

What we dislike: texts are copied a few times on the way. It is still a few microseconds per row, and no server pays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.intervals import INTERVAL, interval_parts
from wallaby.memory import unwritten
from wallaby.schema import TableSchema
from wallaby.transform.append import COMMIT_LSN, COMMITTED_AT, OP, OP_TRUNCATE, ORDINAL, OUTLIERS, UNCHANGED, XID
from wallaby.transform.columns import single

OPERATIONS: Final = {"r": "load", "i": "insert", "u": "update", "d": "delete", OP_TRUNCATE: "truncate"}
"""What a message calls the operations of an append log."""

_SAFE_INTEGER_MAX: Final = 2**53 - 1
_TEXT: Final = pa.large_string()
_BASE64: Final = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
_HEX: Final = np.frombuffer(b"0123456789ABCDEF", np.uint8)


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one table in stream order, equally long arrays."""

    operation: pa.Array
    """string: a value of `OPERATIONS`."""
    key: pa.Array
    """large_string: a JSON object of the key columns in name order; null without a key."""
    payload: pa.Array
    """large_string: the message."""


def change_messages(schema: TableSchema, log: pa.Table) -> Messages:
    """One message per row of an append log with outliers (`wallaby.transform.append.append_rows`).

    Members, absent ones left out: ``table``, ``namespace``, ``operation``, ``schema_version``, ``key`` (base64 of the
    key object), ``before`` (deletes: the key, or the whole row of a table without one), ``after`` (all others: the new
    row without the columns PostgreSQL did not send), ``unchanged`` (their names: they are *not* null),
    ``outliers`` (column names), ``timestamp`` (of the commit), ``lsn`` (of the commit record), ``ordinal``, ``xid``.
    """
    rows = len(log)
    letters = single(log[OP])
    codes = pc.index_in(letters, pa.array(list(OPERATIONS)))
    operation = pa.array(list(OPERATIONS.values())).take(codes)
    cells = _members(schema, log)
    by_name = sorted(schema.key, key=lambda i: schema.columns[i].name)
    is_row = pc.not_equal(letters, OP_TRUNCATE)
    is_delete = pc.equal(letters, "d")
    key = only(is_row, objects([cells[i] for i in by_name], rows)) if by_name else pa.nulls(rows, _TEXT)
    known = without_unchanged([column.name for column in schema.columns], single(log[UNCHANGED]), cells)
    has_after = pc.and_(is_row, pc.invert(is_delete))
    head = f'{{"table":{quoted_name(schema.name.name)},"namespace":{quoted_name(schema.name.schema)},"operation":"'
    parts = [
        _joined(head, operation.cast(_TEXT), f'","schema_version":{schema.version}'),
        _joined('"key":"', _base64(key), '"'),
        only(is_delete, _joined('"before":', objects([cells[i] for i in schema.key], rows))),
        only(has_after, _joined('"after":', objects(known, rows))),
        _joined('"unchanged":', _name_lists(single(log[UNCHANGED]))),
        _joined('"outliers":', _name_lists(_outlier_names(single(log[OUTLIERS])))),
        _joined('"timestamp":', json_texts(single(log[COMMITTED_AT]))),
        _joined('"lsn":"', lsn_texts(single(log[COMMIT_LSN])), '"'),
        _joined('"ordinal":', single(log[ORDINAL]).cast(_TEXT)),
        _joined('"xid":', single(log[XID]).cast(_TEXT), "}"),
    ]
    payload = pc.binary_join_element_wise(*parts, _scalar(","), null_handling="skip")
    return Messages(operation, key, payload)


def json_texts(array: pa.Array) -> pa.Array:
    """Each value as JSON text, large_string; null stays null."""
    kind = array.type
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return json_texts(array.storage)
    if t.is_dictionary(kind):
        return json_texts(array.dictionary_decode())
    if t.is_boolean(kind):
        return pc.if_else(array, _scalar("true"), _scalar("false"))
    if t.is_integer(kind):
        return _integers(array)
    if t.is_floating(kind):
        return _floats(array)
    if t.is_decimal(kind):
        return _joined('"', _decimals(array), '"')
    if t.is_date32(kind) or t.is_timestamp(kind):
        return _joined('"', _moments(array), '"')
    if kind == INTERVAL:
        return _joined('"', _durations(array), '"')
    if t.is_map(kind):
        offsets, keys, items = _map_parts(array)
        return _list(array, offsets, _joined(_strings(keys), ":", json_texts(items).fill_null("null")), "{", "}")
    if t.is_fixed_size_list(kind):
        return json_texts(array.cast(pa.large_list(kind.value_field)))
    if t.is_list(kind) or t.is_large_list(kind):
        offsets = array.offsets.to_numpy().astype(np.int64)
        values = array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
        return _list(array, offsets - offsets[0], json_texts(values).fill_null("null"), "[", "]")
    if t.is_struct(kind):
        cells = pa.RecordBatch.from_arrays(array.flatten(), names=[field.name for field in kind])
        return only(array.is_valid(), objects(members(cells), len(array)))
    if t.is_null(kind):
        return pa.nulls(len(array), _TEXT)
    return _strings(value_texts(array))


def members(rows: pa.RecordBatch) -> list[pa.Array]:
    """``"name":value`` per column, a null value as ``null``."""
    return [
        _joined(f"{quoted_name(name)}:", json_texts(column).fill_null("null"))
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]


def objects(parts: list[pa.Array], rows: int) -> pa.Array:
    """An object per row of those of its members that are not null."""
    if not parts:
        return pa.array(["{}"], _TEXT).take(pa.array(np.zeros(rows, np.int64)))
    inside = pc.binary_join_element_wise(*parts, _scalar(","), null_handling="skip")
    return _joined("{", inside, "}")


def without_unchanged(names: Sequence[str], lists: pa.Array, parts: list[pa.Array]) -> list[pa.Array]:
    """The members of columns ``names``, null in the rows whose list names the column."""
    if lists.null_count == len(lists):
        return parts
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    unchanged = pc.list_flatten(lists)
    result = list(parts)
    for i, name in enumerate(names):
        absent = np.zeros(len(lists), np.bool_)
        absent[rows[pc.equal(unchanged, name).to_numpy(zero_copy_only=False)]] = True
        if absent.any():
            result[i] = only(pa.array(~absent), parts[i])
    return result


def lsn_texts(array: pa.Array) -> pa.Array:
    """uint64 WAL addresses as PostgreSQL prints them: ``16/B374D848``."""
    octets = array.to_numpy(zero_copy_only=False).astype(">u8").view(np.uint8).reshape(-1, 8)
    digits = unwritten(16 * len(octets), np.uint8).reshape(-1, 16)
    digits[:, 0::2], digits[:, 1::2] = _HEX[octets >> 4], _HEX[octets & 15]
    halves = []
    for half in (digits[:, :8], digits[:, 8:]):
        offsets = np.arange(len(octets) + 1, dtype=np.int64) * 8
        data = np.ascontiguousarray(half).reshape(-1)
        text = pa.Array.from_buffers(_TEXT, len(octets), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        short = pc.utf8_ltrim(text, "0")
        halves.append(pc.if_else(pc.equal(short, ""), _scalar("0"), short))
    return _joined(halves[0], "/", halves[1])


def _members(schema: TableSchema, log: pa.Table) -> list[pa.Array]:
    """``"name":value`` per column of the table, a null value as ``null``, an outlier as its text."""
    outliers = single(log[OUTLIERS])
    found: dict[str, tuple[npt.NDArray[np.bool_], pa.Array]] = {}
    if outliers.null_count < len(outliers):
        rows = pc.list_parent_indices(outliers).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(outliers)
        names = flat.field(0).dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        for code, name in enumerate(names.dictionary.to_pylist()):
            mask = np.zeros(len(log), np.bool_)
            mask[rows[codes == code]] = True
            found[name] = mask, _strings(flat.field(1).filter(pa.array(codes == code)).cast(_TEXT))
    made = []
    for i, column in enumerate(schema.columns):
        texts = json_texts(single(log.column(i))).fill_null("null")
        if column.name in found:
            mask, odd = found[column.name]
            texts = pc.replace_with_mask(texts, pa.array(mask), odd)
        made.append(_joined(f"{quoted_name(column.name)}:", texts))
    return made


def _name_lists(lists: pa.Array) -> pa.Array:
    """Lists of names as JSON arrays; null stays null."""
    if lists.null_count == len(lists):
        return pa.nulls(len(lists), _TEXT)
    return json_texts(lists)


def _outlier_names(outliers: pa.Array) -> pa.Array:
    if outliers.null_count == len(outliers):
        return pa.nulls(len(outliers), pa.list_(pa.string()))
    counts = pc.fill_null(pc.list_value_length(outliers), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(outliers) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    names = pc.list_flatten(outliers).field(0)
    return pa.ListArray.from_arrays(pa.array(offsets), names, mask=pa.array(counts == 0))


def _integers(array: pa.Array) -> pa.Array:
    texts = array.cast(_TEXT)
    if array.type.bit_width < 64:
        return texts
    limit = pa.scalar(_SAFE_INTEGER_MAX, array.type)
    is_large = pc.greater(array, limit)
    if pa.types.is_signed_integer(array.type):
        is_large = pc.or_(is_large, pc.less(array, pa.scalar(-_SAFE_INTEGER_MAX, array.type)))
    if not pc.any(is_large).as_py():
        return texts
    return pc.if_else(is_large, _joined('"', texts, '"'), texts)


def _floats(array: pa.Array) -> pa.Array:
    texts = value_texts(array)
    whole = pc.match_substring_regex(texts, r"^-?[0-9]+$")
    texts = pc.if_else(whole, _joined(texts, ".0"), texts)
    return pc.if_else(pc.is_finite(array), texts, _joined('"', texts, '"'))


def _decimals(array: pa.Array) -> pa.Array:
    """Plain digits with the type's scale, where Arrow's own cast may print an exponent."""
    kind = array.type
    make = pa.decimal128 if kind.bit_width == 128 else pa.decimal256
    whole = pa.Array.from_buffers(make(kind.precision, 0), len(array), array.buffers(), offset=array.offset)
    signed = whole.cast(_TEXT)
    digits = pc.utf8_ltrim(signed, "-")
    if kind.scale > 0:
        digits = pc.utf8_lpad(digits, kind.scale + 1, "0")
        before, after = (
            pc.utf8_slice_codeunits(digits, 0, -kind.scale),
            pc.utf8_slice_codeunits(digits, -kind.scale, None),
        )
        digits = _joined(before, ".", after)
    return pc.if_else(pc.starts_with(signed, "-"), _joined("-", digits), digits)


def _moments(array: pa.Array) -> pa.Array:
    """Dates and timestamps in ISO 8601; outside the years 1 to 9999 as PostgreSQL prints them."""
    kind = array.type
    if pa.types.is_date32(kind):
        days = array.view(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        micros = None
    else:
        array = array.cast(pa.timestamp("us", kind.tz))
        total = array.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        days, micros = np.divmod(total, _DAY_US)
    far = (days < _YEAR_1) | (days >= _YEAR_10000)
    near = pc.if_else(pa.array(far), pa.scalar(None, kind), array) if far.any() else array
    texts = pc.replace_substring(value_texts(near), " ", "T", max_replacements=1)
    if micros is not None and kind.tz:
        texts = pc.replace_substring_regex(texts, r"\+00$", "Z")
    if not far.any():
        return texts
    years, months, dates = civil(days[far])
    parts = [
        pc.utf8_lpad(pa.array(numbers).cast(_TEXT), width, "0")
        for numbers, width in ((np.where(years > 0, years, 1 - years), 4), (months, 2), (dates, 2))
    ]
    odd = pc.binary_join_element_wise(*parts, _scalar("-"))
    if micros is not None:
        odd = _joined(odd, " ", value_texts(pa.array(micros[far], pa.time64("us"))), "+00" if kind.tz else "")
    era = pa.array(np.where(years > 0, "", " BC")).cast(_TEXT)
    return pc.replace_with_mask(texts, pa.array(far), _joined(odd, era))


_DAY_US: Final = 86_400_000_000
_YEAR_1: Final = -719_162
"""0001-01-01 in days since 1970."""
_YEAR_10000: Final = 2_932_897

_Days = npt.NDArray[np.int64]


def civil(days: _Days) -> tuple[_Days, _Days, _Days]:
    """Year (0 is 1 BC), month and day of days since 1970, in the calendar without beginning that PostgreSQL uses.

    Years are counted from March, so that the odd day comes last; 146,097 days are 400 years.
    """
    era, day_of_era = np.divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    month = np.where(march_month < 10, march_month + 3, march_month - 9)
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    return year_of_era + era * 400 + (month <= 2), month, day


def _durations(array: pa.Array) -> pa.Array:
    """ISO 8601 with designators: ``P1M2DT-3.5S``. PostgreSQL reads it back as the same interval."""
    *whole, nanoseconds = interval_parts(array)
    micros = nanoseconds // 1000
    size = np.abs(micros)
    sign = pa.array(np.where(micros < 0, "-", "")).cast(_TEXT)
    fraction = pc.utf8_lpad(pa.array(size % 1_000_000).cast(_TEXT), 6, "0")
    seconds = pc.replace_substring_regex(_joined(pa.array(size // 1_000_000).cast(_TEXT), ".", fraction), r"\.?0+$", "")
    months, days = (pa.array(part).cast(_TEXT) for part in whole)
    return only(array.is_valid(), _joined("P", months, "M", days, "DT", sign, seconds, "S"))


def _map_parts(array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array, pa.Array]:
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    return offsets - first, value_texts(array.keys.slice(first, count)), array.items.slice(first, count)


def _list(array: pa.Array, offsets: npt.NDArray[np.int64], texts: pa.Array, left: str, right: str) -> pa.Array:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), texts)
    return only(array.is_valid(), _joined(left, pc.binary_join(lists, _scalar(",")), right))


def _strings(texts: pa.Array) -> pa.Array:
    """JSON strings of texts."""
    texts = texts.cast(_TEXT)
    # Backslashes first: the other escapes bring new ones.
    for code in sorted(_octets_to_escape(texts), key=_BACKSLASH.__ne__):
        texts = pc.replace_substring(texts, chr(code), _ESCAPES.get(code, f"\\u{code:04x}"))
    return _joined('"', texts, '"')


_BACKSLASH: Final = ord("\\")
_ESCAPES: Final = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", ord('"'): '\\"', _BACKSLASH: "\\\\"}


def _octets_to_escape(texts: pa.Array) -> list[int]:
    """Which of the octets JSON does not allow in strings occur. In UTF-8 they are never part of another character."""
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return []
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    octets = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    odd = octets[(octets < 0x20) | (octets == ord('"')) | (octets == _BACKSLASH)]
    return np.unique(odd).tolist()


def quoted_name(name: str) -> str:
    """The name as a JSON string."""
    return json.dumps(name, ensure_ascii=False)


def _base64(texts: pa.Array) -> pa.Array:
    """Base64 of the UTF-8 bytes; null stays null."""
    texts = texts.fill_null("") if texts.null_count else texts
    is_empty = pc.equal(pc.binary_length(texts), 0)
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    sizes = np.diff(offsets)
    groups = (sizes + 2) // 3
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(groups, out=starts[1:])
    padded = np.zeros(int(starts[-1]) * 3, np.uint8)
    padded[np.arange(len(data)) + np.repeat(starts[:-1] * 3 - (offsets[:-1] - offsets[0]), sizes)] = data
    triples = padded.reshape(-1, 3).astype(np.uint32)
    word = (triples[:, 0] << 16) | (triples[:, 1] << 8) | triples[:, 2]
    out = np.stack([_BASE64[(word >> shift) & 63] for shift in (18, 12, 6, 0)], axis=1)
    last = starts[1:] - 1
    out[last[sizes % 3 == 1], 2] = ord("=")
    out[last[sizes % 3 != 0], 3] = ord("=")
    ends = pa.py_buffer(starts * 4)
    encoded = pa.Array.from_buffers(
        _TEXT, len(texts), [None, ends, pa.py_buffer(np.ascontiguousarray(out).reshape(-1))]
    )
    return only(pc.invert(is_empty), encoded)


def only(chosen: pa.Array, texts: pa.Array) -> pa.Array:
    """The texts where ``chosen``, null elsewhere."""
    return pc.if_else(chosen, texts, pa.scalar(None, _TEXT))


def _scalar(text: str) -> pa.Scalar:
    return pa.scalar(text, _TEXT)


def _joined(*parts: pa.Array | str) -> pa.Array:
    """The parts side by side; null where one of them is."""
    return pc.binary_join_element_wise(*(_scalar(p) if isinstance(p, str) else p for p in parts), _scalar(""))


__all__ = [
    "OPERATIONS",
    "Messages",
    "change_messages",
    "civil",
    "json_texts",
    "lsn_texts",
    "members",
    "objects",
    "only",
    "quoted_name",
    "without_unchanged",
]
