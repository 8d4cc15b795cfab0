"""Column types and literals for them: edges that once broke somebody's decoder, and random ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
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
    separator: str = ","
    """Between the elements of its arrays."""


def scalar_types() -> list[ColumnType]:
    """Every type that travels in binary."""
    return [*_KERNEL, *_PRINTED, *_EXTENSIONS, *VECTOR_TYPES[:2]]


def text_types() -> list[ColumnType]:
    """Types that travel as text in both directions."""
    return [*_TEXT, VECTOR_TYPES[2]]


def array_of(element: ColumnType) -> ColumnType:
    """``element[]``, with NULLs, several dimensions and bounds of its own now and then."""

    def literal(rng: random.Random) -> str:
        def row(count: int) -> str:
            cells = ["NULL" if rng.random() < 0.15 else _quoted(element.literal(rng)) for _ in range(count)]
            return "{" + element.separator.join(cells) + "}"

        shape = rng.random()
        if shape < 0.08:
            return "{}"
        if shape < 0.16:
            width = rng.randint(1, 3)
            return "{" + element.separator.join(row(width) for _ in range(rng.randint(1, 3))) + "}"
        if shape < 0.22:
            lower, count = rng.choice([-3, 0, 2, 5]), rng.randint(1, 3)
            return f"[{lower}:{lower + count - 1}]={row(count)}"
        return row(rng.randint(1, rng.choice([3, 3, 40])))

    return ColumnType(f"{element.sql}[]", literal, "", element.is_kernel, False, element.since)


def named(sql: str, like: ColumnType) -> ColumnType:
    """A domain over ``like``."""
    return replace(like, sql=sql, expression="")


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


def _integers_below(bits: int) -> Literal:
    return _edges(("0", "1", str(2**bits - 1)), lambda rng: str(rng.getrandbits(bits) >> rng.randrange(bits)))


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


def _figures(number: float) -> str:
    """The shortest decimal of a float, without an exponent: one may follow."""
    return format(Decimal(repr(number)), "f")


def _float(edges: tuple[str, ...], power: int) -> Literal:
    def literal(rng: random.Random) -> str:
        return f"{_figures(rng.uniform(-10, 10))}e{rng.randint(-power, power)}"

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


def _text_of(sql: str, literal: Literal, expression: str = "", *, is_orderable: bool = False) -> ColumnType:
    """A type held as PostgreSQL's text that travels in binary."""
    return ColumnType(sql, literal, expression, is_orderable=is_orderable)


def _address(rng: random.Random) -> str:
    return ".".join(str(rng.choice([0, 1, 9, 10, 99, 100, 255, rng.randrange(256)])) for _ in range(4))


