"""What the rules hide of a table stays hidden under any name, as far as anybody can know which column is which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wallaby.errors import Refused
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import KnownNames, TableName, TableSchema
from wallaby.testing.changes import table
from wallaby.transform.concealment import Concealment

USERS = table("shop.users", {"id": "int8", "name": "text", "n": "int4"}, key=["id"])
MASKED = {"mask_columns": "name = hash"}


def concealment(**options: Any) -> Concealment:
    return Concealment.of(TransformOptions.parse(options), destination="lake")


def told(*columns: tuple[str, int], name: str = "users") -> TableSchema:
    """The table with these columns and numbers, as the stream tells of it."""
    made = table(f"shop.{name}", {column: "text" for column, _ in columns}, oid=USERS.oid)
    numbered = zip(made.columns, columns, strict=True)
    return replace(made, columns=tuple(replace(column, attnum=number) for column, (_, number) in numbered))


def known(*schemas: TableSchema) -> KnownNames:
    """What is remembered when these were told one after the other."""
    names: KnownNames | None = None
    for schema in schemas:
        names = KnownNames.of(schema, server="1/shop", before=names)
    assert names is not None
    return names


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "options",
    [
        {"mask_columns": "shop.users.name = hash"},
        {"mask_columns": ["shop.users.* = hash", "people.* = hash"]},
        {"exclude_columns": "shop.users.name"},
        {"exclude_tables": "shop.users"},
        {"include_tables": ["shop.people"]},
        {"where": "shop.users: name <> 'x'"},
    ],
)
def test_what_a_rule_hides_does_not_arrive_when_the_table_is_renamed(options: dict[str, Any]) -> None:
    people = replace(USERS, name=TableName("shop", "people"))
    with pytest.raises(Refused, match="was renamed") as caught:
        concealment(**options).require_kept(known(USERS), people)
    assert caught.value.where["destination"] == "lake"
    assert "reveal_columns" in caught.value.advice
    concealment(**options, reveal_columns="shop.people.*").require_kept(known(USERS), people)


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "option", [{"mask_columns": "name = hash"}, {"exclude_columns": "*.*.name"}, {"include_columns": "id,*.*.full_*,n"}]
)
def test_what_a_rule_for_many_tables_hides_does_not_arrive_when_the_column_is_renamed(option: dict[str, str]) -> None:
    rules = concealment(**option)
    with pytest.raises(Refused, match="was renamed"):
        rules.require_kept(known(USERS), told(("id", 1), ("full_name", 2), ("n", 3)))
    rules.require_kept(known(USERS), told(("id", 1), ("n", 3)))
    rules.require_kept(known(USERS), told(("n", 1), ("name", 2), ("id", 3)))


def test_a_renamed_table_goes_on_where_rules_hold_for_both_names() -> None:
    rules = concealment(mask_columns="shop.*.name = hash", where="shop.*: name <> 'x'")
    rules.require_kept(known(USERS), replace(USERS, name=TableName("shop", "people")))


@pytest.mark.must_not_fail(11, 24)
def test_a_predicate_does_not_go_on_with_another_column_of_the_name() -> None:
    """Swapped, or one added under the name of the one that was renamed: rows it hid would arrive."""
    rules = concealment(where="shop.users: NAME <> 'x'")
    swapped = told(("id", 1), ("n", 2), ("name", 3))
    added = told(("id", 1), ("full_name", 2), ("n", 3), ("name", 4))
    for now in (swapped, added):
        with pytest.raises(Refused, match="where reads was renamed") as caught:
            rules.require_kept(known(USERS), now)
        assert caught.value.where["column"] == "name"
        concealment(where="shop.users: id <> '1'").require_kept(known(USERS), now)
        concealment(where="*: name <> 'x'", reveal_columns="shop.users.*").require_kept(known(USERS), now)
    concealment(where="shop.users: full_name <> 'x'").require_kept(known(USERS), added)


def test_a_predicate_goes_on_with_a_column_that_was_made_again() -> None:
    rules = concealment(where="shop.users: name <> 'x'")
    rules.require_kept(known(USERS), told(("id", 1), ("n", 3), ("name", 4)))
    rules.require_kept(known(USERS), told(("id", 1), ("n", 0), ("name", 0)))


def test_rules_that_were_changed_for_the_new_name_are_enough() -> None:
    renamed = told(("id", 1), ("mail", 2), ("n", 3))
    concealment(mask_columns="mail = hash").require_kept(known(USERS), renamed)
    concealment(mask_columns=["name = hash", "mail = hash"]).require_kept(known(USERS), renamed)
    concealment(mask_columns="other = hash").require_kept(known(USERS), renamed)


@pytest.mark.must_not_fail(11, 24)
def test_a_column_is_known_by_its_number_through_shapes_that_lack_it() -> None:
    without = told(("id", 1), ("n", 3))
    late = told(("id", 1), ("name", 0), ("n", 3))
    renamed = told(("id", 1), ("mail", 2), ("n", 3))
    for before in (known(USERS), known(USERS, without), known(USERS, late), known(USERS, late, without)):
        with pytest.raises(Refused, match="was renamed"):
            concealment(**MASKED).require_kept(before, renamed)


@pytest.mark.must_not_fail(11, 24)
def test_a_name_given_to_another_column_does_not_hide_where_the_first_one_went() -> None:
    """The stream is behind: the catalog knows the name only as that of the column made later."""
    behind = told(("id", 1), ("name", 5))
    with pytest.raises(Refused, match="was renamed"):
        concealment(**MASKED).require_kept(known(USERS, behind), told(("id", 1), ("mail", 2), ("name", 5)))


@pytest.mark.must_not_fail(11, 24)
def test_a_column_of_unknown_number_is_taken_for_the_hidden_one_that_went() -> None:
    rules = concealment(**MASKED)
    with pytest.raises(Refused, match="nothing tells"):
        rules.require_kept(known(USERS), told(("id", 1), ("mail", 0), ("n", 3)))
    with pytest.raises(Refused, match="nothing tells"):
        rules.require_kept(known(told(("id", 1), ("name", 0))), told(("id", 1), ("mail", 2)))
    revealing = concealment(**MASKED, reveal_columns="shop.users.mail")
    revealing.require_kept(known(USERS), told(("id", 1), ("mail", 0), ("n", 3)))


def test_a_column_that_can_be_none_of_those_that_went_arrives() -> None:
    rules = concealment(**MASKED)
    rules.require_kept(known(USERS), told(("id", 1), ("n", 3), ("phone", 0)))
    rules.require_kept(known(USERS), told(("id", 1), ("phone", 4)))
    rules.require_kept(known(told(("id", 1), ("name", 0)), told(("id", 1))), told(("id", 1), ("phone", 3)))


def test_options_that_hide_nothing_are_no_concealment() -> None:
    assert concealment(rename_schema="lake", meta_enabled=True, reveal_columns="a.b.c").is_nothing
    for option in (MASKED, {"include_columns": "id"}, {"exclude_tables": "x"}, {"where": "shop.t: a > 1"}):
        assert not concealment(**option).is_nothing
