"""Selection and renames of tables and columns, against the model of one row at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallaby.transform import naive
from tests.wallaby.transform.stages import compared, shaped, staged
from wallaby.errors import ConfigError, Refused
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import ReplicaIdentity
from wallaby.sink import Severity, WriteMode
from wallaby.testing.changes import table
from wallaby.testing.history import RandomHistory

ORDERS = table("shop.orders", {"id": "int8", "note": "text", "n": "int4"}, key=["id"])
LINES = table("shop.order_lines", {"id": "int8"}, key=["id"])
OTHER = table("crm.orders", {"id": "int8"}, key=["id"])
COLUMNS = ("note", "payload", "total", "tags", "at", "name", "weight", "kind", "size", "line", "day")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dropped=st.sets(st.sampled_from(COLUMNS), max_size=4),
    renamed=st.sets(st.sampled_from((*COLUMNS, "id", "sku")), max_size=4),
    mode=st.sampled_from([WriteMode.MIRROR, WriteMode.APPEND]),
)
def test_selected_and_renamed_columns_are_what_the_model_says(
    seed: int, dropped: set[str], renamed: set[str], mode: WriteMode
) -> None:
    history = RandomHistory(seed, transactions=10, keys=5)
    rules = naive.Rules(kept=lambda name: name not in dropped, renamed={name: f"new_{name}" for name in renamed})
    compared(
        history,
        seed,
        mode,
        rules,
        exclude_columns=sorted(dropped),
        rename_columns=[f"{name} = new_{{column}}" for name in sorted(renamed)],
        rename_schema="raw",
    )


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        ({"include_tables": "shop.*"}, ["shop.orders", "shop.order_lines", None]),
        ({"include_tables": "*.orders"}, ["shop.orders", None, "crm.orders"]),
        ({"exclude_tables": ["*.order_*", "crm.orders"]}, ["shop.orders", None, None]),
        ({"include_tables": "shop.*", "exclude_tables": "shop.orders"}, [None, "shop.order_lines", None]),
        (
            {"rename_schema": "lake", "rename_table": "{schema}__{table}"},
            ["lake.shop__orders", "lake.shop__order_lines", "lake.crm__orders"],
        ),
        (
            {"rename_schema": "raw_{schema}", "rename_tables": ["shop.orders = sales.facts"]},
            ["sales.facts", "raw_shop.order_lines", "raw_crm.orders"],
        ),
    ],
)
def test_tables_are_chosen_and_named_by_rules(options: dict[str, Any], targets: list[str | None]) -> None:
    stage = staged(WriteMode.MIRROR, **options)
    found = [stage.target(schema.name) for schema in (ORDERS, LINES, OTHER)]
    assert [None if name is None else str(name) for name in found] == targets
    assert stage.findings((ORDERS, LINES, OTHER)) == []


def test_a_list_of_columns_is_about_the_tables_it_names() -> None:
    stage = staged(WriteMode.MIRROR, include_columns=["shop.orders.id", "shop.orders.n"])
    assert [column.name for column in shaped(stage, ORDERS).target.columns] == ["id", "n"]
    assert [column.name for column in shaped(stage, LINES).target.columns] == ["id"]


def test_a_mirror_keeps_its_key() -> None:
    options = {"exclude_columns": "shop.orders.id"}
    [finding] = staged(WriteMode.MIRROR, **options).findings((ORDERS, LINES))
    assert (finding.code, finding.subject) == ("transform-key-excluded", "column shop.orders.id")
    with pytest.raises(Refused, match="finds its rows"):
        staged(WriteMode.MIRROR, **options).shape(ORDERS)
    assert [c.name for c in shaped(staged(WriteMode.APPEND, **options), ORDERS).target.columns] == ["note", "n"]


def test_a_key_alone_is_still_a_key() -> None:
    """With replica identity full, all columns being key columns means there is no key."""
    schema = table("public.t", {"id": "int8", "note": "text"}, key=["id"], identity=ReplicaIdentity.FULL)
    target = shaped(staged(WriteMode.MIRROR, exclude_columns="note"), schema).target
    assert target.has_key
    assert not target.is_keyless_full


def test_an_excluded_column_that_is_gone_stops_the_table() -> None:
    """The source renamed it: under its new name it would arrive."""
    [finding] = staged(WriteMode.MIRROR, exclude_columns="shop.orders.secret").findings((ORDERS,))
    assert (finding.code, finding.subject) == ("transform-column-gone", "column shop.orders.secret")
    assert staged(WriteMode.MIRROR, exclude_columns=["secret", "shop.*.secret"]).findings((ORDERS,)) == []


@pytest.mark.parametrize(
    "option",
    [
        {"include_tables": ["shop.*", "shop.ordres"]},
        {"exclude_tables": "shop.ordres"},
        {"include_columns": "shop.ordres.id"},
        {"exclude_columns": "shop.ordres.note"},
        {"rename_tables": "shop.ordres = shop.o"},
        {"rename_columns": "shop.ordres.note = n"},
        {"mask_columns": "shop.ordres.note = hash"},
        {"where": "shop.ordres: true"},
        {"computed_columns": "shop.ordres.one = 1"},
    ],
)
def test_a_rule_about_no_table_is_a_warning(option: dict[str, Any]) -> None:
    [finding] = staged(WriteMode.MIRROR, **option).findings((ORDERS, LINES))
    [name] = option
    assert (finding.code, finding.severity) == ("transform-unused", Severity.WARNING)
    assert finding.subject == f"options.{name}"
    assert "shop.ordres" in finding.message


@pytest.mark.must_not_fail(22)
def test_two_tables_never_become_one() -> None:
    stage = staged(WriteMode.MIRROR, rename_schema="lake")
    [finding] = stage.findings((ORDERS, LINES, OTHER))
    assert finding.code == "transform-collision"
    assert "shop.orders already" in finding.message
    stage.shape(ORDERS)
    with pytest.raises(Refused, match="two tables would be written into one"):
        stage.shape(OTHER)


@pytest.mark.must_not_fail(22)
def test_two_columns_never_become_one() -> None:
    [finding] = staged(WriteMode.MIRROR, rename_columns="note = n").findings((ORDERS,))
    assert (finding.code, finding.subject) == ("transform-collision", "column shop.orders.n")


def test_names_stay_within_what_a_name_may_be() -> None:
    [finding] = staged(WriteMode.MIRROR, rename_table="x" * 60 + "_{table}").findings((ORDERS,))
    assert finding.code == "transform-name-length"
    [finding] = staged(WriteMode.MIRROR, exclude_columns="shop.orders.*").findings((ORDERS,))[:1]
    assert finding.code == "transform-no-column"


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"include_tables": "a b"}, "include_tables", "names with dots"),
        ({"exclude_columns": "a.b.c.d"}, "exclude_columns", "columns such as"),
        ({"rename_table": "{name}"}, "rename_table", "{schema} and {table}"),
        ({"rename_tables": "a.b"}, "rename_tables", "form NAME ="),
        ({"rename_tables": ["a.b = c.d", "a.e = c.d"]}, "rename_tables", "c.d stands behind"),
        ({"rename_columns": "x = {table}"}, "rename_columns", "{column}"),
    ],
)
def test_a_rule_that_is_none_is_named(options: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransformOptions.of(options, mode=WriteMode.MIRROR)
    assert caught.value.where["field"] == field
    assert rule in caught.value.message
