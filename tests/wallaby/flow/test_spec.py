"""Flow files: what is read, what is refused and with which words, and that nothing secret is ever shown."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby.errors import ConfigError, MissingExtra
from wallaby.flow import (
    AckPolicy,
    BinaryMode,
    DestinationOptions,
    FailureMode,
    FlowSpec,
    GiveUpPolicy,
    InvalidFlow,
    SnapshotMode,
    SourceOptions,
    ToastFetch,
    Unrepresentable,
    WriteMode,
    default_slot,
)
from wallaby.flow.options import Failover, Origin, Streaming
from wallaby.lsn import Lsn
from wallaby.sink import Severity
from wallaby.window import LaneId

SECRET = "hunter2"

GOOD: dict[str, Any] = {
    "name": "Shop",
    "source": {"type": "postgres", "options": {"dsn": f"postgresql://me:{SECRET}@db/shop"}},
    "destinations": [
        {"name": "copy", "type": "postgres", "options": {"dsn": "env:TARGET_DSN"}},
        {"type": "duckdb", "options": {"dsn": "shop.duckdb"}},
    ],
}

GO_FILE = """
{"name": "orders", "wire_format": "arrow", "parallelism": 4,
 "config": {"ack_policy": "all", "primary_destination": "", "failure_mode": "hold", "give_up_policy": "on_retry"},
 "source": {"name": "pg", "type": "postgres", "options": {
   "dsn": "postgres://me@db/shop", "slot": "orders_slot", "publication": "orders_pub", "batch_size": "500",
   "batch_timeout": "1s", "status_interval": "10s", "create_slot": "true", "format": "arrow", "resolve_types": "true",
   "publication_tables": "public.orders, public.customers", "toast_fetch": "off", "capture_ddl": "false"}},
 "destinations": [{"name": "target", "type": "postgres",
   "options": {"dsn": "postgres://me@target/db", "schema": "public", "write_mode": "target",
               "meta_table_enabled": "false", "batch_mode": "target"}}]}
"""


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one place set; ``...`` removes it."""
    flow = deepcopy(GOOD)
    place: Any = flow
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return flow


def test_a_flow_goes_to_a_mapping_and_back() -> None:
    flow = FlowSpec.from_mapping(GOOD)
    assert FlowSpec.from_mapping(json.loads(json.dumps(flow.to_mapping()))) == flow
    assert pickle.loads(pickle.dumps(flow)) == flow
    assert (flow.id, flow.destinations[1].name) == ("shop", "duckdb")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_the_go_wallabys_file_reads_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"flow.{suffix}"
    path.write_text(GO_FILE)
    flow = FlowSpec.from_file(path)
    source = flow.source_options()
    assert (source.slot, source.publication) == ("orders_slot", "orders_pub")
    assert source.publication_tables == ("public.orders", "public.customers")
    assert flow.config.failure_mode is FailureMode.HOLD_SLOT
    assert flow.config.give_up_policy is GiveUpPolicy.ON_RETRY_EXHAUSTION
    ignored = {finding.subject for finding in flow.findings() if finding.severity is Severity.INFO}
    assert {"source.options.batch_size", "destinations[0].options.meta_table_enabled"} <= ignored


def test_yaml_and_json_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(GOOD))
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    assert FlowSpec.from_file(tmp_path / "a.yaml") == FlowSpec.from_file(tmp_path / "a.json")


def test_defaults_are_the_safe_choices() -> None:
    flow = FlowSpec.from_mapping(GOOD)
    source = flow.source_options()
    assert (source.slot, source.publication) == ("wallaby_shop", "wallaby_shop")
    assert (source.snapshot, source.binary, source.start_lsn) == (SnapshotMode.INITIAL, BinaryMode.AUTO, None)
    assert source.status_interval == timedelta(seconds=10)
    assert flow.config.ack_policy is AckPolicy.ALL
    assert flow.config.failure_mode is FailureMode.HOLD_SLOT
    options = DestinationOptions.parse({})
    assert (options.write_mode, options.unrepresentable) == (WriteMode.MIRROR, Unrepresentable.REFUSE)
    assert options.commit_interval == timedelta(0)


