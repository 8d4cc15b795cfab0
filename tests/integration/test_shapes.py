"""Tables of unusual shapes: no column, one, as many as PostgreSQL has, only generated ones, inherited, truncated."""

from __future__ import annotations

import pytest

from tests.integration.world import Content, World

_COLUMNS_MAX = 1600


def test_tables_without_columns_with_one_and_with_dropped_ones_mirror(world: World) -> None:
    world.execute(
        "CREATE TABLE none ()",
        "CREATE TABLE none_left (gone int)",
        "ALTER TABLE none_left DROP gone",
        "CREATE TABLE one (id int PRIMARY KEY)",
        "CREATE TABLE holes (a int, id int PRIMARY KEY, b text, c int, d text)",
        "ALTER TABLE holes DROP a, DROP c",
        "INSERT INTO none DEFAULT VALUES",
        "INSERT INTO one SELECT generate_series(1, 20)",
        "INSERT INTO holes SELECT g, 'b', 'd' FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    world.start()
    tables = ("one", "holes")
    world.require_equal(*tables)
    world.execute(
        "INSERT INTO none DEFAULT VALUES",
        "INSERT INTO none_left DEFAULT VALUES",
        "UPDATE one SET id = id + 100 WHERE id < 5",
        "DELETE FROM one WHERE id = 20",
        "UPDATE holes SET b = NULL WHERE id < 5",
        "DELETE FROM holes WHERE id = 20",
    )
    world.require_equal(*tables)
    assert len(world.mirror_rows("none")) == 2
    assert len(world.mirror_rows("none_left")) == 1


@pytest.mark.must_not_fail(7)
def test_sixteen_hundred_columns_with_large_values_among_them_mirror(world: World) -> None:
    """More than a page: nulls and short values keep the row legal; large values lie outside it."""
    columns = ", ".join(f"c{i} {'text' if i % 100 == 0 else 'bool'}" for i in range(1, _COLUMNS_MAX))
    world.execute(
        f"CREATE TABLE wide (id int2 PRIMARY KEY, {columns})",
        *(f"ALTER TABLE wide ALTER c{i} SET STORAGE EXTERNAL" for i in range(100, _COLUMNS_MAX, 100)),
        "INSERT INTO wide (id, c1, c100, c1500, c1599) SELECT g, true, repeat('x', 5000), repeat('y', 5000), false"
        " FROM generate_series(1, 40) AS g",
        f"INSERT INTO wide (id, {', '.join(f'c{i}' for i in range(1, _COLUMNS_MAX))})"
        f" SELECT 100, {', '.join(repr('t') for i in range(1, _COLUMNS_MAX))}",
        "CREATE PUBLICATION p FOR TABLE wide",
    )
    world.start()
    world.require_equal("wide")
    world.execute(
        "UPDATE wide SET c1599 = true, c2 = false WHERE id < 20",
        "UPDATE wide SET c1500 = 'short' WHERE id < 5",
        "UPDATE wide SET id = id + 1000 WHERE id BETWEEN 10 AND 12",
        "INSERT INTO wide SELECT * FROM wide WHERE false",
        "INSERT INTO wide (id, c1500) VALUES (200, repeat('z', 9000))",
        "DELETE FROM wide WHERE id = 30",
    )
    world.require_equal("wide")


@pytest.mark.must_not_fail(7)
def test_the_widest_tables_arrive_in_every_destination_that_can_hold_them(real_world: World) -> None:
    world = real_world
    world.destinations = ("postgres", "duckdb", "files")
    columns = ", ".join(f"c{i} {'text' if i % 400 == 0 else 'bool'}" for i in range(1, _COLUMNS_MAX - 1))
    world.execute(
        f"CREATE TABLE wide (id int2 PRIMARY KEY, {columns})",
        *(f"ALTER TABLE wide ALTER c{i} SET STORAGE EXTERNAL" for i in range(400, 1500, 400)),
        "INSERT INTO wide (id, c1, c400, c1200) SELECT g, true, repeat('x', 5000), repeat('y', 5000)"
        " FROM generate_series(1, 20) AS g",
        "CREATE PUBLICATION p FOR TABLE wide",
    )
    world.start()
    world.execute(
        "UPDATE wide SET c1598 = true, c2 = false WHERE id < 10",
        "UPDATE wide SET id = id + 1000 WHERE id BETWEEN 7 AND 12",
        "INSERT INTO wide (id, c1200) VALUES (200, repeat('z', 9000))",
        "DELETE FROM wide WHERE id = 15",
    )
    world.require_equal("wide")


def test_a_table_too_wide_to_be_applied_is_refused_with_a_sentence(real_world: World) -> None:
    world = real_world
    world.destinations = ("postgres",)
    columns = ", ".join(f"c{i} bool" for i in range(1, _COLUMNS_MAX))
    world.execute(f"CREATE TABLE wide (id int2 PRIMARY KEY, {columns})", "CREATE PUBLICATION p FOR TABLE wide")
    error = world.start_and_fail()
    assert "1600 columns" in str(error)
    assert "column list" in str(error)


def test_a_table_without_columns_is_refused_by_duckdb_with_a_sentence(real_world: World) -> None:
    world = real_world
    world.destinations = ("duckdb",)
    world.execute("CREATE TABLE none ()", "CREATE PUBLICATION p FOR TABLE none")
    assert "without columns" in str(world.start_and_fail())


def test_tables_without_a_value_keep_the_number_of_their_rows(real_world: World) -> None:
    world = real_world
    world.destinations = ("mirror", "log", "postgres", "files")
    world.execute(
        "CREATE TABLE none ()",
        "CREATE TABLE made (a int GENERATED ALWAYS AS (1) STORED)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO none DEFAULT VALUES",
        "INSERT INTO made DEFAULT VALUES",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    world.start()
    world.execute("INSERT INTO none DEFAULT VALUES", "INSERT INTO made DEFAULT VALUES", "INSERT INTO other VALUES (1)")
    world.require_equal("other")
    nothing = [Content(table, query=f"SELECT FROM public.{table}") for table in ("none", "made")]
    world.require_equal(*nothing, only=("mirror", "log", "postgres"))


def test_a_table_of_generated_columns_only_sends_rows_without_values(world: World) -> None:
    world.execute(
        "CREATE TABLE made (a int GENERATED ALWAYS AS (1) STORED, b text GENERATED ALWAYS AS ('x') STORED)",
        "INSERT INTO made DEFAULT VALUES",
        "CREATE PUBLICATION p FOR TABLE made",
    )
    world.start()
    world.execute("INSERT INTO made DEFAULT VALUES")
    world.caught_up()
    assert len(world.mirror_rows("made")) == 2


def test_generated_columns_are_neither_copied_nor_streamed_by_default(world: World) -> None:
    virtual = ", w int GENERATED ALWAYS AS (id * 3) VIRTUAL" if world.major >= 18 else ""
    world.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id * 2) STORED, note text{virtual})",
        "CREATE TABLE u (v int GENERATED ALWAYS AS (id * 2) STORED, id int, note text)",
        "ALTER TABLE u REPLICA IDENTITY FULL",
        "INSERT INTO t (id, note) SELECT g, 'copied' FROM generate_series(1, 9) AS g",
        "INSERT INTO u (id, note) SELECT id, note FROM t",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    world.start()
    world.require_equal("t", "u")
    world.execute(
        "UPDATE t SET id = id + 10 WHERE id < 4",
        "INSERT INTO t VALUES (30)",
        "INSERT INTO u (id) VALUES (30)",
    )
    world.require_equal("t", "u")
    if world.major < 18:  # 18 refuses to update a table whose identity it does not publish whole
        world.execute("UPDATE u SET note = NULL WHERE id < 4", "DELETE FROM u WHERE id = 9")
        world.require_equal("u")