def _address6(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(["::ffff:", "::", "1::", "::fffe:", "64:ff9b::"]) + _address(rng)
    return ":".join(f"{rng.choice([0, 0, 0, 1, 0xFFFF, rng.randrange(0x10000)]):x}" for _ in range(8))


def _inet(rng: random.Random) -> str:
    text, bits = (_address(rng), 32) if rng.random() < 0.5 else (_address6(rng), 128)
    return text if rng.random() < 0.5 else f"{text}/{rng.choice([0, bits, rng.randint(0, bits)])}"


def _cidr(rng: random.Random) -> str:
    """Networks: nothing set behind their bits."""
    if rng.random() < 0.3:
        return _address(rng) if rng.random() < 0.5 else _address6(rng)
    if rng.random() < 0.5:
        count = rng.randint(0, 4)
        return ".".join([*_address(rng).split(".")[:count], *["0"] * (4 - count)]) + f"/{8 * count}"
    groups = [f"{rng.choice([0, 1, rng.randrange(0x10000)]):x}" for _ in range(rng.randint(0, 7))]
    return ":".join([*groups, *["0"] * (8 - len(groups))]) + f"/{16 * len(groups)}"


def _bytes_with_colons(size: int) -> Literal:
    return lambda rng: rng.randbytes(size).hex(":")


def _range_of(*steps: str) -> Literal:
    """A range between two of some ascending values; now and then without one bound, or empty."""

    def literal(rng: random.Random) -> str:
        if rng.random() < 0.08:
            return "empty"
        lower, upper = sorted(rng.choices(range(len(steps)), k=2))
        ends = [f'"{steps[k]}"' if rng.random() < 0.85 else "" for k in (lower, upper)]
        return f"{rng.choice('[(')}{ends[0]},{ends[1]}{rng.choice(')]')}"

    return literal


def _multirange_of(*steps: str) -> Literal:
    """Ranges that do not touch."""

    def literal(rng: random.Random) -> str:
        chosen = sorted(rng.sample(range(len(steps)), 2 * rng.randint(0, len(steps) // 2)))
        pairs = zip(chosen[::2], chosen[1::2], strict=True)
        return "{" + ",".join(f'["{steps[a]}","{steps[b]}")' for a, b in pairs) + "}"

    return literal


_INTEGERS: Final = ("-2147483648", "-100", "-1", "0", "1", "9", "10", "2147483646")
_WHOLES: Final = ("-9223372036854775808", "-10000000000", "-1", "0", "7", "10000000000", "9223372036854775806")
_NUMBERS: Final = ("-Infinity", "-1e40", "-10000.0001", "-0.5", "0", "0.0", "1e-20", "1.50", "1e40", "Infinity", "NaN")
_DAYS_ON: Final = (
    "-infinity", "4714-11-24 BC", "0044-03-15 BC", "0001-12-31 BC", "0001-01-01", "1970-01-01", "2024-02-29",
    "10000-01-01", "5874896-12-31", "infinity",
)  # fmt: skip
_MOMENTS: Final = (
    "-infinity", "4713-01-01 00:00:00 BC", "0044-03-15 12:00:00.5 BC", "0001-01-01 00:00:00",
    "1969-12-31 23:59:59.999999", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "2024-02-29 12:34:56.789",
    "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "infinity",
)  # fmt: skip


def _tsvector(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return ""
    lexemes = []
    for _ in range(rng.randint(1, 6)):
        word = _text(rng)[:40] or "a"
        quoted = "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
        places = [
            f"{rng.choice([1, 9, 10, 16383, rng.randint(1, 16383)])}{rng.choice(['', '', 'A', 'B', 'C', 'D'])}"
            for _ in range(rng.choice([0, 0, 1, 3]))
        ]
        lexemes.append(quoted + (":" + ",".join(places) if places else ""))
    return " ".join(lexemes)


def _bits(limit: int) -> Literal:
    def literal(rng: random.Random) -> str:
        size = rng.choice([0, 1, 7, 8, 9, 63, 64, 65, rng.randint(0, limit)]) if limit else 0
        return "".join(rng.choice("01") for _ in range(size))

    return literal


def _zone(rng: random.Random) -> str:
    seconds = rng.choice([0, 3600, 19_800, 45_296, 57_599, rng.randint(0, 57_599)])
    return f"{rng.choice('+-')}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _hstore(rng: random.Random) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    pairs = []
    for _ in range(rng.choice([0, 1, 2, 5, 20])):
        value = "NULL" if rng.random() < 0.2 else quoted(_large_text(rng))
        pairs.append(f"{quoted(_text(rng)[:60])}=>{value}")
    return ",".join(pairs)


def _ltree(rng: random.Random) -> str:
    return ".".join("".join(rng.choices("abcXYZ019_", k=rng.randint(1, 9))) for _ in range(rng.choice([0, 1, 3, 20])))


def _vector(rng: random.Random) -> str:
    def number() -> str:
        edges = ["0", "-0", "1", "-1.5", "0.1", "3.4028235e38", "-1e-45", "1e6", "999999", "1e-5", "16777216"]
        return rng.choice([*edges, repr(rng.uniform(-1, 1)), f"{_figures(rng.uniform(-9, 9))}e{rng.randint(-30, 30)}"])

    return "[" + ",".join(number() for _ in range(rng.choice([1, 2, 3, 16, 100]))) + "]"


def _half_vector(rng: random.Random) -> str:
    edges = ["0", "-0", "1", "0.1", "65504", "-65504", "6e-8", "6.1e-5", "2049"]
    numbers = [rng.choice([*edges, repr(rng.uniform(-9, 9))]) for _ in range(rng.choice([1, 2, 16]))]
    return f"[{','.join(numbers)}]"


_PRINTED: Final = (
    _text_of("inet", _inet, "'10.0.0.0'::inet + (random() * 1e6)::int8", is_orderable=True),
    _text_of("cidr", _cidr, is_orderable=True),
    _text_of("macaddr", _bytes_with_colons(6), is_orderable=True),
    _text_of("macaddr8", _bytes_with_colons(8), is_orderable=True),
    _text_of("int4range", _range_of(*_INTEGERS), "int4range((random() * 9)::int, 10)", is_orderable=True),
    _text_of("int8range", _range_of(*_WHOLES)),
    ColumnType("numrange", _range_of(*_NUMBERS)),
    _text_of("daterange", _range_of(*_DAYS_ON), "daterange(date '0001-01-01' - (random() * 9999)::int, NULL)"),
    _text_of("tsrange", _range_of(*_MOMENTS), "tsrange(timestamp '2000-01-01' - random() * interval '9 years', NULL)"),
    _text_of("tstzrange", _range_of(*_MOMENTS), is_orderable=True),
    _text_of("int4multirange", _multirange_of(*_INTEGERS)),
    _text_of("int8multirange", _multirange_of(*_WHOLES)),
    _text_of("nummultirange", _multirange_of(*_NUMBERS)),
    _text_of("datemultirange", _multirange_of(*_DAYS_ON)),
    _text_of("tsmultirange", _multirange_of(*_MOMENTS)),
    _text_of("tstzmultirange", _multirange_of(*_MOMENTS), is_orderable=True),
    _text_of("tsvector", _tsvector, "to_tsvector('simple', repeat('word ' || random(), 3))", is_orderable=True),
    _text_of("bit(5)", lambda rng: f"{rng.randrange(32):05b}", is_orderable=True),
    _text_of("bit varying", _bits(900), is_orderable=True),
    _text_of("timetz", _edges(("24:00:00-15:59:59", "00:00:00+15:59:59", "12:34:56+02", "23:59:59.999999+00"),
                              lambda rng: _clock(rng) + _zone(rng)), is_orderable=True),
    _text_of("pg_lsn", _edges(("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"),
                              lambda rng: f"{rng.getrandbits(32) >> rng.randrange(32):X}/{rng.getrandbits(32):X}"),
             is_orderable=True),
    _text_of("xid", _integers_below(32)),
    _text_of("cid", _integers_below(32)),
    _text_of("xid8", _integers_below(64), is_orderable=True),
    _text_of("tid", _edges(("(0,0)", "(4294967295,65535)"),
                           lambda rng: f"({rng.getrandbits(32)},{rng.getrandbits(16)})")),
    _text_of("jsonpath", _edges(('$."a"[*]', "strict $", "$.ä ? (@ > 1.50)", '$[0 to last] ? (@.b == "x\\"y")'))),
    _text_of("xml", _edges(("<a>1</a>", "", "text", '<?xml version="1.0" encoding="UTF-8"?><a>ü</a>',
                            '<?xml version="1.1" standalone="yes"?>\n<b/>', "\n<c> &lt; </c>"))),
    _text_of("refcursor", _text),
)  # fmt: skip

HSTORE: Final = '"Ext.".hstore'
_EXTENSIONS: Final = (
    ColumnType(HSTORE, _hstore, f"{HSTORE}('k', random()::text)"),
    ColumnType("ltree", _ltree, "('a.b.' || (random() * 1e6)::int)::ltree"),
    ColumnType("lquery", _edges(("Top.*{1,2}.!a|b@*%", "*", "a.b_c*.*{,4}")), is_orderable=False),
    ColumnType("ltxtquery", _edges(("Europe & Russia*@ & !Transportation", "a | b%")), is_orderable=False),
)
VECTOR_TYPES: Final = (
    ColumnType("vector", _vector),
    ColumnType("halfvec", _half_vector),
    ColumnType("sparsevec", _edges(("{1:1.5,3:2}/5", "{}/1", "{7:-1e-5}/9")), is_kernel=False, is_orderable=False),
)
"""pgvector's, where the server has it."""


def _point(rng: random.Random) -> str:
    return f"({rng.choice(['0', '-0', '1e300', 'NaN', repr(rng.uniform(-5, 5))])},{rng.uniform(-5, 5)!r})"


def _plain(*edges: str) -> Literal:
    return _edges(edges)


def _other(sql: str, literal: Literal, expression: str = "", *, since: int = 14) -> ColumnType:
    return ColumnType(sql, literal, expression, is_kernel=False, is_orderable=False, since=since)


_TEXT: Final = (
    _other("point", _point),
    _other("lseg", lambda rng: f"[{_point(rng)},{_point(rng)}]"),
    replace(_other("box", _plain("(2,2),(0,0)", "(1e-5,3),(-1,-2)")), separator=";"),
    _other("line", _plain("{1,-1,0}", "{0,1,-2.5}")),
    _other("path", _plain("[(0,0),(1,1)]", "((0,0),(1,1),(2,0))")),
    _other("polygon", _plain("((0,0),(1,1),(2,0))")),
    _other("circle", _plain("<(1,2),3>")),
    _other("tsquery", _plain("'a' & !'b'", "")),
    _other("money", _plain("$1,234.50", "-92233720368547758.08")),
    _other("regclass", _plain("pg_class", 'public."Odd.Name"', "999999999")),
    _other("regtype", _plain("int4", "mood", "timestamptz")),
    _other("int2vector", _plain("", "1 2 3")),
    _other("oidvector", _plain("", "1 4294967295")),
    _other("pair", _edges(("(,)", '(1,"a b")', '(-1,"""q"" \\\\ ,")'), lambda rng: f"({rng.randint(-9, 9)},)")),
    _other("floatrange", _plain("empty", "[1.5,2.5]")),
    _other("pg_snapshot", _plain("10:20:10,14,15")),
)