def test_text_is_read_as_what_it_says() -> None:
    source = SourceOptions.parse(
        {"dsn": "host=db", "create_slot": "FALSE", "binary": True, "start_lsn": "16/B374D848", "status_interval": 2500}
    )
    assert (source.create_slot, source.binary, source.start_lsn) == (False, BinaryMode.TRUE, Lsn.parse("16/B374D848"))
    assert source.status_interval == timedelta(milliseconds=2500)
    options = DestinationOptions.parse({"write_mode": "Target", "unrepresentable": None, "commit_interval": "1m30s"})
    assert (options.write_mode, options.unrepresentable) == (WriteMode.MIRROR, Unrepresentable.NULL)
    assert options.commit_interval == timedelta(seconds=90)


def test_how_large_transactions_wait_may_be_written_in_units_and_as_yaml_reads_it() -> None:
    source = SourceOptions.parse({"dsn": "host=db"})
    assert (source.streaming, source.two_phase, source.origin) == (Streaming.ON, False, Origin.ANY)
    assert (source.spool_memory, source.spool_disk) == (64 << 20, 16 << 30)
    assert source.needing_a_newer_server() == ()
    source = SourceOptions.parse(
        {"dsn": "host=db", "streaming": False, "spool_memory": "1 MiB", "spool_disk": "1000 B"}
    )
    assert (source.streaming, source.spool_memory, source.spool_disk) == (Streaming.OFF, 1 << 20, 1000)
    for word, meant in (("on", Streaming.ON), ("Parallel", Streaming.PARALLEL), (True, Streaming.ON)):
        assert SourceOptions.parse({"dsn": "host=db", "streaming": word}).streaming is meant
    newer = SourceOptions.parse({"dsn": "host=db", "two_phase": "true", "origin": "none", "failover": True})
    assert newer.needing_a_newer_server() == ("two_phase", "origin", "failover")
    assert SourceOptions.parse({"dsn": "host=db"}).failover is Failover.AUTO


@pytest.mark.parametrize("size", ["much", "1 QB", -1, 1000, "-5MiB"])
def test_a_size_that_is_none_is_named_with_an_example(size: object) -> None:
    with pytest.raises(InvalidFlow, match=r"spool_disk.*64MiB"):
        SourceOptions.parse({"dsn": "host=db", "spool_disk": size})


def test_the_go_names_for_tables_and_schemas_are_read() -> None:
    source = SourceOptions.parse({"dsn": "host=db", "tables": 'orders, "Odd, Name".*', "schemas": ["audit"]})
    assert [str(pattern) for pattern in source.table_patterns()] == ["public.orders", '"Odd, Name".*', "audit.*"]


PROBLEMS = [
    ("sorce", {}, "sorce", "source"),
    ("config/ack_polcy", "all", "config.ack_polcy", "ack_policy"),
    ("config/ddl/gat", True, "config.ddl.gat", "gate"),
    ("source/optons", {}, "source.optons", "options"),
    ("source/options/dsnn", "x", "source.options.dsnn", "dsn"),
    ("source/options/publication_table", "x", "source.options.publication_table", "publication_tables"),
    ("destinations/1/typ", "x", "destinations[1].typ", "type"),
    ("destinations/1/options/dsnn", "x", "destinations[1].options.dsnn", "dsn"),
    ("destinations/0/options/write_mod", "x", "destinations[0].options.write_mod", "write_mode"),
    ("destinations/1/type", "dukdb", "destinations[1].type", "duckdb"),
    ("destinations/0/type", "postgress", "destinations[0].type", "postgres"),
    ("config/primary_destination", "cpy", "", "copy"),
]


