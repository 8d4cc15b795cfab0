"""Columns as other types: which fidelity is claimed, and that values are what the claim says, to the last digit."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sinks.postgres.conftest import read_rows
from wallaby.content import value_texts
from wallaby.pgtypes.builtin import builtin_types
from wallaby.pgtypes.layout import Layout, layout_of
from wallaby.testing.changes import table
from wallaby.testing.postgres import ScratchDatabase
from wallaby.transform.casts import Conversion, Fidelity, conversion


def layout(word: str) -> Layout:
    [column] = table("public.t", {"v": word}).columns
    return layout_of(column.type, column.typmod)


def way(source: str, target: str) -> Conversion:
    return conversion(layout(source), layout(target), same=source == target)


@pytest.mark.parametrize(
    ("source", "target", "fidelity"),
    [
        ("int4", "int4", Fidelity.EXACT),
        ("int4", "int8", Fidelity.WIDENED),
        ("int8", "int4", Fidelity.EXACT),
        ("int4", "float8", Fidelity.WIDENED),
        ("int2", "float4", Fidelity.WIDENED),
        ("int4", "float4", Fidelity.LOSSY),
        ("int8", "float8", Fidelity.LOSSY),
        ("int8", "numeric(38,2)", Fidelity.WIDENED),
        ("int8", "numeric(10,2)", Fidelity.EXACT),
        ("int4", "numeric", Fidelity.EXACT),
        ("float4", "float8", Fidelity.WIDENED),
        ("float8", "float4", Fidelity.LOSSY),
        ("float8", "int4", Fidelity.LOSSY),
        ("float8", "numeric(10,2)", Fidelity.REFUSED),
        ("numeric(10,2)", "numeric(12,3)", Fidelity.WIDENED),
        ("numeric(10,2)", "numeric(9,2)", Fidelity.EXACT),
        ("numeric(10,2)", "numeric(9,1)", Fidelity.LOSSY),
        ("numeric(10,2)", "numeric", Fidelity.EXACT),
        ("numeric(10,2)", "int8", Fidelity.LOSSY),
        ("numeric(10,0)", "int8", Fidelity.EXACT),
        ("numeric(10,2)", "float8", Fidelity.LOSSY),
        ("numeric", "numeric(38,9)", Fidelity.EXACT),
        ("numeric", "float8", Fidelity.LOSSY),
        ("numeric", "int8", Fidelity.REFUSED),
        ("date", "timestamp", Fidelity.WIDENED),
        ("timestamp", "date", Fidelity.LOSSY),
        ("timestamptz", "date", Fidelity.LOSSY),
        ("timestamptz", "timestamp", Fidelity.LOSSY),
        ("timestamp", "timestamptz", Fidelity.LOSSY),
        ("uuid", "text", Fidelity.EXACT),
        ("jsonb", "text", Fidelity.EXACT),
        ("text", "jsonb", Fidelity.REFUSED),
        ("text", "int4", Fidelity.REFUSED),
        ("bytea", "text", Fidelity.REFUSED),
        ("bool", "int4", Fidelity.REFUSED),
        ("int4[]", "int8[]", Fidelity.WIDENED),
        ("int8[]", "int4", Fidelity.REFUSED),
    ],
)
def test_a_way_claims_what_it_keeps(source: str, target: str, fidelity: Fidelity) -> None:
    assert way(source, target).fidelity is fidelity


def test_every_way_is_refused_or_makes_the_target_s_type() -> None:
    """All pairs of built-in types: nothing raises, and what is not refused casts an empty and a null column."""
    found = {layout_of(one).arrow: layout_of(one) for one in builtin_types()}
    layouts = [*found.values(), layout("numeric(10,2)"), layout("numeric(60,10)"), layout("int4[]"), layout("text[]")]
    count = 0
    for source in layouts:
        for target in layouts:
            made = conversion(source, target)
            if made.fidelity is not Fidelity.REFUSED:
                assert made.cast(pa.nulls(3, source.arrow)).null_count == 3
                assert made.fidelity is not Fidelity.LOSSY or made.reason
                count += 1
    assert count > len(layouts)


@given(st.integers(-(10**12) + 1, 10**12 - 1), st.integers(0, 4))
def test_numerics_are_rounded_half_away_from_zero_or_refused(unscaled: int, scale: int) -> None:
    value = Decimal(unscaled).scaleb(-5)
    rounded = value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP)
    cast = way("numeric(12,5)", f"numeric(8,{scale})").cast
    array = pa.array([value, None], pa.decimal128(12, 5))
    if abs(rounded) >= 10 ** (8 - scale):
        with pytest.raises(pa.ArrowException):
            cast(array)
    else:
        assert cast(array).to_pylist() == [rounded, None]


@pytest.mark.parametrize("text", ["99.95", "-99.95", "0.05", "-0.05", "99.94"])
def test_a_numeric_that_rounds_up_to_another_digit_keeps_it(text: str) -> None:
    made = way("numeric(4,2)", "numeric(4,1)").cast(pa.array([Decimal(text)], pa.decimal128(4, 2)))
    assert made.to_pylist() == [Decimal(text).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**25), max_value=10**25))
def test_numerics_become_the_nearest_double(value: Decimal) -> None:
    """Compared with Python's own reading, which rounds correctly."""
    [found] = way("numeric(38,10)", "float8").cast(pa.array([value], pa.decimal128(38, 10))).to_pylist()
    assert found == float(value)
    [found] = way("numeric", "float8").cast(pa.array([format(value, "f")])).to_pylist()
    assert found == float(value)


