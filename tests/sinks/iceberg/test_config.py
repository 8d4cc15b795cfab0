"""Options: what is refused before anything is opened, and what never shows."""

from __future__ import annotations

from typing import Any

import pytest

from sinks.iceberg import FACTORY
from sinks.iceberg.catalogs import catalog_properties
from sinks.iceberg.config import PartitionField, SortField, partition_fields, read_options, sort_fields
from wallaby.care import Maintenance
from wallaby.errors import ConfigError, Transient
from wallaby.flow import FlowSpec
from wallaby.window import LaneId

GOOD = {"catalog_uri": "sqlite:///catalog.db", "warehouse": "file:///lake"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"warehouse": "file:///lake"}, "catalog_uri"),
        ({"catalog_uri": "sqlite:///catalog.db"}, "warehouse"),
        ({**GOOD, "warehouse": "file://data/lake"}, "warehouse"),
        ({**GOOD, "unrepresentable": "text"}, "unrepresentable"),
        ({**GOOD, "partition_by": "at:week"}, "partition_by[0]"),
        ({**GOOD, "partition_by": "id,at:bucket[0]"}, "partition_by[1]"),
        ({**GOOD, "sort_by": "id:up"}, "sort_by[0]"),
        ({**GOOD, "catalog_properties": {"s3.secret-access-key": "x"}}, "catalog_properties.s3.secret-access-key"),
        ({**GOOD, "catalog_properties": "glue.id"}, "catalog_properties"),
        ({**GOOD, "mirror_strategy": "equality-deletes"}, "mirror_strategy"),
        ({**GOOD, "maintenance": "on"}, "maintenance"),
        ({**GOOD, "maintenance_interval": "1ms"}, "maintenance_interval"),
        ({**GOOD, "compact_files": 1}, "compact_files"),
        ({**GOOD, "snapshots_max": 0}, "snapshots_max"),
        ({**GOOD, "orphan_age": "1m"}, "orphan_age"),
    ],
)
def test_options_that_cannot_work_are_refused_with_their_path(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FACTORY.describe(options)
    assert field in str(caught.value)


def test_partitions_and_order_are_read_as_written() -> None:
    read = read_options({**GOOD, "partition_by": ["at:day", "id:bucket[16]", "kind"], "sort_by": "id,at:desc"})
    assert partition_fields(read) == (
        PartitionField("at", "day"),
        PartitionField("id", "bucket", 16),
        PartitionField("kind"),
    )
    assert sort_fields(read) == (SortField("id"), SortField("at", is_descending=True))


@pytest.mark.parametrize(
    "written", [["glue.id=1", "rest.a = x=y"], "glue.id=1,rest.a=x=y", {"glue.id": "1", "rest.a": "x=y"}]
)
def test_properties_of_the_catalog_are_read_as_a_flow_file_can_write_them(written: object) -> None:
    assert read_options({**GOOD, "catalog_properties": written}).catalog_properties == {"glue.id": "1", "rest.a": "x=y"}


def test_properties_of_the_catalog_reach_it_from_a_flow_file() -> None:
    options = {**GOOD, "catalog_properties": ["glue.id=1"]}
    source = {"type": "postgres", "options": {"dsn": "postgresql://127.0.0.1/shop"}}
    flow = FlowSpec.from_mapping(
        {"name": "shop", "source": source, "destinations": [{"type": "iceberg", "options": options}]}
    )
    assert catalog_properties(read_options(flow.destinations[0].options))["glue.id"] == "1"


@pytest.mark.parametrize("word", ["off", False, "OFF"])
def test_maintenance_can_be_left_to_others_as_yaml_reads_it(word: object) -> None:
    assert FACTORY.maintenance({**GOOD, "maintenance": word}) == (Maintenance.OFF, 600_000)
    assert FACTORY.maintenance({**GOOD, "maintenance_interval": "5s"}) == (Maintenance.AUTO, 5_000)


@pytest.mark.must_not_fail(24)
def test_no_secret_shows(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = {"access_key": "AKIAHUSH", "secret_key": "hush", "catalog_credential": "me:hush", "catalog_token": "hush"}
    read = read_options(
        {**secrets, "catalog_uri": "postgresql+psycopg://me:hush@127.0.0.1:1/lake", "warehouse": "s3://lake"}
    )
    assert catalog_properties(read)["s3.secret-access-key"] == "hush"
    assert "hush" not in repr(read)
    assert "AKIAHUSH" not in repr(read)
    sink = FACTORY.create(read.model_dump(by_alias=True, exclude_unset=True), destination="lake")
    assert "hush" not in repr(sink)
    [finding] = sink.check()
    assert finding.code == "destination-unreachable"
    assert "hush" not in repr(finding)


def test_a_missing_folder_of_the_catalog_is_said() -> None:
    sink = FACTORY.create({"catalog_uri": "sqlite:///nowhere/at/all.db", "warehouse": "file:///lake"}, destination="x")
    [finding] = sink.check()
    assert "folder" in finding.message
    with pytest.raises(Transient):
        sink.recover(LaneId("f", "d"), 1)