@pytest.mark.must_not_fail(23)
@pytest.mark.parametrize("published", ["stored", "none", "listed"])
def test_published_generated_columns_are_copied_and_streamed_alike(world: World, published: str) -> None:
    world.needs(18, "publication of generated columns")
    listed = "t (id, v)" if published == "listed" else "t"
    option = "" if published == "listed" else f" WITH (publish_generated_columns = {published})"
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id * 2) STORED, note text,"
        " w int GENERATED ALWAYS AS (id * 3) VIRTUAL)",
        "INSERT INTO t (id, note) SELECT g, 'copied' FROM generate_series(1, 9) AS g",
        f"CREATE PUBLICATION p FOR TABLE {listed}{option}",
    )
    columns = {"stored": ("id", "v", "note"), "none": ("id", "note"), "listed": ("id", "v")}[published]
    world.start()
    world.require_equal(Content("t", columns))
    world.execute("UPDATE t SET id = id + 10 WHERE id < 4", "INSERT INTO t VALUES (30)", "DELETE FROM t WHERE id = 5")
    world.require_equal(Content("t", columns))


def test_parents_and_inheritance_children_are_tables_of_their_own(world: World) -> None:
    world.execute(
        "CREATE TABLE parent (id int PRIMARY KEY, note text)",
        "CREATE TABLE child (extra int, PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO parent VALUES (1, 'p')",
        "INSERT INTO child VALUES (1, 'c', 1), (2, 'c', 2)",
        "CREATE PUBLICATION p FOR TABLE parent",
    )
    world.start()
    world.execute(
        "UPDATE parent SET note = 'both'",
        "DELETE FROM parent WHERE id = 2",
        "INSERT INTO child VALUES (3, 'c', 3)",
        "INSERT INTO parent VALUES (4, 'p')",
    )
    world.require_equal(Content("parent", ("id", "note"), query="SELECT * FROM ONLY public.parent"), "child")
    world.execute("TRUNCATE ONLY parent", "INSERT INTO parent VALUES (5, 'after')")
    world.require_equal(Content("parent", ("id", "note"), query="SELECT * FROM ONLY public.parent"), "child")
    world.execute("TRUNCATE parent")
    world.require_equal("parent", "child")


