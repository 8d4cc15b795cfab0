"""Patterns of tables and columns, assignments and templates."""

from __future__ import annotations

import pytest

from wallaby.flow.patterns import (
    ColumnGlob,
    TableGlob,
    assignment,
    checked_template,
    filled,
    name_parts,
    parse_table_name,
)
from wallaby.schema import TableName


@pytest.mark.parametrize(
    ("pattern", "table", "fits"),
    [
        ("shop.orders", ("shop", "orders"), True),
        ("orders", ("public", "orders"), True),
        ("orders", ("shop", "orders"), False),
        ("shop.*", ("shop", "anything at all"), True),
        ("*", ("shop", "orders"), True),
        ("*.order_*", ("shop", "order_lines"), True),
        ("*.order_*", ("shop", "orders"), False),
        ("*.*_*_old", ("shop", "a_b_old"), True),
        ("shop.Orders", ("shop", "orders"), False),
        ('shop."*"', ("shop", "orders"), False),
        ('shop."*"', ("shop", "*"), True),
        ('"Odd.Schema"."a ""b"""', ("Odd.Schema", 'a "b"'), True),
        ("shop.a+b", ("shop", "aab"), False),
    ],
)
def test_a_table_pattern_fits_whole_names(pattern: str, table: tuple[str, str], fits: bool) -> None:
    assert TableGlob.parse(pattern).matches(TableName(*table)) is fits


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("email", True), ("users.email", False), ("shop.users.email", True), ("*.*.e*", True), ("shop.users.id", False)],
)
def test_a_column_pattern_says_which_tables(pattern: str, fits: bool) -> None:
    assert ColumnGlob.parse(pattern).matches(TableName("shop", "users"), "email") is fits


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a b", 'a."b', "a,b", "a..b", 'a"b', "a=b", "a\0"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names with dots"):
        name_parts(text)


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="tables such as"):
        TableGlob.parse("a.b.c")
    with pytest.raises(ValueError, match="columns such as"):
        ColumnGlob.parse("a.b.c.d")
    with pytest.raises(ValueError, match="one table"):
        parse_table_name("shop.*")


def test_an_assignment_is_split_at_its_first_sign_outside_quotes() -> None:
    assert assignment('"a=b".c = d = e') == ('"a=b".c', "d = e")
    for text in ("a", "= b", "a =", '"a = b'):
        with pytest.raises(ValueError, match="form NAME ="):
            assignment(text)


def test_templates_hold_known_placeholders_only() -> None:
    assert filled(checked_template("{schema}__{table}", "schema", "table"), schema="a", table="{b}") == "a__{b}"
    for text in ("{tabel}", "{", "x}", "{}", "{{table}}"):
        with pytest.raises(ValueError, match="may hold"):
            checked_template(text, "table")
