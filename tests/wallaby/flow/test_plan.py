"""Plans say every field that differs in meaning, nothing that differs in spelling, and which change loses something."""

from __future__ import annotations

from typing import Any

import pytest

from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.flow.plan import FieldChange, FlowPlan, PlannedAction, plan_deletion, plan_flow
from wallaby.flow.transforms import TransformOptions
from wallaby.sink import WriteMode


def flow(*, source: dict[str, Any] | None = None, to: dict[str, dict[str, Any]] | None = None, **more: Any) -> FlowSpec:
    """A flow whose destinations are given by name: their options, with ``type`` among them."""
    destinations = {"lake": {"dsn": "lake.duckdb"}} if to is None else to
    return FlowSpec(
        id="shop",
        name=more.pop("name", "Shop"),
        source=EndpointSpec(type="postgres", options={"dsn": "env:SHOP_DSN", **(source or {})}),
        destinations=tuple(
            EndpointSpec(
                name=name,
                type=options.get("type", "duckdb"),
                options={key: value for key, value in options.items() if key != "type"},
            )
            for name, options in destinations.items()
        ),
        **more,
    )


def paths(plan: FlowPlan) -> dict[str, bool]:
    """Every changed path, and whether its change loses something."""
    return {change.path: bool(change.destructive) for change in plan.changes}


def test_a_new_flow_is_told_in_full() -> None:
    plan = plan_flow(flow(parallelism=2), None)
    assert plan.action is PlannedAction.CREATE
    told = {change.path: change.after for change in plan.changes}
    assert told["parallelism"] == 2
    assert told["source.options.dsn"] == "env:SHOP_DSN"
    assert told["destinations[lake].options.dsn"] == "lake.duckdb"
    assert not plan.is_destructive


