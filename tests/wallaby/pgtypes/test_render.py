"""Single binary values as PostgreSQL prints them."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from wallaby.pgtypes.layout import Family, Layout
from wallaby.pgtypes.render import render

FLOAT4 = Layout(Family.FLOAT4, pa.float32())
FLOAT8 = Layout(Family.FLOAT8, pa.float64())


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (-102181696.0, "-1.02181696e+08"),
        (1e-45, "1e-45"),
        (3.4028234663852886e38, "3.4028235e+38"),
        (16777216.0, "1.6777216e+07"),
        (123456.0, "123456"),
        (-0.0, "-0"),
    ],
)
def test_a_float4_half_way_between_shorter_ones_keeps_its_figures(number: float, text: str) -> None:
    assert render(FLOAT4, struct.pack("!f", number)) == text


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (9007199254740992.0, "9.007199254740992e+15"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (100.0, "100"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
    ],
)
def test_a_float8_has_the_fewest_figures(number: float, text: str) -> None:
    assert render(FLOAT8, struct.pack("!d", number)) == text
