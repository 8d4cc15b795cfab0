"""Changes as JSON: members, exact values, and what is left out."""

from __future__ import annotations

import base64
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest

from wallaby.schema import ReplicaIdentity
from wallaby.testing.changes import Change, Outlier, change_table, delete, insert, table, update
from wallaby.transform.append import append_rows
from wallaby.wire.json import change_messages, json_texts, lsn_texts

ORDERS = table("public.orders", {"id": "int8", "note": "text", "total": "numeric(12,2)"}, key=["id"])


def messages(schema: Any, *changes: Change) -> list[dict[str, Any]]:
    made = change_messages(schema, append_rows(schema, change_table(schema, changes), keep_outliers=True))
    return [json.loads(text) for text in made.payload.to_pylist()]


def texts(array: pa.Array) -> list[str | None]:
    found: list[str | None] = json_texts(array).to_pylist()
    return found


def test_an_insert_has_the_whole_row_and_its_place() -> None:
    [message] = messages(ORDERS, insert(7, "a", decimal.Decimal("1.10")))
    assert message == {
        "table": "orders",
        "namespace": "public",
        "operation": "insert",
        "schema_version": 1,
        "key": base64.b64encode(b'{"id":7}').decode(),
        "after": {"id": 7, "note": "a", "total": "1.10"},
        "timestamp": "2023-11-14T22:13:20Z",
        "lsn": "0/1000",
        "ordinal": 0,
        "xid": 700,
    }


@pytest.mark.must_not_fail(7)
def test_columns_that_were_not_sent_are_named_and_not_there() -> None:
    [message] = messages(ORDERS, update(7, None, None, unchanged=["note"]))
    assert message["after"] == {"id": 7, "total": None}
    assert message["unchanged"] == ["note"]


def test_a_delete_has_its_key_only() -> None:
    [message] = messages(ORDERS, delete(7))
    assert message["before"] == {"id": 7}
    assert "after" not in message


@pytest.mark.must_not_fail(8)
def test_a_moved_key_is_a_delete_and_an_update_of_one_place() -> None:
    old, new = messages(ORDERS, update(8, "a", None, old=[7]))
    assert (old["operation"], old["before"]) == ("delete", {"id": 7})
    assert (new["operation"], new["after"]["id"]) == ("update", 8)
    assert (old["lsn"], old["ordinal"]) == (new["lsn"], new["ordinal"])


def test_keys_are_in_name_order_and_absent_without_one() -> None:
    schema = table("public.t", {"b": "text", "n": "int4", "a": "int8"}, key=["b", "a"])
    made = change_messages(schema, append_rows(schema, change_table(schema, [insert("x", 1, 2)]), keep_outliers=True))
    assert made.key.to_pylist() == ['{"a":2,"b":"x"}']
    keyless = table("public.t", {"n": "int4"}, identity=ReplicaIdentity.NOTHING)
    [message] = messages(keyless, insert(1))
    assert "key" not in message


@pytest.mark.must_not_fail(12)
def test_what_arrow_cannot_hold_is_postgresqls_text_and_named() -> None:
    message, plain = messages(ORDERS, insert(1, "a", Outlier("NaN")), insert(2, "b", None))
    assert message["after"]["total"] == "NaN"
    assert message["outliers"] == ["total"]
    assert "outliers" not in plain


@pytest.mark.must_not_fail(12)
def test_whole_numbers_no_double_holds_are_text() -> None:
    edge = 2**53 - 1
    assert texts(pa.array([edge, edge + 1, -edge, -edge - 1, None])) == [
        str(edge),
        f'"{edge + 1}"',
        str(-edge),
        f'"{-edge - 1}"',
        None,
    ]
    assert texts(pa.array([2**64 - 1, 1], pa.uint64())) == [f'"{2**64 - 1}"', "1"]


@pytest.mark.must_not_fail(12)
def test_floats_keep_their_value_sign_and_kind() -> None:
    values = [1.0, -0.0, 0.1, 1e300, 5e-324, float("nan"), float("inf"), float("-inf")]
    found = texts(pa.array(values))
    assert found[5:] == ['"NaN"', '"Infinity"', '"-Infinity"']
    for value, text in zip(values[:5], found[:5], strict=True):
        assert text is not None
        assert repr(json.loads(text)) == repr(value)


def test_decimals_are_plain_digits_with_their_scale() -> None:
    cells = ["0", "-0.00000001", "12.5", "-999999999999.99999999"]
    array = pa.array([decimal.Decimal(cell) for cell in cells], pa.decimal128(20, 8))
    assert texts(array) == ['"0.00000000"', '"-0.00000001"', '"12.50000000"', '"-999999999999.99999999"']
    sliced = pa.array([decimal.Decimal("1"), None, decimal.Decimal("-7")], pa.decimal256(50, 0)).slice(1)
    assert texts(sliced) == [None, '"-7"']


@pytest.mark.must_not_fail(13)
def test_every_character_of_text_arrives() -> None:
    cells = ["".join(map(chr, range(1, 0x80))), 'q"\\', "ünï 表 🦘\u2028", "\\u0000", ""]
    assert [json.loads(text or "") for text in texts(pa.array(cells))] == cells
    assert texts(pa.array(["plain", "x\ny"]).slice(1)) == ['"x\\ny"']


@pytest.mark.must_not_fail(12)
def test_dates_before_christ_and_after_9999_are_postgresqls_text() -> None:
    days = pa.array([-719_528, -719_163, -719_162, 2_932_896, 2_932_897, None, 0], pa.int32()).cast(pa.date32())
    assert texts(days) == [
        '"0001-01-01 BC"',
        '"0001-12-31 BC"',
        '"0001-01-01"',
        '"9999-12-31"',
        '"10000-01-01"',
        None,
        '"1970-01-01"',
    ]
    moments = pa.array([-719_163 * 86_400_000_000 + 1, 0, None], pa.timestamp("us", "UTC"))
    assert texts(moments) == ['"0001-12-31 00:00:00.000001+00 BC"', '"1970-01-01T00:00:00Z"', None]


def test_lists_maps_and_intervals_have_forms_of_their_own() -> None:
    assert texts(pa.array([["a", None], [], None], pa.list_(pa.string()))) == ['["a",null]', "[]", None]
    maps = pa.array([[("k", "v"), ('"', None)], None], pa.map_(pa.string(), pa.string()))
    assert texts(maps) == ['{"k":"v","\\"":null}', None]
    intervals = pa.array([pa.MonthDayNano([14, -3, -3_500_000_000]), None], pa.month_day_nano_interval())
    assert texts(intervals) == ['"P14M-3DT-3.5S"', None]


def test_positions_are_printed_as_postgresql_does() -> None:
    assert lsn_texts(pa.array([0, 0x16B374D848, 2**64 - 1], pa.uint64())).to_pylist() == [
        "0/0",
        "16/B374D848",
        "FFFFFFFF/FFFFFFFF",
    ]


@pytest.mark.must_not_fail(22)
def test_names_of_every_kind_are_names() -> None:
    schema = table('public.it\'s "q"\\', {'c"\\\n': "int4", "é": "text"}, key=['c"\\\n'])
    [message] = messages(schema, insert(1, "x"))
    assert message["table"] == 'it\'s "q"\\'
    assert message["after"] == {'c"\\\n': 1, "é": "x"}


def test_structs_are_objects() -> None:
    pairs = pa.array([{"column": 'a"b', "text": None}, None], pa.struct({"column": pa.string(), "text": pa.string()}))
    assert texts(pairs) == ['{"column":"a\\"b","text":null}', None]
