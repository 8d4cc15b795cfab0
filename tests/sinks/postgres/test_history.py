"""Histories in PostgreSQL: what a user asks them, the index that finds open versions, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.sinks.histories import a_life
from tests.sinks.postgres.conftest import Driver
from wallaby.errors import Refused
from wallaby.sink import Severity
from wallaby.testing.changes import NewShape, Stream, Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import PARCELS

Drive = Callable[..., Driver]


def indexes(driver: Driver) -> list[str]:
    found = driver.database.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'parcels'")
    return [definition for (definition,) in found]


def test_the_table_as_of_a_moment_as_of_an_lsn_and_now(drive: Drive) -> None:
    """The statements of docs/history.md."""
    stream = a_life()
    driver = drive(write_mode="history")
    driver.apply(*stream.windows())
    second = stream.transactions[1]
    expected = [(0, "note 0", 0), (1, "b", 10), (4, "note 4", 4), (5, "note 5", 5), (9, "moved", 3)]
    fetch = driver.database.fetch
    lsn, moment = f"'{second.commit_lsn}'", f"to_timestamp({second.committed_at_us / 1e6})"
    assert expected == fetch(
        f"SELECT id, note, size FROM parcels WHERE valid_from_lsn <= {lsn}"
        f" AND (valid_to_lsn IS NULL OR valid_to_lsn > {lsn}) ORDER BY id"
    )
    assert expected == fetch(
        f"SELECT id, note, size FROM parcels WHERE valid_from <= {moment}"
        f" AND (valid_to IS NULL OR valid_to > {moment}) ORDER BY id"
    )
    assert [(n,) for n in (0, 1, 2, 4, 5, 9)] == fetch("SELECT id FROM parcels WHERE is_current ORDER BY id")
    assert fetch(
        "SELECT size, opened_by, closed_by FROM parcels WHERE id = 1"
        " ORDER BY valid_from_lsn, opened_by <> 'r', valid_from_ordinal"
    ) == [(1, "i", "u"), (10, "u", "u"), (11, "u", None)]


def test_columns_are_called_as_the_flow_says(drive: Drive) -> None:
    stream = a_life()
    stream.transaction([Truncate((PARCELS.name,)), (PARCELS, insert(1, "x", 1))])
    driver = drive(write_mode="history", history_columns=['valid_to=Valid "to" %', "is_current=Current"])
    driver.apply(*stream.windows())
    ended = stream.transactions[-1].committed_at_us
    found = driver.database.fetch(
        'SELECT count(*), max((extract(epoch from "Valid ""to"" %") * 1000000)::int8) FROM parcels WHERE NOT "Current"'
    )
    assert found == [(10, ended)]


def test_open_versions_are_found_by_an_index_of_their_own(drive: Drive) -> None:
    driver = drive(write_mode="history")
    driver.apply(*a_life().windows())
    [index] = indexes(driver)
    assert "UNIQUE" in index
    assert "(id) WHERE is_current" in index
    driver.sink.ensure_table(PARCELS)
    assert indexes(driver) == [index]


@pytest.mark.must_not_fail(11)
def test_another_key_has_another_index(drive: Drive) -> None:
    rekeyed = table("public.parcels", {"id": "int4", "note": "text", "size": "int4"}, key=["id", "note"], version=2)
    stream = Stream()
    stream.transaction([(PARCELS, insert(1, "a", 1))])
    stream.transaction([NewShape(rekeyed), (rekeyed, insert(1, "b", 2))])
    stream.transaction([(rekeyed, update(1, "a", 3))])
    driver = drive(write_mode="history")
    driver.apply(*stream.windows())
    [index] = indexes(driver)
    assert "(id, note) WHERE is_current" in index
    held = driver.database.fetch("SELECT id, note, size FROM parcels WHERE is_current ORDER BY note")
    assert held == [(1, "a", 3), (1, "b", 2)]


def test_many_versions_with_values_that_were_not_sent_arrive_by_copy(drive: Drive) -> None:
    """More rows than travel in one pipeline, and rows whose values are in the target only."""
    stream = Stream()
    stream.transaction([(PARCELS, insert(n, f"note {n}", 0)) for n in range(1500)])
    stream.transaction([(PARCELS, update(n, None, k, unchanged=["note"])) for k in (1, 2) for n in range(1500)])
    driver = drive(write_mode="history")
    driver.apply(*stream.windows())
    found = driver.database.fetch(
        "SELECT size, is_current, count(*), count(*) FILTER (WHERE note = 'note ' || id) FROM parcels"
        " GROUP BY size, is_current ORDER BY size"
    )
    assert found == [(0, False, 1500, 1500), (1, False, 1500, 1500), (2, True, 1500, 1500)]


def test_a_mirror_does_not_become_a_history(drive: Drive) -> None:
    driver = drive()
    driver.apply(a_life().windows()[0])
    driver.close()
    again = drive(epoch=2, write_mode="history")
    errors = [finding for finding in again.sink.check((PARCELS,)) if finding.severity is Severity.ERROR]
    assert "no history" in errors[0].message
    with pytest.raises(Refused, match="no history"):
        again.sink.ensure_table(PARCELS)


def test_two_tables_do_not_share_a_history(drive: Drive) -> None:
    driver = drive(write_mode="history", table="both")
    driver.sink.ensure_table(PARCELS)
    other = table("public.other", {"id": "int4", "note": "text", "size": "int4"}, key=["id"])
    with pytest.raises(Refused, match="another source table"):
        driver.sink.ensure_table(other)


def test_a_table_somebody_made_with_the_columns_of_a_history_is_one(drive: Drive) -> None:
    driver = drive(write_mode="history")
    driver.database.execute(
        "CREATE TABLE parcels (id int, note text, size int, valid_from timestamptz, valid_to timestamptz,"
        " is_current bool, opened_by text, closed_by text, valid_from_lsn pg_lsn, valid_from_ordinal bigint,"
        " valid_to_lsn pg_lsn, valid_to_ordinal bigint, theirs int DEFAULT 7)"
    )
    driver.apply(*a_life().windows())
    assert indexes(driver) == []
    assert driver.database.fetch("SELECT count(*), sum(theirs) FROM parcels") == [(10, 70)]


@pytest.mark.must_not_fail(8, 25)
def test_of_keys_the_target_calls_equal_the_first_that_goes_ends_the_version(drive: Drive) -> None:
    """1.0 and 1.00 are two keys by their text and one by PostgreSQL's order: a commit may end one version twice."""
    schema = table("public.rates", {"id": "numeric", "note": "text"}, key=["id"])
    stream = Stream()
    stream.transaction([(schema, insert(f"{n}.0", "a")) for n in range(50)])
    gone = stream.transaction([(schema, delete(f"{n}.0")) for n in range(50)])
    stream.transaction([(schema, insert(f"{n}.00", "b")) for n in range(50)])
    moved = stream.transaction([(schema, update(f"{n}.000", "c", old=[f"{n}.00"])) for n in range(50)])
    driver = drive(write_mode="history")
    first, *others = stream.windows()
    driver.apply(first)
    driver.write(others[0])
    driver.write(others[1])
    driver.commit(others[1].upto)
    driver.apply(others[2])
    ends = "SELECT DISTINCT note, closed_by, valid_to_lsn::text FROM rates ORDER BY note"
    assert driver.database.fetch(ends) == [
        ("a", "d", str(gone.commit_lsn)),
        ("b", "d", str(moved.commit_lsn)),
        ("c", None, None),
    ]


@pytest.mark.must_not_fail(11)
def test_what_was_dropped_does_not_take_the_name_of_a_column_somebody_added(drive: Drive) -> None:
    driver = drive(write_mode="history")
    before = table("public.t", {"id": "int4", "a": "text"}, key=["id"])
    again = replace(before, version=2, columns=(before.columns[0], replace(before.columns[1], attnum=3)))
    stream = Stream()
    stream.transaction([(before, insert(1, "old"))])
    stream.transaction([NewShape(again), (again, insert(2, "new"))])
    driver.sink.ensure_table(before)
    driver.database.execute("ALTER TABLE t ADD a_dropped int DEFAULT 7")
    driver.apply(*stream.windows())
    found = driver.database.fetch("SELECT id, a, a_dropped, a_dropped_2 FROM t ORDER BY id")
    assert found == [(1, None, 7, "old"), (2, "new", 7, None)]
