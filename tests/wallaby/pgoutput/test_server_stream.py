"""What a real server sends for updates, deletes, TOAST, truncation and DDL, read from its slot."""

from __future__ import annotations

import pytest

from tests.wallaby.pgoutput.streams import decode, resolve, rows
from wallaby.lsn import Lsn
from wallaby.pgoutput.decoder import Decoder, Event, LogicalMessage, Segment
from wallaby.testing.pgoutput_writer import xlog
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import Barrier, BarrierKind

BIG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) i)"


def _events(database: ScratchDatabase, *, is_binary: bool, statements: list[str]) -> list[Event]:
    """Decode what ``statements``, each its own transaction, leave in a slot made just before them."""
    with database.connect() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        try:
            for statement in statements:
                connection.execute(statement.encode())
            found = connection.execute(
                b"SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, 'proto_version', "
                b"'1', 'publication_names', 'p', 'messages', 'true', 'binary', %s)",
                [str(is_binary).lower()],
            ).fetchall()
        finally:
            connection.execute("SELECT pg_drop_replication_slot('s')")
    return decode((xlog(data, Lsn.parse(lsn)) for lsn, data in found), Decoder(resolve))


def _changes(events: list[Event]) -> list[tuple[str, object, object, object]]:
    return [(chr(row["op"]), row["before"], row["after"], row["unchanged"]) for row in rows(events, "t")]


@pytest.mark.must_not_fail(7, 8)
@pytest.mark.parametrize("is_binary", [True, False])
def test_updates_carry_old_keys_and_say_what_was_not_sent(database: ScratchDatabase, is_binary: bool) -> None:
    database.execute(
        "CREATE TABLE t (id int4 PRIMARY KEY, n int4, big text)",
        f"INSERT INTO t VALUES (1, 1, {BIG})",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    big = database.fetch("SELECT big FROM t")[0][0]
    events = _events(
        database,
        is_binary=is_binary,
        statements=[
            "UPDATE t SET n = 2",
            "UPDATE t SET id = 5",
            "UPDATE t SET big = big || 'x'",
            "DELETE FROM t",
        ],
    )
    assert _changes(events) == [
        ("u", None, {"id": 1, "n": 2, "big": None}, [2]),
        ("u", {"id": 1}, {"id": 5, "n": 2, "big": None}, [2]),
        ("u", None, {"id": 5, "n": 2, "big": big + "x"}, None),
        ("d", {"id": 5}, None, None),
    ]


@pytest.mark.must_not_fail(7, 9)
@pytest.mark.parametrize("is_binary", [True, False])
def test_identity_full_sends_whole_old_rows_and_leaves_nothing_unchanged(
    database: ScratchDatabase, is_binary: bool
) -> None:
    database.execute(
        "CREATE TABLE t (id int4, n int4, big text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        f"INSERT INTO t VALUES (1, 1, {BIG}), (2, NULL, NULL)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    big = database.fetch("SELECT big FROM t WHERE id = 1")[0][0]
    events = _events(database, is_binary=is_binary, statements=["UPDATE t SET n = 7", "DELETE FROM t WHERE id = 2"])
    assert _changes(events) == [
        ("u", {"id": 1, "n": 1, "big": big}, {"id": 1, "n": 7, "big": big}, None),
        ("u", {"id": 2, "n": None, "big": None}, {"id": 2, "n": 7, "big": None}, None),
        ("d", {"id": 2, "n": 7, "big": None}, None, None),
    ]


@pytest.mark.must_not_fail(10, 11, 14)
def test_ddl_truncation_rollback_and_messages_come_in_their_place(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE t (id int4 PRIMARY KEY, n int4)", "CREATE PUBLICATION p FOR TABLE t")
    script = """DO $$ BEGIN
        INSERT INTO t VALUES (1, 1);
        BEGIN INSERT INTO t VALUES (2, 2); RAISE EXCEPTION 'undone'; EXCEPTION WHEN OTHERS THEN NULL; END;
        PERFORM pg_logical_emit_message(true, 'mark', 'here');
        TRUNCATE t;
        ALTER TABLE t ADD COLUMN extra text DEFAULT 'd';
        INSERT INTO t VALUES (3, 3);
    END $$"""
    events = _events(database, is_binary=True, statements=[script, "INSERT INTO t VALUES (4, 4, 'e')"])
    kinds = [event.kind if isinstance(event, Barrier) else type(event) for event in events]
    assert kinds == [Segment, LogicalMessage, BarrierKind.TRUNCATE, BarrierKind.SCHEMA, Segment]
    assert [(row["ordinal"], row["after"]) for row in rows(events, "t")] == [
        (0, {"id": 1, "n": 1}),
        (2, {"id": 3, "n": 3, "extra": "d"}),
        (0, {"id": 4, "n": 4, "extra": "e"}),
    ]
    message = events[1]
    assert isinstance(message, LogicalMessage)
    assert (message.prefix, message.content, message.transactional) == ("mark", b"here", True)


@pytest.mark.must_not_fail(22)
def test_names_arrive_as_the_server_has_them(database: ScratchDatabase) -> None:
    name = 'Größe "a.b"' + "x" * 40
    quoted = '"' + name.replace('"', '""') + '"'
    database.execute(
        f"CREATE SCHEMA {quoted}",
        f'CREATE TABLE {quoted}.{quoted} ("select" int4 PRIMARY KEY, {quoted} text)',
        f"CREATE PUBLICATION p FOR TABLE {quoted}.{quoted}",
    )
    events = _events(database, is_binary=True, statements=[f"INSERT INTO {quoted}.{quoted} VALUES (1, 'x')"])
    assert [row["after"] for row in rows(events, name)] == [{"select": 1, name: "x"}]
