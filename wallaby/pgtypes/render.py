"""Binary values as PostgreSQL prints them: for the few values Arrow cannot hold, one at a time, in Python.

The styles are those the source connection fixes: DateStyle ISO, IntervalStyle postgres, TimeZone UTC, bytea_output hex,
extra_float_digits 1 (shortest float that reads back the same).
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Final

import numpy as np

from wallaby.pgtypes.layout import Family, Layout
from wallaby.pgtypes.printed import FORMS, print_value

_DAYS_FROM_MARCH_0: Final = 730425
"""0000-03-01 to 2000-01-01."""
_MICROSECONDS_PER_DAY: Final = 86_400_000_000
_NULL: Final = 0xFFFFFFFF


def render(layout: Layout, value: bytes) -> str:
    """The text of one binary value. struct.error or ValueError when the bytes are not of this type."""
    match layout.family:
        case Family.LIST:
            assert layout.element is not None, layout
            return _array(layout.element, value)
        case Family.RANGE:
            assert layout.element is not None, layout
            return _range(layout.element, value)
        case Family.MULTIRANGE:
            assert layout.element is not None, layout
            return _multirange(layout.element, value)
        case family if family in FORMS:
            return print_value(FORMS[family], value)
        case family:
            return _SCALARS[family](value)


def _bool(value: bytes) -> str:
    return "t" if value != b"\0" else "f"


def _integer(form: str) -> Callable[[bytes], str]:
    return lambda value: str(struct.unpack(form, value)[0])


def _text(value: bytes) -> str:
    return value.decode()


def _char(value: bytes) -> str:
    if value == b"\0":
        return ""
    return value.decode() if value < b"\x80" else f"\\{value[0]:o}"


def _bytea(value: bytes) -> str:
    return "\\x" + value.hex()


def _uuid(value: bytes) -> str:
    return str(uuid.UUID(bytes=value))


def _float4(value: bytes) -> str:
    return _float(np.frombuffer(value, ">f4")[0], fixed_below=6)


def _float8(value: bytes) -> str:
    return _float(np.frombuffer(value, ">f8")[0], fixed_below=15)


def _float(number: np.floating, fixed_below: int) -> str:
    if np.isnan(number):
        return "NaN"
    if np.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    mantissa, _, exponent = _shortest(number).partition("e")
    power = int(exponent)
    if -4 <= power < fixed_below:
        return format(Decimal(f"{mantissa}e{power}"), "f")
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _shortest(number: np.floating) -> str:
    """The fewest digits that are nearer to ``number`` than to any other: ``-1.5e-07``.

    NumPy also takes a decimal half way to a neighbour, when rounding to even would lead back to ``number``; PostgreSQL
    does not (``acceptBounds`` in its d2s.c and f2s.c).
    """
    text = str(np.format_float_scientific(number, trim="-"))
    middles = [_half_way(number, toward) for toward in (-np.inf, np.inf)]
    digits = len(Decimal(text).as_tuple().digits)
    while Fraction(text) in middles:
        mantissa, _, exponent = f"{float(number):.{digits}e}".partition("e")
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"
        digits += 1
    return text


def _half_way(number: np.floating, toward: float) -> Fraction:
    with np.errstate(over="ignore", under="ignore"):
        neighbour = np.nextafter(number, type(number)(toward))
    if np.isinf(neighbour):
        return 2 * Fraction(float(number)) - _half_way(number, -toward)
    return (Fraction(float(number)) + Fraction(float(neighbour))) / 2


def _date(value: bytes) -> str:
    (days,) = struct.unpack("!i", value)
    if days == 2**31 - 1:
        return "infinity"
    if days == -(2**31):
        return "-infinity"
    text, era = _calendar(days)
    return text + era


def _time(value: bytes) -> str:
    (microseconds,) = struct.unpack("!q", value)
    return _clock(microseconds)


def _timestamp(zone: str) -> Callable[[bytes], str]:
    def text(value: bytes) -> str:
        (microseconds,) = struct.unpack("!q", value)
        if microseconds == 2**63 - 1:
            return "infinity"
        if microseconds == -(2**63):
            return "-infinity"
        days, time = divmod(microseconds, _MICROSECONDS_PER_DAY)
        date, era = _calendar(days)
        return f"{date} {_clock(time)}{zone}{era}"

    return text


def _calendar(days_since_2000: int) -> tuple[str, str]:
    """(``YYYY-MM-DD``, `` BC`` or nothing)."""
    # Counted from 0000-03-01, in eras of 400 years, so that leap days come last.
    era, day_of_era = divmod(days_since_2000 + _DAYS_FROM_MARCH_0, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d}", ""
    return f"{1 - year:04d}-{month:02d}-{day:02d}", " BC"


def _clock(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}" + (f".{fraction:06d}".rstrip("0") if fraction else "")


def _interval(value: bytes) -> str:
    microseconds, days, months = struct.unpack("!qii", value)
    if (microseconds, days, months) == (2**63 - 1, 2**31 - 1, 2**31 - 1):
        return "infinity"
    if (microseconds, days, months) == (-(2**63), -(2**31), -(2**31)):
        return "-infinity"
    years, rest = int(math.copysign(abs(months) // 12, months)), int(math.copysign(abs(months) % 12, months))
    parts: list[str] = []
    was_negative = False
    for amount, unit in ((years, "year"), (rest, "mon"), (days, "day")):
        if amount:
            sign = "+" if was_negative and amount > 0 else ""
            parts.append(f"{sign}{amount} {unit}{'' if amount == 1 else 's'}")
            was_negative = amount < 0
    if microseconds or not parts:
        sign = "-" if microseconds < 0 else ("+" if was_negative else "")
        parts.append(sign + _clock(abs(microseconds)))
    return " ".join(parts)


def _numeric(value: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from("!hhHH", value)
    if sign in _NUMERIC_WORDS:
        return _NUMERIC_WORDS[sign]
    digits = struct.unpack_from(f"!{count}H", value, 8)
    figures = "".join(f"{digit:04d}" for digit in digits)
    point = 4 * (weight + 1)
    if point <= 0:
        figures, point = "0" * -point + figures, 0
    figures = figures.ljust(point + scale, "0")
    text = figures[:point].lstrip("0") or "0"
    if scale:
        text += "." + figures[point : point + scale]
    return "-" + text if sign == 0x4000 else text


def _hstore(value: bytes) -> str:
    (pairs,) = struct.unpack_from("!I", value)
    at = 4
    texts: list[str] = []
    for _ in range(2 * pairs):
        (size,) = struct.unpack_from("!I", value, at)
        at += 4
        if size == _NULL:
            texts.append("NULL")
        else:
            texts.append('"' + value[at : at + size].decode().replace("\\", "\\\\").replace('"', '\\"') + '"')
            at += size
    if at != len(value):
        raise ValueError("an hstore is cut short or has bytes left over")
    return ", ".join(f"{key}=>{item}" for key, item in zip(texts[::2], texts[1::2], strict=True))


def _vector(dtype: str) -> Callable[[bytes], str]:
    def text(value: bytes) -> str:
        numbers = np.frombuffer(value, dtype, offset=4).astype(np.float32)
        return "[" + ",".join(_float(number, fixed_below=6) for number in numbers) + "]"

    return text


_NUMERIC_WORDS: Final = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}

_SCALARS: Final[dict[Family, Callable[[bytes], str]]] = {
    Family.BOOL: _bool,
    Family.INT2: _integer("!h"),
    Family.INT4: _integer("!i"),
    Family.INT8: _integer("!q"),
    Family.OID: _integer("!I"),
    Family.FLOAT4: _float4,
    Family.FLOAT8: _float8,
    Family.STRING: _text,
    Family.CHAR: _char,
    Family.JSONB: lambda value: value[1:].decode(),
    Family.BYTEA: _bytea,
    Family.UUID: _uuid,
    Family.DATE: _date,
    Family.TIME: _time,
    Family.TIMESTAMP: _timestamp(""),
    Family.TIMESTAMPTZ: _timestamp("+00"),
    Family.DECIMAL: _numeric,
    Family.NUMERIC_TEXT: _numeric,
    Family.INTERVAL: _interval,
    Family.MAP: _hstore,
    Family.VECTOR: _vector(">f4"),
    Family.HALF_VECTOR: _vector(">f2"),
    Family.GEOMETRY: lambda value: value.hex().upper(),
}


def _array(element: Layout, value: bytes) -> str:
    dimensions, _, _ = struct.unpack_from("!iiI", value)
    if dimensions == 0:
        return "{}"
    shape = [struct.unpack_from("!ii", value, 12 + 8 * k) for k in range(dimensions)]
    at = 12 + 8 * dimensions
    texts: list[str] = []
    for _ in range(math.prod(size for size, _ in shape)):
        (size,) = struct.unpack_from("!I", value, at)
        at += 4
        if size == _NULL:
            texts.append("NULL")
        else:
            texts.append(_quoted(render(element, value[at : at + size])))
            at += size
    if at != len(value):
        raise ValueError("an array is cut short or has bytes left over")
    bounds = "".join(f"[{lower}:{lower + size - 1}]" for size, lower in shape)
    prefix = bounds + "=" if any(lower != 1 for _, lower in shape) else ""
    for size, _ in reversed(shape):
        texts = ["{" + ",".join(texts[k : k + size]) + "}" for k in range(0, len(texts), size)]
    return prefix + texts[0]


def _range(bound: Layout, value: bytes) -> str:
    flags, at = value[0], 1
    if flags & 0x01:
        return "empty"
    sides: list[str] = []
    for is_open in (flags & 0x28, flags & 0x50):
        if is_open:
            sides.append("")
            continue
        (size,) = struct.unpack_from("!I", value, at)
        text = render(bound, value[at + 4 : at + 4 + size])
        sides.append(f'"{text}"' if " " in text else text)
        at += 4 + size
    return f"{'[' if flags & 0x02 else '('}{','.join(sides)}{']' if flags & 0x04 else ')'}"


def _multirange(element: Layout, value: bytes) -> str:
    (count,) = struct.unpack_from("!I", value)
    at = 4
    texts: list[str] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!I", value, at)
        texts.append(render(element, value[at + 4 : at + 4 + size]))
        at += 4 + size
    return "{" + ",".join(texts) + "}"


def _quoted(text: str) -> str:
    is_plain = text != "" and text.upper() != "NULL" and not any(c in '{}",\\ \t\n\r\v\f' for c in text)
    return text if is_plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