@pytest.mark.parametrize(("place", "value", "path", "near"), PROBLEMS)
def test_an_unknown_name_is_refused_with_its_path_and_the_nearest_known(
    place: str, value: Any, path: str, near: str
) -> None:
    with pytest.raises(InvalidFlow) as refused:
        FlowSpec.from_mapping(changed(place, value))
    [problem] = [p for p in refused.value.problems if p.path == path]
    assert f"Did you mean {near!r}?" in str(problem)


RULES = [
    ("name", ..., "name", "is required"),
    ("source", ..., "source", "is required"),
    ("destinations", ..., "destinations", "is required"),
    ("destinations", [], "destinations", "at least 1"),
    ("destinations/1/name", "copy", "", "two destinations are named 'copy'"),
    ("destinations/1/name", "a/b", "destinations[1].name", "letters"),
    ("destinations/0/options/x", {"a": 1}, "destinations[0].options", "option 'x' must be text"),
    ("id", "Not An Id", "id", "a-z"),
    ("name", "日本", "id", "give an id"),
    ("parallelism", 0, "parallelism", "at least 1"),
    ("parallelism", 65, "parallelism", "at most 64"),
    ("parallelism", "many", "parallelism", "whole number"),
    ("wire_format", "csv", "wire_format", "arrow, parquet"),
    ("config/ack_policy", "some", "config.ack_policy", "all or primary"),
    ("config/failure_mode", "explode", "config.failure_mode", "hold_slot or drop_slot"),
    ("config/ddl/gate", True, "config.ddl.gate", "not supported yet"),
    ("source/type", "mysql", "source.type", "must be postgres"),
    ("source/options/dsn", ..., "source.options.dsn", "is required"),
    ("source/options/dsn", "nonsense", "source.options.dsn", "env:NAME"),
    ("source/options/slot", "Not-A-Slot", "source.options.slot", "a-z, 0-9 and _"),
    ("source/options/slot", "s" * 64, "source.options.slot", "63"),
    ("source/options/publication", "p" * 64, "source.options.publication", "63"),
    ("source/options/snapshot", "always", "source.options.snapshot", "initial or never"),
    ("source/options/status_interval", "5 parsecs", "source.options.status_interval", "duration"),
    ("source/options/status_interval", "1h", "source.options.status_interval", "between 100ms and 5m"),
    ("source/options/start_lsn", "yesterday", "source.options.start_lsn", "LSN"),
    ("source/options/mode", "backfill", "source.options.mode", "not supported yet"),
    ("source/options/capture_ddl", "true", "source.options.capture_ddl", "not supported yet"),
    ("source/options/toast_fetch", "sometimes", "source.options.toast_fetch", "off, source, full or cache"),
    ("source/options/toast_cache_size", 10000, "source.options.toast_cache_size", "with its unit, such as 64MiB"),
    ("source/options/toast_cache_size", "10000", "source.options.toast_cache_size", "with its unit, such as 64MiB"),
    ("source/options/toast_cache_size", "4kB", "source.options.toast_cache_size", "between 1MiB and 64GiB"),
    ("source/options/aws_role_external_id", "x", "source.options.aws_role_external_id", "belongs to aws_role_arn"),
    ("source/options/aws_rds_iam", "maybe", "source.options.aws_rds_iam", "must be true or false"),
    ("source/options/publication_tables", "a.b.c", "source.options.publication_tables", "public.orders"),
    ("source/options/publication_tables", "*", "source.options.publication_tables", "needs a schema"),
    ("source/options/publication_tables", [1], "source.options.publication_tables", "text"),
    ("source/options/create_slot", "perhaps", "source.options.create_slot", "true or false"),
    ("source/options/slot", "env:NOT_SET_ANYWHERE", "source.options.slot", "NOT_SET_ANYWHERE is not set"),
    ("destinations/0/options/write_mode", "upsert", "destinations[0].options.write_mode", "mirror, append or history"),
    ("destinations/0/options/commit_interval", -1, "destinations[0].options.commit_interval", "between 0"),
    ("destinations/0/options/soft_delete", "perhaps", "destinations[0].options.soft_delete", "true or false"),
    ("destinations/0/options/soft_delet", "true", "destinations[0].options.soft_delet", "soft_delete"),
    ("destinations/0/options/meta_op", "__op", "destinations[0].options.meta_op", "reserved"),
    ("destinations/0/type", "kafka", "destinations[0].type", "not supported yet"),
    ("destinations/0/type", "", "destinations[0].type", "is required"),
]


