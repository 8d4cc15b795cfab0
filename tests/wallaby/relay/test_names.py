"""The watch over names: it asks once per shape, and has what it learnt remembered before anything goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wallaby.errors import Refused, StoreUnavailable
from wallaby.flow import EndpointSpec
from wallaby.relay.names import NameWatch, concealments
from wallaby.schema import KnownNames
from wallaby.testing.changes import table

USERS = table("shop.users", {"id": "int8", "email": "text"}, key=["id"])
RENAMED = replace(USERS, columns=(USERS.columns[0], replace(USERS.columns[1], name="mail")), version=2)
HIDING = ({"mask_columns": ["*.*.email = redact"]},)


def watch(kept: list[KnownNames], *options: dict[str, Any], server: str = "1/shop") -> NameWatch:
    destinations = [EndpointSpec(name=f"d{i}", type="duckdb", options=own) for i, own in enumerate(options)]
    return NameWatch(concealments(destinations), server=server, known=tuple(kept), remember=kept.extend)


@pytest.mark.must_not_fail(24)
def test_names_are_remembered_once_per_shape_and_compared_in_the_next_life() -> None:
    kept: list[KnownNames] = []
    first = watch(kept, {}, *HIDING)
    first.meet((USERS,))
    first.meet((USERS, replace(USERS, version=3)))
    assert kept == [KnownNames(USERS.oid, "1/shop", USERS.name, (("id", 1), ("email", 2)))]
    for _ in range(2):
        with pytest.raises(Refused, match="was renamed"):
            watch(kept, {}, *HIDING).meet((RENAMED,))
    assert len(kept) == 1


@pytest.mark.must_not_fail(24)
def test_a_shape_is_not_met_before_its_names_are_remembered() -> None:
    def unavailable(_: tuple[KnownNames, ...]) -> None:
        raise StoreUnavailable("away")

    destinations = [EndpointSpec(name="d", type="duckdb", options=HIDING[0])]
    names = NameWatch(concealments(destinations), remember=unavailable)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            names.meet((USERS,))


def test_a_flow_that_hides_nothing_remembers_nothing() -> None:
    kept: list[KnownNames] = []
    watch(kept, {}, {"rename_schema": "lake"}).meet((USERS,))
    assert kept == []


def test_the_same_oid_in_another_database_is_another_table() -> None:
    kept: list[KnownNames] = []
    watch(kept, *HIDING).meet((USERS,))
    watch(kept, *HIDING, server="2/shop").meet((RENAMED,))
    assert [names.server for names in kept] == ["1/shop", "2/shop"]


@pytest.mark.must_not_fail(24)
def test_a_table_is_known_before_its_first_change() -> None:
    """The rule may be younger than the flow, or the table: a rename before the first change is noticed all the same."""
    kept: list[KnownNames] = []
    watch(kept, *HIDING).look((USERS,))
    assert [names.is_told for names in kept] == [False]
    for _ in range(2):
        later = watch(kept, *HIDING)
        later.look((RENAMED,))
        with pytest.raises(Refused, match="was renamed"):
            later.meet((RENAMED,))
    assert len(kept) == 1
    watch(kept, *HIDING).meet((USERS,))
    assert [names.is_told for names in kept] == [False, True]


@pytest.mark.must_not_fail(24)
def test_what_the_catalog_shows_of_later_does_not_hide_a_rename_that_is_still_to_be_read() -> None:
    kept: list[KnownNames] = []
    names = watch(kept, *HIDING)
    names.look((RENAMED,))
    names.meet((replace(USERS, columns=(USERS.columns[0], replace(USERS.columns[1], attnum=0))),))
    with pytest.raises(Refused, match="nothing tells"):
        names.meet((RENAMED,))


def test_a_flow_that_hides_nothing_does_not_look() -> None:
    kept: list[KnownNames] = []
    names = watch(kept, {})
    assert names.is_idle
    names.look((USERS,))
    assert kept == []