def test_an_equal_flow_needs_nothing() -> None:
    assert plan_flow(flow(), flow()) == FlowPlan(flow="shop", action=PlannedAction.NONE)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ({"publication_tables": "a.b,c.*"}, {"publication_tables": ["a.b", "c.*"]}),
        ({"create_slot": "true"}, {"create_slot": True}),
        ({"spool_memory": "1024"}, {"spool_memory": 1024}),
        ({}, {"slot": ""}),
        ({}, {"publication_tables": []}),
    ],
)
def test_spelling_is_no_difference(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The API keeps every option as text."""
    assert plan_flow(flow(source=wanted), flow(source=stored)).action is PlannedAction.NONE


def test_every_kind_of_field_is_compared() -> None:
    wanted = flow(
        name="Other",
        parallelism=3,
        wire_format="json",
        source={"streaming": "off"},
        to={"lake": {"dsn": "lake.duckdb", "threads": 4}, "files": {"type": "files", "path": "out"}},
        config={"failure_mode": "drop_slot", "ddl": {"auto_apply": True}},
    )
    assert paths(plan_flow(wanted, flow())) == {
        "name": False,
        "wire_format": False,
        "parallelism": False,
        "source.options.streaming": False,
        "destinations[lake].options.threads": False,
        "destinations[files]": False,
        "config.failure_mode": False,
        "config.ddl.auto_apply": False,
    }


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (flow(source={"slot": "another"}), "source.options.slot"),
        (flow(source={"publication": "another"}), "source.options.publication"),
        (flow(source={"dsn": "env:OTHER_DSN"}), "source.options.dsn"),
        (flow(to={"lake": {"dsn": "other.duckdb"}}), "destinations[lake].options.dsn"),
        (flow(to={"lake": {"dsn": "lake.duckdb", "schema": "x"}}), "destinations[lake].options.schema"),
        (flow(to={"lake": {"dsn": "lake.duckdb", "write_mode": "append"}}), "destinations[lake].options.write_mode"),
        (flow(to={"lake": {"dsn": "lake.duckdb", "type": "postgres"}}), "destinations[lake].type"),
        (flow(to={"pond": {"dsn": "lake.duckdb"}}), "destinations[lake]"),
    ],
)
def test_a_change_that_loses_something_says_so(wanted: FlowSpec, path: str) -> None:
    plan = plan_flow(wanted, flow())
    assert plan.is_destructive
    assert [name for name, loses in paths(plan).items() if loses] == [path]


@pytest.mark.parametrize(
    "wanted",
    [
        flow(source={"slot": "wallaby_shop"}),
        flow(source={"publication": "wallaby_shop"}),
        flow(to={"lake": {"dsn": "lake.duckdb", "write_mode": "target"}}),
        flow(to={"lake": {"dsn": "lake.duckdb", "write_mode": "mirror"}}),
    ],
)
def test_a_default_written_out_loses_nothing(wanted: FlowSpec) -> None:
    plan = plan_flow(wanted, flow())
    assert plan.action is PlannedAction.UPDATE
    assert not plan.is_destructive


def test_fewer_tables_lose_something_only_where_the_publication_is_kept_in_line() -> None:
    stored = flow(source={"publication_tables": "a.b,a.c"})
    assert not plan_flow(flow(source={"publication_tables": "a.b"}), stored).is_destructive
    synced = {"sync_publication": True, "sync_publication_mode": "sync"}
    assert plan_flow(flow(source={"publication_tables": "a.b", **synced}), stored).is_destructive
    assert not plan_flow(flow(source={"publication_tables": "a.b,a.c,a.d", **synced}), stored).is_destructive


def test_another_order_of_destinations_is_a_change() -> None:
    two = {"a": {"dsn": "a.duckdb"}, "b": {"dsn": "b.duckdb"}}
    plan = plan_flow(flow(to=dict(reversed(two.items()))), flow(to=two))
    assert plan.changes == (FieldChange(path="destinations", before=["a", "b"], after=["b", "a"]),)


def test_a_stored_flow_of_options_nobody_knows_any_more_can_still_be_compared() -> None:
    assert plan_flow(flow(), flow(source={"capture_ddl": "true"})).action is PlannedAction.UPDATE


def test_a_deletion_always_loses_something() -> None:
    assert plan_deletion("shop").is_destructive


@pytest.mark.must_not_fail(24)
def test_no_plan_shows_a_secret() -> None:
    stored = flow(source={"dsn": "postgresql://me:hunter2@db/a"}, to={"lake": {"dsn": "x", "api_token": "hunter2"}})
    for plan in (plan_flow(flow(), stored), plan_flow(stored, None), plan_flow(stored, flow())):
        assert "hunter2" not in repr(plan)


@pytest.mark.parametrize(
    "change",
    [
        {"mask_columns": ["users.password = hash"]},
        {"soft_delete": True},
        {"exclude_columns": "users.password"},
        {"where": ["users: password = 'x'"]},
        {"append_mode": True},
        {"rename_table": "{schema}_{table}"},
    ],
)
def test_what_is_done_to_rows_is_told_and_loses_what_was_written_before(change: dict[str, Any]) -> None:
    wanted = flow(to={"lake": {"dsn": "lake.duckdb", **change}})
    plan = plan_flow(wanted, flow())
    [name] = change
    assert paths(plan) == {f"destinations[lake].options.{name}": True}
    assert plan.changes[0].after == change[name]


def test_rules_read_the_same_as_a_list_and_as_the_text_a_store_keeps() -> None:
    listed = {"where": ["users: coalesce(a, 0) > 1", "b: c IN (1, 2)"], "mask_columns": ["a = hash", "b = redact: x"]}
    text = {name: ",".join(entries) for name, entries in listed.items()}
    stored, wanted = (flow(to={"lake": {"dsn": "lake.duckdb", **options}}) for options in (text, listed))
    assert plan_flow(wanted, stored).action is PlannedAction.NONE
    one, other = (TransformOptions.of(options, mode=WriteMode.MIRROR) for options in (text, listed))
    assert one == other
