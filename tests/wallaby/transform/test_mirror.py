"""Compaction: the net effect of a window equals its changes applied one by one."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wallaby.content import canonical_hash
from wallaby.errors import Refused
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.testing.changes import Change, Outlier, bulk, change_table, copied, delete, insert, table, update
from wallaby.testing.history import RandomHistory, row_table
from wallaby.testing.memory_sink import apply_plan
from wallaby.transform.mirror import (
    COUNT,
    OUTLIERS,
    InsertPlan,
    MirrorPlan,
    MultisetPlan,
    complete,
    plan,
    plan_mirror,
    plan_multiset,
)
from wallaby.window import OP_UPDATE

PLAIN = table("public.t", {"id": "int8", "note": "text", "n": "int4"}, key=["id"])
PAIR = table("public.p", {"note": "text", "b": "text", "a": "int4", "n": "numeric(10,2)"}, key=["b", "a"])
KEYLESS = table(
    "public.k", {"n": "int4", "tags": "text[]", "x": "float8", "d": "numeric(10,2)"}, identity=ReplicaIdentity.FULL
)
NOTHING = table("public.n", {"n": "int4", "note": "text"}, identity=ReplicaIdentity.NOTHING)


def mirror(*changes: Change, schema: TableSchema = PLAIN) -> MirrorPlan:
    return plan_mirror(schema, change_table(schema, changes))


def rows(found: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in found.to_pylist()), key=repr)


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("seed", range(40))
def test_a_plan_equals_applying_changes_one_by_one(seed: int) -> None:
    """Windows cut at random places, applied to the content before them, give the model's content."""
    history = RandomHistory(seed, truncates=False, transactions=25, keys=6)
    contents = {schema.name: row_table(schema, []) for schema in history.tables}
    for window in history.windows(seed):
        for part in window.parts:
            before = contents[part.schema.name]
            contents[part.schema.name] = apply_plan(before, plan(part.schema, part.table()))
    for schema in history.tables:
        assert canonical_hash(contents[schema.name]) == canonical_hash(history.expected(schema)), schema.name


def test_inserts_of_new_keys_are_upserts_in_stream_order() -> None:
    net = mirror(insert(3, "c", 1), copied(1, "a", 1), insert(2, "b", 1))
    assert net.upserts["id"].to_pylist() == [3, 1, 2]
    assert net.upserts.column_names == ["id", "note", "n", OUTLIERS]
    assert len(net.deletes) == 0
    assert net.patches == ()


def test_the_last_change_of_a_key_wins() -> None:
    net = mirror(insert(1, "a", 1), update(1, "b", 2), delete(2), insert(2, "x", 1), insert(3, "y", 1), delete(3))
    assert rows(net.upserts) == [(1, "b", 2, None), (2, "x", 1, None)]
    assert rows(net.deletes) == [(3,)]


def test_a_delete_of_a_row_the_window_inserted_is_still_a_delete() -> None:
    assert rows(mirror(insert(1, "a", 1), delete(1)).deletes) == [(1,)]


def test_an_old_key_is_deleted_unless_another_row_ends_there() -> None:
    net = mirror(update(2, "a", 1, old=[1]), update(1, "b", 2, old=[3]))
    assert rows(net.upserts) == [(1, "b", 2, None), (2, "a", 1, None)]
    assert rows(net.deletes) == [(3,)]


def test_an_old_row_with_the_same_key_is_no_move() -> None:
    schema = table("public.t", {"id": "int8", "note": "text"}, key=["id"], identity=ReplicaIdentity.FULL)
    net = plan_mirror(schema, change_table(schema, [update(1, "b", old=[1])]))
    assert len(net.deletes) == 0
    assert rows(net.upserts) == [(1, "b", None)]


@pytest.mark.must_not_fail(7)
def test_an_unchanged_column_is_filled_from_the_newest_earlier_version_of_the_row() -> None:
    net = mirror(
        insert(1, "a", 1),
        update(1, "b", 2),
        update(5, None, 3, old=[1], unchanged=["note"]),
        insert(1, "other", 9),
        update(6, None, 4, old=[5], unchanged=["note"]),
    )
    assert rows(net.upserts) == [(1, "other", 9, None), (6, "b", 4, None)]
    assert net.patches == ()
    assert rows(net.deletes) == [(5,)]


@pytest.mark.must_not_fail(7)
def test_what_the_window_does_not_know_is_a_patch_with_its_origin() -> None:
    net = mirror(
        update(1, None, 1, unchanged=["note"]),
        update(12, None, 2, old=[2], unchanged=["note"]),
        update(22, None, 3, old=[12], unchanged=["note"]),
        update(3, None, None, unchanged=["note", "n"]),
        update(4, None, 5, unchanged=["note"]),
        update(4, "known", None, unchanged=["n"]),
    )
    assert rows(net.upserts) == [(4, "known", 5, None)]
    assert rows(net.deletes) == [(12,), (2,)]
    found = {(p.missing, p.moves): (rows(p.rows), rows(p.origin)) for p in net.patches}
    assert found == {
        ((1,), False): ([(1, None, 1, None)], [(1,)]),
        ((1,), True): ([(22, None, 3, None)], [(2,)]),
        ((1, 2), False): ([(3, None, None, None)], [(3,)]),
    }


