"""The schema is the models', takes what wallaby takes, and refuses what a person should notice while typing."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from wallaby.endpoints import sink_factory
from wallaby.flow import FlowSpec, SourceOptions
from wallaby.flow.json_schema import flow_schema

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "flow.schema.json"
EXAMPLES = sorted((ROOT / "examples" / "flows").iterdir())
OWN = ("azure", "blackhole", "duckdb", "files", "gcs", "pgstream", "postgres", "s3")

FLOW: dict[str, Any] = {
    "name": "shop",
    "source": {"type": "postgres", "options": {"dsn": "env:SHOP_DSN"}},
    "destinations": [{"name": "lake", "type": "duckdb", "options": {"path": "lake.duckdb"}}],
}
STREAM = {"type": "pgstream", "options": {"dsn": "env:BUS_DSN", "retention_bytes": "1GiB"}}


@pytest.fixture(scope="module")
def schema() -> Any:
    found = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def changed(path: str, value: Any) -> dict[str, Any]:
    flow: Any = deepcopy(FLOW)
    *way, last = path.split(".")
    place = flow
    for step in way:
        place = place[int(step)] if step.isdecimal() else place.setdefault(step, {})
    place[last] = value
    return dict(flow)


def test_the_published_schema_is_that_of_the_models() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == flow_schema(), "run `make schema`"


def test_every_destination_of_ours_describes_its_options() -> None:
    for kind in OWN:
        assert hasattr(sink_factory(kind), "options_model"), kind
        assert not flow_schema([kind])["$defs"][f"{kind}_options"]["additionalProperties"]


def test_every_field_is_described() -> None:
    definitions = flow_schema(OWN)["$defs"]
    for name in ("flow", "config", "source_options", *(f"{kind}_options" for kind in OWN)):
        for key, value in definitions[name]["properties"].items():
            assert "$ref" in value or value["description"], f"{name}.{key}"


def test_options_that_are_pairs_and_words_yaml_reads_as_booleans_are_valid(schema: Any) -> None:
    options = {
        "catalog_type": "rest",
        "catalog_uri": "https://catalog.example",
        "catalog_properties": ["rest.sigv4-enabled=true"],
        "maintenance": False,
    }
    schema.validate(FLOW | {"destinations": [{"name": "lake", "type": "iceberg", "options": options}]})
    for wrong in ({"catalog_properties": {"a": "b"}}, {"catalog_properties": [1]}, {"maintenance": True}):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(FLOW | {"destinations": [{"name": "lake", "type": "iceberg", "options": options | wrong}]})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_are_valid(schema: Any, example: Path) -> None:
    schema.validate(yaml.safe_load(example.read_text(encoding="utf-8")))


def test_what_a_flow_writes_of_itself_is_valid(schema: Any) -> None:
    schema.validate(FlowSpec.from_mapping(FLOW).to_mapping())


@pytest.mark.parametrize(
    "flow",
    [
        {"flows": [FLOW, FLOW], "variables": ["REGION"]},
        FLOW | {"$schema": "flow.schema.json", "variables": ["REGION"]},
        changed("parallelism", "4"),
        changed("source.options.create_slot", "true"),
        changed("source.options.publication_tables", "a.b, c.*"),
        changed("source.options.tables", ["a.b"]),
        changed("source.options.streaming", False),
        changed("source.options.start_lsn", "16/B374D848"),
        changed("source.options.status_interval", 5000),
        changed("source.options.spool_memory", "1GiB"),
        changed("source.options.toast_cache_size", "512 mb"),
        changed("source.options.toast_fetch", False),
        changed("destinations", [STREAM]),
        changed("source.options.batch_size", "100"),
        changed("source.options.capture_ddl", "false"),
        changed("source.options.dsn", "file:/run/secrets/dsn"),
        changed("destinations.0.options.unrepresentable", None),
        changed("destinations.0.options.write_mode", "target"),
        changed("config.failure_mode", "hold"),
        changed("config.ddl.auto_apply", True),
    ],
)
def test_what_wallaby_takes_the_schema_takes(schema: Any, flow: dict[str, Any]) -> None:
    for each in flow.get("flows", [flow]):
        FlowSpec.from_mapping({key: value for key, value in each.items() if key not in ("$schema", "variables")})
    schema.validate(flow)


@pytest.mark.parametrize(
    "flow",
    [
        changed("sorce", {}),
        changed("source.options.dns", "env:X"),
        changed("source.type", "mysql"),
        changed("source.options.spool_memory", 1000),
        changed("source.options.toast_cache_size", "10 rows"),
        changed("destinations.0.options.retention_bytes", "1GiB"),
        changed("source.options.snapshot", "sometimes"),
        changed("source.options.capture_ddl", True),
        changed("destinations.0.options.path2", "x"),
        changed("destinations.0.options.threads", 0),
        changed("destinations.0.type", "duckbd"),
        changed("destinations", []),
        changed("config.failure_mode", "explode"),
        changed("parallelism", 65),
        {key: value for key, value in FLOW.items() if key != "name"},
        {key: value for key, value in FLOW.items() if key != "source"},
        {"flows": []},
        {"flows": [FLOW], "name": "x"},
    ],
)
def test_what_wallaby_refuses_the_schema_refuses(schema: Any, flow: dict[str, Any]) -> None:
    assert not schema.is_valid(flow)


def test_every_option_of_the_source_can_be_completed(schema: Any) -> None:
    known = schema.schema["$defs"]["source_options"]["properties"]
    assert set(SourceOptions.option_names()) <= set(known)
