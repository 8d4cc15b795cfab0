"""Writes ``captures/``: what a real server sends for a few values of every built-in type, in binary and as text.

``python -m tests.fuzz.capture`` makes them anew; they are committed, so that the fuzzer needs no server. One
transaction per type: its Relation, inserts, updates with and without the key, a delete.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from tests.oracle.tables import make_types
from tests.oracle.values import ColumnType, array_of, scalar_types, text_types
from wallaby.lsn import Lsn
from wallaby.pgtypes.types import builtin_type
from wallaby.postgres.connect import connect
from wallaby.testing.pgoutput_writer import frame, xlog
from wallaby.testing.postgres import VERSIONS, scratch_database, server_for_tests

DIRECTORY: Final = Path(__file__).parent / "captures"
_LITERAL_MAX: Final = 80
_PEEK: Final = (
    b"SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes('capture', NULL, NULL, 'proto_version', '1', "
    b"'publication_names', %s, 'binary', %s)"
)


def payloads(name: str) -> list[bytes]:
    """The CopyData payloads of one capture: ``binary`` or ``text``."""
    data = gzip.decompress((DIRECTORY / f"{name}.gz").read_bytes())
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def main() -> None:
    """Capture from the newest major."""
    major = max(VERSIONS)
    rng = random.Random(major)
    with (
        server_for_tests(major) as server,
        scratch_database(server) as database,
        connect(database.dsn, application_name="capture") as connection,
    ):
        make_types(connection)
        kernels = _tables(connection, "k", scalar_types(), rng)
        others = _tables(connection, "o", text_types(), rng)
        _publish(connection, "binaries", kernels)
        _publish(connection, "texts", kernels | others)
        connection.execute("SELECT pg_create_logical_replication_slot('capture', 'pgoutput')")
        try:
            for table, column in (kernels | others).items():
                _fill(connection, table, column, rng)
            _write("binary", _peek(connection, "binaries", "true"))
            _write("text", _peek(connection, "texts", "false"))
        finally:
            connection.execute("SELECT pg_drop_replication_slot('capture')")


def _tables(
    connection: psycopg.Connection[Any], prefix: str, types: Iterable[ColumnType], rng: random.Random
) -> dict[str, ColumnType]:
    made: dict[str, ColumnType] = {}
    for number, column in enumerate(types):
        row = connection.execute("SELECT %s::regtype::oid", [column.sql]).fetchone()
        if row is None or builtin_type(row[0]) is None:
            continue
        made[f"{prefix}{number}"] = column
        statement = "CREATE TABLE {} (id int4 PRIMARY KEY, v " + column.sql + ", a " + column.sql + "[])"
        connection.execute(sql.SQL(statement).format(sql.Identifier(f"{prefix}{number}")))
    return made


def _fill(connection: psycopg.Connection[Any], table: str, column: ColumnType, rng: random.Random) -> None:
    name, array = sql.Identifier(table), array_of(column)
    with connection.transaction():
        for number in range(4):
            values = [_short(column, rng), None if number == 3 else _short(array, rng)]
            statement = sql.SQL("INSERT INTO {} VALUES ({}, {}, {})")
            connection.execute(statement.format(name, number, *map(sql.Literal, values)))
        connection.execute(sql.SQL("UPDATE {} SET v = NULL WHERE id = 1").format(name))
        connection.execute(sql.SQL("UPDATE {} SET id = 9 WHERE id = 2").format(name))
        connection.execute(sql.SQL("DELETE FROM {} WHERE id = 0").format(name))


def _short(column: ColumnType, rng: random.Random) -> str:
    while True:
        literal = column.literal(rng)
        if len(literal) <= _LITERAL_MAX:
            return literal


def _publish(connection: psycopg.Connection[Any], publication: str, tables: Iterable[str]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    connection.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(publication), names))


def _peek(connection: psycopg.Connection[Any], publication: str, binary: str) -> list[bytes]:
    rows = connection.execute(_PEEK, [publication, binary]).fetchall()
    return [xlog(data, int(Lsn.parse(lsn))) for lsn, data in rows]


def _write(name: str, found: Iterable[bytes]) -> None:
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{name}.gz").write_bytes(gzip.compress(b"".join(map(frame, found)), mtime=0))


if __name__ == "__main__":
    main()