@pytest.mark.parametrize(("place", "value", "path", "rule"), RULES)
def test_a_broken_rule_is_named_with_its_path(place: str, value: Any, path: str, rule: str) -> None:
    with pytest.raises(InvalidFlow) as refused:
        FlowSpec.from_mapping(changed(place, value))
    assert [str(p) for p in refused.value.problems if p.path == path and rule in str(p)], refused.value
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("value", [None, 7, "text", [], ["a"], {}, {1: 2}, {"name": 5}, {"source": []}])
def test_what_is_no_flow_at_all_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError):
        FlowSpec.from_mapping(value)


def test_all_problems_are_listed_at_once() -> None:
    flow = changed("source/options/dsnn", "x")
    flow["destinations"][0]["options"]["write_mode"] = "upsert"
    flow["config"] = {"ack_polcy": "all"}
    with pytest.raises(InvalidFlow) as refused:
        FlowSpec.from_mapping(flow)
    assert {problem.path for problem in refused.value.problems} == {
        "source.options.dsnn",
        "destinations[0].options.write_mode",
        "config.ack_polcy",
    }
    assert str(refused.value).count("\n") == 3
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_a_sink_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallaby.endpoints._OWN", {"duckdb": "a_package_nobody_has:FACTORY"})
    monkeypatch.setattr("wallaby.endpoints.metadata.entry_points", lambda group: ())
    with pytest.raises(ConfigError, match=r'pip install "wallaby\[duckdb\]"'):
        FlowSpec.from_mapping(changed("destinations", GOOD["destinations"][1:]))
    from wallaby.endpoints import sink_factory

    with pytest.raises(MissingExtra):
        sink_factory("duckdb")


def test_slots_of_different_flows_differ() -> None:
    ids = ["a", "a_b", "a-b", "a__b", "a-_b", "a_-b", "x" * 55, "x" * 56, "x" * 63, "x" * 62 + "y"]
    slots = [default_slot(flow_id) for flow_id in ids]
    assert len(set(slots)) == len(ids)
    for slot in slots:
        assert SourceOptions.parse({"dsn": "host=db", "slot": slot}).slot == slot
    assert default_slot("shop") == "wallaby_shop"


def test_lanes_are_numbered_per_destination_and_single_where_the_sink_wants_one() -> None:
    flow = FlowSpec.from_mapping(changed("parallelism", 3))
    for destination in flow.destinations:
        lanes = [lane for lane in flow.lanes() if lane.destination == destination.name]
        count = 3 if flow.capabilities(destination.name).parallel_lanes else 1
        assert lanes == [LaneId("shop", destination.name, index, count) for index in range(count)]


@pytest.mark.must_not_fail(2)
def test_primary_never_lets_the_other_destinations_lose_changes() -> None:
    flow = FlowSpec.from_mapping(changed("config/ack_policy", "primary"))
    assert flow.required_destinations() == {"copy", "duckdb"}
    assert [f.code for f in flow.findings() if f.severity is Severity.WARNING] == ["ack-policy-all"]


@pytest.mark.must_not_fail(24)
def test_printing_a_flow_or_its_options_shows_no_password() -> None:
    flow = FlowSpec.from_mapping(GOOD)
    source = flow.source_options()
    for shown in (str(flow), repr(flow), str(source), repr(source), repr(flow.source), f"{flow.destinations}"):
        assert SECRET not in shown