@pytest.mark.must_not_fail(8)
def test_swapped_keys_are_traced_to_where_the_rows_were() -> None:
    net = mirror(
        update(9, None, 1, old=[1], unchanged=["note"]),
        update(1, None, 2, old=[2], unchanged=["note"]),
        update(2, None, 1, old=[9], unchanged=["note"]),
    )
    [patch] = net.patches
    assert patch.moves
    assert list(zip(patch.rows["id"].to_pylist(), patch.origin["id"].to_pylist(), strict=True)) == [(1, 2), (2, 1)]
    assert rows(net.deletes) == [(9,)]
    assert len(net.upserts) == 0


def test_a_row_that_comes_back_to_its_key_is_no_move() -> None:
    net = mirror(update(9, None, 1, old=[1], unchanged=["note"]), update(1, None, 2, old=[9], unchanged=["note"]))
    [patch] = net.patches
    assert not patch.moves
    assert rows(patch.origin) == [(1,)]
    assert rows(net.deletes) == [(9,)]


def test_a_row_inserted_after_a_delete_needs_nothing_from_the_destination() -> None:
    net = mirror(delete(1), insert(1, "new", 1), update(1, None, 2, unchanged=["note"]))
    assert rows(net.upserts) == [(1, "new", 2, None)]
    assert net.patches == ()


def test_a_composite_key_is_compared_as_a_whole() -> None:
    net = mirror(
        insert("one", "x", 1, None),
        insert("two", "x", 2, None),
        insert("three", "y", 1, None),
        delete("x", 2),
        schema=PAIR,
    )
    assert [row[:3] for row in rows(net.upserts)] == [("one", "x", 1), ("three", "y", 1)]
    assert net.deletes.to_pylist() == [{"b": "x", "a": 2}]


def test_a_key_column_not_sent_is_taken_from_the_old_key() -> None:
    """PostgreSQL leaves a TOASTed key out of the new row when it did not change, and sends it in the old one."""
    schema = table("public.t", {"id": "text", "n": "int4"}, key=["id"])
    net = plan_mirror(schema, change_table(schema, [update(None, 2, old=["long key"], unchanged=["id"])]))
    assert rows(net.upserts) == [("long key", 2, None)]
    assert net.patches == ()


@pytest.mark.must_not_fail(12)
def test_outliers_follow_their_values() -> None:
    schema = table("public.t", {"id": "int8", "a": "numeric(10,2)", "b": "date", "n": "int4"}, key=["id"])
    changes = change_table(
        schema,
        [
            insert(1, Outlier("NaN"), Outlier("infinity"), 1),
            update(2, None, None, 2, old=[1], unchanged=["a", "b"]),
            update(2, Outlier("Infinity"), None, 3, unchanged=["b"]),
            insert(3, Outlier("NaN"), None, 0),
            update(3, None, None, 1),
        ],
    )
    net = plan_mirror(schema, changes)
    assert net.upserts["id"].to_pylist() == [2, 3]
    assert net.upserts[OUTLIERS].to_pylist() == [
        [{"column": 1, "text": "Infinity"}, {"column": 2, "text": "infinity"}],
        None,
    ]


@pytest.mark.must_not_fail(12)
@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "change",
    [
        insert(Outlier("infinity"), 1),
        delete(Outlier("infinity")),
        update(Outlier("-infinity"), 1, old=[Outlier("infinity")]),
    ],
)
def test_a_key_outside_its_arrow_type_is_refused_without_naming_it(change: Change) -> None:
    schema = table("public.t", {"day": "date", "n": "int4"}, key=["day"])
    with pytest.raises(Refused) as caught:
        plan(schema, change_table(schema, [change]))
    assert caught.value.where == {"table": "public.t", "column": "day"}
    assert "append mode" in caught.value.advice
    assert "infinity" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), Refused)


def test_complete_fills_missing_columns_by_key_in_any_order() -> None:
    net = mirror(update(11, None, 1, old=[1], unchanged=["note"]), update(12, None, 2, old=[2], unchanged=["note"]))
    found = pa.table({"note": ["two", "one", "three"], "id": pa.array([2, 1, 3], pa.int64())})
    assert rows(complete(PLAIN, net.patches[0], found)) == [(11, "one", 1, None), (12, "two", 2, None)]
    with pytest.raises(Refused):
        complete(PLAIN, net.patches[0], found.slice(0, 1))


