"""Column types and literals for them: edges that once broke somebody's decoder, and random ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Literal = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type in SQL with what its values look like. ``expression`` is SQL for a random value, empty for none."""

    sql: str
    literal: Literal
    expression: str = ""
    is_kernel: bool = True
    """May travel in binary."""
    is_orderable: bool = True
    """May be part of a key."""
    since: int = 14


def scalar_types() -> list[ColumnType]:
    """Every type with a layout of its own."""
    return list(_KERNEL)


def text_types() -> list[ColumnType]:
    """Types that travel as text in both directions."""
    return list(_TEXT)


def array_of(element: ColumnType) -> ColumnType:
    """``element[]``, with NULLs, several dimensions and bounds of its own now and then."""
    separator = ";" if element.sql == "box" else ","

    def literal(rng: random.Random) -> str:
        def row(count: int) -> str:
            cells = ["NULL" if rng.random() < 0.15 else _quoted(element.literal(rng)) for _ in range(count)]
            return "{" + separator.join(cells) + "}"

        shape = rng.random()
        if shape < 0.08:
            return "{}"
        if shape < 0.16:
            width = rng.randint(1, 3)
            return "{" + separator.join(row(width) for _ in range(rng.randint(1, 3))) + "}"
        if shape < 0.22:
            lower, count = rng.choice([-3, 0, 2, 5]), rng.randint(1, 3)
            return f"[{lower}:{lower + count - 1}]={row(count)}"
        return row(rng.randint(1, rng.choice([3, 3, 40])))

    return ColumnType(f"{element.sql}[]", literal, "", element.is_kernel, False, element.since)


def named(sql: str, like: ColumnType) -> ColumnType:
    """A domain over ``like``."""
    return ColumnType(sql, like.literal, "", like.is_kernel, like.is_orderable, like.since)


def decimal(rng: random.Random, major: int) -> ColumnType:
    """``numeric`` with a random precision and scale, up to what no Arrow decimal holds."""
    precision = rng.choice([1, 4, 9, 18, 19, 28, 38, 39, 76, 77, 200])
    lowest = -3 if major >= 15 else 0
    scale = rng.randint(lowest, min(precision, 20) + (3 if major >= 15 and precision <= 9 else 0))

    def literal(rng: random.Random) -> str:
        if rng.random() < 0.06:
            return "NaN"
        digits = precision if rng.random() < 0.3 else rng.randint(0, precision)
        number = rng.choice([10**digits - 1, rng.randint(0, 10**digits - 1)])
        return rng.choice(["", "-"]) + _scaled(number, scale)

    return ColumnType(f"numeric({precision},{scale})", literal)


def _scaled(number: int, scale: int) -> str:
    if scale <= 0:
        return str(number) + "0" * -scale
    text = str(number).rjust(scale + 1, "0")
    return f"{text[:-scale]}.{text[-scale:]}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _edges(edges: tuple[str, ...], otherwise: Literal | None = None) -> Literal:
    def literal(rng: random.Random) -> str:
        if otherwise is None or rng.random() < 0.4:
            return rng.choice(edges)
        return otherwise(rng)

    return literal


def _integers(bits: int) -> Literal:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def literal(rng: random.Random) -> str:
        if rng.random() < 0.3:
            return str(rng.choice([low, low + 1, -1, 0, 1, high - 1, high]))
        if rng.random() < 0.5:
            return str(rng.randint(-100, 100))
        return str(rng.randint(low, high) >> rng.randrange(bits))

    return literal


_LETTERS: Final = "abcXYZ 019_-,;{}()[]<>\"\\'\t\n\r%$äöüßéÑ中文字😀🎉\u00a0\u200b\x01\x7f"


def _text(rng: random.Random) -> str:
    size = rng.choice([0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 60, 300])
    return "".join(rng.choice(_LETTERS) for _ in range(size))


