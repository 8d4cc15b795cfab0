"""The PostgreSQL store passes the contract; lost connections are survived; nothing of the DSN is ever shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from wallaby.errors import CheckFailed, ConfigError, StoreUnavailable, WallabyError
from wallaby.settings import Settings
from wallaby.store import Store, open_store
from wallaby.store.opening import open_postgres
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.store_contract import StoreContract, a_flow


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def opened(self, database: ScratchDatabase) -> Callable[[], Store]:
        return lambda: open_postgres(database.dsn)


def test_a_connection_the_server_closed_is_opened_again(database: ScratchDatabase) -> None:
    store = open_postgres(database.dsn)
    store.create_flow(a_flow())
    _end_sessions(database)
    assert store.get_flow("shop").id == "shop"
    store.close()


def test_a_connection_lost_inside_a_transaction_leaves_nothing_behind(database: ScratchDatabase) -> None:
    store = open_postgres(database.dsn)
    edge = store._edge  # type: ignore[attr-defined]

    def lose_it() -> None:
        with edge.transaction() as transaction:
            transaction.execute("UPDATE wallaby.changes SET version = 99")
            _end_sessions(database)
            transaction.execute("SELECT 1")

    with pytest.raises(StoreUnavailable):
        lose_it()
    assert store.version() == 0
    store.close()


def test_it_works_without_prepared_statements_and_session_state(database: ScratchDatabase) -> None:
    """As behind a pooler in transaction mode: nothing is left in the session between transactions."""
    store = open_postgres(database.dsn)
    for _ in range(10):
        store.begin_epoch("shop")
    connection = store._edge._connection  # type: ignore[attr-defined]
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
    assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
    store.close()


def test_the_settings_choose_the_store_and_may_name_the_dsn_by_reference(
    database: ScratchDatabase, tmp_path: Path
) -> None:
    (tmp_path / "dsn").write_text(database.dsn + "\n")
    store = open_store(Settings.load({"WALLABY_POSTGRES_DSN": f"file:{tmp_path / 'dsn'}"}))
    store.create_flow(a_flow())
    store.close()
    assert database.fetch("SELECT id FROM wallaby.flows") == [("shop",)]


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://nobody:hunter2@127.0.0.1:1/none",
        "host=127.0.0.1 port=1 user=nobody password=hunter2 dbname=none",
        "postgresql://nobody:hunter2@127.0.0.1:notaport/none",
        "password=hunter2 nonsense",
    ],
)
def test_no_error_shows_anything_of_the_dsn(dsn: str) -> None:
    with pytest.raises(WallabyError) as refused:
        open_postgres(dsn)
    assert isinstance(refused.value, StoreUnavailable | ConfigError)
    shown = f"{refused.value}{refused.value!r}{refused.value.__cause__!r}"
    assert "hunter2" not in shown
    assert "nobody" not in shown


def test_a_role_without_privileges_is_told_what_it_needs(database: ScratchDatabase) -> None:
    role = f"plain_{database.name}"[:60]
    database.execute(f"CREATE ROLE {role} LOGIN", f"REVOKE CREATE ON DATABASE {database.name} FROM PUBLIC")
    try:
        with pytest.raises(CheckFailed, match="CREATE on the database"):
            open_postgres(psycopg.conninfo.make_conninfo(database.dsn, user=role))
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def _end_sessions(database: ScratchDatabase) -> None:
    database.fetch(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'wallaby control store'"
    )
