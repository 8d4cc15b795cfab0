"""Embedded servers: start, crash, recover, and never outlive the process that started them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest

from wallaby.postgres.embedded import EmbeddedServer, demo_binaries
from wallaby.testing.postgres import TEST_SETTINGS


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(demo_binaries(), settings=TEST_SETTINGS, password="only for tests") as started:
        yield started


def test_it_starts_stops_and_keeps_data_through_a_kill(server: EmbeddedServer) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        connection.execute("INSERT INTO kept VALUES (7)")
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
    port = server.port
    server.kill()
    assert not server.is_running
    server.start()
    assert server.port == port
    with psycopg.connect(server.dsn(unix_socket=True)) as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(7,)]
    server.restart({"work_mem": "8MB"})
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("8MB",)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn().replace("only%20for%20tests", "wrong"))


def test_it_dies_with_the_process_that_started_it() -> None:
    program = (
        "import sys\n"
        "from wallaby.postgres.embedded import EmbeddedServer, demo_binaries\n"
        "server = EmbeddedServer(demo_binaries()).start()\n"
        "print(server.pid, server.directory, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    words = parent.stdout.readline().split()
    assert len(words) == 2
    postmaster = os.pidfd_open(int(words[0]))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    try:
        deadline = time.monotonic() + 20
        poll = select.poll()
        poll.register(postmaster, select.POLLIN)
        assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), "the server outlived its parent"
    finally:
        os.close(postmaster)
        subprocess.run(["rm", "-rf", words[1]], check=True)
