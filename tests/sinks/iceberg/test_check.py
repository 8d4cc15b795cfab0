"""What keeps a warehouse or its catalog from being used is found before anything is written, and said with advice."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
from botocore.exceptions import EndpointConnectionError
from psycopg.conninfo import conninfo_to_dict
from pyiceberg.exceptions import ForbiddenError

from sinks.iceberg import FACTORY
from sinks.iceberg.errors import Doing, translate
from sinks.iceberg.sink import IcebergSink
from sinks.iceberg.warehouse import _denied
from tests.s3 import KEYS, new_bucket, s3_server
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from wallaby.errors import OutcomeUnknown, Refused, Transient
from wallaby.sink import Finding, Severity
from wallaby.testing.changes import table
from wallaby.testing.postgres import ScratchDatabase

ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
MakeSink = Callable[..., IcebergSink]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> str:
    return new_bucket(s3)


@pytest.fixture
def strict(s3: str, bucket: str) -> Iterator[str]:
    """The server, which from now on knows no key at all."""
    _reset_auth(s3, "0")
    yield s3
    _reset_auth(s3, "inf")


def _reset_auth(s3: str, requests: str) -> None:
    headers = {"Content-Type": "text/plain"}
    with urlopen(Request(f"{s3}/moto-api/reset-auth", data=requests.encode(), headers=headers)) as answer:
        assert answer.status == 200


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def only(findings: list[Finding]) -> Finding:
    """The single finding, which has advice and shows no secret."""
    [finding] = findings
    assert finding.advice
    assert "hunter2" not in str(finding)
    return finding


def test_a_bucket_that_is_there_is_no_finding(make_sink: MakeSink, bucket: str, s3: str) -> None:
    assert make_sink(warehouse=f"s3://{bucket}/some/lake", endpoint=s3, **KEYS).check((ORDERS,)) == []


def test_a_missing_bucket_is_found(make_sink: MakeSink, s3: str) -> None:
    finding = only(make_sink(warehouse="s3://absent-bucket/lake", endpoint=s3, **KEYS).check((ORDERS,)))
    assert (finding.code, finding.subject, finding.severity) == ("missing-bucket", "s3://absent-bucket", Severity.ERROR)


def test_wrong_keys_are_found(make_sink: MakeSink, bucket: str, strict: str) -> None:
    wrong = {**KEYS, "access_key": "nobody", "secret_key": "hunter2"}
    finding = only(make_sink(warehouse=f"s3://{bucket}/lake", endpoint=strict, **wrong).check((ORDERS,)))
    assert (finding.code, finding.severity) == ("access-denied", Severity.ERROR)


def test_a_bucket_that_only_the_first_write_can_find_missing_is_said(lake: Lake, s3: str, make_sink: MakeSink) -> None:
    """A REST catalog says itself where tables are, so nobody looks beforehand: here its check is left out."""
    place = {"warehouse": f"s3://absent-{uuid.uuid4().hex}/lake", "endpoint": s3, **KEYS}
    with pytest.raises(Transient, match="the bucket does not exist") as refused:
        make_sink(**place).ensure_table(ORDERS)
    assert refused.value.advice
    assert not lake.catalog.table_exists(("public", "orders"))


def test_keys_that_only_the_first_write_can_find_wrong_are_said(
    lake: Lake, bucket: str, strict: str, make_sink: MakeSink
) -> None:
    place = {"warehouse": f"s3://{bucket}/lake", "endpoint": strict, **KEYS, "secret_key": "hunter2"}
    with pytest.raises(Transient, match="the store refuses access") as refused:
        make_sink(**place).ensure_table(ORDERS)
    assert refused.value.advice
    assert "hunter2" not in str(refused.value)
    assert not lake.catalog.table_exists(("public", "orders"))


def test_keys_that_may_not_list_are_no_reason_to_stop() -> None:
    finding = _denied("s3://lake", "When listing objects: AWS Error ACCESS_DENIED during ListObjectsV2 operation")
    assert (finding.severity, finding.code) == (Severity.WARNING, "access-denied")


def test_a_store_that_does_not_answer_is_found(make_sink: MakeSink, unused_port: int) -> None:
    sink = make_sink(warehouse="s3://lake/lake", endpoint=f"http://127.0.0.1:{unused_port}", **KEYS)
    assert only(sink.check((ORDERS,))).code == "destination-unreachable"


def test_a_file_where_the_warehouse_should_be_is_found(make_sink: MakeSink, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert only(make_sink(warehouse=f"file://{tmp_path}/file/lake").check((ORDERS,))).code == "not-a-directory"


def test_a_warehouse_that_cannot_be_written_is_found(
    make_sink: MakeSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere: what the system says of one folder is replaced."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    assert only(make_sink(warehouse=f"file://{folder}/lake").check((ORDERS,))).code == "read-only"


def test_looking_at_a_warehouse_makes_nothing_of_it(make_sink: MakeSink, lake: Lake) -> None:
    assert make_sink().check((ORDERS,)) == []
    assert not (lake.folder / "warehouse").exists()


def test_a_warehouse_named_by_a_path_is_found_again_from_everywhere(
    make_sink: MakeSink, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lake.folder)
    sink = make_sink(warehouse="here/my lake%41")
    assert sink.check((ORDERS,)) == []
    sink.ensure_table(ORDERS)
    monkeypatch.undo()
    made = lake.catalog.load_table(("public", "orders"))
    assert made.location() == f"file://{lake.folder}/here/my lake%41/public/orders"
    assert made.scan().to_arrow().num_rows == 0


@pytest.mark.parametrize(
    "options",
    [
        {"catalog_type": "rest", "catalog_uri": "http://127.0.0.1:{port}"},
        {"catalog_uri": "postgresql://wallaby:hunter2@127.0.0.1:{port}/catalog"},
    ],
    ids=["rest", "postgres"],
)
def test_a_catalog_that_does_not_answer_is_found(lake: Lake, options: dict[str, str], unused_port: int) -> None:
    placed = {name: value.replace("{port}", str(unused_port)) for name, value in options.items()}
    sink = FACTORY.create(lake.options(**placed), destination="copy")
    finding = only(sink.check((ORDERS,)))
    sink.close()
    assert finding.code == "destination-unreachable"
    assert "answer" in finding.message


def test_glue_that_does_not_answer_is_told_from_other_failures() -> None:
    """By its error alone: boto tries for minutes."""
    error = translate(EndpointConnectionError(endpoint_url="https://hunter2"), Doing.READ)
    assert isinstance(error, Transient)
    assert "AWS does not answer" in error.message
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_catalog_file_that_cannot_be_written_is_found(
    place: str, make_sink: MakeSink, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere: what the system says of the file, or of its folder, is replaced."""
    sealed = {"file": lake.folder / "catalog.db", "folder": lake.folder}[place]
    assert make_sink().check() == []
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != sealed)
    [finding, *_] = make_sink().check()
    assert (finding.code, finding.severity, finding.subject) == ("read-only", Severity.ERROR, "catalog")
    assert finding.advice


