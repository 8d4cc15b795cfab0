"""What keeps a lake's data or its catalog from being written is found before the start; looking makes nothing."""

from __future__ import annotations

import os
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import duckdb
import pytest
from psycopg.conninfo import make_conninfo

from sinks.ducklake import FACTORY
from sinks.ducklake.bucket import _refused
from sinks.ducklake.config import CatalogKind
from tests.s3 import KEYS, s3_client
from tests.sinks.ducklake.conftest import LANE, lake_options, new_sink, reading
from tests.sinks.lane import TestLane
from wallaby.errors import Transient
from wallaby.lsn import START
from wallaby.sink import Finding, Severity
from wallaby.testing.changes import insert, table
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.postgres import ScratchDatabase

ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])


@pytest.fixture
def client(s3_endpoint: str) -> Iterator[Any]:
    with s3_client(s3_endpoint) as made:
        yield made


@pytest.fixture
def remote(tmp_path: Path, s3_endpoint: str) -> dict[str, Any]:
    """Options of a lake with its data in a bucket that is not there yet."""
    return {
        **lake_options(tmp_path, CatalogKind.DUCKDB),
        "data_path": f"s3://lake-{uuid.uuid4().hex}/some/lake",
        "endpoint": s3_endpoint,
        "force_path_style": True,
        **KEYS,
    }


def bucket_of(options: dict[str, Any]) -> str:
    return str(options["data_path"]).removeprefix("s3://").split("/")[0]


def findings(options: dict[str, Any]) -> list[Finding]:
    """Of a check by a sink of its own, without a secret in them."""
    with closing(FACTORY.create(options, destination="copy")) as sink:
        found = sink.check((ORDERS,))
    assert "hunter2" not in str(found)
    assert all(one.advice for one in found)
    return found


def codes(options: dict[str, Any]) -> list[tuple[str, Severity]]:
    return [(one.code, one.severity) for one in findings(options)]


def test_a_bucket_that_is_there_is_no_finding_and_looking_writes_nothing(
    remote: dict[str, Any], client: Any, tmp_path: Path
) -> None:
    client.create_bucket(Bucket=bucket_of(remote))
    assert findings(remote) == []
    assert client.list_objects_v2(Bucket=bucket_of(remote))["KeyCount"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_is_found(remote: dict[str, Any]) -> None:
    assert codes(remote) == [("missing-bucket", Severity.ERROR)]
    [finding] = findings(remote)
    assert finding.subject == f"s3://{bucket_of(remote)}"


def test_wrong_keys_are_found_and_not_shown(remote: dict[str, Any], client: Any, s3_endpoint: str) -> None:
    def reset_auth(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{s3_endpoint}/moto-api/reset-auth", data=requests.encode(), headers=headers)) as answer:
            assert answer.status == 200

    client.create_bucket(Bucket=bucket_of(remote))
    reset_auth("0")
    try:
        assert codes({**remote, "access_key": "nobody", "secret_key": "hunter2"}) == [("access-denied", Severity.ERROR)]
    finally:
        reset_auth("inf")


def test_keys_that_may_not_list_are_no_reason_to_stop() -> None:
    denied = duckdb.HTTPException("hunter2")
    denied.status_code = 403
    denied.body = "<Error><Code>AccessDenied</Code></Error>"
    finding = _refused("s3://lake", denied)
    assert (finding.code, finding.severity) == ("access-denied", Severity.WARNING)
    assert "hunter2" not in str(finding)


def test_a_store_that_does_not_answer_is_found(remote: dict[str, Any]) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    assert codes({**remote, "endpoint": f"http://127.0.0.1:{port}"}) == [("destination-unreachable", Severity.ERROR)]


def test_writing_into_a_bucket_that_is_missing_says_so_and_goes_on_when_it_is_there(
    remote: dict[str, Any], client: Any
) -> None:
    [window] = windows_of([(ORDERS, insert(1, "a"))])
    sink = new_sink(remote)
    with pytest.raises(Transient, match="the bucket does not exist") as refused:
        TestLane(sink, LANE).apply(window)
    assert refused.value.advice
    sink.close()
    client.create_bucket(Bucket=bucket_of(remote))
    again = TestLane(new_sink(remote), LANE, 2)
    assert again.position == START
    again.apply(window)
    again.sink.close()
    with reading(remote) as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchall() == [(1,)]


def test_folders_that_cannot_hold_the_data_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere: what the system says of one folder is replaced."""
    options = lake_options(tmp_path, CatalogKind.SQLITE)
    (tmp_path / "file").touch()
    (tmp_path / "sealed").mkdir()
    assert codes({**options, "data_path": str(tmp_path / "file")}) == [("not-a-folder", Severity.ERROR)]
    assert codes({**options, "data_path": str(tmp_path / "no" / "data")}) == [("missing-folder", Severity.ERROR)]
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "sealed")
    assert codes({**options, "data_path": str(tmp_path / "sealed" / "data")}) == [("read-only", Severity.ERROR)]


@pytest.mark.parametrize("kind", [CatalogKind.SQLITE, CatalogKind.DUCKDB])
def test_looking_at_a_file_with_other_things_puts_no_lake_into_it(kind: CatalogKind, tmp_path: Path) -> None:
    options = lake_options(tmp_path, kind)
    path = Path(str(options["catalog"]).removeprefix("sqlite:"))
    with closing(sqlite3.connect(path) if kind is CatalogKind.SQLITE else duckdb.connect(str(path))) as made:
        made.execute("CREATE TABLE mine (id INTEGER)")
    before = path.read_bytes()
    sink = new_sink(options)
    sink.open()
    assert sink.check((ORDERS,)) == []
    sink.close()
    assert [code for code, _ in codes({name: value for name, value in options.items() if name != "data_path"})] == [
        "missing-data-path"
    ]
    assert path.read_bytes() == before


@pytest.mark.parametrize("sealed", ["lake.sqlite", ""], ids=["file", "folder"])
def test_a_catalog_file_that_cannot_be_written_is_found(
    sealed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above."""
    options = lake_options(tmp_path, CatalogKind.SQLITE)
    sink = new_sink(options)
    sink.recover(LANE, 1)
    sink.close()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / sealed)
    assert ("read-only", Severity.ERROR) in codes(options)


def test_a_catalog_database_that_can_only_be_read_is_found(tmp_path: Path, target_database: ScratchDatabase) -> None:
    """A role that may make no lake, one that may not write one, and a database that is read only, as a standby is."""
    role = f"reader_{uuid.uuid4().hex[:12]}"
    target_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
    dsn = make_conninfo(target_database.dsn, user=role, password="hunter2")
    theirs = {**lake_options(tmp_path, CatalogKind.POSTGRES, target_database), "catalog": f"postgres:{dsn}"}
    try:
        target_database.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        assert [(one.code, one.message) for one in findings(theirs)] == [("read-only", "nothing can be made in it")]
        owner = new_sink(lake_options(tmp_path, CatalogKind.POSTGRES, target_database))
        owner.recover(LANE, 1)
        owner.close()
        target_database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        [finding] = findings(theirs)
        assert (finding.code, finding.message) == ("read-only", "the role may read it and not write it")
        target_database.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        assert codes(theirs) == [("destination-read-only", Severity.ERROR)]
    finally:
        target_database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
