"""The contract's crashes, races and commits against an S3 server, where conditional puts decide."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.request import Request, urlopen

import boto3
import pyarrow as pa
import pytest

from sinks.delta import FACTORY
from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_log, read_mirror
from tests.sinks.delta.conftest import KEYS
from wallaby.errors import Transient
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.contract.commits import CrashContract, RaceContract
from wallaby.testing.contract.hooks import LANE, ORDERS, story


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    name = f"lake-{uuid.uuid4().hex}"
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
        region_name=KEYS["region"],
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


class TestDeltaOnS3(CrashContract, RaceContract):
    # Many commits, each a dozen requests: left to the local form.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]  # it is not run here

    @pytest.fixture(autouse=True)
    def lake(self, bucket: str, s3_endpoint: str) -> Iterator[None]:
        self.place = {"path": f"s3://{bucket}/some/lake", "endpoint": s3_endpoint, "force_path_style": True, **KEYS}
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {**self.place, "write_mode": mode.value, "checkpoint_every": 2}
        self.sinks.append(FACTORY.create(options, destination="target"))
        return self.sinks[-1]

    def read_table(self, schema: TableSchema) -> pa.Table:
        return read_mirror(DeltaOptions.parse(self.place), schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(DeltaOptions.parse({**self.place, "write_mode": "append"}), schema)

    def test_a_history_arrives_whole(self, mode: WriteMode) -> None:
        history = story(5)
        process = self.start(mode, [ORDERS])
        process.replay(history.windows(), lambda: True)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))


def test_a_missing_bucket_is_found_and_said(s3_endpoint: str) -> None:
    options = {"path": f"s3://absent-{uuid.uuid4().hex}/lake", "endpoint": s3_endpoint, **KEYS}
    sink = FACTORY.create(options, destination="target")
    with pytest.raises(Transient, match="bucket does not exist") as caught:
        sink.recover(LANE, 1)
    assert caught.value.advice
    assert KEYS["secret_key"] not in repr(sink)
    [finding] = sink.check((ORDERS,))
    assert (finding.message, bool(finding.advice)) == ("the bucket does not exist", True)


def test_wrong_keys_are_found_and_not_shown(bucket: str, s3_endpoint: str) -> None:
    def reset_auth(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = Request(f"{s3_endpoint}/moto-api/reset-auth", data=requests.encode(), headers=headers)
        with urlopen(request) as answer:
            assert answer.status == 200

    wrong = {**KEYS, "access_key": "nobody", "secret_key": "hunter2"}
    options = {"path": f"s3://{bucket}/lake", "endpoint": s3_endpoint, "force_path_style": True, **wrong}
    sink = FACTORY.create(options, destination="target")
    reset_auth("0")
    try:
        [finding] = sink.check((ORDERS,))
    finally:
        reset_auth("inf")
    assert (finding.message, bool(finding.advice)) == ("the store refuses access", True)
    assert "hunter2" not in str(finding)


def test_a_store_that_does_not_answer_is_found(unused_port: int) -> None:
    options = {"path": "s3://bucket/lake", "endpoint": f"http://127.0.0.1:{unused_port}", **KEYS}
    [finding] = FACTORY.create(options, destination="target").check((ORDERS,))
    assert finding.code == "destination-unreachable"
    assert finding.advice


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
