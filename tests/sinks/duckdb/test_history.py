"""Histories in DuckDB: what a user asks them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from sinks.duckdb.reader import history_rows
from sinks.duckdb.sink import DuckDBSink
from tests.sinks.duckdb.conftest import LANE
from tests.sinks.histories import a_life
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import ConfigError, Refused
from wallaby.testing.changes import Outlier, Stream, Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import PARCELS, VERSIONS
from wallaby.testing.versions import expected_versions
from wallaby.transform.mirror import OUTLIERS
from wallaby.versions import VersionColumns

MakeSink = Callable[..., DuckDBSink]


def test_the_table_as_of_a_moment_as_of_an_lsn_and_now(path: Path, make_sink: MakeSink) -> None:
    """The statements of docs/history.md."""
    stream = a_life()
    sink = make_sink(write_mode="history")
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    second = stream.transactions[1]
    expected = [(0, "note 0", 0), (1, "b", 10), (4, "note 4", 4), (5, "note 5", 5), (9, "moved", 3)]
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        as_of_lsn = connection.execute(
            "SELECT id, note, size FROM public.parcels"
            " WHERE valid_from_lsn <= $1 AND (valid_to_lsn IS NULL OR valid_to_lsn > $1) ORDER BY id",
            [int(second.commit_lsn)],
        ).fetchall()
        assert as_of_lsn == expected
        as_of_moment = connection.execute(
            "SELECT id, note, size FROM public.parcels WHERE valid_from <= make_timestamptz($1)"
            " AND (valid_to IS NULL OR valid_to > make_timestamptz($1)) ORDER BY id",
            [second.committed_at_us],
        ).fetchall()
        assert as_of_moment == expected
        now = connection.execute("SELECT id, note FROM public.parcels WHERE is_current ORDER BY id").fetchall()
        assert now == [(0, "note 0"), (1, "b"), (2, "again"), (4, "note 4"), (5, "note 5"), (9, "moved")]
        life = connection.execute(
            "SELECT size, opened_by, closed_by FROM public.parcels WHERE id = 1"
            " ORDER BY valid_from_lsn, opened_by <> 'r', valid_from_ordinal"
        ).fetchall()
        assert life == [(1, "i", "u"), (10, "u", "u"), (11, "u", None)]


def test_columns_are_called_as_the_flow_says(path: Path, make_sink: MakeSink) -> None:
    names = ["valid_from=dbt valid from", "is_current=Current"]
    columns = VersionColumns(valid_from="dbt valid from", is_current="Current")
    stream = a_life()
    stream.transaction([Truncate((PARCELS.name,)), (PARCELS, insert(1, "x", 1))])
    sink = make_sink(write_mode="history", history_columns=names)
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        found = history_rows(connection, PARCELS, columns).drop_columns([OUTLIERS])
    assert canonical_hash(found) == canonical_hash(expected_versions(stream, PARCELS, columns).drop_columns([OUTLIERS]))
    with pytest.raises(ConfigError, match="no column of a history"):
        make_sink(write_mode="history", history_columns=["from=a"])


@pytest.mark.must_not_fail(12)
def test_an_infinite_date_is_in_every_version_that_had_it(path: Path, make_sink: MakeSink) -> None:
    schema = table("public.terms", {"id": "int8", "note": "text", "ends": "date"}, key=["id"])
    stream = Stream()
    stream.transaction([(schema, insert(1, "a", Outlier("infinity")))])
    stream.transaction([(schema, update(1, None, Outlier("infinity"), unchanged=["note"]))])
    stream.transaction([(schema, update(1, "b", None, unchanged=["ends"])), (schema, delete(1))])
    sink = make_sink(write_mode="history")
    TestLane(sink, LANE).apply_all(stream.windows())
    sink.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        ends = connection.execute("SELECT ends::VARCHAR FROM public.terms").fetchall()
        assert ends == [("infinity",)] * 3
        assert history_rows(connection, schema, VERSIONS)["is_current"].to_pylist() == [False] * 3


def test_a_mirror_does_not_become_a_history(make_sink: MakeSink) -> None:
    stream = a_life()
    mirror = make_sink()
    TestLane(mirror, LANE).apply(stream.windows()[0])
    mirror.close()
    sink = make_sink(write_mode="history")
    assert sink.check((PARCELS,))
    with pytest.raises(Refused, match="no versions"):
        sink.ensure_table(PARCELS)
