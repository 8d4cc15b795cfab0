"""Histories: what a plan adds, cut anywhere, is what applying changes one by one gives."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby.content import canonical_hash
from wallaby.errors import ConfigError, Refused, RowRefused
from wallaby.lsn import Lsn
from wallaby.schema import ReplicaIdentity, TableName, TableSchema
from wallaby.testing.changes import (
    COPY_LSN,
    Change,
    Outlier,
    Stream,
    Truncate,
    bulk,
    change_table,
    copied,
    delete,
    insert,
    table,
    update,
)
from wallaby.testing.history import RandomHistory, shop_tables
from wallaby.testing.versions import apply_history, current_rows, expected_versions, truncate_history, version_table
from wallaby.transform.history import (
    HistoryPlan,
    close_fields,
    history_schema,
    plan_history,
    plan_truncate,
    require_only_copied,
)
from wallaby.transform.mirror import OUTLIERS
from wallaby.versions import VersionColumns
from wallaby.window import OP_UPDATE, Barrier, BarrierKind, Window

VERSIONS = VersionColumns()
PLAIN = table("public.t", {"id": "int8", "note": "text", "n": "int4"}, key=["id"])
KEYED = tuple(schema for schema in shop_tables() if schema.has_key)


def planned(*changes: Change, schema: TableSchema = PLAIN) -> HistoryPlan:
    return plan_history(schema, change_table(schema, changes), VERSIONS)


def cells(rows: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def replayed(schema: TableSchema, windows: list[Window]) -> pa.Table:
    """The history ``windows`` make in memory."""
    history = version_table(schema, [], VERSIONS)
    for window in windows:
        if window.barrier is not None and schema.name in window.barrier.tables:
            history = truncate_history(history, plan_truncate(window.barrier, VERSIONS), VERSIONS)
        for part in window.parts:
            if part.schema.name == schema.name:
                history = apply_history(history, plan_history(schema, part.table(), VERSIONS), VERSIONS)
    return history


@pytest.mark.must_not_fail(25)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), cuts=st.integers(0, 10_000), chance=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_a_history_equals_applying_changes_one_by_one_wherever_the_stream_is_cut(
    seed: int, cuts: int, chance: float
) -> None:
    """Keys of a small range are moved, swapped, deleted and inserted again within one window, values left out."""
    history = RandomHistory(seed, KEYED, transactions=12, keys=4)
    choice = random.Random(cuts)
    places = [
        (number, done)
        for number, transaction in enumerate(history.stream.transactions)
        for done in range(1, len(transaction.steps) + 1)
        if choice.random() < chance
    ]
    windows = history.stream.windows(places)
    for schema in KEYED:
        found = replayed(schema, windows)
        assert canonical_hash(found) == canonical_hash(expected_versions(history.stream, schema, VERSIONS))
        assert canonical_hash(current_rows(schema, found, VERSIONS)) == canonical_hash(history.expected(schema))


@pytest.mark.must_not_fail(25)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_a_history_holds_the_table_as_it_was_after_every_transaction(seed: int) -> None:
    """As of an LSN: begun at or before it, and not ended at or before it."""
    history = RandomHistory(seed, KEYED, transactions=6, keys=4)
    schema = KEYED[0]
    rows = replayed(schema, history.windows(seed))
    begun, ended = rows[VERSIONS.valid_from_lsn].to_pylist(), rows[VERSIONS.valid_to_lsn].to_pylist()
    for number in range(7):
        lsn = history.stream.transactions[number - 1].commit_lsn if number else COPY_LSN
        holds = [first <= lsn and (last is None or last > lsn) for first, last in zip(begun, ended, strict=True)]
        found = rows.filter(pa.array(holds)).select([*(c.name for c in schema.columns), OUTLIERS])
        assert canonical_hash(found) == canonical_hash(history.expected(schema, number)), number


def test_a_version_closed_in_its_own_batch_is_whole() -> None:
    plan = planned(insert(1, "a", 1), update(1, "b", 2), delete(1), insert(1, "c", 3))
    assert cells(plan.versions, "note", "opened_by", "closed_by", "valid_from_ordinal", "valid_to_ordinal") == [
        ("a", "i", "u", 0, 1),
        ("b", "u", "d", 1, 2),
        ("c", "i", None, 3, None),
    ]
    assert plan.versions["is_current"].to_pylist() == [False, False, True]
    assert set(plan.versions["valid_from_lsn"].to_pylist()) == {0x1000}
    assert cells(plan.closes, "id", "closed_by", "valid_to_ordinal") == [(1, "i", 0)]


def test_what_is_open_in_the_target_ends_with_the_first_event_of_its_key() -> None:
    plan = planned(
        update(5, "a", 1, old=[2]), delete(3), update(4, "b", 2), update(4, "c", 3), update(2, "d", 4, old=[7])
    )
    assert cells(plan.closes, "id", "closed_by", "valid_to_ordinal") == [
        (2, "d", 0),
        (5, "u", 0),
        (3, "d", 1),
        (4, "u", 2),
        (7, "d", 4),
    ]
    assert plan.closes.column_names == ["id", "valid_to", "closed_by", "valid_to_lsn", "valid_to_ordinal"]


@pytest.mark.must_not_fail(7)
def test_values_that_were_not_sent_come_from_the_version_before_or_the_target() -> None:
    plan = planned(
        insert(1, "one", 1),
        update(1, None, 2, unchanged=["note"]),
        update(2, None, 3, unchanged=["note"]),
        update(3, None, 4, old=[2], unchanged=["note"]),
    )
    assert cells(plan.versions, "id", "note", "n") == [(1, "one", 1), (1, "one", 2)]
    [patch] = plan.patches
    assert patch.missing == (1,)
    assert cells(patch.rows, "id", "n", "closed_by") == [(2, 3, "d"), (3, 4, None)]
    assert patch.origin["id"].to_pylist() == [2, 2]


def test_an_odd_value_goes_with_every_version_that_has_it() -> None:
    schema = table("public.odd", {"id": "int8", "d": "numeric(10,2)"}, key=["id"])
    plan = planned(insert(1, Outlier("NaN")), update(1, None, unchanged=["d"]), update(1, 1), schema=schema)
    assert plan.versions[OUTLIERS].to_pylist() == [
        [{"column": 1, "text": "NaN"}],
        [{"column": 1, "text": "NaN"}],
        None,
    ]


def test_copied_rows_open_at_the_snapshot() -> None:
    plan = planned(copied(1, "a", 1), copied(2, "b", 2))
    assert cells(plan.versions, "opened_by", "valid_from_ordinal", "is_current") == [("r", 0, True)] * 2


def test_a_truncate_closes_at_its_place() -> None:
    barrier = Barrier(BarrierKind.TRUNCATE, (PLAIN.name,), (), Lsn(0x99), 3, 7, 1_000_000)
    row = plan_truncate(barrier, VERSIONS)
    assert cells(row, "closed_by", "valid_to_lsn", "valid_to_ordinal") == [("t", 0x99, 3)]
    assert row.schema == pa.schema(close_fields(VERSIONS))


def test_columns_have_the_names_asked_for() -> None:
    named = VersionColumns.of({"valid_from": "dbt_valid_from", "is_current": "Current"})
    plan = plan_history(PLAIN, change_table(PLAIN, [insert(1, "a", 1)]), named)
    assert plan.versions.column_names[4:7] == ["dbt_valid_from", "valid_to", "Current"]
    assert history_schema(PLAIN, named).names[3:6] == ["dbt_valid_from", "valid_to", "Current"]


def test_a_table_without_a_key_has_no_history() -> None:
    for identity in (ReplicaIdentity.FULL, ReplicaIdentity.NOTHING):
        with pytest.raises(Refused, match="key"):
            history_schema(table("public.k", {"n": "int4"}, identity=identity), VERSIONS)


def test_a_column_of_the_histories_own_name_is_refused() -> None:
    schema = table("public.t", {"id": "int8", "is_current": "bool"}, key=["id"])
    with pytest.raises(ConfigError) as caught:
        history_schema(schema, VERSIONS)
    assert caught.value.where["column"] == "is_current"
    assert history_schema(schema, VersionColumns.of({"is_current": "holds"})).names[4] == "holds"


def test_a_toasted_value_the_target_lost_is_refused() -> None:
    empty = version_table(PLAIN, [], VERSIONS)
    with pytest.raises(RowRefused, match="not in the destination"):
        apply_history(empty, planned(update(1, None, 2, unchanged=["note"])), VERSIONS)


@pytest.mark.must_not_fail(19)
def test_only_copies_may_be_emptied() -> None:
    require_only_copied(True, PLAIN.name)
    with pytest.raises(Refused) as caught:
        require_only_copied(False, PLAIN.name)
    assert caught.value.advice


def test_truncates_of_other_tables_are_not_ours() -> None:
    stream = Stream()
    stream.transaction([(PLAIN, insert(1, "a", 1)), Truncate((TableName("public", "other"),))])
    assert replayed(PLAIN, stream.windows())["is_current"].to_pylist() == [True]


def test_a_hot_row_has_a_chain_of_versions() -> None:
    rows = 10_000
    same = pa.array([1] * rows, pa.int64())
    changes = bulk(PLAIN, [same, pa.nulls(rows, pa.string()), pa.array(range(rows), pa.int32())], op=OP_UPDATE)
    plan = plan_history(PLAIN, changes, VERSIONS)
    assert len(plan.versions) == rows
    assert plan.versions["valid_to_ordinal"].to_pylist() == [*range(1, rows), None]
    assert len(plan.closes) == 1
