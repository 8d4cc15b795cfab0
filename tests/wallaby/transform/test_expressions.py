"""Row predicates and computed columns, against the model of one row at a time, and what an expression may not be."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallaby.transform import naive
from tests.wallaby.transform.stages import compared, shaped, staged
from wallaby.errors import ConfigError, Refused
from wallaby.flow.expressions import split_expressions
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import ReplicaIdentity
from wallaby.sink import WriteMode
from wallaby.testing.changes import Outlier, change_table, copied, delete, insert, table, update
from wallaby.testing.history import RandomHistory
from wallaby.transform.engine import Engine, NotAnExpression

ORDERS = table("public.orders", {"id": "int8", "note": "text", "n": "int4", "total": "numeric(12,2)"}, key=["id"])
PLAIN = (
    table("public.a", {"id": "int8", "n": "int4", "total": "numeric(12,2)", "active": "bool"}, key=["id"]),
    table("public.b", {"x": "int4", "n": "int4", "y": "int4"}, key=["x", "y"]),
    table("public.c", {"n": "int4", "w": "float8"}, identity=ReplicaIdentity.FULL),
    table("public.d", {"id": "int4", "n": "int4"}, identity=ReplicaIdentity.NOTHING),
    table("public.e", {"id": "int4", "n": "int4"}, key=["id"], identity=ReplicaIdentity.FULL),
)

Row = dict[str, Any]
PREDICATES: dict[str, Callable[[Row], bool]] = {
    "n > 0": lambda row: row["n"] is not None and row["n"] > 0,
    "n IS NULL OR n BETWEEN -100 AND 250": lambda row: row["n"] is None or -100 <= row["n"] <= 250,
    "CASE WHEN n < 0 THEN true ELSE abs(n) % 2 = 0 END": lambda row: (
        row["n"] is not None and (row["n"] < 0 or row["n"] % 2 == 0)
    ),
    "false": lambda _: False,
    "true": lambda _: True,
    "NULL::BOOLEAN": lambda _: False,
}
COMPUTED: dict[str, tuple[str, Callable[[Row], Any]]] = {
    "double": ("n::BIGINT * 2", lambda row: None if row["n"] is None else row["n"] * 2),
    "sign": ("CASE WHEN n IS NULL THEN 'none' ELSE 'some' END", lambda row: "none" if row["n"] is None else "some"),
    "one": ("1", lambda _: 1),
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.mark.must_not_fail(23)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    where=st.sampled_from(list(PREDICATES)),
    computed=st.sets(st.sampled_from(list(COMPUTED))),
    is_hashed=st.booleans(),
    mode=st.sampled_from([WriteMode.MIRROR, WriteMode.APPEND]),
)
def test_rows_that_leave_or_enter_a_predicate_are_what_the_model_says(
    seed: int, where: str, computed: set[str], is_hashed: bool, mode: WriteMode
) -> None:
    history = RandomHistory(seed, PLAIN, transactions=12, keys=5)
    rules = naive.Rules(
        where=PREDICATES[where],
        computed={name: COMPUTED[name][1] for name in sorted(computed)},
        masked={"n": lambda _: None} if is_hashed else {},
        renamed={"double": "twice"},
    )
    compared(
        history,
        seed,
        mode,
        rules,
        where=f"*: {where}",
        computed_columns=[f"{name} = {COMPUTED[name][0]}" for name in sorted(computed)],
        rename_columns="double = twice",
        mask_columns="n = redact" if is_hashed else "",
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), mode=st.sampled_from([WriteMode.MIRROR, WriteMode.APPEND]), soft=st.booleans())
def test_metadata_of_chosen_rows_is_what_the_model_says(seed: int, mode: WriteMode, soft: bool) -> None:
    """Without a predicate where deletions are soft: they do not go together."""
    history = RandomHistory(seed, [s for s in PLAIN if not s.is_keyless_full], transactions=12, keys=5)
    is_soft = soft and mode is WriteMode.MIRROR
    where = {} if is_soft else {"where": "*: n > 0"}
    rules = naive.Rules(
        where=None if is_soft else PREDICATES["n > 0"],
        computed={"double": COMPUTED["double"][1]},
        metadata={"meta_deleted": "gone", "meta_op": "op", "meta_position": "place"},
        soft_delete=is_soft,
    )
    options = {"meta_deleted": "gone", "meta_op": "op", "meta_position": "place", "meta_synced_at": "-"}
    compared(
        history,
        seed,
        mode,
        rules,
        computed_columns="double = n::BIGINT * 2",
        meta_watermark="-",
        soft_delete=is_soft,
        **options,
        **where,
    )


@pytest.mark.must_not_fail(7)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_column_computed_of_an_unchanged_value_is_unchanged(seed: int) -> None:
    orders = RandomHistory(0, transactions=0).tables[0]
    history = RandomHistory(seed, [orders], transactions=20, keys=4)
    rules = naive.Rules(
        computed={
            "loud": lambda row: None if row["note"] is None else row["note"] + "!",
            "next": lambda row: row["id"] + 1,
        }
    )
    options = {"computed_columns": ["public.orders.loud = note || '!'", "next = id + 1"]}
    compared(history, seed, WriteMode.MIRROR, rules, **options)


def changed(steps: list[Any], mode: WriteMode = WriteMode.MIRROR, **options: Any) -> list[Row]:
    stage = staged(mode, **options)
    found: list[Row] = stage.changed(shaped(stage, ORDERS), change_table(ORDERS, steps)).to_pylist()
    return found


@pytest.mark.must_not_fail(23)
def test_an_update_out_of_the_predicate_deletes_the_key_the_row_had() -> None:
    steps = [update(2, "x", -1, None, old=[1]), update(3, "x", -1, None), update(4, "x", 1, None), delete(5)]
    rows = changed([copied(9, "x", -1, None), insert(8, "x", None, None), *steps], where="orders: n > 0")
    assert [(chr(row["op"]), row["before"] and row["before"]["id"]) for row in rows] == [
        ("d", 1),
        ("d", 3),
        ("u", None),
        ("d", 5),
    ]
    assert [row["after"] and row["after"]["id"] for row in rows] == [None, None, 4, None]


@pytest.mark.must_not_fail(7)
@pytest.mark.parametrize("options", [{"where": "orders: note <> 'x'"}, {"computed_columns": "c = note || n::VARCHAR"}])
def test_a_value_that_was_not_sent_is_never_read_as_null(options: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="did not send") as caught:
        changed([update(1, None, 1, None, unchanged=["note"])], **options)
    assert "toast_fetch" in caught.value.advice
    assert "note" in caught.value.where["columns"]


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("options", [{"where": "orders: total > 0"}, {"computed_columns": "c = total + 1"}])
def test_a_value_outside_its_type_is_never_read_as_null(options: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="does not hold") as caught:
        changed([insert(1, "a", 1, Outlier("NaN"))], **options)
    assert caught.value.where["column"] == "total"
    assert len(changed([insert(1, "a", 1, Outlier("NaN"))], where="orders: n > 0")) == 1


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("options", [{"where": "orders: note::INTEGER > 0"}, {"computed_columns": "c = note::DATE"}])
def test_a_value_an_expression_fails_at_is_in_no_message(options: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        changed([insert(1, "a secret note", 1, None)], **options)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "try_cast" in caught.value.advice


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    "sql", ["'infinity'::DATE", "'infinity'::TIMESTAMP", "'4713-01-01 (BC)'::DATE", "['-infinity'::DATE]"]
)
def test_a_computed_date_no_column_holds_is_refused(sql: str) -> None:
    with pytest.raises(Refused, match="beyond what a column holds"):
        changed([insert(1, "a", 1, None)], computed_columns=f"c = {sql}")


@pytest.mark.parametrize(
    ("sql", "name", "typmod", "value"),
    [
        ("n > 0", "bool", -1, True),
        ("n::SMALLINT", "int2", -1, 7),
        ("n", "int4", -1, 7),
        ("id", "int8", -1, 1),
        ("n / 2", "float8", -1, 3.5),
        ("n::FLOAT", "float4", -1, 7.0),
        ("total * 2::DECIMAL(2,0)", "numeric", ((14 << 16) | 2) + 4, decimal.Decimal("3.00")),
        ("note || n", "text", -1, "a7"),
        ("note::BLOB", "bytea", -1, b"a"),
        ("DATE '2024-02-29'", "date", -1, datetime.date(2024, 2, 29)),
        ("TIME '01:02:03'", "time", -1, datetime.time(1, 2, 3)),
        ("TIMESTAMP '2024-01-01 00:00:00'", "timestamp", -1, datetime.datetime(2024, 1, 1)),
        (
            "'2024-01-01 00:00:00+00'::TIMESTAMPTZ",
            "timestamptz",
            -1,
            datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        ),
        ("'00000000-0000-0000-0000-000000000007'::UUID", "uuid", -1, (7).to_bytes(16, "big")),
        ("'{\"a\": 1}'::JSON", "json", -1, '{"a": 1}'),
        ("[note, NULL]", "_text", -1, ["a", None]),
        ("split_part(note, 'x', 1)", "text", -1, "a"),
        ("coalesce(nullif(n, 7), 0)", "int4", -1, 0),
        ("strftime(make_timestamp(0), '%Y')", "text", -1, "1970"),
    ],
)
def test_the_type_of_a_computed_column_is_that_of_its_expression(sql: str, name: str, typmod: int, value: Any) -> None:
    stage = staged(WriteMode.MIRROR, computed_columns=f"c = {sql}")
    column = shaped(stage, ORDERS).target.columns[-1]
    assert (column.name, column.type.name, column.typmod, column.is_key) == ("c", name, typmod, False)
    changes = change_table(ORDERS, [insert(1, "a", 7, decimal.Decimal("1.50"))])
    [row] = stage.changed(shaped(stage, ORDERS), changes).to_pylist()
    assert row["after"]["c"] == value


@pytest.mark.parametrize(
    "sql",
    [
        *("now()", "current_timestamp", "random()", "uuid()", "today()", "age(TIMESTAMP '2024-01-01')"),
        *("current_user", "current_setting('memory_limit')", "version()", "pg_backend_pid()", "txid_current()"),
        *("(SELECT 1)", "(SELECT max(n) FROM given)", "EXISTS (SELECT 1)", "n IN (SELECT 1)", "sum(n)"),
        *("row_number() OVER ()", "lag(n) OVER ()", "unnest([1, 2])", "*", "COLUMNS(*)"),
        *("read_text('x')", "read_csv('x')", "getenv('HOME')", "sleep_ms(1)", "nextval('x')", "error('x')", "$1", "?"),
        *("n; DROP TABLE given", "n) FROM given; SELECT (1", "1) UNION SELECT (2", "n AS m", "n FROM given", ""),
        *("nothing", "t.n", "public.orders.n", "n +", "'open", "note + 1", "{'a': n}", "no_such_function(n)"),
        *("hash(n)::VARCHAR", "note::JSON -> 'a'"),
        *("list_transform([n], lambda x: x + 1)", "getvariable('x')", "vector_type(n)", "n::HUGEINT", "(n, n)"),
    ],
)
def test_what_is_no_function_of_one_row_is_refused(sql: str, engine: Engine) -> None:
    with pytest.raises(NotAnExpression):
        engine.compiled(ORDERS, sql)


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(
    ("sql", "note", "value"),
    [
        ("(note::JSON ->> 'a')::DECIMAL(38,0)", '{"a": 99999999999999999999}', decimal.Decimal("99999999999999999999")),
        ("(note::JSON ->> 'a')::BIGINT", '{"a": 9007199254740993}', 9007199254740993),
        ("note::JSON ->> 'a'", '{"a": null}', None),
        ("note::JSON ->> 'a'", "null", None),
        ("note::JSON ->> 'a'", None, None),
        ("json_extract(note, '$.a')", '{"a": null}', "null"),
        ("json_extract(note, '$.a')", "{}", None),
        ("json_extract(note, '$.a')", '{"a": 1e400}', "1e400"),
        ('from_json(note, \'{"a": "BIGINT"}\').a', '{"a": 9007199254740993}', 9007199254740993),
        ('from_json(note, \'{"a": "BIGINT"}\').a', '{"a": 1.5}', 2),
        ('from_json(note, \'{"a": "BIGINT"}\').a', '{"a": 99999999999999999999}', None),
        ('from_json(note, \'{"a": "BIGINT"}\').a', "null", None),
        ("to_json(id)", "", "9007199254740993"),
    ],
)
def test_json_in_expressions_is_as_documented(sql: str, note: str | None, value: Any) -> None:
    stage = staged(WriteMode.MIRROR, computed_columns=f"c = {sql}")
    changes = change_table(ORDERS, [insert(9007199254740993, note, 7, None)])
    [row] = stage.changed(shaped(stage, ORDERS), changes).to_pylist()
    assert row["after"]["c"] == value


@pytest.mark.parametrize("sql", ['from_json_strict(note, \'{"a": "BIGINT"}\').a', "(note::JSON ->> 'a')::BIGINT"])
def test_a_number_that_does_not_fit_stops_where_it_is_not_tried(sql: str) -> None:
    with pytest.raises(Refused, match="has no value for a row"):
        changed([insert(1, '{"a": 99999999999999999999}', 7, None)], computed_columns=f"c = {sql}")


@pytest.mark.parametrize(
    "sql", ["TIMETZ '12:00' IS NULL", "hour(timezone('Europe/Berlin', note::TIMETZ))", "[note]::TIMETZ[]"]
)
def test_a_time_with_a_zone_is_refused_as_it_would_read_the_clock(sql: str, engine: Engine) -> None:
    with pytest.raises(NotAnExpression, match="depends on the clock"):
        engine.compiled(ORDERS, sql)


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("kind", ["numeric", "numeric(60,2)"])
@pytest.mark.parametrize(
    "sql",
    [
        *("price IN (1)", "CASE price WHEN 1 THEN true END", "price = '1.0'", "price < '12'", "price = 1.0"),
        *("list_contains([1], price)", "price || ''", "nullif(price, '0')", "coalesce(price, '0') = '0'"),
    ],
)
def test_a_numeric_that_comes_as_text_is_never_compared_as_text(kind: str, sql: str, engine: Engine) -> None:
    priced = table("public.prices", {"id": "int8", "price": kind}, key=["id"])
    with pytest.raises(NotAnExpression, match=r"cast, for example price::DECIMAL"):
        engine.compiled(priced, sql)


@pytest.mark.parametrize(
    "sql", ["price", "price::DECIMAL(38,9) > 0", "price IS NOT NULL", "try_cast(price AS FLOAT) > 1"]
)
def test_a_numeric_that_comes_as_text_can_be_cast(sql: str, engine: Engine) -> None:
    priced = table("public.prices", {"id": "int8", "price": "numeric"}, key=["id"])
    assert engine.compiled(priced, sql).reads == (1,)


def test_the_engine_reaches_neither_files_nor_settings(tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "x.csv").write_text("a\n1\n")
    connection = Engine()._connection
    for statement in (f"FROM '{tmp_path}/x.csv'", f"ATTACH '{tmp_path}/y.db'", f"COPY (SELECT 1) TO '{tmp_path}/z'"):
        with pytest.raises(duckdb.Error):
            connection.execute(statement)
    for statement in ("SET enable_external_access = true", "SET threads = 8", "INSTALL httpfs", "LOAD httpfs"):
        with pytest.raises(duckdb.Error):
            connection.execute(statement)


def test_the_engine_writes_no_row_to_disk() -> None:
    [(folder,)] = Engine()._connection.execute("SELECT current_setting('temp_directory')").fetchall()
    assert folder == ""


def test_an_expression_that_does_not_fit_is_a_finding_with_its_table_and_reason() -> None:
    stage = staged(WriteMode.MIRROR, where="orders: totl > 0", computed_columns="orders.c = n +")
    first, second = stage.findings((ORDERS, *PLAIN))
    assert (first.code, first.subject) == ("transform-expression", "table public.orders")
    assert "there is no column totl" in first.message
    assert (second.code, second.subject) == ("transform-expression", "column public.orders.c")
    with pytest.raises(Refused, match="totl"):
        stage.shape(ORDERS)
    [finding] = staged(WriteMode.MIRROR, where="orders: n + 1").findings((ORDERS,))
    assert "true or false" in finding.message
    [finding] = staged(WriteMode.MIRROR, computed_columns="orders.n = 1").findings((ORDERS,))
    assert finding.code == "transform-collision"


def test_names_of_every_kind_are_read() -> None:
    odd = table("public.odd", {"id": "int8", 'a "b"': "int4", "Mixed": "int4", "n": "int4"}, key=["id"])
    stage = staged(WriteMode.MIRROR, computed_columns='public.odd.c = "a ""b""" + mixed + n')
    [row] = stage.changed(shaped(stage, odd), change_table(odd, [insert(1, 2, 3, 4)])).to_pylist()
    assert row["after"]["c"] == 9


