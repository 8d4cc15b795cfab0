"""Which columns are mapped to what, what is refused, and what needs consent."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sinks.duckdb import FACTORY
from sinks.duckdb.config import read_options
from sinks.duckdb.types import TYPE_NAMES
from wallaby.errors import ConfigError, Refused
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.schema import Column, PgType, TableSchema
from wallaby.testing.changes import table
from wallaby.type_map import TypeMap, lookup_keys


def type_map(mappings: dict[str, str] | str, **options: Any) -> TypeMap:
    return TypeMap.of(read_options({"dsn": "x.duckdb", "type_mappings": mappings, **options}), TYPE_NAMES)


def column(word: str) -> Column:
    return table("public.t", {"v": word}).columns[0]


def test_the_most_particular_name_of_a_type_wins() -> None:
    """Raw type, base, base[] of arrays, schema.base, ext:EXT.base, ext:EXT."""
    assert list(lookup_keys(column("numeric(10,2)"))) == [
        *("numeric(10,2)", "decimal(10,2)", "numeric", "decimal"),
        *("pg_catalog.numeric", "pg_catalog.decimal"),
    ]
    assert list(lookup_keys(column("int4[]")))[:4] == ["int4[]", "integer[]", "int[]", "_int4"]
    geometry = Column("v", PgType(90_030, "Geometry", "gis", extension="postgis"))
    assert list(lookup_keys(geometry)) == ["geometry", "gis.geometry", "ext:postgis.geometry", "ext:postgis"]
    money = table("public.t", {"a": "numeric(10,2)", "b": "numeric(12,2)"})
    mapped = type_map({"NUMERIC": "VARCHAR", "numeric(12,2)": "DECIMAL(14,2)"}).table(money)
    assert [one.type.name for one in mapped.after.columns] == ["text", "numeric"]


def test_a_loss_is_refused_with_the_line_that_allows_it() -> None:
    orders = table("public.orders", {"id": "int8", "total": "numeric(10,2)", 'Odd "one"': "numeric(10,2)"}, key=["id"])
    mappings = {"numeric": "double"}
    with pytest.raises(Refused, match="loses something") as caught:
        type_map(mappings).table(orders)
    line = caught.value.advice.partition("options: lossy: ")[2]
    assert line == "['public.orders.total', '" + 'public.orders."Odd ""one"""' + "']"
    allowed = [item.strip("'") for item in line.strip("[]").split(", ")]
    assert type_map(mappings, lossy=allowed).table(orders).columns.keys() == {1, 2}
    assert type_map(mappings, lossy="public.orders.*").table(orders)
    assert type_map(mappings, lossy="*.*.*").table(orders)
    with pytest.raises(Refused):
        type_map(mappings, lossy=["public.orders.total"]).table(orders)
    assert len(type_map(mappings, lossy="*.*.*").losses(orders)) == 2


def test_a_key_never_loses_anything_in_a_mirror() -> None:
    """Two keys that become one would make two rows one."""
    prices = table("public.prices", {"price": "numeric(10,2)"}, key=["price"])
    with pytest.raises(Refused, match="keys meet"):
        type_map({"numeric": "double"}, lossy="*.*.*").table(prices)
    assert type_map({"numeric": "double"}, lossy="*.*.*", write_mode="append").table(prices).columns
    assert type_map({"numeric": "varchar"}).table(prices).columns


def test_what_cannot_be_is_refused_by_its_columns() -> None:
    with pytest.raises(Refused, match=r"column a as INTEGER: .*; column b as INTEGER") as caught:
        type_map({"text": "INTEGER"}, lossy="*.*.*").table(table("public.t", {"a": "text", "b": "text"}))
    assert "type-mapping" in caught.value.message


def test_what_older_rows_hold_in_an_added_column_is_converted_too() -> None:
    [price] = table("public.t", {"v": "numeric(10,2)"}).columns
    added = TableSchema(1, table("public.t", {"v": "text"}).name, (dataclasses.replace(price, missing="2.50"),))
    mapped = type_map({"numeric": "decimal(10,0)"}, lossy="*.*.*").table(added)
    assert mapped.after.columns[0].missing == "3"


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"type_mappings": {"numeric": "doubel"}}, "type_mappings.numeric", "Did you mean 'double'"),
        ({"type_mappings": "{numeric: 'decimal(39,2)'}"}, "type_mappings.numeric", "does not have"),
        ({"type_mappings": "[1"}, "type_mappings", "neither a JSON nor a YAML object"),
        ({"type_mappings": "numeric"}, "type_mappings", "must map types to types"),
        ({"type_mappings": {"numeric": "double", "Numeric": "float"}}, "type_mappings", "maps one type twice"),
        ({"lossy": "public.orders"}, "lossy", "must be columns such as"),
        ({"type_mappings_file": "/dev"}, "type_mappings_file", "is not a file"),
        ({"type_mappings_file": "/nowhere/types.yaml"}, "type_mappings_file", "/nowhere/types.yaml cannot be read"),
    ],
)
def test_wrong_options_are_found_before_anything_is_opened(options: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FACTORY.describe({"dsn": "x.duckdb", **options})
    assert message in str(caught.value)
    assert caught.value.where["field"] == field


def test_a_file_of_mappings_is_read_and_what_the_flow_says_itself_wins(tmp_path: Path) -> None:
    file = tmp_path / "types.yaml"
    file.write_text("numeric: double\nuuid: varchar\n", encoding="utf-8")
    found = type_map({"numeric": "varchar"}, type_mappings_file=str(file))
    assert {key: name for key, (name, _) in found.targets.items()} == {"numeric": "varchar", "uuid": "varchar"}
    file.write_text("numeric: quark\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        FACTORY.describe({"dsn": "x.duckdb", "type_mappings_file": str(file)})
    assert caught.value.where["field"] == "type_mappings_file.numeric"


def test_a_mapping_in_a_flow_file_is_kept_as_text_that_means_the_same() -> None:
    mappings = {"numeric": "double", "int4[]": "varchar"}
    flow = FlowSpec.from_mapping(
        {
            "name": "shop",
            "source": {"type": "postgres", "options": {"dsn": "env:SHOP"}},
            "destinations": [{"type": "duckdb", "options": {"dsn": "x.duckdb", "type_mappings": mappings}}],
        }
    )
    [kept] = flow.destinations
    assert isinstance(kept, EndpointSpec)
    assert isinstance(kept.options["type_mappings"], str)
    assert dict(read_options(kept.options).type_mappings) == mappings
    assert FlowSpec.from_mapping(flow.to_mapping()) == flow
