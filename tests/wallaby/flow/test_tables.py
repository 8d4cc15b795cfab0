"""Table patterns: quoted, qualified, starred, and lists of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby.flow import TablePattern, parse_table_pattern
from wallaby.flow.tables import split_list
from wallaby.schema import TableName


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("orders", "public", "orders"),
        ("shop.Orders", "shop", "Orders"),
        ("shop.*", "shop", None),
        ('"a.b"."c""d"', "a.b", 'c"d'),
        ('"with space".*', "with space", None),
        (" shop . orders ", "shop", "orders"),
        ("größe.tabelle", "größe", "tabelle"),
    ],
)
def test_patterns_are_read(text: str, schema: str, name: str | None) -> None:
    assert parse_table_pattern(text) == TablePattern(schema, name)


@pytest.mark.parametrize("text", ["", "*", "a.b.c", '"a', "a b", ".a", "a.", "*.a", "x" * 64, "a\0", '""'])
def test_what_is_no_pattern_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        parse_table_pattern(text)


@pytest.mark.must_not_fail(22)
@settings(deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=15).filter(lambda t: "\0" not in t), st.none() | st.text(min_size=1, max_size=15))
def test_any_name_survives_being_written_and_read(schema: str, name: str | None) -> None:
    if name is not None and "\0" in name:
        return
    pattern = TablePattern(schema, name)
    assert parse_table_pattern(str(pattern)) == pattern
    assert split_list(f"{pattern}, b.c") == tuple(dict.fromkeys((str(pattern), "b.c")))


def test_a_star_matches_every_table_of_its_schema_only() -> None:
    assert TablePattern("shop", None).matches(TableName("shop", "orders"))
    assert not TablePattern("shop", None).matches(TableName("Shop", "orders"))
    assert not TablePattern("shop", "orders").matches(TableName("shop", "Orders"))
