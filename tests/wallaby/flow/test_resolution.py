"""Which secrets a flow refers to, and the flow with them in their places."""

from __future__ import annotations

import pytest

from wallaby.errors import ConfigError
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.flow.resolution import resolved, stored_secrets

FLOW = FlowSpec(
    id="shop",
    name="Shop",
    source=EndpointSpec(type="postgres", options={"dsn": "secret:source", "slot": "shop"}),
    destinations=(
        EndpointSpec(name="a", type="postgres", options={"dsn": "secret:target"}),
        EndpointSpec(name="b", type="duckdb", options={"dsn": "copy.duckdb"}),
    ),
)


def test_the_secrets_of_the_store_are_found_and_put_in_their_places() -> None:
    assert stored_secrets(FLOW) == {"source", "target"}
    ready = resolved(FLOW, {"source": "postgresql://a/b", "target": "postgresql://c/d", "other": "x"})
    assert ready.source.options == {"dsn": "postgresql://a/b", "slot": "shop"}
    assert [item.options["dsn"] for item in ready.destinations] == ["postgresql://c/d", "copy.duckdb"]
    assert FLOW.source.options["dsn"] == "secret:source"


@pytest.mark.must_not_fail(24)
def test_a_missing_secret_names_its_field_and_shows_no_other() -> None:
    with pytest.raises(ConfigError, match="wallaby secret set target") as refused:
        resolved(FLOW, {"source": "postgresql://me:hunter2@a/b"})
    assert refused.value.where["field"] == "destinations[0].options.dsn"
    assert "hunter2" not in str(refused.value)


def test_a_flow_of_references_is_valid_and_one_where_no_secret_belongs_is_not() -> None:
    FlowSpec.from_mapping(FLOW.to_mapping())
    mapping = FLOW.to_mapping()
    mapping["source"]["options"]["publication_tables"] = "secret:tables"
    with pytest.raises(ConfigError, match="cannot stand here") as refused:
        FlowSpec.from_mapping(mapping)
    assert refused.value.where["field"] == "source.options.publication_tables"
