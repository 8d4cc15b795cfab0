"""Targets that follow the source's columns and keys, and those of others that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.sinks.postgres.conftest import Driver
from wallaby.errors import Refused
from wallaby.schema import TableSchema
from wallaby.testing.changes import NewShape, Stream, insert, table

pytestmark = pytest.mark.must_not_fail(11)

BEFORE = table("public.t", {"id": "int4", "a": "text", "b": "text"}, key=["id"])


def shape(*described: tuple[str, int], key: str = "id") -> TableSchema:
    """Columns by name and attribute number; ``id`` is an integer, the others are text."""
    names = {name: "int4" if number == 1 else "text" for name, number in described}
    made = table("public.t", names, key=[key], version=2)
    numbered = (replace(column, attnum=number) for column, (_, number) in zip(made.columns, described, strict=True))
    return replace(made, columns=tuple(numbered))


def followed(drive: Callable[..., Driver], after: TableSchema, *prepare: str) -> Driver:
    """A target with one row of the old shape that then sees the new one."""
    driver = drive()
    driver.database.execute(*prepare)
    stream = Stream()
    stream.transaction([(BEFORE, insert(1, "a", "b"))])
    stream.transaction([NewShape(after)])
    driver.sink.ensure_table(BEFORE)
    driver.apply(*stream.windows())
    return driver


def test_columns_are_renamed_also_when_they_swap_names(drive: Callable[..., Driver]) -> None:
    driver = followed(drive, shape(("id", 1), ("b", 2), ("a", 3)))
    assert driver.database.fetch("SELECT id, a, b FROM t") == [(1, "b", "a")]


def test_a_dropped_column_stays_until_another_takes_its_name(drive: Callable[..., Driver]) -> None:
    driver = followed(drive, shape(("id", 1), ("b", 3)))
    assert driver.database.fetch("SELECT id, a, b FROM t") == [(1, "a", "b")]
    driver.sink.ensure_table(replace(shape(("id", 1), ("b", 3), ("a", 4)), version=3))
    assert driver.database.fetch("SELECT id, a, b FROM t") == [(1, None, "b")]


def test_a_renamed_key_stays_the_key(drive: Callable[..., Driver]) -> None:
    driver = followed(drive, shape(("number", 1), ("a", 2), ("b", 3), key="number"))
    assert driver.database.fetch("SELECT number, a, b FROM t") == [(1, "a", "b")]


def test_another_key_replaces_the_primary_key_and_none_removes_it(drive: Callable[..., Driver]) -> None:
    driver = followed(drive, shape(("id", 1), ("a", 2), ("b", 3), key="a"))
    indexed = "SELECT pg_get_indexdef(indexrelid) LIKE '%(a)' FROM pg_index WHERE indrelid = 't'::regclass"
    assert driver.database.fetch(indexed) == [(True,)]
    keyless = shape(("id", 1), ("a", 2), ("b", 3))
    columns = tuple(replace(column, is_key=False) for column in keyless.columns)
    driver.sink.ensure_table(replace(keyless, columns=columns, version=3))
    assert driver.database.fetch(indexed) == []
    driver.database.execute("INSERT INTO t VALUES (NULL, NULL, NULL)")


def test_a_key_that_the_rows_contradict_is_refused_with_a_sentence(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.sink.ensure_table(BEFORE)
    driver.database.execute("INSERT INTO t VALUES (1, 'same', 'x'), (2, 'same', 'y')")
    with pytest.raises(Refused, match=r"unique index on exactly \(a\)"):
        driver.sink.ensure_table(shape(("id", 1), ("a", 2), ("b", 3), key="a"))
    assert driver.database.fetch("SELECT count(*) FROM t") == [(2,)]


def test_a_view_that_needs_a_column_keeps_it_and_the_flow_says_so(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.sink.ensure_table(BEFORE)
    driver.database.execute("CREATE VIEW v AS SELECT a FROM t")
    with pytest.raises(Refused, match="column a was made again"):
        driver.sink.ensure_table(shape(("id", 1), ("b", 3), ("a", 4)))


@pytest.mark.parametrize(
    ("after", "difference"),
    [
        (shape(("id", 1), ("z", 2), ("b", 3)), "column a is called z"),
        (shape(("id", 1), ("b", 3), ("a", 4)), "column a was made again"),
    ],
)
def test_a_table_of_others_is_not_rebuilt(drive: Callable[..., Driver], after: TableSchema, difference: str) -> None:
    with pytest.raises(Refused, match=difference):
        followed(drive, after, "CREATE TABLE t (id int PRIMARY KEY, a text, b text)")


def test_older_rows_get_the_constant_they_have_at_the_source(drive: Callable[..., Driver]) -> None:
    after = shape(("id", 1), ("a", 2), ("b", 3), ("new", 4))
    after = replace(after, columns=(*after.columns[:3], replace(after.columns[3], missing="it's")))
    driver = followed(drive, after)
    driver.database.execute("INSERT INTO t (id) VALUES (2)")
    assert driver.database.fetch("SELECT id, new FROM t ORDER BY id") == [(1, "it's"), (2, None)]


def test_a_register_of_an_older_wallaby_is_extended(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.sink.ensure_table(BEFORE)
    driver.database.execute("ALTER TABLE wallaby.tables DROP columns")
    again = drive()
    assert again.sink.check((BEFORE,)) == []
    again.sink.ensure_table(shape(("id", 1), ("a", 2), ("b", 3), ("new", 4)))
    assert again.database.fetch("SELECT a, b, new FROM t") == []
