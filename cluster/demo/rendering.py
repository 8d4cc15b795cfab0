"""Arrow values as the text PostgreSQL prints for them: how the proof compares what a destination holds with the source.

Written for the proof alone and from PostgreSQL's manual, so that a mistake of the decoder and of a sink cannot cancel
out against it. Settings it matches: DateStyle ISO, IntervalStyle postgres, TimeZone UTC, bytea_output hex,
extra_float_digits 1. Dates before 1 AD or after 9999 have no Arrow text and raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NANOS_PER_MICRO: Final = 1_000
_QUOTED_ELEMENT: Final = r'(?i)^$|^null$|[{}",\\\s\x0b]'


def postgres_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as large_string, null where it is null. TypeError for an Arrow type PostgreSQL has no text for."""
    if isinstance(column, pa.ChunkedArray):
        chunks = [postgres_text(chunk) for chunk in column.chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
    return _text(column).cast(pa.large_string())


def _text(array: pa.Array) -> pa.Array:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _text(array.storage)
    for fits, render in _RENDERERS:
        if fits(kind):
            return render(array)
    raise TypeError(f"no PostgreSQL text for Arrow type {kind}")


def uniform_floats(texts: pa.Array, kind: pa.DataType, *, is_array: bool) -> pa.Array:
    """PostgreSQL's texts of floats (or one-dimensional arrays of floats), as `postgres_text` gives them.

    PostgreSQL 12 and later print digits that read back as the same float, but not always the fewest (its algorithm
    leaves out the bounds of the rounding interval), so its text and ours may differ for one value. Reading and printing
    again makes them one text per value.
    """
    if not is_array:
        return postgres_text(texts.cast(kind))
    inner = pc.utf8_slice_codeunits(texts, 1, -1)
    if pc.any(pc.match_substring_regex(inner, r"[{}]"), min_count=0).as_py():
        return texts
    split = pc.split_pattern(inner, ",")
    lists = pc.if_else(pc.equal(inner, _large("")), pa.scalar([], split.type), split)
    elements = lists.flatten()
    values = _where(pc.not_equal(elements, _large("NULL")), elements).cast(kind)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return _where(texts.is_valid(), postgres_text(pa.ListArray.from_arrays(pa.array(offsets), values)))


def _as_string(array: pa.Array) -> pa.Array:
    return array.cast(pa.large_string())


def _bool(array: pa.Array) -> pa.Array:
    return pc.if_else(array, "t", "f")


def _date(array: pa.Array) -> pa.Array:
    _require_four_digit_years(array)
    return array.cast(pa.string())


def _timestamp(array: pa.Array) -> pa.Array:
    zone = "+00" if array.type.tz else ""
    local = array.cast(pa.timestamp("us", array.type.tz)).cast(pa.timestamp("us")) if array.type.tz else array
    _require_four_digit_years(local)
    return _joined(_trimmed(local.cast(pa.timestamp("us")).cast(pa.string())), zone)


def _time(array: pa.Array) -> pa.Array:
    return _trimmed(array.cast(pa.time64("us")).cast(pa.string()))


def _trimmed(text: pa.Array) -> pa.Array:
    """Without the trailing zeros of the fraction of a second, and without the point when nothing is left."""
    return pc.replace_substring_regex(text, pattern=r"\.?0*$", replacement="") if _all_have_fraction(text) else text


def _all_have_fraction(text: pa.Array) -> bool:
    """Arrow prints six digits for every value of unit microseconds; anything else would make trimming wrong."""
    found = pc.match_substring_regex(text, pattern=r"\.\d{6}$")
    return bool(pc.all(found, min_count=0).as_py())


def _require_four_digit_years(array: pa.Array) -> None:
    if len(array) == array.null_count:
        return
    years = pc.min_max(pc.year(array)).as_py()
    if not (years["min"] >= 1 and years["max"] <= 9999):
        raise TypeError(f"a date outside the years 1 to 9999 in a column of {array.type}")


def _decimal(array: pa.Array) -> pa.Array:
    """Digits with their whole scale, never an exponent."""
    scale = array.type.scale
    return _by_unique(array, lambda value: f"{value:.{scale}f}")


def _float(array: pa.Array) -> pa.Array:
    return _float_texts(array, pa.int64(), lambda value: float_text(repr(value.item()), digits_max=15))


def _real(array: pa.Array) -> pa.Array:
    """Shortest digits that read back as the same 32-bit value."""
    return _float_texts(
        array, pa.int32(), lambda value: float_text(np.format_float_scientific(value, unique=True), digits_max=6)
    )


def _float_texts(array: pa.Array, bits: pa.DataType, render: Callable[[Any], str]) -> pa.Array:
    """Each distinct bit pattern rendered once (by value, 0 and -0 would be one)."""
    unique = array.view(bits).dictionary_encode()
    values = unique.dictionary.to_numpy(zero_copy_only=False).view(array.type.to_pandas_dtype())
    return pa.array([render(value) for value in values], pa.large_string()).take(unique.indices)


def float_text(shortest: str, *, digits_max: int) -> str:
    """Shortest decimal digits (any notation) laid out as PostgreSQL does: an exponent from ``digits_max`` digits on."""
    match shortest.lower():
        case "nan":
            return "NaN"
        case "inf":
            return "Infinity"
        case "-inf":
            return "-Infinity"
    sign = "-" if shortest.startswith("-") else ""
    mantissa, _, exponent = shortest.lstrip("-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole + fraction) - len(digits)
    power = int(exponent or 0) + len(whole) - 1 - leading_zeros
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if not -4 <= power < digits_max:
        return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{power:+03d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    return f"{sign}{digits[: power + 1].ljust(power + 1, '0')}{'.' if digits[power + 1 :] else ''}{digits[power + 1 :]}"


def _interval(array: pa.Array) -> pa.Array:
    return pa.array(
        [None if value is None else interval_text(*value) for value in array.to_pylist()], pa.large_string()
    )


def interval_text(months: int, days: int, nanoseconds: int) -> str:
    """As IntervalStyle ``postgres`` prints it: ``1 year 2 mons -3 days +04:05:06.7``."""
    year = int(months / 12)
    parts: list[str] = []
    was_negative = False
    for value, unit in ((year, "year"), (months - 12 * year, "mon"), (days, "day")):
        if value:
            plus = "+" if was_negative and value > 0 else ""
            parts.append(f"{plus}{value} {unit}{'' if value == 1 else 's'}")
            was_negative = value < 0
    microseconds = abs(nanoseconds) // _NANOS_PER_MICRO
    if microseconds or not parts:
        sign = "-" if nanoseconds < 0 else "+" if was_negative else ""
        seconds, fraction = divmod(microseconds, 1_000_000)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        parts.append(f"{sign}{clock}{f'.{fraction:06d}'.rstrip('0') if fraction else ''}")
    return " ".join(parts)


def _bytes(array: pa.Array) -> pa.Array:
    values = array.cast(pa.large_binary())
    hexed = _hex(pc.fill_null(values, b""))
    return _where(values.is_valid(), _joined("\\x", hexed))


def _uuid(array: pa.Array) -> pa.Array:
    values = array.cast(pa.large_binary())
    hexed = _hex(pc.fill_null(values, bytes(16)))
    cuts = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    groups = [pc.utf8_slice_codeunits(hexed, start, stop) for start, stop in cuts]
    return _where(values.is_valid(), _joined(*groups, separator="-"))


def _hex(values: pa.Array) -> pa.Array:
    """Lower-case hexadecimal of a large_binary array without nulls: its bytes at once, its offsets doubled."""
    values = pa.concat_arrays([values])
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    data = values.buffers()[2]
    flat = b"" if data is None else data.to_pybytes()[int(offsets[0]) : int(offsets[-1])]
    doubled = pa.py_buffer(((offsets - offsets[0]) * 2).tobytes())
    return pa.Array.from_buffers(pa.large_string(), len(values), [None, doubled, pa.py_buffer(flat.hex().encode())])


def _list(array: pa.Array) -> pa.Array:
    """``{a,"b c",NULL}``: one dimension, lower bound 1."""
    array = array.cast(pa.large_list(array.type.value_type))
    elements = _text(array.flatten()).cast(pa.large_string())
    escaped = pc.replace_substring_regex(elements, pattern=r'(["\\])', replacement=r"\\\1")
    needs_quotes = pc.match_substring_regex(elements, pattern=_QUOTED_ELEMENT)
    quoted = pc.if_else(needs_quotes, _joined('"', escaped, '"'), elements)
    quoted = pc.fill_null(quoted, "NULL")
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), _large(quoted)), _large(","))
    return _where(array.is_valid(), _joined("{", joined, "}"))