@pytest.mark.must_not_fail(9)
def test_a_multiset_counts_copies_of_equal_rows() -> None:
    row = (1, ["a", None], -0.0, None)
    net = plan_multiset(
        KEYLESS,
        change_table(
            KEYLESS,
            [
                insert(*row),
                insert(*row),
                insert(1, ["a", None], 0.0, None),
                delete(1, [], None, None),
                insert(1, None, None, None),
                delete(1, ["b"], None, None),
                delete(1, ["b"], None, None),
                insert(2, None, float("nan"), None),
                delete(2, None, float("nan"), None),
            ],
        ),
    )
    assert net.inserts.column_names == ["n", "tags", "x", "d", OUTLIERS, COUNT]
    assert [(r["n"], r["tags"], str(r["x"]), r[COUNT]) for r in net.inserts.to_pylist()] == [
        (1, ["a", None], "-0.0", 2),
        (1, ["a", None], "0.0", 1),
        (1, None, "None", 1),
    ]
    assert [(r["tags"], r[COUNT]) for r in net.deletes.to_pylist()] == [([], 1), (["b"], 2)]


@pytest.mark.must_not_fail(7)
def test_without_a_key_an_unchanged_column_comes_from_the_old_row_with_its_outlier() -> None:
    old = (1, ["a"], None, Outlier("NaN"))
    changes = change_table(KEYLESS, [update(2, None, None, None, old=old, unchanged=["tags", "d"])])
    net = plan_multiset(KEYLESS, changes)
    assert rows(net.inserts) == [(2, ["a"], None, None, [{"column": 3, "text": "NaN"}], 1)]
    assert rows(net.deletes) == [(1, ["a"], None, None, [{"column": 3, "text": "NaN"}], 1)]


def test_the_identity_chooses_the_plan() -> None:
    assert isinstance(plan(PLAIN, change_table(PLAIN, [insert(1, "a", 1)])), MirrorPlan)
    assert isinstance(plan(KEYLESS, change_table(KEYLESS, [insert(1, None, None, None)])), MultisetPlan)
    net = plan(NOTHING, change_table(NOTHING, [insert(1, "a"), copied(1, "a")]))
    assert isinstance(net, InsertPlan)
    assert len(net.rows) == 2


@pytest.mark.must_not_fail(9)
@pytest.mark.parametrize("change", [update(1, "b"), Change(ord("d"), None, ())])
def test_without_an_identity_updates_and_deletes_are_refused(change: Change) -> None:
    with pytest.raises(Refused):
        plan(NOTHING, change_table(NOTHING, [change]))


@pytest.mark.parametrize("schema", [PLAIN, KEYLESS, NOTHING, PAIR], ids=lambda schema: schema.name.name)
def test_a_window_without_changes_has_no_effect(schema: TableSchema) -> None:
    net = plan(schema, change_table(schema, []))
    match net:
        case MirrorPlan():
            assert (len(net.upserts), len(net.deletes), net.patches) == (0, 0, ())
        case MultisetPlan():
            assert (len(net.inserts), len(net.deletes)) == (0, 0)
        case InsertPlan():
            assert len(net.rows) == 0


@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_the_chunks_of_a_window_do_not_matter(chunks: int) -> None:
    changes = [insert(n % 5, str(n), n) for n in range(20)] + [update(3, None, 0, unchanged=["note"]), delete(4)]
    whole = change_table(PLAIN, changes)
    size = -(-len(whole) // chunks)
    pieces = pa.concat_tables([whole.slice(start, size) for start in range(0, len(whole), size)])
    assert rows(plan_mirror(PLAIN, pieces).upserts) == rows(plan_mirror(PLAIN, whole).upserts)
    sliced = pa.concat_tables([change_table(PLAIN, [insert(99, "x", 1)]), whole]).combine_chunks().slice(1)
    assert rows(plan_mirror(PLAIN, sliced).upserts) == rows(plan_mirror(PLAIN, whole).upserts)


def test_a_row_updated_very_often_is_followed_to_its_beginning() -> None:
    count = 50_000
    ids = pa.array(np.zeros(count, np.int64))
    notes = pa.nulls(count, pa.string())
    changes = pa.concat_tables(
        [
            change_table(PLAIN, [insert(0, "first", -1)]),
            bulk(PLAIN, [ids, notes, pa.array(np.arange(count))], op=OP_UPDATE, unchanged=[1]),
        ]
    )
    assert rows(plan_mirror(PLAIN, changes).upserts) == [(0, "first", count - 1, None)]


def test_row_tables_carry_the_types_and_metadata_of_the_layout() -> None:
    changes = change_table(PAIR, [insert("a", "b", 1, None)])
    net = plan_mirror(PAIR, changes)
    for i, field in enumerate(changes.schema.field("after").type):
        assert net.upserts.schema.field(i).equals(field, check_metadata=True)
    assert net.deletes.schema.names == ["b", "a"]
