"""Modifiers of numeric, against PostgreSQL's own printing of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.postgres.catalog import kept_as
from wallaby.pgtypes.builtin import named_type
from wallaby.pgtypes.numeric import numeric_typmod, precision_and_scale
from wallaby.testing.postgres import ScratchDatabase


@given(st.integers(1, 1000), st.integers(-1000, 1000))
def test_what_is_written_is_read(precision: int, scale: int) -> None:
    typmod = numeric_typmod(precision, scale)
    assert typmod >= 4
    assert precision_and_scale(typmod) == (precision, scale)


def test_numeric_alone_has_none() -> None:
    assert precision_and_scale(-1) is None


@pytest.mark.must_not_fail(12)
def test_postgresql_reads_them_alike(database: ScratchDatabase) -> None:
    pairs = [(10, 2), (38, 0), (1000, 1000), (1, 0)]
    with database.connect() as connection:
        if connection.info.server_version >= 150_000:
            pairs += [(5, -2), (3, 5), (1, -1000), (1000, -1)]
        for precision, scale in pairs:
            row = connection.execute("SELECT format_type(1700, %s)", (numeric_typmod(precision, scale),)).fetchone()
            assert row == (f"numeric({precision},{scale})",)


def test_a_target_keeps_a_scale_with_its_sign() -> None:
    numeric = named_type("numeric")
    assert numeric is not None
    assert kept_as(numeric, numeric_typmod(5, -2)).target == "numeric(5,-2)"
    assert kept_as(numeric, numeric_typmod(10, 2)).target == "numeric(10,2)"
