"""PostgreSQL servers for measuring, and slots filled with content that every subject reads from copies of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from wallaby.lsn import Lsn
from wallaby.postgres.embedded import EmbeddedServer
from wallaby.testing.postgres import postgres_binaries

MAJOR: Final = 18
DATABASE: Final = "bench"
SETTINGS: Final = {
    "shared_buffers": "512MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "wal_sender_timeout": "0",
}
"""Durable as delivered (fsync on); checkpoints and vacuum, which would strike some runs and not others, are out."""

NARROW: Final = "CREATE TABLE {name} (id int8 PRIMARY KEY, a int4, name text, at timestamptz, amount numeric(12,2))"
_numbers = itertools.count(1)


@contextmanager
def measuring_server() -> Iterator[EmbeddedServer]:
    """A running server of our own with an empty database ``bench``; gone with the block."""
    with EmbeddedServer(postgres_binaries(MAJOR), settings=SETTINGS) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())
        yield server


def program(name: str) -> Path:
    """A client program of the server's release."""
    return postgres_binaries(MAJOR) / name


@dataclass(frozen=True, slots=True)
class Content:
    """Changes waiting in a slot. Subjects read them from copies of it, which start at the same WAL."""

    dsn: str
    slot: str
    publication: str
    tables: tuple[str, ...]
    rows: int
    target: Lsn
    """End of the last transaction."""

    @contextmanager
    def copied_slot(self) -> Iterator[str]:
        """A fresh copy of the slot, dropped after the block. The server has written its dirty pages before."""
        name = f"run_{next(_numbers)}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            connection.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", [self.slot, name])
            try:
                yield name
            finally:
                connection.execute(
                    "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
                    " WHERE slot_name = %s AND active_pid IS NOT NULL",
                    [name],
                )
                connection.execute("SELECT pg_drop_replication_slot(%s)", [name])

    def drop(self) -> None:
        """Let go of the slot and its WAL."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [self.slot])


def narrow_inserts(server: EmbeddedServer, rows: int, *, per_transaction: int = 1000) -> Content:
    """Inserts into a narrow table (int8, int4, text, timestamptz, numeric)."""
    body = f"""
        FOR k IN 0 .. {max(1, rows // per_transaction)} - 1 LOOP
            INSERT INTO narrow SELECT g, g % 1000, 'name ' || g, now(), (g % 100000) / 100.0
            FROM generate_series(k * {per_transaction}::int8 + 1, (k + 1) * {per_transaction}::int8) g;
            COUNT;
            COMMIT;
        END LOOP;"""
    return _filled(server, "narrow", (NARROW.format(name="narrow"),), ("narrow",), body)


def inserts_and_updates(server: EmbeddedServer, rows: int, *, per_transaction: int = 1000) -> Content:
    """Half inserts, half updates of random rows inserted before; every update sends the whole row."""
    half = per_transaction // 2
    body = f"""
        PERFORM setseed(0.42);
        FOR k IN 0 .. {max(1, rows // per_transaction)} - 1 LOOP
            INSERT INTO mixed SELECT g, g % 1000, 'name ' || g, now(), (g % 100000) / 100.0
            FROM generate_series(k * {half}::int8 + 1, (k + 1) * {half}::int8) g;
            COUNT;
            UPDATE mixed SET a = a + 1, name = 'changed ' || id, amount = amount + 1 WHERE id IN
            (SELECT 1 + floor(random() * (k + 1) * {half})::int8 FROM generate_series(1, {half}));
            COUNT;
            COMMIT;
        END LOOP;"""
    return _filled(server, "mixed", (NARROW.format(name="mixed"),), ("mixed",), body)


def bank_transactions(server: EmbeddedServer, rows: int) -> Content:
    """Transactions as pgbench makes them: three updates and an insert, each transaction four changes in four tables."""
    tables = (
        "CREATE TABLE branches (bid int4 PRIMARY KEY, bbalance int4, filler char(88))",
        "CREATE TABLE tellers (tid int4 PRIMARY KEY, bid int4, tbalance int4, filler char(84))",
        "CREATE TABLE accounts (aid int4 PRIMARY KEY, bid int4, abalance int4, filler char(84))",
        "CREATE TABLE history (tid int4, bid int4, aid int4, delta int4, mtime timestamp, filler char(22))",
        "INSERT INTO branches SELECT g, 0, '' FROM generate_series(1, 50) g",
        "INSERT INTO tellers SELECT g, g % 50, 0, '' FROM generate_series(1, 500) g",
        "INSERT INTO accounts SELECT g, g % 50, 0, '' FROM generate_series(1, 100000) g",
    )
    body = f"""
        FOR k IN 1 .. {max(1, rows // 4)} LOOP
            UPDATE accounts SET abalance = abalance + k % 1000 WHERE aid = 1 + k * 7919::int8 % 100000; COUNT;
            UPDATE tellers SET tbalance = tbalance + k % 1000 WHERE tid = 1 + k % 500; COUNT;
            UPDATE branches SET bbalance = bbalance + k % 1000 WHERE bid = 1 + k % 50; COUNT;
            INSERT INTO history VALUES (k % 500, k % 50, k, k % 1000, now(), NULL); COUNT;
            COMMIT;
        END LOOP;"""
    return _filled(server, "bank", tables, ("branches", "tellers", "accounts", "history"), body)


def single_inserts(server: EmbeddedServer, rows: int) -> Content:
    """Inserts into a narrow table, each a transaction."""
    body = f"""
        FOR k IN 1 .. {rows} LOOP
            INSERT INTO single VALUES (k, k % 1000, 'name ' || k, now(), (k % 100000) / 100.0); COUNT;
            COMMIT;
        END LOOP;"""
    return _filled(server, "single", (NARROW.format(name="single"),), ("single",), body)


def document_inserts(server: EmbeddedServer, rows: int, *, per_transaction: int = 100) -> Content:
    """Inserts of JSON documents of a kilobyte."""
    body = f"""
        FOR k IN 0 .. {max(1, rows // per_transaction)} - 1 LOOP
            INSERT INTO documents SELECT g, json_build_object('number', g, 'text', repeat(md5(g::text), 30))
            FROM generate_series(k * {per_transaction}::int8 + 1, (k + 1) * {per_transaction}::int8) g;
            COUNT;
            COMMIT;
        END LOOP;"""
    tables = (
        "CREATE TABLE documents (id int8 PRIMARY KEY, document jsonb)",
        "ALTER TABLE documents ALTER document SET STORAGE EXTERNAL",
    )
    return _filled(server, "documents", tables, ("documents",), body)


def wide_inserts(server: EmbeddedServer, rows: int, *, per_transaction: int = 1000) -> Content:
    """Inserts into a table of 40 columns of eight types."""
    kinds = {
        "int4": "g::int4",
        "int8": "g * 7",
        "text": "'name ' || g",
        "timestamptz": "now()",
        "numeric(12,2)": "(g % 100000) / 100.0",
        "float8": "g * 1.5",
        "bool": "g % 2 = 0",
        "date": "current_date",
    }
    columns = list(itertools.islice(itertools.cycle(kinds.items()), 39))
    declared = ", ".join(f"c{number} {kind}" for number, (kind, _) in enumerate(columns))
    body = f"""
        FOR k IN 0 .. {max(1, rows // per_transaction)} - 1 LOOP
            INSERT INTO wide SELECT g, {", ".join(value for _, value in columns)}
            FROM generate_series(k * {per_transaction}::int8 + 1, (k + 1) * {per_transaction}::int8) g;
            COUNT;
            COMMIT;
        END LOOP;"""
    return _filled(server, "wide", (f"CREATE TABLE wide (id int8 PRIMARY KEY, {declared})",), ("wide",), body)


def one_transaction(server: EmbeddedServer, rows: int, name: str = "large") -> Content:
    """All rows inserted by one transaction."""
    body = f"""
        INSERT INTO {name} SELECT g, g % 1000, 'name ' || g, now(), (g % 100000) / 100.0
        FROM generate_series(1, {rows}::int8) g;
        COUNT;
        COMMIT;"""
    return _filled(server, name, (NARROW.format(name=name),), (name,), body)


def digest(dsn: str, table: str) -> tuple[Any, ...]:
    """Number of rows and the sum of their hashes: equal for equal tables."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET timezone = 'UTC'")
        query = f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} t"
        return connection.execute(query.encode()).fetchone() or ()


def empty_tables(server: EmbeddedServer, content: Content) -> None:
    """The content's tables in the destination, with their keys and without rows; dirty pages written."""
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        for table in content.tables:
            connection.execute(NARROW.format(name=f"IF NOT EXISTS {table}").encode())
            connection.execute(f"TRUNCATE {table}".encode())
        connection.execute("CHECKPOINT")


def _filled(server: EmbeddedServer, name: str, setup: tuple[str, ...], tables: tuple[str, ...], body: str) -> Content:
    """Tables, publication and slot, then ``body`` run by the server; ``{count}`` in it counts a statement's rows."""
    dsn = server.dsn(DATABASE)
    slot, publication = f"{name}_slot", f"{name}_publication"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in setup:
            connection.execute(statement.encode())
        connection.execute(f"CREATE PUBLICATION {publication} FOR TABLE {', '.join(tables)}".encode())
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        connection.execute("SET synchronous_commit = off")
        for plan in ("hashjoin", "mergejoin", "seqscan"):  # tables without statistics; updates go by the key
            connection.execute(f"SET enable_{plan} = off".encode())
        counted = body.replace("COUNT;", "GET DIAGNOSTICS n = ROW_COUNT; changes := changes + n;")
        connection.execute(
            f"CREATE PROCEDURE fill_{name}(INOUT changes int8) LANGUAGE plpgsql AS"
            f" $$ DECLARE n int8; BEGIN {counted} END $$".encode()
        )
        [rows] = connection.execute(f"CALL fill_{name}(0)".encode()).fetchone() or [0]
        [target] = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or [""]
        # The last transaction, too, must have reached the disk before anybody can read it.
        connection.execute("SET synchronous_commit = on")
        connection.execute("SELECT pg_logical_emit_message(true, 'filled', '')")
    return Content(dsn, slot, publication, tables, rows, Lsn.parse(target))
