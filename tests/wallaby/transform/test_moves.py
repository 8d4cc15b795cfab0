"""What became of a table's columns."""

from __future__ import annotations

import pytest

from wallaby.transform.moves import KnownColumn, Moves, column_moves, rename_steps

pytestmark = pytest.mark.must_not_fail(11)


def shape(text: str) -> list[KnownColumn]:
    """``name:number:type`` each; number and type may be left out."""
    columns = []
    for word in text.split():
        name, number, kind = [*word.split(":"), "", ""][:3]
        columns.append(KnownColumn(name, int(number or 0), kind))
    return columns


@pytest.mark.parametrize(
    ("known", "now", "dropped", "renamed"),
    [
        ("id:1 a:2", "id:1 a:2 b:3", [], []),
        ("id:1 a:2 b:3", "id:1 b:3", ["a"], []),
        ("id:1 a:2", "id:1 z:2", [], [("a", "z")]),
        ("id:1 a:2 b:3", "id:1 b:2 a:3", [], [("a", "b"), ("b", "a")]),
        ("id:1 a:2 b:3", "id:1 b:3 a:4", ["a"], []),
        ("id:1 a:2", "id:1 a:3", ["a"], []),
        ("id:1 a:2", "id:1 z:3", ["a"], []),
        ("id a b", "id a", ["b"], []),
        ("id a", "id a b", [], []),
        ("id a b", "id z b", [], [("a", "z")]),
        ("id:1 a:2 b:3", "id z b", [], [("a", "z")]),
        ("id a::text", "id z::int", ["a"], []),
        ("id a::text b::int", "id b::int a::text", ["a"], []),
        ("id:1 a:2 n:3", "id:1 a n:4", ["n"], []),
        ("id:7 a:8", "id:1 a:2", [], []),
        ("id:1 a:2 own", "id:1 z:3 own", ["a"], []),
        ("id:1 a:2 own", "id:1 a:3 own", ["a"], []),
    ],
)
def test_numbers_tell_and_else_names_and_order(
    known: str, now: str, dropped: list[str], renamed: list[tuple[str, str]]
) -> None:
    assert column_moves(shape(known), shape(now)) == Moves(tuple(dropped), tuple(renamed))


@pytest.mark.parametrize(
    ("known", "now", "unclear"),
    [
        ("id a", "id z", [("a", "z")]),
        ("id a b c", "id z c", [("a", "z"), ("b", "z")]),
        ("id a b", "id b a", [("a", "b"), ("b", "a")]),
    ],
)
def test_what_nobody_can_tell_is_unclear(known: str, now: str, unclear: list[tuple[str, str]]) -> None:
    assert column_moves(shape(known), shape(now)) == Moves(unclear=tuple(unclear))


def test_names_are_compared_as_the_destination_compares_them() -> None:
    assert column_moves(shape("id:1 A:2"), shape("id:1 a:2"), fold=str.lower) == Moves()
    assert column_moves(shape("id:1 A:2"), shape("id:1 a:2")).renamed == (("A", "a"),)


@pytest.mark.parametrize(
    ("present", "known", "now", "aside"),
    [
        ("id a b", "id:1 a:2 b:3", "id:1 b:3", []),
        ("id a b", "id:1 a:2 b:3", "id:1 b:3 a:4", [("a", "a_dropped")]),
        ("id a b", "id:1 a:2 b:3", "id:1 a:3", [("a", "a_dropped")]),
        ("id a b", "id:1 a:2 b:3", "id:1 b:2 a:3", []),
        ("id a b", "id:1 a:2 b:3", "id:1 a:3 b:4", [("a", "a_dropped")]),
        ("id a b", "id:1 b:3", "id:1 b:3 a:4", [("a", "a_dropped")]),
        ("id a b", "id:1 b:3", "id:1 b:3 a", [("a", "a_dropped")]),
        ("id A a_dropped", "id:1", "id:1 a:4 A_dropped_2:5", [("A", "A_dropped_3")]),
        ("id a", "", "id:1 a:2", []),
    ],
)
def test_a_history_puts_what_it_keeps_out_of_the_way_of_what_comes(
    present: str, known: str, now: str, aside: list[tuple[str, str]]
) -> None:
    moves = column_moves(shape(known), shape(now), fold=str.lower)
    owned, wanted = ([column.name for column in shape(text)] for text in (known, now))
    assert list(moves.keeping(present.split(), owned=owned, wanted=wanted, fold=str.lower).aside) == aside


def test_a_long_name_is_cut_where_a_character_ends() -> None:
    long = "é" * 31 + "x"
    moves = Moves().keeping(["id", long], owned=["id"], wanted=["id", long])
    assert moves.aside == ((long, "é" * 27 + "_dropped"),)


def test_swapped_names_go_by_way_of_names_nobody_has() -> None:
    assert rename_steps([("a", "z")]) == [("a", "z")]
    steps = rename_steps([("a", "b"), ("b", "a")])
    names = ["a", "b"]
    for old, new in steps:
        assert new not in names
        names[names.index(old)] = new
    assert names == ["b", "a"]