def test_a_catalog_database_that_can_only_be_read_is_found_and_written_to_by_nobody(
    lake: Lake, target_database: ScratchDatabase
) -> None:
    """A role without privileges, then a database that is read only, as a standby is."""
    said = conninfo_to_dict(target_database.dsn)

    def sink(user: str, password: str = "") -> IcebergSink:
        login = f"{user}:{quote(password)}" if password else user
        uri = f"postgresql://{login}@/{said['dbname']}?host={said['host']}&port={said['port']}"
        made = FACTORY.create({"catalog_uri": uri, "warehouse": lake.warehouse}, destination="copy")
        assert isinstance(made, IcebergSink)
        return made

    owner = sink(str(said["user"]), str(said.get("password") or ""))
    assert owner.check((ORDERS,)) == []
    owner.ensure_table(ORDERS)
    owner.close()
    role = f"reader_{uuid.uuid4().hex[:12]}"
    target_database.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    try:
        reader = sink(role, "hunter2")
        finding = only(reader.check((ORDERS,)))
        assert (finding.code, finding.message) == ("read-only", "the role may read the catalog and not write it")
        with pytest.raises(Transient, match="read and not written") as caught:
            reader.ensure_table(table("public.more", {"id": "int8"}, key=["id"]))
        assert "hunter2" not in str(caught.value)
        reader.close()
        target_database.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        standby = sink(role, "hunter2")
        assert only(standby.check((ORDERS,))).code == "destination-read-only"
        with pytest.raises(Transient, match="read and not written"):
            standby.recover(LANE, 1)
        standby.close()
    finally:
        target_database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_catalog_that_forbids_is_told_from_one_that_does_not_answer() -> None:
    for doing in (Doing.READ, Doing.WRITE, Doing.COMMIT):
        error = translate(ForbiddenError("hunter2"), doing, table="orders")
        assert isinstance(error, Refused)
        assert "let us in" in error.message
        assert error.advice
        assert "hunter2" not in str(error)


def test_a_full_disk_at_a_commit_may_have_happened_and_before_it_did_not() -> None:
    full = OSError(28, "No space left on device: hunter2")
    assert isinstance(translate(full, Doing.COMMIT), OutcomeUnknown)
    assert isinstance(translate(full, Doing.ROWS), Transient)
    assert "hunter2" not in str(translate(full, Doing.COMMIT))


def test_a_target_of_another_table_is_found_and_left_alone(make_sink: MakeSink, lake: Lake) -> None:
    make_sink().ensure_table(ORDERS)
    other = table("sales.orders", {"id": "int8", "note": "text"}, key=["id"])
    sink = make_sink(schema="public")
    assert only(sink.check((other,))).code == "name-collision"
    before = lake.catalog.load_table(("public", "orders")).metadata_location
    with pytest.raises(Refused, match="name-collision"):
        sink.ensure_table(other)
    assert lake.catalog.load_table(("public", "orders")).metadata_location == before


def test_a_table_of_another_format_version_is_found_and_left_as_it_was(make_sink: MakeSink, lake: Lake) -> None:
    lake.catalog.create_namespace("public")
    shape = pa.schema([("id", pa.int64()), ("note", pa.string())])
    theirs = lake.catalog.create_table(("public", "orders"), shape, properties={"format-version": "1"})
    sink = make_sink()
    finding = only(sink.check((ORDERS,)))
    assert finding.code == "table-shape"
    assert "format version 1" in finding.message
    with pytest.raises(Refused, match="format version 1"):
        sink.ensure_table(ORDERS)
    assert lake.catalog.load_table(("public", "orders")).metadata_location == theirs.metadata_location


def test_a_table_of_another_shape_is_found_and_left_as_it_was(make_sink: MakeSink, lake: Lake) -> None:
    theirs = lake.make(("public", "orders"), pa.schema([("id", pa.int64()), ("note", pa.list_(pa.bool_()))]))
    sink = make_sink()
    assert only(sink.check((ORDERS,))).code == "table-shape"
    with pytest.raises(Refused, match="note"):
        sink.ensure_table(ORDERS)
    assert lake.catalog.load_table(("public", "orders")).metadata_location == theirs.metadata_location
