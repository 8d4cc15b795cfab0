"""One column type with the values to try, and what the server itself says each value is."""

from __future__ import annotations

from dataclasses import dataclass

_PLAIN = "v::text"
_PRINTED = "CASE WHEN num_nulls(v) = 0 THEN format('%s', v) END"
"""What the output function prints; a cast to text is something else for some types."""
_DAYS = "(v - date '1970-01-01')"
_MICROSECONDS = "(extract(epoch from v) * 1000000)::numeric(30,0)"
_INTERVAL = (
    "array[extract(year from v) * 12 + extract(month from v), extract(day from v), "
    "1000 * (extract(hour from v) * 3600000000 + extract(minute from v) * 60000000 + extract(microseconds from v))]"
    "::numeric(30,0)[]"
)


@dataclass(frozen=True, slots=True)
class TypeCase:
    """``values`` fit the Arrow type, ``outliers`` do not. ``probe`` is SQL over ``v`` for the value to compare with."""

    sql: str
    values: tuple[str, ...]
    outliers: tuple[str, ...] = ()
    probe: str = "v"
    has_array: bool = True
    since: int = 14
    extension: str = ""
    """Not every server has it."""

    @property
    def table(self) -> str:
        return "t_" + "".join(c if c.isalnum() else "_" for c in self.sql)


FLOATS = ("0", "-0", "1.5", "0.0001", "1e-05", "1000000", "123456.7", "NaN", "Infinity", "-Infinity")
TEXTS = (
    "", "a", "NULL", "null", " lead", "tab\there", "{", ",", 'quo"te', "back\\slash", "it''s", "line\nbreak",
    "Grüße", "😀", "seven77", "eight888", "thirty-two characters are so long", "x" * 1_000_000,
)  # fmt: skip
TIMES = (
    "4714-11-24 00:00:00 BC", "0001-01-01 00:00:00", "0044-03-15 12:00:00.5 BC", "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "2024-02-29 12:34:56.789",
    "10000-01-01 00:00:00", "294246-12-31 23:59:59.999999",
)  # fmt: skip
FAR_TIMES = ("infinity", "-infinity", "294276-12-31 23:59:59.999999", "294250-02-28 01:02:03.4")

