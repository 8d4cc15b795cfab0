"""Metadata columns, soft deletion and append mode, against the model of one row at a time."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallaby.transform import naive
from tests.wallaby.transform.stages import compared, shaped, staged
from wallaby.errors import ConfigError, Refused
from wallaby.flow.transforms import NAME_FIELDS, TransformOptions
from wallaby.schema import ReplicaIdentity
from wallaby.sink import WriteMode
from wallaby.testing.changes import Outlier, change_table, delete, insert, table, update
from wallaby.testing.history import RandomHistory
from wallaby.transform.append import append_rows
from wallaby.transform.metadata import lsn_texts

ORDERS = table("public.orders", {"id": "int8", "note": "text", "n": "int4"}, key=["id"])
EVENTS = table("public.events", {"kind": "text", "n": "int4"}, identity=ReplicaIdentity.FULL)


def roles(options: dict[str, Any]) -> dict[str, str]:
    parsed = TransformOptions.of(options, mode=WriteMode.MIRROR)
    names = {field: getattr(parsed, field) for field in NAME_FIELDS if getattr(parsed, field) != "-"}
    if parsed.watermark_source == "none":
        names.pop("meta_watermark", None)
    return names


options = st.fixed_dictionaries(
    {"meta_enabled": st.just(True)},
    optional={
        "meta_synced_at": st.sampled_from(["-", "synced"]),
        "meta_op": st.sampled_from(["-", "Op"]),
        "meta_watermark": st.sampled_from(["-", "mark"]),
        "watermark_source": st.sampled_from(["timestamp", "lsn", "none"]),
        "meta_commit_lsn": st.just("lsn"),
        "meta_position": st.just("place"),
    },
)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), options=options, is_soft=st.booleans())
def test_a_mirror_with_metadata_is_what_the_model_says(seed: int, options: dict[str, Any], is_soft: bool) -> None:
    tables = [schema for schema in RandomHistory(0, transactions=0).tables if not schema.is_keyless_full]
    history = RandomHistory(seed, tables, transactions=10, keys=5)
    given_options = options | {"soft_delete": is_soft}
    rules = naive.Rules(
        metadata=roles(given_options), soft_delete=is_soft, watermark_is_lsn=options.get("watermark_source") == "lsn"
    )
    compared(history, seed, WriteMode.MIRROR, rules, **given_options)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), options=options)
def test_a_log_with_metadata_is_what_the_model_says(seed: int, options: dict[str, Any]) -> None:
    history = RandomHistory(seed, transactions=10, keys=5)
    rules = naive.Rules(metadata=roles(options), watermark_is_lsn=options.get("watermark_source") == "lsn")
    compared(history, seed, WriteMode.APPEND, rules, **options)


def test_a_soft_deletion_leaves_what_the_destination_has() -> None:
    stage = staged(WriteMode.MIRROR, soft_delete=True, meta_op="-", meta_synced_at="-", meta_watermark="-")
    shape = shaped(stage, ORDERS)
    changes = pa.Table.from_batches([stage.changed(shape, change_table(ORDERS, [delete(1)]))])
    [row] = changes.to_pylist()
    assert chr(row["op"]) == "u"
    assert row["before"] is None
    assert row["after"] == {"id": 1, "note": None, "n": None, "__ds_is_deleted": True}
    assert row["unchanged"] == [1, 2]


@pytest.mark.must_not_fail(12)
def test_an_outlier_of_a_deleted_key_stays_with_it_in_the_log() -> None:
    days = table("public.days", {"day": "date", "note": "text"}, key=["day"])
    stage = staged(WriteMode.APPEND, append_mode=True)
    shape = shaped(stage, days)
    steps = [update(Outlier("infinity"), "x", old=[Outlier("-infinity")]), delete(Outlier("4713-01-01 BC"))]
    batch = stage.changed(shape, change_table(days, steps))
    log = append_rows(shape.target, pa.Table.from_batches([batch]), keep_outliers=True)
    texts = [[cell["text"] for cell in cells] for cells in log["__outliers"].to_pylist()]
    assert texts == [["-infinity"], ["infinity"], ["4713-01-01 BC"]]
    assert log["__ds_op"].to_pylist() == ["delete", "update", "delete"]
    assert log["__ds_is_deleted"].to_pylist() == [True, False, True]


def test_lsns_are_printed_as_postgresql_prints_them() -> None:
    lsns = pa.array([0, 1, 0xFFFFFFFF, 0x16_B374D848, 2**64 - 1], pa.uint64())
    assert lsn_texts(lsns).to_pylist() == ["0/0", "0/1", "0/FFFFFFFF", "16/B374D848", "FFFFFFFF/FFFFFFFF"]


def test_a_table_without_a_key_gets_no_metadata_in_a_mirror() -> None:
    stage = staged(WriteMode.MIRROR, meta_enabled=True)
    [finding] = stage.findings((ORDERS, EVENTS))
    assert finding.code == "transform-needs-key"
    assert "public.events" in finding.subject
    with pytest.raises(Refused, match="told apart by all their columns"):
        stage.shape(EVENTS)


def test_a_metadata_column_may_not_have_the_name_of_a_column() -> None:
    stage = staged(WriteMode.MIRROR, meta_synced_at="note")
    [finding] = stage.findings((ORDERS,))
    assert (finding.code, finding.subject) == ("transform-collision", "column public.orders.note")


@pytest.mark.parametrize(
    ("given", "mode", "field"),
    [
        ({"meta_op": "__op"}, WriteMode.MIRROR, "meta_op"),
        ({"meta_op": "x", "meta_deleted": "x"}, WriteMode.MIRROR, "meta_op"),
        ({"meta_op": "x" * 64}, WriteMode.MIRROR, "meta_op"),
        ({"soft_delete": True}, WriteMode.APPEND, "soft_delete"),
        ({"soft_delete": True, "meta_deleted": "-"}, WriteMode.MIRROR, "meta_deleted"),
        ({"soft_delete": True, "meta_enabled": False}, WriteMode.MIRROR, "meta_enabled"),
        ({"append_mode": True}, WriteMode.MIRROR, "append_mode"),
        ({"watermark_source": "clock"}, WriteMode.MIRROR, "watermark_source"),
    ],
)
def test_what_does_not_go_together_is_named(given: dict[str, Any], mode: WriteMode, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransformOptions.of(given, mode=mode)
    assert caught.value.where["field"] == field


@pytest.mark.parametrize(
    ("given", "has"),
    [
        ({}, False),
        ({"meta_enabled": "true"}, True),
        ({"watermark_source": "lsn"}, True),
        ({"meta_position": "place"}, True),
        ({"meta_enabled": False, "meta_op": "x"}, False),
        ({"soft_delete": "true"}, True),
    ],
)
def test_any_option_of_metadata_turns_it_on(given: dict[str, Any], has: bool) -> None:
    assert TransformOptions.of(given, mode=WriteMode.MIRROR).has_metadata is has


def test_metadata_of_an_inserted_row_is_that_of_its_change() -> None:
    stage = staged(WriteMode.MIRROR, meta_enabled=True)
    changes = change_table(ORDERS, [insert(1, "a", 1)])
    [row] = stage.changed(shaped(stage, ORDERS), changes).to_pylist()
    assert row["after"]["__ds_synced_at"] == row["committed_at"] == row["after"]["__ds_watermark"]
    assert row["after"]["__ds_op"] is None
