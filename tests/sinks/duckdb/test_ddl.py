"""From one shape of a table to the next."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from sinks.duckdb.config import read_options
from sinks.duckdb.ddl import TargetColumn, TargetName, change, moved_columns, read_columns, widens
from sinks.duckdb.session import FileSession
from sinks.duckdb.types import decimal_text
from wallaby.testing.changes import values

TARGET = TargetName("public", "orders")


def columns(*described: str) -> tuple[TargetColumn, ...]:
    """``name TYPE attnum`` each."""
    split = [text.split() for text in described]
    return tuple(TargetColumn(name, kind, int(number)) for name, kind, number in split)


def owned(*described: str) -> tuple[tuple[str, int], ...]:
    return tuple((column.name, column.attnum) for column in columns(*described))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SMALLINT", "BIGINT"),
        ("UINTEGER", "BIGINT"),
        ("FLOAT", "DOUBLE"),
        ("DECIMAL(10,2)", "DECIMAL(12,4)"),
        ("INTEGER", "DECIMAL(20,2)"),
        ("DECIMAL(38,2)", "VARCHAR"),
        ("UUID", "VARCHAR"),
        ("INTEGER[]", "BIGINT[]"),
    ],
)
def test_a_type_widens_in_one_direction(old: str, new: str) -> None:
    assert widens(old, new)
    assert not widens(new, old)


def test_columns_are_added_and_types_widened() -> None:
    plan = change(TARGET, columns("id INTEGER 1", "old VARCHAR 2"), columns("id BIGINT 1", "new DATE 3"))
    assert plan.unfit == ()
    assert plan.statements == (
        'ALTER TABLE "public"."orders" ALTER "id" TYPE BIGINT',
        'ALTER TABLE "public"."orders" ADD COLUMN "new" DATE',
    )


@pytest.mark.must_not_fail(11)
def test_a_new_column_comes_with_the_constant_older_rows_have_or_not_at_all() -> None:
    had = columns("id INTEGER 1")
    plan = change(TARGET, had, (*had, TargetColumn("n", "DECIMAL(8,2)", 2, missing="1.50")))
    assert [statement.split('orders" ')[1] for statement in plan.statements] == [
        "ADD COLUMN \"n\" DECIMAL(8,2) DEFAULT '1.50'",
        'ALTER "n" DROP DEFAULT',
    ]
    refused = change(TARGET, had, (*had, TargetColumn("b", "BLOB", 2, missing="\\x00")))
    assert refused.statements == ()
    assert "column b was added with a default" in refused.unfit[0]


def test_an_unlike_type_is_a_reason_with_both_types() -> None:
    plan = change(TARGET, columns("id INTEGER 1"), columns("id DATE 1"))
    assert plan.unfit == ("column id is INTEGER, the source needs DATE",)


@pytest.mark.must_not_fail(22)
@pytest.mark.parametrize("name", ["orders", 'a"b.c', "ORDERS", "select"])
def test_an_existing_tables_columns_are_read_by_its_name(name: str, path: Path) -> None:
    session = FileSession(read_options({"dsn": str(path)}))
    session.connect()
    target = TargetName("Shop's", name, session.catalog)
    assert read_columns(session, target) is None
    session.query(f"CREATE SCHEMA {target.schema_sql}")
    assert read_columns(session, target) is None
    made = 'id BIGINT NOT NULL, "n m" DECIMAL(10,2) NOT NULL DEFAULT 3, tags VARCHAR[]'
    session.query(f"CREATE TABLE {target.sql} ({made})")
    assert read_columns(session, replace(target, table=name.lower())) == (
        TargetColumn("id", "BIGINT", required=True),
        TargetColumn("n m", "DECIMAL(10,2)"),
        TargetColumn("tags", "VARCHAR[]"),
    )
    session.close()


@pytest.mark.must_not_fail(11)
def test_attribute_numbers_tell_a_rename_from_a_drop_and_an_add() -> None:
    had = columns("id BIGINT 1", "a INTEGER 2", "b INTEGER 3")
    moved = moved_columns(
        TARGET,
        had,
        owned("id BIGINT 1", "a INTEGER 2", "b INTEGER 3"),
        columns("id BIGINT 1", "z INTEGER 2", "n INTEGER 4"),
    )
    assert [statement.split('orders" ')[1] for statement in moved.statements] == [
        'DROP COLUMN "b"',
        'RENAME COLUMN "a" TO "z"',
    ]


@pytest.mark.must_not_fail(11)
def test_a_column_made_again_under_its_name_starts_anew() -> None:
    had = columns("id BIGINT 1", "a INTEGER 2", "b INTEGER 3")
    numbered = moved_columns(
        TARGET,
        had,
        owned("id BIGINT 1", "a INTEGER 2", "b INTEGER 3"),
        columns("id BIGINT 1", "b INTEGER 3", "a INTEGER 4"),
    )
    ordered = moved_columns(
        TARGET,
        columns("id BIGINT 0", "a INTEGER 0", "b DATE 0"),
        owned("id BIGINT 0", "a INTEGER 0", "b DATE 0"),
        columns("id BIGINT 0", "b DATE 0", "a INTEGER 0"),
    )
    assert numbered.statements == ordered.statements
    assert numbered.statements == ('ALTER TABLE "public"."orders" DROP COLUMN "a"',)


@pytest.mark.must_not_fail(11)
def test_without_numbers_a_possible_rename_stops() -> None:
    had = columns("id BIGINT 0", "a INTEGER 0")
    moved = moved_columns(TARGET, had, owned("id BIGINT 0", "a INTEGER 0"), columns("id BIGINT 0", "z INTEGER 0"))
    assert "renamed" in moved.unfit[0]


def test_columns_of_others_stay() -> None:
    had = columns("id BIGINT 0", "mine INTEGER 0")
    assert moved_columns(TARGET, had, owned("id BIGINT 0"), columns("id BIGINT 0")).statements == ()


def test_wide_decimals_print_all_their_digits() -> None:
    written = ["0.0000000001", "-0.0000000001", "123.5000000000", "-7.0000000000", None]
    cells = [None if text is None else Decimal(text) for text in written]
    column = pa.chunked_array([values(cells, pa.decimal256(50, 10))])
    assert decimal_text(column).to_pylist() == written
    assert decimal_text(column.slice(1, 3)).to_pylist() == written[1:4]
