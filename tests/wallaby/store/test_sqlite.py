"""The embedded store passes the contract; its file is private, and damage is told from absence."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from wallaby.errors import CheckFailed, StoreUnavailable
from wallaby.store import Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.store_contract import StoreContract, a_flow


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: open_sqlite(tmp_path / "state")


def test_the_file_is_made_with_its_directory_and_for_its_owner_only(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "a" / "b").close()
    assert stat.S_IMODE((tmp_path / "a" / "b" / "wallaby.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_commits_are_flushed_to_disk(tmp_path: Path) -> None:
    """WAL mode is a property of the file; the sync level is one of the store's own connection."""
    store = open_sqlite(tmp_path)
    connection = store._edge._open()  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wallaby.db").write_bytes(b"not a database, but something dear to somebody" * 50)
    with pytest.raises(CheckFailed, match="damaged or not a wallaby store"):
        open_sqlite(tmp_path)
    assert (tmp_path / "wallaby.db").read_bytes().startswith(b"not a database")


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="WALLABY_STATE_DIR"):
        open_sqlite(tmp_path / "file" / "state")


def test_a_store_held_by_a_long_writer_is_reported_not_awaited_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_sqlite(tmp_path)
    store._edge._open().execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
    writer = sqlite3.connect(tmp_path / "wallaby.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        store.create_flow(a_flow())
    writer.execute("ROLLBACK")
    writer.close()
    assert store.create_flow(a_flow()).id == "shop"
    store.close()


def test_whoever_looks_waits_for_no_writer(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path)
    record = store.create_flow(a_flow())
    store._edge._open().execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
    writer = sqlite3.connect(tmp_path / "wallaby.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM flows")
    assert store.get_flow("shop") == record
    assert store.list_flows().flows == (record,)
    writer.execute("ROLLBACK")
    writer.close()
    store.close()


def test_a_look_inside_a_transaction_sees_what_the_transaction_did(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path)
    edge = store._edge  # type: ignore[attr-defined]
    with edge.transaction():
        store.create_flow(a_flow())
        assert store.get_flow("shop").id == "shop"
    store.close()


def test_a_definition_is_read_from_its_text_once(tmp_path: Path) -> None:
    store, other = open_sqlite(tmp_path), open_sqlite(tmp_path)
    store.create_flow(a_flow())
    first = store.get_flow("shop").spec
    assert store.get_flow("shop").spec is first
    other.update_flow("shop", a_flow(name="Other"))
    assert store.get_flow("shop").spec == a_flow(name="Other")
    store.close()
    other.close()
