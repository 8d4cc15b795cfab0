"""Arrow values as PostgreSQL prints them, written for the oracle alone: it shares no code with what it checks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

_QUOTED = set('{},"\\ \t\n\r\v\f')


def texts(array: pa.Array, kind: str = "") -> list[str | None]:
    """What the output function of the column's type prints for each value; None for null.

    ``kind`` is the name of the type, or of its elements', where the Arrow type alone does not tell how it prints.
    """
    if kind == "vector" and array.type == pa.list_(pa.float32()):
        return [None if cells is None else "[" + ",".join(map(str, texts(cells))) + "]" for cells in _lists(array)]
    if pa.types.is_list(array.type):
        return [None if cells is None else _array(texts(cells, kind)) for cells in _lists(array)]
    if pa.types.is_map(array.type):
        return [None if pairs is None else _hstore(pairs) for pairs in array.to_pylist()]
    if kind == "geometry":
        return [None if value is None else value.hex().upper() for value in array.to_pylist()]
    write = _writer(array.type)
    values = _plain(array)
    return [None if value is None else write(value) for value in values]


def _lists(array: pa.ListArray) -> list[pa.Array | None]:
    return [cell.values if cell.is_valid else None for cell in array]


def _plain(array: pa.Array) -> list[Any]:
    if pa.types.is_date32(array.type):
        return array.cast(pa.int32()).to_pylist()
    if pa.types.is_time(array.type) or pa.types.is_timestamp(array.type):
        return array.cast(pa.int64()).to_pylist()
    return array.to_pylist()


def _writer(arrow: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_boolean(arrow):
        return lambda value: "t" if value else "f"
    if pa.types.is_integer(arrow) or pa.types.is_string(arrow):
        return str
    if pa.types.is_float32(arrow):
        return lambda value: _float(_shortest(np.float32(value)), 6)
    if pa.types.is_float64(arrow):
        return lambda value: _float(_shortest(np.float64(value)), 15)
    if pa.types.is_decimal(arrow):
        return lambda value: format(value, "f")
    if arrow == pa.binary(16):
        return lambda value: str(uuid.UUID(bytes=value))
    if pa.types.is_binary(arrow):
        return lambda value: "\\x" + value.hex()
    if pa.types.is_date32(arrow):
        return lambda value: _with_era(str(np.datetime64(value, "D")), "")
    if pa.types.is_time(arrow):
        return _clock
    if pa.types.is_timestamp(arrow):
        zone = "+00" if arrow.tz else ""
        return lambda value: _timestamp(value, zone)
    if pa.types.is_interval(arrow):
        return lambda value: _interval(value.months, value.days, value.nanoseconds)
    raise AssertionError(f"the oracle has no text for {arrow}")


def _shortest(number: np.floating[Any]) -> str:
    """The fewest digits nearer to ``number`` than to any other: a decimal half way to a neighbour does not count."""
    if not np.isfinite(number) or number == 0:
        return str(float(number))
    text = str(number)
    middles = [_half_way(number, toward) for toward in (-np.inf, np.inf)]
    digits = len(Decimal(text).as_tuple().digits)
    while Fraction(text) in middles:
        text = f"{float(number):.{digits}e}"
        digits += 1
    return text


def _half_way(number: np.floating[Any], toward: float) -> Fraction:
    with np.errstate(over="ignore"):
        neighbour = np.nextafter(number, type(number)(toward))
    if not np.isfinite(neighbour):
        return 2 * Fraction(float(number)) - _half_way(number, -toward)
    return (Fraction(float(number)) + Fraction(float(neighbour))) / 2


def _float(shortest: str, digits: int) -> str:
    """``shortest`` in PostgreSQL's choice of notation: plain digits from 1e-4 up to ``digits`` places."""
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    if shortest in words:
        return words[shortest]
    number = Decimal(shortest)
    sign, figures, _ = number.as_tuple()
    if not number:
        return "-0" if sign else "0"
    exponent = number.adjusted()
    if -4 <= exponent < digits:
        plain = format(number, "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    mantissa = "".join(map(str, figures)).rstrip("0")
    point = f"{mantissa[0]}.{mantissa[1:]}" if len(mantissa) > 1 else mantissa
    return f"{'-' if sign else ''}{point}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _with_era(iso: str, rest: str) -> str:
    """NumPy counts years astronomically, PostgreSQL knows no year 0."""
    year_text, month, day = iso.rsplit("-", 2)
    year = int(year_text)
    if year > 0:
        return f"{year:04d}-{month}-{day}{rest}"
    return f"{1 - year:04d}-{month}-{day}{rest} BC"


def _timestamp(microseconds: int, zone: str) -> str:
    days, time = divmod(microseconds, 86_400_000_000)
    return _with_era(str(np.datetime64(days, "D")), f" {_clock(time)}{zone}")


def _clock(microseconds: int) -> str:
    whole, fraction = divmod(microseconds, 1_000_000)
    text = f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def _interval(months: int, days: int, nanoseconds: int) -> str:
    assert nanoseconds % 1000 == 0, nanoseconds
    sign = -1 if months < 0 else 1
    amounts = [(sign * (abs(months) // 12), "year"), (sign * (abs(months) % 12), "mon"), (days, "day")]
    words: list[str] = []
    is_after_negative = False
    for amount, unit in amounts:
        if amount == 0:
            continue
        plus = "+" if is_after_negative and amount > 0 else ""
        words.append(f"{plus}{amount} {unit}" + ("" if amount == 1 else "s"))
        is_after_negative = amount < 0
    if nanoseconds or not words:
        plus = "-" if nanoseconds < 0 else "+" if is_after_negative else ""
        words.append(plus + _clock(abs(nanoseconds) // 1000))
    return " ".join(words)


def _hstore(pairs: list[tuple[str, str | None]]) -> str:
    def quoted(text: str | None) -> str:
        return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return ", ".join(f"{quoted(key)}=>{quoted(value)}" for key, value in pairs)


def _array(elements: list[str | None]) -> str:
    return "{" + ",".join("NULL" if element is None else _quoted(element) for element in elements) + "}"


def _quoted(text: str) -> str:
    if text and text.upper() != "NULL" and not _QUOTED.intersection(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