def test_truncate_in_every_form_and_place_ends_right(world: World) -> None:
    world.execute(
        "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text)",
        "CREATE TABLE b (id int PRIMARY KEY REFERENCES a)",
        "CREATE TABLE c (id int PRIMARY KEY, note text)",
        "CREATE TABLE unpublished (id int PRIMARY KEY REFERENCES a)",
        "INSERT INTO a (note) SELECT 'copied' FROM generate_series(1, 9)",
        "INSERT INTO b SELECT id FROM a",
        "CREATE PUBLICATION p FOR TABLE a, b, c",
    )
    world.start()
    world.execute("TRUNCATE c", "TRUNCATE a CASCADE", "TRUNCATE b")
    world.require_equal("a", "b", "c")
    world.execute(
        "INSERT INTO a (note) VALUES ('x'), ('y')",
        "INSERT INTO b SELECT id FROM a",
        "BEGIN; INSERT INTO c VALUES (1, 'lost'); UPDATE a SET note = 'lost'; TRUNCATE a, c RESTART IDENTITY CASCADE;"
        " INSERT INTO a (note) VALUES ('kept'); INSERT INTO b VALUES (1); INSERT INTO c VALUES (1, 'kept');"
        " TRUNCATE c; INSERT INTO c VALUES (2, 'kept'); COMMIT",
        "BEGIN; TRUNCATE c; INSERT INTO c VALUES (3, 'undone'); ROLLBACK",
        "BEGIN; DELETE FROM b; SAVEPOINT s; TRUNCATE c; ROLLBACK TO s; UPDATE c SET note = 'still'; COMMIT",
    )
    world.require_equal("a", "b", "c")
    world.restart()
    world.execute("BEGIN; TRUNCATE c, b; INSERT INTO c VALUES (1, 'after'); COMMIT")
    world.require_equal("a", "b", "c")
    assert [row["__op"] for row in world.logged("c")][-2:] == ["t", "i"]


