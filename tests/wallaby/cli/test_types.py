"""``wallaby types``: every type, for people and for machines."""

from __future__ import annotations

import json

import pytest

from tests.wallaby.cli.command import Wallaby
from wallaby.errors import ConfigError
from wallaby.kept_types import type_rows


def test_every_type_has_a_line() -> None:
    lines = Wallaby()("types", "duckdb").splitlines()
    assert len(lines) == 1 + len(list(type_rows()))
    assert next(word for word in lines if word.startswith("int8 ")).split() == ["int8", "BIGINT", "exact"]


def test_machines_read_the_same() -> None:
    read = json.loads(Wallaby()("types", "delta", "--json"))
    found = {one["postgres"]: one for one in read["types"]}
    assert read["destination"] == "delta"
    assert found["oid"] == {
        "postgres": "oid",
        "wire": "binary",
        "outliers": "",
        "target": "long",
        "fidelity": "widened",
        "how": "",
    }
    assert found["time"]["outliers"] == "24:00:00"


@pytest.mark.parametrize("kind", ["blackhole", "nowhere"])
def test_a_destination_without_a_table_is_an_error(kind: str) -> None:
    with pytest.raises(ConfigError, match=kind):
        Wallaby()("types", kind)