BAD_FILES = [
    ("a.yaml", "name: [unclosed\npassword: hunter2", "line 2"),
    ("a.yaml", "name: a\nname: hunter2", "appears twice at line 2"),
    ("a.yaml", "password: *hunter2", "line 1"),
    ("a.yaml", "password: !hunter2 x", "line 1"),
    ("a.yaml", "- hunter2", "no mapping"),
    ("a.yaml", "? [hunter2, b]\n: c", "not valid YAML"),
    ("a.yaml", "", "no flow"),
    ("a.json", '{"password": "hunter2", }', "line 1"),
    ("a.json", '{"a": 1, "a": "hunter2"}', "'a' appears twice"),
    ("a.json", "[" * 200_000, "not valid JSON"),
    ("a.yaml", "[" * 1_200, "not valid YAML"),
    ("a.json", "{" + " " * (1 << 20) + "}", "larger than"),
]


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(("name", "text", "rule"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_file_that_cannot_be_read_says_where_and_shows_nothing_of_it(
    tmp_path: Path, name: str, text: str, rule: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rule) as refused:
        FlowSpec.from_file(tmp_path / name)
    assert SECRET not in f"{refused.value}{refused.value.__cause__!r}"


def test_a_missing_or_binary_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        FlowSpec.from_file(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00hunter2")
    with pytest.raises(ConfigError, match="not UTF-8"):
        FlowSpec.from_file(tmp_path / "binary.yaml")


LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=3)),
    st.text(st.characters(), max_size=12),
)
WORDS = st.sampled_from(
    [
        "id",
        "name",
        "source",
        "destinations",
        "wire_format",
        "parallelism",
        "config",
        "type",
        "options",
        "dsn",
        "slot",
        "write_mode",
        "commit_interval",
        "publication_tables",
        "ack_policy",
        "ddl",
        "gate",
        "postgres",
        "duckdb",
        "files",
        "primary",
        "status_interval",
        "env:HOME",
        "file:/x",
    ]
)
VALUES = st.recursive(
    LEAVES | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


PLACES = [
    *("id", "name", "parallelism", "wire_format", "config", "source", "destinations", "config/ack_policy"),
    *(
        "source/type",
        "source/options",
        "source/options/dsn",
        "source/options/slot",
        "source/options/publication_tables",
    ),
    *("source/options/status_interval", "source/options/start_lsn", "destinations/0", "destinations/1/options"),
    *("destinations/0/options/commit_interval", "destinations/0/options/table", "config/ddl"),
]


def outcome(mapping: Any) -> FlowSpec | ConfigError:
    """The flow, or our error; any other error rises and fails the test."""
    try:
        return FlowSpec.from_mapping(mapping)
    except ConfigError as error:
        return error


def is_sound(result: FlowSpec | ConfigError) -> bool:
    """An error that says something and nothing secret, or a flow that survives storing."""
    if isinstance(result, ConfigError):
        return str(result) != "" and SECRET not in str(result)
    return FlowSpec.from_mapping(json.loads(json.dumps(result.to_mapping()))) == result


@settings(deadline=None, derandomize=True)
@given(st.dictionaries(WORDS, VALUES, max_size=8))
def test_from_mapping_raises_nothing_but_config_errors(mapping: dict[str, Any]) -> None:
    assert is_sound(outcome(mapping))


@settings(deadline=None, derandomize=True)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_one_wrong_value_in_a_good_flow_raises_nothing_but_config_errors(place: str, value: Any) -> None:
    assert is_sound(outcome(changed(place, value)))


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        (False, ToastFetch.OFF),
        ("off", ToastFetch.OFF),
        ("false", ToastFetch.OFF),
        ("Source", ToastFetch.SOURCE),
        ("full", ToastFetch.FULL),
        ("cache", ToastFetch.CACHE),
    ],
)
def test_toast_fetch_is_read_as_files_write_it_and_yaml_says_off_as_false(written: Any, mode: ToastFetch) -> None:
    options = FlowSpec.from_mapping(changed("source/options/toast_fetch", written)).source_options()
    assert options.toast_fetch is mode
    assert options.toast_cache_size == 64 << 20
