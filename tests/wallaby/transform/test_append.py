"""The append log, and the state derived from it."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from wallaby.content import canonical_hash
from wallaby.errors import ConfigError, Refused
from wallaby.lsn import Lsn
from wallaby.schema import ReplicaIdentity
from wallaby.testing.changes import (
    Outlier,
    Placed,
    change_table,
    copied,
    delete,
    insert,
    table,
    update,
)
from wallaby.testing.history import RandomHistory, row_table
from wallaby.transform.append import append_rows, append_schema, append_truncate, refuse_outliers
from wallaby.transform.state import derive_state
from wallaby.window import Barrier, BarrierKind

PLAIN = table("public.t", {"id": "int8", "note": "text", "n": "int4"}, key=["id"])
KEYLESS = table("public.k", {"n": "int4", "note": "text"}, identity=ReplicaIdentity.FULL)


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("seed", range(15))
def test_the_state_of_a_shuffled_log_is_the_source_table(seed: int) -> None:
    history = RandomHistory(seed, transactions=25, keys=6)
    logs: dict[object, list[pa.Table]] = {schema.name: [] for schema in history.tables}
    shapes = {schema.name: schema for schema in history.tables}
    for window in history.windows(seed):
        for part in window.parts:
            logs[part.schema.name].append(append_rows(part.schema, part.table()))
        for name in window.barrier.tables if window.barrier else ():
            assert window.barrier is not None
            logs[name].append(append_truncate(shapes[name], window.barrier))
    for schema in history.tables:
        log = pa.concat_tables([append_schema(schema).empty_table(), *logs[schema.name]])
        order = list(range(len(log)))
        random.Random(seed).shuffle(order)
        state = derive_state(schema, log.take(pa.array(order, pa.int64())))
        assert state.column_names == [column.name for column in schema.columns]
        assert canonical_hash(state) == canonical_hash(history.expected(schema)), schema.name


def test_each_change_is_a_row_in_stream_order() -> None:
    changes = [copied(1, "a", 1), insert(2, "b", 2), update(1, None, 3, unchanged=["note"]), delete(2)]
    log = append_rows(PLAIN, change_table(PLAIN, changes))
    assert log.schema.equals(append_schema(PLAIN), check_metadata=True)
    assert log["__op"].to_pylist() == ["r", "i", "u", "d"]
    assert log["__ordinal"].to_pylist() == [0, 1, 2, 3]
    assert log["__unchanged"].to_pylist() == [None, None, ["note"], None]
    assert log["id"].to_pylist() == [1, 2, 1, 2]
    assert log["n"].to_pylist() == [1, 2, 3, None]


@pytest.mark.must_not_fail(8)
def test_a_key_change_is_a_delete_and_an_update_of_one_place() -> None:
    log = append_rows(PLAIN, change_table(PLAIN, [insert(1, "a", 1), update(2, None, 5, old=[1], unchanged=["note"])]))
    assert log.select(["id", "note", "n", "__op", "__ordinal", "__unchanged"]).to_pylist()[1:] == [
        {"id": 1, "note": None, "n": None, "__op": "d", "__ordinal": 1, "__unchanged": None},
        {"id": 2, "note": None, "n": 5, "__op": "u", "__ordinal": 1, "__unchanged": ["note"]},
    ]
    assert derive_state(PLAIN, log).to_pylist() == [{"id": 2, "note": "a", "n": 5}]


@pytest.mark.must_not_fail(9)
def test_an_update_without_a_key_logs_both_whole_rows() -> None:
    log = append_rows(KEYLESS, change_table(KEYLESS, [update(2, None, old=(1, "a"), unchanged=["note"])]))
    assert log.select(["n", "note", "__op", "__unchanged"]).to_pylist() == [
        {"n": 1, "note": "a", "__op": "d", "__unchanged": None},
        {"n": 2, "note": "a", "__op": "u", "__unchanged": None},
    ]


def test_copied_rows_come_before_a_transaction_with_the_snapshots_lsn() -> None:
    """The commit record of the first transaction after a snapshot may start at the snapshot's LSN."""
    copy = [Placed(PLAIN, copied(n, "copy", n), 0x1000, n, 0, 0) for n in range(4)]
    stream = [Placed(PLAIN, update(3, "new", 0), 0x1000, 0, 700, 1), Placed(PLAIN, delete(2), 0x1000, 1, 700, 1)]
    log = append_rows(PLAIN, change_table(PLAIN, [*copy, *stream]))
    expected = row_table(PLAIN, [(0, "copy", 0), (1, "copy", 1), (3, "new", 0)])
    assert canonical_hash(derive_state(PLAIN, log)) == canonical_hash(expected)


