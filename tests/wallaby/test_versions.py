"""Names of a history's columns: the usual ones, the flow's own, and those that cannot be."""

from __future__ import annotations

import pytest

from wallaby.errors import ConfigError
from wallaby.flow import HistoryOptions
from wallaby.versions import VersionColumns


def test_columns_are_called_after_their_fields_unless_told_otherwise() -> None:
    columns = VersionColumns.of({"valid_to": "ended"})
    assert columns.names[:3] == ("valid_from", "ended", "is_current")
    assert columns.closing == ("ended", "closed_by", "valid_to_lsn", "valid_to_ordinal")
    assert VersionColumns.of({}) == VersionColumns()


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"from": "a"}, "no column"),
        ({"valid_from": "VALID_TO"}, "same name"),
        ({"valid_from": ""}, "bytes"),
        ({"valid_from": "x" * 64}, "bytes"),
        ({"valid_from": "a\0b"}, "NUL"),
    ],
)
def test_names_that_cannot_be_are_refused(names: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        VersionColumns.of(names)


@pytest.mark.parametrize(
    "given", [["valid_from=dbt_valid_from", "is_current = Current"], "valid_from=dbt_valid_from,is_current=Current"]
)
def test_a_flow_names_them_in_a_list_or_in_text(given: object) -> None:
    read = HistoryOptions.parse({"history_columns": given})
    assert read.version_columns == VersionColumns(valid_from="dbt_valid_from", is_current="Current")


@pytest.mark.parametrize(
    "given", [["valid_from"], ["valid_from=a", "valid_from=b"], ["nothing=a"], ["valid_from=is_current"]]
)
def test_a_bad_entry_is_named_with_its_field(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="history_columns"):
        HistoryOptions.parse({"history_columns": given})