def _large_text(rng: random.Random) -> str:
    if rng.random() < 0.12:
        return "".join(f"{rng.getrandbits(64):x}" for _ in range(rng.choice([150, 600, 2000])))
    return _edges(("", "NULL", "null", "\\", '"', "{}", " ", "\\x41", "infinity", "\\N"), _text)(rng)


def _short(limit: int) -> Literal:
    return lambda rng: _text(rng)[:limit]


def _name(rng: random.Random) -> str:
    return _text(rng).encode()[:63].decode(errors="ignore")


def _json(rng: random.Random) -> str:
    deep = "[" * 20 + "]" * 20
    edges = ("{}", "[]", "null", '""', "0", "-0", "1e400", '{"a": 1, "a": 2}', ' { "b" : [1, 2.50, "x"] } ', deep)
    big = '{"blob": "' + f"{rng.getrandbits(20000):x}" + '"}'
    return rng.choice([*edges, big, '"' + "".join(c for c in _text(rng) if c not in '"\\' and c >= " ") + '"'])


def _bytea(rng: random.Random) -> str:
    return "\\x" + rng.randbytes(rng.choice([0, 1, 3, 16, 33, 200, 3000])).hex()


def _float(edges: tuple[str, ...], power: int) -> Literal:
    def literal(rng: random.Random) -> str:
        return f"{rng.uniform(-10, 10)!r}e{rng.randint(-power, power)}"

    return _edges(("0", "-0", "1", "NaN", "Infinity", "-Infinity", "0.1", "1e15", "123456", "1e-5", *edges), literal)


def _numeric(rng: random.Random) -> str:
    digits = rng.choice([1, 4, 5, 8, 17, 40, 200])
    number = str(rng.randrange(10**digits))
    at = rng.randint(0, len(number))
    zeros = "0" * rng.choice([0, 0, 1, 4, 9])
    return rng.choice(["", "-"]) + (number[:at] or "0") + "." + (number[at:] or "0") + zeros


_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _date(rng: random.Random) -> str:
    year = rng.choice(
        [1, 4, 100, 400, 1582, 1900, 1969, 1970, 1999, 2000, 2024, 9999, 10000, 294276, rng.randint(1, 4000)]
    )
    month = rng.randint(1, 12)
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    day = rng.randint(1, _DAYS[month - 1] + (is_leap and month == 2))
    return f"{year:04d}-{month:02d}-{day:02d}"


def _era(rng: random.Random, text: str) -> str:
    """Before Christ now and then; leap days fall elsewhere there."""
    year = int(text.split("-")[0])
    return text + " BC" if year < 4700 and "-02-29" not in text and rng.random() < 0.15 else text


def _clock(rng: random.Random) -> str:
    hours, minutes, seconds = rng.choice([0, 1, 12, 23]), rng.choice([0, 59, 30]), rng.choice([0, 59, 7])
    fraction = rng.choice(["", ".5", ".000001", ".999999", ".123", f".{rng.randrange(10**6):06d}"])
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}"


_FAR: Final = (
    "infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "294247-01-10 04:00:54.775807",
    "294247-01-10 04:00:54.775808", "0001-12-31 23:59:59.999999 BC", "1969-12-31 23:59:59.999999",
)  # fmt: skip


def _interval(rng: random.Random) -> str:
    units = ("years", "mons", "days", "hours", "mins", "secs")
    parts = [f"{rng.randint(-400, 400)} {unit}" for unit in units if rng.random() < 0.4]
    if rng.random() < 0.3:
        parts.append(f"{rng.randrange(10**6)} microseconds")
    return " ".join(parts) or "0"