def _joined(*parts: pa.Array | str, separator: str = "") -> pa.Array:
    """Element by element; null where any part is null."""
    large = [_large(part) for part in (*parts, separator)]
    return pc.binary_join_element_wise(*large)


def _large(part: pa.Array | str) -> pa.Array | pa.Scalar:
    return pa.scalar(part, pa.large_string()) if isinstance(part, str) else part.cast(pa.large_string())


def _where(is_valid: pa.Array, text: pa.Array) -> pa.Array:
    return pc.if_else(is_valid, text, pa.scalar(None, pa.large_string()))


def _by_unique(array: pa.Array, render: Callable[[Any], str]) -> pa.Array:
    """Render each distinct value once."""
    unique = array.dictionary_encode()
    texts = pa.array([render(value) for value in unique.dictionary.to_pylist()], pa.large_string())
    return texts.take(unique.indices)


_RENDERERS: Final[tuple[tuple[Callable[[Any], bool], Callable[[pa.Array], pa.Array]], ...]] = (
    (lambda kind: bool(pa.types.is_string(kind) or pa.types.is_large_string(kind)), _as_string),
    (lambda kind: bool(pa.types.is_string_view(kind)), _as_string),
    (lambda kind: bool(pa.types.is_dictionary(kind)), lambda array: _text(array.dictionary_decode())),
    (lambda kind: bool(pa.types.is_integer(kind)), _as_string),
    (lambda kind: bool(pa.types.is_boolean(kind)), _bool),
    (lambda kind: bool(pa.types.is_float32(kind)), _real),
    (lambda kind: bool(pa.types.is_float64(kind)), _float),
    (lambda kind: bool(pa.types.is_decimal(kind)), _decimal),
    (lambda kind: bool(pa.types.is_date32(kind)), _date),
    (lambda kind: bool(pa.types.is_timestamp(kind)), _timestamp),
    (lambda kind: bool(pa.types.is_time64(kind)), _time),
    (lambda kind: bool(pa.types.is_interval(kind)), _interval),
    (lambda kind: bool(pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16), _uuid),
    (lambda kind: bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind)), _bytes),
    (lambda kind: bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)), _list),
    (lambda kind: bool(pa.types.is_null(kind)), _as_string),
)