@pytest.mark.must_not_fail(14)
def test_deep_and_many_subtransactions_with_aborts_leave_the_right_rows_only(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t SELECT g, 'copied' FROM generate_series(1, 300) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    world.start()
    deep = ["BEGIN"]
    for depth in range(64):
        deep.append(f"SAVEPOINT s{depth}")
        deep.append(f"INSERT INTO t VALUES ({1000 + depth}, 'depth {depth}')")
        deep.append(f"UPDATE t SET note = 'depth {depth}' WHERE id = {1 + depth}")
    for depth in (63, 50, 49, 20):
        deep.append(f"ROLLBACK TO s{depth}")
        deep.append(f"INSERT INTO t VALUES ({2000 + depth}, 'after abort {depth}')")
    deep.append("RELEASE s10")
    world.execute("; ".join([*deep, "DELETE FROM t WHERE id = 300", "COMMIT"]))
    world.require_equal("t")
    world.execute("; ".join([*deep, "ROLLBACK"]).replace("VALUES (", "VALUES (9"))
    many = "; ".join(
        f"SAVEPOINT s; INSERT INTO t VALUES ({10_000 + i}, 'many'); {'ROLLBACK TO' if i % 3 == 0 else 'RELEASE'} s"
        for i in range(400)
    )
    world.execute(f"BEGIN; {many}; COMMIT")
    world.require_equal("t")
    assert len(world.mirror_rows("t")) == 299 + (20 + 1) + 266


def test_logical_messages_move_positions_and_nothing_else(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t")
    world.start()
    before = world.facts.position
    world.execute(
        "SELECT pg_logical_emit_message(false, 'wallaby', 'loose')",
        "SELECT pg_logical_emit_message(true, 'wallaby', 'in a transaction')",
        "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'x', 'between');"
        " SELECT pg_logical_emit_message(false, 'x', 'loose between'); INSERT INTO t VALUES (2); COMMIT",
        "BEGIN; INSERT INTO t VALUES (3); SELECT pg_logical_emit_message(true, 'x', 'undone'); ROLLBACK",
    )
    world.require_equal("t")
    world.execute("SELECT pg_logical_emit_message(true, '', repeat('x', 100000))")
    world.caught_up()
    assert world.facts.position > before
    assert [row["id"] for row in world.logged("t")] == [1, 2]


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize("binary", ["true", "false"])
@pytest.mark.parametrize("level", ["DATABASE {database}", "ROLE CURRENT_USER"])
def test_settings_of_the_server_role_and_database_alter_no_value(world: World, binary: str, level: str) -> None:
    target = level.format(database=world.database.name)
    settings = {
        "DateStyle": "'SQL, DMY'",
        "IntervalStyle": "sql_standard",
        "bytea_output": "escape",
        "extra_float_digits": "-5",
        "TimeZone": "'Asia/Kathmandu'",
        "row_security": "on",
        "search_path": "elsewhere",
        "client_encoding": "LATIN1",
        "statement_timeout": "'10min'",
        "xmlbinary": "hex",
    }
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, i interval, b bytea, f float8,"
        " r float4, n numeric, s text, t time, tt timetz, m money, ranges tstzrange, moments timestamptz[])",
    )
    if binary == "true":
        world.execute("ALTER TABLE t DROP tt, DROP m, DROP ranges")
    row = (
        "g, '2024-02-29', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+03', '1 year -2 days 3:04:05.6',"
        " '\\x00ff5c27', 1.0 / 3 * g, (1.0 / 3 * g)::real, 1.10, 'ünï → €', '23:59:59.999999'"
    )
    more = ", '12:00+05', '12.34', '[2024-01-01 00:00+00,)'" if binary == "false" else ""
    insert = f"INSERT INTO t SELECT {row}{more}, ARRAY['2024-02-29 00:00+00'::timestamptz, NULL] FROM generate_series"
    world.source_options["binary"] = binary
    world.execute(f"{insert}(1, 5) AS g", "CREATE PUBLICATION p FOR TABLE t")
    try:
        world.execute(*(f"ALTER {target} SET {name} = {value}" for name, value in settings.items()))
        world.start()
        world.execute(
            f"{insert}(6, 9) AS g".replace("INSERT INTO t", "INSERT INTO public.t"), "DELETE FROM public.t WHERE id = 2"
        )
        world.require_equal("t")
    finally:
        world.execute(f"ALTER {target} RESET ALL")
