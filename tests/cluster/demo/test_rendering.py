"""Arrow values are laid out exactly as a real server prints them."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.demo.rendering import float_text, interval_text, postgres_text, uniform_floats
from wallaby.testing.postgres import ScratchDatabase

EDGES = (0.0, -0.0, 1.0, 1e6, 999999.0, 1e15, 999999999999999.0, 1e-4, 9e-5, 0.1, 1 / 3, 5e-324, 1.7976931348623157e308)


def printed(database: ScratchDatabase, kind: str, texts: Sequence[str | None]) -> list[str | None]:
    """What the server prints for these literals."""
    with database.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET IntervalStyle = 'postgres'")
        query = f"SELECT format('%%s', v::{kind}), v IS NULL FROM unnest(%s::text[]) AS v"
        rows = connection.execute(query, (list(texts),)).fetchall()
    return [None if is_null else text for text, is_null in rows]


def test_doubles_are_printed_as_the_server_does(database: ScratchDatabase) -> None:
    random = Random(1)
    values = [*EDGES, float("nan"), float("inf"), float("-inf"), 1e20, 12345678901234567890.0, 5e-5]
    values += [struct.unpack("<d", random.randbytes(8))[0] for _ in range(3_000)]
    values += [round(random.uniform(-1e17, 1e17), random.randrange(8)) for _ in range(1_000)]
    server = pa.array(printed(database, "float8", [repr(value) for value in values]), pa.large_string())
    ours = postgres_text(pa.array(values, pa.float64()))
    assert uniform_floats(server, pa.float64(), is_array=False).equals(ours)
    assert sum(a != b for a, b in zip(ours.to_pylist(), server.to_pylist(), strict=True)) < len(ours) / 10


def test_reals_are_printed_as_the_server_does(database: ScratchDatabase) -> None:
    random = Random(2)
    finite = np.frombuffer(random.randbytes(4 * 3_000), np.float32)
    edges = np.array([value for value in EDGES if 1e-40 < abs(value) < 1e38 or value == 0], np.float32)
    tens = np.array([10.0**power for power in range(-37, 38)], np.float32)
    values = pa.array(np.concatenate([edges, tens, finite[np.isfinite(finite)]]))
    # Nine significant digits name a 32-bit float exactly.
    literals = [f"{float(value):.9g}" for value in values.to_pylist()]
    server = pa.array(printed(database, "real", literals), pa.large_string())
    ours = postgres_text(values)
    assert uniform_floats(server, pa.float32(), is_array=False).equals(ours)
    assert sum(a != b for a, b in zip(ours.to_pylist(), server.to_pylist(), strict=True)) < len(ours) / 10


def test_arrays_of_floats_are_read_and_printed_again() -> None:
    texts = pa.array(["{1,2.50,NULL}", "{}", None, "{1e+06,-0,NaN,Infinity}", "{0.30000001}"], pa.large_string())
    expected = ["{1,2.5,NULL}", "{}", None, "{1e+06,-0,NaN,Infinity}", "{0.3}"]
    assert uniform_floats(texts, pa.float32(), is_array=True).to_pylist() == expected
    nested = pa.array(["{{1,2},{3,4}}"], pa.large_string())
    assert uniform_floats(nested, pa.float32(), is_array=True).equals(nested)


def test_intervals_are_printed_as_the_server_does(database: ScratchDatabase) -> None:
    random = Random(3)
    pieces = [(random.choice((0, 1, -1, 11, -13, 12, 300)), random.choice((0, 1, -1, 40)), random.choice((0, 1, -1, 7)))
              for _ in range(400)]  # fmt: skip
    scale = [random.choice((1, 1_000_000, 3_600_000_000, 86_399_999_999)) for _ in pieces]
    literals = [f"{m} mons {d} days {t * s} us" for (m, d, t), s in zip(pieces, scale, strict=True)]
    texts = [interval_text(m, d, t * s * 1_000) for (m, d, t), s in zip(pieces, scale, strict=True)]
    assert texts == printed(database, "interval", literals)


@pytest.mark.parametrize(
    ("kind", "values", "literals"),
    [
        (pa.bool_(), [True, False, None], ["t", "f", None]),
        (pa.int64(), [-(2**63), 2**63 - 1], [str(-(2**63)), str(2**63 - 1)]),
        (pa.uint32(), [2**32 - 1], [str(2**32 - 1)]),
        (pa.date32(), [-719162, 0, None, 2932896], ["0001-01-01", "1970-01-01", None, "9999-12-31"]),
        (pa.time64("us"), [0, 1, 86_399_999_999], ["00:00:00", "00:00:00.000001", "23:59:59.999999"]),
        (pa.timestamp("us"), [0, 1_100_000], ["1970-01-01 00:00:00", "1970-01-01 00:00:01.1"]),
        (pa.timestamp("us", "UTC"), [-1, None], ["1969-12-31 23:59:59.999999+00", None]),
        (pa.timestamp("us", "Europe/Berlin"), [1_000_000], ["1970-01-01 00:00:01+00"]),
        (pa.binary(), [b"", b"\x00\xff", None], ["\\x", "\\x00ff", None]),
        (pa.binary(16), [uuid.UUID(int=1).bytes, None], ["00000000-0000-0000-0000-000000000001", None]),
        (pa.uuid(), [uuid.UUID(int=1).bytes, None], ["00000000-0000-0000-0000-000000000001", None]),
        (pa.string(), ["", "x", None], ["", "x", None]),
        (pa.null(), [None], [None]),
        (pa.list_(pa.bool_()), [[True, None], [], None], ["{t,NULL}", "{}", None]),
    ],
    ids=str,
)
def test_other_values_are_printed_as_the_manual_says(kind: Any, values: list[Any], literals: list[str | None]) -> None:
    assert postgres_text(pa.array(values, kind)).to_pylist() == literals
    assert postgres_text(pa.chunked_array([pa.array(values, kind)] * 2)).to_pylist() == literals * 2
    assert postgres_text(pa.array([*values, *values], kind).slice(len(values))).to_pylist() == literals


def test_decimals_keep_their_scale() -> None:
    values = pa.array(["0.0000001", "-12.5", "0", None, "99999999999999999999.9999999"]).cast(pa.decimal128(38, 7))
    texts = ["0.0000001", "-12.5000000", "0.0000000", None, "99999999999999999999.9999999"]
    assert postgres_text(values).to_pylist() == texts


def test_array_elements_are_quoted_as_the_server_does(database: ScratchDatabase) -> None:
    random = Random(4)
    pieces = [
        "",
        "NULL",
        "null",
        "nullx",
        "a b",
        "a,b",
        "{",
        "}",
        '"',
        "\\",
        "\t",
        "\n",
        "é",
        "🦘",
        "\x0b",
        "-",
        "'",
        None,
    ]
    arrays = [[random.choice(pieces) for _ in range(random.randrange(4))] for _ in range(300)]
    with database.connect() as connection:
        expected = [
            connection.execute("SELECT format('%%s', %s::text[])", (array,)).fetchall()[0][0] for array in arrays
        ]
    assert postgres_text(pa.array(arrays, pa.list_(pa.string()))).to_pylist() == expected


def test_a_date_arrow_cannot_print_is_an_error() -> None:
    with pytest.raises(TypeError):
        postgres_text(pa.array([-800_000], pa.date32()))
    with pytest.raises(TypeError):
        postgres_text(pa.array([{"a": 1}]))


def test_a_shortest_text_in_any_notation_reads_the_same() -> None:
    assert {float_text(text, digits_max=15) for text in ("1500", "1.5e3", "1.5e+03", "0.15e4", "1500.0")} == {"1500"}