def test_numerics_beyond_the_doubles_are_refused_and_infinity_is_itself() -> None:
    cast = way("numeric", "float8").cast
    made = cast(pa.array(["Infinity", "-Infinity", "NaN", None])).to_pylist()
    assert made[:2] == [float("inf"), float("-inf")]
    assert made[2] != made[2]
    assert made[3] is None
    with pytest.raises(pa.ArrowException):
        cast(pa.array(["1" + "0" * 400]))


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_become_the_nearest_double_half_to_even(value: int) -> None:
    [found] = way("int8", "float8").cast(pa.array([value], pa.int64())).to_pylist()
    assert found == float(value)
    near = Context(prec=60)
    assert abs(Fraction(found) - value) <= 1024, near


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_doubles_become_the_nearest_float_or_are_refused(value: float) -> None:
    array = pa.array([value], pa.float64())
    try:
        expected = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        expected = None
    if expected is None or (expected == 0 and value != 0):
        with pytest.raises(pa.ArrowException):
            way("float8", "float4").cast(array)
        return
    [found] = way("float8", "float4").cast(array).to_pylist()
    assert found == expected or (found != found and expected != expected)


@pytest.mark.parametrize(
    ("value", "whole"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (2147483647.4, 2**31 - 1)]
)
def test_doubles_are_rounded_to_whole_numbers_half_to_even(value: float, whole: int) -> None:
    assert way("float8", "int4").cast(pa.array([value])).to_pylist() == [whole]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2147483648.0, -2147483649.0])
def test_doubles_without_a_whole_number_are_refused(value: float) -> None:
    with pytest.raises(pa.ArrowException):
        way("float8", "int4").cast(pa.array([value]))


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_never_wrapped(value: int) -> None:
    cast = way("int8", "int4").cast
    if -(2**31) <= value < 2**31:
        assert cast(pa.array([value], pa.int64())).to_pylist() == [value]
    else:
        with pytest.raises(pa.ArrowException):
            cast(pa.array([value], pa.int64()))


@given(st.datetimes(min_value=dt.datetime(1, 1, 1), max_value=dt.datetime(9999, 12, 31)))
def test_moments_lose_their_time_towards_the_past(moment: dt.datetime) -> None:
    array = pa.array([moment], pa.timestamp("us"))
    assert way("timestamp", "date").cast(array).to_pylist() == [moment.date()]
    zoned = pa.array([moment.replace(tzinfo=dt.UTC)], pa.timestamp("us", "UTC"))
    assert way("timestamptz", "date").cast(zoned).to_pylist() == [moment.date()]
    assert way("timestamptz", "timestamp").cast(zoned).to_pylist() == [moment]


def test_a_date_beyond_the_moments_is_refused() -> None:
    with pytest.raises(pa.ArrowException):
        way("date", "timestamp").cast(pa.array([2**31 - 2], pa.int32()).view(pa.date32()))


def test_lists_are_converted_element_by_element_where_they_begin_and_end() -> None:
    lists = pa.array([[9], [1, None], None, [], [2]], pa.list_(pa.int32()))
    made = way("int4[]", "int8[]").cast(lists.slice(1))
    assert made.to_pylist() == [[1, None], None, [], [2]]
    made.validate(full=True)
    texts = way("numeric(10,2)[]", "text[]").cast(pa.array([[Decimal("1.50")]], pa.list_(pa.decimal128(10, 2))))
    assert texts.to_pylist() == [["1.50"]]


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    ("source", "target", "texts"),
    [
        ("numeric(10,4)", "numeric(8,1)", ["1.25", "-1.25", "0.05", "-0.05", "99.9500", "999999.9499"]),
        ("numeric(10,4)", "int8", ["0.5", "1.5", "2.5", "-0.5", "-2.5", "999999.4999"]),
        ("numeric(10,4)", "float4", ["0.1", "999999.9999", "-0.3333"]),
        ("numeric", "float8", ["0.1", "1e300", "123456789012345678901234567890.5", "NaN", "Infinity"]),
        ("int8", "float8", ["9007199254740993", "9223372036854775807", "-9007199254740995"]),
        ("int8", "numeric(19,0)", ["9223372036854775807", "-9223372036854775808"]),
        ("float8", "float4", ["0.1", "16777217", "3.4028234e38", "1e-45", "-0"]),
        ("float8", "int4", ["0.5", "1.5", "2.5", "-2.5", "2147483647.4"]),
        ("timestamp", "date", ["1969-12-31 23:59:59.999999", "0001-01-01", "2000-01-01 00:00:00"]),
        ("timestamptz", "date", ["1969-12-31 23:59:59+00", "2000-01-01 00:00:00+14"]),
        ("timestamptz", "timestamp", ["1969-12-31 23:59:59+00", "2000-01-01 00:00:00+14"]),
        ("date", "timestamp", ["1969-12-31", "9999-12-31"]),
    ],
)
def test_values_become_what_postgresql_s_own_cast_makes_of_them(
    database: ScratchDatabase, source: str, target: str, texts: list[str]
) -> None:
    schema = table("public.t", {"v": source})
    after = table("public.t", {"v": target})
    database.execute(
        "SET TimeZone = 'UTC'",
        f"CREATE TABLE before (v {source}); CREATE TABLE after (v {target})",
        "INSERT INTO before VALUES ('" + "'), ('".join(texts) + "')",
        f"INSERT INTO after SELECT v::{target} FROM before",
    )
    given = read_rows(database, schema, table="(SELECT * FROM before) AS t").column(0)
    wanted = read_rows(database, after, table="(SELECT * FROM after) AS t").column(0)
    made = way(source, target).cast(pa.concat_arrays(given.chunks))
    assert value_texts(made).to_pylist() == value_texts(pa.concat_arrays(wanted.chunks)).to_pylist()
