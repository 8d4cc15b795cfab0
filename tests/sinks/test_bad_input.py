"""Source tables no destination can take as they are: found before the start, with advice, and refused; nothing is made.

What is bad about a place (a missing bucket, wrong keys, a read-only catalog, somebody else's table, a full disk) is in
the tests of each destination, and other shapes of a target in the contract.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sinks.place import Place, new_place
from wallaby.errors import ConfigError, Refused
from wallaby.schema import TableName
from wallaby.sink import Severity
from wallaby.testing.changes import table
from wallaby.transform.append import LOG_FIELDS, OUTLIERS

KINDS = ("duckdb", "ducklake", "delta", "iceberg", "files")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return new_place(request.param, tmp_path, request)


@pytest.mark.must_not_fail(22)
@pytest.mark.parametrize("name", [*(field.name for field in LOG_FIELDS), OUTLIERS])
def test_a_column_called_like_one_of_a_log_s_own_is_found_and_refused(name: str, place: Place) -> None:
    schema = table("public.orders", {"id": "int8", name: "text"}, key=["id"])
    keeps = {"unrepresentable": "text"} if name == OUTLIERS else {}
    sink = place.sink(write_mode="append", **keeps)
    findings = [one for one in sink.check((schema,)) if one.severity is Severity.ERROR]
    assert [one.subject for one in findings] == ["table public.orders"]
    assert findings[0].advice
    with pytest.raises(ConfigError, match="append mode needs a column name") as refused:
        sink.ensure_table(schema)
    assert name in str(refused.value)


@pytest.mark.must_not_fail(22)
def test_two_tables_that_would_be_one_target_are_found(place: Place) -> None:
    one, other = (table(TableName(schema, "orders"), {"id": "int8"}, key=["id"]) for schema in ("eu", "us"))
    sink = place.sink(schema="shop")
    [finding] = sink.check((one, other))
    assert (finding.code, finding.severity, bool(finding.advice)) == ("name-collision", Severity.ERROR, True)
    sink.ensure_table(one)
    with pytest.raises(Refused, match="name-collision"):
        sink.ensure_table(other)
    sink.ensure_table(one)


@pytest.mark.must_not_fail(22)
def test_the_place_of_the_position_records_is_no_target(place: Place) -> None:
    """Files keep theirs in a folder no table can be called."""
    if place.kind in ("files", "delta"):
        own = table(TableName("_wallaby", "lanes"), {"id": "int8"}, key=["id"])
        place.sink().ensure_table(own)
        return
    own = table(TableName("wallaby", "tables"), {"id": "int8"}, key=["id"])
    sink = place.sink()
    assert [finding.code for finding in sink.check((own,))] == ["name-collision"]
    with pytest.raises(Refused, match="name-collision"):
        sink.ensure_table(own)
