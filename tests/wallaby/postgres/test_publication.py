"""Publications: made and extended as asked, twice is once, and nothing else is touched."""

from __future__ import annotations

import pytest

from wallaby.errors import CheckFailed
from wallaby.postgres.connect import connect
from wallaby.postgres.publication import PublicationFacts, create_statement, ensure_publication, read_publication
from wallaby.schema import TableName
from wallaby.testing.postgres import ScratchDatabase


def _ensure(
    database: ScratchDatabase,
    *,
    tables: tuple[str, ...] = (),
    schemas: tuple[str, ...] = (),
    create: bool = True,
    sync: str | None = None,
) -> PublicationFacts:
    with connect(database.dsn, application_name="test") as connection:
        return ensure_publication(connection, "P x", tables=tables, schemas=schemas, create=create, sync=sync)


def _names(facts: PublicationFacts) -> list[str]:
    return [str(table) for table in facts.tables]


@pytest.mark.must_not_fail(22)
def test_patterns_schemas_and_quoted_names_are_published(database: ScratchDatabase) -> None:
    database.execute(
        "CREATE TABLE a (id int)",
        'CREATE TABLE "B.b" (id int)',
        "CREATE SCHEMA one",
        "CREATE TABLE one.x (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE one.leaf PARTITION OF one.x FOR VALUES FROM (0) TO (1)",
        "CREATE VIEW one.v AS SELECT 1",
        "CREATE UNLOGGED TABLE one.u (id int)",
        'CREATE SCHEMA "Two"',
        'CREATE TABLE "Two".y (id int)',
        "CREATE TABLE unwanted (id int)",
    )
    made = _ensure(database, tables=("a", 'public."B.b"', "one.*"), schemas=("Two",))
    assert _names(made) == ['"Two".y', "one.x", 'public."B.b"', "public.a"]
    assert not made.all_tables
    assert made.via_root
    assert _ensure(database, tables=("a", 'public."B.b"', "one.*"), schemas=("Two",), sync="sync") == made


def test_an_existing_publication_is_changed_only_when_asked(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE a (id int)", "CREATE TABLE b (id int)", 'CREATE PUBLICATION "P x" FOR TABLE a')
    assert _names(_ensure(database, tables=("b",))) == ["public.a"]
    assert _names(_ensure(database, tables=("b",), sync="add")) == ["public.a", "public.b"]
    assert _names(_ensure(database, tables=("b",), sync="sync")) == ["public.b"]


def test_without_names_all_tables_are_published(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE a (id int)")
    assert _ensure(database).all_tables


def test_it_refuses_to_create_when_not_allowed_and_names_missing_tables(database: ScratchDatabase) -> None:
    with pytest.raises(CheckFailed, match="CREATE PUBLICATION"):
        _ensure(database, create=False)
    with pytest.raises(CheckFailed, match=r"public\.nowhere"):
        _ensure(database, tables=("nowhere",))
    with connect(database.dsn, application_name="test") as connection:
        assert read_publication(connection, "P x") is None


def test_the_statement_shown_to_people_is_the_one_that_runs() -> None:
    assert create_statement('p"', [TableName("S", "t")]) == (
        'CREATE PUBLICATION "p""" FOR TABLE "S"."t" WITH (publish_via_partition_root = true)'
    )
    assert create_statement("p", None, via_root=False) == 'CREATE PUBLICATION "p" FOR ALL TABLES'