SCALARS = (
    TypeCase("bool", ("true", "false")),
    TypeCase("int2", ("0", "1", "-1", "32767", "-32768")),
    TypeCase("int4", ("0", "7", "-7", "2147483647", "-2147483648")),
    TypeCase("int8", ("0", "7", "-7", "999999999999999999", "9223372036854775807", "-9223372036854775808")),
    TypeCase("oid", ("0", "1", "2147483648", "4294967295")),
    TypeCase("float4", (*FLOATS, "3.4028235e38", "1e-45")),
    TypeCase("float8", (*FLOATS, "1.7976931348623157e308", "5e-324", "0.1", "123456789012345678")),
    TypeCase("text", TEXTS),
    TypeCase("varchar(40)", TEXTS[:-1]),
    TypeCase("char(5)", ("", "ab", "abcde"), probe=f"rpad({_PLAIN}, 5)"),
    TypeCase("name", ("", "pg_class", "Gemüse")),
    TypeCase('"char"', ("", "x", "~")),
    TypeCase("citext", ("", "MiXeD")),
    TypeCase("json", ('{"a": [1, null, "x"]}', '  "\\u0000"  ', "{}"), probe=_PLAIN),
    TypeCase("jsonb", ('{"a": [1, null, "x"]}', "1e5", "{}", '"😀"'), probe=_PLAIN),
    TypeCase("bytea", ("", "\\x00", "\\x00ff7f", "\\xdeadbeef00")),
    TypeCase("uuid", ("00000000-0000-0000-0000-000000000000", "0123abcd-4567-89ef-0123-456789abcdef")),
    TypeCase(
        "date",
        ("4714-11-24 BC", "0001-01-01", "0044-03-15 BC", "1969-12-31", "1970-01-01", "2024-02-29", "5874897-12-31"),
        ("infinity", "-infinity"),
        probe=_DAYS,
    ),
    TypeCase("time", ("00:00:00", "12:34:56.7", "23:59:59.999999"), ("24:00:00",), probe=_MICROSECONDS),
    TypeCase("time(3)", ("00:00:00", "12:34:56.789"), ("24:00:00",), probe=_MICROSECONDS),
    TypeCase("timestamp", TIMES, FAR_TIMES, probe=_MICROSECONDS),
    TypeCase("timestamptz", (*TIMES, "2024-02-29 12:34:56+05:30"), FAR_TIMES, probe=_MICROSECONDS),
    TypeCase("numeric(10,2)", ("0", "0.01", "-0.01", "12.30", "99999999.99", "-99999999.99"), ("NaN",)),
    TypeCase(
        "numeric(38,10)",
        ("0", "1", "-1", "0.0000000001", "-0.0000000001", "1234567890123456789012345678.9012345678", "-" + "9" * 28),
        ("NaN",),
    ),
    TypeCase("numeric(38,0)", ("0", "9" * 38, "-" + "9" * 38, "1" + "0" * 37, "10000", "100000000")),
    TypeCase("numeric(76,5)", ("0", "0.00001", "9" * 71 + ".99999", "-" + "9" * 71, "1" + "0" * 70), ("NaN",)),
    TypeCase("numeric(18,18)", ("0", "0." + "9" * 18, "-0." + "0" * 17 + "1"), ("NaN",)),
    TypeCase("numeric(5,-2)", ("0", "1234500", "-9999900"), ("NaN",), since=15),
    TypeCase("numeric(3,5)", ("0", "0.00123", "-0.00999"), ("NaN",), since=15),
    TypeCase(
        "numeric",
        ("0", "0.000", "1", "-1", "1.50", "10000", "1e20", "1e-20", "123456789.000100", "0.1", "NaN", "Infinity",
         "-Infinity", "1" + "0" * 1000, "-0." + "0" * 500 + "1"),
        probe=_PLAIN,
    ),
    TypeCase("numeric(1000,3)", ("0", "1.5", "9" * 90), probe=_PLAIN),
    TypeCase(
        "interval",
        ("0", "1 day", "-1 day", "1 year", "1 mon -1 day", "-1 year -2 mons +3 days -04:05:06.789", "100:00:00.000001",
         "178956970 years", "-00:00:00.5", "2 years 1 mon 1 day 01:00:00", "2562047 hours"),
        ("2147483646 hours", "-2562048 hours"),
        probe=_INTERVAL,
    ),
    TypeCase(
        "interval(6)",
        ("0", "1.5 seconds"),
        ("infinity", "-infinity", "-1 mon +2 days 2562047788 hours", "1 year -2562047788 hours"),
        probe=_INTERVAL,
        since=17,
    ),
    TypeCase("mood", ("sad", "very happy", 'it is "so"'), probe=_PLAIN),
    TypeCase("positive", ("1", "2147483647")),
    TypeCase("price", ("0.01", "12345678.90"), ("NaN",)),
    TypeCase("xid", ("0", "9", "10", "4294967295"), probe=_PRINTED),
    TypeCase("cid", ("0", "4294967295"), probe=_PRINTED),
    TypeCase("xid8", ("0", "1", "9999999999", "18446744073709551615"), probe=_PRINTED),
    TypeCase("tid", ("(0,0)", "(4294967295,65535)"), probe=_PRINTED),
    TypeCase("pg_lsn", ("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/A"), probe=_PRINTED),
    TypeCase("macaddr", ("08:00:2b:01:02:ff",), probe=_PRINTED),
    TypeCase("macaddr8", ("08:00:2b:01:02:03:04:ff",), probe=_PRINTED),
    TypeCase(
        "inet",
        ("192.168.0.1/24", "0.0.0.0/0", "255.255.255.255", "::1", "::", "1::", "1::2:0:0:0/64", "0:1::1:0",
         "::ffff:1.2.3.4", "::ffff:1.2.3.4/120", "::1.2.3.4", "::fffe:1.2.3.4", "1:0:0:2:0:0:0:3", "1:0:2:0:3:0:4:0",
         "fe80::/10", "a:b:c:d:e:f:10:2000"),
        probe=_PRINTED,
    ),
    TypeCase("cidr", ("10.0.0.0/8", "::/0", "192.168.1.1", "::ffff:0:0/96", "2001:db8::/32"), probe=_PRINTED),
    TypeCase("bit(3)", ("101", "000"), probe=_PRINTED),
    TypeCase("varbit", ("", "1", "10101010", "101010101"), probe=_PRINTED),
    TypeCase(
        "timetz",
        ("12:34:56+02", "24:00:00-15:59:59", "00:00:00.000001+15:59:59", "01:02:03.4-00:30", "00:00:00+00"),
        probe=_PRINTED,
    ),
    TypeCase(
        "tsvector",
        ("", "'a' 'b':2", r"'it''s':1A,2B,3C,4D,16383 'back\\slash' 'Grüße':7"),
        probe=_PRINTED,
    ),
    TypeCase("int4range", ("[1,10)", "empty", "(,)", "(,5]", "[-2147483648,)"), probe=_PRINTED),
    TypeCase("int8range", ("[-9223372036854775808,10)",), probe=_PRINTED),
    TypeCase("numrange", ("[1.50,2.5)", "(,NaN]", "(-Infinity,1e20]", "empty", "[0,0]"), probe=_PRINTED),
    TypeCase("daterange", ("[2024-01-01,2024-02-01)", "(,)", "[-infinity,infinity]", "[0044-03-15 BC,10000-01-01)"),
             probe=_PRINTED),
    TypeCase("tsrange", ('["2024-01-01 00:00","2024-01-02 00:00:00.5")', "[infinity,infinity]", "empty",
                         '["0044-03-15 12:00:00 BC",)'), probe=_PRINTED),
    TypeCase("tstzrange", ('["2024-01-01 00:00+02",)', '("0044-03-15 12:00:00 BC",infinity]'), probe=_PRINTED),
    TypeCase("int4multirange", ("{[1,3),[5,7)}", "{}"), probe=_PRINTED),
    TypeCase("nummultirange", ("{(,-0.5],[1.5,2)}",), probe=_PRINTED),
    TypeCase("tsmultirange", ('{["2024-01-01","2024-01-02 00:00:00.5"),[infinity,)}',), probe=_PRINTED),
    TypeCase("span", ("[1,5)",), probe=_PRINTED),
    TypeCase("jsonpath", ('$."a"[*]', "strict $", '$ ? (@ == "ü")'), probe=_PRINTED),
    TypeCase("xml", ("<a>ü</a>", '<?xml version="1.0" encoding="UTF-8"?><a/>', '<?xml version="1.1"?>\n<b/>', "x"),
             probe=_PRINTED),
    TypeCase("refcursor", ("", "Grüße"), probe=_PRINTED),
    TypeCase("ltree", ("", "Top.Science.Astronomy"), probe=_PRINTED),
    TypeCase("lquery", ("Top.*{1,2}.!a|b@*%",), probe=_PRINTED),
    TypeCase("ltxtquery", ("Europe & Russia*@ & !Transportation",), probe=_PRINTED),
    TypeCase("ext.hstore", ("", '"a"=>"1", "b"=>NULL', r'""=>"", "NULL"=>"NULL", "q\"\\"=>"ü, =>", "{"=>"}"'),
             probe=_PRINTED),
    TypeCase("tags", ('"x"=>"y"',), probe=_PRINTED),
    TypeCase("vector(3)", ("[1,-0,0.1]", "[3.4028235e38,-1e-45,1e6]"), probe="v::real[]", extension="vector"),
    TypeCase("vector", ("[1]", "[1.5,-0.25]"), probe="v::real[]", extension="vector"),
    TypeCase("geometry", ("POINT(1 2)", "SRID=4326;LINESTRING Z (0 0 1,1 1 2)", "POLYGON EMPTY"), has_array=False,
             probe="decode(v::text, 'hex')", extension="postgis"),
    TypeCase("geography", ("POINT(13.4 52.5)",), has_array=False, probe="decode(v::text, 'hex')", extension="postgis"),
    TypeCase("halfvec(2)", ("[0.1,-65504]", "[6e-8,2049]"), probe="v::vector::real[]", extension="vector"),
)  # fmt: skip
"""Types with a binary gather. ``span`` is a domain over a range, ``tags`` one over hstore."""

TEXT_ONLY = (
    TypeCase("point", ("(1,2.5)",), probe=_PLAIN, has_array=False),
    TypeCase("tsquery", ("'a' & !'b'",), probe=_PLAIN, has_array=False),
    TypeCase("money", ("$1,234.50",), probe=_PLAIN, has_array=False),
    TypeCase("pair", ('(1,"a b")', "(,)"), probe=_PLAIN, has_array=False),
    TypeCase("point[]", ('{"(1,2.5)",NULL}',), probe=_PLAIN, has_array=False),
    TypeCase("box[]", ("{(1,1),(0,0);NULL}",), probe=_PLAIN, has_array=False),
    TypeCase("int2vector", ("1 2 3", ""), probe=_PLAIN, has_array=False),
    TypeCase("floatrange", ("[1.5,2.5]",), probe=_PLAIN, has_array=False),
    TypeCase("place", ("(1,2.5)",), probe=_PLAIN, has_array=False),
    TypeCase("hstore", ("not the extension's",), probe=_PLAIN, has_array=False),
)
"""Types that travel as PostgreSQL's text. ``place`` is a domain over point, ``hstore`` a type of somebody's own."""
