"""The catalog and the stream must agree on every table's shape, whatever its identity, names and types."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wallaby.postgres.frames import commits, read_until, relations
from wallaby.lsn import Lsn
from wallaby.pgoutput.relations import Relation, RelationColumn
from wallaby.pgtypes.types import has_binary_kernel
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.replication import ReplicationStream
from wallaby.postgres.slot import create_slot, drop_slot
from wallaby.schema import PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.testing.postgres import ScratchDatabase


@pytest.fixture
def catalog(database: ScratchDatabase) -> Iterator[Catalog]:
    found = Catalog(database.dsn)
    yield found
    found.close()


def _streamed(database: ScratchDatabase, *statements: str, publication: str = "p") -> dict[str, Relation]:
    """What the stream says about the tables these statements change, each in a transaction of its own."""
    create_slot(database.dsn, database.name).close()
    try:
        database.execute(*statements)
        with ReplicationStream.open(
            database.dsn, slot=database.name, publications=[publication], start=Lsn(0)
        ) as stream:
            return relations(read_until(stream, commits(len(statements))))
    finally:
        drop_slot(database.dsn, database.name)


def _keys(schema: TableSchema) -> list[str]:
    return [schema.columns[i].name for i in schema.key]


@pytest.mark.must_not_fail(9)
def test_stream_and_catalog_agree_for_every_replica_identity(database: ScratchDatabase, catalog: Catalog) -> None:
    database.execute(
        "CREATE TABLE primary_key (a int, b int, c text, PRIMARY KEY (c, a))",
        "CREATE TABLE no_key (a int, b text)",
        "CREATE TABLE deferrable_key (a int PRIMARY KEY DEFERRABLE, b text)",
        "CREATE TABLE by_index (a int PRIMARY KEY, b int NOT NULL UNIQUE, c text)",
        "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_b_key",
        "CREATE TABLE lost_index (a int NOT NULL UNIQUE, b text)",
        "ALTER TABLE lost_index REPLICA IDENTITY USING INDEX lost_index_a_key",
        "ALTER TABLE lost_index DROP CONSTRAINT lost_index_a_key",
        "CREATE TABLE full_with_key (a int PRIMARY KEY, b text)",
        "ALTER TABLE full_with_key REPLICA IDENTITY FULL",
        "CREATE TABLE full_without_key (a int, b text)",
        "ALTER TABLE full_without_key REPLICA IDENTITY FULL",
        "CREATE TABLE covering (a int, b text, PRIMARY KEY (a) INCLUDE (b))",
        "CREATE TABLE nothing (a int PRIMARY KEY, b text)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    tables = {schema.name.name: schema for schema in catalog.published_tables(["p"])}
    values = dict.fromkeys(tables, "1, '1'") | {"primary_key": "1, 1, 'x'", "by_index": "1, 1, 'x'"}
    streamed = _streamed(database, *(f"INSERT INTO {name} VALUES ({row})" for name, row in values.items()))
    resolved = {name: catalog.resolve(relation) for name, relation in streamed.items()}
    assert {name: table.fingerprint for name, table in resolved.items()} == {
        name: table.fingerprint for name, table in tables.items()
    }
    assert {name: _keys(table) for name, table in tables.items()} == {
        "primary_key": ["a", "c"],
        "no_key": [],
        "deferrable_key": [],
        "by_index": ["b"],
        "lost_index": [],
        "full_with_key": ["a"],
        "full_without_key": ["a", "b"],
        "covering": ["a"],
        "nothing": [],
    }
    assert tables["full_without_key"].is_keyless_full
    assert not tables["full_with_key"].is_keyless_full
    assert tables["nothing"].identity is ReplicaIdentity.NOTHING
    assert {table.version for table in resolved.values()} == {1}
    assert not tables["primary_key"].columns[0].nullable
    assert tables["primary_key"].columns[1].nullable


@pytest.mark.must_not_fail(22)
def test_awkward_names_come_through_unchanged(database: ScratchDatabase, catalog: Catalog) -> None:
    database.execute(
        'CREATE SCHEMA "Sché.ma"',
        'CREATE TABLE "Sché.ma"."select" ("Id" int PRIMARY KEY, "a ""b"" c" text, "ünï.cödé" int)',
        'CREATE TABLE "select" ("Id" int PRIMARY KEY)',
        f'CREATE TABLE "{"n" * 63}" ("{"c" * 63}" int PRIMARY KEY)',
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    tables = {schema.name: schema for schema in catalog.published_tables(["p"])}
    assert set(tables) == {TableName("Sché.ma", "select"), TableName("public", "select"), TableName("public", "n" * 63)}
    streamed = _streamed(database, """INSERT INTO "Sché.ma"."select" VALUES (1, 'x', 2)""")
    schema = catalog.resolve(streamed["select"])
    assert schema.fingerprint == tables[TableName("Sché.ma", "select")].fingerprint
    assert [column.name for column in schema.columns] == ["Id", 'a "b" c', "ünï.cödé"]


def test_type_trees_name_what_types_are_made_of(database: ScratchDatabase, catalog: Catalog) -> None:
    database.execute(
        "CREATE EXTENSION hstore SCHEMA public",
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok'",
        "CREATE DOMAIN price AS numeric(10, 2)",
        "CREATE DOMAIN discount AS price CHECK (VALUE < 100)",
        "CREATE TYPE pair AS (x int, y discount)",
        "CREATE TABLE t (a mood[], b discount, c hstore, d pair, e int4range, f oidvector, g varchar(7)[])",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    [schema] = catalog.published_tables(["p"])
    types = {column.name: column.type for column in schema.columns}
    assert types["a"].kind is TypeKind.ARRAY
    assert types["a"].element is not None
    assert types["a"].element.labels == ("sad", "meh", "ok")
    assert types["b"].kind is TypeKind.DOMAIN
    assert types["b"].base is not None
    assert types["b"].base.base is not None
    assert (types["b"].base.base.name, types["b"].base.base_typmod) == ("numeric", ((10 << 16) | 2) + 4)
    assert (types["c"].name, types["c"].schema, types["c"].kind) == ("hstore", "public", TypeKind.BASE)
    assert types["d"].kind is TypeKind.COMPOSITE
    assert types["e"].kind is TypeKind.RANGE
    assert (types["f"].kind, types["f"].element) == (TypeKind.BASE, None)
    assert schema.columns[6].typmod == 11
    database.execute("ALTER TYPE mood ADD VALUE 'great'")
    [later] = catalog.published_tables(["p"])
    assert later.columns[0].type.element is not None
    assert later.columns[0].type.element.labels[-1] == "great"


@pytest.mark.must_not_fail(11)
def test_the_stream_wins_over_a_newer_catalog_and_versions_count_changes(
    database: ScratchDatabase, catalog: Catalog
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, old text NOT NULL, kept int)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    create_slot(database.dsn, database.name).close()
    try:
        database.execute(
            "INSERT INTO t VALUES (1, 'x', 1)",
            "ALTER TABLE t RENAME old TO new",
            "ALTER TABLE t ADD old bigint",
            "ALTER TABLE t DROP kept",
            "INSERT INTO t VALUES (2, 'y', 2)",
        )
        with ReplicationStream.open(database.dsn, slot=database.name, publications=["p"], start=Lsn(0)) as stream:
            frames = read_until(stream, commits(2))
    finally:
        drop_slot(database.dsn, database.name)
    first = catalog.resolve(relations(frames[: next(i for i, f in enumerate(frames) if f.kind == "C")])["t"])
    second = catalog.resolve(relations(frames)["t"])
    assert [(column.name, column.type.name) for column in first.columns] == [
        ("id", "int4"),
        ("old", "text"),
        ("kept", "int4"),
    ]
    assert first.columns[1].nullable, "the present column of that name is another one"
    assert first.columns[1].attnum == 0
    assert [column.name for column in second.columns] == ["id", "new", "old"]
    assert not second.columns[1].nullable
    assert (first.version, second.version) == (1, 2)
    assert catalog.resolve(relations(frames)["t"]).version == 2


def test_a_table_and_type_that_are_gone_still_resolve(catalog: Catalog) -> None:
    columns = (RelationColumn("id", 23, -1, True), RelationColumn("x", 4_000_001, -1, False))
    relation = Relation(4_000_000, "public", "gone", "d", columns)
    schema = catalog.resolve(relation)
    assert schema.columns[0].type.name == "int4"
    assert schema.columns[1].type.oid == 4_000_001
    assert schema.key == (0,)


@pytest.mark.must_not_fail(10)
@pytest.mark.parametrize("via_root", [True, False])
def test_partitions_are_sent_as_root_or_as_leaves(database: ScratchDatabase, catalog: Catalog, via_root: bool) -> None:
    database.execute(
        "CREATE TABLE root (id int PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE low (note text, dropped int, id int NOT NULL)",
        "ALTER TABLE low DROP dropped",
        "ALTER TABLE root ATTACH PARTITION low FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF root FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id)",
        "CREATE TABLE nested PARTITION OF high FOR VALUES FROM (10) TO (50)",
        f"CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = {str(via_root).lower()})",
    )
    tables = {schema.name.name: schema for schema in catalog.published_tables(["p"])}
    assert set(tables) == ({"root"} if via_root else {"low", "nested"})
    streamed = _streamed(database, "INSERT INTO root VALUES (1, 'a')", "INSERT INTO root VALUES (11, 'b')")
    # Sending as root, PostgreSQL announces the leaves, too (maybe_send_schema in pgoutput.c), but no change names them.
    assert {name: catalog.resolve(streamed[name]).fingerprint for name in tables} == {
        name: table.fingerprint for name, table in tables.items()
    }
    assert [table.is_partitioned for table in catalog.published(["p"])] == [via_root] * len(tables)


@pytest.mark.must_not_fail(23)
def test_column_lists_filters_and_generated_columns_follow_the_publication(
    database: ScratchDatabase, catalog: Catalog, postgres_major: int
) -> None:
    if postgres_major < 15:
        pytest.skip("PostgreSQL 14 has neither column lists nor row filters")
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, secret text, shown text, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "CREATE TABLE u (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "ALTER TABLE u REPLICA IDENTITY FULL",
        "CREATE TABLE v (id int PRIMARY KEY, n int)",
        "CREATE PUBLICATION p FOR TABLE t (id, shown) WHERE (id > 10), u, v WHERE (id > 10)",
        "CREATE PUBLICATION q FOR TABLE v WHERE (id < 5)",
    )
    tables = {table.schema.name.name: table for table in catalog.published(["p"])}
    assert [column.name for column in tables["t"].schema.columns] == ["id", "shown"]
    assert [column.name for column in tables["u"].schema.columns] == ["id"]
    assert tables["t"].row_filter is not None
    assert tables["u"].row_filter is None
    assert set(catalog.row_filters(["p"])) == {TableName("public", "t"), TableName("public", "v")}
    [either] = [table for table in catalog.published(["p", "q"]) if table.schema.name.name == "v"]
    assert either.row_filter is not None
    assert " OR " in either.row_filter
    streamed = _streamed(database, "INSERT INTO t VALUES (11, 's', 'x')", "INSERT INTO u VALUES (1)")
    assert {n: catalog.resolve(r).fingerprint for n, r in streamed.items()} == {
        n: tables[n].schema.fingerprint for n in ("t", "u")
    }


def test_it_asks_again_after_its_connection_died(database: ScratchDatabase, catalog: Catalog) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t")
    assert len(catalog.published_tables(["p"])) == 1
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'wallaby catalog'"
        " AND datname = current_database()"
    )
    assert len(catalog.published_tables(["p"])) == 1


def _resolved(catalog: Catalog) -> dict[str, PgType]:
    [table] = catalog.published_tables(["p"])
    return {column.name: column.type for column in table.columns}


def test_a_type_counts_as_an_extensions_only_when_it_belongs_to_it(database: ScratchDatabase, catalog: Catalog) -> None:
    """The schema an extension lives in says nothing, and neither does the name: anybody may call a type hstore."""
    database.execute(
        'CREATE SCHEMA "Odd one"',
        'CREATE EXTENSION hstore SCHEMA "Odd one"',
        "CREATE TYPE hstore",
        "CREATE FUNCTION word_in(cstring) RETURNS hstore AS 'textin' LANGUAGE internal IMMUTABLE STRICT",
        "CREATE FUNCTION word_out(hstore) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT",
        "CREATE TYPE hstore (INPUT = word_in, OUTPUT = word_out, LIKE = text)",
        'CREATE DOMAIN tags AS "Odd one".hstore',
        'CREATE TABLE t (theirs "Odd one".hstore, many "Odd one".hstore[], domain tags, domains tags[], own hstore)',
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    types = _resolved(catalog)
    assert types["theirs"].extension == "hstore"
    assert types["many"].element == types["theirs"]
    assert types["domain"].base == types["theirs"]
    assert types["domains"].element == types["domain"]
    assert (types["own"].name, types["own"].extension) == ("hstore", "")
    assert {name: has_binary_kernel(found) for name, found in types.items()} == {
        "theirs": True, "many": True, "domain": True, "domains": True, "own": False,
    }  # fmt: skip


def test_a_type_without_a_send_function_is_copied_as_text(database: ScratchDatabase, catalog: Catalog) -> None:
    """ltree had none before 1.2, and pg_upgrade keeps the extension's version: COPY in binary would fail."""
    database.execute(
        "CREATE EXTENSION ltree VERSION '1.1'",
        "CREATE TABLE t (path ltree)",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    assert not has_binary_kernel(_resolved(catalog)["path"])
    database.execute("ALTER EXTENSION ltree UPDATE")
    assert has_binary_kernel(_resolved(catalog)["path"])


def test_hstore_of_a_database_in_another_encoding_travels_as_text(database: ScratchDatabase) -> None:
    """hstore_send announces the lengths its strings have in the database's encoding, and sends them in the client's."""
    name = f"{database.name}_latin1"
    database.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'")
    latin1 = ScratchDatabase(database.server, name)
    try:
        latin1.execute(
            "CREATE EXTENSION hstore",
            "CREATE EXTENSION ltree",
            "CREATE TABLE t (tags hstore, path ltree)",
            "CREATE PUBLICATION p FOR ALL TABLES",
        )
        catalog = Catalog(latin1.dsn)
        try:
            types = _resolved(catalog)
        finally:
            catalog.close()
        assert {column: has_binary_kernel(found) for column, found in types.items()} == {"tags": False, "path": True}
    finally:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")
