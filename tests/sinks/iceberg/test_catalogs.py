"""Catalogs other than SQLite and storage other than a directory: the same rows, the same fences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from psycopg.conninfo import conninfo_to_dict
from pyiceberg.catalog import Catalog, load_catalog

from sinks.iceberg import FACTORY
from sinks.iceberg.catalogs import catalog_properties
from sinks.iceberg.config import read_options
from sinks.iceberg.reader import mirror_rows
from tests.s3 import KEYS, new_bucket, s3_server
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.iceberg.rest_server import rest_catalog
from tests.sinks.lane import TestLane
from wallaby.content import canonical_hash
from wallaby.errors import Superseded
from wallaby.schema import TableSchema
from wallaby.sink import Sink
from wallaby.testing.changes import insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import RandomHistory
from wallaby.testing.postgres import ScratchDatabase

OTHER = table("public.other", {"id": "int8", "note": "text"}, key=["id"])


class Place:
    """One way to hold tables: a destination's options, and a user's catalog on the same tables."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self._open: list[Catalog | Sink] = []

    def sink(self, **more: Any) -> Sink:
        sink = FACTORY.create(self.options | more, destination="copy")
        self._open.append(sink)
        return sink

    def rows(self, schema: TableSchema) -> pa.Table:
        read = read_options(self.options)
        catalog = load_catalog(read.catalog_name, **catalog_properties(read))
        self._open.append(catalog)
        return mirror_rows(catalog.load_table((schema.name.schema, schema.name.name)), schema)

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> str:
    """A bucket on a server that holds nothing else."""
    with urlopen(Request(f"{s3}/moto-api/reset", method="POST")) as answer:
        assert answer.status == 200
    return f"s3://{new_bucket(s3, 'lake')}"


def _postgres(lake: Lake, request: pytest.FixtureRequest, _: ExitStack) -> dict[str, Any]:
    database: ScratchDatabase = request.getfixturevalue("target_database")
    said = conninfo_to_dict(database.dsn)
    password = f":{quote(str(said['password']))}" if said.get("password") else ""
    uri = f"postgresql://{said['user']}{password}@/{said['dbname']}?host={said['host']}&port={said['port']}"
    return {"catalog_uri": uri, "warehouse": lake.warehouse}


def _rest(lake: Lake, _: pytest.FixtureRequest, stack: ExitStack) -> dict[str, Any]:
    return {"catalog_type": "rest", "catalog_uri": stack.enter_context(rest_catalog(lake.catalog))}


def _s3(lake: Lake, request: pytest.FixtureRequest, _: ExitStack) -> dict[str, Any]:
    bucket, endpoint = request.getfixturevalue("bucket"), request.getfixturevalue("s3")
    return {"catalog_uri": lake.uri, "warehouse": f"{bucket}/lake", "endpoint": endpoint, **KEYS}


def _glue(_: Lake, request: pytest.FixtureRequest, __: ExitStack) -> dict[str, Any]:
    bucket, endpoint = request.getfixturevalue("bucket"), request.getfixturevalue("s3")
    return {
        "catalog_type": "glue",
        "warehouse": f"{bucket}/lake",
        "endpoint": endpoint,
        "catalog_properties": {"glue.endpoint": endpoint},
        **KEYS,
    }


@pytest.fixture(params=[_postgres, _rest, _s3, _glue], ids=["postgres", "rest", "s3", "glue"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    make: Callable[[Lake, pytest.FixtureRequest, ExitStack], dict[str, Any]] = request.param
    lake = Lake(tmp_path)
    with ExitStack() as stack:
        place = Place(make(lake, request, stack))
        yield place
        place.close()
    lake.close()


@pytest.mark.long
@pytest.mark.must_not_fail(25)
def test_a_history_ends_at_the_content_of_the_source(place: Place) -> None:
    history = RandomHistory(5, transactions=8)
    lane = TestLane(place.sink(), LANE)
    lane.apply_all(history.windows(), commit_every=3)
    for schema in history.tables:
        expected = history.expected(schema).select(range(len(schema.columns)))
        assert canonical_hash(place.rows(schema)) == canonical_hash(expected), schema.name


@pytest.mark.must_not_fail(20)
def test_of_two_writers_the_older_stops_and_nothing_is_lost_or_doubled(place: Place) -> None:
    first, second, third = windows_of(
        [(OTHER, insert(1, "a"))], [(OTHER, insert(2, "b"))], [(OTHER, update(1, "c")), (OTHER, insert(3, "d"))]
    )
    zombie = TestLane(place.sink(), LANE, epoch=1)
    zombie.apply(first)
    zombie.write(second)
    owner = TestLane(place.sink(), LANE, epoch=2)
    assert owner.position == first.upto
    owner.apply(second)
    with pytest.raises(Superseded):
        zombie.writer.commit(zombie.token(second.upto))
    owner.apply(third)
    assert sorted(place.rows(OTHER).to_pydict()["note"]) == ["b", "c", "d"]


def _is_signed(request: AWSRequest, secret_key: str) -> bool:
    """Whether a request has the signature AWS would compute for service s3tables, by botocore and the known secret."""
    given = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIAWALLABY/\d{8}/eu-central-1/s3tables/aws4_request, "
        r"SignedHeaders=(?P<names>[^,]+), Signature=(?P<signature>[0-9a-f]{64})",
        request.headers.get("Authorization", ""),
    )
    if given is None:
        return False
    names = set(given["names"].split(";"))
    signed = AWSRequest(
        method=request.method,
        url=request.url,
        data=request.body,
        headers={name: value for name, value in request.headers.items() if name.lower() in names},
    )
    signed.context["timestamp"] = request.headers["X-Amz-Date"]
    auth = SigV4Auth(Credentials("AKIAWALLABY", secret_key), "s3tables", "eu-central-1")
    wanted: str = auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed)
    return wanted == given["signature"]


@pytest.mark.must_not_fail(24)
def test_calls_to_a_catalog_that_wants_aws_signatures_are_signed_by_the_keys_of_the_flow(tmp_path: Path) -> None:
    """As S3 Tables wants them; a stand-in for it, which checks each signature: there is none to be had offline."""
    signed = {"rest.sigv4-enabled": "true", "rest.signing-name": "s3tables", "rest.signing-region": "eu-central-1"}
    keys = {"region": "eu-central-1", "access_key": "AKIAWALLABY", "secret_key": "hunter2"}
    lake = Lake(tmp_path)
    with rest_catalog(lake.catalog, admits=lambda request: _is_signed(request, "hunter2")) as address:
        options = {"catalog_type": "rest", "catalog_uri": address, "catalog_properties": signed, **keys}
        place = Place(options)
        lane = TestLane(place.sink(), LANE)
        lane.apply_all(windows_of([(OTHER, insert(1, "a"))], [(OTHER, update(1, "b"))]))
        assert place.rows(OTHER).to_pydict()["note"] == ["b"]
        wrong = place.sink(secret_key="wrong")
        [finding] = wrong.check()
        assert "let us in" in finding.message
        assert "wrong" not in str(finding)
        place.close()
    lake.close()