def test_truncate_is_a_row_that_ends_all_before_it() -> None:
    placed = [Placed(PLAIN, insert(n, "a", n), 0x1000 * n, 0, n, 0) for n in (1, 3)]
    barrier = Barrier(BarrierKind.TRUNCATE, (PLAIN.name,), (), Lsn(0x2000), 0)
    log = pa.concat_tables([append_rows(PLAIN, change_table(PLAIN, placed)), append_truncate(PLAIN, barrier)])
    assert derive_state(PLAIN, log)["id"].to_pylist() == [3]


def test_outliers_are_kept_by_column_name_when_asked() -> None:
    schema = table("public.t", {"id": "int8", "a": "numeric(10,2)", "note": "text"}, key=["id"])
    changes = change_table(schema, [insert(1, Outlier("NaN"), "x"), update(1, None, "y", unchanged=["a"])])
    assert "__outliers" not in append_rows(schema, changes).column_names
    log = append_rows(schema, changes, keep_outliers=True)
    assert log["__outliers"].to_pylist() == [[{"column": "a", "text": "NaN"}], None]
    state = derive_state(schema, log)
    assert canonical_hash(state) == canonical_hash(row_table(schema, [(1, Outlier("NaN"), "y")]))


@pytest.mark.must_not_fail(12)
def test_a_key_outlier_is_logged_as_two_rows_when_it_is_updated() -> None:
    schema = table("public.t", {"day": "date", "n": "int4"}, key=["day"])
    changes = change_table(schema, [update(Outlier("infinity"), 1, old=[Outlier("-infinity")])])
    log = append_rows(schema, changes, keep_outliers=True)
    assert log["__outliers"].to_pylist() == [
        [{"column": "day", "text": "-infinity"}],
        [{"column": "day", "text": "infinity"}],
    ]


@pytest.mark.must_not_fail(11)
def test_rows_logged_before_a_column_was_added_have_null_in_it() -> None:
    wider = table("public.t", {"id": "int8", "note": "text", "n": "int4", "new": "text"}, key=["id"], version=2)
    before = append_rows(PLAIN, change_table(PLAIN, [insert(1, "a", 1), insert(2, "b", 2)]))
    later = [Placed(wider, update(2, None, 5, "x", unchanged=["note"]), 0x2000, 0, 1, 1)]
    log = pa.concat_tables([before, append_rows(wider, change_table(wider, later))], promote_options="default")
    expected = row_table(wider, [(1, "a", 1, None), (2, "b", 5, "x")])
    assert canonical_hash(derive_state(wider, log)) == canonical_hash(expected)
    assert derive_state(wider, before)["new"].null_count == 2
    narrower = table("public.t", {"id": "int8", "n": "int4"}, key=["id"], version=3)
    assert canonical_hash(derive_state(narrower, log)) == canonical_hash(row_table(narrower, [(1, 1), (2, 5)]))


@pytest.mark.must_not_fail(25)
def test_a_log_that_lost_rows_is_refused() -> None:
    log = append_rows(PLAIN, change_table(PLAIN, [insert(1, "a", 1), update(1, None, 2, unchanged=["note"])]))
    with pytest.raises(Refused):
        derive_state(PLAIN, log.slice(1))
    log = append_rows(KEYLESS, change_table(KEYLESS, [insert(1, "a"), delete(1, "a")]))
    with pytest.raises(Refused):
        derive_state(KEYLESS, log.slice(1))


@pytest.mark.must_not_fail(22)
def test_a_source_column_named_like_one_of_the_logs_is_a_config_error() -> None:
    schema = table("public.t", {"id": "int8", "__op": "text"}, key=["id"])
    with pytest.raises(ConfigError) as caught:
        append_schema(schema)
    assert caught.value.where == {"table": "public.t", "column": "__op"}
    append_schema(table("public.t", {"id": "int8", "__outliers": "text"}, key=["id"]))
    with pytest.raises(ConfigError):
        append_schema(table("public.t", {"id": "int8", "__outliers": "text"}, key=["id"]), keep_outliers=True)


@pytest.mark.must_not_fail(24)
def test_refusing_outliers_names_the_place_and_not_the_value() -> None:
    schema = table("public.t", {"id": "int8", "a": "numeric(10,2)"}, key=["id"])
    sound = change_table(schema, [insert(1, None)])
    refuse_outliers(schema, sound)
    odd = Placed(schema, insert(2, Outlier("NaN")), 0xAB0000CD, 3, 700, 0)
    with pytest.raises(Refused) as caught:
        refuse_outliers(schema, pa.concat_tables([sound, change_table(schema, [odd])]))
    assert caught.value.where == {"table": "public.t", "column": "a", "commit_lsn": "0/AB0000CD"}
    assert "NaN" not in str(caught.value)
    assert caught.value.advice