def test_values_of_marked_types_are_what_they_are() -> None:
    schema = table("public.t", {"id": "uuid", "doc": "jsonb", "big": "numeric(50,2)", "tags": "text[]"}, key=["id"])
    entries = ["c = doc ->> 'a'", "d = id::VARCHAR", "e = big::VARCHAR", "f = tags[1]", "g = id", "h = doc"]
    stage = staged(WriteMode.MIRROR, computed_columns=entries)
    row = (bytes(15) + b"\x07", '{"a": "x"}', decimal.Decimal("1.50"), ["p", "q"])
    [found] = stage.changed(shaped(stage, schema), change_table(schema, [insert(*row)])).to_pylist()
    after = found["after"]
    assert [after[name] for name in "cdef"] == ["x", "00000000-0000-0000-0000-000000000007", "1.50", "p"]
    assert (after["g"], after["h"]) == (row[0], row[1])


@pytest.mark.parametrize(
    ("given", "entries"),
    [
        ("a: coalesce(x, 0) > 1, b: y IN (1, 2)", ("a: coalesce(x, 0) > 1", "b: y IN (1, 2)")),
        (["a: x = ',('", 'b: "q,(" = 1'], ("a: x = ',('", 'b: "q,(" = 1')),
        ("a: x = 'it''s, so', b: [1, 2][1] = 1", ("a: x = 'it''s, so'", "b: [1, 2][1] = 1")),
        ("", ()),
        (None, ()),
    ],
)
def test_a_list_of_expressions_reads_the_same_as_text_with_commas(given: Any, entries: tuple[str, ...]) -> None:
    assert split_expressions(given) == entries
    assert split_expressions(",".join(entries)) == entries


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"where": "orders total > 0"}, "where", "form NAME :"),
        ({"where": "orders: (n"}, "where", "lacks a closing )"),
        ({"where": "orders: n)"}, "where", "out of place"),
        ({"where": "orders: $$a$$ = 'b'"}, "where", "out of place"),
        ({"where": 5}, "where", "list of text"),
        ({"computed_columns": "orders.* = 1"}, "computed_columns", "without stars"),
        ({"where": "*: true", "soft_delete": True}, "soft_delete", "does not go with where"),
    ],
)
def test_a_rule_that_is_none_is_named(options: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransformOptions.of(options, mode=WriteMode.MIRROR)
    assert caught.value.where["field"] == field
    assert rule in caught.value.message
