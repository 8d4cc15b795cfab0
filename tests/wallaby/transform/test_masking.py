"""Masks, against the model of one row at a time, and against what must never be seen."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import hmac
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallaby.transform import naive
from tests.wallaby.transform.stages import LOG_FIELDS, replayed, shaped, staged
from wallaby.content import value_texts
from wallaby.errors import ConfigError, Refused
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import Column, ReplicaIdentity
from wallaby.sink import WriteMode
from wallaby.testing.changes import Outlier, change_table, delete, insert, table, update, values
from wallaby.testing.history import RandomHistory
from wallaby.transform.stage import Shape

SECRET = "a secret of sixteen"
USERS = table("shop.users", {"email": "text", "name": "text", "born": "date", "n": "int4"}, key=["email"])
COLUMNS = (
    "note",
    "payload",
    "total",
    "tags",
    "at",
    "blob",
    "attributes",
    "name",
    "active",
    "kind",
    "size",
    "line",
    "day",
)


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def keyed(value: bytes) -> str:
    return hmac.digest(SECRET.encode(), value, "sha256").hex()


def token(value: bytes) -> str:
    return "tok_" + hmac.digest(SECRET.encode(), b"token\0" + value, "sha256").hex()[:32]


HASHES = {"hash": digest, "hmac": keyed, "token": token}


def model(word: str, kind: pa.DataType) -> Callable[[Any], Any]:
    if word == "redact":
        return lambda _: None
    if word.startswith("redact:"):
        return lambda _: word.partition(":")[2].strip()

    def mask(value: Any) -> Any:
        if value is None:
            return None
        return HASHES[word](value_texts(values([value], kind))[0].as_py().encode())

    return mask


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    masks=st.dictionaries(
        st.sampled_from(COLUMNS), st.sampled_from(["hash", "hmac", "token", "redact", "redact: gone"]), max_size=5
    ),
    keys=st.dictionaries(st.sampled_from(("id", "sku", "ref")), st.sampled_from(["hash", "hmac", "token"])),
    mode=st.sampled_from([WriteMode.MIRROR, WriteMode.APPEND]),
)
def test_masked_tables_are_what_the_model_says(
    seed: int, masks: dict[str, str], keys: dict[str, str], mode: WriteMode
) -> None:
    history = RandomHistory(seed, transactions=10, keys=5)
    words = masks | keys
    entries = [f"{name} = {word}" for name, word in words.items()]
    destination = replayed(history, seed, mode, mask_columns=entries, mask_secret=SECRET)
    for schema in history.tables:
        layout = change_table(schema, []).schema.field("after").type
        own = {column.name: words[column.name] for column in schema.columns if column.name in words}
        rules = naive.Rules(masked={name: model(word, layout.field(name).type) for name, word in own.items()})
        rows = destination.targets[schema.name].rows
        if mode is WriteMode.MIRROR:
            rows, expected = rows.drop_columns(["__outliers"]), naive.mirror(history.stream, schema, rules)
        else:
            rows, expected = rows.drop_columns(LOG_FIELDS), naive.log(history.stream, schema, rules)
            expected = [_as_logged(row, own) for row in expected]
        found = [row if row.get("__op") != "t" else {"__op": "t"} for row in rows.to_pylist()]
        found = [_as_logged(row, own) for row in found] if mode is WriteMode.APPEND else found
        assert naive.canonical(found, rows.schema) == naive.canonical(expected, rows.schema), schema.name


def _as_logged(row: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    """A constant stands in every row of a log but those of deletions, where nothing but the key does."""
    return {name: None if words.get(name, "").startswith("redact:") else cell for name, cell in row.items()}


@pytest.mark.parametrize(
    ("word", "value", "text"),
    [
        ("int8", -5, "-5"),
        ("bool", True, "t"),
        ("text", "ünïcode", "ünïcode"),
        ("text", "", ""),
        ("date", datetime.date(2024, 2, 29), "2024-02-29"),
        ("numeric(10,2)", decimal.Decimal("1.50"), "1.50"),
        ("uuid", uuid.UUID(int=7).bytes, str(uuid.UUID(int=7))),
        ("timestamptz", datetime.datetime(2024, 1, 1, 12, 30, tzinfo=datetime.UTC), "2024-01-01 12:30:00+00"),
        ("bytea", b"\x01\xff", "\\x01ff"),
        ("text[]", ["a", None], "{a,NULL}"),
        ("date", Outlier("infinity"), "infinity"),
        ("numeric(10,2)", Outlier("NaN"), "NaN"),
    ],
)
@pytest.mark.parametrize("how", ["hash", "hmac", "token"])
def test_the_text_postgresql_prints_is_hashed(word: str, value: Any, text: str, how: str) -> None:
    schema = table("public.t", {"id": "int8", "v": word}, key=["id"])
    stage = staged(WriteMode.MIRROR, mask_columns=f"v = {how}", mask_secret=SECRET)
    [row] = stage.changed(shaped(stage, schema), change_table(schema, [insert(1, value)])).to_pylist()
    assert row["after"]["v"] == HASHES[how](text.encode())
    assert row["outliers"] is None


@pytest.mark.parametrize("length", [16, 63, 64, 65, 200])
def test_the_keyed_hash_is_hmac_of_rfc_2104(length: int) -> None:
    secret = "x" * length
    stage = staged(WriteMode.MIRROR, mask_columns="name = hmac", mask_secret=secret)
    [row] = stage.changed(shaped(stage, USERS), change_table(USERS, [insert("a", "b", None, 1)])).to_pylist()
    assert row["after"]["name"] == hmac.digest(secret.encode(), b"b", "sha256").hex()


def test_old_and_new_keys_are_masked_alike() -> None:
    stage = staged(WriteMode.MIRROR, mask_columns="email = hmac", mask_secret=SECRET)
    steps = [update("b", "x", None, 1, old=["a"]), delete("b")]
    moved, gone = stage.changed(shaped(stage, USERS), change_table(USERS, steps)).to_pylist()
    assert moved["before"]["email"] == keyed(b"a")
    assert moved["after"]["email"] == keyed(b"b") == gone["before"]["email"]
    assert [column.name for column in target(stage.shape(USERS)) if column.is_key] == ["email"]


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("options", [{"mask_columns": "k = hash"}, {"meta_enabled": True}])
def test_a_key_outside_its_type_that_was_not_sent_again_is_that_of_the_old_row(options: dict[str, Any]) -> None:
    schema = table("shop.t", {"k": "int4[]", "n": "int4"}, key=["k"])
    shape = Outlier("{{1},{2}}")
    stage = staged(WriteMode.APPEND, **options)
    changes = change_table(schema, [insert(shape, 1), update(None, 2, old=[shape], unchanged=["k"])])
    first, *others = stage.changed(shaped(stage, schema), changes).to_pylist()
    for row in others:
        assert row["after"]["k"] == first["after"]["k"]
        if "mask_columns" not in options:
            assert {"column": 0, "text": shape.text} in row["outliers"]


def target(shape: Shape | None) -> tuple[Column, ...]:
    assert shape is not None
    return shape.target.columns


@pytest.mark.must_not_fail(7)
def test_a_masked_value_that_was_not_sent_stays_unsent_and_a_redacted_one_is_known() -> None:
    stage = staged(WriteMode.MIRROR, mask_columns=["name = hash", "born = redact", "n = redact: x"])
    step = update("a", None, None, None, unchanged=["name", "born", "n"])
    [row] = stage.changed(shaped(stage, USERS), change_table(USERS, [step])).to_pylist()
    assert row["unchanged"] == [1]
    assert row["after"] == {"email": "a", "name": None, "born": None, "n": "x"}


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("how", ["hash", "hmac", "token", "redact", "redact: x", "excluded"])
def test_no_byte_of_a_masked_value_leaves_the_stage(how: str) -> None:
    """Buffers are looked at, not cells: a value behind a null would travel along."""
    hidden = "the value nobody shall see"
    changes = change_table(USERS, [insert("a", hidden, Outlier(hidden), 1), update("a", hidden, None, 1), delete("a")])
    if how != "excluded":
        stage = staged(WriteMode.MIRROR, mask_columns=[f"name = {how}", f"born = {how}"], mask_secret=SECRET)
    else:
        stage = staged(WriteMode.MIRROR, exclude_columns=["name", "born"])
    batch = stage.changed(shaped(stage, USERS), changes)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    assert hidden.encode() not in sink.getvalue().to_pybytes()
    assert hidden.encode() not in b"".join(bytes(b) for b in _buffers(batch))


def _buffers(batch: pa.RecordBatch) -> list[pa.Buffer]:
    return [buffer for column in batch.columns for buffer in column.buffers() if buffer is not None]


@pytest.mark.must_not_fail(24)
def test_the_default_of_an_added_column_is_masked_too() -> None:
    added = Column("name", USERS.columns[1].type, missing="the default")
    schema = table("shop.users", {"id": "int8"}, key=["id"])
    schema = type(schema)(schema.oid, schema.name, (*schema.columns, added), schema.identity)
    hashed = target(staged(WriteMode.MIRROR, mask_columns="name = hash").shape(schema))[1]
    assert hashed.missing == digest(b"the default")
    assert target(staged(WriteMode.MIRROR, mask_columns="name = redact").shape(schema))[1].missing is None
    assert target(staged(WriteMode.MIRROR, mask_columns="name = redact: x").shape(schema))[1].missing == "x"


def test_equal_values_of_different_types_can_be_joined() -> None:
    schema = table("public.t", {"id": "int8", "a": "int4", "b": "text"}, key=["id"])
    stage = staged(WriteMode.MIRROR, mask_columns=["a = token", "b = token"], mask_secret=SECRET)
    [row] = stage.changed(shaped(stage, schema), change_table(schema, [insert(1, 7, "7")])).to_pylist()
    assert row["after"]["a"] == row["after"]["b"]


def test_the_key_of_a_mirror_is_never_redacted() -> None:
    [finding] = staged(WriteMode.MIRROR, mask_columns="email = redact").findings((USERS,))
    assert (finding.code, finding.subject) == ("transform-key-redacted", "column shop.users.email")
    assert staged(WriteMode.APPEND, mask_columns="email = redact").findings((USERS,)) == []


@pytest.mark.must_not_fail(24)
def test_a_mask_whose_column_is_gone_stops_the_table() -> None:
    """The source renamed the column, before this life: under its new name it would arrive as it is."""
    stage = staged(WriteMode.MIRROR, mask_columns="shop.users.name = hash")
    renamed = table("shop.users", {"email": "text", "full_name": "text"}, key=["email"], version=2)
    with pytest.raises(Refused, match="mask_columns is not there"):
        stage.shape(renamed)


@pytest.mark.parametrize(
    ("kind", "text", "same"), [("float8", "5", 5.0), ("float4", "1e+20", 1e20), ("bool", "t", True)]
)
def test_a_default_is_masked_like_the_same_value_of_a_row(kind: str, text: str, same: Any) -> None:
    schema = table("shop.t", {"id": "int8", "x": kind}, key=["id"])
    schema = replace(schema, columns=(schema.columns[0], replace(schema.columns[1], missing=text)))
    stage = staged(WriteMode.MIRROR, mask_columns="x = hash")
    [row] = stage.changed(shaped(stage, schema), change_table(schema, [insert(1, same)])).to_pylist()
    assert target(stage.shape(schema))[1].missing == row["after"]["x"]


def test_equal_rows_of_a_table_without_a_key_stay_equal() -> None:
    schema = table("public.e", {"kind": "text", "n": "int4"}, identity=ReplicaIdentity.FULL)
    stage = staged(WriteMode.MIRROR, mask_columns="kind = redact")
    assert stage.findings((schema,)) == []
    [row] = stage.changed(shaped(stage, schema), change_table(schema, [delete("a", 1)])).to_pylist()
    assert row["before"] == {"kind": None, "n": 1}


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"mask_columns": "email"}, "mask_columns", "form NAME ="),
        ({"mask_columns": "email = sha1"}, "mask_columns", "no mask of that name"),
        ({"mask_columns": "email = hash: x"}, "mask_columns", "for redact only"),
        ({"mask_columns": "email = hmac"}, "mask_secret", "required"),
        ({"mask_columns": "email = token", "mask_secret": "short"}, "mask_secret", "at least 16"),
    ],
)
def test_a_rule_that_is_none_is_named(options: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransformOptions.of(options, mode=WriteMode.MIRROR)
    assert caught.value.where["field"] == field
    assert rule in caught.value.message
    assert "short" not in str(caught.value)


@pytest.mark.must_not_fail(24)
def test_the_secret_is_never_shown() -> None:
    options = TransformOptions.of({"mask_columns": "email = hmac", "mask_secret": SECRET}, mode=WriteMode.MIRROR)
    stage = staged(WriteMode.MIRROR, mask_columns="email = hmac", mask_secret=SECRET)
    assert SECRET not in repr(options) + repr(shaped(stage, USERS)) + str(options)