def _uuid(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


MOODS: Final = ("sad", "very happy", 'it is "so"', "NULL", "ünï", "a,b{}")

_SPREAD: Final = "make_interval(secs => (random() - 0.5) * 4e11)"

_KERNEL: Final = (
    ColumnType("bool", _edges(("true", "false")), "random() < 0.5"),
    ColumnType("int2", _integers(16), "(random() * 65535 - 32768)::int2"),
    ColumnType("int4", _integers(32), "(random() * 4294967295 - 2147483648)::int4"),
    ColumnType("int8", _integers(64), "((random() - 0.5) * 1.8e19)::int8"),
    ColumnType("oid", _edges(("0", "1", "2147483648", "4294967295")), "(random() * 4294967295)::int8::oid"),
    ColumnType("float4", _float(("3.4028235e38", "1e-45", "16777216"), 36),
               "((random() - 0.5) * power(10::float8, random() * 50 - 25))::float4"),
    ColumnType("float8", _float(("1.7976931348623157e308", "5e-324", "9007199254740993"), 300),
               "(random() - 0.5) * power(10::float8, random() * 500 - 250)"),
    ColumnType("text", _large_text, "repeat(md5(random()::text), (random() * 120)::int)"),
    ColumnType("varchar(40)", _short(40), "md5(random()::text)"),
    ColumnType("varchar", _large_text),
    ColumnType("char(5)", _short(5)),
    ColumnType("bpchar", _short(20)),
    ColumnType("name", _name, "md5(random()::text)::name"),
    ColumnType('"char"', _edges(("", "a", "\\", "~", '"', " ", "\\001", "\\200", "\\377")), since=16),
    ColumnType('"char"', _edges(("", "a", "\\", "~", '"', " "))),
    ColumnType("citext", _large_text),
    ColumnType("json", _edges(('"\\u0000"', '"\\ud800"'), _json), is_orderable=False),
    ColumnType("jsonb", _json, "jsonb_build_object('k', random(), 'a', ARRAY[1, 2], 't', repeat('ä', 9))"),
    ColumnType("bytea", _bytea, "decode(md5(random()::text), 'hex')"),
    ColumnType("uuid", _uuid, "md5(random()::text)::uuid"),
    ColumnType("date", _edges(("infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "0001-01-01"),
                              lambda rng: _era(rng, _date(rng))),
               "date '2000-01-01' + (random() * 4000000 - 2400000)::int"),
    ColumnType("time", _edges(("24:00:00", "00:00:00", "23:59:59.999999"), _clock),
               "time '00:00' + make_interval(secs => random() * 86400)"),
    ColumnType("time(2)", _edges(("24:00:00", "23:59:59.999"), _clock)),
    ColumnType("timestamp", _edges(_FAR, lambda rng: _era(rng, f"{_date(rng)} {_clock(rng)}")),
               f"timestamp '2000-01-01' + {_SPREAD}"),
    ColumnType("timestamp(3)", _edges(_FAR[:3], lambda rng: f"{_date(rng)} {_clock(rng)}")),
    ColumnType("timestamptz", _edges((*_FAR, "2024-02-29 23:00:00+05:45", "1883-11-18 12:00:00 America/New_York"),
                                     lambda rng: _era(rng, f"{_date(rng)} {_clock(rng)}")),
               f"timestamptz '2000-01-01 00:00+00' + {_SPREAD}"),
    ColumnType("interval", _edges(("0", "1 mon", "-1 mon +1 day", "-178000000 years",
                                   "-1 day +00:00:00.000001"),
                                  _interval),
               "make_interval(months => (random() * 99 - 50)::int, days => (random() * 99 - 50)::int, "
               "secs => (random() - 0.5) * 1e6)"),
    ColumnType("interval", _edges(("2562047788:00:54.775807", "9223372036.854775 secs", "9223372036.854776 secs"),
                                  _interval), since=15),
    ColumnType("interval", _edges(("infinity", "-infinity", "1 day"), _interval), since=17),
    ColumnType("numeric", _edges(("0", "0.000", "NaN", "Infinity", "-Infinity", "1e-300", "-1e300", "10000",
                                  "9999.9999", "0.00009", "100000000.00010000"), _numeric),
               "(random() - 0.5)::numeric * power(10::numeric, (random() * 60 - 30)::int)"),
    ColumnType("mood", _edges(MOODS)),
)  # fmt: skip


def _address(rng: random.Random) -> str:
    return ".".join(str(rng.randrange(256)) for _ in range(4))


def _point(rng: random.Random) -> str:
    return f"({rng.choice(['0', '-0', '1e300', 'NaN', repr(rng.uniform(-5, 5))])},{rng.uniform(-5, 5)!r})"


def _plain(*edges: str) -> Literal:
    return _edges(edges)


def _other(sql: str, literal: Literal, expression: str = "", *, since: int = 14) -> ColumnType:
    return ColumnType(sql, literal, expression, is_kernel=False, is_orderable=False, since=since)


_TEXT: Final = (
    _other("inet", _edges(("::1", "10.0.0.0/8", "192.168.1.5/24", "fe80::1/64"), _address),
           "'10.0.0.0'::inet + (random() * 1e6)::int8"),
    _other("cidr", _plain("10.0.0.0/8", "::/0", "192.168.1.1")),
    _other("macaddr", _plain("08:00:2b:01:02:03")),
    _other("macaddr8", _plain("08:00:2b:01:02:03:04:05")),
    _other("int4range", _plain("empty", "[1,10)", "(,5]", "(,)"), "int4range((random() * 9)::int, 10)"),
    _other("int8range", _plain("empty", "[-9223372036854775808,10)")),
    _other("numrange", _plain("[1.50,2.5)", "(,NaN]")),
    _other("tsrange", _plain('["2024-01-01 00:00","2024-01-02 00:00")', "[infinity,infinity]", "empty")),
    _other("tstzrange", _plain('["2024-01-01 00:00+02",)')),
    _other("daterange", _plain("[2024-01-01,2024-02-01)", "[,]")),
    _other("int4multirange", _plain("{}", "{[1,3),[5,7)}")),
    _other("datemultirange", _plain("{[2024-01-01,2024-02-01)}")),
    _other("point", _point),
    _other("lseg", lambda rng: f"[{_point(rng)},{_point(rng)}]"),
    _other("box", _plain("(2,2),(0,0)", "(1e-5,3),(-1,-2)")),
    _other("line", _plain("{1,-1,0}", "{0,1,-2.5}")),
    _other("path", _plain("[(0,0),(1,1)]", "((0,0),(1,1),(2,0))")),
    _other("polygon", _plain("((0,0),(1,1),(2,0))")),
    _other("circle", _plain("<(1,2),3>")),
    _other("tsvector", _plain("'a' 'b':2A,3", "")),
    _other("tsquery", _plain("'a' & !'b'", "")),
    _other("money", _plain("$1,234.50", "-92233720368547758.08")),
    _other("bit(5)", _plain("10101", "00000")),
    _other("varbit", _plain("", "1", "1010101010101")),
    _other("timetz", _plain("12:34:56+02", "24:00:00-15:59:59", "00:00:00.000001+00")),
    _other("pg_lsn", _plain("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF")),
    _other("xid8", _plain("0", "18446744073709551615")),
    _other("tid", _plain("(0,0)", "(4294967295,65535)")),
    _other("jsonpath", _plain('$."a"[*]', "strict $")),
    _other("regclass", _plain("pg_class", "public.\"Odd.Name\"", "999999999")),
    _other("regtype", _plain("int4", "mood", "timestamptz")),
    _other("int2vector", _plain("", "1 2 3")),
    _other("pair", _edges(("(,)", '(1,"a b")', '(-1,"""q"" \\\\ ,")'), lambda rng: f"({rng.randint(-9, 9)},)")),
    _other("floatrange", _plain("empty", "[1.5,2.5]")),
    _other("hstore", _plain('"a"=>"1"', '"a"=>NULL, "b"=>"x y"', "")),
    _other("ltree", _plain("Top.Science.Astronomy", "")),
)  # fmt: skip
