"""The PostgreSQL store through PgBouncer in transaction mode: every transaction may run in another session.

The pool has two sessions for all stores of a database, so a setting, a lock or a prepared statement that outlives its
transaction would meet somebody else's. Skipped where no ``pgbouncer`` is on the path.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from wallaby.postgres.embedded import EmbeddedServer, free_port
from wallaby.store import Store
from wallaby.store.migrate import migrate, migrations
from wallaby.store.opening import open_postgres
from wallaby.store.postgres import PostgresEdge
from wallaby.testing.access_contract import RequestContract
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.store_contract import CheckpointContract, ConcurrencyContract

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SESSIONS = 2
_ACCOUNT = "nobody"
"""PgBouncer refuses to run as root."""

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer on the path; Debian's package has it")


@pytest.fixture(scope="module")
def pooler(postgres_server: EmbeddedServer) -> Iterator[int]:
    """The port of a PgBouncer before the server."""
    assert PROGRAM is not None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="wallaby-pgbouncer-") as directory:
        settings = Path(directory) / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres_server.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmax_client_conn = 200\n"
        )
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            os.chown(directory, account.pw_uid, account.pw_gid)
            settings.chmod(0o644)
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        process = subprocess.Popen([PROGRAM, str(settings)], stderr=subprocess.PIPE, text=True, **identity)
        try:
            assert process.stderr is not None
            said = ""
            while "process up" not in said:
                line = process.stderr.readline()
                assert line, f"pgbouncer ended: {said}"
                said += line
            yield port
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture
def pooled(pooler: int, database: ScratchDatabase) -> str:
    """The DSN of a scratch database through the pooler."""
    return psycopg.conninfo.make_conninfo(database.dsn, host="127.0.0.1", port=pooler)


class TestPooledStore(CheckpointContract, ConcurrencyContract, RequestContract):
    @pytest.fixture
    def opened(self, pooled: str) -> Callable[[], Store]:
        return lambda: open_postgres(pooled)


def test_many_first_starts_through_the_pool_migrate_once(pooled: str) -> None:
    edges = [PostgresEdge(pooled) for _ in range(6)]
    with ThreadPoolExecutor(len(edges)) as threads:
        applied = list(threads.map(migrate, edges))
    assert sorted(applied) == [0] * 5 + [len(migrations("postgres"))]
    for edge in edges:
        edge.close()


def test_more_stores_than_sessions_share_the_pool(pooled: str, database: ScratchDatabase) -> None:
    stores = [open_postgres(pooled) for _ in range(4 * SESSIONS)]
    with ThreadPoolExecutor(len(stores)) as threads:
        epochs = list(threads.map(lambda store: store.begin_epoch("shop").epoch, stores * 5))
    assert sorted(epochs) == list(range(1, len(epochs) + 1))
    [(sessions,)] = database.fetch(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'wallaby control store'"
    )
    assert 1 <= sessions <= SESSIONS
    for store in stores:
        store.close()
