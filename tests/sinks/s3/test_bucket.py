"""Who wins a key, what is left behind, and what is said about a bucket that cannot be written."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from sinks.files.layout import OWN_FOLDER
from sinks.files.manifests import EMPTY, Kind, ManifestLog, next_entry
from sinks.files.reader import Place, committed_files, read_log
from sinks.s3 import FACTORY, bucket
from sinks.s3.bucket import Bucket
from sinks.s3.config import read_options
from tests.s3 import KEYS
from tests.sinks.lane import TestLane
from wallaby.errors import ConfigError, OutcomeUnknown, Refused, Superseded, Transient
from wallaby.lsn import Lsn, Position
from wallaby.sink import Sink
from wallaby.testing.changes import Stream, insert, table
from wallaby.window import LaneId, Window

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
Make = Callable[..., Sink]


@pytest.fixture
def make_sink(place: dict[str, Any]) -> Iterator[Make]:
    with ExitStack() as made:

        def make(**options: Any) -> Sink:
            return made.enter_context(closing(FACTORY.create({**place, **options}, destination="copy")))

        yield make


def windows(count: int = 1) -> list[Window]:
    stream = Stream()
    for number in range(count):
        stream.transaction([(ORDERS, insert(number, f"note {number}"))])
    return stream.windows()


@pytest.mark.must_not_fail(20)
def test_of_racing_writers_exactly_one_gets_an_entry(place: dict[str, Any]) -> None:
    start = threading.Barrier(6)
    won: list[int] = []

    def race(epoch: int) -> None:
        with closing(Bucket(read_options(place))) as own:
            log = ManifestLog(own, LANE)
            start.wait()
            if log.append(next_entry(EMPTY, Kind.COMMIT, epoch=epoch, upto=Position(Lsn(epoch)))):
                won.append(epoch)

    racers = [threading.Thread(target=race, args=(epoch,)) for epoch in range(1, 7)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    with closing(Bucket(read_options(place))) as own:
        assert [ManifestLog(own, LANE).last().epoch] == won


@pytest.mark.must_not_fail(20)
def test_a_superseded_writer_takes_its_objects_back(
    make_sink: Make, reading: Callable[[], Place], keys: Callable[[], set[str]]
) -> None:
    [first] = windows()
    old = TestLane(make_sink(), LANE, 1)
    old.write(first)
    new = TestLane(make_sink(), LANE, 2)
    with pytest.raises(Superseded):
        old.writer.commit(old.token(first.upto, 1))
    assert not [key for key in keys() if not key.startswith(OWN_FOLDER)]
    new.apply(first)
    assert read_log(reading(), "public", "orders").num_rows == 1


def test_a_creation_whose_answer_was_lost_knows_its_own_object(
    place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Bucket(read_options(place))) as ours:
        put = ours._client.put_object

        def answered_by_the_second_attempt(**request: Any) -> Any:
            put(**request)
            return put(**request)

        monkeypatch.setattr(ours._client, "put_object", answered_by_the_second_attempt)
        assert ours.create("a", b"ours")
        monkeypatch.undo()
        assert not ours.create("a", b"ours")
        assert ours.read("a") == b"ours"


def test_an_object_that_no_manifest_came_to_name_is_removed_by_recovery(
    make_sink: Make, reading: Callable[[], Place], keys: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = windows(2)
    sink = make_sink()
    lane = TestLane(sink, LANE)
    lane.apply(first)
    lane.write(second)

    def lost(*_: object) -> bool:
        raise OutcomeUnknown("the store did not answer")

    monkeypatch.setattr(ManifestLog, "append", lost)
    with pytest.raises(OutcomeUnknown):
        lane.writer.commit(lane.token(second.upto, 1))
    monkeypatch.undo()
    assert len([key for key in keys() if key.endswith(".parquet")]) == 2
    storage: Any = sink
    assert list(storage._storage.scratch(LANE, 1).iterdir())
    assert sink.recover(LANE, 2) == first.upto
    assert not list(storage._storage.scratch(LANE, 2).iterdir())
    assert {key for key in keys() if key.endswith(".parquet")} == {file.path for file in committed_files(reading())}
    assert read_log(reading(), "public", "orders").num_rows == 1


def test_a_large_file_is_uploaded_in_parts_and_read_back(
    make_sink: Make, reading: Callable[[], Place], client: Any, place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "PART_BYTES", 5 << 20)
    stream = Stream()
    stream.transaction([(ORDERS, insert(number, uuid.uuid4().hex * 4000)) for number in range(100)])
    TestLane(make_sink(compression="none"), LANE).apply_all(stream.windows())
    [file] = committed_files(reading())
    head = client.head_object(Bucket=place["bucket"], Key=f"some/logs/{file.path}")
    assert head["ETag"].strip('"').endswith("-3")
    assert read_log(reading(), "public", "orders").num_rows == 100


@pytest.mark.must_not_fail(20)
def test_a_store_that_ignores_conditions_is_refused(make_sink: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "create", lambda *_: True)
    sink = make_sink()
    monkeypatch.setattr("sinks.files.sink._require_known_format", lambda _: None)
    with pytest.raises(Refused, match="there already"):
        sink.recover(LANE, 1)


def test_a_missing_bucket_is_found_and_said(place: dict[str, Any], make_sink: Make) -> None:
    sink = make_sink(bucket=f"absent-{uuid.uuid4().hex}")
    [finding] = sink.check((ORDERS,))
    assert (finding.message, bool(finding.advice)) == ("the bucket does not exist", True)
    with pytest.raises(Transient, match="does not exist"):
        sink.recover(LANE, 1)


def test_wrong_keys_are_found_and_not_shown(make_sink: Make, s3_endpoint: str) -> None:
    def reset_auth(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = Request(f"{s3_endpoint}/moto-api/reset-auth", data=requests.encode(), headers=headers)
        with urlopen(request) as answer:
            assert answer.status == 200

    sink = make_sink(access_key="nobody", secret_key="hunter2")
    reset_auth("0")
    try:
        [finding] = sink.check((ORDERS,))
    finally:
        reset_auth("inf")
    assert (finding.message, bool(finding.advice)) == ("the store refuses access", True)
    assert "hunter2" not in f"{finding}{sink!r}"


def refusing(code: str, status: int) -> Callable[..., None]:
    """A request that the store refuses."""
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError(answer, "PutObject")

    return refuse


def test_a_bucket_that_may_only_be_read_is_a_passing_error(make_sink: Make) -> None:
    sink: Any = make_sink()
    sink._storage._client.put_object = refusing("AccessDenied", 403)
    with pytest.raises(Transient, match="refuses access") as refused:
        sink.recover(LANE, 1)
    assert "writing" in refused.value.advice


def test_data_that_may_not_be_written_leaves_the_lane_where_it_was(
    make_sink: Make, reading: Callable[[], Place]
) -> None:
    [window] = windows()
    sink: Any = make_sink()
    lane = TestLane(sink, LANE)
    client = sink._storage._client
    upload, client.upload_fileobj = client.upload_fileobj, refusing("AccessDenied", 403)
    with pytest.raises(Transient, match="refuses access"):
        lane.apply(window)
    assert committed_files(reading()) == ()
    client.upload_fileobj = upload
    lane.apply(window)
    assert read_log(reading(), "public", "orders").num_rows == 1


@pytest.mark.must_not_fail(20)
def test_a_store_that_does_not_know_conditions_is_refused(make_sink: Make) -> None:
    sink: Any = make_sink()
    sink._storage._client.put_object = refusing("NotImplemented", 501)
    with pytest.raises(Refused, match="does not know"):
        sink.recover(LANE, 1)


def test_a_store_that_does_not_answer_is_found(make_sink: Make) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    [finding] = make_sink(endpoint=f"http://127.0.0.1:{port}").check((ORDERS,))
    assert finding.code == "destination-unreachable"
    assert finding.advice


@pytest.mark.parametrize("keys", [["mine.txt"], ["zebras/mine.txt"], ["_wallaby/a", "_wallaby/b", "zebra.txt"]])
def test_a_prefix_with_other_objects_is_not_ours(
    make_sink: Make, client: Any, place: dict[str, Any], keys: list[str]
) -> None:
    for key in keys:
        client.put_object(Bucket=place["bucket"], Key=f"some/logs/{key}", Body=b"x")
    assert [finding.code for finding in make_sink().check()] == ["foreign-files"]


def test_what_is_beside_the_prefix_is_of_no_concern(make_sink: Make, client: Any, place: dict[str, Any]) -> None:
    for key in ("mine.txt", "some/mine.txt", "some/logs-of-others/mine.txt"):
        client.put_object(Bucket=place["bucket"], Key=key, Body=b"x")
    assert make_sink().check() == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "bucket"),
        ({"bucket": "s3://b"}, "bucket"),
        ({"bucket": "b", "write_mode": "mirror"}, "write_mode"),
        ({"bucket": "b", "access_key": "a"}, "secret_key"),
        ({"bucket": "b", "session_token": "a"}, "session_token"),
        ({"bucket": "b", "endpoint": "http://127.0.0.1", "use_fips": True}, "use_fips"),
        ({"bucket": "b", "format": "json", "compression": "snappy"}, "compression"),
        ({"bucket": "b", "format": "xml"}, "format"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field


def test_keys_are_secrets() -> None:
    assert {"access_key", "secret_key", "session_token"} <= FACTORY.options_model.secret_fields
    assert KEYS["secret_key"] not in repr(Bucket(read_options({"bucket": "b", **KEYS})))
